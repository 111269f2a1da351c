"""The real, unmodified clients against a running Hub."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hf_mirror.hub import EmbeddedHub


@pytest.mark.parametrize("transport", ["xet", "lfs"])
def test_files_round_trip(client: Callable[..., str], hub: EmbeddedHub, transport: str) -> None:
    client("files_round_trip", f"mirror/files-{transport}", transport, HF_HUB_DISABLE_XET=str(int(transport == "lfs")))
    if transport == "xet":  # all that came as xorbs is large files by now: no byte is stored twice
        kept = list((hub.root / "xet").iterdir())
        assert len(kept) > 1 and all(path.suffix == ".json" for path in kept)


def test_datasets_round_trip(client: Callable[..., str]) -> None:
    client("datasets_round_trip", "mirror/rows")


def test_transformers_round_trip(client: Callable[..., str]) -> None:
    client("transformers_round_trip", "mirror/tiny-llama")


def test_the_folder_is_plain_git(client: Callable[..., str], hub: EmbeddedHub, tmp_path: Path) -> None:
    """Runs on what the tests above uploaded; alone, it uploads for itself."""
    folder = hub.root / "datasets" / "mirror" / "files-lfs.git"
    if not folder.exists():
        client("files_round_trip", "mirror/files-lfs", "lfs", HF_HUB_DISABLE_XET="1")
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
    refs = json.loads(_get(f"{hub.url}/api/datasets/mirror/files-lfs/refs"))
    assert [tag["name"] for tag in refs["tags"]] == ["v0.1.0"]


@pytest.mark.skipif(shutil.which("git-lfs") is None, reason="git-lfs is not installed")
def test_git_lfs_finds_every_object(client: Callable[..., str], hub: EmbeddedHub) -> None:
    folder = hub.root / "datasets" / "mirror" / "files-lfs.git"
    if not folder.exists():
        client("files_round_trip", "mirror/files-lfs", "lfs", HF_HUB_DISABLE_XET="1")
    assert "Git LFS fsck OK" in _git("-C", str(folder), "lfs", "fsck")


def _git(*arguments: str, **extra: str) -> str:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", **extra}
    done = subprocess.run(["git", *arguments], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def _get(url: str) -> bytes:
    from urllib.request import urlopen

    with urlopen(url) as answer:
        return answer.read()
