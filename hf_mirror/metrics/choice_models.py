"""Choice models that know nothing of the user, as probabilities over a scene's options, and how far one is beaten."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hf_mirror.metrics.rows import Bools, Floats, Ints


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


def mcfadden_r2(losses: Floats, null_losses: Floats) -> Floats:
    """McFadden's pseudo R2 = 1 - sum(losses) / sum(null_losses) as values [S] whose mean it is, for an interval.

    Scene s gets R2 + ((1 - R2) * null_s - loss_s) / mean(null), the linearised ratio, so that the spread of the values
    is that of R2 (McFadden 1974; the delta method for a ratio). 0: no better than the null model; 1: certain of every
    truth; below 0: worse. All NaN where the null model loses nothing, as with one option a scene.
    """
    null = null_losses.mean()
    if null <= 0:
        return np.full(losses.shape, np.nan)
    r2 = 1 - losses.mean() / null
    return np.asarray(r2 + ((1 - r2) * null_losses - losses) / null)
