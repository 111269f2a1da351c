"""Benchmark rows as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hf_mirror import metrics
from hf_mirror.errors import DataError

Row = dict[str, Any]
Intervals = dict[str, dict[str, float | None]]

SCORED_COLUMNS = ("scene_id", "variant_id", "domain", "regime", "user_cluster", "variant", "options", "gold_index")
HEADLINE = {"history": "own", "profile": "own", "text": "full"}


def is_headline(row: Row) -> bool:
    """Whether the row has its own history and full text: only these are samples."""
    return HEADLINE.items() <= row["variant"].items()


@dataclass(frozen=True)
class Table:
    """Rows of one subset with their own history and full text: [N] per row, [S] per scene, scenes by id.

    `items` says which of the subset's items is a scene's truth, `true_item` which of its own K (numbered by `ranks`).
    """

    ids: list[str]
    scene: metrics.Ints
    truth: metrics.Ints
    n_options: metrics.Ints
    random: metrics.Bools
    ranks: metrics.Ints  # [N, max K]: which of the scene's items stands in each slot
    asof_counts: list[list[int]]
    users: metrics.Ints
    items: metrics.Ints
    sizes: metrics.Ints
    true_item: metrics.Ints
    first: list[Row]  # one row of each scene
    regimes: list[str]  # of scenes

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Table:
        """DataError where there is no row, or a scene without a shifted order."""
        if not rows:
            raise DataError("no row has its own history and full text; expected the rows of `mirror bench`, whole")
        ids, first, scene = np.unique([row["scene_id"] for row in rows], return_index=True, return_inverse=True)
        random = np.array([row["variant"]["order"] == "random" for row in rows])
        bare = np.flatnonzero(np.bincount(scene[~random], minlength=len(ids)) == 0)
        if len(bare):
            raise DataError(f"scene {ids[bare[0]]} has no shifted order; expected the rows of `mirror bench`, whole")
        n_options = np.array([len(row["options"]) for row in rows])
        ranks = np.tile(np.arange(n_options.max()), (len(rows), 1))
        for index, row in enumerate(rows):
            keys = [option["item_key"] for option in row["options"]]
            ranks[index, sorted(range(len(keys)), key=keys.__getitem__)] = range(len(keys))
        truth = np.array([row["gold_index"] for row in rows])
        of_scene = [rows[index] for index in first]
        _, users = np.unique([row["user_cluster"] for row in of_scene], return_inverse=True)
        _, items = np.unique([row["options"][row["gold_index"]]["item_key"] for row in of_scene], return_inverse=True)
        return cls(
            ids=[str(name) for name in ids],
            scene=scene,
            truth=truth,
            n_options=n_options,
            random=random,
            ranks=ranks,
            asof_counts=[[option["asof_count"] for option in row["options"]] for row in rows],
            users=users,
            items=items,
            sizes=n_options[first],
            true_item=ranks[first, truth[first]],
            first=of_scene,
            regimes=[row["regime"] for row in of_scene],
        )

    @property
    def n_scenes(self) -> int:
        """S."""
        return len(self.users)

    def per_scene(self, probs: metrics.Floats) -> dict[str, metrics.Floats]:
        """Each metric's value per scene [S] over the shifted rows, failures charged; `*_scored` leaves failures out."""
        rows = ~self.random
        probs, truth, sizes, scene = probs[rows], self.truth[rows], self.n_options[rows], self.scene[rows]
        accuracy, loss = metrics.accuracy(probs, truth), metrics.log_loss(probs, truth)
        charged = np.nan_to_num(accuracy, nan=0.0)
        by_row = {
            "accuracy": charged,
            "log_loss": metrics.charge_failures(loss, scene, self.n_scenes, np.log(sizes)),
            "expected_accuracy": np.nan_to_num(metrics.expected_accuracy(probs, truth), nan=0.0),
            "chance_centred_accuracy": metrics.chance_centred(charged, sizes),
            "brier": metrics.charge_failures(metrics.brier(probs, truth), scene, self.n_scenes, 1 - 1 / sizes),
        }
        if not metrics.scored(probs).all():
            by_row |= {"accuracy_scored": accuracy, "log_loss_scored": loss}
        return {name: metrics.per_scene(values, scene, self.n_scenes) for name, values in by_row.items()}

    def by_item(self, values: metrics.Floats) -> metrics.Floats:
        """Slot values [N, W] as item values averaged over a scene's shifted rows [S, W], NaN where none is scored."""
        rows = ~self.random
        moved = metrics.by_item(values[rows], self.ranks[rows])
        columns = [metrics.per_scene(column, self.scene[rows], self.n_scenes) for column in moved.T]
        return np.stack(columns, axis=1)

    def of_options(self, name: str) -> list[list[Any]]:
        """A fact about each option of each scene, items numbered by `ranks`; None where rows do not have it."""
        return [
            [option.get(name) for option in sorted(row["options"], key=lambda option: option["item_key"])]
            for row in self.first
        ]

    def intervals(self, values: Mapping[str, Mapping[str, metrics.Floats]], seed: int) -> dict[str, Intervals]:
        """Mean and two-way interval of each name's metrics [S], over the scenes that have a value; metrics without any
        are left out. Metrics with the same scenes share their draws."""
        alike: dict[bytes, list[tuple[str, str]]] = {}
        for name, of in values.items():
            for metric, column in of.items():
                alike.setdefault(np.isfinite(column).tobytes(), []).append((name, metric))
        found: dict[tuple[str, str], dict[str, float | None]] = {}
        for mask, keys in alike.items():
            seen = np.frombuffer(mask, dtype=bool)
            if not seen.any():
                continue
            columns = np.stack([values[name][metric][seen] for name, metric in keys], axis=1)
            each = metrics.intervals(columns, self.users[seen], seed=seed, items=self.items[seen])
            found |= dict(zip(keys, map(asdict, each), strict=True))
        return {
            name: {metric: found[name, metric] for metric in of if (name, metric) in found}
            for name, of in values.items()
        }
