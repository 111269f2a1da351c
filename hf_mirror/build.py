"""`mirror build`: one domain from its raw folder to tables, scenes and a report in which every row is accounted for."""

from __future__ import annotations

import gc
import hashlib
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

from hf_mirror import __version__, domains, splits, tables
from hf_mirror.audit import audit
from hf_mirror.audit.drafts import of_drafts
from hf_mirror.build_settings import LOGGED, BuildSettings
from hf_mirror.errors import ConfigError, DataError
from hf_mirror.exposure import NOTHING, REGIMES
from hf_mirror.files import read_json, replacing, write_json, write_rows
from hf_mirror.identity import build_secret, file_digests, id_hashes, seal_key
from hf_mirror.locking import only_one
from hf_mirror.rendering import TEMPLATE_FILE, Renderer
from hf_mirror.report_page import page
from hf_mirror.rows import memory, rows
from hf_mirror.scenes import Drafts, Sizes, SplitReport, draw, draw_again
from hf_mirror.schema import SCENE
from hf_mirror.sealing import KEY_FILE
from hf_mirror.splits import SPLITS
from hf_mirror.world import UNTIMED, World

TIMELINE_BINS = 60


@dataclass(frozen=True)
class Shard:
    """Which part of the scenes is made: those of number `k`, in the order of their ids, of `of` parts of one size."""

    k: int = 0
    of: int = 1

    def part(self, n: int) -> slice:
        """Its places among `n`."""
        return slice(n * self.k // self.of, n * (self.k + 1) // self.of)


def build(
    domain: domains.Domain,
    raw: Path,
    out: Path,
    settings: BuildSettings,
    progress: Callable[[int], None] = lambda n: None,
    workers: int | None = None,
) -> dict[str, Any]:
    """Builds `out/<domain>/{tables,scenes,report.json,report.html}`; returns the report. Only reads the raw folder."""
    beside = unfinished(out, domain.name)
    with one_build(out / domain.name):
        beside.mkdir(parents=True, exist_ok=True)
        try:
            with TemporaryDirectory(dir=beside) as folder:
                build_shard(domain, raw, Path(folder), settings, Shard(), progress, workers)
                return place(Path(folder), out / domain.name)
        finally:
            discard(beside)


def unfinished(out: Path, domain: str) -> Path:
    """Where what will be a domain's lies until it is whole: so deep that nothing takes it for a domain."""
    return out / ".unfinished" / domain


def discard(beside: Path) -> None:
    """Takes away what `unfinished` names, with what stopped builds have left there."""
    shutil.rmtree(beside, ignore_errors=True)
    with suppress(OSError):
        beside.parent.rmdir()


def one_build(domain: Path) -> AbstractContextManager[None]:
    """Holds a domain's folder for one build at a time (locking.only_one)."""
    return only_one(domain, f"another build of {domain} is running; wait for it, or choose another --out")


def build_shard(
    domain: domains.Domain,
    raw: Path,
    folder: Path,
    settings: BuildSettings,
    shard: Shard,
    progress: Callable[[int], None] = lambda n: None,
    workers: int | None = None,
) -> list[Path]:
    """Writes a shard's scenes to `folder`; the first shard's gets all else that the domain's will hold. Returns the
    paths of all files."""
    gc.disable()  # millions of small objects live to the end: looking through them again and again finds nothing
    try:
        return _build_shard(domain, raw, folder, settings, shard, progress, workers)
    finally:
        gc.enable()


def place(folder: Path, domain: Path) -> dict[str, Any]:
    """Moves all files of `folder`, which holds a whole domain, to `domain`; returns the report.

    Nothing takes its place before everything is made, so that what goes wrong leaves an earlier build whole. A folder
    without a report is no domain, so that a kill in here cannot leave the report of other scenes.
    """
    report = read_json(folder / "report.json")
    (domain / "report.json").unlink(missing_ok=True)
    for path in (domain / "scenes").glob("test-*.parquet"):  # in regimes that this build may not have
        path.unlink()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / "report.json"):
        target = domain / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
    (folder / "report.json").replace(domain / "report.json")
    return report


