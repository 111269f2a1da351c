"""`mirror build`: one domain from its raw folder to tables, scenes and a report in which every row is accounted for."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from hf_mirror import __version__, domains, splits, tables
from hf_mirror.audit import audit
from hf_mirror.audit.drafts import of_drafts
from hf_mirror.errors import ConfigError, DataError
from hf_mirror.exposure import NOTHING, REGIMES
from hf_mirror.files import replacing, write_json, write_rows
from hf_mirror.identity import build_secret, file_digests
from hf_mirror.rendering import TEMPLATE_FILE, Renderer
from hf_mirror.report_page import page
from hf_mirror.rows import memory, rows
from hf_mirror.scenes import Drafts, Sizes, SplitReport, draw
from hf_mirror.schema import SCENE
from hf_mirror.world import UNTIMED, World

HELD_OUT = 0.1  # of all scenes, for validation and for test
MATCHED, LOGGED = "popularity_matched", "logged"
TIMELINE_BINS = 60


@dataclass(frozen=True)
class BuildSettings:
    """What a build depends on besides the raw files. `scenes` is the number wanted per domain, over all splits.

    Where the source logs impressions every scene is `logged`. Elsewhere test scenes are `popularity_matched`, and
    `regime` is that of the others; with `instead_of_logged` it is so where impressions are logged, too. `history`,
    `train_options` and `evaluation_options` are bounds, both included. `content_model` is a sentence-transformers
    model for content options (default: words by TF-IDF).
    """

    scenes: int = 1000
    regime: str = MATCHED
    instead_of_logged: bool = False
    seed: int = 0
    history: tuple[int, int] = (2, 10)
    train_options: tuple[int, int] = (2, 12)
    evaluation_options: tuple[int, int] = (5, 5)
    content_model: str | None = None

    def __post_init__(self) -> None:
        if self.regime not in REGIMES:
            raise ConfigError(f"regime {self.regime!r} is not known; choose one of {', '.join(REGIMES)}")
        if self.scenes < 10:
            raise ConfigError(f"scenes is {self.scenes}; a build needs at least 10")
        for name, least, most in (("history", 1, 1000), ("train_options", 2, 26), ("evaluation_options", 2, 26)):
            low, high = getattr(self, name)
            if not least <= low <= high <= most:
                raise ConfigError(f"{name} is {low}-{high}; expected two numbers from {least} to {most}, in order")

    def shares(self) -> dict[str, int]:
        """How many scenes are wanted of each split: `scenes` in all."""
        held_out = round(HELD_OUT * self.scenes)
        return {"train": self.scenes - 2 * held_out, "validation": held_out, "test": held_out}

    def regime_of(self, split: str, logs_impressions: bool) -> str:
        """The regime of a split's scenes."""
        if logs_impressions and (split == "test" or not self.instead_of_logged):
            return LOGGED
        return MATCHED if split == "test" else self.regime


@dataclass(frozen=True)
class Built:
    """What a build made of one split."""

    scenes: pa.Table
    report: SplitReport
    audit: dict[str, Any]


def build(
    domain: domains.Domain,
    raw: Path,
    out: Path,
    settings: BuildSettings,
    progress: Callable[[int], None] = lambda n: None,
    workers: int | None = None,
) -> dict[str, Any]:
    """Builds `out/<domain>/{tables,scenes,report.json,report.html}`; returns the report. Only reads the raw folder."""
    gc.disable()  # millions of small objects live to the end: looking through them again and again finds nothing
    try:
        return _build(domain, raw, out, settings, progress, workers)
    finally:
        gc.enable()


def _build(
    domain: domains.Domain,
    raw: Path,
    out: Path,
    settings: BuildSettings,
    progress: Callable[[int], None],
    workers: int | None,
) -> dict[str, Any]:
    source = domain.detect(raw)
    log = tables.prepare(domain, raw, source)
    user, time, positive = (log.events[name].to_numpy() for name in ("user", "time", "positive"))
    split = splits.by_arrival(user, time, positive)
    digests = [file_digests(path) for path in source.files]
    secret = build_secret([private for _, private in digests], settings.seed)
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out, prefix=f".{domain.name}-") as scratch:
        # Arrow writes the tables while NumPy draws; nobody writes when processes are forked.
        with ThreadPoolExecutor(1) as beside:
            written = beside.submit(tables.write, Path(scratch), log)
            world, drawn = _draw(domain, log, split, secret, settings)
            written.result()
        built = _render(domain, world, log, drawn, workers, progress)
        report = {
            "domain": domain.name,
            "positive": domain.positive,
            "seed": settings.seed,
            "settings": asdict(settings),
            "code_version": __version__,
            "source": _source(source, raw, [public for public, _ in digests]),
            "template_sha256": hashlib.sha256(domain.template.encode()).hexdigest(),
            "tables": {
                "read": log.read,
                "kept": log.events.height,
                "dropped": log.dropped,
                "users": log.users.height,
                "items": log.items.height,
                "events": log.events.height,
                "positives": int(positive.sum()),
            },
            "splits": split.report,
            "timeline": _timeline(time, positive),
            "scenes": {name: asdict(part.report) for name, part in built.items()},
            "audits": {name: part.audit for name, part in built.items()},
            "warnings": [*log.warnings, *_warnings(settings, split, built)],
        }
        _write(out / domain.name, Path(scratch), domain.template, built, report)
    return report


