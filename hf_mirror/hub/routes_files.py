"""Routes that read files: trees, paths, downloads."""

from __future__ import annotations

from urllib.parse import parse_qs, quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hf_mirror.hub.describe import tree_entry
from hf_mirror.hub.gitread import Entry, Snapshot, last_commits
from hf_mirror.hub.names import check_folder, check_path, check_sha256
from hf_mirror.hub.refusals import Refusal, bad_request, no_entry
from hf_mirror.hub.web import (
    account_of,
    body_of,
    check_gate,
    find_repo,
    flag,
    hub_of,
    json_body,
    page,
    part,
    repo_of,
    send,
    snapshot_of,
)

PAGE, EXPANDED_PAGE = 1000, 50


def tree(request: Request) -> Response:
    """GET …/tree/{rev}[/{path}], in pages of 1000, or of 50 with `expand`."""
    query, snapshot = request.query_params, snapshot_of(request)
    entries = list(snapshot.list(check_folder(part(request, "path")), flag(query.get("recursive"))))
    if flag(query.get("expand")):
        return page(request, entries, EXPANDED_PAGE, lambda rows: _dated(snapshot, rows))
    return page(request, entries, PAGE, lambda rows: [tree_entry(entry) for entry in rows])


def _dated(snapshot: Snapshot, entries: list[Entry]) -> list[dict]:
    last = last_commits(snapshot, [entry.path for entry in entries])
    return [tree_entry(entry, last.get(entry.path)) for entry in entries]


async def paths_info(request: Request) -> Response:
    """POST …/paths-info/{rev}: a form (or JSON) with `paths` and `expand`; paths that do not exist are left out."""
    if request.headers.get("content-type", "").startswith("application/json"):
        body = await json_body(request)
        paths, expand = body.get("paths", []), bool(body.get("expand"))
        if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
            raise bad_request("The field 'paths' must be a list of paths")
    else:
        form = parse_qs((await body_of(request)).decode("ascii", "replace"))
        paths, expand = form.get("paths", []), flag(form.get("expand", [""])[0])
    return await run_in_threadpool(_paths_info, request, paths, expand)


def _paths_info(request: Request, paths: list[str], expand: bool) -> Response:
    snapshot, entries = snapshot_of(request), []
    for path in dict.fromkeys(paths):
        try:
            entries.append(snapshot.entry(check_folder(path)))
        except Refusal as refusal:
            if refusal.code != "EntryNotFound" and refusal.status != 400:
                raise
    return JSONResponse(_dated(snapshot, entries) if expand else [tree_entry(entry) for entry in entries])


def resolve(request: Request) -> Response:
    """HEAD or GET /[{kind}/]{id}/resolve/{rev}/{path}, whole or in part."""
    hub, snapshot = hub_of(request), snapshot_of(request)
    check_gate(repo_of(request), account_of(request))
    path = check_path(part(request, "path"))
    headers = {"X-Repo-Commit": snapshot.sha}
    try:
        entry = snapshot.entry(path)
        if entry.is_folder:
            raise no_entry(path, snapshot.revision)
    except Refusal as refusal:
        answer = refusal.response()  # with the commit, so that clients can remember that the file is not there
        answer.headers.update(headers)
        return answer
    name = quote(path.rpartition("/")[2])
    headers |= {"ETag": f'"{entry.etag}"', "Content-Disposition": f"inline; filename*=UTF-8''{name}"}
    if entry.lfs is None:
        return send(request, snapshot.blob(entry), entry.size, headers)
    headers |= {"X-Linked-Etag": f'"{entry.etag}"', "X-Linked-Size": str(entry.size)}
    if hub.large_files.size(entry.lfs.oid) is None:
        raise Refusal(500, f"The Hub has lost the large file {entry.lfs.oid} ({path!r}); upload it again")
    return send(request, hub.large_files.path(entry.lfs.oid), entry.size, headers)


def large_file(request: Request) -> Response:
    """GET /lfs/{sha256}: where `git lfs` downloads from, with the word that the batch of a repo gave for it. Whoever
    the word was given to must still have a right to that repo."""
    hub, oid = hub_of(request), check_sha256(part(request, "oid"))
    named = request.query_params.get("repo", "")
    account = hub.accounts.bearer(f"download {oid} {named}", request.query_params.get("word"))
    kind, namespace, name = [*named.split("/"), "", "", ""][:3]
    repo = find_repo(request, account, kind, namespace, name)
    check_gate(repo, account)
    size = hub.large_files.size(oid) if hub.large_files.is_linked(repo.folder, oid) else None
    if size is None:
        raise Refusal(404, f"There is no large file {oid} in {named}")
    return send(request, hub.large_files.path(oid), size, {"ETag": f'"{oid}"'})
