"""huggingface_hub: create, upload, tag, download, change; run once with xet and once without."""

import sys
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError

repo, expect_xet = sys.argv[1], sys.argv[2] == "xet"
api = HfApi()
if expect_xet:
    from huggingface_hub.utils._runtime import is_xet_available

    assert is_xet_available()
assert api.whoami()["name"] == "mirror"

url = api.create_repo(repo, repo_type="dataset")
assert url.repo_id == repo and url.repo_type == "dataset"
api.create_repo(repo, repo_type="dataset", exist_ok=True)
try:
    api.create_repo(repo, repo_type="dataset")
    raise SystemExit("a repo was created twice")
except HfHubHTTPError as error:
    assert error.response.status_code == 409

# Floats make the client group bytes by four, the lines compress as they are, the digest does not compress.
folder = Path("upload")
(folder / "a folder").mkdir(parents=True)
floats = b"".join(i.to_bytes(3, "little") + b"\x3f" for i in range(1 << 20))
salt = repo.encode()  # other bytes for every repo: the Hub asks for what it holds already from nobody
contents = {
    "README.md": b"---\nlicense: mit\n---\n# Made up\n",
    "a folder/note é.txt": "ünïcode\n".encode(),
    "empty.txt": b"",
    "floats.bin": salt + floats * 3 + b"odd",  # 12 MB, in several chunks that repeat
    "lines.jsonl": b"".join(b'{"row": %d, "in": "%s"}\n' % (i, salt) for i in range(300_000)),  # by size a large file
    "tiny.parquet": b"PAR1 not really" + salt,  # by suffix a large file
    "unknown.dat": bytes(range(256)) + salt,  # by content a large file
}
assert len(contents["floats.bin"]) > 10 * 2**20 and len(contents["lines.jsonl"]) > 10 * 2**20
for name, data in contents.items():
    (folder / name).write_bytes(data)

first = api.upload_folder(repo_id=repo, repo_type="dataset", folder_path=folder, commit_message="all of it")
again = api.upload_folder(repo_id=repo, repo_type="dataset", folder_path=folder)
head = api.dataset_info(repo).sha
assert first.oid == again.oid == head, "the same bytes made a second commit"

api.create_tag(repo, tag="v0.1.0", tag_message="first", repo_type="dataset")
try:
    api.create_tag(repo, tag="v0.1.0", repo_type="dataset")
    raise SystemExit("a tag was created twice")
except HfHubHTTPError as error:
    assert error.response.status_code == 409
refs = api.list_repo_refs(repo, repo_type="dataset")
assert [(tag.name, tag.target_commit) for tag in refs.tags] == [("v0.1.0", head)]

second = api.create_commit(
    repo,
    [
        CommitOperationAdd("new/later.txt", b"later"),
        CommitOperationAdd("floats.bin", salt + floats * 2 + b"changed"),  # mostly chunks that the store has
        CommitOperationCopy("tiny.parquet", "copied.parquet"),
        CommitOperationDelete("a folder/"),
        CommitOperationDelete("empty.txt"),
    ],
    commit_message="second",
    commit_description="more words",
    repo_type="dataset",
    parent_commit=first.oid,
)
try:
    api.create_commit(
        repo, [CommitOperationAdd("x.txt", b"x")], commit_message="late", repo_type="dataset", parent_commit=first.oid
    )
    raise SystemExit("a commit on a stale parent was taken")
except HfHubHTTPError as error:
    assert error.response.status_code == 412
commits = api.list_repo_commits(repo, repo_type="dataset")
assert [commit.title for commit in commits] == ["second", "all of it", "initial commit"]
assert commits[0].commit_id == second.oid and commits[0].message == "more words"

at_tag = Path(snapshot_download(repo, repo_type="dataset", revision="v0.1.0"))
for name, data in contents.items():
    assert (at_tag / name).read_bytes() == data, name
now = Path(snapshot_download(repo, repo_type="dataset"))
assert (now / "floats.bin").read_bytes() == salt + floats * 2 + b"changed"
assert (now / "copied.parquet").read_bytes() == contents["tiny.parquet"]
assert not (now / "a folder").exists() and not (now / "empty.txt").exists()

info = api.dataset_info(repo, revision="v0.1.0", files_metadata=True)
sizes = {file.rfilename: (file.size, file.lfs is not None) for file in info.siblings}
for name, data in contents.items():
    assert sizes[name] == (len(data), name not in ("README.md", "a folder/note é.txt", "empty.txt")), name
assert info.card_data.license == "mit" and "license:mit" in info.tags
