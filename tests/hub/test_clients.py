"""The real, unmodified clients against a running Hub: both lines of huggingface_hub, with xet and without."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import pytest

from hf_mirror.hub import EmbeddedHub
from hf_mirror.hub.accounts import Accounts

TRANSPORTS = ("xet", "lfs")


def named(what: str, line: Path, transport: str = "xet") -> str:
    """A repo, or an account, of this line and transport alone."""
    return f"mirror/{what}-{line.parent.name.strip('.')}-{transport}"


def off(transport: str) -> dict[str, str]:
    return {"HF_HUB_DISABLE_XET": str(int(transport == "lfs"))}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_files_round_trip(client: Callable[..., str], hub: EmbeddedHub, line: Path, transport: str) -> None:
    client("files_round_trip", named("files", line, transport), transport, programs=line, **off(transport))
    if transport == "xet":  # all that came as xorbs is large files by now: no byte is stored twice
        kept = list((hub.root / "xet").iterdir())
        assert len(kept) > 1 and all(path.suffix == ".json" for path in kept)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_uploads_of_all_sizes(client: Callable[..., str], hub: EmbeddedHub, line: Path, transport: str) -> None:
    parts = hub.root / "multipart"
    before = parts.stat().st_mtime_ns
    client("uploads", named("uploads", line, transport), programs=line, **off(transport))
    assert (parts.stat().st_mtime_ns > before) == (transport == "lfs")  # the largest came in parts
    assert not list(parts.iterdir())


def test_repos(client: Callable[..., str], line: Path) -> None:
    client("repos", named("team", line).partition("/")[2], programs=line)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_discussions_and_pull_requests(client: Callable[..., str], line: Path, transport: str) -> None:
    client("talk", named("talk", line, transport), programs=line, **off(transport))


def test_refusals(client: Callable[..., str], line: Path, tmp_path: Path) -> None:
    root = tmp_path / "guarded"
    root.mkdir()
    tokens = [Accounts(root).add(name, role) for name, role in (("ann", "write"), ("bob", "read"))]
    with EmbeddedHub(root) as guarded:
        client("refusals", "ann", *tokens, programs=line, HF_ENDPOINT=guarded.url, HF_TOKEN="")


def test_the_command_line(environment: dict[str, str], line: Path, tmp_path: Path) -> None:
    """`hf`, as people type it."""
    repo = named("cli", line)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "b.bin").write_bytes(bytes(1000) + repo.encode())
    (tmp_path / "a.txt").write_text(repo)

    def hf(command: str) -> str:
        words = [line / "hf", *command.replace("REPO", f"{repo} --type dataset").split()]
        done = subprocess.run(
            words, env=environment, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, f"hf {command} failed:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    assert "mirror" in hf("auth whoami")
    hf("repos create REPO --private")
    hf(f"upload {repo} a.txt --repo-type dataset --commit-message one")
    hf(f"upload {repo} folder data --repo-type dataset --create-pr")
    hf(f"discussions merge {repo} 1 --type dataset --yes")
    hf(f"download {repo} --repo-type dataset --local-dir got")
    assert (tmp_path / "got" / "data" / "b.bin").read_bytes() == (tmp_path / "folder" / "b.bin").read_bytes()
    assert (tmp_path / "got" / "a.txt").read_text() == repo
    hf(f"repos tag create {repo} v1 --type dataset -m first")
    assert "v1" in hf("repos tag list REPO")
    hf("repos settings REPO --public --gated auto")
    hf(f"repos delete-files {repo} a.txt --type dataset")
    assert json.loads(hf(f"datasets info {repo} --json"))["gated"] == "auto"
    hf(f"cp hf://datasets/{repo}/data/b.bin again.bin")
    hf(f"repos delete {repo} --type dataset --yes")


def test_datasets_round_trip(client: Callable[..., str], line: Path) -> None:
    client("datasets_round_trip", named("rows", line), programs=line)


def test_transformers_round_trip(client: Callable[..., str], line: Path) -> None:
    client("transformers_round_trip", named("tiny-llama", line), programs=line)


def test_lighteval_reads_a_dataset(client: Callable[..., str]) -> None:
    client("lighteval_reads", "mirror/questions")


def test_the_folder_is_plain_git(client: Callable[..., str], hub: EmbeddedHub, tmp_path: Path) -> None:
    folder = hub.root / "datasets" / "mirror" / "plain.git"
    client("files_round_trip", "mirror/plain", "lfs", HF_HUB_DISABLE_XET="1")
    said = _git("-C", str(folder), "fsck", "--full", "--strict")
    assert "error" not in said and "missing" not in said
    assert _git("-C", str(folder), "cat-file", "-t", "v0.1.0").strip() == "tag"
    _git("clone", str(folder), str(tmp_path / "clone"), GIT_LFS_SKIP_SMUDGE="1")
    assert (tmp_path / "clone" / "new" / "later.txt").read_bytes() == b"later"
    pointer = (tmp_path / "clone" / "floats.bin").read_text()
    oid = pointer.split("sha256:")[1][:64]
    linked = folder / "lfs" / "objects" / oid[:2] / oid[2:4] / oid
    assert linked.samefile(hub.root / "objects" / oid[:2] / oid[2:4] / oid)
    _git("-C", str(folder), "gc", "--quiet")  # packs objects and refs: the Hub reads those as well
    refs = json.loads(_get(f"{hub.url}/api/datasets/mirror/plain/refs"))
    assert [tag["name"] for tag in refs["tags"]] == ["v0.1.0"]


@pytest.mark.skipif(shutil.which("git-lfs") is None, reason="git-lfs is not installed")
def test_git_lfs_finds_every_object(client: Callable[..., str], hub: EmbeddedHub) -> None:
    client("files_round_trip", "mirror/lfs", "lfs", HF_HUB_DISABLE_XET="1")
    assert "Git LFS fsck OK" in _git("-C", str(hub.root / "datasets" / "mirror" / "lfs.git"), "lfs", "fsck")


def _git(*arguments: str, **extra: str) -> str:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", **extra}
    done = subprocess.run(["git", *arguments], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def _get(url: str) -> bytes:
    with urlopen(url) as answer:
        return answer.read()
