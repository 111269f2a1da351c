"""How sure a mean over scenes is, where scenes of one user, or with one true item, are not independent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hf_mirror.metrics.rows import Floats, Ints

SMALL_SAMPLE = 100  # below this many clusters the percentile bootstrap is too narrow
BLOCK = 100  # draws at a time, so that memory stays at BLOCK x G


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval; `low` and `high` are None below two clusters, where nothing can be said."""

    value: float
    low: float | None
    high: float | None


def interval(values: Floats, clusters: Ints, *, seed: int, draws: int = 2000, level: float = 0.95) -> Interval:
    """The mean over scenes with a user-clustered interval. `values` float [S], `clusters` int [S].

    At 100 clusters or more: percentile bootstrap that draws whole users with replacement and recomputes
    sum(values) / number of scenes. Below: mean +- t(G-1) * `cluster_error`, because few clusters make the percentile
    bootstrap too narrow (Cameron, Gelbach & Miller 2008, doi:10.1162/rest.90.3.414).
    """
    return intervals(values[:, None], clusters, seed=seed, draws=draws, level=level)[0]


def intervals(
    values: Floats,
    clusters: Ints,
    *,
    seed: int,
    items: Ints | None = None,
    draws: int = 2000,
    level: float = 0.95,
) -> list[Interval]:
    """`interval` of every column of `values` [S, M], all from the same draws of users.

    With `items` [S], the true item of every scene, each is the wider of that interval and mean +- t * `two_way_error`,
    t with min(users, items) - 1 degrees of freedom: two scenes with one true item are alike too, whoever chose. The
    two-way variance can fall below the one-way one by chance, and an interval must not gain from that.
    """
    means = np.array([column.mean() for column in values.T])  # summed pairwise, which axis=0 is not
    groups = len(np.unique(clusters))
    if groups < 2:
        return [Interval(float(mean), None, None) for mean in means]
    if groups < SMALL_SAMPLE:
        reach = _t(groups, level) * np.array([cluster_error(column, clusters) for column in values.T])
        low, high = means - reach, means + reach
    else:
        low, high = _bootstrap(values, clusters, seed, draws, level)
    if items is not None and (distinct := len(np.unique(items))) > 1:
        errors = np.array([two_way_error(column, clusters, items) for column in values.T])
        reach = _t(min(groups, distinct), level) * errors
        wider = 2 * reach > high - low
        low, high = np.where(wider, means - reach, low), np.where(wider, means + reach, high)
    return [Interval(*map(float, each)) for each in zip(means, low, high, strict=True)]


def cluster_error(values: Floats, clusters: Ints) -> float:
    """Standard error of the mean with dependent scenes inside a user:
    sqrt(G/(G-1) * sum_g (sum_g - mean * n_g)^2) / S (Liang & Zeger 1986; arXiv 2411.00640 section 2.2).
    Infinite below two clusters."""
    sums, counts = _cluster_sums(values[:, None], clusters)
    groups = len(counts)
    if groups < 2:
        return float("inf")
    residuals = sums[:, 0] - values.mean() * counts
    return float(np.sqrt(groups / (groups - 1) * (residuals**2).sum()) / counts.sum())


def two_way_error(values: Floats, users: Ints, items: Ints) -> float:
    """Standard error of the mean where scenes that share the user or the item depend on each other:
    V = V_users + V_items - V_both, each the square of `cluster_error`, the last over pairs (user, item)
    (Cameron, Gelbach & Miller 2011, doi:10.1198/jbes.2010.07136). Infinite below two users or two items; 0 where V is
    negative, which small samples allow."""
    _, items = np.unique(items, return_inverse=True)
    _, users = np.unique(users, return_inverse=True)
    both = users * (items.max(initial=0) + 1) + items
    by_user, by_item = cluster_error(values, users), cluster_error(values, items)
    if not np.isfinite(by_user + by_item):
        return float("inf")
    return float(np.sqrt(max(0.0, by_user**2 + by_item**2 - cluster_error(values, both) ** 2)))


def design_effect(values: Floats, clusters: Ints) -> float | None:
    """cluster_error^2 / (s^2 / S): by how much clustering inflates the variance of the mean (Kish 1965). 1 means that
    scenes of a user are as good as independent; None where it is undefined (one cluster, or all values equal)."""
    spread = float(values.var(ddof=1)) if len(values) > 1 else 0.0
    error = cluster_error(values, clusters)
    if not np.isfinite(error) or spread <= 1e-18:
        return None
    return error**2 / (spread / len(values))


def minimum_detectable_difference(values: Floats, clusters: Ints) -> float | None:
    """The smallest difference between two models that a two-sided 5 % test sees with 80 % power:
    (1.960 + 0.842) * sqrt(2) * cluster_error, both models as variable as this one and compared without pairing
    (pairing on scenes only lowers it; arXiv 2411.00640 section 5). None below two clusters."""
    error = cluster_error(values, clusters)
    return (1.959964 + 0.841621) * float(np.sqrt(2)) * error if np.isfinite(error) else None


def _bootstrap(values: Floats, clusters: Ints, seed: int, draws: int, level: float) -> tuple[Floats, Floats]:
    sums, counts = _cluster_sums(values, clusters)
    means = np.concatenate([(drawn @ sums) / (drawn @ counts)[:, None] for drawn in _drawn(len(counts), draws, seed)])
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def _drawn(groups: int, draws: int, seed: int) -> Iterator[Floats]:
    """How often each cluster comes in each draw of G clusters with replacement, [up to BLOCK, G] at a time."""
    rng = np.random.default_rng(seed)
    for start in range(0, draws, BLOCK):
        size = min(BLOCK, draws - start)
        picked = rng.integers(groups, size=(size, groups)) + groups * np.arange(size)[:, None]
        yield np.bincount(picked.ravel(), minlength=size * groups).reshape(size, groups).astype(np.float64)


def _t(groups: int, level: float) -> float:
    from scipy.special import stdtrit  # scipy.stats takes seconds to import

    return float(stdtrit(groups - 1, (1 + level) / 2))


def _cluster_sums(values: Floats, clusters: Ints) -> tuple[Floats, Floats]:
    """Sum [G, M] and number of values [G] per cluster, for the clusters that occur."""
    _, index = np.unique(clusters, return_inverse=True)
    sums = np.stack([np.bincount(index, weights=column) for column in values.T], axis=1)
    return sums.astype(np.float64), np.bincount(index).astype(np.float64)
