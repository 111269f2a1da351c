"""Small files that are whole or absent, and one lock per repo."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pygit2

from hf_mirror.hub.refusals import Refusal

STALE_SECONDS = 60


def sync_file(path: Path) -> None:
    """Makes what was written to a file survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Makes a rename or a link inside `folder` survive a power cut."""
    sync_file(folder)


def sync_all(folder: Path) -> None:
    """Makes everything written so far to the file system of `folder` survive a power cut.

    A commit of thousands of files is thousands of git objects: one flush of all takes as long as a few of single files.
    """
    try:
        syncfs = ctypes.CDLL(None, use_errno=True).syncfs  # Linux; Python offers only os.sync
    except (AttributeError, OSError):
        os.sync()
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        if syncfs(handle) != 0:
            raise OSError(ctypes.get_errno(), "syncfs failed", str(folder))
    finally:
        os.close(handle)


def write_ref(git_folder: Path, name: str, oid: str) -> None:
    """Points a reference at an object, in git's own way (write `<name>.lock`, rename), after flushing the objects.

    The caller holds the repo's lock, so that a `.lock` that is there was left by a run that was killed.
    """
    sync_all(git_folder)
    path = git_folder / name
    _clear(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f"{path.name}.lock")
    with lock.open("w") as file:
        file.write(f"{oid}\n")
        file.flush()
        os.fsync(file.fileno())
    lock.replace(path)
    sync_folder(path.parent)


def delete_ref(git: pygit2.Repository, git_folder: Path, name: str) -> None:
    """Deletes a reference. The caller holds the repo's lock; that of packed references is git's, which holds it for a
    moment: one that is a minute old was left by a run that was killed."""
    (git_folder / f"{name}.lock").unlink(missing_ok=True)
    packed = git_folder / "packed-refs.lock"
    try:
        for _ in range(100):
            if packed.stat().st_mtime < time.time() - STALE_SECONDS:
                packed.unlink()
            time.sleep(0.05)
        raise Refusal(409, "git is at work on the references of this repository; ask again in a minute")
    except FileNotFoundError:
        pass
    git.references.delete(name)


def _clear(path: Path) -> None:
    """Removes an empty folder where a reference is to be a file, with the locks in it: they were left by a run that was
    killed, since no other reference begins with this name (`a/b` where `a` is written)."""
    if not path.is_dir():
        return
    for inside, _, files in os.walk(path, topdown=False):
        for name in files:
            if name.endswith(".lock"):
                (Path(inside) / name).unlink()
        Path(inside).rmdir()


def write_json(path: Path, value: Any) -> None:
    """Writes `value` beside `path`, flushes it, and renames it into place.

    Compact, and without the Arrow import of `hf_mirror.files`: the server starts in a fraction of a second.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(value, file, ensure_ascii=False, separators=(",", ":"))
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
    sync_folder(path.parent)


def read_json(path: Path) -> Any:
    """Reads what `write_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock file at `path`: one writer at a time, between threads and between processes. 404 where the repo
    around it went away, or became another one, while this waited."""
    try:
        with path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
                raise FileNotFoundError
            yield
    except FileNotFoundError:
        if path.parent.exists() and path.exists():
            raise
        raise Refusal(404, "The repository is not there any more", "RepoNotFound") from None
