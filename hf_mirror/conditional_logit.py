"""A conditional logit: P(option j | scene) = exp(x_j w) / sum_i exp(x_i w), by Newton's method with an L2 penalty.

McFadden 1974, "Conditional logit analysis of qualitative choice behavior". What is the same for all options of a scene
cancels. Scenes run along the last axis.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hf_mirror.metrics import Bools, Floats, Ints

PENALTY = 1.0  # on standardised columns, against a sum over scenes: a prior of N(0, 1) per weight
STEPS = 12
TOLERANCE = 0.05  # of a weight: the next step would square what is left


@dataclass(frozen=True)
class Design:
    """`x` [columns, max K, n] is zero beyond a scene's options, which `inside` [max K, n] marks; `truth` [n]."""

    names: list[str]
    x: Floats
    inside: Bools
    truth: Ints

    @staticmethod
    def of(columns: Mapping[str, Floats], inside: Bools, truth: Ints) -> tuple[Design, Floats]:
        """Columns [max K, n] centred within each scene and scaled to unit variance there, and their scales. Those that
        never vary are left out, with a scale of none."""
        x = np.zeros((len(columns), *inside.shape), np.float32)
        for row, of in zip(x, columns.values(), strict=True):
            np.copyto(row, of, where=inside)
        x -= (x.sum(axis=1) / inside.sum(axis=0).astype(np.float32))[:, None, :]
        x *= inside
        scale = np.sqrt(np.einsum("ckn,ckn->c", x, x) / np.float32(inside.sum()))
        kept = np.flatnonzero(scale > 1e-6)
        return Design([list(columns)[i] for i in kept], x[kept] / scale[kept, None, None], inside, truth), scale[kept]

    def some(self, at: slice) -> Design:
        """The scenes of a slice."""
        return Design(self.names, self.x[:, :, at], self.inside[:, at], self.truth[at])


def log_probabilities(utilities: Floats) -> Floats:
    """ln P of every option [max K, n]; minus infinity beyond a scene's own."""
    shifted = utilities - utilities.max(axis=0)
    return shifted - np.log(np.exp(shifted).sum(axis=0))


def at_truth(values: Floats, scenes: Design) -> Floats:
    """What each scene's truth has of `values` [max K, n]."""
    return values[scenes.truth, np.arange(len(scenes.truth))]


def utility(scenes: Design, weights: Floats) -> Floats:
    """x w for every option [max K, n]; minus infinity beyond a scene's own."""
    return np.where(scenes.inside, np.einsum("c,ckn->kn", weights.astype(np.float32), scenes.x), -np.inf)


def curvature(scenes: Design, probabilities: Floats) -> tuple[Floats, Floats]:
    """Gradient [columns] and negative Hessian of the log-likelihood of some scenes."""
    expected = scenes.x * probabilities
    per_scene = expected.sum(axis=1)
    columns = len(scenes.x)
    gradient = scenes.x[:, scenes.truth, np.arange(len(scenes.truth))].sum(axis=1) - per_scene.sum(axis=1)
    flat = (expected.reshape(columns, -1), scenes.x.reshape(columns, -1))
    return gradient, _times_transposed(*flat) - _times_transposed(per_scene, per_scene)


def _times_transposed(one: Floats, two: Floats) -> Floats:
    """one @ two.T for two wide arrays, in blocks that BLAS leaves to one thread (OpenBLAS: up to 2**18 products).

    Several threads wait for each other, and on a busy machine that turns milliseconds into seconds.
    """
    width = max(2**18 // len(one) ** 2, 1)
    total = np.zeros((len(one), len(two)))
    for i in range(0, one.shape[1], width):
        total += one[:, i : i + width] @ two[:, i : i + width].T
    return total


def fit(scenes: Design) -> Floats:
    """The weights that maximise log-likelihood - PENALTY/2 |w|^2, by Newton steps that are halved until they help."""
    weights = np.zeros(len(scenes.names))
    if not len(weights):
        return weights
    logs = log_probabilities(utility(scenes, weights))
    value = at_truth(logs, scenes).sum()
    for _ in range(STEPS):
        gradient, hessian = curvature(scenes, np.exp(logs))
        step = np.linalg.solve(hessian + PENALTY * np.eye(len(weights)), gradient - PENALTY * weights)
        for _ in range(STEPS):
            logs = log_probabilities(utility(scenes, weights + step))
            new = at_truth(logs, scenes).sum() - PENALTY / 2 * ((weights + step) ** 2).sum()
            if new >= value:
                break
            step = step / 2
        weights, value = weights + step, new
        if np.abs(step).max() < TOLERANCE:
            break
    return weights
