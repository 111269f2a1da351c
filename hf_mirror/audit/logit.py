"""A conditional logit: what options alone say about which of them was chosen, judged on users it has not seen.

Each feature enters as its signed logarithm, which tames counts and days, and as marks for the largest, smallest and
median option of the scene, because a matched set can hide its truth in the middle.
"""

from __future__ import annotations

from collections.abc import Iterable
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
from hf_mirror.conditional_logit import PENALTY, Design, at_truth, curvature, fit, log_probabilities, utility
from hf_mirror.metrics import Bools, Floats, Ints

FOLDS = 5
TIE = 1e-4  # utilities are sums in single precision


def crossfit(choices: Choices, features: Iterable[str], slot: bool = False) -> dict[str, Any]:
    """Accuracy and log-loss of a logit on `features` (and on the slot), every scene scored by a fit on other users.

    Users are in five folds by a hash of their number. A fold's fit is one Newton step from the fit on everybody,
    without the fold's scenes: as good as a fit of its own, for a fifth of the time. Ties share their hit. `weights`
    are the five largest of the fit on everybody, per standard deviation within scenes.
    """
    choices = choices.sample()
    choices = choices.some(np.argsort(fold(choices.cluster), kind="stable"))
    scenes = _scenes(choices, features, slot)
    weights = fit(scenes)
    utilities = _left_out_utility(scenes, weights, np.searchsorted(fold(choices.cluster), range(FOLDS + 1)))
    hits = tied_hits(utilities >= utilities.max(axis=0) - TIE, choices.truth)
    score = share_against_chance(hits, choices.chance, choices.user)
    named = {name: round(float(weight), 3) for name, weight in zip(scenes.names, weights, strict=True)}
    return {
        "scenes": len(hits),
        "accuracy": score["share"],
        "chance": score["chance"],
        "excess": round(float((hits - choices.chance).mean()), 4),
        "standard_error": score["standard_error"],
        "log_loss": round(float(-at_truth(log_probabilities(utilities), scenes).mean()), 4),
        "chance_log_loss": round(float(np.log(choices.n_options).mean()), 4),
        "weights": dict(sorted(named.items(), key=lambda pair: (-abs(pair[1]), pair[0]))[:5]),
    }


def fold(cluster: Ints) -> Ints:
    """0 to FOLDS - 1 per scene, the same for all scenes of a user."""
    return spread(cluster) // 2**32 % FOLDS


def _scenes(choices: Choices, features: Iterable[str], slot: bool) -> Design:
    """The design: every column centred within its scene and scaled to unit variance there."""
    inside = choices.inside
    columns: dict[str, Floats] = {}
    for name in features:
        columns |= _columns(name, choices.feature(name), inside)
    if slot:
        numbers = np.where(inside, np.arange(len(inside))[:, None], np.nan)
        columns |= _columns("slot", numbers, inside)
    return Design.of(columns, inside, choices.truth)[0]


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


def _left_out_utility(scenes: Design, weights: Floats, bounds: Ints) -> Floats:
    """Utilities [max K, n], those of scenes bounds[f] to bounds[f + 1] by the fit without them."""
    utilities = utility(scenes, weights)
    if not len(weights):
        return utilities
    probabilities = np.exp(log_probabilities(utilities))
    folds = [slice(start, end) for start, end in pairwise(bounds)]
    parts = [curvature(scenes.some(at), probabilities[:, at]) for at in folds]
    gradient = sum(part[0] for part in parts) - PENALTY * weights
    hessian = sum(part[1] for part in parts) + PENALTY * np.eye(len(weights))
    for at, (own_gradient, own_hessian) in zip(folds, parts, strict=True):
        step = np.linalg.solve(hessian - own_hessian, gradient - own_gradient)
        utilities[:, at] = utility(scenes.some(at), weights + step)
    return utilities
