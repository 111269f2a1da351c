"""Test scenes as they are and with the histories of their twins, so that a recommender is asked what a model is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hf_mirror.baselines.feedback import Asked, Log, chosen
from hf_mirror.bench import donors_of, scenes_of, subsets_of
from hf_mirror.bench.donors import NEAREST, RANDOM


def with_twins(folder: Path, log: Log, seed: int) -> Asked:
    """The scenes of all subsets of a domain, each also without history and with those of its donors; `seed` is the
    benchmark's. Their ids are those of `key_of`."""
    parts = []
    for subset in subsets_of(folder):
        asked = Asked.of(folder, subset.scenes, log)
        scenes = scenes_of(subset)[0]
        donors = donors_of(subset, scenes, seed)
        ids = [scene["scene_id"] for scene in scenes]
        histories: dict[str, dict[str, list[int]]] = {
            "own": dict(zip(asked.ids, asked.history, strict=True)),
            "none": {one: [] for one in ids},
        }
        for kind, found in ((RANDOM, donors.random), (NEAREST, donors.nearest)):
            given = zip(ids, found, strict=True)
            histories[kind] = {one: chosen(donor["history"], log) for one, donor in given if donor is not None}
        for kind, of in histories.items():
            some = asked.some([row for row, one in enumerate(asked.ids) if one in of])
            keys = [f"{subset.name} {one} {kind}" for one in some.ids]
            parts.append(replace(some, ids=keys, history=[of[one] for one in some.ids]))
    return Asked.joined(parts)


def key_of(subset: str, row: Mapping[str, Any]) -> str:
    """Which of them a benchmark row asks about."""
    variant = row["variant"]
    return f"{subset} {row['scene_id']} {variant['donor'] or variant['history']}"
