"""How far a row can be trusted: self-reported, unless a record of `mirror verify` says more of this very file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hf_mirror.errors import DataError
from hf_mirror.files import read_json
from hf_mirror.result_schema import Result

Status = Literal["self-reported", "re-scored", "verified"]
STATUSES: tuple[Status, ...] = ("self-reported", "re-scored", "verified")
KEY = ("model", "subset", "mode", "predictions_sha256")


@dataclass(frozen=True)
class Statuses:
    """What was verified: commits of a model's repo and their status, by model, subset, mode and predictions."""

    known: dict[tuple[str, ...], list[tuple[str, Status]]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Statuses:
        """Every record of every `*.json` in a folder, as `mirror verify --out` writes them. These are the board owner's
        own files, so one that is not so is a DataError."""
        statuses = cls()
        for path in sorted(folder.rglob("*.json")):
            records = read_json(path)
            for record in records if isinstance(records, list) else [records]:
                statuses._add(record, path)
        if not statuses.known:
            raise DataError(f"{folder} holds no verification; run `mirror verify --out` first")
        return statuses

    def _add(self, record: Any, path: Path) -> None:
        if not isinstance(record, dict) or not all(isinstance(record.get(key), str) for key in (*KEY, "commit")):
            raise DataError(f"{path} lacks {', '.join(KEY)} or commit; expected what `mirror verify --out` wrote")
        if record.get("status") not in STATUSES:
            raise DataError(f"{path} has status {record.get('status')!r}; expected one of {', '.join(STATUSES)}")
        self.known.setdefault(tuple(record[name] for name in KEY), []).append((record["commit"], record["status"]))

    def of(self, model: str, result: Result, is_same: Callable[[str], bool]) -> Status:
        """The best status of a result in the repo of `model`; `is_same` says whether the results file at a commit is
        the one that the result was read from."""
        records = self.known.get((model, result["subset"], result["mode"], result.get("predictions_sha256", "")), [])
        return max((status for commit, status in records if is_same(commit)), default=STATUSES[0], key=STATUSES.index)
