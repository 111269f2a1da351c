"""Locks rows to the raw files that they come from.

What was written about a closed source cannot be published in the clear, and its masked form has lost words. So what a
rebuild of the scenes cannot give is published encrypted, under a key that is derived from the contents of the raw
files: who has the same files rebuilds the key, and nobody else has it. `mirror rehydrate` opens it.

It is one file per domain and split, because the size of a row's own would tell what is in it. AES-SIV (RFC 5297) needs
no nonce: the same rows give the same bytes, so that publishing twice changes nothing, and an altered or misplaced file
does not open.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_mirror.errors import DataError

PADDED_TO = 64 * 1024  # bytes: the size of few rows would tell what is in them
KEY_FILE = "seal.key"  # of a domain's folder: never published
NOTE = "rehydrated.json"  # marks a folder of opened rows, and says of which commit they are


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

    def mark(self, row: Mapping[str, Any]) -> str:
        """32 hex digits by which a rebuilt row is known to be this one. Without the key they tell nothing of it."""
        text = json.dumps(row, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
        return hmac.digest(self._mark_key, text.encode(), "sha256").hex()[:32]

    def close(self, data: bytes, *place: str) -> bytes:
        """`data` encrypted; it opens only in the same `place`, such as kind and split."""
        framed = len(data).to_bytes(8, "big") + data
        padded = framed.ljust(-(-len(framed) // PADDED_TO) * PADDED_TO, b"\0")
        return self._cipher.encrypt(padded, [word.encode() for word in place])

    def open(self, sealed: bytes, *place: str) -> bytes:
        """What `close` was given. ValueError where key, place or bytes are others."""
        from cryptography.exceptions import InvalidTag

        try:
            framed = self._cipher.decrypt(sealed, [word.encode() for word in place])
        except InvalidTag:
            raise ValueError("sealed with another key, or for another place, or not whole") from None
        return framed[8 : 8 + int.from_bytes(framed[:8], "big")]
