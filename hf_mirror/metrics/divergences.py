"""How what is chosen differs, as a crowd, from what was really taken: categories and popularity."""

from __future__ import annotations

import numpy as np

from hf_mirror.metrics.rows import Floats, Ints

POPULARITY_BINS = 10


def jsd(p: Floats, q: Floats) -> float:
    """Jensen-Shannon divergence in nats, 0 to ln 2: (KL(p || m) + KL(q || m)) / 2 with m = (p + q) / 2 (Lin 1991,
    doi:10.1109/18.61115). `p` and `q` [C] are weights over the same categories, each with a sum above 0. Samples of one
    distribution give a little more than 0."""
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2

    def kl(of: Floats) -> float:
        there = of > 0
        return float((of[there] * np.log(of[there] / middle[there])).sum())

    return max(0.0, (kl(p) + kl(q)) / 2)


def ks(values: Floats, p: Floats, q: Floats) -> float:
    """Kolmogorov-Smirnov distance: the largest gap between the distribution functions of `values` [n] under weights `p`
    and under weights `q` [n], 0 to 1. Needs an order, so it is for numbers, not for categories."""
    order = np.argsort(values, kind="stable")
    last = np.append(np.diff(values[order]) != 0, True)  # equal values step together
    steps = np.cumsum(p[order] / p.sum() - q[order] / q.sum())
    return float(np.abs(steps[last]).max())


def quantile_shares(values: Floats, p: Floats, q: Floats) -> tuple[Floats, Floats]:
    """Weights `p` and `q` [n] of `values` [n] per decile of `values`, for `jsd` of numbers; fewer bins where values
    repeat."""
    edges = np.unique(np.quantile(values, np.arange(1, POPULARITY_BINS) / POPULARITY_BINS))
    bins = np.searchsorted(edges, values, side="right")
    size = len(edges) + 1
    shares = (np.bincount(bins, weights=of, minlength=size).astype(np.float64) for of in (p, q))
    first, second = shares
    return first, second


def popularity_lift(probs: Floats, percentiles: Floats, truth: Ints) -> Floats:
    """E_p[as-of percentile] - percentile of the truth, shape [N]: above 0, choices are more popular than truths were.

    `percentiles` [N, W] in 0 to 1: the share of known items that fewer had taken by then. NaN for failures, and where
    an option's percentile is unknown. Meaningless where options are matched on popularity.
    """
    inside = np.where(probs > 0, percentiles, 0) * probs  # padding has no percentile
    at_truth = np.take_along_axis(percentiles, truth[:, None], axis=1)[:, 0]
    return np.asarray(inside.sum(axis=1) - at_truth)
