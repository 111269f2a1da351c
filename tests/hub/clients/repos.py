"""huggingface_hub: repos as such, their settings, history and refs, listings in pages, leaderboards."""

import sys

from huggingface_hub import CommitOperationAdd, EvalResultEntry, HfApi, eval_result_entries_to_yaml
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

team = sys.argv[1]
api = HfApi()


def refused(status, call, *arguments, **more):
    """The call is answered with this status."""
    try:
        call(*arguments, **more)
    except HfHubHTTPError as error:
        assert error.response.status_code == status, error
        return error
    raise SystemExit(f"{call.__name__} was not refused")


# Repos: all three kinds, with names of their own; made, found, moved, deleted.
assert api.whoami()["type"] == "user"
for kind, more in (("model", {}), ("dataset", {"private": True}), ("space", {"space_sdk": "static"})):
    repo = f"{team}/one"
    assert api.create_repo(repo, repo_type=kind, **more).repo_type == kind
    refused(409, api.create_repo, repo, repo_type=kind, **more)
    api.create_repo(repo, repo_type=kind, exist_ok=True, **more)
    assert api.repo_exists(repo, repo_type=kind) and not api.repo_exists(f"{team}/none", repo_type=kind)
    api.auth_check(repo, repo_type=kind)
    info = api.repo_info(repo, repo_type=kind)
    assert info.id == repo and info.author == team and info.private == (kind == "dataset")
    assert info.created_at <= info.last_modified and [file.rfilename for file in info.siblings] == [".gitattributes"]
    api.update_repo_settings(repo, repo_type=kind, gated="auto", visibility="public")
    changed = api.repo_info(repo, repo_type=kind)
    assert (changed.gated, changed.private) == ("auto", False)
    api.move_repo(repo, f"{team}/moved", repo_type=kind)
    assert api.repo_info(repo, repo_type=kind).id == f"{team}/moved"
    api.delete_repo(f"{team}/moved", repo_type=kind)
    assert isinstance(refused(404, api.delete_repo, f"{team}/moved", repo_type=kind), RepositoryNotFoundError)
    api.delete_repo(f"{team}/moved", repo_type=kind, missing_ok=True)
    assert not api.repo_exists(repo, repo_type=kind)
assert api.create_repo("without-a-namespace", exist_ok=True).repo_id == "mirror/without-a-namespace"

# History: commits, branches, tags, squashed.
repo = f"{team}/history"
first = api.create_repo(repo) and api.repo_info(repo).sha


def put(number, message, **more):
    """Two files in one commit."""
    adds = [CommitOperationAdd("a.txt", f"{number}".encode()), CommitOperationAdd(f"{number}.txt", b"x")]
    return api.create_commit(repo, adds, commit_message=message, commit_description="why", **more)


made = [put(number, f"number {number}") for number in range(3)][-1]
commits = api.list_repo_commits(repo)
assert [commit.title for commit in commits] == ["number 2", "number 1", "number 0", "initial commit"]
assert commits[0].commit_id == made.oid and commits[-1].commit_id == first and commits[0].message == "why"
assert len(api.list_repo_commits(repo, revision=commits[2].commit_id)) == 2
assert put(2, "the same again").oid == made.oid
refused(412, put, 3, "stale", parent_commit=first)
assert isinstance(refused(404, api.delete_file, "none.txt", repo), EntryNotFoundError)

