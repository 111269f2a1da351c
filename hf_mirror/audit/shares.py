"""What is counted beside the checks: extremes of every feature, gaps, and popularity of truth against negatives."""

from __future__ import annotations

from typing import Any

import numpy as np

from hf_mirror.audit.choices import POPULARITY, Choices, marks, share_against_chance, tied_hits

# The strata of the benchmark (bench.gap_stratum) and where each begins, in seconds.
STRATA = {"first": -1, "<1h": 0, "1h-1d": 3_600, ">=1d": 86_400}
POWERED = 200  # scenes and users; below, a stratum has no headline score


def extremes(choices: Choices, feature: str) -> dict[str, Any]:
    """How often the truth is the largest, the smallest or the median of a feature, each beside chance.

    Ties share their hit; the median is the lower middle. Scenes with an option whose value is not known are left out,
    and `scenes` says how many are left; without any, that is all there is.
    """
    values = choices.feature(feature)
    whole = ~(np.isnan(values) & choices.inside).any(axis=0)
    found: dict[str, Any] = {"scenes": int(whole.sum())}
    if whole.any():
        chance, user = choices.chance[whole], np.unique(choices.user[whole], return_inverse=True)[1]
        for name, marked in marks(values[:, whole]).items():
            found[name] = share_against_chance(tied_hits(marked, choices.truth[whole]), chance, user)
    return found


def gaps(choices: Choices) -> dict[str, Any] | None:
    """Scenes and users by the time since the user's previous event (`first`: none known), None without gaps.

    Headline scores are also given for a gap of a day or more, unless that stratum is `too_small`: under 200 scenes or
    users.
    """
    if choices.gap_seconds is None:
        return None
    stratum = np.digitize(choices.gap_seconds, list(STRATA.values())[1:])
    strata = {
        name: {"scenes": int((stratum == i).sum()), "users": len(np.unique(choices.cluster[stratum == i]))}
        for i, name in enumerate(STRATA)
    }
    return {"strata": strata, "too_small": min(strata[">=1d"].values()) < POWERED}


def popularity_histogram(choices: Choices) -> dict[str, list[int]] | None:
    """Options by as-of count, truths and negatives apart; bin i holds counts from edges[i] up to the next edge, the
    last one all above. Edges are 0, 1, 2, 4, 8, ...; None without counts."""
    if POPULARITY not in choices.features:
        return None
    counts = choices.feature(POPULARITY)
    is_truth = np.arange(len(counts))[:, None] == choices.truth
    # frexp gives the exponent e of 2**(e - 1) <= count < 2**e, and 0 for a count of 0.
    bins = np.frexp(np.floor(np.nan_to_num(counts)))[1]
    known = ~np.isnan(counts)
    size = int(bins[known].max(initial=0)) + 1
    return {
        "edges": [0, *(2**e for e in range(size - 1))],
        "truth": np.bincount(bins[known & is_truth], minlength=size).tolist(),
        "negatives": np.bincount(bins[known & ~is_truth], minlength=size).tolist(),
    }
