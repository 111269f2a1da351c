"""What the Hub answers when it will not do as asked: a status, a message, and the code that its clients look for."""

from __future__ import annotations

import re

from starlette.responses import JSONResponse


class Refusal(Exception):  # noqa: N818 - an answer, not a failure
    """An answer other than 2xx.

    `code` goes out as `X-Error-Code`, from which huggingface_hub picks its exception: RepoNotFound, RevisionNotFound,
    EntryNotFound or GatedRepo. `extra` joins the JSON body (a repo that exists answers with its `url`).
    """

    def __init__(self, status: int, message: str, code: str | None = None, **extra: str) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.extra = status, message, code, extra

    def response(self) -> JSONResponse:
        """The JSON body and the two headers; a header can carry neither line breaks nor letters beyond ASCII."""
        header = re.sub(r"[^\x20-\x7e]", "?", self.message)[:500].strip()
        headers = {"X-Error-Message": header} | ({"X-Error-Code": self.code} if self.code else {})
        return JSONResponse({"error": self.message, **self.extra}, status_code=self.status, headers=headers)


def bad_request(message: str) -> Refusal:
    """400: the request itself is wrong; asking again does not help."""
    return Refusal(400, message)


def no_repo(kind: str, repo_id: str) -> Refusal:
    """404 with the code that becomes RepositoryNotFoundError."""
    return Refusal(404, f"There is no repository {repo_id!r} among the {kind} of this Hub", "RepoNotFound")


def no_revision(revision: str) -> Refusal:
    """404 with the code that becomes RevisionNotFoundError."""
    return Refusal(404, f"Invalid rev id: {revision[:200]}", "RevisionNotFound")


def no_entry(path: str, revision: str) -> Refusal:
    """404 with the code that becomes EntryNotFoundError."""
    return Refusal(404, f"Entry not found: {path!r} at {revision}", "EntryNotFound")
