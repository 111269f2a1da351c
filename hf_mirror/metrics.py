"""What a model's option probabilities are worth: plain functions on (probabilities, truth, options).

Shapes used throughout: `probs` is float64 [N, W], one row per scene variant, zero beyond a row's own K options; a row
of NaN is a failure. `truth` and `n_options` are int [N]. `scene` is int [N] and says which of S scenes a row belongs
to. Logarithms are natural, so log-loss is in nats.

Example: three options, the truth is the second, the model says (0.2, 0.5, 0.3): accuracy 1, expected accuracy 0.5,
log-loss -ln 0.5 = 0.693, Brier 0.2^2 + 0.5^2 + 0.3^2 = 0.38.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

TIE = 1e-9  # probabilities this close to the largest are ties: padding and batching shift float32 sums by less
SMALLEST = np.finfo(np.float64).tiny  # an exact zero would cost infinity; this costs 708 nats
SMALL_SAMPLE = 100  # below this many clusters the percentile bootstrap is too narrow


# Rows


def pad(rows: Sequence[Sequence[float] | Floats | None], n_options: Ints) -> Floats:
    """Ragged probability rows as [N, max K], zero beyond K; a row that is no distribution over K options becomes NaN.

    No distribution: None, the wrong number of entries, a value that is not finite or below 0, a sum off 1 by > 1e-3.
    """
    padded = np.zeros((len(rows), int(n_options.max(initial=1))))
    for index, (row, size) in enumerate(zip(rows, n_options, strict=True)):
        values = np.asarray([] if row is None else row, dtype=np.float64)
        fits = values.shape == (size,) and bool(np.all(np.isfinite(values) & (values >= 0)))
        if fits and abs(values.sum() - 1) <= 1e-3:
            padded[index, :size] = values
        else:
            padded[index] = np.nan
    return padded


def softmax(log_probs: Sequence[float] | Floats) -> Floats:
    """exp(l_k) / sum_j exp(l_j) over exactly the options given, computed from the largest down so that nothing
    overflows. All NaN where a value is missing or not finite, or where there is no option. Shape [K]."""
    values = np.asarray(log_probs, dtype=np.float64)
    if not values.size or not np.all(np.isfinite(values)):
        return np.full(values.shape, np.nan)
    weights = np.exp(values - values.max())
    return weights / weights.sum()


def scored(probs: Floats) -> Bools:
    """Which rows hold probabilities, shape [N]; the others are failures."""
    return np.asarray(np.isfinite(probs).all(axis=1))


# One value per row; NaN for failures


def choices(probs: Floats) -> Floats:
    """What is chosen: 1 at the largest probability, 1/|ties| at each of several equally large ones. Shape [N, W]."""
    with np.errstate(invalid="ignore"):
        tied = (probs >= probs.max(axis=1, keepdims=True) - TIE) & (probs > 0)
    share = tied / np.maximum(tied.sum(axis=1, keepdims=True), 1)
    return np.where(scored(probs)[:, None], share, np.nan)


def accuracy(probs: Floats, truth: Ints) -> Floats:
    """Argmax accuracy: 1 if the truth has the largest probability, 1/|ties| if it shares it, else 0. Shape [N].

    The expected hit of the argmax with ties broken at random, not of a draw from the distribution.
    """
    return _at_truth(choices(probs), truth)


def expected_accuracy(probs: Floats, truth: Ints) -> Floats:
    """p(truth): how often one draw from the distribution hits. Shape [N]."""
    return _at_truth(probs, truth)


def log_loss(probs: Floats, truth: Ints) -> Floats:
    """-ln p(truth) in nats, shape [N]. A zero probability counts as 2.2e-308 (708 nats), never as infinity."""
    return -np.log(np.maximum(_at_truth(probs, truth), SMALLEST))


def brier(probs: Floats, truth: Ints) -> Floats:
    """sum_k (p_k - [k = truth])^2, between 0 and 2, shape [N] (Brier 1950, the multi-category form)."""
    at_truth = _at_truth(probs, truth)
    return (probs**2).sum(axis=1) - 2 * at_truth + 1


def chance_centred(values: Floats, n_options: Ints) -> Floats:
    """(accuracy - 1/K) / (1 - 1/K) row by row, so that scenes of different K can be averaged: 0 is chance, 1 perfect.

    A mean over rows weighs every K by its number of rows. One option leaves nothing to choose: 0 for K = 1.
    """
    chance = 1 / n_options
    return np.where(n_options > 1, (values - chance) / np.where(n_options > 1, 1 - chance, 1), 0.0)


def _at_truth(values: Floats, truth: Ints) -> Floats:
    return np.take_along_axis(values, truth[:, None], axis=1)[:, 0]


# One value per scene


def per_scene(values: Floats, scene: Ints, n_scenes: int) -> Floats:
    """Permutation average: the mean of a scene's variants, ignoring NaN, shape [S]; NaN where no variant is scored.

    Over all K cyclic shifts the truth stands in every slot once, so a model that only knows slots gets exactly 1/K.
    """
    seen = np.isfinite(values)
    total = np.bincount(scene[seen], weights=values[seen], minlength=n_scenes)
    count = np.bincount(scene[seen], minlength=n_scenes)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def charge_failures(values: Floats, scene: Ints, n_scenes: int, price: Floats) -> Floats:
    """Replaces NaN rows by what a failure costs, shape [N]: the larger of `price` (the row's chance loss) and the
    model's own mean over the scenes that it scored, so that failing on hard scenes never pays.

    For log-loss `price` is ln K. Where nothing is scored, every row costs `price`.
    """
    by_scene = per_scene(values, scene, n_scenes)
    own = float(np.nanmean(by_scene)) if np.isfinite(by_scene).any() else -np.inf
    return np.where(np.isfinite(values), values, np.maximum(price, own))


# Intervals


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval; `low` and `high` are None below two clusters, where nothing can be said."""

    value: float
    low: float | None
    high: float | None


def interval(values: Floats, clusters: Ints, *, seed: int, draws: int = 2000, level: float = 0.95) -> Interval:
    """The mean over scenes with a user-clustered interval. `values` float [S], `clusters` int [S] in 0..G-1.

    At 100 clusters or more: percentile bootstrap that draws whole users with replacement and recomputes
    sum(values) / number of scenes. Below: mean +- t(G-1) * `cluster_error`, because few clusters make the percentile
    bootstrap too narrow (Cameron, Gelbach & Miller 2008, doi:10.1162/rest.90.3.414).
    """
    mean = float(values.mean())
    sums, counts = _cluster_sums(values, clusters)
    if len(counts) < 2:
        return Interval(mean, None, None)
    if len(counts) < SMALL_SAMPLE:
        from scipy.stats import t

        reach = float(t.ppf((1 + level) / 2, len(counts) - 1)) * cluster_error(values, clusters)
        return Interval(mean, mean - reach, mean + reach)
    rng = np.random.default_rng(seed)
    means = np.empty(draws)
    for start in range(0, draws, 100):  # in blocks, so that memory stays at 100 x G
        drawn = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=min(100, draws - start))
        means[start : start + len(drawn)] = (drawn @ sums) / (drawn @ counts)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high))


