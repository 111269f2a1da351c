"""Large files that come in parts: asked directly, with kills and lost answers in between."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from hf_mirror.hub import EmbeddedHub
from hf_mirror.hub.garbage import collect
from hf_mirror.hub.multipart import KEPT_SECONDS, PART

DATA = hashlib.shake_128(b"parts").digest(PART + 12345)
OID = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def web(root: Path) -> Iterator[httpx.Client]:
    with EmbeddedHub(root) as hub, httpx.Client(base_url=hub.url, timeout=60) as web:
        yield web


def offer(web: httpx.Client, size: int = len(DATA), transfers: object = ("basic", "multipart")) -> dict:
    """What a batch request is answered."""
    web.post("/api/repos/create", json={"organization": "ns", "name": "repo"})
    body = {"operation": "upload", "transfers": transfers, "objects": [{"oid": OID, "size": size}]}
    answer = web.post("/ns/repo.git/info/lfs/objects/batch", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def put(web: httpx.Client, header: dict, data: bytes = DATA) -> list[dict]:
    """Sends all parts; what completes them."""
    size = int(header["chunk_size"])
    answers = [web.put(header[str(n + 1)], content=data[n * size : (n + 1) * size]) for n in range(len(header) - 1)]
    return [{"partNumber": n, "etag": answer.headers["ETag"]} for n, answer in enumerate(answers, 1)]


def held(root: Path) -> bool:
    path = root / "objects" / OID[:2] / OID[2:4] / OID
    return path.exists() and path.read_bytes() == DATA and not list((root / "multipart").iterdir())


def test_only_what_is_larger_than_a_part_comes_in_parts(web: httpx.Client) -> None:
    both, huge = ["basic", "multipart"], 10**18
    for size, transfers in ((PART, both), (len(DATA), ["basic"]), (len(DATA), None), (huge, both), (len(DATA), 3)):
        answer = offer(web, size, transfers)
        assert answer["transfer"] == "basic" and "header" not in answer["objects"][0]["actions"]["upload"]
    answer = offer(web)
    header = answer["objects"][0]["actions"]["upload"]["header"]
    assert answer["transfer"] == "multipart" and header.keys() == {"chunk_size", "1", "2"}


def test_parts_become_the_file_and_go(web: httpx.Client, root: Path) -> None:
    actions = offer(web)["objects"][0]["actions"]
    parts = put(web, actions["upload"]["header"])
    assert len(list((root / "multipart" / OID).iterdir())) == 2 and not held(root)
    assert web.post(actions["upload"]["href"], json={"oid": OID, "parts": parts}).status_code == 200
    assert held(root)
    again = web.post(actions["upload"]["href"], json={"oid": OID, "parts": parts})  # the answer was lost
    assert again.status_code == 200 and held(root)
    assert web.post(actions["verify"]["href"], json={"oid": OID, "size": len(DATA)}).status_code == 200
    assert "actions" not in offer(web)["objects"][0]


def test_what_is_not_the_announced_file_is_refused(web: httpx.Client, root: Path) -> None:
    action = offer(web)["objects"][0]["actions"]["upload"]
    assert web.put(action["header"]["1"], content=DATA).status_code == 413  # more than a part
    one, two = put(web, action["header"])
    absent = {"partNumber": 2, "etag": '"' + "0" * 64 + '"'}
    for status, parts in [
        (400, [one]),  # cut
        (400, [one | {"partNumber": 2}, two | {"partNumber": 1}]),
        (400, [two | {"partNumber": 1}, one | {"partNumber": 2}]),  # the other way round
        (400, [one, absent]),
        (400, [one, two | {"partNumber": 3}]),
        (422, [one, two | {"etag": "../../tokens.json"}]),
        (422, [one, {"partNumber": 2}]),
        (400, "parts"),
    ]:
        answer = web.post(action["href"], json={"oid": OID, "parts": parts})
        assert answer.status_code == status, answer.text
    assert not (root / "objects" / OID[:2]).exists()
    assert web.post(action["href"], json={"oid": OID, "parts": [one, two]}).status_code == 200
    assert held(root)


def test_parts_outlive_a_killed_server(root: Path) -> None:
    with EmbeddedHub(root) as hub, httpx.Client(timeout=60) as web:
        port = int(hub.url.rpartition(":")[2])
        web.base_url = hub.url
        action = offer(web)["objects"][0]["actions"]["upload"]
        first = web.put(action["header"]["1"], content=DATA[:PART]).headers["ETag"]
        assert hub._process is not None
        hub._process.send_signal(signal.SIGKILL)
        hub._process.wait()
    with EmbeddedHub(root, port), httpx.Client(timeout=60) as web:
        second = web.put(action["header"]["2"], content=DATA[PART:]).headers["ETag"]
        parts = [{"partNumber": n, "etag": etag} for n, etag in enumerate((first, second), 1)]
        assert web.post(action["href"], json={"oid": OID, "parts": parts}).status_code == 200
        assert held(root)


def test_uploads_that_nobody_finishes_are_removed(root: Path) -> None:
    def begin(name: str, age: float) -> None:
        folder = root / "multipart" / name
        folder.mkdir(parents=True)
        (folder / "part").write_bytes(b"12345")
        os.utime(folder, times=(0, time.time() - age))

    def left() -> set[str]:
        return {path.name for path in (root / "multipart").iterdir()}

    begin("old", KEPT_SECONDS + 60)
    begin("young", KEPT_SECONDS - 60)
    with EmbeddedHub(root) as hub, httpx.Client(base_url=hub.url) as web:
        assert left() == {"young"}
        begin("older", KEPT_SECONDS + 60)
        offer(web)  # and when another upload begins
        assert left() == {"young"}
    assert collect(root, dry_run=True) == {"kept": 0, "removed": 1, "freed_bytes": 5} and left() == {"young"}
    assert collect(root) == {"kept": 0, "removed": 1, "freed_bytes": 5} and left() == set()
