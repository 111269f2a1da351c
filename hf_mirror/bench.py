"""Test scenes become benchmark rows: the same choice asked in many orders of its options.

A scene gives one row per variant: all K cyclic shifts of its options for K ≤ 12 (five seeded ones above), so that over
the shifts the truth stands in each slot exactly once, and one seeded random order for the position statistics. Variants
of a scene share its `scene_id` and are one cluster, not more samples. Users and items appear as hashes: enough for
clustered intervals and baselines. Every row here has the user's own history and full texts.

Source: permutation over option orders as in Zheng et al., https://arxiv.org/abs/2309.03882.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from hf_mirror.errors import DataError
from hf_mirror.files import read_rows, write_json, write_rows
from hf_mirror.identity import Draws, digest
from hf_mirror.prompts import LABELS, Messages, direct_messages
from hf_mirror.rationales import domain_folders
from hf_mirror.rendering import Renderer

ALL_SHIFTS_UP_TO = 12
SHIFTS_ABOVE = 5
POWERED_USERS = 200
GAPS = ("first", "<1h", "1h-1d", ">=1d")

logger = logging.getLogger(__name__)


def bench(directory: Path, *, seed: int = 0) -> dict[str, Any]:
    """Writes `bench/<domain>.parquet` (schema.BENCH) for every domain of a run, and `bench.json`; returns the latter.

    Rows are in the order of scene_id, then of the variants, whatever the order of the scenes. A domain with fewer than
    200 users is reported, and logged, as underpowered. A scene with more options than there are letters is a counted
    drop. Raises DataError where there is no test scene at all, a scene_id comes twice, or a prompt no longer renders
    as it is stored.
    """
    from hf_mirror.schema import BENCH

    built: dict[str, list[dict[str, Any]]] = {}
    counts: dict[str, dict[str, Any]] = {}
    for folder in domain_folders(directory):
        found = _test_scenes(folder)
        scenes = [scene for scene in found if len(scene["exposure"]) <= len(LABELS)]
        renderer = Renderer.of_run(folder)
        built[folder.name] = [row for scene in scenes for row in rows(scene, _render(renderer, scene, folder), seed)]
        dropped = {"more_options_than_letters": len(found) - len(scenes)} if len(found) > len(scenes) else {}
        counts[folder.name] = {"dropped": dropped} | _counts(scenes, built[folder.name])
        if counts[folder.name]["underpowered"]:
            users = counts[folder.name]["users"]
            logger.warning("%s: %d test users; below %d a score is underpowered", folder.name, users, POWERED_USERS)
    if not any(built.values()):
        raise DataError(
            f"{directory} holds no test scene in any domain; run `mirror build` with more scenes or feedback"
        )
    for name, variants in built.items():
        write_rows(directory / "bench" / f"{name}.parquet", variants, BENCH)
    report = {"seed": seed, "underpowered_below_users": POWERED_USERS, "domains": counts}
    write_json(directory / "bench.json", report)
    return report


def rows(scene: Mapping[str, Any], render: Callable[[Sequence[int]], Messages], seed: int) -> list[dict[str, Any]]:
    """The benchmark rows (schema.BENCH) of one scene (schema.SCENE). `render(order)` writes its prompt, the option of
    old slot `order[j]` standing at slot j."""
    k = len(scene["exposure"])
    if k > len(LABELS):
        raise DataError(f"scene {scene['scene_id']} has {k} options; the benchmark has letters for {len(LABELS)}")
    domain = scene["domain"]
    options = [
        {"item_key": digest("item", domain, shown["item_id"])[:16]} | {n: shown[n] for n in ("asof_count", "source")}
        for shown in scene["exposure"]
    ]
    shared = {
        "scene_id": scene["scene_id"],
        "domain": domain,
        "regime": scene["regime"],
        "user_cluster": digest("user", domain, scene["user_id"])[:16],
        "groups": {"gap": gap_stratum(scene["gap_seconds"])},
        "gap_seconds": scene["gap_seconds"],
        "n_clicked": scene["n_clicked"],
        "choices": list(LABELS[:k]),
    }
    own = {"history": "own", "donor": None, "profile": "own", "text": "full"}
    return [
        shared
        | {
            "variant_id": f"own-full-{name.replace(' ', '')}",
            "variant": own | {"order": name},
            "options": [options[slot] for slot in order],
            "prompt": direct_messages(render(order)),
            "gold_index": order.index(scene["choice_index"]),
        }
        for name, order in orders(scene["scene_id"], k, seed).items()
    ]


def orders(scene_id: str, n_options: int, seed: int) -> dict[str, list[int]]:
    """Name → order of a scene's options: `shift n` puts old slot (j + n) mod K at slot j, `shift 0` changes nothing.

    For K ≤ 12 all shifts, above five of them drawn without replacement; then `random`. Draws depend on the seed and
    the scene_id, which holds no truth.
    """
    key = bytes.fromhex(digest("bench", seed, scene_id))
    shifts = list(range(n_options))
    if n_options > ALL_SHIFTS_UP_TO:
        shifts = sorted(Draws(key, "shifts").shuffled(shifts)[:SHIFTS_ABOVE])
    named = {f"shift {n}": [(j + n) % n_options for j in range(n_options)] for n in shifts}
    return named | {"random": Draws(key, "order").shuffled(range(n_options))}


def gap_stratum(gap_seconds: int | None) -> str:
    """How long after the user's previous event: `<1h`, `1h-1d`, `>=1d`; `first` where there is none known."""
    if gap_seconds is None:
        return GAPS[0]
    return GAPS[1 + (gap_seconds >= 3_600) + (gap_seconds >= 86_400)]


