"""Routes about repos as such: accounts, creation, listing, info, settings, refs, history."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hf_mirror.hub import commits, describe
from hf_mirror.hub.cards import YamlError, front_matter, read_yaml
from hf_mirror.hub.discussions import Discussions
from hf_mirror.hub.gitread import Snapshot, commit_date, history, references
from hf_mirror.hub.names import kind_of
from hf_mirror.hub.refusals import Refusal, bad_request
from hf_mirror.hub.repos import Repo
from hf_mirror.hub.web import (
    account_of,
    base_url,
    check_gate,
    check_writer,
    flag,
    hub_of,
    kind_from,
    may_read,
    page,
    part,
    repo_of,
    snapshot_of,
    text,
    whole,
)

PAGE = 1000
T = TypeVar("T")


def whoami(request: Request) -> Response:
    """GET /api/whoami-v2."""
    account = account_of(request)
    if account is None:
        raise Refusal(401, "Invalid credentials: this Hub wants a token here")
    token = {"displayName": "offline", "role": account.role}
    auth = {"type": "access_token", "accessToken": token}
    return JSONResponse(describe.user(account.name) | {"orgs": [], "isPro": False, "auth": auth})


def create(request: Request, body: dict[str, Any]) -> Response:
    """POST /api/repos/create."""
    namespace, name = _name(request, body)
    repo = hub_of(request).repos.create(kind_of(text(body, "type")), namespace, name, body, base_url(request))
    return JSONResponse({"url": repo.url(base_url(request)), "name": repo.repo_id})


def _name(request: Request, body: dict[str, Any]) -> tuple[str, str]:
    return text(body, "organization") or check_writer(request).name, text(body, "name")


def delete(request: Request, body: dict[str, Any]) -> Response:
    """DELETE /api/repos/delete."""
    repos = hub_of(request).repos
    namespace, name = _name(request, body)
    repos.delete(repos.find(kind_of(text(body, "type")), namespace, name, follow=False))
    return JSONResponse({})


def move(request: Request, body: dict[str, Any]) -> Response:
    """POST /api/repos/move: `{fromRepo, toRepo, type}`."""
    repos = hub_of(request).repos
    namespace, _, name = text(body, "fromRepo").partition("/")
    repos.move(repos.find(kind_of(text(body, "type")), namespace, name), text(body, "toRepo"))
    return JSONResponse({})


def info(request: Request) -> Response:
    """GET /api/{kind}/{id}[/revision/{rev}]."""
    query, repo, snapshot = request.query_params, repo_of(request), snapshot_of(request)
    readable, blobs = may_read(account_of(request), repo), flag(query.get("blobs"))
    return JSONResponse(describe.repo_info(repo, snapshot, readable, blobs, query.getlist("expand")))


def listing(request: Request) -> Response:
    """GET /api/{kind}: the repos that match `author`, `search` and every `filter`, newest change first."""
    query, kind, account = request.query_params, kind_from(request), account_of(request)
    search, author = query.get("search", "").lower(), query.get("author")
    wanted = {tag for given in query.getlist("filter") for tag in given.split(",") if tag}
    expand = query.getlist("expand") or ([] if flag(query.get("full")) else _SHORT)
    expand = expand and [*expand, "tags", "lastModified"]  # needed below

    def row(repo: Repo) -> dict[str, Any] | None:
        if (author and repo.namespace != author) or search not in repo.repo_id.lower():
            return None
        if account is None and repo.settings()["private"]:
            return None
        made = describe.repo_info(repo, Snapshot(repo.folder, "main"), may_read(account, repo), expand=expand)
        return made if wanted <= set(made["tags"]) else None

    rows = list(_each(request, kind, row))
    rows.sort(key=lambda row: row["lastModified"], reverse=query.get("direction", "-1") == "-1")
    return page(request, rows, min(whole(query.get("limit")) or PAGE, PAGE))


def _each(request: Request, kind: str, make: Callable[[Repo], T | None]) -> Iterator[T]:
    """What is made of every repo of a kind, without those that go away meanwhile."""
    for repo in hub_of(request).repos.all(kind):
        try:
            made = make(repo)
        except Exception:
            if repo.is_there():
                raise
        else:
            if made is not None:
                yield made


_SHORT = ["author", "sha", "createdAt", "private", "gated", "disabled", "downloads", "likes", "pipeline_tag",
          "library_name", "sdk"]  # fmt: skip


def settings(request: Request, body: dict[str, Any]) -> Response:
    """PUT /api/{kind}/{id}/settings."""
    repo = repo_of(request)
    repo.update(body)
    return JSONResponse({key: value for key, value in repo.settings().items() if key in ("private", "gated")})


def auth_check(request: Request) -> Response:
    """GET /api/{kind}/{id}/auth-check: the repo is there, and may be read."""
    check_gate(repo_of(request), account_of(request))
    return JSONResponse({})


def grant(request: Request, body: dict[str, Any]) -> Response:
    """POST …/user-access-request/grant: `{user}` may read a gated repo."""
    repo, name = repo_of(request), text(body, "user")
    account_id = hub_of(request).accounts.id_of(name)
    if account_id is None:
        raise Refusal(404, f"Nobody is called {name[:100]!r} here")
    repo.let_in(account_id)
    return JSONResponse({})


def refs(request: Request) -> Response:
    """GET …/refs."""
    return JSONResponse(references(repo_of(request).folder))


def log(request: Request) -> Response:
    """GET …/commits/{rev}, newest first."""
    rows = []
    for commit in history(snapshot_of(request)):
        title, _, message = commit.message.partition("\n")
        authors = [{"user": commit.author.name}]
        row = {"id": str(commit.id), "title": title, "message": message.strip(), "date": commit_date(commit)}
        rows.append(row | {"authors": authors})
    return page(request, rows, PAGE)


def create_tag(request: Request, body: dict[str, Any]) -> Response:
    """POST …/tag/{rev}: `{tag, message}`."""
    message = text(body, "message")
    commits.create_tag(repo_of(request).folder, part(request, "revision"), text(body, "tag"), message)
    return JSONResponse({})


def delete_tag(request: Request) -> Response:
    """DELETE …/tag/{tag}."""
    commits.delete_ref(repo_of(request).folder, "refs/tags/", part(request, "revision"))
    return JSONResponse({})


def create_branch(request: Request, body: dict[str, Any]) -> Response:
    """POST …/branch/{branch}: `{startingPoint?}`."""
    start = text(body, "startingPoint") or "main"
    commits.create_branch(repo_of(request).folder, part(request, "revision"), start)
    return JSONResponse({})


def delete_branch(request: Request) -> Response:
    """DELETE …/branch/{branch}."""
    commits.delete_ref(repo_of(request).folder, "refs/heads/", part(request, "revision"))
    return JSONResponse({})


def squash(request: Request, body: dict[str, Any]) -> Response:
    """POST …/super-squash/{branch}."""
    repo = repo_of(request)
    Discussions(repo).settle()
    commits.squash(repo.folder, part(request, "revision"), text(body, "message"))
    return JSONResponse({})


def leaderboard(request: Request) -> Response:
    """GET /api/datasets/{id}/leaderboard: models ranked by their `.eval_results`."""
    repo, account, repos = repo_of(request), account_of(request), hub_of(request).repos
    base_only = flag(request.query_params.get("base_model", "true"))

    @cache
    def is_asked(dataset_id: str) -> bool:
        return repos.current(repo.kind, dataset_id) == repo.repo_id

    def best(model: Repo) -> dict[str, Any] | None:
        readable = may_read(account, model)
        return describe.best_result(model, Snapshot(model.folder, "main"), is_asked, base_only) if readable else None

    rows = sorted(_each(request, "models", best), key=lambda row: (-row["value"], row["modelId"]))
    if not rows:
        raise Refusal(404, f"No model of this Hub has results for the dataset {repo.repo_id!r}")
    return JSONResponse([{"rank": rank, **row} for rank, row in enumerate(rows, 1)])


def validate_yaml(request: Request, body: dict[str, Any]) -> Response:
    """POST /api/validate-yaml: does a card's metadata parse, and is it a mapping."""
    content = text(body, "content")
    if "content" not in body:
        raise bad_request("The field 'content' must be the text of a card")
    block, errors = front_matter(content), []
    try:
        found = read_yaml(block or "")
        if found is not None and not isinstance(found, dict):
            errors.append({"message": f"The metadata is a {type(found).__name__}, expected a mapping"})
    except YamlError as error:
        errors.append({"message": f"The metadata is not YAML that this Hub reads: {error}"})
    warnings = [] if block is not None else [{"message": "The card has no metadata"}]
    return JSONResponse({"errors": errors, "warnings": warnings}, status_code=400 if errors else 200)
