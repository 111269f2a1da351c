"""Who may do what: tokens with a role, in a file that only its owner reads. Without the file everybody may do all.

    <root>/tokens.json    {"secret": …, "tokens": {"<SHA-256 of a token>": {"name", "role": "read" | "write", "id"}}}

Tokens themselves are kept nowhere. A writer may write to every repo; a reader reads all, private ones included; who
brings no token reads what is public. An account gets its id with its first token: who is given a name that was revoked
before is somebody else.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import time
import uuid
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
    """Who asks. `id` is what rights are given to, `token` the SHA-256 of the token that was shown."""

    name: str
    role: str
    id: str
    token: str

    @property
    def writes(self) -> bool:
        """Whether the account may change anything."""
        return self.role == "write"


_EVERYBODY = Account(MINE, "write", MINE, "")


class Accounts:
    """One Hub's tokens. The file is read again when it has changed; where there was one, its loss lets nobody in."""

    def __init__(self, root: Path) -> None:
        self._path = root / "tokens.json"
        self._read_at: tuple[int, int] | None = None
        self._known: dict[str, Any] = {}
        self._asks = self._path.exists()

    def _file(self) -> dict[str, Any] | None:
        """The file as it is now; None where there never was one; 401 where it is lost or damaged."""
        try:
            found = self._path.stat()
            self._asks = True
            if self._read_at != (found.st_mtime_ns, found.st_ino):
                known = _checked(disk.read_json(self._path))
                self._known, self._read_at = known, (found.st_mtime_ns, found.st_ino)
            return self._known
        except FileNotFoundError:
            if self._asks:
                raise Refusal(401, "The tokens of this Hub are gone, so that nobody may do anything: put its "
                              "tokens.json back, or make new ones with `mirror hub token`") from None  # fmt: skip
            return None
        except ValueError:
            raise Refusal(401, "The tokens.json of this Hub is damaged, so that nobody may do anything") from None

    @property
    def everybody(self) -> bool:
        """Whether there are no tokens, so that nobody is asked for one."""
        self._asks = self._asks or self._path.exists()
        return not self._asks

    def id_of(self, name: str) -> str | None:
        """The id of an account, or None where nobody is called so."""
        known = self._file()
        if known is None:
            return MINE if name == MINE else None
        return next((_id(entry) for entry in known["tokens"].values() if entry["name"] == name), None)

    def find(self, authorization: str | None) -> Account | None:
        """Whose token an Authorization header bears; None without one; 401 for a token that is not known."""
        known = self._file()
        if known is None:
            return _EVERYBODY
        kind, _, token = (authorization or "").partition(" ")
        if not token.strip():
            return None
        account = _account(known, _digest(token.strip())) if kind.lower() == "bearer" else None
        if account is None:
            raise Refusal(401, "Invalid credentials: this Hub does not know the token")
        return account

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
            known = self._own_file()
            entry = {"name": name, "role": role, "id": self.id_of(name) or uuid.uuid4().hex}
            self._write({**known, "tokens": {**known["tokens"], _digest(token): entry}})
        return token

    def revoke(self, name: str) -> int:
        """Forgets all tokens of an account; how many they were. The Hub does not open up when none is left."""
        with disk.locked(self._path.with_suffix(".lock")):
            known = self._own_file()
            left = {sha: entry for sha, entry in known["tokens"].items() if entry["name"] != name}
            gone = len(known["tokens"]) - len(left)
            if not gone:
                names = ", ".join(sorted({entry["name"] for entry in left.values()})) or "none"
                raise ConfigError(f"no account is called {name!r}; there are {names}")
            self._write({**known, "tokens": left})
        return gone

    def _own_file(self) -> dict[str, Any]:
        """What a command changes; ConfigError where the file is damaged."""
        try:
            return self._file() or {"secret": secrets.token_hex(32), "tokens": {}}
        except Refusal as refusal:
            raise ConfigError(f"{self._path}: {refusal.message}") from None

    def _write(self, known: dict[str, Any]) -> None:
        disk.write_json(self._path, known)  # through a temporary file, which only its owner reads
        os.chmod(self._path, 0o600)  # noqa: PTH101 - whatever the umask

    def sign(self, what: str, seconds: int, account: Account | None) -> str:
        """A word that lets its bearer do `what` for so long in the name of an account, or of somebody without one:
        what clients are sent on with, since they do not send their token there."""
        known = self._file() or {"secret": ""}
        until, token = str(int(time.time()) + seconds), account.token if account else ""
        return f"{until}.{token}.{_mac(known['secret'], what, until, token)}"

    def bearer(self, what: str, word: str | None) -> Account | None:
        """In whose name a word of `sign` was given, with the rights of now; 401 when it is of another kind, too old, or
        of a token that was revoked."""
        known = self._file()
        if known is None:
            return _EVERYBODY
        until, token, mac = [*(word or "").split("."), "", "", ""][:3]
        account = _account(known, token)
        fresh = re.fullmatch(r"[0-9]{10}", until) and int(until) >= time.time() and (account or not token)
        if not fresh or not hmac.compare_digest(mac.encode(), _mac(known["secret"], what, until, token).encode()):
            raise Refusal(401, f"This address does not let you {what.partition(' ')[0]} any more; ask for a new one")
        return account


def _account(known: dict[str, Any], token: str) -> Account | None:
    entry = known["tokens"].get(token)
    return Account(entry["name"], entry["role"], _id(entry), token) if entry else None


def _id(entry: dict[str, str]) -> str:
    return entry.get("id", entry["name"])  # tokens were made without ids once


def _checked(found: Any) -> dict[str, Any]:
    """The content of the file, or ValueError."""
    tokens = found.get("tokens") if isinstance(found, dict) and found.get("secret") else None
    if not isinstance(tokens, dict) or not isinstance(found["secret"], str):
        raise ValueError("no secret or no tokens")
    for entry in tokens.values():
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or entry.get("role") not in ROLES:
            raise ValueError("an entry without name or role")
    return found


def _mac(secret: str, what: str, until: str, token: str) -> str:
    return hmac.new(secret.encode(), f"{until} {token} {what}".encode(), hashlib.sha256).hexdigest()


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
