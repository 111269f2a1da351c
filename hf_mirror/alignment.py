"""How well a model's choices agree with real ones: one definition of the numbers, for every way of getting them.

`mirror evaluate`, the stock lighteval command and the leaderboard all show what `score` returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hf_mirror import metrics
from hf_mirror.errors import DataError

Row = dict[str, Any]

SCORED_COLUMNS = ("scene_id", "variant_id", "domain", "regime", "user_cluster", "variant", "options", "gold_index")
HEADLINE = {"history": "own", "profile": "own", "text": "full"}
UNDERPOWERED = 200  # users; below, a result says so


def score(rows: Sequence[Row], choice_probs: Sequence[Sequence[float] | None], *, seed: int) -> dict[str, Any]:
    """Everything that one domain's rows and their option probabilities say: scores, baselines, position, power.

    `rows` are benchmark rows (at least SCORED_COLUMNS); `choice_probs` goes with them, None or empty for a failure.
    Rows of a scene with its own history and full text count; the headline is averaged over a scene's shifted orders,
    then over scenes, and position is read in the random order.
    """
    kept = [i for i, row in enumerate(rows) if all(row["variant"][key] == value for key, value in HEADLINE.items())]
    kept.sort(key=lambda i: (rows[i]["scene_id"], rows[i]["variant_id"]))  # sums then do not depend on row order
    rows = [rows[i] for i in kept]
    table = _Table.of(rows)
    probs = metrics.pad([choice_probs[i] for i in kept], table.n_options)
    shifted, in_random = ~table.random, table.random
    values = table.per_scene(probs, shifted)
    popularity = metrics.popularity([[o["asof_count"] for o in row["options"]] for row in rows], table.n_options)
    baselines = {
        "chance": table.per_scene(metrics.chance(table.n_options), shifted),
        "popularity": table.per_scene(popularity, shifted),
    }
    slots = metrics.position_only(table.truth, table.n_options, in_random)
    baselines["position_only"] = table.per_scene(slots, shifted)
    seen = metrics.scored(probs[shifted]).astype(float)
    return {
        "regime": ", ".join(sorted({row["regime"] for row in rows})),
        "n_scenes": table.n_scenes,
        "n_clusters": len(np.unique(table.users)),
        "coverage": float(metrics.per_scene(seen, table.scene[shifted], table.n_scenes).mean()),
        "scores": table.intervals(values, seed),
        "baselines": {name: table.intervals(of, seed) for name, of in baselines.items()},
        "position": table.position(probs, slots),
        "design_effect": metrics.design_effect(values["accuracy"], table.users),
        "minimum_detectable_difference": metrics.minimum_detectable_difference(values["accuracy"], table.users),
        "underpowered": len(np.unique(table.users)) < UNDERPOWERED,
    }


@dataclass(frozen=True)
class _Table:
    """Benchmark rows as arrays: [N] per row, and `users` [S] per scene."""

    scene: metrics.Ints
    truth: metrics.Ints
    n_options: metrics.Ints
    random: metrics.Bools
    ranks: metrics.Ints  # [N, max K]: which of the scene's items stands in each slot
    users: metrics.Ints

    @classmethod
    def of(cls, rows: Sequence[Row]) -> _Table:
        if not rows:
            raise DataError("no row has its own history and full text; expected the rows of `mirror bench`, whole")
        ids, scene = np.unique([row["scene_id"] for row in rows], return_inverse=True)
        random = np.array([row["variant"]["order"] == "random" for row in rows])
        bare = np.flatnonzero(np.bincount(scene[~random], minlength=len(ids)) == 0)
        if len(bare):
            raise DataError(f"scene {ids[bare[0]]} has no shifted order; expected the rows of `mirror bench`, whole")
        n_options = np.array([len(row["options"]) for row in rows])
        ranks = np.tile(np.arange(n_options.max()), (len(rows), 1))
        for index, row in enumerate(rows):
            order = np.argsort([option["item_key"] for option in row["options"]], kind="stable")
            ranks[index, order] = np.arange(len(order))
        _, users = np.unique([row["user_cluster"] for row in rows], return_inverse=True)
        of_scene = np.zeros(len(ids), dtype=np.int64)
        of_scene[scene] = users
        truth = np.array([row["gold_index"] for row in rows])
        return cls(scene, truth, n_options, random, ranks, of_scene)

    @property
    def n_scenes(self) -> int:
        return len(self.users)

    def per_scene(self, probs: metrics.Floats, rows: metrics.Bools) -> dict[str, metrics.Floats]:
        """Each metric's value per scene [S] over the given rows, failures charged; `*_scored` leaves failures out."""
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

    def intervals(self, values: dict[str, metrics.Floats], seed: int) -> dict[str, dict[str, float | None]]:
        """Mean and user-clustered interval of each metric, over the scenes that have a value."""
        found = {name: np.isfinite(of) for name, of in values.items()}
        return {
            name: asdict(metrics.interval(of[found[name]], self.users[found[name]], seed=seed))
            for name, of in values.items()
            if found[name].any()
        }

    def position(self, probs: metrics.Floats, slots: metrics.Floats) -> dict[str, Any]:
        """Where choices and truths fall in the random order, per K, how often the order changes the choice, and what
        the slot alone gives in that order (`slots`, fitted on the same rows: an upper bound)."""
        chosen = metrics.choices(probs)
        truth = metrics.choices(np.eye(probs.shape[1])[self.truth])
        by_item = metrics.by_item(chosen, self.ranks)
        return {
            "choice_share": metrics.slot_shares(chosen[self.random], self.n_options[self.random]),
            "truth_share": metrics.slot_shares(truth[self.random], self.n_options[self.random]),
            "slot_accuracy": self._slot_accuracy(slots),
            "flip_rate": metrics.flip_rate(by_item, self.scene, self.random, self.n_scenes),
        }

    def _slot_accuracy(self, slots: metrics.Floats) -> float | None:
        hits = metrics.accuracy(slots[self.random], self.truth[self.random])
        return float(hits.mean()) if len(hits) else None
