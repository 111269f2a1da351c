"""Results that were accepted, results that were not, and how both are found in files of this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import pyarrow.parquet as pq

from hf_mirror.alignment import SCORED_COLUMNS, Row
from hf_mirror.errors import DataError
from hf_mirror.files import read_table, sha256_file
from hf_mirror.leaderboard.origin import REPO, Origin, origin_of
from hf_mirror.leaderboard.statuses import Status
from hf_mirror.memorisation import REGIME
from hf_mirror.result_schema import Result, read
from hf_mirror.results import beginning, predictions_of, read_predictions

Probe = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """One accepted result. `rows` names the benchmark's rows that were scored, `version` the benchmark's version;
    `predictions` is a file where they are at hand."""

    result: Result
    name: str
    where: str
    bench: str
    rows: str
    version: str | None = None
    status: Status | None = None
    origin: Origin = field(default_factory=list)
    predictions: Path | None = None

    @property
    def is_baseline(self) -> bool:
        """Whether it is a recommender that stands beside the models."""
        return "baseline" in self.result


@dataclass
class Gathered:
    """What was found: entries, memorisation probes by model and domain, and why the rest is neither. `rows_of` gives
    the benchmark's rows behind an entry, None where they are not at hand or hold no truth."""

    endpoint: str
    rows_of: Callable[[Entry], list[Row] | None]
    entries: list[Entry] = field(default_factory=list)
    rejected: list[dict[str, str]] = field(default_factory=list)
    probes: dict[tuple[str, str], Probe] = field(default_factory=dict)

    def add_probe(self, name: str, result: Result) -> None:
        """Takes in results of `mirror probe`: no row of their own, since a high rank in them is no merit."""
        chance = result["baselines"]["chance"]["accuracy"]["value"]
        about = {"accuracy": result["scores"]["accuracy"], "chance": chance, "n_items": result["n_scenes"]}
        self.probes[name, result["domain"]] = about

    def reject(self, where: str, reason: object) -> None:
        """Counts something that cannot be shown."""
        self.rejected.append({"where": where[:300], "reason": " ".join(str(reason).split())[:300]})

    def answers(self, entries: Sequence[Entry]) -> tuple[list[Row], dict[int, list[list[float]]]]:
        """The rows behind a block's entries and who answered them, by place, where two or more did. Predictions that
        are not what they should be are counted among the rejected."""
        places = [place for place, entry in enumerate(entries) if entry.predictions]
        rows = self.rows_of(entries[places[0]]) if len(places) > 1 else None
        found: dict[int, list[list[float]]] = {}
        for place in places if rows else []:
            entry = entries[place]
            try:
                path = Path(str(entry.predictions))
                found[place] = read_predictions(path, entry.result, rows or [], "predictions")
            except DataError as problem:
                self.reject(str(predictions_of(Path(entry.where))), f"{problem}; intervals are compared instead")
        return rows or [], found


def from_files(paths: Iterable[Path]) -> Gathered:
    """Results of `mirror evaluate` and `mirror baselines`: files, or folders that hold them at any depth.

    Other JSON files in folders are passed over; DataError where there are no results at all.
    """
    paths = list(paths)
    gathered = Gathered(os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/"), _rows_here)
    for top in paths:
        for path in sorted(top.rglob("*.json")) if top.is_dir() else [top]:
            data = beginning(path)
            if top.is_dir() and b'"baselines"' not in data:
                continue
            where = path.name if path == top else path.relative_to(top).as_posix()
            try:
                result = read(data)
                if result["regime"] == REGIME:
                    gathered.add_probe(_name(result["model"]), result)
                else:
                    gathered.entries.append(_entry(result, path, where, gathered.endpoint))
            except DataError as problem:
                gathered.reject(where, problem)
    if not gathered.entries:
        odd = [f"{line['where']}: {line['reason']}" for line in gathered.rejected[:1]]
        where = ", ".join(map(str, paths))
        raise DataError("; ".join([f"no results in {where}", *odd, "run `mirror evaluate` first"]))
    return gathered


def _entry(result: Result, path: Path, where: str, endpoint: str) -> Entry:
    repo, _, version = result.get("bench", "").partition("@")
    predictions = predictions_of(path)
    return Entry(
        result,
        _name(result["model"]),
        where,
        _name(repo),
        result["bench_revision"],
        version or None,
        None if "baseline" in result else "self-reported",
        origin_of(result | {"model": _name(result["model"]), "bench": _name(repo)}, endpoint),
        predictions if predictions.is_file() else None,
    )


def _rows_here(entry: Entry) -> list[Row] | None:
    """Of a benchmark in a folder, if it still holds the very rows."""
    folder = Path(entry.result.get("bench", ""))
    for path in (folder / "bench" / f"{entry.result['subset']}.parquet", folder / f"{entry.result['subset']}.parquet"):
        if path.is_file() and entry.rows == f"sha256:{sha256_file(path)}":
            return scored_rows(path)
    return None


def scored_rows(path: Path) -> list[Row] | None:
    """The rows of a benchmark's file, as far as they are scored; None for a closed domain's, which hold no truth."""
    if not set(SCORED_COLUMNS) <= set(pq.read_schema(path).names):
        return None
    return read_table(path, list(SCORED_COLUMNS)).to_pylist()


def _name(model: str) -> str:
    """A Hub id as it is, a folder by its last part."""
    return model if REPO.fullmatch(model) else PurePath(model).name
