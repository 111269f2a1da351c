"""Entropies of choice distributions and their exact decomposition over decisions: plain, vectorised functions.

`probs` has shape [..., D, K]: D decisions (thoughts written for one scene by one role), each read as a distribution
over the same K options. A decision that failed (not parsed, not read) is a row of NaN: it is left out of every mean
and counted by `used_decisions`; a scene without any used decision gives NaN. Entropies are in bits; with
`normalise=True` they are divided by log2 K, so that 1 is a uniform choice and different K can be pooled.

With X the scene, D a decision and Y the choice:

    total_entropy                 H(Y|X)      = H(mean over decisions of P(Y|X,D))
    between_decision_information  I(Y;D|X)    = total - within    Hou et al. and Mirroring Users call it *aleatoric*
    within_decision_entropy       E_D H(Y|X,D)                    they call it *epistemic*

so that total = between + within. Ensembles and Bayesian networks use the two words the other way round (there the
information between members is epistemic), hence the neutral names. `direct_entropy` = H(P(Y|X)), read without any
thought, is another quantity: it is `entropy` of one direct reading, and not a part of this sum.

Sources: Hou et al., Decomposing Uncertainty for Large Language Models through Input Clarification Ensembling, ICML
2024 (https://arxiv.org/abs/2311.08718); Mirroring Users (https://arxiv.org/abs/2508.18142).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Decomposition:
    """The three quantities of one role, arrays of shape [...], and how many decisions they stand on."""

    total_entropy: Floats
    between_decision_information: Floats
    within_decision_entropy: Floats
    used_decisions: NDArray[np.int64]


def entropy(probs: ArrayLike, *, normalise: bool = False) -> Floats:
    """H(p) = -sum p log2 p over the last axis, with 0 log 0 = 0: [..., K] → [...], in bits.

    NaN where any probability is NaN. K = 1 gives 0, normalised or not. Of a direct reading P(Y|X) this is
    `direct_entropy`.
    """
    p = np.asarray(probs, dtype=np.float64)
    logs = np.log2(p, where=p != 0, out=np.zeros_like(p))
    bits = -(p * logs).sum(axis=-1) + 0.0
    return bits / _unit(p.shape[-1]) if normalise else bits


def used_decisions(probs: ArrayLike) -> NDArray[np.int64]:
    """How many of the D decisions are free of NaN: [..., D, K] → [...]."""
    return _used(np.asarray(probs, dtype=np.float64)).sum(axis=-1)


def mean_choice(probs: ArrayLike) -> Floats:
    """P(Y|X), the mean over the used decisions: [..., D, K] → [..., K]; NaN where no decision is used."""
    p = np.asarray(probs, dtype=np.float64)
    used = _used(p)
    return _ratio(np.where(used[..., None], p, 0.0).sum(axis=-2), used.sum(axis=-1)[..., None])


def total_entropy(probs: ArrayLike, *, normalise: bool = False) -> Floats:
    """H(Y|X) = H(mean over decisions): [..., D, K] → [...]. Between 0 and log2 K."""
    return entropy(mean_choice(probs), normalise=normalise)


def within_decision_entropy(probs: ArrayLike, *, normalise: bool = False) -> Floats:
    """E_D H(Y|X,D), the mean entropy of single decisions: [..., D, K] → [...]. Between 0 and the total.

    Hou et al. and Mirroring Users: *epistemic*; in ensemble usage: aleatoric. A plain mean, so unbiased at any D.
    """
    p = np.asarray(probs, dtype=np.float64)
    used = _used(p)
    sums = np.where(used, entropy(p, normalise=normalise), 0.0).sum(axis=-1)
    return _ratio(sums, used.sum(axis=-1))


def between_decision_information(probs: ArrayLike, *, normalise: bool = False) -> Floats:
    """I(Y;D|X) = total - within, how much the choice depends on which thought was had: [..., D, K] → [...], ≥ 0.

    Hou et al. and Mirroring Users: *aleatoric*; in ensemble usage: epistemic. One decision gives 0. The plug-in value
    is biased low for few decisions: compare roles at equal D, or take `jackknife_information`.
    """
    return decompose(probs, normalise=normalise).between_decision_information


def decompose(probs: ArrayLike, *, normalise: bool = False) -> Decomposition:
    """All three quantities at once: [..., D, K] → arrays [...]. total = between + within, to rounding.

    Concavity makes between ≥ 0; only rounding can take it below, and that is cut off.
    """
    total = total_entropy(probs, normalise=normalise)
    within = within_decision_entropy(probs, normalise=normalise)
    return Decomposition(total, np.maximum(total - within, 0.0), within, used_decisions(probs))


def jackknife_information(probs: ArrayLike, *, normalise: bool = False) -> Floats:
    """Bias-reduced I(Y;D|X) = n I - (n - 1) mean_i I without decision i: [..., D, K] → [...].

    Removes the 1/n part of the plug-in bias (Quenouille 1956; Efron & Stein 1981); may fall slightly below 0, and is
    not cut there so that averages stay unbiased. NaN for fewer than two used decisions.
    """
    p = np.asarray(probs, dtype=np.float64)
    used = _used(p)
    n = used.sum(axis=-1)[..., None]
    filled = np.where(used[..., None], p, 0.0)
    single = np.where(used, entropy(p), 0.0)
    rest = np.maximum(n - 1, 0)
    others = np.maximum(filled.sum(axis=-2, keepdims=True) - filled, 0.0)  # rounding may leave -1e-17
    total = entropy(_ratio(others, rest[..., None]))
    without = total - _ratio(single.sum(axis=-1, keepdims=True) - single, rest)
    mean_without = _ratio(np.where(used, without, 0.0).sum(axis=-1), n[..., 0])
    plug_in = total_entropy(p) - within_decision_entropy(p)
    bits = n[..., 0] * plug_in - rest[..., 0] * mean_without
    return bits / _unit(p.shape[-1]) if normalise else bits


def _used(p: Floats) -> NDArray[np.bool_]:
    return np.asarray(~np.isnan(p).any(axis=-1))


def _unit(n_options: int) -> float:
    return float(np.log2(n_options)) if n_options > 1 else 1.0


def _ratio(sums: Floats, n: NDArray[np.int64]) -> Floats:
    """sums / n, NaN where n is 0."""
    shape = np.broadcast_shapes(sums.shape, n.shape)
    return np.divide(sums, n, where=np.broadcast_to(n > 0, shape), out=np.full(shape, np.nan))
