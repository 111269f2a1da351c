"""Who an event is, and every random draw it makes (SCIENCE: identity).

Keys come from SHA-2, and draws from SHAKE-128 (`Draws`, one stream) or from SplitMix64 (`Streams`, a stream for each of
many events at once), so that they depend on the event alone: not on row order, worker count, Python's hash seed or a
library's generator. `event_key` depends on a secret that a rebuild from the same raw files
has and a reader of the published rows has not; it is never written anywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np


def digest(*parts: object) -> str:
    """SHA-256, in hex, of the parts."""
    return hashlib.sha256(_framed(parts)).hexdigest()


def _framed(parts: Sequence[object]) -> bytes:
    """The parts as netstrings, each after its length, so that no two lists of parts run together."""
    return "".join([f"{len(text)}:{text}" for text in map(str, parts)]).encode("utf-8", "surrogatepass")


def seed(*parts: object) -> int:
    """A seed below 2**31 for engines and generators that want an integer."""
    return int(digest(*parts)[:8], 16) >> 1


def build_secret(contents: Sequence[str], build_seed: int) -> bytes:
    """The build's secret: a digest of the raw files' contents (the private ones of `file_digests`) and the seed."""
    return bytes.fromhex(digest("hf_mirror build secret", *sorted(contents), build_seed))


def file_digests(path: Path) -> tuple[str, str]:
    """Two digests of a raw file, in hex: its SHA-256, which is published, and a labelled one, which never is."""
    public, private = hashlib.sha256(), hashlib.sha256(b"hf_mirror raw content\0")
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            public.update(block)
            private.update(block)
    return public.hexdigest(), private.hexdigest()


def seal_key(secret: bytes) -> bytes:
    """64 bytes that lock published rows to these raw files (sealing.py). They do not give the secret away."""
    return hashlib.blake2b(key=secret, person=b"hf_mirror seal").digest()


def event_key(secret: bytes, domain: str, user: str, item: str, timestamp_ms: int, ordinal: int) -> bytes:
    """32 bytes that name one event, by a keyed hash (BLAKE2b, RFC 7693). `ordinal` numbers events with the same user,
    item and time."""
    message = _framed((domain, user, item, timestamp_ms, ordinal))
    return hashlib.blake2b(message, key=secret, digest_size=32).digest()


def scene_id(domain: str, user: str, timestamp_ms: int, rank: int, exposure: Sequence[str]) -> str:
    """32 hex digits without the truth in them: the exposure enters sorted."""
    return digest("scene", domain, user, timestamp_ms, rank, *sorted(exposure))[:32]


def id_hashes(ids: Sequence[str]) -> np.ndarray:
    """64 bits per id, shape [ids]: they do not depend on which other ids there are."""
    return np.frombuffer(b"".join(hashlib.blake2b(one.encode(), digest_size=8).digest() for one in ids), dtype="<u8")


def lots(secret: bytes, *parts: np.ndarray) -> np.ndarray:
    """A 64-bit lot per row of the integer columns `parts`, shape [n]: the order in which events are taken."""
    words = np.frombuffer(hashlib.sha256(secret + b"lots").digest(), dtype="<u8")
    state = np.full(len(parts[0]), words[0])
    for part in parts:
        state = _mix(state ^ part.astype(np.uint64))
    return _mix(state ^ words[1])


GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014, https://doi.org/10.1145/2660193.2660195)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@cache
def _word(purpose: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little"))


class Streams:
    """For each of n events, a stream of uniform integers per purpose. `keys` are event keys, uint8 [n, 32]."""

    def __init__(self, keys: np.ndarray) -> None:
        self._words = np.ascontiguousarray(keys).view("<u8")

    def below(
        self,
        purpose: str,
        bound: np.ndarray | int,
        rows: np.ndarray | slice = slice(None),
        at: np.ndarray | int = 0,
    ) -> np.ndarray:
        """Number `at` of each row's stream, scaled to 0 … bound - 1; `bound` below 2**32. Both one, or one per row.

        The scaling keeps the high part of a 64-bit product, so that its bias is below 2**-32.
        """
        step = np.atleast_1d(at).astype(np.uint64) + np.uint64(1)
        state = _mix(self._words[rows, 0] ^ _word(purpose)) + GOLDEN * step
        number = _mix(state ^ self._words[rows, 1])
        bound = np.asarray(bound, np.uint64)
        high, low = number >> np.uint64(32), number & np.uint64(0xFFFFFFFF)
        return ((high * bound + (low * bound >> np.uint64(32))) >> np.uint64(32)).astype(np.int64)


class Draws:
    """The stream of uniform integers that belongs to one event and one purpose."""

    def __init__(self, key: bytes, purpose: str) -> None:
        self._key = key + purpose.encode()
        self._block = 0
        self._numbers: list[int] = []

    def below(self, n: int) -> int:
        """An integer from 0 to n - 1; 128 bits scaled to n, so that the bias is below 2**-64 for any table size."""
        if not self._numbers:
            data = hashlib.shake_128(self._key + self._block.to_bytes(4, "big")).digest(256)
            self._numbers = [int.from_bytes(data[i : i + 16], "big") for i in range(240, -1, -16)]
            self._block += 1
        return self._numbers.pop() * n >> 128

    def shuffled(self, items: Sequence[int]) -> list[int]:
        """The items in random order (Fisher-Yates)."""
        result = list(items)
        for last in range(len(result) - 1, 0, -1):
            other = self.below(last + 1)
            result[last], result[other] = result[other], result[last]
        return result
