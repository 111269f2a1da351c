"""The same scores on parts of a benchmark: groups of scenes, and twins of scenes that were asked otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from hf_mirror import metrics
from hf_mirror.alignment.table import Row, Table, is_headline

Scores = Mapping[str, metrics.Floats]
SHOWN = ("accuracy", "log_loss")
LEAST_USERS = 10  # of a group that may be called the worst
DRAWS = 1_999  # of a twin's sign-flip test: p in steps of 0.0005


def groups(table: Table, values: Scores, seed: int) -> dict[str, dict[str, dict[str, Any]]]:
    """Accuracy and log-loss of every group of every dimension that rows name, with user-clustered intervals."""
    members: dict[str, dict[str, list[int]]] = {}
    for scene, row in enumerate(table.first):
        for dimension, group in (row.get("groups") or {}).items():
            if group is not None:
                members.setdefault(dimension, {}).setdefault(str(group), []).append(scene)
    return {
        dimension: {
            group: _part({name: values[name][scenes] for name in SHOWN}, table.users[scenes], seed)
            for group, scenes in sorted(of.items())
        }
        for dimension, of in sorted(members.items())
    }


def worst_groups(by_group: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Per dimension the group of lowest accuracy, and how far the best one is from it, among groups of 10 users or
    more: the lowest of many small ones is low by luck. A dimension with fewer than two such groups is left out."""
    found = {}
    for dimension, of in by_group.items():
        means = {group: each["accuracy"]["value"] for group, each in of.items() if each["n_clusters"] >= LEAST_USERS}
        if len(means) > 1:
            found[dimension] = metrics.worst_group(means)
    return found


def twins(
    table: Table, probs: metrics.Floats, rows: Sequence[tuple[Row, Sequence[float] | None]], seed: int
) -> dict[str, dict[str, Any]]:
    """Per other variant in the random order: how its scores differ from those of the same scene asked in full, twin
    less own, over the scenes where both are scored, user-clustered. `p_value`: sign-flip test of the log-loss.

    A history that matters makes a swapped one's log-loss difference positive. A variant without such a scene is left
    out.
    """
    own = _by_scene(table.scene[table.random], probs[table.random], table.truth[table.random], table.n_scenes)
    number = {scene: index for index, scene in enumerate(table.ids)}
    others: dict[str, list[tuple[Row, Sequence[float] | None]]] = {}
    for row, answer in rows:
        if not is_headline(row) and row["variant"]["order"] == "random" and row["scene_id"] in number:
            others.setdefault(row["variant_id"], []).append((row, answer))
    found = {}
    for variant, pairs in sorted(others.items()):
        scene = np.array([number[row["scene_id"]] for row, _ in pairs])
        asked = metrics.pad([answer for _, answer in pairs], np.array([len(row["options"]) for row, _ in pairs]))
        twin = _by_scene(scene, asked, np.array([row["gold_index"] for row, _ in pairs]), table.n_scenes)
        differences = {name: twin[name] - own[name] for name in SHOWN}
        both = np.isfinite(differences["log_loss"])
        if both.any():
            users = table.users[both]
            part = _part({name: of[both] for name, of in differences.items()}, users, seed)
            del part["n_clusters"]
            p_value = metrics.sign_flip(differences["log_loss"][both][:, None], users, seed=seed, draws=DRAWS)[0]
            found[variant] = part | {"p_value": float(p_value)}
    return found


def _by_scene(scene: metrics.Ints, probs: metrics.Floats, truth: metrics.Ints, n_scenes: int) -> Scores:
    of_row = {"accuracy": metrics.accuracy(probs, truth), "log_loss": metrics.log_loss(probs, truth)}
    return {name: metrics.per_scene(values, scene, n_scenes) for name, values in of_row.items()}


def _part(values: Scores, users: metrics.Ints, seed: int) -> dict[str, Any]:
    found = metrics.intervals(np.stack(list(values.values()), axis=1), users, seed=seed)
    scores = dict(zip(values, map(asdict, found), strict=True))
    return {"n_scenes": len(users), "n_clusters": len(np.unique(users)), **scores}
