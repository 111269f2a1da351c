"""Who an event is, and every random draw it makes (SCIENCE: identity).

Keys come from SHA-2 and draws from SHAKE-128, so that they depend on the event alone: not on row order, worker count,
Python's hash seed or a library's generator. `event_key` depends on a secret that a rebuild from the same raw files
has and a reader of the published rows has not; it is never written anywhere.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

import numpy as np


def digest(*parts: object) -> str:
    """SHA-256, in hex, of the parts."""
    return hashlib.sha256(_framed(parts)).hexdigest()


def _framed(parts: Sequence[object]) -> bytes:
    """The parts as text, each after its length, so that no two lists of parts run together."""
    return b"".join(len(data).to_bytes(8, "big") + data for data in (str(part).encode() for part in parts))


def seed(*parts: object) -> int:
    """A seed below 2**31 for engines and generators that want an integer."""
    return int(digest(*parts)[:8], 16) >> 1


def build_secret(contents: Sequence[str], build_seed: int) -> bytes:
    """The build's secret: a labelled digest of the raw files' contents (see `content_digest`) and the seed."""
    return bytes.fromhex(digest("hf_mirror build secret", *sorted(contents), build_seed))


def content_digest(data: bytes) -> str:
    """A digest of a raw file that is never published (the published file hashes are plain SHA-256)."""
    return hashlib.sha256(b"hf_mirror raw content\0" + data).hexdigest()


def event_key(secret: bytes, domain: str, user: str, item: str, timestamp_ms: int, ordinal: int) -> bytes:
    """32 bytes that name one event; `ordinal` numbers events with the same user, item and time."""
    return hmac.digest(secret, _framed((domain, user, item, timestamp_ms, ordinal)), "sha256")


def scene_id(domain: str, user: str, timestamp_ms: int, rank: int, exposure: Sequence[str]) -> str:
    """32 hex digits without the truth in them: the exposure enters sorted."""
    return digest("scene", domain, user, timestamp_ms, rank, *sorted(exposure))[:32]


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

    def weighted(self, weights: np.ndarray, count: int) -> list[int] | None:
        """`count` distinct positions, each drawn in proportion to the weights left; None where too few are positive.

        `weights` are non-negative integers, shape [n]: sums are exact and the draw is the same on every machine.
        """
        if int(np.count_nonzero(weights)) < count:
            return None
        cumulative = np.cumsum(weights, dtype=np.int64)
        chosen: list[int] = []
        misses = 0
        while len(chosen) < count:
            position = int(np.searchsorted(cumulative, self.below(int(cumulative[-1])), side="right"))
            if position not in chosen:
                chosen.append(position)
            elif (misses := misses + 1) > 32:
                # What is left is small: take out what has been chosen, so that the loop ends.
                rest = weights.copy()
                rest[chosen] = 0
                cumulative, misses = np.cumsum(rest, dtype=np.int64), 0
        return chosen
