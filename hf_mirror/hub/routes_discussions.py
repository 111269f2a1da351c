"""Routes about discussions and pull requests."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hf_mirror.hub.discussions import OPEN, Discussions
from hf_mirror.hub.refusals import Refusal, bad_request
from hf_mirror.hub.web import account_of, check_gate, check_writer, flag, part, repo_of, text, whole

PAGE = 50


def listing(request: Request) -> Response:
    """GET …/discussions: newest first, in pages; `type`, `status` and `author` choose."""
    query, room = request.query_params, Discussions(repo_of(request))
    kind, status, author = query.get("type", "all"), query.get("status", "all"), query.get("author")
    rows = [
        room.brief(found)
        for found in reversed(room.all())
        if (kind == "all" or found["isPullRequest"] == (kind == "pull_request"))
        and (status == "all" or (found["status"] in OPEN) == (status == "open"))
        and (author is None or found["author"]["name"] == author)
    ]
    start = (whole(query.get("p")) or 0) * PAGE
    return JSONResponse({"discussions": rows[start : start + PAGE], "count": len(rows), "start": start})


def create(request: Request, body: dict[str, Any]) -> Response:
    """POST …/discussions: `{title, description, pullRequest}`."""
    who, title, opening = check_writer(request).name, text(body, "title"), text(body, "description")
    made = Discussions(repo_of(request)).create(who, title, opening, bool(body.get("pullRequest")))
    return JSONResponse({"num": made["num"], "pullRequest": made["isPullRequest"]})


def details(request: Request) -> Response:
    """GET …/discussions/{n}."""
    repo, account, diff = repo_of(request), account_of(request), flag(request.query_params.get("diff"))
    if diff:
        check_gate(repo, account)  # a diff is files
    merges = account is not None and account.writes
    return JSONResponse(Discussions(repo).details(_number(request), diff, merges))


def change(request: Request, body: dict[str, Any]) -> Response:
    """POST …/discussions/{n}/{comment, title, status, merge}."""
    room, number, who = Discussions(repo_of(request)), _number(request), check_writer(request).name
    what, comment = part(request, "what"), text(body, "comment")
    if what == "comment":
        return JSONResponse({"newMessage": room.comment(number, who, comment)})
    if what == "title":
        return JSONResponse({"newTitle": room.rename(number, who, text(body, "title"))})
    if what == "status":
        event = room.set_status(number, who, text(body, "status"))
    elif what == "merge":
        room.merge(number, who)
        event = {}
    else:
        raise Refusal(404, f"Discussions have no {what!r} here; expected comment, title, status or merge")
    if comment.strip():
        room.comment(number, who, comment)
    return JSONResponse({"newStatus": event} if event else {})


def _number(request: Request) -> int:
    given = part(request, "number")
    number = whole(given)
    if number is None:
        raise bad_request(f"Invalid number of a discussion: {given[:50]!r}")
    return number
