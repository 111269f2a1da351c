"""Made-up benchmark rows of one scene in every order, and models whose answers are known."""

from __future__ import annotations

from typing import Any

import numpy as np

Row = dict[str, Any]


def scene_rows(number: int, size: int, user: int, *, truth: int | None = None, **given: Any) -> list[Row]:
    """All shifts and the random order of a scene. Item j is taken 7 j times before; `truth` is an item's number."""
    truth = number % size if truth is None else truth
    orders = {f"shift {n}": np.roll(np.arange(size), n) for n in range(size)}
    orders["random"] = np.random.default_rng([number, 7]).permutation(size)
    return [
        {
            "scene_id": f"scene{number:05}",
            "variant_id": f"own-full-{name.replace(' ', '')}",
            "domain": "shop",
            "regime": "uniform",
            "user_cluster": f"user{user}",
            "variant": {"history": "own", "donor": None, "profile": "own", "text": "full", "order": name},
            "options": [{"item_key": f"{number}-{i:02}", "asof_count": int(i) * 7, "source": "made"} for i in items],
            "groups": {},
            "gap_seconds": None,
            "n_clicked": None,
            "prompt": [{"role": "user", "content": "?"}],
            "choices": [chr(65 + slot) for slot in range(size)],
            "gold_index": int(np.flatnonzero(items == truth)[0]),
            **given,
        }
        for name, items in orders.items()
    ]


def twin(row: Row, variant_id: str) -> Row:
    """The same row with somebody else's history."""
    return {**row, "variant_id": variant_id, "variant": {**row["variant"], "history": "swapped"}}


def tasteful(row: Row, p: float) -> list[float]:
    """P(truth) = p wherever it stands, the rest evenly."""
    size = len(row["options"])
    return [p if slot == row["gold_index"] else (1 - p) / (size - 1) for slot in range(size)]
