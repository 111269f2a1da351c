"""Routes that bring content in: preupload, commit, LFS and xet uploads."""

from __future__ import annotations

import base64
import fnmatch
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hf_mirror.hub import commits
from hf_mirror.hub.discussions import Discussions, branch_of
from hf_mirror.hub.gitread import Snapshot
from hf_mirror.hub.multipart import KEPT_SECONDS, PART
from hf_mirror.hub.names import check_path, check_sha256
from hf_mirror.hub.refusals import Refusal, bad_request
from hf_mirror.hub.web import (
    account_of,
    base_url,
    check_gate,
    check_signed,
    check_writer,
    flag,
    hub_of,
    parse_json,
    part,
    receive,
    repo_of,
    snapshot_of,
    text,
    whole,
)
from hf_mirror.hub.xet import MAX_SHARD, MAX_XORB

MAX_REGULAR = 10 * 1024 * 1024  # larger files go to LFS
MAX_COMMIT = 2 * 1024 * 1024 * 1024
MAX_LARGE_FILE = 512 * 1024 * 1024 * 1024
TOKEN_SECONDS = 3600
CHUNKS = "upload chunks"


def preupload(request: Request, body: dict[str, Any]) -> Response:
    """POST …/preupload/{rev}: for each file, how to send it and what the repo holds under its name."""
    snapshot = snapshot_of(request)
    files = _objects(body, "files")
    patterns = commits.lfs_patterns(snapshot.read(commits.ATTRIBUTES))
    ignored = _ignore_rules(text(body, "gitIgnore") if "gitIgnore" in body else None, snapshot)
    return JSONResponse({"files": [_advice(snapshot, file, patterns, ignored) for file in files]})


