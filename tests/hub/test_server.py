"""Starting, stopping, and what survives."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from hf_mirror.errors import ConfigError, HubError
from hf_mirror.hub import EmbeddedHub, serve


def test_a_restart_keeps_everything(tmp_path: Path) -> None:
    with EmbeddedHub(tmp_path) as hub:
        api = HfApi(endpoint=hub.url, token="any")
        api.create_repo("ns/kept", private=True)
        made = api.create_commit("ns/kept", [CommitOperationAdd("a.txt", b"a")], commit_message="one")
        api.create_tag("ns/kept", tag="v1")
        before, address = api.model_info("ns/kept"), _cas_url(hub.url)
        process = hub._process
        assert process is not None
        process.send_signal(signal.SIGKILL)  # not a clean end
        process.wait()
    with EmbeddedHub(tmp_path) as hub:
        api = HfApi(endpoint=hub.url, token="any")
        after = api.model_info("ns/kept", revision="v1")
        assert (after.sha, after.private, after.created_at) == (made.oid, True, before.created_at)
        assert httpx.get(f"{hub.url}/ns/kept/resolve/v1/a.txt").content == b"a"
        assert _cas_url(hub.url).partition("/xet/")[2] == address.partition("/xet/")[2]
        head = api.create_commit("ns/kept", [CommitOperationAdd("a.txt", b"b")], commit_message="two").oid
        assert api.model_info("ns/kept").sha == head


def _cas_url(url: str) -> str:
    return httpx.get(f"{url}/api/models/ns/kept/xet-write-token/main").headers["X-Xet-Cas-Url"]


def test_a_lock_left_by_a_killed_commit_does_not_block(tmp_path: Path) -> None:
    with EmbeddedHub(tmp_path) as hub:
        api = HfApi(endpoint=hub.url, token="any")
        api.create_repo("ns/x")
        (tmp_path / "models/ns/x.git/refs/heads/main.lock").write_text("half")
        assert api.create_commit("ns/x", [CommitOperationAdd("a", b"a")], commit_message="c").oid


@pytest.mark.parametrize("packed", [False, True])
def test_a_lock_left_by_a_killed_deletion_does_not_block(tmp_path: Path, packed: bool) -> None:
    with EmbeddedHub(tmp_path) as hub:
        api, folder = HfApi(endpoint=hub.url, token="any"), tmp_path / "models/ns/x.git"
        api.create_repo("ns/x")
        api.create_branch("ns/x", branch="work")
        if packed:
            subprocess.run(["git", "pack-refs", "--all"], cwd=folder, check=True)
        for lock in ("refs/heads/work.lock", "packed-refs.lock"):
            (folder / lock).write_text("half")
            os.utime(folder / lock, times=(0, 0))
        api.delete_branch("ns/x", branch="work")
        assert [branch.name for branch in api.list_repo_refs("ns/x").branches] == ["main"]


def test_it_answers_as_soon_as_it_is_there(tmp_path: Path) -> None:
    with EmbeddedHub(tmp_path) as hub:
        assert httpx.get(f"{hub.url}/api/whoami-v2").json()["name"] == "mirror"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", ""])
def test_only_loopback(tmp_path: Path, host: str) -> None:
    with pytest.raises(ConfigError, match="reachable from elsewhere"):
        serve(tmp_path, host=host)


def test_what_cannot_be_served_is_said_in_one_line(tmp_path: Path) -> None:
    with EmbeddedHub(tmp_path / "one") as hub:
        with pytest.raises(HubError, match="already being served"):
            EmbeddedHub(tmp_path / "one").__enter__()
        with pytest.raises(HubError, match="--port"):
            EmbeddedHub(tmp_path / "two", port=int(hub.url.rpartition(":")[2])).__enter__()
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="can be written"):
        serve(tmp_path / "file")


def test_the_server_ends_with_its_parent(tmp_path: Path) -> None:
    code = (
        "import os, sys; from hf_mirror.hub import EmbeddedHub\n"
        "with EmbeddedHub(sys.argv[1]) as hub: print(hub.url, flush=True); os.kill(os.getpid(), 9)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    parent = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=environment, capture_output=True, text=True
    )
    port = int(parent.stdout.strip().rpartition(":")[2])
    deadline = time.monotonic() + 10
    while _answers(port):
        assert time.monotonic() < deadline, "the server outlived its parent"
        time.sleep(0.05)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
