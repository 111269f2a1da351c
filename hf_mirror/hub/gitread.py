"""Reading a repo at one revision: what is there, how large, since when. Large files show as what they stand for."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pygit2
from pygit2.enums import FileMode, SortMode

from hf_mirror.hub.lfs import POINTER_LIMIT, Pointer
from hf_mirror.hub.names import is_plain_ref, is_sha
from hf_mirror.hub.refusals import no_entry, no_revision

_FACTS: dict[str, tuple[int, Pointer | None]] = {}  # blob id → size, pointer: true for ever, in every repo
_FACTS_LIMIT = 200_000


@dataclass(frozen=True)
class Entry:
    """A file or folder at a revision. `size` is that of the real content, also for a large file."""

    path: str
    is_folder: bool
    oid: str
    size: int = 0
    lfs: Pointer | None = None

    @property
    def etag(self) -> str:
        """What identifies the content: SHA-256 of a large file, else the git blob id."""
        return self.lfs.oid if self.lfs else self.oid


class Snapshot:
    """One commit of one repo, found by branch, tag, full reference or commit id; 404 when there is none."""

    def __init__(self, folder: Path, revision: str) -> None:
        self.git = pygit2.Repository(str(folder))
        self.revision = revision
        self.commit = find_commit(self.git, revision)
        self.sha = str(self.commit.id)

    def entry(self, path: str) -> Entry:
        """The file or folder at `path` (the root for an empty one), or 404."""
        if not path:
            return Entry("", True, str(self.commit.tree.id))
        try:
            return self._entry(path, self.commit.tree[path])
        except KeyError:
            raise no_entry(path, self.revision) from None

    def list(self, path: str = "", recursive: bool = False) -> Iterator[Entry]:
        """What lies in a folder, in git's order; with `recursive`, each folder before its contents. 404 if none."""
        folder = self.entry(path)
        if not folder.is_folder:
            raise no_entry(path, self.revision)
        yield from self._list(self.git[folder.oid], path, recursive)

    def files(self) -> Iterator[Entry]:
        """Every file."""
        return (entry for entry in self.list(recursive=True) if not entry.is_folder)

    def read(self, path: str) -> bytes | None:
        """The content of a small file, or None when there is no such file or it is a large one."""
        try:
            found = self.commit.tree[path]
        except KeyError:
            return None
        return found.data if isinstance(found, pygit2.Blob) else None

    def blob(self, entry: Entry) -> bytes:
        """The bytes that git holds for a file: its content, or its pointer."""
        return blob_data(self.git, entry.oid)

    def _list(self, tree: Any, path: str, recursive: bool) -> Iterator[Entry]:
        for found in tree:
            entry = self._entry(posixpath.join(path, found.name), found)
            yield entry
            if recursive and entry.is_folder:
                yield from self._list(found, entry.path, True)

    def _entry(self, path: str, found: Any) -> Entry:
        oid = str(found.id)
        if found.filemode == FileMode.TREE:
            return Entry(path, True, oid)
        size, pointer = self._facts(found.id)
        return Entry(path, False, oid, pointer.size if pointer else size, pointer)

    def _facts(self, oid: Any) -> tuple[int, Pointer | None]:
        key = str(oid)
        if key not in _FACTS:
            if len(_FACTS) >= _FACTS_LIMIT:
                _FACTS.clear()
            _, size = self.git.odb.read_header(oid)
            _FACTS[key] = size, Pointer.decode(blob_data(self.git, oid)) if size < POINTER_LIMIT else None
        return _FACTS[key]


def blob_data(git: pygit2.Repository, oid: Any) -> bytes:
    """The bytes of a blob."""
    found = git[oid]
    assert isinstance(found, pygit2.Blob)
    return found.data


def has_ref(git: pygit2.Repository, name: str) -> bool:
    """Whether a full reference exists; no for a name that git would not take at all."""
    return is_plain_ref(name) and pygit2.reference_is_valid_name(name) and name in git.references


def find_commit(git: pygit2.Repository, revision: str) -> pygit2.Commit:
    """The commit that a branch, tag, full reference or full commit id names; 404 when there is none."""
    if is_sha(revision):
        found = git.get(revision)
        if isinstance(found, pygit2.Commit):
            return found
        raise no_revision(revision)
    full = (revision,) if revision.startswith("refs/") else ()  # before branches that git knows by such a name
    for name in (*full, f"refs/heads/{revision}", f"refs/tags/{revision}"):
        if has_ref(git, name):
            return git.references[name].peel(pygit2.Commit)
    raise no_revision(revision)


def commit_date(commit: pygit2.Commit) -> str:
    """When a commit was made."""
    return hub_time(datetime.fromtimestamp(commit.commit_time, UTC))


def hub_time(moment: datetime) -> str:
    """A moment in the one spelling of UTC that clients of the Hub parse."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def history(snapshot: Snapshot) -> Iterator[pygit2.Commit]:
    """The commits that lead to a revision, newest first."""
    return iter(snapshot.git.walk(snapshot.commit.id, SortMode.TOPOLOGICAL | SortMode.TIME))


def last_commits(snapshot: Snapshot, paths: Iterable[str]) -> dict[str, pygit2.Commit]:
    """For each path, the newest commit that changed it, compared with the commit's first parent."""
    open_paths, found = set(paths), dict[str, pygit2.Commit]()
    for commit in history(snapshot):
        if not open_paths:
            break
        parent = commit.parents[0].tree if commit.parents else None
        changed = {path for path in open_paths if _id_at(commit.tree, path) != _id_at(parent, path)}
        found |= dict.fromkeys(changed, commit)
        open_paths -= changed
    return found


def _id_at(tree: Any, path: str) -> str | None:
    if tree is None or not path:
        return None
    try:
        return str(tree[path].id)
    except KeyError:
        return None


def references(folder: Path) -> dict[str, list[dict[str, str]]]:
    """Branches, tags (seen through to their commit), converted branches, pull requests: for `list_repo_refs`."""
    git = pygit2.Repository(str(folder))
    groups = {"branches": "refs/heads/", "tags": "refs/tags/", "converts": "refs/convert/", "pullRequests": "refs/pr/"}
    answer: dict[str, list[dict[str, str]]] = {group: [] for group in groups}
    for name in sorted(git.references):
        for group, prefix in groups.items():
            if name.startswith(prefix):
                target = str(git.references[name].peel(pygit2.Commit).id)
                answer[group].append({"name": name.removeprefix(prefix), "ref": name, "targetCommit": target})
    return answer
