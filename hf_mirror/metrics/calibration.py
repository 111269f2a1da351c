"""Whether probabilities mean what they say: over scenes of one K, one row of probabilities per scene.

Options have no fixed classes, so that class-wise means: every option of every scene, its probability against whether it
is the truth. What comes here is `by_item` and averaged over a scene's orders; a slot is a class of its own otherwise.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hf_mirror.metrics.rows import Floats, Ints, accuracy

BINS = 15
IN_BIN = 20  # scenes or options at least; with fewer, fewer bins


def equal_mass_bins(values: Floats) -> Ints:
    """Which of up to 15 quantile bins a value lies in, from 0 on, shape [n]. Equal values share a bin, so that bins are
    equally full only where values differ; all equal: one bin."""
    values = values.round(9)
    count = min(BINS, max(1, len(values) // IN_BIN))
    edges = np.quantile(values, np.arange(1, count) / count)
    return np.unique(np.searchsorted(edges, values, side="right"), return_inverse=True)[1].astype(np.int64)


def calibration_error(confidence: Floats, outcome: Floats, clusters: Ints) -> float | None:
    """Debiased expected calibration error of `confidence` [n] against `outcome` [n] (1 where it came true), as a root
    mean square over equal-mass bins: sqrt(max(0, sum_b n_b/n * ((p_b - y_b)^2 - v_b))).

    v_b is the variance of the bin's mean outcome y_b, which the plug-in error counts as miscalibration:
    y_b (1 - y_b) / (n_b - 1) where all outcomes are independent (Kumar et al., arXiv 1909.10155; Roelofs et al., arXiv
    2012.08668), here with `clusters`, users, drawn whole: G/(G-1) sum_g (sum_g (y - y_b))^2 / n_b^2. A bin of one
    cluster is left uncorrected. 0 where nothing beyond noise is left; None below two clusters.
    """
    _, clusters = np.unique(clusters, return_inverse=True)
    groups = int(clusters.max(initial=0)) + 1
    if groups < 2:
        return None
    bins = equal_mass_bins(confidence)
    counts = np.bincount(bins)
    gaps = np.bincount(bins, weights=confidence - outcome) / counts
    residuals = outcome - (np.bincount(bins, weights=outcome) / counts)[bins]
    pairs, index = np.unique(bins * groups + clusters, return_inverse=True)
    squares = np.bincount(index, weights=residuals) ** 2
    inside = np.bincount(pairs // groups)  # clusters of a bin
    noise = np.bincount(pairs // groups, weights=squares) * inside / np.maximum(inside - 1, 1) / counts**2
    noise = np.where(inside > 1, noise, 0)
    return float(np.sqrt(max(0.0, (counts / counts.sum() * (gaps**2 - noise)).sum())))


def ece_top_label(probs: Floats, truth: Ints, clusters: Ints) -> float | None:
    """`calibration_error` of the largest probability against whether that option is the truth (1/|ties| where it is
    shared). `probs` [S, K], `truth` and `clusters` [S]. None below two clusters."""
    return calibration_error(probs.max(axis=1), accuracy(probs, truth), clusters)


def ece_class_wise(probs: Floats, truth: Ints, clusters: Ints) -> float | None:
    """`calibration_error` of all S x K probabilities against whether that option is the truth; options of one scene are
    in one cluster (class-wise as in Kull et al. 2019, arXiv 1910.12656, with options for classes)."""
    confidence, outcome = _each_option(probs, truth)
    return calibration_error(confidence, outcome, np.repeat(clusters, probs.shape[1]))


def reliability_bins(probs: Floats, truth: Ints) -> list[dict[str, Any]]:
    """What a reliability diagram draws: per equal-mass bin of the largest probability its mean, the accuracy, and the
    number of scenes."""
    confidence, outcome = probs.max(axis=1), accuracy(probs, truth)
    bins = equal_mass_bins(confidence)
    counts = np.bincount(bins)
    means = (np.bincount(bins, weights=of) / counts for of in (confidence, outcome))
    return [
        {"confidence": float(p), "accuracy": float(y), "scenes": int(n)} for p, y, n in zip(*means, counts, strict=True)
    ]


def brier_decomposition(probs: Floats, truth: Ints) -> dict[str, float]:
    """reliability - resolution + uncertainty = the mean Brier score of `probs` [S, K], exactly.

    Over equal-mass bins of all S x K options, times K: reliability = sum_b w_b (p_b - y_b)^2, uncertainty = y (1 - y)
    with y = 1/K, so 1 - 1/K (Murphy 1973), and resolution = sum_b w_b (y_b - y)^2 less the variance of p inside bins
    plus twice its covariance with y there (Stephenson et al. 2008, doi:10.1175/2007WAF2006116.1), without which the
    sum holds for binned probabilities only. A uniform model: 0, 0 and 1 - 1/K.
    """
    size = probs.shape[1]
    p, y = _each_option(probs, truth)
    bins = equal_mass_bins(p)
    counts = np.bincount(bins)
    p_bin, y_bin = (np.bincount(bins, weights=of) / counts for of in (p, y))
    inside, outcome = p - p_bin[bins], y - y_bin[bins]
    weights, base = counts / counts.sum(), float(y.mean())
    between = float((weights * (y_bin - base) ** 2).sum())
    within = float((2 * inside * outcome - inside**2).mean())
    return {
        "reliability": size * float((weights * (p_bin - y_bin) ** 2).sum()),
        "resolution": size * (between + within),
        "uncertainty": size * base * (1 - base),
    }


def _each_option(probs: Floats, truth: Ints) -> tuple[Floats, Floats]:
    """All S x K probabilities, and 1 where the option is the truth."""
    outcome = np.zeros(probs.shape)
    outcome[np.arange(len(truth)), truth] = 1
    return probs.ravel(), outcome.ravel()
