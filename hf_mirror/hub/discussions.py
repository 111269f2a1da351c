"""Discussions and pull requests: one file per repo, `discussions.json`, and the branch `refs/pr/<number>` of each PR.

Shapes as https://huggingface.co/docs/huggingface_hub/package_reference/community reads them.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pygit2

from hf_mirror.hub import disk
from hf_mirror.hub.commits import author as committer
from hf_mirror.hub.describe import user
from hf_mirror.hub.gitread import find_commit, has_ref, hub_time
from hf_mirror.hub.refusals import Refusal, bad_request
from hf_mirror.hub.repos import Repo

Entry = dict[str, Any]
OPEN = ("draft", "open")


@dataclass(frozen=True)
class Discussions:
    """Those of one repo. Whatever changes them holds the repo's lock."""

    repo: Repo

    def all(self) -> list[Entry]:
        """Every discussion with its events, oldest first."""
        path = self.repo.folder / "discussions.json"
        return disk.read_json(path) if path.exists() else []

    def find(self, number: int) -> Entry:
        """One of them, or 404."""
        for found in self.all():
            if found["num"] == number:
                return found
        raise Refusal(404, f"{self.repo.repo_id} has no discussion {number}")

    def create(self, who: str, title: str, text: str, pull_request: bool, base: str = "main") -> Entry:
        """A new one. A pull request begins as a copy of `base`, in the state `draft`."""
        if not title.strip():
            raise bad_request("The field 'title' must not be empty")
        with disk.locked(self.repo.folder / "hub.lock"):
            known = self.all()
            number = max((found["num"] for found in known), default=0) + 1
            made: Entry = {
                "num": number, "title": title.strip(), "author": user(who), "createdAt": _now(),
                "status": "draft" if pull_request else "open", "isPullRequest": pull_request,
                "events": [_event("comment", who, {"edited": False, "hidden": False, "latest": {"raw": text}})],
            }  # fmt: skip
            if pull_request:
                made["changes"] = {"base": f"refs/heads/{base}"}
                start = find_commit(pygit2.Repository(str(self.repo.folder)), base)
                disk.write_ref(self.repo.folder, branch_of(number), str(start.id))
            disk.write_json(self.repo.folder / "discussions.json", [*known, made])
        return made

    def discard(self, number: int) -> None:
        """Takes back a pull request whose first commit was refused."""
        with disk.locked(self.repo.folder / "hub.lock"):
            left = [found for found in self.all() if found["num"] != number]
            disk.write_json(self.repo.folder / "discussions.json", left)
            disk.delete_ref(pygit2.Repository(str(self.repo.folder)), branch_of(number))

    def comment(self, number: int, who: str, text: str) -> Entry:
        """Adds a comment; returns its event."""
        if not text.strip():
            raise bad_request("The field 'comment' must not be empty")
        data = {"edited": False, "hidden": False, "latest": {"raw": text}}
        return self._change(number, lambda found: _event("comment", who, data))

    def rename(self, number: int, who: str, title: str) -> Entry:
        """Another title; returns the event."""
        if not title.strip():
            raise bad_request("The field 'title' must not be empty")

        def change(found: Entry) -> Entry:
            before, found["title"] = found["title"], title.strip()
            return _event("title-change", who, {"from": before, "to": found["title"]})

        return self._change(number, change)

    def set_status(self, number: int, who: str, status: str) -> Entry:
        """`open` or `closed`; returns the event. What was merged stays so."""
        if status not in ("open", "closed"):
            raise bad_request(f"Unknown status {status!r}; expected open or closed")

        def change(found: Entry) -> Entry:
            if found["status"] == "merged":
                raise bad_request(f"Pull request {number} was merged already")
            found["status"] = status
            return _event("status-change", who, {"status": status})

        return self._change(number, change)

    def check_open(self, number: int) -> None:
        """400 for a pull request that is merged or closed."""
        if (status := self.find(number)["status"]) not in OPEN:
            raise bad_request(f"Pull request {number} is {status}; open a new one")

    def committed(self, number: int, who: str, subject: str, oid: str) -> None:
        """Notes a commit on a pull request's branch."""
        self._change(number, lambda found: _event("commit", who, {"subject": subject, "oid": oid}))

    def merge(self, number: int, who: str) -> None:
        """Merges a pull request into the branch that it began from; 409 where files are in conflict."""

        def change(found: Entry) -> Entry:
            if not found["isPullRequest"] or found["status"] not in OPEN:
                raise bad_request(f"{number} is not an open pull request")
            git = pygit2.Repository(str(self.repo.folder))
            base, theirs = found["changes"]["base"], git.references[branch_of(number)].peel(pygit2.Commit)
            if not has_ref(git, base):
                raise Refusal(409, f"The branch {base} of pull request {number} is gone")
            ours = git.references[base].peel(pygit2.Commit)
            index = git.merge_commits(ours, theirs)
            if clashes := _conflicts(index):
                raise Refusal(409, f"Pull request {number} is in conflict in {', '.join(clashes)}")
            tree = index.write_tree(git)
            message = f"{found['title']} (#{number})"
            made = git.create_commit(None, committer(), committer(), message, tree, [ours.id, theirs.id])
            disk.write_ref(self.repo.folder, base, str(made))
            found["status"], found["changes"]["mergeCommitId"] = "merged", str(made)
            return _event("status-change", who, {"status": "merged"})

        self._change(number, change)

    def details(self, number: int, diff: bool) -> Entry:
        """One with its events; of a pull request also what it changes, and the files that are in conflict."""
        found = self.find(number)
        answer = found | {"repo": self._named()}
        if found["isPullRequest"]:
            git = pygit2.Repository(str(self.repo.folder))
            theirs = git.references[branch_of(number)].peel(pygit2.Commit)
            ours = _ours(git, found) or theirs
            answer["filesWithConflicts"] = _conflicts(git.merge_commits(ours, theirs))
            if diff:
                since = git.merge_base(ours.id, theirs.id)
                answer["diff"] = _patch(git, since, theirs) if since else ""
        return answer

    def brief(self, found: Entry) -> Entry:
        """As a list shows it: without events and changes."""
        shown = {key: value for key, value in found.items() if key not in ("events", "changes")}
        return shown | {"repo": self._named()}

    def _named(self) -> dict[str, str]:
        return {"name": self.repo.repo_id, "type": self.repo.kind.removesuffix("s")}

    def _change(self, number: int, change: Callable[[Entry], Entry]) -> Entry:
        with disk.locked(self.repo.folder / "hub.lock"):
            known = self.all()
            for found in known:
                if found["num"] == number:
                    event = change(found)
                    found["events"].append(event)
                    disk.write_json(self.repo.folder / "discussions.json", known)
                    return event
        raise Refusal(404, f"{self.repo.repo_id} has no discussion {number}")


def branch_of(number: int) -> str:
    """The reference that a pull request's commits go to."""
    return f"refs/pr/{number}"


def _ours(git: pygit2.Repository, found: Entry) -> pygit2.Commit | None:
    """What a pull request is compared with: its base, as it was before where it was merged; None where that is gone."""
    if merged := found["changes"].get("mergeCommitId"):
        return git[merged].peel(pygit2.Commit).parents[0]
    base = found["changes"]["base"]
    return git.references[base].peel(pygit2.Commit) if has_ref(git, base) else None


def _patch(git: pygit2.Repository, since: pygit2.Oid, to: pygit2.Commit) -> str:
    before = git[since].peel(pygit2.Commit)
    return git.diff(before, to).patch or ""


def _conflicts(index: pygit2.Index) -> list[str]:
    found = {entry.path for conflict in index.conflicts or () for entry in conflict if entry is not None}
    return sorted(found)


def _event(kind: str, who: str, data: Entry) -> Entry:
    return {"id": uuid.uuid4().hex[:24], "type": kind, "author": user(who), "createdAt": _now(), "data": data}


def _now() -> str:
    return hub_time(datetime.now(UTC))
