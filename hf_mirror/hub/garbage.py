"""Large files that no commit uses any more: found by walking everything that references lead to, then removed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pygit2
from pygit2.enums import FileMode, SortMode

from hf_mirror.errors import DataError
from hf_mirror.hub.gitread import blob_data
from hf_mirror.hub.lfs import POINTER_LIMIT, LargeFiles, Pointer
from hf_mirror.hub.names import KINDS
from hf_mirror.hub.repos import Repos
from hf_mirror.hub.server import alone


def collect(root: Path, dry_run: bool = False) -> dict[str, int]:
    """Removes what no repo of the Hub on `root` uses: how many large files are kept and removed, and the bytes freed.

    Uploads that no commit followed count as unused, unfinished ones included, and so do files of deleted repos and of
    history that was squashed. The Hub must not be served meanwhile (ConfigError): an upload might be under way. What
    git itself holds is left to `git gc`, which works on the repos as they are. With `dry_run` nothing is removed.
    """
    if not any((root / kind).is_dir() for kind in KINDS):
        raise DataError(f"{root} holds no Hub; give the folder that `mirror hub serve --root` was given")
    with alone(root):
        repos, large_files = Repos(root), LargeFiles(root)
        used: set[str] = set()
        removed = 0
        for repo in (repo for kind in KINDS for repo in repos.all(kind)):
            here = _used(repo.folder)
            used |= here
            for link in _objects(repo.folder / "lfs" / "objects"):
                if link.name not in here and not dry_run:
                    link.unlink()
        kept = freed = 0
        unused = []
        for path in _objects(large_files.objects):
            if path.name in used:
                kept += 1
            else:
                unused.append(path)
                removed, freed = removed + 1, freed + path.stat().st_size
        for upload in sorted((root / "multipart").glob("*")):
            removed, freed = removed + 1, freed + upload.stat().st_size
            if not dry_run:
                upload.unlink()
        if unused and not dry_run:
            # First: clients remember which chunks a store holds. Without this folder it makes itself a new name.
            shutil.rmtree(root / "xet", ignore_errors=True)
            for path in unused:
                path.unlink()
    return {"kept": kept, "removed": removed, "freed_bytes": freed}


def _objects(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.glob("*/*/*"))


def _used(folder: Path) -> set[str]:
    """The large files of everything that the references of a repo lead to."""
    git = pygit2.Repository(str(folder))
    found: set[str] = set()
    seen: set[Any] = set()
    walk = git.walk(None, SortMode.NONE)
    for name in git.references:
        walk.push(git.references[name].peel(pygit2.Commit).id)
    for commit in walk:
        _look(git, commit.tree, seen, found)
    return found


def _look(git: pygit2.Repository, tree: Any, seen: set[Any], found: set[str]) -> None:
    if tree.id in seen:
        return
    seen.add(tree.id)
    for entry in tree:
        if entry.filemode == FileMode.TREE:
            _look(git, entry, seen, found)
        elif entry.id not in seen:
            seen.add(entry.id)
            _, size = git.odb.read_header(entry.id)
            pointer = Pointer.decode(blob_data(git, entry.id)) if size < POINTER_LIMIT else None
            if pointer is not None:
                found.add(pointer.oid)
