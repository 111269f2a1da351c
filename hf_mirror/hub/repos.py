"""The repos of one Hub on disk: `<root>/<kind>/<namespace>/<name>.git`, bare, with a `hub.json` inside each."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hf_mirror.hub import disk
from hf_mirror.hub.commits import first_commit
from hf_mirror.hub.gitread import hub_time
from hf_mirror.hub.names import KINDS, check_repo_id
from hf_mirror.hub.refusals import Refusal, bad_request, no_repo

VISIBILITIES = ("public", "private")
GATES = ("auto", "manual")


@dataclass(frozen=True)
class Repo:
    """One repo: where it lies and what git cannot hold about it."""

    kind: str
    repo_id: str
    folder: Path

    @property
    def namespace(self) -> str:
        """The part before the slash."""
        return self.repo_id.partition("/")[0]

    def is_there(self) -> bool:
        """Whether it was neither deleted nor moved meanwhile."""
        return (self.folder / "hub.json").exists()

    def settings(self) -> dict[str, Any]:
        """`hub.json`: private, gated, created_at, and `sdk` for a Space."""
        return disk.read_json(self.folder / "hub.json")

    def update(self, changes: dict[str, Any]) -> None:
        """Applies `{visibility | private, gated}` as `update_repo_settings` sends them; unknown values are a 400."""
        wanted: dict[str, Any] = {}
        if "gated" in changes:
            if changes["gated"] is not False and changes["gated"] not in GATES:
                raise bad_request(f"Unknown gate {changes['gated']!r}; expected false, 'auto' or 'manual'")
            wanted["gated"] = changes["gated"]
        if "visibility" in changes or "private" in changes:
            wanted["private"] = is_private(changes)
        with disk.locked(self.folder / "hub.lock"):
            disk.write_json(self.folder / "hub.json", self.settings() | wanted)

    def let_in(self, account_id: str) -> None:
        """Lets an account past the gate."""
        with disk.locked(self.folder / "hub.lock"):
            settings = self.settings()
            granted = sorted({*settings.get("granted", []), account_id})
            disk.write_json(self.folder / "hub.json", settings | {"granted": granted})

    def url(self, base: str) -> str:
        """The address that people see; models have no prefix."""
        return f"{base}/{self.repo_id}" if self.kind == "models" else f"{base}/{self.kind}/{self.repo_id}"


def is_private(payload: dict[str, Any]) -> bool:
    """`visibility`, or the older `private`, of a request; 400 for one that is not offered here."""
    visibility, private = payload.get("visibility"), payload.get("private")
    if visibility not in (None, *VISIBILITIES) or not isinstance(private, bool | None):
        raise bad_request("Unknown visibility; this Hub offers public and private")
    return visibility == "private" if visibility else bool(private)


def _moved(folder: Path) -> Path:
    """The file that says where the repo of a name has gone."""
    return folder.with_suffix(".moved")


class Repos:
    """All repos under one root."""

    def __init__(self, root: Path) -> None:
        self.root, self._trash = root, root / "trash"
        for kind in KINDS:
            (root / kind).mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._trash, ignore_errors=True)
        self._trash.mkdir()

    def find(self, kind: str, namespace: str, name: str, follow: bool = True) -> Repo:
        """The repo of this name, or of what it was moved to (`follow`); or 404."""
        repo_id = f"{namespace}/{name}"
        try:
            check_repo_id(namespace, name)
        except Refusal:
            raise no_repo(kind, repo_id) from None
        repo = Repo(kind, repo_id, self.root / kind / namespace / f"{name}.git")
        seen: set[str] = set()
        while not repo.is_there():
            moved = _moved(repo.folder)
            if not follow or repo.repo_id in seen or not moved.exists():
                raise no_repo(kind, repo_id)
            seen.add(repo.repo_id)
            there = disk.read_json(moved)["to"]
            repo = Repo(kind, there, self.root / kind / f"{there}.git")
        return repo

    def current(self, kind: str, repo_id: str) -> str:
        """The name that the repo of a name has now; the same where there is none."""
        namespace, _, name = repo_id.partition("/")
        try:
            return self.find(kind, namespace, name).repo_id
        except Refusal:
            return repo_id

    def all(self, kind: str) -> Iterator[Repo]:
        """Every repo of a kind, by name."""
        base = self.root / kind
        for folder in sorted(base.glob("*/*.git")):
            repo = Repo(kind, folder.relative_to(base).as_posix().removesuffix(".git"), folder)
            if repo.is_there():
                yield repo

    def create(self, kind: str, namespace: str, name: str, payload: dict[str, Any], base: str) -> Repo:
        """A new repo with one commit that holds `.gitattributes`; 409 with its `url` when the name is taken.

        Built aside and renamed into place, so that a killed server never leaves half a repo.
        """
        repo_id = check_repo_id(namespace, name)
        repo = Repo(kind, repo_id, self.root / kind / namespace / f"{name}.git")
        settings = {"private": is_private(payload), "gated": False, "created_at": hub_time(datetime.now(UTC))}
        if not isinstance(payload.get("sdk"), str | None):
            raise bad_request("The field 'sdk' must be a text")
        settings |= {"sdk": payload["sdk"]} if payload.get("sdk") else {}
        draft = self._trash / uuid.uuid4().hex
        first_commit(draft)
        disk.write_json(draft / "hub.json", settings)
        disk.sync_all(draft)
        repo.folder.parent.mkdir(exist_ok=True)
        try:
            with disk.locked(self.root / "repos.lock"):
                draft.rename(repo.folder)
                _moved(repo.folder).unlink(missing_ok=True)
        except OSError as error:
            shutil.rmtree(draft)
            if not repo.folder.exists():
                raise
            message = f"You already created this {kind[:-1]} repo: {repo_id}"
            raise Refusal(409, message, url=repo.url(base)) from error
        disk.sync_folder(repo.folder.parent)
        return repo

    def move(self, repo: Repo, to: str) -> None:
        """Gives a repo another name, under which and under the old one it is found from now on; 409 for a name that is
        taken. The old name may be given to a new repo, which it then means."""
        namespace, _, name = to.partition("/")
        check_repo_id(namespace, name)
        there = self.root / repo.kind / namespace / f"{name}.git"
        with disk.locked(self.root / "repos.lock"), disk.locked(repo.folder / "hub.lock"):
            if there.exists():
                raise Refusal(409, f"Cannot move {repo.repo_id}: {to} already exists")
            there.parent.mkdir(exist_ok=True)
            # First, since a repo that is there comes before what is said about one that has moved.
            disk.write_json(_moved(repo.folder), {"to": to})
            repo.folder.rename(there)
            _moved(there).unlink(missing_ok=True)
        disk.sync_folder(there.parent)
        disk.sync_folder(repo.folder.parent)

    def delete(self, repo: Repo) -> None:
        """Removes a repo. Its large files stay in the Hub's store, where another repo may use them."""
        aside = self._trash / uuid.uuid4().hex
        with disk.locked(repo.folder / "hub.lock"):
            repo.folder.rename(aside)
            _moved(repo.folder).unlink(missing_ok=True)  # of a move that was killed
        disk.sync_folder(repo.folder.parent)
        shutil.rmtree(aside, ignore_errors=True)
