"""Decisions scored, all scenes of one K at a time: correctness, uncertainty, and each scene's best and worst decision.

A decision is correct when its stated choice is the truth and so is the reader's argmax (a tie is not an argmax). All
entropies are divided by log2 K, because scenes of different K are pooled.

Information between decisions is biased low where decisions are few, so roles are compared at equal n: of every scene,
as many usable decisions of either role, by their sample_index, as both have. Hits count all.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hf_mirror import uncertainty
from hf_mirror.distill.decisions import (
    Columns,
    Floats,
    Ints,
    Model,
    merge,
    read_direct,
    read_role,
    read_scenes,
)
from hf_mirror.rationales.notes import check_notes, decisions_digest
from hf_mirror.rationales.shards import ROLES

MINIMUM_DECISIONS = 2
REASONS = (
    "no_rationales",
    "no_teacher_decisions",
    "no_student_decisions",
    "too_few_usable",
    "no_correct_teacher_decision",
    "no_wrong_decision",
    "refused_by_rule",
    "not_selected",
)
KEPT = "kept"
QUANTITIES = ("total_entropy", "within_decision_entropy", "between_decision_information")


@dataclass
class Domain:
    """One domain, scored. `scenes` has one entry per scene; `chosen` and `rejected` index the decisions, -1 for none.

    `outcome` holds, per scene, a reason of REASONS or `kept`.
    """

    folder: Path
    scenes: Columns
    decisions: Columns
    scores: Columns
    outcome: np.ndarray
    writers: dict[str, Model]
    readers: set[Model]
    report: dict[str, Any]


def score_domain(folder: Path, rejected_role: str = "either") -> Domain:
    """Reads, joins and scores everything of one domain folder. Raises DataError where rows do not belong together.

    Decisions of `rejected_role` alone are rejected, or of either role.
    """
    scenes = read_scenes(folder)
    check_notes(folder)
    n_options = scenes["n_options"]
    roles = {role: read_role(folder, role, scenes) for role in ROLES}
    pa.default_memory_pool().release_unused()  # Arrow keeps what the tables took
    decisions = merge([columns for columns, _, _, _ in roles.values()])
    scores: Columns = {"n_options": n_options} | {side: np.full(len(n_options), -1) for side in ("chosen", "rejected")}
    for k in np.unique(n_options).tolist():
        for name, values in _score_group(scenes, decisions, k, rejected_role).items():
            scores.setdefault(name, np.full(len(n_options), np.nan))[n_options == k] = values
    scores["direct_entropy"], direct_readers = read_direct(folder, scenes)
    scores["chosen_ifd"] = np.where(scores["chosen"] >= 0, decisions["ifd"][scores["chosen"]], np.nan)
    report = {
        "made_of": decisions_digest(folder),
        "decisions": {role: losses for role, (_, _, _, losses) in roles.items()},
        "uncertainty": {role: _mean_uncertainty(scores, role) for role in ROLES},
    }
    writers = {role: writer for role, (_, writer, _, _) in roles.items()}
    readers = direct_readers.union(*(found for _, _, found, _ in roles.values()))
    return Domain(folder, scenes, decisions, scores, _outcome(scores), writers, readers, report)


def _score_group(scenes: Columns, decisions: Columns, k: int, rejected_role: str) -> Columns:
    """Scores, and the chosen and rejected decision (-1 for none), of all scenes with K = `k` options."""
    members = np.flatnonzero(scenes["n_options"] == k)
    local = np.full(len(scenes["n_options"]), -1)
    local[members] = np.arange(len(members))
    picked = np.flatnonzero(local[decisions["scene"]] >= 0)
    cell = local[decisions["scene"][picked]] * 2 + decisions["role"][picked]
    n = np.bincount(cell, minlength=2 * len(members))
    slot = np.arange(len(cell)) - (np.cumsum(n) - n)[cell]  # rank of the sample within its scene and role
    shape = (len(members), 2, max(int(n.max(initial=0)), 1))
    place = (cell // 2, cell % 2, slot)
    index = np.full(shape, -1)
    index[place] = picked
    usable = np.zeros(shape, dtype=bool)
    usable[place] = decisions["usable"][picked]
    held = index[usable]
    probs = np.full((*shape, k), np.nan)
    probs[usable] = decisions["values"][decisions["start"][held, None] + np.arange(k)]
    stated = np.where(usable, decisions["stated"][index], -1)
    right = usable & (stated == scenes["truth"][members, None, None])
    correct = right & _argmax_is(probs, scenes["truth"][members])
    rejectable = np.array([rejected_role in (role, "either") for role in ROLES])[:, None]
    choices = _choose(uncertainty.entropy(probs, normalise=True), correct, usable & ~right & rejectable, index)
    compared = usable & (usable.cumsum(axis=-1) <= usable.sum(axis=-1).min(axis=1)[:, None, None])
    if (compared != usable).any():
        probs = np.where(compared[..., None], probs, np.nan)
    return {**choices, **_role_scores(probs, right, usable), **{f"{r}_written": n[i::2] for i, r in enumerate(ROLES)}}


def _argmax_is(probs: Floats, truth: Ints) -> NDArray[np.bool_]:
    """Where the truth alone has the largest probability: [S, R, D, K], [S] → [S, R, D]. False for failed decisions."""
    at = truth[:, None, None, None]
    others = probs.copy()
    np.put_along_axis(others, np.broadcast_to(at, (*probs.shape[:-1], 1)), -1.0, axis=-1)
    return np.take_along_axis(probs, at, axis=-1)[..., 0] > others.max(axis=-1)


def _choose(entropy: Floats, correct: np.ndarray, wrong: np.ndarray, index: Ints) -> Columns:
    """The lowest correct teacher decision and the lowest wrong one; ties: teacher first, then sample_index."""
    n = len(index)
    found: Columns = {}
    for name, allowed in (("chosen", correct[:, :1]), ("rejected", wrong)):
        cost = np.where(allowed, entropy[:, : allowed.shape[1]].round(9), np.inf).reshape(n, -1)
        best = cost.argmin(axis=1)
        lowest = cost[np.arange(n), best]
        found[name] = np.where(np.isfinite(lowest), index.reshape(n, -1)[np.arange(n), best], -1)
        found[f"{name}_entropy"] = np.where(np.isfinite(lowest), lowest, np.nan)
    return found


def _role_scores(probs: Floats, right: np.ndarray, usable: np.ndarray) -> Columns:
    """Per role: the decomposition of `probs` and its jackknife; hits (usable decisions that state the truth) and their
    rate."""
    parts = uncertainty.decompose(probs, normalise=True)
    information = uncertainty.jackknife_information(probs, normalise=True)
    scores: Columns = {}
    for i, role in enumerate(ROLES):
        used, hits = usable[:, i].sum(axis=-1), right[:, i].sum(axis=-1)
        scores |= {f"{role}_{name}": getattr(parts, name)[:, i] for name in QUANTITIES}
        scores |= {f"{role}_jackknife_information": information[:, i], f"{role}_used": used, f"{role}_hits": hits}
        scores[f"{role}_hit_rate"] = np.divide(hits, used, where=used > 0, out=np.full(len(used), np.nan))
    scores["uncertainty_gap"] = scores["student_within_decision_entropy"] - scores["teacher_within_decision_entropy"]
    return scores


def _outcome(scores: Columns) -> np.ndarray:
    """Per scene the first reason against a pair, or `kept`; rule and quotas come later."""
    teacher, student = (scores[f"{role}_written"] > 0 for role in ROLES)
    few = np.minimum(scores["teacher_used"], scores["student_used"]) < MINIMUM_DECISIONS
    tests = [~teacher & ~student, ~teacher, ~student, few, scores["chosen"] < 0, scores["rejected"] < 0]
    return np.select(tests, REASONS[: len(tests)], KEPT).astype("U32")


def _mean_uncertainty(scores: Columns, role: str) -> dict[str, float | int]:
    """Means over the scenes that both roles have at least MINIMUM_DECISIONS usable decisions for."""
    shared = np.minimum(scores["teacher_used"], scores["student_used"]) >= MINIMUM_DECISIONS
    names = (*QUANTITIES, "jackknife_information", "hit_rate", "used")
    means = {name: float(scores[f"{role}_{name}"][shared].mean().round(6)) for name in names if shared.any()}
    return {"scenes": int(shared.sum()), **means}
