"""`mirror probe`: whether a model knows a public data set by heart, asked in the benchmark's own way.

"In the data set ml-1m, what is the title of the item with id 1193?" with five titles to choose from. Nothing about
users can answer that, so a model that has not seen the files is at chance; one that has seen them may know test
users as well, and what it gains on the benchmark is not all preference. Di Palma et al.
(https://arxiv.org/abs/2505.10212) ask models to write such rows out; choosing works for small models too, and has a
chance level and an interval.

Titles that the id itself gives away cannot be told from memory: ids are the publisher's, whatever they are. At chance
says only that these pairs are not known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from hf_mirror.bench.orders import orders
from hf_mirror.errors import DataError
from hf_mirror.evaluation import evaluate
from hf_mirror.files import read_json, read_rows, read_table, write_json, write_rows
from hf_mirror.identity import Draws, digest
from hf_mirror.prompts import LABELS, answer_line
from hf_mirror.rationales import domain_folders
from hf_mirror.schema import BENCH

REGIME, OPTIONS = "memorised", 5


def probe(
    model: str,
    revision: str | None,
    directory: Path,
    out: Path,
    *,
    items: int = 200,
    seed: int = 0,
    backend: str = "transformers",
    dtype: str = "float32",
) -> list[dict[str, Any]]:
    """Asks `model` for the titles of `items` ids of every domain of a run, drawn by the seed; the results are those of
    `evaluate`, of a subset `<domain>-memorised` in which every item is a user of its own.

    Raises DataError where no domain has as many items with different titles as a question has options.
    """
    with TemporaryDirectory(prefix="mirror-probe-") as name:
        asked = 0
        for folder in domain_folders(directory):
            if found := rows(folder, items, seed):
                write_rows(Path(name) / f"{folder.name}-{REGIME}.parquet", found, BENCH)
                asked += 1
        if not asked:
            raise DataError(f"{directory} holds no domain with {OPTIONS} titles; run `mirror build` first")
        results = evaluate(model, revision, name, None, out, seed=seed, backend=backend, dtype=dtype)
    results = [result | {"bench": "mirror probe"} for result in results]  # not the folder that is gone
    for result in results:
        write_json(out / f"{result['subset']}.json", result)
    return results


def rows(folder: Path, items: int, seed: int) -> list[dict[str, Any]]:
    """The questions about a domain folder's items (schema.BENCH), in all orders of their options; none where too few
    items have titles. Titles that several items share are left out."""
    described = read_rows(folder / "tables" / "items.parquet", ["item_id", "attributes"])
    titles = {row["item_id"]: str(title) for row in described if (title := (row["attributes"] or {}).get("title"))}
    shared = Counter(titles.values())
    titles = {item: title for item, title in sorted(titles.items()) if shared[title] == 1}
    if len(titles) < OPTIONS:
        return []
    release = read_json(folder / "report.json")["source"]["release"]
    met = Counter(read_table(folder / "tables" / "events.parquet", ["item_id"])["item_id"].to_pylist())
    draws = Draws(bytes.fromhex(digest("memorised", seed, folder.name)), "items")
    names = list(titles)
    chosen = [names[place] for place in draws.shuffled(range(len(names)))[:items]]
    found = []
    for item in chosen:
        key = digest("memorised", seed, folder.name, item)
        places = Draws(bytes.fromhex(key), "others").shuffled(range(len(names)))
        others = [name for place in places[:OPTIONS] if (name := names[place]) != item]
        drawn = [item, *others[: OPTIONS - 1]]
        options = [drawn[place] for place in Draws(bytes.fromhex(key), "place").shuffled(range(OPTIONS))]
        found += _question(folder.name, release, item, options, titles, met, key, seed)
    return found


def _question(
    domain: str, release: str, item: str, options: Sequence[str], titles: Mapping[str, str], met: Mapping[str, int],
    key: str, seed: int,
) -> list[dict[str, Any]]:  # fmt: skip
    variant = {"history": "own", "donor": None, "profile": "own", "text": "full"}
    ask = (
        f"In the data set {release}, what is the title of the item with id {item}? Answer with one line: "
        f"{answer_line(LABELS.index('X'))}, where X is the letter of your choice."
    )
    return [
        {
            "scene_id": key,
            "variant_id": f"own-full-{name.replace(' ', '')}",
            "domain": domain,
            "regime": REGIME,
            "user_cluster": key[:16],
            "variant": variant | {"order": name},
            "options": [
                {"item_key": digest("item", domain, options[slot])[:16], "asof_count": met[options[slot]],
                 "source": REGIME, "category": None, "asof_percentile": None}
                for slot in order
            ],
            "groups": {},
            "gap_seconds": None,
            "n_clicked": None,
            "prompt": [{"role": "user", "content": "\n".join(
                [ask, "", *(f"[{LABELS[place]}] {titles[options[slot]]}" for place, slot in enumerate(order))]
            )}],
            "choices": list(LABELS[: len(order)]),
            "gold_index": [options[slot] for slot in order].index(item),
        }
        for name, order in orders(key, len(options), seed).items()
    ]  # fmt: skip


def verdict(result: Mapping[str, Any]) -> str:
    """One line for people: at chance, or how far above it."""
    found, chance = result["scores"]["accuracy"], result["baselines"]["chance"]["accuracy"]["value"]
    low, high = (np.nan if found[end] is None else found[end] * 100 for end in ("low", "high"))
    above = low > chance * 100
    said = "knows titles by their ids" if above else "shows no sign of knowing titles by their ids"
    return (
        f"{result['domain']}: {said}: {found['value'] * 100:.1f} % right ({low:.1f} to {high:.1f}), chance is "
        f"{chance * 100:.0f} %"
    )
