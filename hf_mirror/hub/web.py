"""What all routes share: reading requests, pages, byte ranges, and uploads that never sit in memory whole."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from hf_mirror.hub.accounts import Account, Accounts
from hf_mirror.hub.cas import ChunkStore
from hf_mirror.hub.gitread import Snapshot
from hf_mirror.hub.lfs import Draft, LargeFiles
from hf_mirror.hub.multipart import Part, Uploads
from hf_mirror.hub.names import KINDS
from hf_mirror.hub.refusals import Refusal, bad_request, no_repo
from hf_mirror.hub.repos import Repo, Repos

MAX_JSON = 32 * 1024 * 1024
MAX_JSON_OF_READERS = 4 * 1024 * 1024
BLOCK = 1024 * 1024
DIGITS = 18  # of a number in a request: more bytes than there are


@dataclass(frozen=True)
class Hub:
    """The stores of one Hub. Routes find it as `request.app.state.hub`."""

    repos: Repos
    large_files: LargeFiles
    uploads: Uploads
    chunk_store: ChunkStore
    accounts: Accounts

    @staticmethod
    def open(root: Path, accounts: Accounts) -> Hub:
        """The Hub on a folder, which is created when it is new."""
        root.mkdir(parents=True, exist_ok=True)
        large_files = LargeFiles(root)
        uploads, chunks = Uploads(root, large_files), ChunkStore(root, large_files)
        return Hub(Repos(root), large_files, uploads, chunks, accounts)


def hub_of(request: Request) -> Hub:
    """The Hub that a request was sent to."""
    return request.app.state.hub


def base_url(request: Request) -> str:
    """`http://host:port` as the client reached it."""
    return str(request.base_url).rstrip("/")


def part(request: Request, name: str) -> str:
    """One piece of the URL's path. Routes match the raw path, so that `refs%2Fpr%2F1` is one piece."""
    return unquote(request.path_params.get(name, ""))


def kind_from(request: Request) -> str:
    """Which kind of repo a URL is about: `/api/datasets/…`, `/datasets/…`; without one, models."""
    first, second = [*request.scope["path"].split("/")[1:3], ""][:2]
    kind = second if first == "api" else first
    return kind if kind in KINDS else "models"


def account_of(request: Request) -> Account | None:
    """Who asks; None for somebody without a token, 401 for one with a wrong token."""
    return hub_of(request).accounts.find(request.headers.get("authorization"))


def check_writer(request: Request) -> Account:
    """Who asks, if they may write: 401 without a token, 403 with one that only reads."""
    account = account_of(request)
    if account is None:
        raise Refusal(401, "This Hub wants a token here: send it as `Authorization: Bearer …` (HF_TOKEN)")
    if not account.writes:
        raise Refusal(403, f"The token of {account.name} may read, and not write")
    return account


def repo_of(request: Request) -> Repo:
    """The repo that a URL names. URLs without a kind mean models. 404 where there is none; of a private one nobody
    without a token learns that it is there."""
    return find_repo(
        request, account_of(request), kind_from(request), part(request, "namespace"), part(request, "name")
    )


def find_repo(request: Request, account: Account | None, kind: str, namespace: str, name: str) -> Repo:
    """A repo that an account may know of, or 404 (401 for somebody without one)."""
    none = no_repo(kind, f"{namespace}/{name}")
    try:
        repo = hub_of(request).repos.find(kind, namespace, name)
        if account is not None or not repo.settings()["private"]:
            request.state.repo = repo  # should it go away before the answer is complete
            return repo
    except (Refusal, FileNotFoundError):
        if account is not None:
            raise none from None
    raise Refusal(401, none.message, none.code)


def check_signed(request: Request, what: str, word: str | None) -> None:
    """401 unless the word is one of this Hub's for that, 403 unless whom it was given to may still write."""
    account = hub_of(request).accounts.bearer(what, word)
    if account is None or not account.writes:
        raise Refusal(403, "Whoever this address was given to may not write any more")


def may_read(account: Account | None, repo: Repo) -> bool:
    """Whether an account may have the files of a repo: of a private one every account, of a gated one writers, every
    account where the gate opens by itself, and else those who were let in (`HfApi.grant_access`)."""
    settings = repo.settings()
    if account is None:
        return not settings["private"] and not settings["gated"]
    return account.writes or settings["gated"] in (False, "auto") or account.id in settings.get("granted", [])


def check_gate(repo: Repo, account: Account | None) -> None:
    """401 or 403 with the code GatedRepo for who may not have the files of a gated repo."""
    if may_read(account, repo):
        return
    if account is None:
        raise Refusal(401, f"{repo.repo_id} is gated: this Hub wants a token here", "GatedRepo")
    raise Refusal(403, f"{repo.repo_id} is gated, and {account.name} was not let in", "GatedRepo")


def snapshot_of(request: Request) -> Snapshot:
    """The repo of a URL at the revision that it names (`main` without one), or 404."""
    return Snapshot(repo_of(request).folder, part(request, "revision") or "main")


