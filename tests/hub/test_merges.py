"""Merges that are cut off, and what is left of pull requests when their history goes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError

from hf_mirror.hub import EmbeddedHub
from hf_mirror.hub.accounts import Accounts

KILLED = Path(__file__).parent / "killing_server.py"


@pytest.fixture
def api(hub: EmbeddedHub) -> HfApi:
    return HfApi(endpoint=hub.url, token="hf_any")


@contextmanager
def to_be_killed(root: Path, *where: str) -> Iterator[HfApi]:
    server = subprocess.Popen(
        [sys.executable, KILLED, root, *where], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdin and server.stdout
    try:
        yield HfApi(endpoint=server.stdout.readline().strip(), token="hf_any")
    finally:
        server.kill()
        server.communicate()


def propose(api: HfApi, repo: str) -> None:
    api.create_repo(repo)
    api.upload_file(path_or_fileobj=b"theirs", path_in_repo="theirs.txt", repo_id=repo, create_pr=True)
    api.upload_file(path_or_fileobj=b"ours", path_in_repo="ours.txt", repo_id=repo)


@pytest.mark.parametrize(
    ("where", "merged", "squash"),
    [
        (("write_json", "1", "after"), False, False),
        (("write_ref", "1", "before"), False, True),
        (("write_ref", "1", "after"), True, False),
        (("write_ref", "1", "after"), True, True),
        (("write_json", "2", "after"), True, False),
    ],
)
def test_a_merge_that_is_killed_is_made_once(tmp_path: Path, where: tuple, merged: bool, squash: bool) -> None:
    """Faulty variant: the branch has moved, the pull request is still open, and is merged again."""
    root = tmp_path / "root"
    with to_be_killed(root, *where) as api:
        propose(api, "ns/x")
        (tmp_path / "armed").touch()
        with pytest.raises(httpx.HTTPError):
            api.merge_pull_request("ns/x", 1)
        (tmp_path / "armed").unlink()
    with EmbeddedHub(root) as hub:
        api = HfApi(endpoint=hub.url, token="hf_any")
        if squash:
            api.super_squash_history("ns/x")
        assert (api.get_discussion_details("ns/x", 1).status == "merged") == merged
        if merged:
            with pytest.raises(HfHubHTTPError, match="it is merged"):
                api.merge_pull_request("ns/x", 1)
        else:
            api.merge_pull_request("ns/x", 1)
        found = api.get_discussion_details("ns/x", 1)
        assert (found.status, [event.type for event in found.events].count("status-change")) == ("merged", 2)
        merges = [commit for commit in api.list_repo_commits("ns/x") if commit.title.endswith("(#1)")]
        assert len(merges) == (0 if squash and merged else 1)
        assert set(api.list_repo_files("ns/x")) == {".gitattributes", "ours.txt", "theirs.txt"}


@pytest.mark.parametrize("merge", [True, False])
def test_a_diff_outlives_the_history_that_it_was_merged_into(hub: EmbeddedHub, api: HfApi, merge: bool) -> None:
    repo = f"ns/squashed-{merge}".lower()
    propose(api, repo)
    if merge:
        api.merge_pull_request(repo, 1)
    api.super_squash_history(repo)
    subprocess.run(["git", "gc", "--quiet", "--prune=now"], cwd=hub.root / "models" / f"{repo}.git", check=True)
    found = api.get_discussion_details(repo, 1)
    assert "+theirs" in found.diff and "ours" not in found.diff and found.conflicting_files == []
    assert found.status == ("merged" if merge else "open")


def test_a_pull_request_begins_from_a_branch(api: HfApi) -> None:
    """As HfApi.create_commit says of the Hub: RevisionNotFoundError for a revision that is no branch."""
    propose(api, "ns/base")
    sha = api.model_info("ns/base").sha
    api.create_tag("ns/base", tag="v1")
    for base in (sha, "v1", "refs/pr/1", "refs/tags/v1", "none"):
        with pytest.raises(RevisionNotFoundError):
            api.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id="ns/base", create_pr=True, revision=base)
    assert [talk.num for talk in api.get_repo_discussions("ns/base")] == [1]
    api.create_branch("ns/base", branch="work")
    for number, base in enumerate(("work", "refs/heads/work"), 2):
        api.upload_file(
            path_or_fileobj=b"x", path_in_repo=f"{number}.txt", repo_id="ns/base", create_pr=True, revision=base
        )
        api.merge_pull_request("ns/base", number)
    assert {"2.txt", "3.txt"} <= set(api.list_repo_files("ns/base", revision="work"))


def test_only_writers_have_merges_tried(tmp_path: Path) -> None:
    tokens = {name: Accounts(tmp_path).add(name, role) for name, role in (("ann", "write"), ("bob", "read"))}
    with EmbeddedHub(tmp_path) as hub:
        propose(HfApi(endpoint=hub.url, token=tokens["ann"]), "ns/x")
        for token, found in ((tokens["ann"], []), (tokens["bob"], None), (False, None)):
            details = HfApi(endpoint=hub.url, token=token).get_discussion_details("ns/x", 1)
            assert details.conflicting_files == found and "+theirs" in details.diff
