"""Large files that come in parts: asked directly, with kills and lost answers in between."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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
    both = ["basic", "multipart"]
    for size, transfers in ((PART, both), (len(DATA), ["basic"]), (len(DATA), None), (len(DATA), 3)):
        answer = offer(web, size, transfers)
        assert answer["transfer"] == "basic" and "header" not in answer["objects"][0]["actions"]["upload"]
    answer = offer(web)
    header = answer["objects"][0]["actions"]["upload"]["header"]
    assert answer["transfer"] == "multipart" and header.keys() == {"chunk_size", "1", "2"}


def test_parts_become_the_file_and_go(web: httpx.Client, root: Path) -> None:
    actions = offer(web)["objects"][0]["actions"]
    parts = put(web, actions["upload"]["header"])
    assert [path.stat().st_size for path in (root / "multipart").iterdir()] == [len(DATA)] and not held(root)
    assert web.post(actions["upload"]["href"], json={"oid": OID, "parts": parts}).status_code == 200
    assert held(root)
    again = web.post(actions["upload"]["href"], json={"oid": OID, "parts": parts})  # the answer was lost
    assert again.status_code == 200 and held(root)
    assert web.post(actions["verify"]["href"], json={"oid": OID, "size": len(DATA)}).status_code == 200
    assert "actions" not in offer(web)["objects"][0]


def test_what_is_not_the_announced_file_is_refused(web: httpx.Client, root: Path) -> None:
    def action() -> dict:
        return offer(web)["objects"][0]["actions"]["upload"]

    for data in (DATA[:PART], DATA[:-1] + b"x", DATA[::-1], DATA[PART:] + DATA[:PART]):
        wrong = action()
        put(web, wrong["header"] if len(data) > PART else {"chunk_size": PART, "1": wrong["header"]["1"]}, data)
        answer = web.post(wrong["href"], json={})
        assert answer.status_code == 400 and "was announced" in answer.text
        assert not list((root / "multipart").iterdir())
    nothing = action()
    assert web.post(nothing["href"], json={}).status_code == 400  # no part came
    assert web.put(nothing["header"]["1"], content=DATA).status_code == 413
    assert web.put(nothing["header"]["2"], content=DATA[PART:]).status_code == 400  # the first is not whole
    for number in ("0", "x", "-1", "9" * 30):
        assert web.put(nothing["header"]["1"].replace("/1?", f"/{number}?"), content=b"x").status_code == 400
    assert web.put(f"/lfs/{OID}/parts/..%2f..%2ftokens.json/1", content=b"x").status_code == 400
    assert not (root / "objects" / OID[:2]).exists()


def test_parts_are_sent_again(web: httpx.Client, root: Path) -> None:
    """Answers were lost, and connections: of the one before, somebody still sends."""
    action = offer(web)["objects"][0]["actions"]["upload"]
    put(web, action["header"], DATA[::-1])
    put(web, action["header"], DATA)
    gate = threading.Event()

    def slow() -> Iterator[bytes]:
        yield b"x" * 2**21
        gate.wait(30)
        yield b"x" * 2**21

    with ThreadPoolExecutor() as pool:
        stale = pool.submit(httpx.put, action["header"]["2"], content=slow(), timeout=30)
        path = next((root / "multipart").iterdir())
        while path.stat().st_size < PART + 2**20:
            time.sleep(0.01)
        assert web.put(action["header"]["2"], content=DATA[PART:]).status_code == 200
        gate.set()
        assert stale.result().status_code == 409
    other = offer(web)["objects"][0]["actions"]["upload"]  # somebody else, with the same file
    put(web, other["header"])
    inodes = set()
    for href in (action["href"], other["href"]):
        assert web.post(href, json={}).status_code == 200
        inodes.add((root / "objects" / OID[:2] / OID[2:4] / OID).stat().st_ino)
    assert held(root) and len(inodes) == 1  # repos may link to the first


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
        path = root / "multipart" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
        os.utime(path, times=(0, time.time() - age))

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
