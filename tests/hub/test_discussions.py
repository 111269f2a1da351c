"""Discussions and pull requests, with the real client."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.community import DiscussionComment, DiscussionCommit, DiscussionStatusChange, DiscussionTitleChange
from huggingface_hub.errors import HfHubHTTPError

from hf_mirror.hub import EmbeddedHub

NUMBERS = count()
LARGE = bytes(range(256)) * 2000


@pytest.fixture
def api(hub: EmbeddedHub) -> HfApi:
    return HfApi(endpoint=hub.url, token="hf_any")


@pytest.fixture
def repo(api: HfApi) -> Iterator[str]:
    name = f"ns/talk-{next(NUMBERS)}"
    api.create_repo(name, repo_type="dataset")
    put(api, name, "a.txt", b"one\n")
    yield name


def put(api: HfApi, repo: str, path: str, content: bytes, **more: object) -> object:
    return api.upload_file(path_or_fileobj=content, path_in_repo=path, repo_id=repo, repo_type="dataset", **more)


def test_a_talk_is_kept(api: HfApi, repo: str) -> None:
    made = api.create_discussion(repo, "A question", description="What is it?", repo_type="dataset")
    assert (made.num, made.status, made.is_pull_request, made.author) == (1, "open", False, "mirror")
    assert api.comment_discussion(repo, 1, "An answer.", repo_type="dataset").content == "An answer."
    assert api.rename_discussion(repo, 1, "Another question", repo_type="dataset").new_title == "Another question"
    closed = api.change_discussion_status(repo, 1, "closed", comment="Thanks.", repo_type="dataset")
    assert closed.new_status == "closed"
    found = api.get_discussion_details(repo, 1, repo_type="dataset")
    assert (found.title, found.status) == ("Another question", "closed")
    kinds = [type(event) for event in found.events]
    assert kinds == [
        DiscussionComment, DiscussionComment, DiscussionTitleChange, DiscussionStatusChange, DiscussionComment
    ]  # fmt: skip
    assert [e.content for e in found.events if isinstance(e, DiscussionComment)] == [
        "What is it?", "An answer.", "Thanks."
    ]  # fmt: skip


def test_a_commit_may_be_a_pull_request(api: HfApi, repo: str, tmp_path: Path) -> None:
    before = api.dataset_info(repo).sha
    made = put(api, repo, "large.bin", LARGE, create_pr=True, commit_message="Add it", commit_description="Please.")
    assert made.pr_revision == "refs/pr/1" and made.pr_url.endswith(f"/datasets/{repo}/discussions/1")
    assert api.dataset_info(repo).sha == before, "the branch stays as it was"
    put(api, repo, "b.txt", b"two\n", revision="refs/pr/1", commit_message="And this")
    found = api.get_discussion_details(repo, 1, repo_type="dataset")
    assert (found.title, found.status, found.target_branch) == ("Add it", "open", "refs/heads/main")
    assert [e.summary for e in found.events if isinstance(e, DiscussionCommit)] == ["Add it", "And this"]
    assert "+two" in found.diff and found.conflicting_files == []
    refs = api.list_repo_refs(repo, repo_type="dataset", include_pull_requests=True)
    assert [ref.ref for ref in refs.pull_requests] == ["refs/pr/1"]
    put(api, repo, "c.txt", b"meanwhile\n")
    api.merge_pull_request(repo, 1, comment="Merged.", repo_type="dataset")
    merged = api.get_discussion_details(repo, 1, repo_type="dataset")
    assert merged.status == "merged" and merged.merge_commit_oid == api.dataset_info(repo).sha
    assert "+two" in merged.diff and "meanwhile" not in merged.diff
    assert set(api.list_repo_files(repo, repo_type="dataset")) == {
        ".gitattributes", "a.txt", "b.txt", "c.txt", "large.bin"
    }  # fmt: skip
    path = api.hf_hub_download(repo, "large.bin", repo_type="dataset", cache_dir=tmp_path)
    assert Path(path).read_bytes() == LARGE
    for again in (lambda: api.merge_pull_request(repo, 1, repo_type="dataset"),
                  lambda: put(api, repo, "d.txt", b"late", revision="refs/pr/1"),
                  lambda: api.change_discussion_status(repo, 1, "closed", repo_type="dataset")):  # fmt: skip
        with pytest.raises(HfHubHTTPError, match="Bad request"):
            again()


def test_conflicts_are_named_and_nothing_is_merged(api: HfApi, repo: str) -> None:
    put(api, repo, "a.txt", b"theirs\n", create_pr=True)
    put(api, repo, "a.txt", b"ours\n")
    head = api.dataset_info(repo).sha
    assert api.get_discussion_details(repo, 1, repo_type="dataset").conflicting_files == ["a.txt"]
    with pytest.raises(HfHubHTTPError, match=r"409|in conflict in a\.txt"):
        api.merge_pull_request(repo, 1, repo_type="dataset")
    assert api.dataset_info(repo).sha == head
    assert api.get_discussion_details(repo, 1, repo_type="dataset").status == "open"


def test_a_pull_request_whose_commit_is_refused_is_none(api: HfApi, repo: str) -> None:
    with pytest.raises(HfHubHTTPError):
        api.create_commit(
            repo, [CommitOperationAdd("a.txt", b"x")], commit_message="Late", repo_type="dataset", create_pr=True,
            parent_commit="0" * 40,
        )  # fmt: skip
    assert list(api.get_repo_discussions(repo, repo_type="dataset")) == []
    assert api.list_repo_refs(repo, repo_type="dataset", include_pull_requests=True).pull_requests == []


def test_lists_choose_and_go_on(api: HfApi, repo: str) -> None:
    for number in range(55):
        api.create_discussion(repo, f"Talk {number}", repo_type="dataset")
    draft = api.create_pull_request(repo, "A draft", repo_type="dataset")
    assert draft.status == "draft"
    api.change_discussion_status(repo, 3, "closed", repo_type="dataset")

    def found(**chosen: str) -> list[int]:
        return [talk.num for talk in api.get_repo_discussions(repo, repo_type="dataset", **chosen)]

    assert found() == list(range(56, 0, -1))
    assert found(discussion_type="pull_request") == [56]
    assert found(discussion_status="closed") == [3]
    assert 3 not in found(discussion_status="open") and 56 in found(discussion_status="open")
    assert found(author="somebody") == []
    for wrong in (lambda: api.get_discussion_details(repo, 99, repo_type="dataset"),
                  lambda: api.comment_discussion(repo, 1, " ", repo_type="dataset"),
                  lambda: api.create_discussion(repo, " ", repo_type="dataset")):  # fmt: skip
        with pytest.raises(HfHubHTTPError):
            wrong()
