"""What a distillation says about itself: what was kept against what was dropped."""

from __future__ import annotations

from typing import Any

import numpy as np

from hf_mirror.bench import GAPS, gap_stratum
from hf_mirror.distill.decisions import counts
from hf_mirror.distill.scoring import KEPT, Domain
from hf_mirror.rationales.shards import ROLES

POINTS = 1500  # scenes of a domain in the plot


def split_report(domain: Domain, split: str) -> dict[str, Any]:
    """What became of the scenes of one split."""
    here = domain.scenes["split"] == split
    scores = domain.scores
    both = here & (scores["teacher_written"] > 0) & (scores["student_written"] > 0)
    dropped = counts(domain.outcome[here])
    kept = dropped.pop(KEPT, 0)
    rejected = domain.decisions["role"][scores["rejected"][here & (domain.outcome == KEPT)]]
    return {
        "scenes": int(here.sum()),
        "with_both_roles": int(both.sum()),
        "kept": kept,
        "dropped": dropped,
        "rejected_role": {role: int((rejected == code).sum()) for code, role in enumerate(ROLES)},
        "kept_against_dropped": _kept_against_dropped(domain, here),
    }


def _kept_against_dropped(domain: Domain, here: np.ndarray) -> dict[str, dict[str, dict[str, int]]]:
    """Kept and dropped scenes of one split by K, as-of count of the truth and the user's events (in terciles of the
    split), hours since the last event, and hit rate."""
    kept = domain.outcome == KEPT
    rate, k, gap = domain.scores["teacher_hit_rate"], domain.scenes["n_options"], domain.scenes["gap"]
    strata = np.array([gap_stratum(None if np.isnan(seconds) else int(seconds)) for seconds in gap])
    factors = {
        "n_options": {str(n): k == n for n in np.unique(k[here])},
        "truth_asof_count": _terciles(domain.scenes["popularity"], here),
        "user_events": _terciles(domain.scenes["activity"], here),
        "gap": {stratum: strata == stratum for stratum in GAPS if (strata[here] == stratum).any()},
        "teacher_hit_rate": {
            "0": rate == 0,
            "above 0 to 1/3": (rate > 0) & (rate <= 1 / 3),
            "above 1/3 to 2/3": (rate > 1 / 3) & (rate <= 2 / 3),
            "above 2/3": rate > 2 / 3,
            "no decision": np.isnan(rate),
        },
    }
    return {
        factor: {
            level: {"kept": int((here & at & kept).sum()), "dropped": int((here & at & ~kept).sum())}
            for level, at in levels.items()
        }
        for factor, levels in factors.items()
    }


def _terciles(values: np.ndarray, here: np.ndarray) -> dict[str, np.ndarray]:
    low, high = np.quantile(values[here], [1 / 3, 2 / 3]) if here.any() else (0.0, 0.0)
    return {
        f"low (to {low:g})": values <= low,
        f"middle (to {high:g})": (values > low) & (values <= high),
        f"high (above {high:g})": values > high,
    }


def points(domain: Domain) -> dict[str, Any]:
    """For the plot: both roles' uncertainty of some train scenes, and which were kept."""
    teacher, student = (domain.scores[f"{role}_within_decision_entropy"] for role in ROLES)
    there = (domain.scenes["split"] == "train") & ~np.isnan(teacher) & ~np.isnan(student)
    at = np.flatnonzero(there)
    at = at[np.argsort(domain.scenes["scene_id"][at])][:POINTS]
    return {"teacher": teacher[at], "student": student[at], "kept": domain.outcome[at] == KEPT}