async def body_of(request: Request) -> bytes:
    """The body of a small request; 413 when it is not small. Who may not write has nothing large to say."""
    account = account_of(request)
    limit = MAX_JSON if account is not None and account.writes else MAX_JSON_OF_READERS
    size, blocks = 0, []
    async for block in request.stream():
        size += len(block)
        if size > limit:
            raise Refusal(413, f"The request is larger than {limit} bytes")
        blocks.append(block)
    return b"".join(blocks)


async def json_body(request: Request) -> Any:
    """The JSON object of a request, or 400."""
    try:
        found = parse_json(await body_of(request) or b"{}")
    except ValueError as error:
        raise bad_request(f"The request is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise bad_request("The request is not a JSON object")
    return found


def parse_json(data: bytes) -> Any:
    """The value of a JSON text; ValueError also for what Python reads and JSON does not have (NaN), for half a
    surrogate pair, which is no letter, and for nesting without end."""
    given = data.decode("utf-8")
    try:
        found = json.loads(given, parse_constant=_no_constant)
        if "\\u" in given:
            json.dumps(found, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def text(body: dict[str, Any], key: str) -> str:
    """A text in a request, empty where there is none; 400 for anything else."""
    found = body.get(key)
    if found is not None and not isinstance(found, str):
        raise bad_request(f"The field {key!r} must be a text")
    return found or ""


def with_json(handler: Callable[[Request, Any], Response]) -> Callable[[Request], Any]:
    """A route whose handler wants the JSON body and runs in a thread, since it works on disk."""

    async def route(request: Request) -> Response:
        return await run_in_threadpool(handler, request, await json_body(request))

    return route


async def receive(request: Request, draft: Draft | Part, limit: int) -> None:
    """Writes a request's body into a draft, a megabyte at a time; 413 beyond `limit` bytes."""
    pending = bytearray()
    async for block in request.stream():
        pending += block
        if draft.size + len(pending) > limit:
            raise Refusal(413, f"The upload is larger than {limit} bytes")
        if len(pending) >= BLOCK:
            full, pending = pending, bytearray()
            await run_in_threadpool(draft.write, full)
    await run_in_threadpool(draft.write, pending)


def page(
    request: Request, rows: list[Any], size: int, show: Callable[[list[Any]], list[Any]] = lambda rows: rows
) -> JSONResponse:
    """The rows from `cursor` on, at most `size` of them, as `show` shows them, with a `Link` to the next page while
    there are more."""
    text = request.query_params.get("cursor") or "0"
    start, headers = whole(text), {}
    if start is None:
        raise bad_request(f"Invalid cursor {text[:100]!r}")
    if start + size < len(rows):
        rest = [(key, value) for key, value in request.query_params.multi_items() if key != "cursor"]
        query = urlencode([*rest, ("cursor", str(start + size))])
        headers["Link"] = f'<{base_url(request)}{request.scope["path"]}?{query}>; rel="next"'
    return JSONResponse(show(rows[start : start + size]), headers=headers)


def whole(text: str | None) -> int | None:
    """A number of 0 or more in a query or a path; None for what is none, or longer than any that means something."""
    return int(text) if text and text.isdecimal() and len(text) <= DIGITS else None


def flag(text: str | None) -> bool:
    """A yes or no in a query or a form."""
    return (text or "").lower() in ("1", "true")


def wanted_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The first and last byte asked for, or None for the whole file; 416 when there is no such byte.

    Several ranges at once, and what is not understood, get the whole file, as RFC 9110 §14.2 allows.
    """
    match = re.fullmatch(rf"bytes=([0-9]{{0,{DIGITS}}})-([0-9]{{0,{DIGITS}}})", (header or "").strip())
    if not match or match.groups() == ("", ""):
        return None
    if match[1]:
        first, last = int(match[1]), min(int(match[2] or size), size - 1)
        if match[2] and int(match[2]) < first:
            return None
    else:
        first, last = max(0, size - int(match[2])), size - 1
    if first >= size or first > last:
        raise Refusal(416, f"There are no bytes {match[0]!r} in a file of {size} bytes")
    return first, last


def send(request: Request, source: Path | bytes, size: int, headers: dict[str, str]) -> Response:
    """A file, or the part of it that was asked for; HEAD gets the headers alone."""
    headers = {**headers, "Accept-Ranges": "bytes"}
    try:
        span = wanted_range(request.headers.get("range"), size)
    except Refusal as refusal:
        answer = refusal.response()
        answer.headers["Content-Range"] = f"bytes */{size}"
        return answer
    first, last = span or (0, size - 1)
    if span:
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    headers["Content-Length"] = str(last - first + 1)
    status, media = (206 if span else 200), "application/octet-stream"
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=media)
    if isinstance(source, bytes):
        return Response(source[first : last + 1], status_code=status, headers=headers, media_type=media)
    return StreamingResponse(_blocks(source, first, last + 1 - first), status, headers, media)


def _blocks(path: Path, start: int, count: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while count > 0 and (block := file.read(min(BLOCK, count))):
            count -= len(block)
            yield block
