"""`mirror build`: one domain from its raw folder to tables, scenes and a report in which every row is accounted for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hf_mirror import __version__, domains, splits, tables
from hf_mirror.audit import option_audit
from hf_mirror.errors import ConfigError, DataError
from hf_mirror.exposure import REGIMES
from hf_mirror.files import canonical_json, replacing, write_json, write_rows
from hf_mirror.identity import build_secret, content_digest
from hf_mirror.prompts import SEPARATOR
from hf_mirror.rendering import TEMPLATE_FILE, Renderer
from hf_mirror.scenes import SplitReport, draw, rows
from hf_mirror.schema import SCENE, Tables
from hf_mirror.world import World

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}
TEST_REGIME = "popularity_matched"


@dataclass(frozen=True)
class BuildSettings:
    """What a build depends on besides the raw files. `scenes` is the number wanted per domain, over all splits."""

    scenes: int = 1000
    regime: str = "popularity_matched"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.regime not in REGIMES:
            raise ConfigError(f"regime {self.regime!r} is not known; choose one of {', '.join(REGIMES)}")
        if self.scenes < 10:
            raise ConfigError(f"scenes is {self.scenes}; a build needs at least 10")


def build(
    domain: domains.Domain,
    raw: Path,
    out: Path,
    settings: BuildSettings,
    progress: Callable[[int], None] = lambda n: None,
) -> dict[str, Any]:
    """Builds `out/<domain>/{tables,scenes,report.json}` and returns the report. The raw folder is only read."""
    source = domain.detect(raw)
    clean = tables.prepare(domain, raw, source)
    split = splits.by_arrival(clean.events)
    folder = out / domain.name
    contents = [path.read_bytes() for path in source.files]
    secret = build_secret([content_digest(data) for data in contents], settings.seed)
    scenes, reports, audits = _scenes(domain, clean, split, secret, settings, progress)
    report = {
        "domain": domain.name,
        "positive": domain.positive,
        "seed": settings.seed,
        "settings": asdict(settings),
        "code_version": __version__,
        "source": {
            "release": source.release,
            "licence": source.licence,
            "redistributable": source.redistributable,
            "citation": source.citation,
            "files": [
                {"name": path.name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
                for path, data in zip(source.files, contents, strict=True)
            ],
        },
        "template_sha256": hashlib.sha256(domain.template.encode()).hexdigest(),
        "tables": _table_counts(clean),
        "splits": split.report,
        "scenes": {name: asdict(part) for name, part in reports.items()},
        "audits": audits,
    }
    # Nothing is written before everything is made: what goes wrong above leaves an earlier build whole. A folder
    # without a report is no domain, so that a kill below cannot leave the report of other scenes.
    (folder / "report.json").unlink(missing_ok=True)
    tables.write(folder / "tables", clean)
    with replacing(folder / TEMPLATE_FILE) as temporary:
        temporary.write_text(domain.template, encoding="utf-8")
    for name, built in scenes.items():
        write_rows(folder / "scenes" / f"{name}.parquet", built, SCENE)
    write_json(folder / "report.json", report)
    return report


def _scenes(
    domain: domains.Domain,
    clean: Tables,
    split: splits.Split,
    secret: bytes,
    settings: BuildSettings,
    progress: Callable[[int], None],
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, SplitReport], dict[str, Any]]:
    world = World.of(domain.name, clean, split.events["split"])
    if not world.described.any():
        raise DataError(f"builder {domain.name}: no item has a title; give every item a non-empty `title` attribute")
    renderer = Renderer(
        domain.template,
        dict(zip(clean.users["user_id"], clean.users["profile"], strict=True)),
        dict(zip(clean.items["item_id"], clean.items["attributes"], strict=True)),
    )
    scenes: dict[str, list[dict[str, Any]]] = {}
    reports: dict[str, SplitReport] = {}
    audits: dict[str, Any] = {}
    for name, share in SHARES.items():
        regime = TEST_REGIME if name == "test" else settings.regime
        drafts, reports[name] = draw(world, name, round(share * settings.scenes), regime, secret, progress)
        scenes[name] = list(rows(world, drafts, name, regime, renderer))
        _check_prompts(domain, scenes[name])
        audits[name] = option_audit(world, drafts)
    return scenes, reports, audits


def _table_counts(clean: Tables) -> dict[str, Any]:
    return {
        "read": clean.read,
        "kept": clean.events.height,
        "dropped": dict(clean.dropped),
        "users": clean.users.height,
        "items": clean.items.height,
        "events": clean.events.height,
        "positives": int(clean.events["positive"].sum()),
    }


def _check_prompts(domain: domains.Domain, built: list[dict[str, Any]]) -> None:
    for scene in built:
        if SEPARATOR in scene["prompt"][0]["content"]:
            raise ConfigError(
                f"the template of {domain.name} writes a line of three dashes between blank lines, which separates "
                f"the instruction from the scene; mend it ({canonical_json(scene['scene_id'])})"
            )