def _objects(body: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """A list of objects in a request, or 400."""
    found = body.get(key)
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise bad_request(f"The field {key!r} must be a list of objects")
    return found


def _advice(snapshot: Snapshot, file: dict[str, Any], patterns: list[str], ignored: list[str]) -> dict[str, Any]:
    path = check_path(text(file, "path"))
    size, sample = file.get("size", 0), file.get("sample", "")
    if type(size) is not int or not isinstance(sample, str):
        raise bad_request(f"The file {path!r} needs a size in bytes and a sample in base64")
    large = size > MAX_REGULAR or commits.is_tracked(path, patterns) or _is_binary(sample)
    try:
        entry = snapshot.entry(path)
        held = None if entry.is_folder else entry.etag
    except Refusal:
        held = None
    mode = "lfs" if large and path != commits.ATTRIBUTES else "regular"
    return {"path": path, "uploadMode": mode, "shouldIgnore": _is_ignored(path, ignored), "oid": held}


def _is_binary(sample: str) -> bool:
    """Whether the first bytes of a file are not text. A character may be cut at the end of the sample."""
    try:
        head = base64.b64decode(sample)
        head[: head.rfind(b"\n") + 1 or max(0, len(head) - 3)].decode("utf-8")
    except ValueError:
        return True
    return b"\0" in head


def _ignore_rules(sent: str | None, snapshot: Snapshot) -> list[str]:
    rules = sent if sent is not None else (snapshot.read(".gitignore") or b"").decode("utf-8", "replace")
    return [line.strip() for line in rules.splitlines() if line.strip() and not line.startswith("#")]


def _is_ignored(path: str, rules: list[str]) -> bool:
    """The common part of `.gitignore`: names, wildcards, folders and exceptions; the last rule that fits decides."""
    verdict = False
    for rule in rules:
        pattern, keep = rule.lstrip("!").strip("/"), rule.startswith("!")
        names = [path] if "/" in rule.strip("!/") or rule.lstrip("!").startswith("/") else path.split("/")
        fits = any(fnmatch.fnmatchcase(name, pattern) for name in names) or path.startswith(f"{pattern}/")
        verdict = (not keep) if fits else verdict
    return verdict


async def commit(request: Request) -> Response:
    """POST …/commit/{branch}: the lines are kept on disk first, then applied at once; with `create_pr`, to a new pull
    request."""
    with hub_of(request).large_files.draft() as draft:
        await receive(request, draft, MAX_COMMIT)
        draft.close()
        return await run_in_threadpool(_commit, request, draft.path)


def _commit(request: Request, lines: Path) -> Response:
    repo, branch, who = repo_of(request), part(request, "revision"), check_writer(request).name
    room, large_files, number = Discussions(repo), hub_of(request).large_files, _pull_request(branch)
    if flag(request.query_params.get("create_pr")):
        title, opening = _title(lines)
        number = room.create(who, title, opening, True, branch)["num"]
        branch = branch_of(number)
        try:
            oid = commits.commit(repo.folder, branch, large_files, _lines(lines))
        except Exception:
            room.discard(number)
            raise
        room.set_status(number, who, "open")
    else:
        if number is not None:
            room.check_open(number)
        oid = commits.commit(repo.folder, branch, large_files, _lines(lines))
    base = repo.url(base_url(request))
    if number is not None:
        room.committed(number, who, _title(lines)[0], oid)
    return JSONResponse({
        "success": True, "commitUrl": f"{base}/commit/{oid}", "commitOid": oid, "hookOutput": "",
        "pullRequestUrl": None if number is None else f"{base}/discussions/{number}",
    })  # fmt: skip


def _pull_request(branch: str) -> int | None:
    """The number of the pull request that a branch belongs to."""
    return whole(branch.removeprefix("refs/pr/")) if branch.startswith("refs/pr/") else None


def _title(lines: Path) -> tuple[str, str]:
    """Summary and description of a commit request."""
    header = next((value for key, value in _lines(lines) if key == "header"), {})
    return text(header, "summary") or "Update", text(header, "description")


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The lines of a commit request, one in memory at a time; 400 names the line that is not as it should be."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                found = parse_json(line)
                key, value = found["key"], found["value"]
                sound = isinstance(value, dict) and (key == "header" or isinstance(value.get("path"), str))
            except (ValueError, KeyError, TypeError):
                sound = False
            if not sound:
                raise bad_request(f'Line {number} of the commit is not {{"key": …, "value": {{"path": …}}}}')
            yield key, value


def lfs_batch(request: Request, body: dict[str, Any]) -> Response:
    """POST /[{kind}/]{id}.git/info/lfs/objects/batch; no actions for what the Hub holds.

    Transfer `basic`, and `multipart` for files of more than one part where the client knows it."""
    repo, account, upload = repo_of(request), account_of(request), body.get("operation") == "upload"
    if upload:
        check_writer(request)
    else:
        check_gate(repo, account)
    hub, base = hub_of(request), base_url(request)
    transfers = body.get("transfers")
    in_parts = upload and isinstance(transfers, list) and "multipart" in transfers
    answers, transfer = [], "basic"
    for wanted in _objects(body, "objects"):
        oid = check_sha256(wanted.get("oid"))
        # Others' files are not handed out: their repos may be private or gated.
        known = upload or hub.large_files.is_linked(repo.folder, oid)
        held = hub.large_files.size(oid) if known else None
        answer: dict[str, Any] = {"oid": oid, "size": _size(wanted.get("size", held or 0))}
        if upload and held is None:
            size = answer["size"]
            large = in_parts and size > PART
            word = hub.accounts.sign(f"upload {oid}", KEPT_SECONDS if large else TOKEN_SECONDS, account)
            actions = {"upload": f"{base}/lfs/{oid}?word={word}", "verify": f"{base}/lfs/{oid}/verify?word={word}"}
            answer["actions"] = {name: {"href": href} for name, href in actions.items()}
            if large:
                transfer = "multipart"
                answer["actions"]["upload"] = hub.uploads.offer(f"{base}/lfs/{oid}", word, size)
        elif not upload and held is not None:
            named = f"{repo.kind}/{repo.repo_id}"
            word = hub.accounts.sign(f"download {oid} {named}", TOKEN_SECONDS, account)
            answer["actions"] = {"download": {"href": f"{base}/lfs/{oid}?repo={named}&word={word}"}}
        elif not upload:
            answer["error"] = {"code": 404, "message": f"There is no large file {oid}"}
        answers.append(answer)
    return JSONResponse({"transfer": transfer, "objects": answers}, media_type="application/vnd.git-lfs+json")


def _size(given: Any) -> int:
    if type(given) is not int or not 0 <= given <= MAX_LARGE_FILE:
        raise Refusal(422, f"A size is a number of bytes from 0 to {MAX_LARGE_FILE}")
    return given


async def lfs_upload(request: Request) -> Response:
    """PUT /lfs/{sha256}: the content itself; kept only when its hash is the one in the URL."""
    large_files, oid = hub_of(request).large_files, check_sha256(part(request, "oid"))
    check_signed(request, f"upload {oid}", request.query_params.get("word"))
    with large_files.draft() as draft:
        await receive(request, draft, MAX_LARGE_FILE)
        await run_in_threadpool(large_files.keep, draft, oid)
    return Response(headers={"ETag": f'"{oid}"'})


async def lfs_part(request: Request) -> Response:
    """PUT /lfs/{sha256}/parts/{upload}/{number}: one part of a file, the parts before it being here."""
    hub, oid, number = hub_of(request), check_sha256(part(request, "oid")), whole(part(request, "number"))
    check_signed(request, f"upload {oid}", request.query_params.get("word"))
    if not number:
        raise bad_request("Parts are numbered from 1 on")
    upload = hub.uploads.find(oid, part(request, "upload"))
    with await run_in_threadpool(upload.part, number) as piece:
        await receive(request, piece, PART)
        etag = await run_in_threadpool(piece.end)
    return Response(headers={"ETag": f'"{etag}"'})


def lfs_complete(request: Request, body: dict[str, Any]) -> Response:
    """POST /lfs/{sha256}/parts/{upload}: all parts are here. Whether they are the right ones, the SHA-256 tells."""
    oid = check_sha256(part(request, "oid"))
    check_signed(request, f"upload {oid}", request.query_params.get("word"))
    hub_of(request).uploads.end(oid, part(request, "upload"))
    return JSONResponse({})


def lfs_verify(request: Request, body: dict[str, Any]) -> Response:
    """POST /lfs/{sha256}/verify: is the object here, and as large as the client says."""
    oid = check_sha256(part(request, "oid"))
    check_signed(request, f"upload {oid}", request.query_params.get("word"))
    held = hub_of(request).large_files.size(oid)
    size = _size(body.get("size", held or 0))
    if held is None or held != size:
        raise Refusal(404, f"The large file {oid} is held with {held} bytes, the client says {size}")
    return JSONResponse({})


def xet_write_token(request: Request) -> Response:
    """GET …/xet-write-token/{rev}: where the chunk store is. A new store has a new address, since clients cache."""
    repo_of(request)
    url = f"{base_url(request)}/xet/{hub_of(request).chunk_store.store_id}"
    expires = int(time.time()) + TOKEN_SECONDS
    token = hub_of(request).accounts.sign(CHUNKS, TOKEN_SECONDS, account_of(request))
    headers = {"X-Xet-Cas-Url": url, "X-Xet-Access-Token": token, "X-Xet-Token-Expiration": str(expires)}
    return JSONResponse({"casUrl": url, "exp": expires, "accessToken": token}, headers=headers)


async def xorb(request: Request) -> Response:
    """POST /xet/{store}/v1/xorbs/default/{hash}."""
    hub = _chunk_hub(request)
    with hub.large_files.draft() as draft:
        await receive(request, draft, MAX_XORB)
        await run_in_threadpool(hub.chunk_store.add_xorb, part(request, "hash"), draft)
    return JSONResponse({"was_inserted": True})


async def shard(request: Request) -> Response:
    """POST /xet/{store}/v1/shards: builds and checks every file that the shard describes before it answers."""
    hub = _chunk_hub(request)
    with hub.large_files.draft() as draft:
        await receive(request, draft, MAX_SHARD)
        draft.close()
        data = await run_in_threadpool(draft.path.read_bytes)
    await run_in_threadpool(hub.chunk_store.add_shard, data)
    return JSONResponse({"result": 1})


def _chunk_hub(request: Request) -> Any:
    hub = hub_of(request)
    check_signed(request, CHUNKS, request.headers.get("authorization", "").removeprefix("Bearer "))
    if part(request, "store") != hub.chunk_store.store_id:
        raise Refusal(404, "This chunk store is not served here any more; ask for a new xet-write-token")
    return hub