def _test_scenes(folder: Path) -> list[dict[str, Any]]:
    path = folder / "scenes" / "test.parquet"
    scenes = sorted(read_rows(path), key=lambda scene: scene["scene_id"])
    for scene, after in pairwise(scenes):
        if scene["scene_id"] == after["scene_id"]:
            raise DataError(f"{path} holds scene {scene['scene_id']} twice; run `mirror build` again")
    return scenes


def _render(renderer: Renderer, scene: dict[str, Any], folder: Path) -> Callable[[Sequence[int]], Messages]:
    """Writes one scene in any order, once it is sure that its own order gives the stored prompt."""
    if renderer.prompt(scene) != scene["prompt"]:
        found = f"{folder}: scene {scene['scene_id']} does not render to its stored prompt"
        raise DataError(f"{found}; its tables or template have changed since, run `mirror build` again")
    return lambda order: renderer.prompt(scene, order)


def _counts(scenes: list[dict[str, Any]], variants: list[dict[str, Any]]) -> dict[str, Any]:
    """What a domain's benchmark holds. `random_order_gold_slots` counts the truth per slot, by K: it should be even."""
    n_options = Counter(len(scene["exposure"]) for scene in scenes)
    users = len({scene["user_id"] for scene in scenes})
    slots = {str(k): [0] * k for k in sorted(n_options)}
    for row in variants:
        if row["variant"]["order"] == "random":
            slots[str(len(row["choices"]))][row["gold_index"]] += 1
    return {
        "scenes": len(scenes),
        "rows": len(variants),
        "users": users,
        "underpowered": users < POWERED_USERS,
        "chance_accuracy": round(sum(n / k for k, n in n_options.items()) / len(scenes), 6) if scenes else None,
        "regimes": dict(sorted(Counter(scene["regime"] for scene in scenes).items())),
        "n_options": {str(k): n for k, n in sorted(n_options.items())},
        "gap": dict(sorted(Counter(gap_stratum(scene["gap_seconds"]) for scene in scenes).items())),
        "orders": dict(Counter(row["variant"]["order"] for row in variants)),
        "random_order_gold_slots": slots,
    }
