"""Uploads through xet: xorbs and shards come in, plain large files come out.

    <root>/xet/<xorb hash>          a xorb as uploaded, until all of its chunks are part of some file
    <root>/xet/<xorb hash>.json     which chunk of it lies where in which large file

A client remembers which chunks a store holds and does not send them again, in this upload or a later one. So a xorb
stays readable for as long as the store lives: at first from its own bytes, then from the large files made of it, which
keeps every byte on disk once. A store that has lost its contents must not be taken for the old one: `store_id`, part of
the address that clients cache by, is new with every new folder.

The sha256 of each file is what guards the content; the hashes of xorbs and chunks (a keyed BLAKE3) are not recomputed.
"""

from __future__ import annotations

import re
import threading
import uuid
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from hf_mirror.hub.disk import read_json, sync_file, write_json
from hf_mirror.hub.lfs import Draft, LargeFiles
from hf_mirror.hub.refusals import bad_request
from hf_mirror.hub.xet import Stored, chunks, read_chunk, shard_files

Place = tuple[Path, Stored]  # a chunk: the file that holds it, and where
Known = dict[str, list[Place | None]]  # per xorb: its chunks in order


class ChunkStore:
    """The xorbs of one Hub. Shards are worked off one at a time: they change what is known about xorbs."""

    def __init__(self, root: Path, large_files: LargeFiles) -> None:
        self.folder, self.large_files, self._lock = root / "xet", large_files, threading.Lock()
        self.folder.mkdir(exist_ok=True)
        identity = self.folder / "store.json"
        if not identity.exists():
            write_json(identity, {"store_id": uuid.uuid4().hex})
        self.store_id: str = read_json(identity)["store_id"]

    def add_xorb(self, name: str, draft: Draft) -> None:
        """Keeps an uploaded xorb under its hash, after a look at its structure.

        It need not survive a power cut before a shard was built of it: until then the client sends it again.
        """
        check_hash(name)
        draft.flush()
        with draft.path.open("rb") as file:
            for _ in chunks(file, draft.size):
                pass
        draft.path.replace(self.folder / name)

    def add_shard(self, data: bytes) -> list[str]:
        """Builds every file of a shard as a large file and returns their SHA-256; 400 when one cannot be built."""
        with self._lock:
            known: Known = {}
            made = [self._build(file.segments, file.sha256, known) for file in shard_files(data)]
            for name in known:
                self._settle(name, known[name])
            return made

    def _build(self, segments: tuple, sha256: str | None, known: Known) -> str:
        used: list[tuple[str, int, int, int]] = []  # xorb, chunk, offset in the new file, length
        with self.large_files.draft() as draft, closing(_Reader()) as reader:
            for segment in segments:
                table = self._table(segment.xorb, known)
                if not 0 <= segment.first <= segment.end <= len(table):
                    raise bad_request(f"Shard names chunks {segment.first}-{segment.end} of xorb {segment.xorb}")
                start = draft.size
                for index in range(segment.first, segment.end):
                    place = table[index]
                    if place is None:
                        raise bad_request(f"Chunk {index} of xorb {segment.xorb} is not held here; upload it again")
                    data = read_chunk(reader.open(place[0]), place[1])
                    used.append((segment.xorb, index, draft.size, len(data)))
                    draft.write(data)
                if draft.size - start != segment.size:
                    raise bad_request(
                        f"A segment of xorb {segment.xorb} has {draft.size - start} bytes, not {segment.size}"
                    )
            oid = self.large_files.keep(draft, sha256)
        for xorb, index, offset, length in used:
            known[xorb][index] = (self.large_files.path(oid), Stored(offset, length, 0, length))
        return oid

    def _table(self, name: str, known: Known) -> list[Place | None]:
        """Where the chunks of a xorb lie: in large files where that is known, else in the xorb as uploaded."""
        if name in known:
            return known[name]
        body, index = self.folder / check_hash(name), self.folder / f"{name}.json"
        table: list[Place | None] = []
        if body.exists():
            with body.open("rb") as file:
                table = [(body, chunk) for chunk in chunks(file, body.stat().st_size)]
        if index.exists():
            settled = read_json(index)
            paths = [self.large_files.path(oid) for oid in settled["objects"]]
            table += [None] * (len(settled["chunks"]) - len(table))
            for number, (which, offset, length) in enumerate(settled["chunks"]):
                if which >= 0 and paths[which].exists():
                    table[number] = (paths[which], Stored(offset, length, 0, length))
        if not table:
            raise bad_request(f"Xorb {name} is not held here; upload it again")
        known[name] = table
        return table

    def _settle(self, name: str, table: list[Place | None]) -> None:
        """Writes down which chunks are in large files now; when all are, the xorb itself is no longer needed."""
        body, objects, rows = self.folder / name, dict[str, int](), []
        for place in table:
            if place is None or place[0] == body:
                rows.append((-1, 0, 0))
            else:
                which = objects.setdefault(place[0].name, len(objects))
                rows.append((which, place[1].offset, place[1].length))
        write_json(self.folder / f"{name}.json", {"objects": list(objects), "chunks": rows})
        if all(which >= 0 for which, _, _ in rows):
            body.unlink(missing_ok=True)
        elif body.exists():
            sync_file(body)


class _Reader:
    """Keeps the file open that was read last: chunks come in order, so that is nearly always the one wanted next."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._file: BinaryIO | None = None

    def open(self, path: Path) -> BinaryIO:
        if self._file is None or path != self._path:
            self.close()
            self._path, self._file = path, path.open("rb")
        return self._file

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def check_hash(name: str) -> str:
    """A xorb's hash, or 400: it becomes a file name."""
    if not re.fullmatch(r"[0-9a-f]{64}", name):
        raise bad_request(f"Invalid xorb hash {name[:100]!r}")
    return name
