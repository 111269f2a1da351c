"""Reading the two binary formats of the xet protocol, as far as an upload needs them.

A *xorb* is a row of compressed chunks, a *shard* says which chunks of which xorbs make up which file. Formats as in
https://github.com/huggingface/xet-core (`xet_core_structures/src/xorb_object`, `…/metadata_shard`), all numbers
little-endian:

    chunk   version u8 = 0 · stored length u24 · scheme u8 · plain length u24 · data
    scheme  0 as it is · 1 an LZ4 frame · 2 an LZ4 frame of the four byte planes, one after the other
    xorb    chunk* [a footer that starts with "XETBLOB"]
    shard   magic 32 bytes · version u64 · footer size u64 · file* · an entry whose hash is all ones · xorb info …
    file    entry(file hash, flags, segments n, -) · n × entry(xorb hash, flags, plain bytes, first chunk, end chunk)
            [· n × verification entry, if flags bit 31] [· entry(SHA-256, -), if flags bit 30]
    entry   48 bytes: hash 32 · four u32
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from hf_mirror.hub.refusals import bad_request

MAX_CHUNK = 128 * 1024
MAX_XORB = 64 * 1024 * 1024 + 1024 * 1024  # the content limit, and room for chunk headers and a footer
MAX_SHARD = 64 * 1024 * 1024

_MAGIC = b"HFRepoMetaData\x00UigEj{\x81W\x83\xa5\xbd\xd9\\\xcd\xd1J\xa9"
_ENTRY = struct.Struct("<32sIIII")
_HAS_VERIFICATION, _HAS_SHA256 = 1 << 31, 1 << 30


@dataclass(frozen=True)
class Stored:
    """Where one chunk lies in a file: offset and length of what is stored, how, and its plain length."""

    offset: int
    length: int
    scheme: int
    size: int


@dataclass(frozen=True)
class Segment:
    """A run of chunks `[first, end)` of one xorb, `size` plain bytes in all."""

    xorb: str
    first: int
    end: int
    size: int


@dataclass(frozen=True)
class ShardFile:
    """One file of a shard: its segments in order, and its SHA-256 where the client knew it."""

    segments: tuple[Segment, ...]
    sha256: str | None


def hash_hex(raw: bytes) -> str:
    """The hex spelling of a 32-byte hash in URLs: four little-endian 64-bit words."""
    return "".join(f"{word:016x}" for word in struct.unpack("<4Q", raw))


def chunks(file: BinaryIO, size: int) -> Iterator[Stored]:
    """The chunks of a serialised xorb of `size` bytes, from their headers alone; 400 when it is malformed or cut."""
    offset = 0
    while offset < size:
        file.seek(offset)
        header = file.read(8)
        if header.startswith(b"XETBLOB"):
            return
        if len(header) < 8 or header[0] != 0:
            raise bad_request(f"Malformed xorb: no chunk header at byte {offset}")
        length, plain = int.from_bytes(header[1:4], "little"), int.from_bytes(header[5:8], "little")
        if plain > MAX_CHUNK or length > 2 * MAX_CHUNK or header[4] > 2 or offset + 8 + length > size:
            raise bad_request(f"Malformed xorb: the chunk at byte {offset} is cut, too large or of an unknown scheme")
        yield Stored(offset + 8, length, header[4], plain)
        offset += 8 + length


def read_chunk(file: BinaryIO, chunk: Stored) -> bytes | bytearray:
    """The plain bytes of one chunk; 400 when they are not as long as its header says."""
    file.seek(chunk.offset)
    data = file.read(chunk.length)
    plain = data if chunk.scheme == 0 else _unpack_lz4(data, chunk.size)
    if len(plain) != chunk.size:
        raise bad_request(f"Malformed xorb: a chunk holds {len(plain)} bytes, its header says {chunk.size}")
    return regroup(plain) if chunk.scheme == 2 else plain


def _unpack_lz4(data: bytes, size: int) -> bytes:
    import pyarrow as pa  # 30 MB that only uploads need

    try:
        return pa.Codec("lz4").decompress(data, size, asbytes=True)
    except (OSError, pa.ArrowException) as error:
        raise bad_request(f"Malformed xorb: a chunk is not an LZ4 frame of {size} bytes ({error})") from None


def regroup(planes: bytes) -> bytearray:
    """Undoes the grouping by four: every first byte of a four-byte word comes first, then every second one, …"""
    whole, rest = divmod(len(planes), 4)
    result, start = bytearray(len(planes)), 0
    for index in range(4):
        count = whole + (index < rest)
        result[index::4] = planes[start : start + count]
        start += count
    return result


def shard_files(data: bytes) -> list[ShardFile]:
    """The files that a shard describes; 400 when it is not a shard or is cut."""
    if len(data) < 48 or data[:32] != _MAGIC or int.from_bytes(data[32:40], "little") != 2:
        raise bad_request("Malformed shard: not a version 2 shard file")
    try:
        return list(_shard_files(data))
    except struct.error:
        raise bad_request(f"Malformed shard: it ends inside an entry, after {len(data)} bytes") from None


def _shard_files(data: bytes) -> Iterator[ShardFile]:
    offset = 48
    while True:
        file_hash, flags, count, _, _ = _ENTRY.unpack_from(data, offset)
        if file_hash == b"\xff" * 32:
            return
        offset += 48
        segments = tuple(_segment(data, offset + 48 * index) for index in range(count))
        offset += 48 * count * (2 if flags & _HAS_VERIFICATION else 1)
        sha256 = None
        if flags & _HAS_SHA256:
            sha256 = hash_hex(_ENTRY.unpack_from(data, offset)[0])
            offset += 48
        yield ShardFile(segments, sha256)


def _segment(data: bytes, offset: int) -> Segment:
    xorb, _, size, first, end = _ENTRY.unpack_from(data, offset)
    return Segment(hash_hex(xorb), first, end, size)
