"""The table of routes, and how errors become answers."""

from __future__ import annotations

import errno
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any

import pygit2
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from hf_mirror.hub import routes_discussions as discussions
from hf_mirror.hub import routes_files as files
from hf_mirror.hub import routes_repos as repos
from hf_mirror.hub import routes_uploads as uploads
from hf_mirror.hub.accounts import Accounts
from hf_mirror.hub.names import KINDS
from hf_mirror.hub.refusals import Refusal, no_repo
from hf_mirror.hub.web import Hub, check_writer, kind_from, part, with_json

_REPO = "/{namespace}/{name}"


def route(path: str, endpoint: Callable[..., Any], method: str = "GET") -> Route:
    """One route; Starlette answers HEAD wherever GET is allowed."""
    return Route(path, endpoint, methods=[method])


def writing(path: str, endpoint: Callable[..., Any], method: str = "POST") -> Route:
    """A route for those who may write."""
    if iscoroutinefunction(endpoint):

        async def awaited(request: Request) -> Response:
            check_writer(request)
            return await endpoint(request)

        return route(path, awaited, method)

    def guarded(request: Request) -> Response:
        check_writer(request)
        return endpoint(request)

    return route(path, guarded, method)


def _unknown_repo(request: Request) -> Response:
    raise no_repo(kind_from(request), part(request, "name"))


def _repo_routes(kind: str) -> list[Route]:
    """The API of one kind of repo, under /api/{kind}/{namespace}/{name}."""
    api = f"/api/{kind}{_REPO}"
    return [
        route(f"/api/{kind}", repos.listing),
        route(api, repos.info),
        route(f"{api}/revision/{{revision}}", repos.info),
        writing(f"{api}/settings", with_json(repos.settings), "PUT"),
        route(f"{api}/auth-check", repos.auth_check),
        writing(f"{api}/user-access-request/grant", with_json(repos.grant)),
        route(f"{api}/refs", repos.refs),
        route(f"{api}/commits/{{revision}}", repos.log),
        writing(f"{api}/tag/{{revision}}", with_json(repos.create_tag), "POST"),
        writing(f"{api}/tag/{{revision}}", repos.delete_tag, "DELETE"),
        writing(f"{api}/branch/{{revision}}", with_json(repos.create_branch), "POST"),
        writing(f"{api}/branch/{{revision}}", repos.delete_branch, "DELETE"),
        writing(f"{api}/super-squash/{{revision}}", with_json(repos.squash), "POST"),
        route(f"{api}/tree/{{revision}}", files.tree),
        route(f"{api}/tree/{{revision}}/{{path:path}}", files.tree),
        route(f"{api}/paths-info/{{revision}}", files.paths_info, "POST"),
        writing(f"{api}/preupload/{{revision}}", with_json(uploads.preupload), "POST"),
        writing(f"{api}/commit/{{revision}}", uploads.commit, "POST"),
        writing(f"{api}/xet-write-token/{{revision}}", uploads.xet_write_token, "GET"),
        route(f"{api}/discussions", discussions.listing),
        writing(f"{api}/discussions", with_json(discussions.create)),
        route(f"{api}/discussions/{{number}}", discussions.details),
        writing(f"{api}/discussions/{{number}}/{{what}}", with_json(discussions.change)),
        route(f"/api/{kind}/{{name}}", _unknown_repo),
    ]


def routes() -> list[Route]:
    """Every route of the Hub."""
    table = [
        route("/api/whoami-v2", repos.whoami),
        writing("/api/repos/create", with_json(repos.create), "POST"),
        writing("/api/repos/delete", with_json(repos.delete), "DELETE"),
        writing("/api/repos/move", with_json(repos.move), "POST"),
        route("/api/validate-yaml", with_json(repos.validate_yaml), "POST"),
        route(f"/api/datasets{_REPO}/leaderboard", repos.leaderboard),
    ]
    for kind in KINDS:
        table += _repo_routes(kind)
    table += [
        route("/lfs/{oid}", files.large_file),
        route("/lfs/{oid}", uploads.lfs_upload, "PUT"),
        route("/lfs/{oid}/parts/{upload}", with_json(uploads.lfs_complete), "POST"),
        route("/lfs/{oid}/parts/{upload}/{number}", uploads.lfs_part, "PUT"),
        route("/lfs/{oid}/verify", with_json(uploads.lfs_verify), "POST"),
        route("/xet/{store}/v1/xorbs/default/{hash}", uploads.xorb, "POST"),
        route("/xet/{store}/v1/shards", uploads.shard, "POST"),
    ]
    for prefix in (*(f"/{kind}" for kind in KINDS), ""):
        table += [
            route(f"{prefix}{_REPO}.git/info/lfs/objects/batch", with_json(uploads.lfs_batch), "POST"),
            route(f"{prefix}{_REPO}/resolve/{{revision}}/{{path:path}}", files.resolve),
        ]
    return [*table, route("/{name}/resolve/{revision}/{path:path}", _unknown_repo)]


class RawPath:
    """Lets routes match the path as the client sent it: only there do `refs%2Fpr%2F1` and `refs/pr/1` differ."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, with the path undecoded."""
        if scope["type"] == "http":
            scope = {**scope, "path": scope["raw_path"].decode("latin-1")}
        await self.app(scope, receive, send)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return error.response()


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return Refusal(
        error.status_code, f"{error.detail}: {request.method} {request.url.path} is not offered here"
    ).response()


async def _failed(request: Request, error: Exception) -> Response:
    repo = getattr(request.state, "repo", None)
    if repo is not None and not repo.is_there():
        return Refusal(404, f"{repo.repo_id} was deleted or moved meanwhile", "RepoNotFound").response()
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Refusal(507, "The Hub's disk is full; free some space and send the request again").response()
    traceback.print_exception(error)
    return Refusal(500, f"The Hub failed on {request.method} {request.url.path}; its output says why").response()


async def _gone(request: Request, error: Exception) -> Response:
    return Refusal(400, "The client hung up before the request was complete").response()


def build(root: Path, accounts: Accounts, on_start: Callable[[], Awaitable[None]]) -> ASGIApp:
    """The Hub on a folder as an ASGI application; `on_start` runs once, when it is about to serve."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await on_start()
        yield

    handlers: dict[Any, Any] = {
        Refusal: _refused,
        HTTPException: _no_route,
        ClientDisconnect: _gone,
        Exception: _failed,
        # Starlette ends the connection after an `Exception`; these come of repos that go away while they are read.
        **dict.fromkeys((OSError, LookupError, ValueError, pygit2.GitError), _failed),
    }
    app = Starlette(routes=routes(), exception_handlers=handlers, lifespan=lifespan)
    app.router.redirect_slashes = False
    app.state.hub = Hub.open(root, accounts)
    return RawPath(app)
