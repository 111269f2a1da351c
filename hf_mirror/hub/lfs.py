"""Large files: one copy per SHA-256 for the whole Hub, hard-linked into every repo that uses it.

    <root>/objects/ab/cd/abcd…                 the one copy
    <repo>.git/lfs/objects/ab/cd/abcd…         the same bytes, where `git lfs` looks for them

What git itself stores is the pointer file of https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hf_mirror.hub.disk import sync_folder
from hf_mirror.hub.refusals import bad_request

POINTER_LIMIT = 300  # bytes; a pointer file has about 130
_POINTER = re.compile(rb"version https://git-lfs\.github\.com/spec/v1\noid sha256:([0-9a-f]{64})\nsize (\d+)\n")


@dataclass(frozen=True)
class Pointer:
    """What a pointer file says: the SHA-256 and the size in bytes of the real content."""

    oid: str
    size: int

    def encode(self) -> bytes:
        """The pointer file itself."""
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.oid}\nsize {self.size}\n".encode()

    @staticmethod
    def decode(data: bytes) -> Pointer | None:
        """The pointer in `data`, or None when `data` is ordinary content."""
        match = _POINTER.fullmatch(data)
        return Pointer(match[1].decode(), int(match[2])) if match else None


class Draft:
    """A file being written: hashed on the way, kept only when `LargeFiles.keep` renames it into place."""

    def __init__(self, folder: Path) -> None:
        handle, name = tempfile.mkstemp(dir=folder, suffix=".part")
        self.path, self.size, self._hash = Path(name), 0, hashlib.sha256()
        self._file = os.fdopen(handle, "wb")

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Appends `data`."""
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    def flush(self) -> None:
        """Hands everything to the operating system: it survives the end of this process, and no power cut."""
        self._file.flush()

    def close(self) -> None:
        """Flushes to disk, so that a later rename never shows a half-written file after a crash."""
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    @property
    def sha256(self) -> str:
        """SHA-256 of what has been written so far, in hex."""
        return self._hash.hexdigest()

    def __enter__(self) -> Draft:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)


class LargeFiles:
    """The store of one Hub. Objects are never changed once they have their name."""

    def __init__(self, root: Path) -> None:
        self.objects, self.parts = root / "objects", root / "parts"
        self.objects.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.parts, ignore_errors=True)  # left over from a run that was killed
        self.parts.mkdir()

    @contextmanager
    def draft(self) -> Iterator[Draft]:
        """A new draft beside the objects; it disappears at the end unless it was kept."""
        with Draft(self.parts) as draft:
            yield draft

    def path(self, oid: str) -> Path:
        """Where the object with this SHA-256 lies, or would lie."""
        return self.objects / oid[:2] / oid[2:4] / oid

    def size(self, oid: str) -> int | None:
        """Size in bytes, or None when the Hub does not hold the object."""
        try:
            return self.path(oid).stat().st_size
        except FileNotFoundError:
            return None

    def keep(self, draft: Draft, expected: str | None = None) -> str:
        """Moves a finished draft into the store and returns its SHA-256; 400 when that is not `expected`."""
        if expected is not None and draft.sha256 != expected:
            raise bad_request(f"SHA-256 of the upload is {draft.sha256}, but {expected} was announced; send it again")
        draft.close()
        self.place(draft.path, draft.sha256)
        return draft.sha256

    def place(self, path: Path, oid: str) -> None:
        """Makes the object with this SHA-256 of a file that is on disk. One that is here stays: repos link to it."""
        target = self.path(oid)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            path.unlink()
        else:
            path.replace(target)
        sync_folder(target.parent)

    @staticmethod
    def is_linked(git_folder: Path, oid: str) -> bool:
        """Whether a repo uses the object, or did in history that was squashed since."""
        return (git_folder / "lfs" / "objects" / oid[:2] / oid[2:4] / oid).exists()

    def link_into(self, git_folder: Path, oid: str) -> None:
        """Makes the object visible to `git lfs` in one repo: a hard link, or a copy where links are not possible.

        The commit that follows makes it survive a power cut.
        """
        target = git_folder / "lfs" / "objects" / oid[:2] / oid[2:4] / oid
        if target.exists():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(self.path(oid), target)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
                raise
            with self.draft() as draft, self.path(oid).open("rb") as source:
                while block := source.read(1 << 20):
                    draft.write(block)
                draft.close()
                draft.path.replace(target)
