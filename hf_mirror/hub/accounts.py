"""Who may do what: tokens with a role, in a file that only its owner reads. Without the file everybody may do all.

    <root>/tokens.json    {"secret": …, "tokens": {"<SHA-256 of a token>": {"name": …, "role": "read" | "write"}}}

Tokens themselves are kept nowhere. A writer may write to every repo; a reader reads all, private ones included; who
brings no token reads what is public.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_mirror.errors import ConfigError
from hf_mirror.hub import disk
from hf_mirror.hub.names import check_repo_id
from hf_mirror.hub.refusals import Refusal

ROLES = ("read", "write")
MINE = "mirror"  # who everybody is where there are no tokens


@dataclass(frozen=True)
class Account:
    """Who asks."""

    name: str
    role: str

    @property
    def writes(self) -> bool:
        """Whether the account may change anything."""
        return self.role == "write"


class Accounts:
    """The tokens of one Hub. The file is read again when it has changed."""

    def __init__(self, root: Path) -> None:
        self._path = root / "tokens.json"
        self._read_at: tuple[int, int] | None = None
        self._known: dict[str, Any] = {}

    def _file(self) -> dict[str, Any]:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return {}
        if self._read_at != (found.st_mtime_ns, found.st_ino):
            self._known, self._read_at = disk.read_json(self._path), (found.st_mtime_ns, found.st_ino)
        return self._known

    @property
    def everybody(self) -> bool:
        """Whether there are no tokens, so that nobody is asked for one."""
        return not self._file()

    def names(self) -> dict[str, str]:
        """The role of every account."""
        return {entry["name"]: entry["role"] for entry in self._file().get("tokens", {}).values()}

    def find(self, authorization: str | None) -> Account | None:
        """Whose token an Authorization header bears; None without one; 401 for a token that is not known."""
        if self.everybody:
            return Account(MINE, "write")
        kind, _, token = (authorization or "").partition(" ")
        if not token.strip():
            return None
        entry = self._file()["tokens"].get(_digest(token.strip())) if kind.lower() == "bearer" else None
        if entry is None:
            raise Refusal(401, "Invalid credentials: this Hub does not know the token")
        return Account(entry["name"], entry["role"])

    def add(self, name: str, role: str) -> str:
        """A new token, which is shown here alone; an account may have several. ConfigError for a name that cannot be a
        namespace, or a role that there is not."""
        if role not in ROLES:
            raise ConfigError(f"role {role!r} is not known; choose one of {', '.join(ROLES)}")
        try:
            check_repo_id(name, "x")
        except Refusal as refusal:
            raise ConfigError(refusal.message) from None
        token = f"hf_{secrets.token_urlsafe(32)}"
        with disk.locked(self._path.with_suffix(".lock")):
            known = self._file() or {"secret": secrets.token_hex(32), "tokens": {}}
            self._write({**known, "tokens": {**known["tokens"], _digest(token): {"name": name, "role": role}}})
        return token

    def revoke(self, name: str) -> int:
        """Forgets all tokens of an account; how many they were. The Hub does not open up when none is left."""
        with disk.locked(self._path.with_suffix(".lock")):
            known = self._file()
            left = {sha: entry for sha, entry in known.get("tokens", {}).items() if entry["name"] != name}
            gone = len(known.get("tokens", {})) - len(left)
            if not gone:
                names = ", ".join(sorted(self.names())) or "none"
                raise ConfigError(f"no account is called {name!r}; there are {names}")
            self._write({**known, "tokens": left})
        return gone

    def _write(self, known: dict[str, Any]) -> None:
        disk.write_json(self._path, known)  # through a temporary file, which only its owner reads
        os.chmod(self._path, 0o600)  # noqa: PTH101 - whatever the umask

    def sign(self, what: str, seconds: int) -> str:
        """A word that lets its bearer do `what` for so long, without any token: what clients are sent on with."""
        until = str(int(time.time()) + seconds)
        return f"{until}.{self._mac(what, until)}"

    def signed(self, what: str, word: str | None) -> bool:
        """Whether a word is one of `sign`, and not too old; always where there are no tokens."""
        if self.everybody:
            return True
        until, _, mac = (word or "").partition(".")
        fresh = re.fullmatch(r"[0-9]{10}", until) and int(until) >= time.time()
        return bool(fresh) and hmac.compare_digest(mac.encode(), self._mac(what, until).encode())

    def _mac(self, what: str, until: str) -> str:
        secret = self._file().get("secret", "")
        return hmac.new(secret.encode(), f"{until} {what}".encode(), hashlib.sha256).hexdigest()


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
