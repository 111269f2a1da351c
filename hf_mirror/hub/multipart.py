"""LFS `multipart`: a large file comes in parts, so that a broken connection costs one part and not the file.

    <root>/multipart/<SHA-256 of the file>/<SHA-256 of a part>

The ETag of a part is its SHA-256, and the parts are joined in the order in which the client names them at the end. What
they make must have the SHA-256 that was announced. Parts outlive the server: a client that waits for it to come back
goes on where it was. The protocol is that of `huggingface_hub/lfs.py`.
"""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

from hf_mirror.hub.lfs import Draft, LargeFiles
from hf_mirror.hub.names import check_sha256
from hf_mirror.hub.refusals import Refusal, bad_request

PART = 64 * 1024 * 1024
KEPT_SECONDS = 24 * 3600  # how long an upload may pause, and how long its addresses are good
_BLOCK = 1024 * 1024


class Parts:
    """The parts of uploads that are not finished yet."""

    def __init__(self, root: Path, large_files: LargeFiles) -> None:
        self.folder, self._large_files, self._lock = root / "multipart", large_files, threading.Lock()
        self.folder.mkdir(exist_ok=True)
        self.forget_old()

    def forget_old(self) -> None:
        """Removes uploads that got no part for a day: nobody goes on with them."""
        with self._lock:
            for upload in self.folder.iterdir():
                if upload.stat().st_mtime < time.time() - KEPT_SECONDS:
                    shutil.rmtree(upload)

    def header(self, size: int, url: str, word: str) -> dict[str, str]:
        """What tells a client to send a file of `size` bytes in parts, and the address of each."""
        count = -(-size // PART)
        return {"chunk_size": str(PART)} | {str(n): f"{url}/parts/{n}?word={word}" for n in range(1, count + 1)}

    def add(self, oid: str, draft: Draft) -> str:
        """Keeps one part of the file `oid`, and returns its ETag."""
        draft.close()
        with self._lock:
            (self.folder / oid).mkdir(exist_ok=True)
            draft.path.replace(self.folder / oid / draft.sha256)
        return draft.sha256

    def join(self, oid: str, etags: list[str], limit: int) -> None:
        """Makes the file `oid` of its parts; 400 when one is missing, or when they make another file.

        Asked again, since an answer was lost, it finds the file in the store.
        """
        if self._large_files.size(oid) is None:
            paths = [self.folder / oid / check_sha256(etag) for etag in etags]
            with self._large_files.draft() as whole:
                for path in paths:
                    self._append(whole, path, limit)
                self._large_files.keep(whole, oid)
        with self._lock:
            shutil.rmtree(self.folder / oid, ignore_errors=True)

    def _append(self, whole: Draft, path: Path, limit: int) -> None:
        try:
            file = path.open("rb")
        except FileNotFoundError:
            raise bad_request(f"The part {path.name} of {path.parent.name} was not uploaded; upload it again") from None
        with file:
            while block := file.read(_BLOCK):
                if whole.size + len(block) > limit:
                    raise Refusal(413, f"The parts make more than {limit} bytes")
                whole.write(block)
