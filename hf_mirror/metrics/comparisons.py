"""Which of two models is better, and what that says about ranks, when users decide and many pairs are tested."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from hf_mirror.metrics.rows import Floats, Ints

BLOCK = 500


def sign_flip(differences: Floats, clusters: Ints, *, seed: int, draws: int = 9_999) -> Floats:
    """Two-sided p-values [M] of the hypothesis that differences between two models are symmetric about 0.

    `differences` [S, M] are paired on scenes, `clusters` [S] are users. A user's differences change sign together, and
    p = (1 + #{|T*| >= |T|}) / (1 + draws) with T the sum over users (Fisher 1935; clusters as in Canay, Romano & Shaikh
    2017, doi:10.3982/ECTA13081). Where there are no more than `draws` sign vectors, all are taken and p is exact. One
    user, or no difference anywhere: p = 1.
    """
    _, index = np.unique(clusters, return_inverse=True)
    sums = np.stack([np.bincount(index, weights=column) for column in differences.T], axis=1)
    groups = len(sums)
    limit = np.abs(sums.sum(axis=0)) - 1e-9 * np.abs(sums).sum(axis=0)  # equal sums may differ in their last bits
    exact = groups < 63 and 2**groups <= draws
    total = 2**groups if exact else draws
    rng = np.random.default_rng(seed)
    extreme = np.zeros(sums.shape[1])
    for start in range(0, total, BLOCK):
        size = min(BLOCK, total - start)
        if exact:
            bits = ((np.arange(start, start + size)[:, None] >> np.arange(groups)) & 1).astype(np.uint8)
        else:
            drawn = rng.integers(256, size=(size, -(-groups // 8)), dtype=np.uint8)
            bits = np.unpackbits(drawn, axis=1, count=groups)
        extreme += (np.abs((2.0 * bits - 1) @ sums) >= limit).sum(axis=0)
    return extreme / total if exact else (1 + extreme) / (1 + total)


def holm(p_values: Sequence[float] | Floats) -> Floats:
    """Adjusted p-values [M] that keep the chance of any false discovery among M tests at its level: with p sorted
    upwards, max over j <= i of min(1, (M - j + 1) p_j) (Holm 1979). One test keeps its p; none gives none."""
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    steps = np.minimum(1, values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.maximum.accumulate(steps) if len(values) else steps
    return adjusted


def rank_sets(names: Sequence[str], better: Collection[tuple[str, str]]) -> dict[str, tuple[int, int]]:
    """Per name the best and the worst rank that the tests leave open: (1 + how many are significantly better, how many
    there are less those that are significantly worse).

    `better` holds (winner, loser) of every significant pair. With Holm-adjusted tests at 5 %, all true ranks lie inside
    at once with 95 % (Mogstad, Romano, Shaikh & Wilhelm 2024, doi:10.1093/restud/rdad006). Without any significant pair
    everybody may have any rank.
    """
    return {
        name: (
            1 + sum(loser == name for _, loser in better),
            len(names) - sum(winner == name for winner, _ in better),
        )
        for name in names
    }


def worst_group(means: Mapping[str, float]) -> dict[str, Any] | None:
    """The group with the lowest mean, that mean, and `gap`: the highest mean less the lowest. Ties go to the first
    name. None without groups; one group has no gap (0)."""
    if not means:
        return None
    worst = min(sorted(means), key=means.__getitem__)
    return {"group": worst, "accuracy": means[worst], "gap": max(means.values()) - means[worst]}
