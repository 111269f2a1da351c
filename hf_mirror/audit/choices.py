"""Scenes as arrays: everything an audit may look at, and nothing about the user but who it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from hf_mirror.identity import id_hashes
from hf_mirror.metrics import Bools, Floats, Ints

POPULARITY = "asof_count"
# What eligibility looks at, as of the scene: days since the item's first event (unknown until then), days since it came
# out, has a title.
ELIGIBILITY = ("first_seen_days", "available_days", "described")
# Features whose numbers are codes.
CATEGORICAL = ("source",)
# Slots that the slower checks look at: 2,000 scenes of up to 12 options tell three points from nothing at 99.9 %. Where
# there are very many options, at least so many scenes.
SLOTS, LEAST_SCENES = 24_000, 1_000


@dataclass(frozen=True)
class Choices:
    """n scenes. `n_options` K and `truth` (its slot, from 0) are int [n], `cluster` int [n] says whose scene it is
    (`clusters`, so that a user is in the same fold whoever else there is).

    `features` has what can be said of an option without its user, each float [n, max K] or wider: NaN beyond a scene's
    own options, and where it is not known. Counts, ratings, days and lengths may have any scale; names in ELIGIBILITY
    and POPULARITY get checks of their own. `gap_seconds` int [n] is the time since the user's previous event, -1 where
    there is none known; None where nothing is known of gaps.
    """

    n_options: Ints
    truth: Ints
    cluster: Ints
    features: dict[str, Floats] = field(default_factory=dict)
    gap_seconds: Ints | None = None
    regime: str = "unknown"

    @cached_property
    def inside(self) -> Bools:
        """Which slots are options, shape [max K, n]: here and below scenes run along the last axis."""
        return np.arange(int(self.n_options.max(initial=1)))[:, None] < self.n_options

    @cached_property
    def chance(self) -> Floats:
        """1/K per scene, shape [n]."""
        return 1 / self.n_options

    @cached_property
    def user(self) -> Ints:
        """Users numbered from 0, shape [n]."""
        return np.unique(self.cluster, return_inverse=True)[1]

    def feature(self, name: str) -> Floats:
        """One feature, [max K, n], NaN beyond each scene's options. Single precision is enough, and twice as fast."""
        return np.where(self.inside, self.features[name].T[: len(self.inside)].astype(np.float32), np.float32(np.nan))

    def some(self, rows: Bools | Ints) -> Choices:
        """The scenes that `rows` marks or numbers."""
        gaps = None if self.gap_seconds is None else self.gap_seconds[rows]
        features = {name: values[rows] for name, values in self.features.items()}
        return Choices(self.n_options[rows], self.truth[rows], self.cluster[rows], features, gaps, self.regime)

    def sample(self) -> Choices:
        """As many scenes as fill SLOTS; itself where that is all of them.

        By a lot that depends on a scene's user, gap and counts, not on the order of scenes nor on the truth.
        """
        count = max(SLOTS // len(self.inside), LEAST_SCENES)
        if len(self.truth) <= count:
            return self
        lot = spread(self.cluster)
        if self.gap_seconds is not None:
            lot = spread(lot ^ self.gap_seconds)
        if POPULARITY in self.features:
            counts = np.nan_to_num(self.feature(POPULARITY)).astype(np.int64)
            lot = spread(lot ^ (counts * np.arange(1, len(counts) + 1)[:, None]).sum(axis=0))
        return self.some(np.argsort(lot, kind="stable")[:count])


def clusters(users: Sequence[str]) -> Ints:
    """A number for each user that depends on its id alone, shape [users]."""
    return id_hashes(users).astype(np.int64)


def spread(numbers: Ints) -> Ints:
    """A number below 2**63 for each, evenly spread whatever they are (Knuth's multiplicative hashing)."""
    return (((numbers.astype(np.uint64) + 1) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(1)).astype(np.int64)


def share_against_chance(hits: Floats, chance: Floats, user: Ints) -> dict[str, float]:
    """The mean of `hits` [n] beside the mean of `chance` [n], and the standard error of their difference, a user's
    scenes being one cluster (metrics.cluster_error)."""
    excess = hits - chance
    groups = int(user.max()) + 1
    residuals = np.bincount(user, excess - excess.mean())
    error = np.sqrt(groups / max(groups - 1, 1) * (residuals**2).sum()) / len(hits)
    return {
        "share": round(float(hits.mean()), 4),
        "chance": round(float(chance.mean()), 4),
        "standard_error": round(float(error), 4),
    }


def tied_hits(marked: Bools, truth: Ints) -> Floats:
    """Per scene, 1 if the truth alone is marked in `marked` [max K, n], 1/m if it is one of m, else 0."""
    return marked[truth, np.arange(len(truth))] / np.maximum(marked.sum(axis=0), 1)


def marks(values: Floats) -> dict[str, Bools]:
    """Which options [max K, n] are the largest, the smallest and the median of their scene, ties marked alike.

    The median is the lower middle. What is not known (NaN) is never marked, and does not count.
    """
    middle = (np.maximum((~np.isnan(values)).sum(axis=0), 1) - 1) // 2
    ordered = np.sort(values, axis=0)  # NaN goes last, and equals nothing below
    return {
        "largest": values == np.fmax.reduce(values, axis=0),
        "smallest": values == ordered[0],
        "median": values == ordered[middle, np.arange(values.shape[1])],
    }


def varies(values: Floats) -> bool:
    """Whether any scene has two options that differ in this feature [max K, n]."""
    spread = np.fmax.reduce(values, axis=0) > np.fmin.reduce(values, axis=0)
    return bool(spread.any())
