"""From probability rows to one value per row, and from rows to one value per scene."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

TIE = 1e-9  # probabilities this close to the largest are ties: padding and batching shift float32 sums by less
SMALLEST = np.finfo(np.float64).tiny  # an exact zero would cost infinity; this costs 708 nats


# Rows


def pad(rows: Sequence[Sequence[float] | Floats | None], n_options: Ints) -> Floats:
    """Ragged probability rows as [N, max K], zero beyond K; a row that is no distribution over K options becomes NaN.

    No distribution: None, the wrong number of entries, a value that is not finite or below 0, a sum off 1 by > 1e-3.
    """
    padded = np.full((len(rows), int(n_options.max(initial=1))), np.nan)
    for size in np.unique(n_options):
        of_size = [index for index in np.flatnonzero(n_options == size).tolist() if _length(rows[index]) == size]
        values = np.array([rows[index] for index in of_size], dtype=np.float64).reshape(-1, size)
        fits = np.all(np.isfinite(values) & (values >= 0), axis=1)
        fits &= np.abs(np.where(fits[:, None], values, 0).sum(axis=1) - 1) <= 1e-3
        kept = np.array(of_size, dtype=np.int64)[fits]
        padded[kept] = 0
        padded[kept, :size] = values[fits]
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


def _length(row: Sequence[float] | Floats | None) -> int:
    return 0 if row is None else len(row)


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
