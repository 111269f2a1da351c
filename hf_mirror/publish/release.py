"""One repo folder on a Hub: what is there, what would change, one commit, read back, one annotated tag.

Every request passes through `Remote`. What passes (a busy Hub, a broken connection) is waited out. A commit and a tag
are judged by what the Hub then shows, not by the answer, so that a lost answer does not make a second commit.
"""

from __future__ import annotations

import hashlib
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from hf_mirror.errors import HubError
from hf_mirror.files import sha256_file

HUB_OWNED = (".gitattributes",)  # the Hub writes it when it makes a repo
TRIES = 6  # of one request
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds before the next, twice as many each time unless the Hub says how many

T = TypeVar("T")


class PassingError(HubError):
    """What may be otherwise in a moment. `wait`: seconds that the Hub asks for, 0 for none."""

    wait = 0.0


@dataclass(frozen=True)
class Snapshot:
    """A repo at one commit: path → ("sha256" | "git", hex). `sha` is None where the repo has no commit or is absent.
    `sizes` are in bytes."""

    sha: str | None
    files: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Changes:
    """What a commit would do, by path."""

    added: list[str]
    changed: list[str]
    deleted: list[str]

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.deleted)


class Remote:
    """One repo of one Hub. `kind` is `dataset`, `model` or (static) `space`. Unless `whole`, folders are a part of the
    repo: what they do not hold stays there as it is."""

    def __init__(self, endpoint: str | None, repo: str, kind: str, whole: bool = True):
        from huggingface_hub import HfApi

        self.whole = whole
        self.api = HfApi(endpoint=endpoint)
        # Without a name and password, which must not be shown.
        self.endpoint, self.repo, self.kind = re.sub("//[^/@]*@", "//", str(self.api.endpoint)), repo, kind
        self._target: dict[str, Any] = {"repo_id": repo, "repo_type": kind}
        self._reached = False

    def snapshot(self, revision: str | None) -> Snapshot:
        """The repo at a tag, commit or (None) its main branch."""
        from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError
        from huggingface_hub.hf_api import RepoFile

        def look() -> tuple[str | None, list[Any]]:
            sha = self.api.repo_info(**self._target, revision=revision).sha
            return sha, list(self.api.list_repo_tree(**self._target, revision=sha, recursive=True)) if sha else []

        try:
            sha, entries = self._tried(look)
        except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError):
            return Snapshot(None)
        found = [entry for entry in entries if isinstance(entry, RepoFile) and entry.path not in HUB_OWNED]
        files = {entry.path: ("sha256", entry.lfs.sha256) if entry.lfs else ("git", entry.blob_id) for entry in found}
        return Snapshot(sha, files, {entry.path: entry.size for entry in found})

    def changes(self, folder: Path, there: Snapshot) -> Changes:
        """What would have to change for the Hub to hold `folder`."""
        found = difference(folder, there)
        return found if self.whole else replace(found, deleted=[])

    def fetch(self, sha: str, names: list[str]) -> Path:
        """Files of a commit in a folder of the Hub's cache."""
        with _quiet():
            return Path(
                self._tried(lambda: self.api.snapshot_download(**self._target, revision=sha, allow_patterns=names))
            )

    def hash_of(self, sha: str, name: str) -> str:
        """The SHA-256 of one file of a commit, by its name as it is."""
        with _quiet():
            path = self._tried(lambda: self.api.hf_hub_download(**self._target, revision=sha, filename=name))
        return sha256_file(Path(path))

    def ask(self, question: Callable[[Any], T]) -> T:
        """Anything else that may be asked of the Hub, with the same patience and errors."""
        with _quiet():
            return self._tried(lambda: question(self.api))

    def create(self, private: bool, gated: str | None) -> None:
        """Makes the repo if it is not there, and private or gated if that was asked for and it is not yet."""
        target = self._target | ({"space_sdk": "static"} if self.kind == "space" else {})
        self._tried(lambda: self.api.create_repo(**target, private=private, exist_ok=True))
        about = self._tried(lambda: self.api.repo_info(**self._target))
        if private and not about.private:
            self._tried(lambda: self.api.update_repo_settings(**self._target, private=True))
        if gated and getattr(about, "gated", None) != gated:
            self._tried(lambda: self.api.update_repo_settings(**self._target, gated=gated))  # type: ignore[arg-type]

    def commit(self, folder: Path, changes: Changes, parent: str | None, message: str) -> str:
        """One commit with all adds and deletes. Returns its SHA after the Hub has shown the very bytes of `folder`."""

        def made() -> str | None:
            there = self.snapshot(None)
            return None if there.sha in (None, parent) or self.changes(folder, there) else there.sha

        send = self._commit(folder, changes, commit_message=message, parent_commit=parent)
        with _quiet():
            return self._shown(folder, self._tried(lambda: str(send().oid), made))

    def propose(self, folder: Path, changes: Changes, parent: str | None, message: str) -> tuple[str, str]:
        """The same as a pull request: its commit and its address. One that is open with these bytes will do, and one of
        this title is brought up to date."""
        earlier = None
        for number, title, address in self._requests():
            there = self.snapshot(f"refs/pr/{number}")
            if there.sha and not self.changes(folder, there):
                return self._shown(folder, there.sha), address
            if title == message and there.sha:
                earlier = number, there, address
        how: dict[str, Any] = {"commit_message": message}
        if earlier is None:
            send = self._commit(folder, changes, **how, parent_commit=parent, create_pr=True)
        else:
            number, there, _ = earlier
            how |= {"parent_commit": there.sha, "revision": f"refs/pr/{number}"}
            send = self._commit(folder, self.changes(folder, there), **how)

        def ask() -> tuple[str, str]:
            made = send()
            return made.oid, earlier[2] if earlier else str(made.pr_url)

        with _quiet():
            sha, address = self._tried(ask, partial(self._proposed, folder))
        return self._shown(folder, sha), address

    def _commit(self, folder: Path, changes: Changes, **how: Any) -> Callable[[], Any]:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        operations: list[Any] = [CommitOperationAdd(p, folder / p) for p in (*changes.added, *changes.changed)]
        operations += [CommitOperationDelete(path) for path in changes.deleted]
        return partial(self.api.create_commit, **self._target, operations=operations, **how)

    def _requests(self) -> list[tuple[int, str, str]]:
        """Number, title and address of every open pull request."""
        ask = partial(self.api.get_repo_discussions, discussion_type="pull_request", discussion_status="open")
        return [(one.num, one.title, one.url) for one in self._tried(lambda: list(ask(**self._target)))]

    def _proposed(self, folder: Path) -> tuple[str, str] | None:
        """An open pull request that holds exactly `folder`."""
        for number, _, address in self._requests():
            there = self.snapshot(f"refs/pr/{number}")
            if there.sha and not self.changes(folder, there):
                return there.sha, address
        return None

    def _shown(self, folder: Path, sha: str) -> str:
        """`sha`, once the Hub has shown that it holds the very bytes of `folder`."""
        there = self.snapshot(sha)
        if there.sha is None or self.changes(folder, there):
            raise HubError(
                f"{self.repo} at {there.sha} on {self.endpoint} does not hold the bytes that were sent; "
                "nothing was tagged; publish again"
            )
        return there.sha

    def tag(self, tag: str, sha: str, message: str) -> None:
        """One annotated tag. Tags are never moved."""

        def ask() -> bool:
            self.api.create_tag(**self._target, tag=tag, tag_message=message, revision=sha)
            return True

        self._tried(ask, lambda: self.snapshot(tag).sha == sha or None)

    def _tried(self, ask: Callable[[], T], done: Callable[[], T | None] = lambda: None) -> T:
        """What `ask` gives. After a failure `done` says whether it was done all the same; else what passes is asked for
        again."""
        wait = FIRST_WAIT
        for left in reversed(range(TRIES)):
            try:
                with self._errors():
                    given = ask()
                self._reached = True
                return given
            except HubError as failure:
                found = done()
                if found is not None:
                    return found
                if not isinstance(failure, PassingError) or not left:
                    raise
                time.sleep(min(failure.wait or wait, LONGEST_WAIT))
                wait *= 2
        raise AssertionError("the last attempt ends in an answer or an error")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Whatever goes wrong on the way becomes one line that names repo and endpoint. Absence passes through."""
        from huggingface_hub.errors import (
            EntryNotFoundError,
            HfHubHTTPError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
        from huggingface_hub.utils import httpx  # the client's own: httpx2 from 2.0 on

        try:
            yield
        except (EntryNotFoundError, RevisionNotFoundError, RepositoryNotFoundError):
            raise
        except (httpx.TransportError, ConnectionError, TimeoutError) as error:
            said = f"the Hub at {self.endpoint} cannot be reached ({_line(error)}); check HF_ENDPOINT"
            if isinstance(error, httpx.ConnectError) and not self._reached:  # more likely a wrong address
                raise HubError(said) from None
            raise PassingError(said) from None
        except HfHubHTTPError as error:
            status, said = error.response.status_code, f"{self.repo} on {self.endpoint}: {_line(error)}"
            if status >= 500 or status in (408, 429):
                passing = PassingError(f"{said}; publish again later")
                passing.wait = _asked_to_wait(error)
                raise passing from None
            raise HubError(f"{said}; check token, name and rights") from None
        except RuntimeError as error:  # as hf_xet reports what it could not upload in several attempts of its own
            raise PassingError(f"{self.repo} on {self.endpoint}: {_line(error)}; publish again later") from None
        except (OSError, ValueError) as error:
            # A refused card arrives as ValueError.
            raise HubError(f"{self.repo} on {self.endpoint}: {_line(error)}; check token, name and rights") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Upload bars on a terminal only, and no doubts about predictions in a model's repo."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    warnings.filterwarnings("ignore", "It seems that you are about to commit a data file")
    if sys.stderr.isatty() or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def difference(folder: Path, there: Snapshot) -> Changes:
    """What would have to change for the Hub to hold exactly `folder`."""
    here = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return Changes(
        added=[name for name in here if name not in there.files],
        changed=[name for name in here if name in there.files and not _same(here[name], *there.files[name])],
        deleted=[name for name in there.files if name not in here],
    )


def _same(path: Path, algorithm: str, expected: str) -> bool:
    return (sha256_file(path) if algorithm == "sha256" else git_blob_id(path)) == expected


def git_blob_id(path: Path) -> str:
    """The SHA-1 by which git names a file's contents."""
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _asked_to_wait(error: Any) -> float:
    """Seconds of a Retry-After header; 0 for none that is a number."""
    text = error.response.headers.get("retry-after", "")
    return float(text) if text.isdecimal() else 0.0


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return re.sub("//[^/@ ]*@", "//", " ".join(lines[:2])[:300]) if lines else type(error).__name__