def _build_shard(
    domain: domains.Domain,
    raw: Path,
    folder: Path,
    settings: BuildSettings,
    shard: Shard,
    progress: Callable[[int], None],
    workers: int | None,
) -> list[Path]:
    source = domain.detect(raw)
    log = tables.prepare(domain, raw, source)
    user, time, positive = (log.events[name].to_numpy() for name in ("user", "time", "positive"))
    lot = id_hashes(log.users["user_id"].to_list()) if settings.split_by == "user" else None
    split = splits.by_arrival(user, time, positive) if lot is None else splits.by_user(user, positive, lot)
    digests = [file_digests(path) for path in source.files]
    secret = build_secret([private for _, private in digests], settings.seed)
    # Arrow writes the tables while NumPy draws; nobody writes when processes are forked.
    with ThreadPoolExecutor(1) as beside:
        written = beside.submit(tables.write, folder / "tables", log) if shard.k == 0 else None
        world, drawn = _draw(domain, log, split, secret, settings)
        if written:
            written.result()
    paths = []
    for name, scenes in _render(domain, world, log, drawn, shard, workers, progress):
        paths.append(folder / "scenes" / f"{name}.parquet")
        write_rows(paths[-1], scenes, SCENE)
    if shard.k > 0:
        return paths
    audits = {
        name: audit(of_drafts(world, drafts, report.regime))
        for name, (drafts, report) in drawn.items()
        if name in SPLITS
    }
    report = {
        "domain": domain.name,
        "positive": domain.positive,
        "seed": settings.seed,
        "settings": asdict(settings),
        "code_version": __version__,
        "source": _source(source, raw, [public for public, _ in digests]),
        "template_sha256": hashlib.sha256(domain.template.encode()).hexdigest(),
        "tables": _counts(log),
        "splits": split.report,
        "timeline": _timeline(time, positive),
        "scenes": {name: asdict(report) for name, (_, report) in drawn.items() if name in SPLITS},
        "also_test": {report.regime: asdict(report) for name, (_, report) in drawn.items() if name not in SPLITS},
        "audits": audits,
        "warnings": [*log.warnings, *_warnings(settings, split, drawn, audits)],
    }
    key = seal_key(secret).hex()
    for name, text in ((TEMPLATE_FILE, domain.template), (KEY_FILE, key), ("report.html", page(report))):
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    write_json(folder / "report.json", report)
    paths += [folder / "tables" / f"{name}.parquet" for name in ("users", "items", "events")]
    return [*paths, *(folder / name for name in (TEMPLATE_FILE, KEY_FILE, "report.html", "report.json"))]


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
        _check_regime(domain, world, regime)
        drawn[name] = draw(world, name, wanted, regime, secret, sizes)
    headline, report = drawn["test"]
    for regime in settings.also_test:
        _check_regime(domain, world, regime)
        if regime == report.regime:
            raise ConfigError(f"also_test: the test scenes of {domain.name} are {regime} already; leave it out")
        drawn[f"test-{regime}"] = draw_again(world, headline, "test", regime, secret, sizes)
    return world, drawn


def _check_regime(domain: domains.Domain, world: World, regime: str) -> None:
    if regime == LOGGED and world.impressions is None:
        others = ", ".join(known for known in REGIMES if known != LOGGED)
        raise ConfigError(f"regime logged: {domain.name} logs no impressions; choose one of {others}")


def _render(
    domain: domains.Domain,
    world: World,
    log: tables.Log,
    drawn: dict[str, tuple[Drafts, SplitReport]],
    shard: Shard,
    workers: int | None,
    progress: Callable[[int], None],
) -> Iterator[tuple[str, pa.Table]]:
    """The shard's scene rows of each split, and of the test split in other regimes."""
    log, people, things = _shown(world, log, [drafts for drafts, _ in drawn.values()])
    renderer = Renderer(
        domain.template,
        dict(log.users.select("user_id", "profile")[people].iter_rows()),
        dict(log.items.select("item_id", "attributes")[things].iter_rows()),
    )
    for name, (drafts, report) in drawn.items():
        part = shard.part(len(drafts))
        split = name.partition("-")[0]
        yield name, rows(world, log, drafts, split, report.regime, renderer, workers, progress, part)


def _shown(world: World, log: tables.Log, drafts: list[Drafts]) -> tuple[tables.Log, np.ndarray, np.ndarray]:
    """The users and items that any scene shows, and the log with the remarks of shown events alone: read once."""
    pasts = [memory(world, part) for part in drafts]
    people = np.unique(np.concatenate([world.user[part.event] for part in drafts]))
    things = np.unique(np.concatenate([*(item for _, item, _ in pasts), *(part.options.ravel() for part in drafts)]))
    if log.remarks is not None:
        events = np.unique(np.concatenate([event[event != UNTIMED] for *_, event in pasts]))
        log = replace(log, remarks=tables.remarks_of(log.remarks, log.events["row"][events]).lazy())
    return log, people, things[things != NOTHING]


def _counts(log: tables.Log) -> dict[str, Any]:
    events = log.events.height
    rows = {"read": log.read, "kept": events, "dropped": log.dropped}
    sizes = {"users": log.users.height, "items": log.items.height, "events": events}
    return rows | sizes | {"positives": int(log.events["positive"].sum())}


def _source(source: domains.Source, raw: Path, hashes: list[str]) -> dict[str, Any]:
    return {
        "release": source.release,
        "licence": source.licence,
        "redistributable": source.redistributable,
        "citation": source.citation,
        "files": [
            {
                "name": path.relative_to(raw if raw.is_dir() else raw.parent).as_posix(),
                "sha256": sha256,
                "bytes": path.stat().st_size,
            }
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


def _warnings(
    settings: BuildSettings,
    split: splits.Split,
    drawn: dict[str, tuple[Drafts, SplitReport]],
    audits: dict[str, dict[str, Any]],
) -> list[str]:
    found = []
    if settings.split_by == "user":
        found.append("split by user, without a cut in time: what is learned from may be later than a test scene")
    if settings.content_model and any("content" in report.sources for _, report in drawn.values()):
        found.append(
            f"content options were chosen by {settings.content_model}, which may know the items from elsewhere"
        )
    if split.report["underpowered"]:
        users = split.report["users"]["test"]
        found.append(f"underpowered: {users} test users; results from fewer than {splits.UNDERPOWERED_BELOW} are shaky")
    for name, found_out in audits.items():
        if found_out["passed"] is False:
            found.append(f"the {name} scenes fail the audit of {', '.join(found_out['failed'])}; see report.html")
    return found
