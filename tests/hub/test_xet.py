"""The xorb and shard formats, on bytes put together by hand."""

from __future__ import annotations

import hashlib
import io
import struct
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_mirror.hub.cas import ChunkStore
from hf_mirror.hub.lfs import LargeFiles
from hf_mirror.hub.refusals import Refusal
from hf_mirror.hub.xet import chunks, hash_hex, read_chunk, regroup, shard_files

XORB, OTHER = "ab" * 32, "cd" * 32  # palindromic words: the same in both byte orders


def chunk(plain: bytes, scheme: int) -> bytes:
    data = plain if scheme < 2 else b"".join(plain[i::4] for i in range(4))
    data = data if scheme == 0 else pa.Codec("lz4").compress(data, asbytes=True)
    return b"\0" + len(data).to_bytes(3, "little") + bytes([scheme]) + len(plain).to_bytes(3, "little") + data


def shard(files: list[tuple[list[tuple[str, int, int, int]], bytes]], cut: int = 0) -> bytes:
    """Files of segments (xorb, first, end, bytes) and content, with verification entries and the SHA-256."""
    magic = b"HFRepoMetaData\0" + bytes(
        [85, 105, 103, 69, 106, 123, 129, 87, 131, 165, 189, 217, 92, 205, 209, 74, 169]
    )
    data = magic + struct.pack("<QQ", 2, 0)
    for segments, content in files:
        data += b"\x11" * 32 + struct.pack("<IIQ", 1 << 31 | 1 << 30, len(segments), 0)
        for xorb, first, end, size in segments:
            data += bytes.fromhex(xorb) + struct.pack("<IIII", 0, size, first, end)
        data += bytes(48) * len(segments)
        words = struct.unpack(">4Q", hashlib.sha256(content).digest())
        data += struct.pack("<4Q", *words) + bytes(16)
    data += b"\xff" * 32 + bytes(16)
    return data[: len(data) - cut]


@pytest.fixture
def store(tmp_path: Path) -> ChunkStore:
    return ChunkStore(tmp_path, LargeFiles(tmp_path))


def put(store: ChunkStore, name: str, data: bytes) -> None:
    with store.large_files.draft() as draft:
        draft.write(data)
        store.add_xorb(name, draft)


def held(store: ChunkStore, content: bytes) -> bool:
    path = store.large_files.path(hashlib.sha256(content).hexdigest())
    return path.exists() and path.read_bytes() == content


def test_regroup_by_hand() -> None:
    assert regroup(b"aaabbbccdd") == b"abcdabcdab"


@given(st.lists(st.tuples(st.binary(max_size=300), st.sampled_from([0, 1, 2])), max_size=5), st.booleans())
def test_chunks_come_back(parts: list[tuple[bytes, int]], footer: bool) -> None:
    data = b"".join(chunk(plain, scheme) for plain, scheme in parts) + (b"XETBLOB\x01 whatever" if footer else b"")
    file = io.BytesIO(data)
    assert [bytes(read_chunk(file, found)) for found in chunks(file, len(data))] == [plain for plain, _ in parts]


@pytest.mark.parametrize(
    "data",
    [
        chunk(b"x" * 100, 0)[:-1],  # cut
        b"\x01" + chunk(b"x", 0)[1:],  # a later version
        chunk(b"x", 0)[:4] + b"\x07" + chunk(b"x", 0)[5:],  # an unknown scheme
        b"\0\xff\xff\xff\0\xff\xff\xff" + bytes(10),  # larger than any chunk
        b"abc",
    ],
)
def test_a_malformed_xorb_is_refused(store: ChunkStore, data: bytes) -> None:
    with pytest.raises(Refusal, match="Malformed xorb"):
        put(store, XORB, data)
    assert not (store.folder / XORB).exists()


def test_hash_spelling() -> None:
    assert hash_hex(bytes(range(32))) == "07060504030201000f0e0d0c0b0a090817161514131211101f1e1d1c1b1a1918"


def test_files_are_built_and_the_xorb_goes(store: ChunkStore) -> None:
    parts = [b"one" * 50, b"twotwo" * 50, b"three" * 50 + b"!"]
    put(store, XORB, b"".join(chunk(part, scheme) for scheme, part in enumerate(parts)))
    first, second = b"".join(parts), parts[1] + parts[1]
    size = len(parts[1])
    data = shard([([(XORB, 0, 3, len(first))], first), ([(XORB, 1, 2, size), (XORB, 1, 2, size)], second)])
    assert [file.sha256 for file in shard_files(data)] == store.add_shard(data)
    assert held(store, first) and held(store, second)
    assert not (store.folder / XORB).exists()

    # A client remembers those chunks: a later file may name them without sending them, also after a restart.
    again = ChunkStore(store.folder.parent, LargeFiles(store.folder.parent))
    assert again.store_id == store.store_id
    put(again, OTHER, chunk(b"fresh", 0))
    third = parts[2] + b"fresh"
    again.add_shard(shard([([(XORB, 2, 3, len(parts[2])), (OTHER, 0, 1, 5)], third)]))
    assert held(again, third)


def test_a_xorb_stays_while_a_chunk_is_in_no_file(store: ChunkStore) -> None:
    put(store, XORB, chunk(b"used", 0) + chunk(b"not yet", 0))
    store.add_shard(shard([([(XORB, 0, 1, 4)], b"used")]))
    assert (store.folder / XORB).exists()
    store.add_shard(shard([([(XORB, 1, 2, 7)], b"not yet")]))
    assert held(store, b"not yet") and not (store.folder / XORB).exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (shard([([(XORB, 0, 1, 4)], b"else")]), "SHA-256 of the upload"),
        (shard([([(XORB, 0, 1, 5)], b"four")]), "bytes, not 5"),
        (shard([([(XORB, 0, 2, 4)], b"four")]), "names chunks 0-2"),
        (shard([([(OTHER, 0, 1, 4)], b"four")]), "not held here"),
        (shard([([(XORB, 0, 1, 4)], b"four")], cut=60), "ends inside"),
        (b"not a shard", "not a version 2 shard"),
    ],
)
def test_a_wrong_shard_makes_nothing(store: ChunkStore, data: bytes, message: str) -> None:
    put(store, XORB, chunk(b"four", 0))
    with pytest.raises(Refusal, match=message):
        store.add_shard(data)
    assert not list(store.large_files.objects.glob("*/*/*"))
    store.add_shard(shard([([(XORB, 0, 1, 4)], b"four")]))
    assert held(store, b"four")


def test_a_damaged_lz4_frame_is_refused(store: ChunkStore) -> None:
    put(store, XORB, chunk(b"a" * 100, 1)[:-20] + bytes(20))
    with pytest.raises(Refusal):
        store.add_shard(shard([([(XORB, 0, 1, 100)], b"a" * 100)]))