def cluster_error(values: Floats, clusters: Ints) -> float:
    """Standard error of the mean with dependent scenes inside a user:
    sqrt(G/(G-1) * sum_g (sum_g - mean * n_g)^2) / S (Liang & Zeger 1986; arXiv 2411.00640 section 2.2).
    Infinite below two clusters."""
    sums, counts = _cluster_sums(values, clusters)
    groups = len(counts)
    if groups < 2:
        return float("inf")
    residuals = sums - values.mean() * counts
    return float(np.sqrt(groups / (groups - 1) * (residuals**2).sum()) / counts.sum())


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


def _cluster_sums(values: Floats, clusters: Ints) -> tuple[Floats, Floats]:
    """Sum and number of values per cluster, for the clusters that occur."""
    _, index = np.unique(clusters, return_inverse=True)
    return np.bincount(index, weights=values).astype(np.float64), np.bincount(index).astype(np.float64)


# Position


def slot_shares(chosen: Floats, n_options: Ints) -> dict[str, list[float]]:
    """Per K, the share of choices that fall on each slot, from `choices(...)` rows in random order; failures left out.

    Far from 1/K it says that the model looks at the slot. A K with no scored row is left out. Keys are K as text,
    as JSON has them.
    """
    seen = scored(chosen)
    return {
        str(size): chosen[seen & (n_options == size), :size].mean(axis=0).tolist()
        for size in np.unique(n_options[seen])
    }


def by_item(values: Floats, ranks: Ints) -> Floats:
    """Moves columns from slots to items: out[i, ranks[i, j]] = values[i, j]. `ranks` [N, W] is a permutation per row
    that numbers a scene's items alike in all of its variants."""
    moved = np.empty_like(values)
    np.put_along_axis(moved, ranks, values, axis=1)
    return moved


def flip_rate(chosen: Floats, scene: Ints, random_order: Bools, n_scenes: int) -> float | None:
    """How often the item chosen in the random order is not the item chosen in a shifted order, averaged over a scene's
    shifts, then over scenes: mean_s (1 - sum_k r_sk * mean_v c_svk).

    `chosen` [N, W] is `by_item(choices(...))`. Ties count as independent draws, so a uniform model flips 1 - 1/K.
    None where no scene has both orders scored.
    """
    seen = scored(chosen)
    in_random, in_shifts = (
        np.stack(
            [per_scene(np.where(seen & rows, column, np.nan), scene, n_scenes) for column in chosen.T],
            axis=1,
        )
        for rows in (random_order, ~random_order)
    )
    kept = 1 - (in_random * in_shifts).sum(axis=1)
    return float(np.nanmean(kept)) if np.isfinite(kept).any() else None


# Baselines, as probabilities over a scene's options


def chance(n_options: Ints) -> Floats:
    """1/K for every option, shape [N, max K]."""
    inside = np.arange(int(n_options.max(initial=1))) < n_options[:, None]
    return inside / n_options[:, None]


def popularity(asof_counts: Sequence[Sequence[int]], n_options: Ints) -> Floats:
    """(count + 1) / sum(count + 1), with each option's number of interactions before the scene, shape [N, max K].
    The +1 keeps an option that nobody took yet possible; equal counts give chance."""
    padded = np.zeros((len(asof_counts), int(n_options.max(initial=1))))
    for index, counts in enumerate(asof_counts):
        padded[index, : len(counts)] = np.asarray(counts, dtype=np.float64) + 1
    return padded / padded.sum(axis=1, keepdims=True)


def position_only(truth: Ints, n_options: Ints, fit: Bools) -> Floats:
    """Per K, the share of truths in each slot with +1 smoothing, (n_slot + 1) / (n + K), as every row's probabilities,
    shape [N, max K]; a K without rows to fit on gets chance.

    Fitted on the rows `fit`. Scored on those same rows it is an upper bound of what the slot alone gives, above chance
    by luck even on fair rows; scored over all cyclic shifts it is at chance whatever it has learned.
    """
    shares = np.zeros((len(truth), int(n_options.max(initial=1))))
    for size in np.unique(n_options):
        rows = n_options == size
        known = truth[rows & fit]
        shares[rows, :size] = (np.bincount(known, minlength=size)[:size] + 1) / (len(known) + size)
    return shares
