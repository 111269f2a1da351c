"""Twins of a scene: the same options in the same order, with another history, or with less said of its items.

Each is asked once, in the random order, and pairs with the scene's own row in that order; in every order they would
multiply what an evaluation costs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hf_mirror.bench.disguise import Disguise, titles_masked
from hf_mirror.bench.donors import NEAREST, RANDOM
from hf_mirror.rendering import Renderer

OWN: dict[str, str | None] = {"history": "own", "donor": None, "profile": "own", "text": "full"}


@dataclass(frozen=True)
class Twin:
    """A scene as one variant tells it. `variant` is that of a benchmark row without its order; `attributes` are what
    is told of items, None for all that is known."""

    name: str
    variant: Mapping[str, str | None]
    scene: Mapping[str, Any]
    attributes: Mapping[str, Any] | None = None


def twins(
    scene: Mapping[str, Any],
    donors: Mapping[str, Mapping[str, Any] | None],
    renderer: Renderer,
    ids_alone: Disguise,
) -> Iterator[Twin]:
    """All twins of a scene: without history; with those of its `donors` (by RANDOM and NEAREST; None: no twin), and
    with the profile of the random one, too, where either has one; with titles hidden; with ids alone."""
    yield Twin("none-full", OWN | {"history": "none"}, {**scene, "history": []})
    for kind in (RANDOM, NEAREST):
        if (donor := donors[kind]) is not None:
            variant = OWN | {"history": "swapped", "donor": kind}
            swapped = {**scene, "history": moved(donor, scene)}
            yield Twin(f"swapped:{kind}-full", variant, swapped)
            if kind == RANDOM and (renderer.profile(scene["user_id"]) or renderer.profile(donor["user_id"])):
                other = {**swapped, "user_id": donor["user_id"]}
                yield Twin(f"swapped:{kind}+profile-full", variant | {"profile": "swapped"}, other)
    known = {entry["item_id"]: renderer.item(entry["item_id"]) for entry in [*scene["history"], *scene["exposure"]]}
    for text, disguise in (("titles_masked", titles_masked), ("ids", ids_alone)):
        yield Twin(f"own-{text}", OWN | {"text": text}, *disguise(scene, known))


def moved(donor: Mapping[str, Any], scene: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The donor's history as if its scene had come when this one did: as long before it as it really was."""
    shift = scene["timestamp"] - donor["timestamp"]
    return [
        past | {"timestamp": None if past["timestamp"] is None else past["timestamp"] + shift}
        for past in donor["history"]
    ]
