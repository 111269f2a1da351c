"""Every route, asked for what nobody would ask: an answer below 500 always, and a Hub that goes on as before."""

from __future__ import annotations

import json
import random
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from hf_mirror.hub import EmbeddedHub
from hf_mirror.hub.app import routes
from tests.hub.odd_input import CARDS, OID, RESULTS, TEXTS, VALUES

FIELDS = [
    "name", "organization", "type", "visibility", "private", "gated", "sdk", "fromRepo", "toRepo", "tag", "message",
    "startingPoint", "files", "path", "size", "sample", "gitIgnore", "operation", "objects", "oid", "paths", "expand",
    "content", "repoType", "title", "description", "pullRequest", "comment", "status", "user", "transfers",
]  # fmt: skip
QUERIES = [
    "expand", "cursor", "limit", "recursive", "blobs", "diff", "create_pr", "word", "repo", "p", "author", "search",
    "filter", "full", "direction", "type", "status", "base_model",
]  # fmt: skip
HEADERS: list[dict[str, Any]] = [
    {}, {}, {}, {"Range": "bytes=0-0"}, {"Range": "bytes=-0"}, {"Range": "bytes=5-1"}, {"Range": "x"},
    {"Authorization": b"Bearer \xe9"}, {"Authorization": "Basic"}, {"Host": "["}, {"Host": "[::1"}, {"Host": "a b"},
    {"Content-Type": "application/json"}, {"Content-Type": "application/x-www-form-urlencoded"},
]  # fmt: skip
RAW = [b"", b"null", b"[]", b"\xff\xfe", b"{" * 5000, b"[" * 100_000, b'{"a": NaN}', b'{"name": "\\ud800"}',
       b'{"size": 1e999}', b"\xed\xa0\x80", b'{"content": "\\ud800"}', b'{"a": ' + b"9" * 5000 + b"}"]  # fmt: skip


class Asker:
    """Draws requests by a seed."""

    def __init__(self, seed: int, store: str) -> None:
        self.rng, self.store = random.Random(seed), store
        self.table = [(method, route.path) for route in routes() for method in sorted(route.methods or ())]

    def value(self, depth: int = 0) -> Any:
        draw, rng = self.rng.random(), self.rng
        if draw < 0.5:
            return rng.choice(TEXTS)
        if draw < 0.75 or depth > 2:
            return rng.choice(
                [None, True, False, 0, 1, -1, 10**30, -(10**400), 0.5, 1e300, float("nan"), "\ud800", OID]
            )
        if draw < 0.85:
            return [self.value(depth + 1) for _ in range(rng.randrange(4))]
        return self.fields(depth + 1)

    def fields(self, depth: int = 0) -> dict[str, Any]:
        return {self.rng.choice(FIELDS): self.value(depth) for _ in range(self.rng.randrange(6))}

    def lines(self) -> bytes:
        """A commit, now and then one that is taken."""
        rng = self.rng
        made: list[Any] = [{"key": "header", "value": {"summary": rng.choice(["x", "x", "x\0y", "\ud800", 5, ["x"]])}}]
        for _ in range(rng.randrange(4)):
            card = rng.choice(RESULTS).replace("VALUE", rng.choice(VALUES)) if rng.random() < 0.5 else rng.choice(CARDS)
            path = rng.choice(["README.md", ".eval_results/r.yaml", rng.choice(TEXTS)])
            file = {"path": path, "content": rng.choice([card, card, "x", 5, "\ud800"]), "encoding": "utf-8"}
            key = rng.choice(["file", "file", "file", "lfsFile", "deletedFile", "deletedFolder", "x", 5])
            made.append({"key": key, "value": rng.choice([file, file, file, {**file, "oid": OID}, self.value()])})
        return "\n".join(map(json.dumps, made)).encode()

    def body(self, path: str) -> bytes:
        rng = self.rng
        if "/commit/" in path and rng.random() < 0.8:
            return self.lines()
        if rng.random() < 0.2:
            return rng.choice(RAW)
        if "validate-yaml" in path:
            return json.dumps({"content": rng.choice(CARDS)}).encode()
        if "paths-info" in path and rng.random() < 0.5:
            return "&".join(f"paths={quote(rng.choice(TEXTS))}" for _ in range(3)).encode()
        return json.dumps(self.fields()).encode()

    def request(self) -> tuple[str, str, dict[str, Any], bytes]:
        rng = self.rng
        method, template = rng.choice(self.table)
        sound = {"namespace": "ns", "name": rng.choice("ab"), "revision": "main", "number": "1", "store": self.store,
                 "what": rng.choice(["comment", "title", "status", "merge"]), "oid": OID, "hash": OID}  # fmt: skip
        path = template.replace(":path}", "}")
        for name in ("namespace", "name", "revision", "path", "number", "what", "oid", "store", "hash"):
            drawn = sound[name] if name in sound and rng.random() < 0.9 else rng.choice(TEXTS)
            path = path.replace(f"{{{name}}}", quote(drawn, safe=""))
        asked = [f"{rng.choice(QUERIES)}={quote(rng.choice(TEXTS))}" for _ in range(rng.randrange(3))]
        return method, f"{path}?{'&'.join(asked)}", rng.choice(HEADERS), self.body(path)


def rebuild(web: httpx.Client) -> None:
    """The repos that are asked about, where they are gone: `ns/a` and `ns/b` of each kind."""
    for kind in ("model", "dataset", "space"):
        for name in "ab":
            web.post("/api/repos/create", json={"organization": "ns", "name": name, "type": kind, "sdk": "static"})
            base = f"/api/{kind}s/ns/{name}"
            web.put(f"{base}/settings", json={"private": False, "gated": False})
            web.post(f"{base}/discussions", json={"title": "t", "description": "d", "pullRequest": True})
            web.post(f"{base}/branch/work", json={})


@pytest.mark.parametrize(
    ("seed", "count"), [(1, 300), *(pytest.param(seed, 5000, marks=pytest.mark.soak) for seed in range(2, 5))]
)
def test_nothing_makes_the_hub_fail(tmp_path: Path, seed: int, count: int) -> None:
    with EmbeddedHub(tmp_path) as hub, httpx.Client(base_url=hub.url, timeout=60) as web:
        rebuild(web)
        store = web.get("/api/models/ns/a/xet-write-token/main").json()["casUrl"].rpartition("/")[2]
        asker, seen = Asker(seed, store), Counter[int]()
        for number in range(count):
            method, path, headers, body = asker.request()
            answer = web.request(method, path, headers=headers, content=body)
            said = f"{number}: {method} {path[:300]} {headers} {body[:300]!r}: {answer.text[:300]}"
            assert answer.status_code < 500, said
            seen[answer.status_code] += 1
            if number % 25 == 0:
                rebuild(web)
        assert seen[200] > count / 10 and seen[400] and seen[404], seen
        assert web.get("/api/whoami-v2").status_code == 200
        for kind in ("models", "datasets", "spaces"):
            assert web.get(f"/api/{kind}?full=1").status_code == 200
        assert web.get("/api/datasets/ns/b/leaderboard").status_code in (200, 404)
        made = web.post("/api/repos/create", json={"organization": "after", "name": "all"})
        assert made.status_code == 200
    for folder in tmp_path.glob("*/*/*.git"):
        subprocess.run(["git", "fsck", "--strict"], cwd=folder, check=True, capture_output=True)
    assert "Traceback" not in (tmp_path / "server.log").read_text()