api.create_branch(repo, branch="work/one", revision=commits[2].commit_id)
refused(409, api.create_branch, repo, branch="work/one")
api.create_branch(repo, branch="work/one", exist_ok=True)
api.upload_file(path_or_fileobj=b"w", path_in_repo="w.txt", repo_id=repo, revision="work/one")
assert api.file_exists(repo, "w.txt", revision="work/one") and not api.file_exists(repo, "w.txt")
assert not api.file_exists(repo, "w.txt", revision="none") and not api.file_exists(f"{team}/none", "w.txt")
assert api.revision_exists(repo, "work/one") and not api.revision_exists(repo, "none")
api.create_tag(repo, tag="v1", tag_message="one\ntwo", revision="work/one")
refused(409, api.create_tag, repo, tag="v1")
assert isinstance(refused(404, api.create_tag, repo, tag="v2", revision="none"), RevisionNotFoundError)
refs = api.list_repo_refs(repo, include_pull_requests=True)
assert [branch.name for branch in refs.branches] == ["main", "work/one"] and refs.pull_requests == []
assert [(tag.name, tag.ref, tag.target_commit) for tag in refs.tags] == [
    ("v1", "refs/tags/v1", api.repo_info(repo, revision="work/one").sha)
]
assert api.resolve_revision(repo, revision="v1").resolved == refs.tags[0].target_commit
api.delete_branch(repo, branch="work/one")
refused(404, api.delete_branch, repo, branch="work/one")
assert api.file_exists(repo, "w.txt", revision="v1")
api.delete_tag(repo, tag="v1")
refused(404, api.delete_tag, repo, tag="v1")
api.super_squash_history(repo, commit_message="all of it")
assert [commit.title for commit in api.list_repo_commits(repo)] == ["all of it"]
assert api.hf_hub_download(repo, "2.txt") and len(api.list_repo_files(repo)) == 5

# Listings: by author, words, tags; in pages; short, full and expanded.
names = [f"{team}/listed-{number:02d}" for number in range(12)]
for number, name in enumerate(names):
    card = f"---\ntags: [x, {'even' if number % 2 == 0 else 'odd'}]\nlicense: mit\nlanguage: [de]\n---\n# {number}\n"
    for kind in ("model", "dataset"):
        api.create_repo(name, repo_type=kind)
        api.upload_file(path_or_fileobj=card.encode(), path_in_repo="README.md", repo_id=name, repo_type=kind)
for listing, kind in ((api.list_models, "model"), (api.list_datasets, "dataset")):
    assert {found.id for found in listing(author=team, search="LISTED")} == set(names)
    assert {found.id for found in listing(author=team, filter=["even", "license:mit"])} == set(names[::2])
    assert len(list(listing(author=team, search="listed", limit=5))) == 5
    full = next(iter(listing(author=team, search="listed-07", full=True)))
    assert {file.rfilename for file in full.siblings} == {".gitattributes", "README.md"}
    assert "license:mit" in full.tags and full.sha == api.repo_info(names[7], repo_type=kind).sha
    some = next(iter(listing(author=team, search="listed-07", expand=["lastModified", "private"])))
    assert some.last_modified and some.private is False and some.sha is None
    one = api.repo_info(names[7], repo_type=kind, expand=["cardData", "tags"])
    assert one.card_data.license == "mit" and one.sha is None and "odd" in one.tags
    files = api.repo_info(names[7], repo_type=kind, files_metadata=True).siblings
    assert all(file.size and file.blob_id and file.lfs is None for file in files)
try:
    api.upload_file(path_or_fileobj=b"---\nlicense: [\n---\n", path_in_repo="README.md", repo_id=names[0])
    raise SystemExit("a card that does not parse was taken")
except ValueError as error:
    assert "metadata is not YAML" in str(error), error

# Leaderboards.
for name, value in ((names[0], 0.2), (names[1], 0.7)):
    rows = eval_result_entries_to_yaml([EvalResultEntry(dataset_id=names[2], task_id="t", value=value)])
    text = f"- {rows[0]}".encode()
    api.upload_file(path_or_fileobj=text, path_in_repo=".eval_results/r.yaml", repo_id=name)
board = api.get_dataset_leaderboard(names[2])
assert [(row.rank, row.model_id, row.value) for row in board] == [(1, names[1], 0.7), (2, names[0], 0.2)]
assert api.model_info(names[1]).eval_results[0].value == 0.7
refused(404, api.get_dataset_leaderboard, names[3])
