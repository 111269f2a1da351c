"""Locks rows to the raw files that they come from.

What was written about a closed source cannot be published in the clear, and its masked form has lost words. So each
closed row also carries itself, encrypted under a key that is derived from the contents of the raw files: who has the
same files rebuilds the key, and nobody else has it. `mirror rehydrate` opens the rows.

AES-SIV (RFC 5297) needs no nonce: the same row gives the same bytes, so that publishing twice changes nothing, and an
altered or misplaced row does not open. Its length is padded, because lengths of titles tell which title it is.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import zlib
from pathlib import Path
from typing import Any

from hf_mirror.errors import DataError

KEY_FILE = "seal.key"  # of a domain's folder: never published
PADDED_TO = 256  # bytes


class Seal:
    """The lock of one build. `key` has 64 bytes."""

    def __init__(self, key: bytes):
        from cryptography.hazmat.primitives.ciphers.aead import AESSIV

        self._cipher = AESSIV(key)
        self._mark_key = hashlib.blake2b(key=key, person=b"hf_mirror mark").digest()

    @staticmethod
    def of(folder: Path) -> Seal:
        """The lock that a build left in a domain's folder."""
        path = folder / KEY_FILE
        try:
            key = bytes.fromhex(path.read_text(encoding="ascii"))
        except FileNotFoundError:
            raise DataError(f"{path} is missing; run `mirror build` again") from None
        except ValueError:
            key = b""
        if len(key) != 64:
            raise DataError(f"{path} is not 128 hex digits; run `mirror build` again")
        return Seal(key)

    def mark(self, row: dict[str, Any]) -> str:
        """32 hex digits by which a rebuilt row is known to be this one. Without the key they tell nothing of it."""
        return hmac.digest(self._mark_key, _text(row), "sha256").hex()[:32]

    def close(self, value: dict[str, Any], *bound: str) -> bytes:
        """`value` encrypted; it opens only beside the same `bound` words."""
        packed = zlib.compress(_text(value), 9)
        framed = len(packed).to_bytes(4, "big") + packed
        padded = framed.ljust(-(-len(framed) // PADDED_TO) * PADDED_TO, b"\0")
        return self._cipher.encrypt(padded, [word.encode() for word in bound])

    def open(self, sealed: bytes, *bound: str) -> dict[str, Any]:
        """What `close` was given. ValueError where key, words or bytes are others."""
        from cryptography.exceptions import InvalidTag

        try:
            framed = self._cipher.decrypt(sealed, [word.encode() for word in bound])
        except InvalidTag:
            raise ValueError("the row was sealed with another key, or for another place") from None
        packed = framed[4 : 4 + int.from_bytes(framed[:4], "big")]
        return dict(json.loads(zlib.decompress(packed)))


def _text(row: dict[str, Any]) -> bytes:
    """One spelling per row; times as ISO 8601."""
    return json.dumps(row, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str).encode()
