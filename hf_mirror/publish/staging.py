"""A run folder becomes repo folders: Parquet files per subset and split, in the tier that each source allows.

Pure folder to folder, no network. The same run folder gives the same bytes at any time of day. A split without rows
gets no file, because `load_dataset` cannot read an empty Parquet file; its card says so.

The benchmark has a subset per domain and regime, and of open ones also a split `headline`, which other harnesses ask:
each scene once, with its own history and full text, in the random order.

`mixed` holds the open domains only, because closed rows have other columns; where every domain is closed, it holds
their closed rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hf_mirror.bench.subsets import Subset, subsets
from hf_mirror.errors import DataError
from hf_mirror.files import read_json, read_table, replacing, to_arrow, write_rows
from hf_mirror.publish.mixed import check_weights, mix
from hf_mirror.publish.tiers import (
    CLOSED_BENCH,
    CLOSED_PAIR,
    CLOSED_RATIONALE,
    CLOSED_SCENE,
    SEALED,
    ClosedDomain,
)
from hf_mirror.rationales.notes import check_notes, decisions_digest
from hf_mirror.schema import BENCH, PAIR, READ_RATIONALE, SCENE

Report = dict[str, Any]

ROLES = ("teacher", "student")
MIXED = "mixed"
HEADLINE = "headline"
HEADLINE_VARIANT = "own-full-random"
READ_KEY = ("scene_id", "role", "sample_index")


@dataclass
class Staged:
    """One dataset repo, ready but for its card: what lies where, and the facts its card needs.

    `rows` counts rows per subset and split; `domains` has each subset's domain; `withheld` the closed thoughts that
    could not be masked, per domain.
    `mixed` draws from the domains of `pool` with `weights` and `seed`.
    """

    name: str
    kind: str
    folder: Path
    rows: dict[str, dict[str, int]] = field(default_factory=dict)
    domains: dict[str, str] = field(default_factory=dict)
    tiers: dict[str, str] = field(default_factory=dict)
    withheld: dict[str, int] = field(default_factory=dict)
    unread: dict[str, int] = field(default_factory=dict)
    pool: list[str] = field(default_factory=list)
    weights: dict[str, float] | None = None
    seed: int = 0

    def path(self, subset: str, split: str) -> Path:
        """Where a subset's split lies."""
        return self.folder / subset / f"{split}.parquet"

    def sealed(self, subset: str, split: str) -> Path:
        """Where that of it lies which only the raw files open."""
        return self.folder / subset / f"{split}.sealed"


@dataclass(frozen=True)
class Run:
    """A run folder with the reports of its domains, sorted by name."""

    directory: Path
    reports: Mapping[str, Report]

    @staticmethod
    def open(directory: Path) -> Run:
        """Reads every `<domain>/report.json`; none at all is a DataError."""
        if not directory.is_dir():
            raise DataError(f"{directory} is not a folder; give the folder that `mirror build --out` wrote")
        reports = {path.parent.name: read_json(path) for path in sorted(directory.glob("*/report.json"))}
        if not reports:
            raise DataError(f"{directory} holds no built domain (no */report.json); run `mirror build` into it first")
        for name, report in reports.items():
            if not isinstance(report, dict) or not isinstance(report.get("source"), dict):
                raise DataError(f"{directory / name / 'report.json'} names no source; run `mirror build` again")
        return Run(directory, reports)

    def closed(self, domain: str) -> bool:
        """Whether the source may not be redistributed. Only a plain `true` in the report opens it."""
        return self.reports[domain]["source"].get("redistributable") is not True

    def generators(self) -> list[dict[str, str]]:
        """Who wrote and who read, over all domains: distinct `{domain, role, model, revision}`, reader included."""
        found = set()
        for domain in self.reports:
            for role in ROLES:
                for kind, columns in (
                    ("rationales", ["model", "model_revision"]),
                    ("readings", ["reader", "reader_revision"]),
                ):
                    for path in _files(self.directory / domain / kind / role):
                        for row in read_table(path).select(columns).group_by(columns).aggregate([]).to_pylist():
                            found.add((domain, role if kind == "rationales" else "reader", *row.values()))
        return [dict(zip(("domain", "role", "model", "revision"), line, strict=True)) for line in sorted(found)]


