"""Which pairs are kept: one function per rule and a dict literal, and quotas by largest remainder per (domain, K)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hf_mirror.distill.decisions import Floats
from hf_mirror.distill.scoring import KEPT, Domain


def hit_above_chance(scores: Mapping[str, np.ndarray]) -> Floats:
    """0 where the teacher hits more often than chance 1/K would (one-sided binomial, p < 0.05), NaN elsewhere.

    The scenes that pass are drawn at random: the test asks whether a hit can be luck, and ranks nothing.
    """
    from scipy.special import bdtrc

    hits, n = scores["teacher_hits"], scores["teacher_used"].astype(np.int64)
    by_luck = np.where(hits > 0, bdtrc(hits - 1.0, n, 1.0 / scores["n_options"]), 1.0)  # P(at least `hits` of n)
    return np.where(by_luck < 0.05, 0.0, np.nan)


def difficult_but_learnable(scores: Mapping[str, np.ndarray]) -> Floats:
    """The instruction-following difficulty of the chosen decision; NaN from 1 on, where the prompt does not help the
    reader to expect it (Li et al., https://arxiv.org/abs/2308.12032)."""
    return np.where(scores["chosen_ifd"] < 1, scores["chosen_ifd"], np.nan)


# One function per rule: scores of scenes with a pair → preference, larger first; NaN refuses the scene.
RULES: dict[str, Callable[[Mapping[str, np.ndarray]], Floats]] = {
    "uncertainty_gap": lambda scores: scores["uncertainty_gap"],
    "random": lambda scores: np.zeros(len(scores["n_options"])),
    "high_accuracy": lambda scores: scores["teacher_hit_rate"],
    "low_accuracy": lambda scores: -scores["teacher_hit_rate"],
    "hit_above_chance": hit_above_chance,
    "ifd": difficult_but_learnable,
    "direct": lambda scores: scores["direct_entropy"],  # what the reader finds hard without a thought
}
NEEDS = {"ifd": ("chosen_ifd", "mirror read --ifd"), "direct": ("direct_entropy", "mirror read")}


def largest_remainder(weights: Sequence[int], total: int, capacities: Sequence[int]) -> list[int]:
    """Splits `total` over groups in proportion to `weights`, no group above its capacity.

    Sums exactly to min(total, sum of capacities). A group that is short gives what it has, and its rest is shared by
    the others in proportion. Fractions are settled by largest remainder (Hamilton), equal ones by the earlier group;
    so no quota differs from its exact share by 1 or more unless a capacity binds. Weights and capacities are ≥ 0.
    """
    quotas = [0] * len(weights)
    rest = min(total, sum(capacities))
    active = [i for i, capacity in enumerate(capacities) if capacity > 0]
    while active:
        if not any(weights[i] for i in active):  # only weightless groups are left to take the rest
            weights = capacities
        whole = sum(weights[i] for i in active)
        short = [i for i in active if rest * weights[i] >= capacities[i] * whole]
        if not short:
            break
        for i in short:
            quotas[i] = capacities[i]
        rest -= sum(capacities[i] for i in short)
        active = [i for i in active if i not in short]
    if active:
        for i in active:
            quotas[i] = rest * weights[i] // whole
        leftover = rest - sum(quotas[i] for i in active)
        for i in sorted(active, key=lambda i: -(rest * weights[i] % whole))[:leftover]:
            quotas[i] += 1
    return quotas


def select(domains: list[Domain], split: str, size: int, rule: str, seed: int) -> list[dict[str, Any]]:
    """Applies the rule and the quotas to one split; marks every pair that is not kept. Returns the quota table."""
    groups = []
    for domain in domains:
        scores, here = domain.scores, domain.scenes["split"] == split
        pairs = np.flatnonzero(here & (domain.outcome == KEPT))
        preference = RULES[rule]({name: values[pairs] for name, values in scores.items()}).round(9)
        domain.outcome[pairs[np.isnan(preference)]] = "refused_by_rule"
        ids = domain.scenes["scene_id"]
        drawn = np.array([_draw(seed, ids[i]) for i in pairs], dtype=np.uint64)
        ranked = pairs[np.lexsort((drawn, -preference))][: int((~np.isnan(preference)).sum())]
        for k in np.unique(scores["n_options"][here]):
            both = here & (scores["n_options"] == k) & (scores["teacher_written"] > 0) & (scores["student_written"] > 0)
            groups.append((domain, int(k), int(both.sum()), ranked[scores["n_options"][ranked] == k]))
    quotas = largest_remainder([g[2] for g in groups], size, [len(g[3]) for g in groups])
    table = []
    for (domain, k, n_scenes, ranked), quota in zip(groups, quotas, strict=True):
        domain.outcome[ranked[quota:]] = "not_selected"
        row = {"domain": domain.folder.name, "split": split, "n_options": k}
        table.append({**row, "scenes": n_scenes, "available": len(ranked), "quota": quota})
    return table


def _draw(seed: int, scene_id: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}|{scene_id}".encode()).digest()[:8])
