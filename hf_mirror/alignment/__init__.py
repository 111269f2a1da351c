"""How well a model's choices agree with real ones: one definition of the numbers, for every way of getting them.

`mirror evaluate`, the stock lighteval command and the leaderboard all show what `score` returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hf_mirror import metrics
from hf_mirror.alignment.crowds import divergence, popularity_lift
from hf_mirror.alignment.parts import groups, twins, worst_groups
from hf_mirror.alignment.table import HEADLINE, SCORED_COLUMNS, Row, Table, is_headline

__all__ = ["HEADLINE", "SCORED_COLUMNS", "Row", "score"]

UNDERPOWERED = 200  # users; below, a result says so


def score(rows: Sequence[Row], choice_probs: Sequence[Sequence[float] | None], *, seed: int) -> dict[str, Any]:
    """Everything that one subset's rows and their option probabilities say, ready for JSON (docs/decisions.md).

    `rows` are benchmark rows (at least SCORED_COLUMNS); `choice_probs` goes with them, None or empty for a failure.
    Rows of a scene with its own history and full text count; the headline is averaged over a scene's shifted orders,
    then over scenes, and position is read in the random order. Other variants are compared with that random order.
    What rows do not tell (groups, categories, percentiles, other variants) is left out.
    """
    order = sorted(range(len(rows)), key=lambda i: (rows[i]["scene_id"], rows[i]["variant_id"]))
    kept = [i for i in order if is_headline(rows[i])]  # in order, so that sums do not depend on that of the rows
    table = Table.of([rows[i] for i in kept])
    probs = metrics.pad([choice_probs[i] for i in kept], table.n_options)
    shifted, in_random = ~table.random, table.random
    slots = metrics.position_only(table.truth, table.n_options, in_random)
    guesses = {
        "chance": metrics.chance(table.n_options),
        "popularity": metrics.popularity(table.asof_counts, table.n_options),
        "position_only": slots,
    }
    nulls = {name: table.per_scene(of)["log_loss"] for name, of in guesses.items()}
    values = {name: _with_r2(table.per_scene(of), nulls) for name, of in {"model": probs, **guesses}.items()}
    found = table.intervals(values, seed)
    ours = values["model"]
    answered = metrics.per_scene(metrics.scored(probs[shifted]).astype(float), table.scene[shifted], table.n_scenes)
    by_group = groups(table, ours, seed)
    by_item = table.by_item(probs)
    return {
        "regime": ", ".join(sorted(set(table.regimes))),
        "n_scenes": table.n_scenes,
        "n_clusters": len(np.unique(table.users)),
        "coverage": float(answered.mean()),
        "scores": found.pop("model"),
        "baselines": found,
        "position": _position(table, probs, slots),
        **_calibration(table, by_item),
        "popularity_lift": popularity_lift(table, by_item, seed),
        "divergence": divergence(table, table.by_item(metrics.choices(probs))),
        "groups": by_group,
        "worst_group": worst_groups(by_group),
        "twins": twins(table, probs, [(rows[i], choice_probs[i]) for i in order], seed),
        "design_effect": metrics.design_effect(ours["accuracy"], table.users),
        "minimum_detectable_difference": metrics.minimum_detectable_difference(ours["accuracy"], table.users),
        "underpowered": len(np.unique(table.users)) < UNDERPOWERED,
    }


def _with_r2(values: dict[str, metrics.Floats], nulls: dict[str, metrics.Floats]) -> dict[str, metrics.Floats]:
    return values | {
        f"mcfadden_r2_{name}": metrics.mcfadden_r2(values["log_loss"], nulls[null])
        for name, null in (("uniform", "chance"), ("popularity", "popularity"))
    }


def _position(table: Table, probs: metrics.Floats, slots: metrics.Floats) -> dict[str, Any]:
    """Where choices and truths fall in the random order, per K, how often the order changes the choice, and what the
    slot alone gives in that order (`slots`, fitted on the same rows: an upper bound)."""
    chosen = metrics.choices(probs)
    truth = metrics.choices(np.eye(probs.shape[1])[table.truth])
    random, sizes = table.random, table.n_options[table.random]
    hits = metrics.accuracy(slots[random], table.truth[random])
    return {
        "choice_share": metrics.slot_shares(chosen[random], sizes),
        "truth_share": metrics.slot_shares(truth[random], sizes),
        "slot_accuracy": float(hits.mean()) if len(hits) else None,
        "flip_rate": metrics.flip_rate(metrics.by_item(chosen, table.ranks), table.scene, random, table.n_scenes),
        "ckld": metrics.ckld(chosen[random], truth[random], sizes),
    }


def _calibration(table: Table, by_item: metrics.Floats) -> dict[str, Any]:
    """Per K, over scenes whose probabilities are averaged over their orders first, so that each counts once."""
    calibration, decomposition = {}, {}
    seen = metrics.scored(by_item)
    for size in np.unique(table.sizes[seen]):
        scenes = seen & (table.sizes == size)
        of_size = by_item[scenes, :size], table.true_item[scenes]
        calibration[str(size)] = {
            "ece_top_label": metrics.ece_top_label(*of_size, table.users[scenes]),
            "ece_class_wise": metrics.ece_class_wise(*of_size, table.users[scenes]),
            "bins": metrics.reliability_bins(*of_size),
        }
        decomposition[str(size)] = metrics.brier_decomposition(*of_size)
    return {"calibration": calibration, "brier_decomposition": decomposition}
