"""How far a row can be trusted: self-reported, unless a file of `mirror verify` says more of these very predictions."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hf_mirror.errors import DataError
from hf_mirror.files import read_json
from hf_mirror.leaderboard.checking import Result

Status = Literal["self-reported", "re-scored", "verified"]
STATUSES: tuple[Status, ...] = ("self-reported", "re-scored", "verified")
KEY = ("model", "subset", "mode", "predictions_sha256")


@dataclass(frozen=True)
class Statuses:
    """The best that was verified of each model, subset, mode and predictions' hash."""

    known: dict[tuple[str, ...], Status] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Statuses:
        """Every `*.json` in a folder: `{model, subset, mode, predictions_sha256, status}`. These are the board owner's
        own files, so one that is not so is a DataError."""
        known: dict[tuple[str, ...], Status] = {}
        for path in sorted(folder.rglob("*.json")):
            found = read_json(path)
            if not isinstance(found, dict) or not all(isinstance(found.get(key), str) for key in KEY):
                raise DataError(f"{path} lacks {', '.join(KEY)} or status; expected a file of `mirror verify`")
            if found.get("status") not in STATUSES:
                raise DataError(f"{path} has status {found.get('status')!r}; expected one of {', '.join(STATUSES)}")
            key = tuple(found[name] for name in KEY)
            known[key] = max(known.get(key, STATUSES[0]), found["status"], key=STATUSES.index)
        if not known:
            raise DataError(f"{folder} holds no verification; run `mirror verify` first")
        return cls(known)

    def of(self, model: str, result: Result) -> Status:
        """The status of a result in the repo of `model` (on the Hub), or of this name."""
        key = (model, result["subset"], result["mode"], result.get("predictions_sha256", ""))
        return self.known.get(key, "self-reported")