def stage_datasets(run: Run, out: Path, *, seed: int = 0, weights: Mapping[str, float] | None = None) -> list[Staged]:
    """Writes the Parquet files of all dataset repos that the run has rows for, under `out/<repo>/`, in order."""
    pool = [name for name in run.reports if not run.closed(name)] or list(run.reports)
    check_weights(weights, dict.fromkeys(pool))
    closed = {name: ClosedDomain(run.directory / name) for name in run.reports if run.closed(name)}
    staged = []
    for name in run.reports:
        _check_decisions(run.directory, name)
    for kind, stage in STAGES.items():
        repo = Staged(f"mirror-{kind}", kind, out / f"mirror-{kind}", pool=pool, seed=seed)
        parts = (
            subsets(run.directory) if kind == "bench" else [Subset(name, run.directory / name) for name in run.reports]
        )
        for split in stage.splits:
            tables = {part.name: _table(run, part, split, kind, closed.get(part.domain), repo) for part in parts}
            for name, table in tables.items():
                _write(repo, name, split, table)
            present = {name: table for name, table in tables.items() if name in pool and table is not None}
            if stage.mixed and present:
                _write(repo, MIXED, split, mix(present, weights, seed))
        repo.rows = {subset: counts for subset, counts in sorted(repo.rows.items()) if counts}
        repo.domains = {part.name: part.domain for part in parts if part.name in repo.rows}
        repo.tiers = {name: "closed" if domain in closed else "open" for name, domain in repo.domains.items()}
        if MIXED in repo.rows:
            repo.tiers[MIXED] = "closed" if pool[0] in closed else "open"
            repo.weights = dict(weights) if weights else None
        if kind == "rationales":
            repo.withheld = {name: domain.withheld for name, domain in closed.items() if name in repo.rows}
        staged += [repo] if repo.rows else []
    return staged


def _table(run: Run, part: Subset, split: str, kind: str, closed: ClosedDomain | None, repo: Staged) -> pa.Table | None:
    stage = STAGES[kind]
    if closed is not None and split == HEADLINE:  # nobody can be asked what has no text
        return None
    rows, unread = stage.load(run.directory, part.name, split)
    if rows is None or not rows.num_rows:
        return None
    _check_scenes(part.folder, part.scenes if kind == "bench" else split, kind, rows)
    if kind == "rationales":
        repo.unread[part.name] = repo.unread.get(part.name, 0) + unread
    full = to_arrow(rows, stage.open)
    if closed is None:
        return full
    if kind in SEALED:
        with replacing(repo.sealed(part.name, split)) as temporary:
            temporary.write_bytes(closed.sealed(kind, split, full))
    return to_arrow(getattr(closed, kind)(full), stage.closed)


def _check_decisions(directory: Path, domain: str) -> None:
    """Refuses readings of other thoughts than these, and pairs of other decisions: ids alone would join them."""
    check_notes(directory / domain)
    report = directory / "preferences.json"
    if not _files(directory / domain / "preferences"):
        return
    if not report.is_file():
        raise DataError(f"{report} is missing beside the pairs that it tells of; run `mirror distill` again")
    try:
        made_of = read_json(report)["domains"][domain].get("made_of")
    except (KeyError, TypeError, AttributeError):
        raise DataError(f"{report} tells nothing of {domain}; run `mirror distill` again") from None
    if made_of is not None and made_of != decisions_digest(directory / domain):
        raise DataError(f"{directory / domain / 'preferences'} is of other decisions; run `mirror distill` again")


def _check_scenes(folder: Path, scenes_of: str, kind: str, rows: pa.Table) -> None:
    """Refuses what an earlier build of the same folder left behind: its scenes are not these."""
    scenes = read_table(folder / "scenes" / f"{scenes_of}.parquet")["scene_id"]
    stray = rows.filter(pc.invert(pc.is_in(rows["scene_id"], value_set=scenes.combine_chunks())))
    if stray.num_rows:
        raise DataError(
            f"{folder}: {stray.num_rows} {kind} rows of {scenes_of} scenes that this build does not have, first "
            f"{stray['scene_id'][0]}; run the stages after `mirror build` again"
        )


