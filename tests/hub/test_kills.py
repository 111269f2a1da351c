"""A server that is killed at any moment of an upload or a commit, and started again: the client goes on, nothing is
lost, and nothing comes twice."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pygit2
import pytest

from hf_mirror.hub import EmbeddedHub
from hf_mirror.hub.garbage import collect
from hf_mirror.hub.lfs import Pointer
from hf_mirror.hub.multipart import PART

SIZES = {"commit": 1000, "lfs": 8 << 20, "pull request": 1 << 20, "xet": 8 << 20, "multipart": PART + 1000}


class Publisher:
    """A client in a process of its own."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.errors = Path(environment["HF_HOME"]).with_suffix(".log")
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).parent / "clients" / "publisher.py"], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors.open("w"),
        )  # fmt: skip

    def begin(self, kind: str, number: int) -> None:
        assert self.process.stdin is not None
        job = {"kind": kind, "repo": repo_of(kind), "number": number, "size": SIZES[kind]}
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()

    def end(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the client gave up:\n{self.errors.read_text()[-3000:]}"
        return json.loads(line)


def repo_of(kind: str) -> str:
    return f"kills/of-{kind.replace(' ', '-')}"  # the client stumbles over a repo that is called 'commit'


@contextmanager
def publishers(url: str, folder: Path, environment_of: Callable[..., dict[str, str]]) -> Iterator[dict[str, Publisher]]:
    """For each kind the client that publishes it."""
    with ExitStack() as stack:
        plain = Publisher(environment_of(url, folder / "plain") | {"HF_HUB_DISABLE_XET": "1"})
        xet = Publisher(environment_of(url, folder / "xet"))
        for publisher in (plain, xet):
            stack.callback(publisher.process.kill)
        yield {kind: xet if kind == "xet" else plain for kind in SIZES}


def check_kills(kills: int, folder: Path, seed: int, environment_of: Callable[..., dict[str, str]]) -> None:
    """Kills the server that often in each kind of publication, and sometimes once more as it comes back."""
    rng, root = random.Random(seed), folder / "root"
    hub = EmbeddedHub(root).__enter__()
    port = int(hub.url.rpartition(":")[2])
    took: dict[str, float] = {}
    try:
        with publishers(hub.url, folder, environment_of) as clients:
            for kind, client in clients.items():  # undisturbed: how long it takes
                create(hub.url, repo_of(kind))
                for number in (-2, -1):  # the first brings connections and imports
                    client.begin(kind, number)
                    took[kind] = client.end()["seconds"]
            for number in range(kills):
                for kind, client in clients.items():
                    client.begin(kind, number)
                    for _ in range(2 if rng.random() < 0.2 else 1):
                        time.sleep(rng.uniform(0, 1.1 * took[kind]))
                        assert hub._process is not None
                        hub._process.send_signal(signal.SIGKILL)
                        hub.__exit__()
                        time.sleep(rng.uniform(0, 0.3))
                        hub = EmbeddedHub(root, port).__enter__()
                    client.end()
    finally:
        hub.__exit__()
    numbers = range(-2, kills)
    for kind in SIZES:
        check_repo(root, repo_of(kind), [f"publication {number}" for number in numbers], kind == "pull request")
    objects = sum(1 for path in (root / "objects").rglob("*") if path.is_file())
    assert objects == (len(SIZES) - 1) * len(numbers)  # all but those of plain commits; nothing was stored besides
    assert collect(root) == {
        "kept": objects,
        "removed": 0,
        "freed_bytes": 0,
    }  # starts like a server: clears what is left
    for left in ("parts", "trash", "multipart"):
        assert not list((root / left).iterdir()), left
    said = (root / "server.log").read_text()
    assert "Traceback" not in said, said


def create(url: str, repo: str) -> None:
    from huggingface_hub import HfApi

    HfApi(endpoint=url, token="any").create_repo(repo)


def check_repo(root: Path, repo: str, titles: list[str], in_pull_requests: bool) -> None:
    """The repo is sound, has every large file of every tree, and each publication once."""
    folder = root / "models" / f"{repo}.git"
    subprocess.run(["git", "fsck", "--full", "--strict"], cwd=folder, check=True, capture_output=True)
    git = pygit2.Repository(str(folder))
    heads = [name for name in git.references if name.startswith("refs/pr/" if in_pull_requests else "refs/heads/")]
    found: Counter[str] = Counter()
    seen: set[str] = set()
    for commit in {commit.id: commit for name in heads for commit in git.walk(git.references[name].peel().id)}.values():
        found[commit.message.partition("\n")[0]] += 1
        check_tree(root, folder, commit.tree, seen)
    assert found == Counter({"initial commit": 1, **dict.fromkeys(titles, 1)})


def check_tree(root: Path, folder: Path, tree: Any, seen: set[str]) -> None:
    for entry in tree:
        if str(entry.id) in seen:
            continue
        seen.add(str(entry.id))
        if isinstance(entry, pygit2.Tree):
            check_tree(root, folder, entry, seen)
        elif isinstance(entry, pygit2.Blob) and (pointer := Pointer.decode(entry.data)):
            place = Path(pointer.oid[:2], pointer.oid[2:4], pointer.oid)
            with (root / "objects" / place).open("rb") as file:
                assert hashlib.file_digest(file, "sha256").hexdigest() == pointer.oid
            assert (root / "objects" / place).samefile(folder / "lfs" / "objects" / place)


def test_a_few_kills(tmp_path: Path, environment_of: Callable[..., dict[str, str]]) -> None:
    check_kills(1, tmp_path, 0, environment_of)


@pytest.mark.soak
def test_sixty_kills(tmp_path: Path, environment_of: Callable[..., dict[str, str]]) -> None:
    check_kills(12, tmp_path, 1, environment_of)
    shutil.rmtree(tmp_path)
