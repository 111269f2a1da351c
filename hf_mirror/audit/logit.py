"""A conditional logit: what options alone say about which of them was chosen, judged on users it has not seen.

P(option j | scene) = exp(x_j w) / sum_i exp(x_i w), McFadden 1974 ("Conditional logit analysis of qualitative choice
behavior"), fitted by Newton's method with an L2 penalty. Each feature enters as its signed logarithm, which tames
counts and days, and as marks for the largest, smallest and median option of the scene, because a matched set can hide
its truth in the middle. What is the same for all options of a scene cancels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from hf_mirror.audit.choices import (
    CATEGORICAL,
    Choices,
    marks,
    share_against_chance,
    spread,
    tied_hits,
    varies,
)
from hf_mirror.metrics import Bools, Floats, Ints

FOLDS = 5
PENALTY = 1.0  # on standardised columns, against a sum over scenes: a prior of N(0, 1) per weight
STEPS = 12
TIE = 1e-4  # utilities are sums in single precision
TOLERANCE = 0.05  # the folds' own step squares what is left


@dataclass(frozen=True)
class _Scenes:
    """`x` [columns, max K, n] is zero beyond a scene's options, which `inside` [max K, n] marks; `truth` [n]."""

    names: list[str]
    x: Floats
    inside: Bools
    truth: Ints

    def some(self, at: slice) -> _Scenes:
        return _Scenes(self.names, self.x[:, :, at], self.inside[:, at], self.truth[at])


def crossfit(choices: Choices, features: Iterable[str], slot: bool = False) -> dict[str, Any]:
    """Accuracy and log-loss of a logit on `features` (and on the slot), every scene scored by a fit on other users.

    Users are in five folds by a hash of their number. A fold's fit is one Newton step from the fit on everybody,
    without the fold's scenes: as good as a fit of its own, for a fifth of the time. Ties share their hit. `weights`
    are the five largest of the fit on everybody, per standard deviation within scenes.
    """
    choices = choices.sample()
    choices = choices.some(np.argsort(fold(choices.cluster), kind="stable"))
    scenes = _scenes(choices, features, slot)
    weights = _fit(scenes)
    utility = _left_out_utility(scenes, weights, np.searchsorted(fold(choices.cluster), range(FOLDS + 1)))
    hits = tied_hits(utility >= utility.max(axis=0) - TIE, choices.truth)
    score = share_against_chance(hits, choices.chance, choices.user)
    named = {name: round(float(weight), 3) for name, weight in zip(scenes.names, weights, strict=True)}
    return {
        "scenes": len(hits),
        "accuracy": score["share"],
        "chance": score["chance"],
        "excess": round(float((hits - choices.chance).mean()), 4),
        "standard_error": score["standard_error"],
        "log_loss": round(float(-_truths(_log_probabilities(utility), scenes).mean()), 4),
        "chance_log_loss": round(float(np.log(choices.n_options).mean()), 4),
        "weights": dict(sorted(named.items(), key=lambda pair: (-abs(pair[1]), pair[0]))[:5]),
    }


def fold(cluster: Ints) -> Ints:
    """0 to FOLDS - 1 per scene, the same for all scenes of a user."""
    return spread(cluster) // 2**32 % FOLDS


def _scenes(choices: Choices, features: Iterable[str], slot: bool) -> _Scenes:
    """The design: every column centred within its scene and scaled to unit variance there."""
    inside = choices.inside
    columns: dict[str, Floats] = {}
    for name in features:
        columns |= _columns(name, choices.feature(name), inside)
    if slot:
        numbers = np.where(inside, np.arange(len(inside))[:, None], np.nan)
        columns |= _columns("slot", numbers, inside)
    x = np.zeros((len(columns), *inside.shape), np.float32)
    for row, of in zip(x, columns.values(), strict=True):
        np.copyto(row, of, where=inside)
    x -= (x.sum(axis=1) / choices.n_options.astype(np.float32))[:, None, :]
    x *= inside
    deviation = np.sqrt(np.einsum("ckn,ckn->c", x, x) / np.float32(inside.sum()))
    kept = np.flatnonzero(deviation > 1e-6)
    return _Scenes([list(columns)[i] for i in kept], x[kept] / deviation[kept, None, None], inside, choices.truth)


def _columns(name: str, values: Floats, inside: Bools) -> dict[str, Any]:
    """A feature [max K, n] as columns: one per code, or the value and its marks; and where it is not known, if ever."""
    known = ~np.isnan(values)
    found: dict[str, Any] = {}
    if name in CATEGORICAL:
        found = {f"{name}: {code:g}": values == code for code in np.unique(values[known])}
    elif varies(values):
        logs = np.sign(values) * np.log(1 + np.abs(values))
        found[name] = np.where(known, logs, logs[known].mean())  # what is not known stands at the mean
        found |= {f"{name}: {mark}": marked for mark, marked in marks(values).items()}
    if not (known | ~inside).all():
        found[f"{name}: not known"] = ~known
    return found


def _log_probabilities(utility: Floats) -> Floats:
    shifted = utility - utility.max(axis=0)
    return shifted - np.log(np.exp(shifted).sum(axis=0))


def _truths(values: Floats, scenes: _Scenes) -> Floats:
    return values[scenes.truth, np.arange(len(scenes.truth))]


def _utility(scenes: _Scenes, weights: Floats) -> Floats:
    return np.where(scenes.inside, np.einsum("c,ckn->kn", weights.astype(np.float32), scenes.x), -np.inf)


def _curvature(scenes: _Scenes, probabilities: Floats) -> tuple[Floats, Floats]:
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


def _fit(scenes: _Scenes) -> Floats:
    """The weights that maximise log-likelihood - PENALTY/2 |w|^2, by Newton steps that are halved until they help."""
    weights = np.zeros(len(scenes.names))
    if not len(weights):
        return weights
    logs = _log_probabilities(_utility(scenes, weights))
    value = _truths(logs, scenes).sum()
    for _ in range(STEPS):
        gradient, hessian = _curvature(scenes, np.exp(logs))
        step = np.linalg.solve(hessian + PENALTY * np.eye(len(weights)), gradient - PENALTY * weights)
        for _ in range(STEPS):
            logs = _log_probabilities(_utility(scenes, weights + step))
            new = _truths(logs, scenes).sum() - PENALTY / 2 * ((weights + step) ** 2).sum()
            if new >= value:
                break
            step = step / 2
        weights, value = weights + step, new
        if np.abs(step).max() < TOLERANCE:
            break
    return weights


def _left_out_utility(scenes: _Scenes, weights: Floats, bounds: Ints) -> Floats:
    """Utilities [max K, n], those of scenes bounds[f] to bounds[f + 1] by the fit without them."""
    utility = _utility(scenes, weights)
    if not len(weights):
        return utility
    probabilities = np.exp(_log_probabilities(utility))
    folds = [slice(start, end) for start, end in pairwise(bounds)]
    parts = [_curvature(scenes.some(at), probabilities[:, at]) for at in folds]
    gradient = sum(part[0] for part in parts) - PENALTY * weights
    hessian = sum(part[1] for part in parts) + PENALTY * np.eye(len(weights))
    for at, (own_gradient, own_hessian) in zip(folds, parts, strict=True):
        step = np.linalg.solve(hessian - own_hessian, gradient - own_gradient)
        utility[:, at] = _utility(scenes.some(at), weights + step)
    return utility