def _write(repo: Staged, subset: str, split: str, table: pa.Table | None) -> None:
    if table is not None and table.num_rows:
        write_rows(repo.path(subset, split), table, table.schema)
        repo.rows.setdefault(subset, {})[split] = table.num_rows


# --- what the stages left behind: one loader per kind, giving (rows, unread) --------------------------------------


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.parquet")) if folder.is_dir() else []


def _one_file(path: Path) -> tuple[pa.Table | None, int]:
    return (read_table(path), 0) if path.is_file() else (None, 0)


def _scenes(directory: Path, domain: str, split: str) -> tuple[pa.Table | None, int]:
    return read_table(directory / domain / "scenes" / f"{split}.parquet"), 0


def _preferences(directory: Path, domain: str, split: str) -> tuple[pa.Table | None, int]:
    return _one_file(directory / domain / "preferences" / f"{split}.parquet")


def _bench(directory: Path, subset: str, split: str) -> tuple[pa.Table | None, int]:
    rows, unread = _one_file(directory / "bench" / f"{subset}.parquet")
    if split == HEADLINE and rows is not None:
        rows = rows.filter(pc.equal(rows["variant_id"], HEADLINE_VARIANT))
    return rows, unread


def _rationales(directory: Path, domain: str, split: str) -> tuple[pa.Table | None, int]:
    """What both roles wrote in this split, each beside its reading where there is one, joined by READ_KEY."""
    folder = directory / domain
    parts, missing = [], 0
    for role in ROLES:
        written = _concat([read_table(path) for path in _files(folder / "rationales" / role)])
        if written is None:
            continue
        written = written.filter(pc.equal(written["split"], split))
        order = _order(_keys(written, folder / "rationales" / role))
        written = written.take(pa.array(order, pa.int64()))
        readings = _concat([read_table(path) for path in _files(folder / "readings" / role)])
        where = (
            {} if readings is None else {key: i for i, key in enumerate(_keys(readings, folder / "readings" / role))}
        )
        indices = [where.get(key) for key in _keys(written, folder / "rationales" / role)]
        missing += indices.count(None)
        for name, kind in (
            ("reader", pa.string()),
            ("reader_revision", pa.string()),
            ("choice_probs", pa.list_(pa.float32())),
        ):
            nothing = pa.chunked_array([pa.nulls(len(indices), kind)])
            column = nothing if readings is None else readings[name].take(pa.array(indices, pa.int64()))
            written = written.append_column(name, column)
        parts.append(written)
    return _concat(parts), missing


def _concat(tables: list[pa.Table]) -> pa.Table | None:
    return pa.concat_tables(tables) if tables else None


def _keys(table: pa.Table, folder: Path) -> list[tuple[str, str, int]]:
    keys = list(zip(*(table.column(name).to_pylist() for name in READ_KEY), strict=True))
    if len(set(keys)) != len(keys):
        raise DataError(
            f"{folder} holds rows with the same scene_id, role and sample_index; delete it and write it again"
        )
    return keys


def _order(keys: list[tuple[str, str, int]]) -> list[int]:
    return sorted(range(len(keys)), key=keys.__getitem__)


@dataclass(frozen=True)
class Stage:
    """One dataset repo: its splits, how its rows are found, and their columns in either tier."""

    splits: tuple[str, ...]
    load: Callable[[Path, str, str], tuple[pa.Table | None, int]]
    open: pa.Schema
    closed: pa.Schema
    mixed: bool = True


# In the order of publication: each is made from the ones before it.
STAGES = {
    "scenes": Stage(("train", "validation", "test"), _scenes, SCENE, CLOSED_SCENE),
    "rationales": Stage(("train", "validation"), _rationales, READ_RATIONALE, CLOSED_RATIONALE),
    "preferences": Stage(("train", "validation"), _preferences, PAIR, CLOSED_PAIR),
    "bench": Stage(("test", HEADLINE), _bench, BENCH, CLOSED_BENCH, mixed=False),
}
