"""Results that were accepted, results that were not, and how both are found in files of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from hf_mirror.errors import DataError
from hf_mirror.leaderboard.checking import LARGEST, Result, check
from hf_mirror.leaderboard.origin import REPO, Origin, origin_of
from hf_mirror.leaderboard.statuses import Status, Statuses


@dataclass(frozen=True)
class Entry:
    """One accepted result. `rows` names the benchmark's rows that were scored, `version` the benchmark's version."""

    result: Result
    name: str
    where: str
    bench: str
    rows: str
    version: str | None = None
    status: Status | None = None
    origin: Origin = field(default_factory=list)

    @property
    def is_baseline(self) -> bool:
        """Whether it is a recommender that stands beside the models."""
        return "baseline" in self.result


@dataclass
class Gathered:
    """What was found: entries, and why the rest is none."""

    endpoint: str
    entries: list[Entry] = field(default_factory=list)
    rejected: list[dict[str, str]] = field(default_factory=list)

    def reject(self, where: str, reason: object) -> None:
        """Counts something that cannot be shown."""
        self.rejected.append({"where": where[:300], "reason": " ".join(str(reason).split())[:300]})


def from_files(paths: Iterable[Path], statuses: Statuses | None = None) -> Gathered:
    """Results of `mirror evaluate` and `mirror baselines`: files, or folders that hold them at any depth.

    Other JSON files in folders are passed over; DataError where there are no results at all.
    """
    paths, statuses = list(paths), statuses or Statuses()
    gathered = Gathered(os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/"))
    for top in paths:
        for path in sorted(top.rglob("*.json")) if top.is_dir() else [top]:
            data = _beginning(path)
            if top.is_dir() and b'"baselines"' not in data:
                continue
            where = path.name if path == top else path.relative_to(top).as_posix()
            try:
                gathered.entries.append(_entry(check(data), where, gathered.endpoint, statuses))
            except DataError as problem:
                gathered.reject(where, problem)
    if not gathered.entries and not gathered.rejected:
        raise DataError(f"no results in {', '.join(map(str, paths))}; run `mirror evaluate` first")
    return gathered


def _beginning(path: Path) -> bytes:
    """A file, or as much of it as tells that it is too large."""
    with path.open("rb") as file:
        return file.read(LARGEST + 1)


def _entry(result: Result, where: str, endpoint: str, statuses: Statuses) -> Entry:
    repo, _, version = result.get("bench", "").partition("@")
    return Entry(
        result,
        _name(result["model"]),
        where,
        _name(repo),
        result["bench_revision"],
        version or None,
        None if "baseline" in result else statuses.of(result["model"], result),
        origin_of(result, endpoint),
    )


def _name(model: str) -> str:
    """A Hub id as it is, a folder by its last part."""
    return model if REPO.fullmatch(model) else PurePath(model).name
