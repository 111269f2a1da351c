"""huggingface_hub: discussions, and pull requests with all kinds of operations."""

import sys

from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError

repo = sys.argv[1]
api = HfApi()
api.create_repo(repo)
files = {"a.txt": b"a", "b.txt": b"b", "c/d.txt": b"d", "large.bin": bytes(range(256)) * 100 + repo.encode()}
base = api.create_commit(repo, [CommitOperationAdd(n, d) for n, d in files.items()], commit_message="files").oid

talk = api.create_discussion(repo, "A question", description="Why?")
assert (talk.num, talk.is_pull_request, talk.status, talk.author) == (1, False, "open", "mirror")
assert api.comment_discussion(repo, 1, "Because.").content == "Because."
assert api.rename_discussion(repo, 1, "An answer").new_title == "An answer"
assert api.change_discussion_status(repo, 1, "closed", comment="done").new_status == "closed"
details = api.get_discussion_details(repo, 1)
assert (details.title, details.status) == ("An answer", "closed")
assert [event.type for event in details.events] == ["comment", "comment", "title-change", "status-change", "comment"]

operations = [
    CommitOperationAdd("a.txt", b"changed"),
    CommitOperationAdd("more.bin", bytes(300) + repo.encode()),
    CommitOperationCopy("large.bin", "copy.bin"),
    CommitOperationDelete("b.txt"),
    CommitOperationDelete("c/"),
]
made = api.create_commit(repo, operations, commit_message="Changes", commit_description="all kinds", create_pr=True)
assert (made.pr_num, made.pr_revision) == (2, "refs/pr/2") and made.pr_url.endswith("/discussions/2")
assert api.model_info(repo).sha == base and api.model_info(repo, revision="refs/pr/2").sha == made.oid
api.upload_file(path_or_fileobj=b"later", path_in_repo="later.txt", repo_id=repo, revision="refs/pr/2")
found = api.get_discussion_details(repo, 2)
assert found.is_pull_request and found.target_branch == "refs/heads/main" and found.conflicting_files == []
assert "+changed" in found.diff and found.git_reference == "refs/pr/2" and found.status == "open"
assert [event.type for event in found.events].count("commit") == 2
numbers = [talk.num for talk in api.get_repo_discussions(repo)]
assert numbers == [2, 1]
assert [talk.num for talk in api.get_repo_discussions(repo, discussion_type="pull_request")] == [2]
assert [talk.num for talk in api.get_repo_discussions(repo, discussion_status="closed")] == [1]
assert [talk.num for talk in api.get_repo_discussions(repo, author="nobody")] == []
refs = api.list_repo_refs(repo, include_pull_requests=True)
assert [ref.ref for ref in refs.pull_requests] == ["refs/pr/2"]
api.merge_pull_request(repo, 2, comment="thanks")
assert set(api.list_repo_files(repo)) == {".gitattributes", "a.txt", "more.bin", "large.bin", "copy.bin", "later.txt"}
merged = api.get_discussion_details(repo, 2)
assert merged.status == "merged" and merged.merge_commit_oid == api.model_info(repo).sha

# Two that touch the same line: the second is in conflict, and main stays as it is.
for text in (b"one", b"two"):
    api.create_commit(repo, [CommitOperationAdd("a.txt", text)], commit_message=text.decode(), create_pr=True)
api.merge_pull_request(repo, 3)
head = api.model_info(repo).sha
assert api.get_discussion_details(repo, 4).conflicting_files == ["a.txt"]
try:
    api.merge_pull_request(repo, 4)
    raise SystemExit("a conflict was merged")
except HfHubHTTPError as error:
    assert error.response.status_code == 409
assert api.model_info(repo).sha == head
draft = api.create_pull_request(repo, "To come")
assert (draft.num, draft.status) == (5, "draft")
folder = api.upload_file(
    path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=repo, create_pr=True, commit_message="By one file"
)
assert folder.pr_num == 6
