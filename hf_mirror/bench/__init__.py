"""Test scenes become benchmark rows: the same choice asked in many orders of its options, and as twins.

A scene gives one row per variant: all K cyclic shifts of its options for K ≤ 12 (five seeded ones above), so that over
the shifts the truth stands in each slot exactly once, and one seeded random order for the position statistics, all with
the user's own history and full texts; then its twins, in that random order: without history, with those of others,
with titles hidden, with ids alone (twins.py). Variants of a scene share its `scene_id` and are one cluster, not more
samples. Users and items appear as hashes: enough for clustered intervals and baselines.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from hf_mirror.bench.counts import DESIGN_EFFECT, POWERED_USERS, Counts
from hf_mirror.bench.disguise import ids_alone, numbered
from hf_mirror.bench.donors import NEAREST, RANDOM, Donors
from hf_mirror.bench.groups import GAPS, category_of, category_source, gap_stratum, groups_of
from hf_mirror.bench.orders import orders
from hf_mirror.bench.past import Past
from hf_mirror.bench.subsets import Subset, subsets, subsets_of
from hf_mirror.bench.twins import OWN, Twin, twins
from hf_mirror.errors import DataError
from hf_mirror.files import read_rows, replacing, to_arrow, write_json
from hf_mirror.identity import digest
from hf_mirror.prompts import LABELS, direct_messages
from hf_mirror.rendering import Renderer

__all__ = ["GAPS", "bench", "donors_of", "gap_stratum", "orders", "rows", "scenes_of", "subsets", "subsets_of"]

CHUNK = 500  # scenes whose rows are held at once

logger = logging.getLogger(__name__)


def bench(directory: Path, *, seed: int = 0) -> dict[str, Any]:
    """Writes `bench/<subset>.parquet` (schema.BENCH) for every subset of a run (subsets.py), and `bench.json`; returns
    the latter.

    Rows are in the order of scene_id, then of the variants, whatever the order of the scenes. A subset with fewer than
    200 users is reported, and logged, as underpowered. A scene with more options than there are letters is a counted
    drop. Raises DataError where there is no test scene at all, a scene_id comes twice, or a prompt no longer renders
    as it is stored; then nothing is written.
    """
    import pyarrow.parquet as pq

    from hf_mirror.schema import BENCH

    found = subsets(directory)
    counts: dict[str, dict[str, Any]] = {}
    with ExitStack() as all_or_none:
        for subset in found:
            path = all_or_none.enter_context(replacing(directory / "bench" / f"{subset.name}.parquet"))
            with pq.ParquetWriter(path, BENCH, compression="zstd") as writer:
                scenes, dropped = scenes_of(subset)
                counted = Counts(scenes)
                told = _Telling.of(subset, scenes, seed)
                for start in range(0, len(scenes), CHUNK):
                    part = [row for at in range(start, min(start + CHUNK, len(scenes))) for row in told.rows(at)]
                    for row in part:
                        counted.add(row, own={**row["variant"], "order": None} == {**OWN, "order": None})
                    writer.write_table(to_arrow(part, BENCH))
            about = {"domain": subset.domain, "dropped": dropped} | counted.report(told.donors.relaxed)
            counts[subset.name] = about
            if about["underpowered"]:
                users = about["users"]
                logger.warning("%s: %d test users; below %d a score is underpowered", subset.name, users, POWERED_USERS)
        if not any(about["rows"] for about in counts.values()):
            raise DataError(
                f"{directory} holds no test scene in any domain; run `mirror build` with more scenes or feedback"
            )
    for path in (directory / "bench").glob("*.parquet"):
        if path.stem not in counts:  # of an earlier build
            path.unlink()
    report = {
        "seed": seed,
        "underpowered_below_users": POWERED_USERS,
        "assumed_design_effect": DESIGN_EFFECT,
        "subsets": counts,
    }
    write_json(directory / "bench.json", report)
    return report


def rows(
    scene: Mapping[str, Any],
    renderer: Renderer,
    seed: int,
    *,
    told: Sequence[Twin] = (),
    groups: Mapping[str, str] | None = None,
    categories: Sequence[str | None] = (),
    percentiles: Sequence[float | None] = (),
) -> list[dict[str, Any]]:
    """The benchmark rows (schema.BENCH) of one scene (schema.SCENE): its own in all orders, then its twins (`told`) in
    the random one. `categories` and `percentiles` are of its options, where they are known."""
    k = len(scene["exposure"])
    if k > len(LABELS):
        raise DataError(f"scene {scene['scene_id']} has {k} options; the benchmark has letters for {len(LABELS)}")
    domain = scene["domain"]
    options = [
        {
            "item_key": digest("item", domain, shown["item_id"])[:16],
            "asof_count": shown["asof_count"],
            "source": shown["source"],
            "category": categories[slot] if categories else None,
            "asof_percentile": percentiles[slot] if percentiles else None,
        }
        for slot, shown in enumerate(scene["exposure"])
    ]
    shared = {
        "scene_id": scene["scene_id"],
        "domain": domain,
        "regime": scene["regime"],
        "user_cluster": digest("user", domain, scene["user_id"])[:16],
        "groups": groups or {},
        "gap_seconds": scene["gap_seconds"],
        "n_clicked": scene["n_clicked"],
        "choices": list(LABELS[:k]),
    }
    named = orders(scene["scene_id"], k, seed)
    own = Twin("own-full", OWN, scene)
    asked = [(own, name) for name in named] + [(twin, "random") for twin in told]
    return [
        shared
        | {
            "variant_id": f"{twin.name}-{name.replace(' ', '')}",
            "variant": {**twin.variant, "order": name},
            "options": [options[slot] for slot in named[name]],
            "prompt": direct_messages(renderer.prompt(twin.scene, named[name], twin.attributes)),
            "gold_index": named[name].index(scene["choice_index"]),
        }
        for twin, name in asked
    ]


@dataclass(frozen=True)
class _Telling:
    """All that the rows of a subset's scenes are made of."""

    scenes: Sequence[Mapping[str, Any]]
    seed: int
    renderer: Renderer
    numbers: Mapping[str, int]
    category: tuple[str, int | None] | None
    groups: Sequence[Mapping[str, str]]
    past: Past
    donors: Donors

    @staticmethod
    def of(subset: Subset, scenes: Sequence[Mapping[str, Any]], seed: int) -> _Telling:
        renderer = Renderer.of_run(subset.folder)
        for scene in scenes:
            if renderer.prompt(scene) != scene["prompt"]:
                found = f"{subset.folder}: scene {scene['scene_id']} does not render to its stored prompt"
                raise DataError(f"{found}; its tables or template have changed since, run `mirror build` again")
        items = read_rows(subset.folder / "tables" / "items.parquet", ["item_id", "attributes"])
        people = read_rows(subset.folder / "tables" / "users.parquet", ["user_id", "profile"])
        past = Past.of(subset.folder, scenes)
        return _Telling(
            scenes,
            seed,
            renderer,
            numbered(subset.domain, [row["item_id"] for row in items]),
            category_source(row["attributes"] or {} for row in items),
            groups_of(scenes, past.events, {row["user_id"]: row["profile"] or {} for row in people}),
            past,
            Donors.of(scenes, past.events, renderer.item, seed),
        )

    def rows(self, at: int) -> Iterator[dict[str, Any]]:
        """The rows of one scene, by its number."""
        scene = self.scenes[at]
        donors = {RANDOM: self.donors.random[at], NEAREST: self.donors.nearest[at]}
        shown = [self.renderer.item(option["item_id"]) for option in scene["exposure"]]
        yield from rows(
            scene,
            self.renderer,
            self.seed,
            told=list(twins(scene, donors, self.renderer, ids_alone(self.numbers))),
            groups=self.groups[at],
            categories=[category_of(attributes, self.category) for attributes in shown],
            percentiles=self.past.percentiles[at],
        )


def scenes_of(subset: Subset) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """A subset's scenes (schema.SCENE) in the order of their ids, and what was left out, by reason. DataError where one
    comes twice."""
    path = subset.folder / "scenes" / f"{subset.scenes}.parquet"
    scenes = sorted(read_rows(path), key=lambda scene: scene["scene_id"])
    for scene, after in pairwise(scenes):
        if scene["scene_id"] == after["scene_id"]:
            raise DataError(f"{path} holds scene {scene['scene_id']} twice; run `mirror build` again")
    kept = [scene for scene in scenes if len(scene["exposure"]) <= len(LABELS)]
    return kept, {"more_options_than_letters": len(scenes) - len(kept)} if len(kept) < len(scenes) else {}


def donors_of(subset: Subset, scenes: Sequence[Mapping[str, Any]], seed: int) -> Donors:
    """The donors of a subset's scenes (`scenes_of`), as the benchmark of this seed has them."""
    renderer = Renderer.of_run(subset.folder)
    return Donors.of(scenes, Past.of(subset.folder, scenes).events, renderer.item, seed)