def _draw(
    domain: domains.Domain, log: tables.Log, split: splits.Split, secret: bytes, settings: BuildSettings
) -> tuple[World, dict[str, tuple[Drafts, SplitReport]]]:
    world = World.of(domain.name, log, split, settings.content_model)
    if not world.described.any():
        raise DataError(f"builder {domain.name}: no item has a title; give every item a non-empty `title` attribute")
    sizes = Sizes(settings.history, settings.train_options, settings.evaluation_options)
    drawn = {}
    for name, wanted in settings.shares().items():
        regime = settings.regime_of(name, world.impressions is not None)
        if regime == LOGGED and world.impressions is None:
            others = ", ".join(known for known in REGIMES if known != LOGGED)
            raise ConfigError(f"regime logged: {domain.name} logs no impressions; choose one of {others}")
        drawn[name] = draw(world, name, wanted, regime, secret, sizes)
    return world, drawn


def _render(
    domain: domains.Domain,
    world: World,
    log: tables.Log,
    drawn: dict[str, tuple[Drafts, SplitReport]],
    workers: int | None,
    progress: Callable[[int], None],
) -> dict[str, Built]:
    log, people, things = _shown(world, log, [drafts for drafts, _ in drawn.values()])
    renderer = Renderer(
        domain.template,
        dict(log.users.select("user_id", "profile")[people].iter_rows()),
        dict(log.items.select("item_id", "attributes")[things].iter_rows()),
    )
    return {
        name: Built(
            rows(world, log, drafts, name, report.regime, renderer, workers, progress),
            report,
            audit(of_drafts(world, drafts, report.regime)),
        )
        for name, (drafts, report) in drawn.items()
    }


def _shown(world: World, log: tables.Log, drafts: list[Drafts]) -> tuple[tables.Log, np.ndarray, np.ndarray]:
    """The users and items that any scene shows, and the log with the remarks of shown events alone: read once."""
    pasts = [memory(world, part) for part in drafts]
    people = np.unique(np.concatenate([world.user[part.event] for part in drafts]))
    things = np.unique(np.concatenate([*(item for _, item, _ in pasts), *(part.options.ravel() for part in drafts)]))
    if log.remarks is not None:
        events = np.unique(np.concatenate([event[event != UNTIMED] for *_, event in pasts]))
        wanted = pl.col("row").is_in(log.events["row"][events].implode())
        log = replace(log, remarks=log.remarks.filter(wanted).collect(engine="streaming").lazy())
    return log, people, things[things != NOTHING]


def _write(folder: Path, scratch: Path, template: str, built: dict[str, Built], report: dict[str, Any]) -> None:
    """Nothing takes its place before everything is made, so that what goes wrong leaves an earlier build whole. A
    folder without a report is no domain, so that a kill below cannot leave the report of other scenes."""
    shown = page(report)
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    (folder / "report.json").unlink(missing_ok=True)
    for path in scratch.iterdir():
        path.replace(folder / "tables" / path.name)
    for name, text in ((TEMPLATE_FILE, template), ("report.html", shown)):
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    for name, part in built.items():
        write_rows(folder / "scenes" / f"{name}.parquet", part.scenes, SCENE)
    write_json(folder / "report.json", report)


def _source(source: domains.Source, raw: Path, hashes: list[str]) -> dict[str, Any]:
    return {
        "release": source.release,
        "licence": source.licence,
        "redistributable": source.redistributable,
        "citation": source.citation,
        "files": [
            {"name": path.relative_to(raw).as_posix(), "sha256": sha256, "bytes": path.stat().st_size}
            for path, sha256 in zip(source.files, hashes, strict=True)
        ],
    }


def _timeline(time: np.ndarray, positive: np.ndarray) -> dict[str, Any]:
    """Events and positives over time, in bins of one width from the first event to the last."""
    start, end = int(time[0]), int(time[-1])
    bounds = np.searchsorted(time, np.linspace(start, end, TIMELINE_BINS + 1)[1:-1])
    counts = np.diff(np.r_[0, bounds, len(time)])
    likes = np.diff(np.r_[0, np.r_[0, np.cumsum(positive)][bounds], positive.sum()])
    return {
        "start": splits.utc(start).isoformat(),
        "end": splits.utc(end).isoformat(),
        "events": counts.tolist(),
        "positives": likes.tolist(),
    }


def _warnings(settings: BuildSettings, split: splits.Split, built: dict[str, Built]) -> list[str]:
    found = []
    if settings.content_model and any("content" in part.report.sources for part in built.values()):
        found.append(
            f"content options were chosen by {settings.content_model}, which may know the items from elsewhere"
        )
    if split.report["underpowered"]:
        users = split.report["users"]["test"]
        found.append(f"underpowered: {users} test users; results from fewer than {splits.UNDERPOWERED_BELOW} are shaky")
    for name, part in built.items():
        if part.audit["passed"] is False:
            found.append(f"the {name} scenes fail the audit of {', '.join(part.audit['failed'])}; see report.html")
    return found
