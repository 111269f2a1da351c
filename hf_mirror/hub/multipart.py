"""LFS `multipart`: a large file comes in parts, so that a broken connection costs one part and not the file.

    <root>/multipart/<SHA-256 of the file>-<upload>     the parts so far, one after the other

Parts come in order, as `huggingface_hub/lfs.py` sends them, and each may be sent again. What they make must have the
SHA-256 that was announced; then it becomes a large file by a rename. An upload outlives the server: a client that waits
for it to come back goes on where it was.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import threading
import time
from pathlib import Path
from types import TracebackType

from hf_mirror.hub.disk import sync_file
from hf_mirror.hub.lfs import LargeFiles
from hf_mirror.hub.refusals import Refusal, bad_request

PART = 64 * 1024 * 1024
KEPT_SECONDS = 24 * 3600  # how long an upload may pause, and how long its addresses are good
_BLOCK = 1024 * 1024


class Upload:
    """One file on its way, in one order of parts; whoever sends a part last is the one that writes."""

    def __init__(self, path: Path) -> None:
        self.path, self.lock = path, threading.Lock()
        self.hashes = [hashlib.sha256()]  # of the first 0, 1, 2, … parts
        self.writer: Part | None = None

    def part(self, number: int) -> Part:
        """Begins a part, and forgets it and all after it if it was here before; 400 when one before it is missing."""
        with self.lock:
            self.path.touch()
            start = (number - 1) * PART
            if self.path.stat().st_size < start:
                raise bad_request(f"Part {number} came before the one before it was whole; send the parts in order")
            self._catch_up(number - 1)
            del self.hashes[number:]
            os.truncate(self.path, start)
            self.writer = Part(self, self.hashes[-1].copy())
            return self.writer

    def end(self, large_files: LargeFiles, oid: str) -> None:
        """Makes the large file `oid` of what came; 400 when it is another one."""
        with self.lock:
            self.writer = None
            self._catch_up(-(-self.path.stat().st_size // PART))
            if (found := self.hashes[-1].hexdigest()) != oid:
                self.path.unlink()
                raise bad_request(f"SHA-256 of the parts is {found}, but {oid} was announced; send them again")
            sync_file(self.path)
            large_files.place(self.path, oid)

    def _catch_up(self, count: int) -> None:
        """Hashes those of the first `count` parts that came to a server before this one."""
        with self.path.open("rb") as file:
            while len(self.hashes) <= count:
                file.seek((len(self.hashes) - 1) * PART)
                known, left = self.hashes[-1].copy(), PART
                while left and (block := file.read(min(left, _BLOCK))):
                    known.update(block)
                    left -= len(block)
                self.hashes.append(known)


class Part:
    """A part being written to the end of its upload."""

    def __init__(self, upload: Upload, known: hashlib._Hash) -> None:
        self.size, self._upload, self._hash = 0, upload, known
        self._file = upload.path.open("ab", buffering=0)

    def write(self, data: bytes | bytearray) -> None:
        """Appends `data`; 409 when the part was begun again meanwhile, as a client does that lost its connection."""
        with self._upload.lock:
            self._check()
            self._file.write(data)
            self._hash.update(data)
            self.size += len(data)

    def end(self) -> str:
        """The ETag: the SHA-256 of all that came so far."""
        with self._upload.lock:
            self._check()
            self._upload.hashes.append(self._hash)
            self._upload.writer = None
            return self._hash.hexdigest()

    def _check(self) -> None:
        if self._upload.writer is not self:
            raise Refusal(409, "This part was sent again meanwhile")

    def __enter__(self) -> Part:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()


class Uploads:
    """All uploads in parts of one Hub that are not finished yet."""

    def __init__(self, root: Path, large_files: LargeFiles) -> None:
        self.folder, self._large_files, self._lock = root / "multipart", large_files, threading.Lock()
        self._known: dict[str, Upload] = {}
        self.folder.mkdir(exist_ok=True)
        self.forget_old()

    def forget_old(self) -> None:
        """Removes uploads that got nothing for a day: nobody goes on with them."""
        with self._lock:
            for path in self.folder.iterdir():
                if path.stat().st_mtime < time.time() - KEPT_SECONDS:
                    path.unlink()
                    self._known.pop(path.name, None)

    def offer(self, url: str, word: str, size: int) -> dict[str, object]:
        """An LFS action that tells a client to send a file of `size` bytes in parts, each to an address of its own."""
        self.forget_old()
        url, query = f"{url}/parts/{secrets.token_hex(8)}", f"?word={word}"
        numbers = range(1, -(-size // PART) + 1)
        header = {"chunk_size": str(PART)} | {str(n): f"{url}/{n}{query}" for n in numbers}
        return {"href": url + query, "header": header}

    def find(self, oid: str, name: str) -> Upload:
        """The upload of this name, which may be a new one."""
        if not re.fullmatch(r"[0-9a-f]{16}", name):
            raise bad_request(f"Invalid upload {name[:100]!r}")
        with self._lock:
            return self._known.setdefault(f"{oid}-{name}", Upload(self.folder / f"{oid}-{name}"))

    def end(self, oid: str, name: str) -> None:
        """Makes the large file; asked again, since the answer was lost, it finds the file there."""
        upload = self.find(oid, name)
        if upload.path.exists():
            upload.end(self._large_files, oid)
        elif self._large_files.size(oid) is None:
            raise bad_request("No part of this upload came; send them again")
        with self._lock:
            self._known.pop(upload.path.name, None)
