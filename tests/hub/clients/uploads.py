"""huggingface_hub: files of all sizes up and down, whole folders, resumed downloads, trees in pages, HfFileSystem."""

import hashlib
import os
import sys
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, HfFileSystem, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

repo = sys.argv[1]
api = HfApi()
api.create_repo(repo, repo_type="dataset")


def made_up(size: int, seed: str) -> bytes:
    """Bytes that do not compress, other ones for every seed and repo."""
    return hashlib.shake_128(f"{repo} {seed}".encode()).digest(size)


# Sizes: empty, one byte, around the limit of the sample and of git, and one of several parts where xet is off.
sizes = {"0": 0, "1": 1, "511": 511, "513": 513, "limit": 10 << 20, "over": (10 << 20) + 1, "parts": (64 << 20) + 12345}
files = {f"{kind}/{name}.{kind}": made_up(size, name) for kind in ("bin", "txt") for name, size in sizes.items()}
files = {name: data if name.startswith("bin") else data.hex().encode()[: len(data)] for name, data in files.items()}
del files["txt/parts.txt"]
adds = [CommitOperationAdd(name, data) for name, data in files.items()]
api.preupload_lfs_files(repo, adds, repo_type="dataset")
api.create_commit(repo, adds, commit_message="sizes", repo_type="dataset")
infos = {info.path: info for info in api.get_paths_info(repo, [*files, "none"], repo_type="dataset", expand=True)}
assert infos.keys() == files.keys()
for name, data in files.items():
    info = infos[name]
    assert info.size == len(data) and info.last_commit.title == "sizes", name
    assert (info.lfs is not None) == (name.startswith("bin") or "over" in name) or not data, name
    assert info.lfs is None or info.lfs.sha256 == hashlib.sha256(data).hexdigest()
    assert Path(api.hf_hub_download(repo, name, repo_type="dataset")).read_bytes() == data, name

# A download that broke off goes on where it was.
large = "bin/over.bin"
target = Path("local")
metadata = api.get_hf_file_metadata(url=f"{os.environ['HF_ENDPOINT']}/datasets/{repo}/resolve/main/{large}")
assert (metadata.size, metadata.etag) == (len(files[large]), infos[large].lfs.sha256)
cache = Path(os.environ["HF_HOME"]) / "hub" / f"datasets--{repo.replace('/', '--')}"
(cache / "blobs" / metadata.etag).rename(cache / "blobs" / f"{metadata.etag}.incomplete")
with (cache / "blobs" / f"{metadata.etag}.incomplete").open("r+b") as file:
    file.truncate(5_000_000)
assert Path(api.hf_hub_download(repo, large, repo_type="dataset")).read_bytes() == files[large]

# Folders: a thousand entries and more, patterns, the same again, deletions.
many = Path("many")
(many / "deep" / "er").mkdir(parents=True)
for number in range(1050):
    (many / "deep" / f"{number:04d}.txt").write_text(f"{number} {repo}")
for number in range(3):
    (many / "deep" / "er" / f"{number}.bin").write_bytes(made_up(1000, str(number)))
(many / "skipped.log").write_text("x")
(many / ".gitignore").write_text("*.tmp\n")
(many / "ignored.tmp").write_text("x")
more = {"repo_id": repo, "repo_type": "dataset", "folder_path": many, "ignore_patterns": "*.log"}
head = api.upload_folder(**more).oid
assert api.upload_folder(**more).oid == head
listed = list(api.list_repo_tree(repo, "deep", recursive=True, repo_type="dataset"))
assert len(listed) == 1050 + 3 + 1
assert len(list(api.list_repo_tree(repo, "deep", expand=True, repo_type="dataset"))) == 1051
if hasattr(api, "upload_large_folder"):  # the older line's
    large_folder = f"{repo}-large-folder"
    api.upload_large_folder(large_folder, many / "deep" / "er", repo_type="dataset")
    assert api.list_repo_files(large_folder, repo_type="dataset") == [".gitattributes", "0.bin", "1.bin", "2.bin"]
(many / "deep" / "0000.txt").unlink()
api.upload_folder(**more, delete_patterns="deep/*.txt", commit_message="fewer")
assert not api.file_exists(repo, "deep/0000.txt", repo_type="dataset")
api.delete_files(repo, ["deep/0*.txt"], repo_type="dataset")
api.delete_folder("deep/er", repo, repo_type="dataset")
left = {name for name in api.list_repo_files(repo, repo_type="dataset") if not name.startswith(("bin/", "txt/"))}
assert left == {".gitattributes", ".gitignore", *(f"deep/{number:04d}.txt" for number in range(1000, 1050))}

folder = snapshot_download(repo, repo_type="dataset", allow_patterns=["bin/*", "deep/102*"], local_dir=target)
assert (target / large).read_bytes() == files[large] and len(list((target / "deep").iterdir())) == 10
whole = Path(snapshot_download(repo, repo_type="dataset"))
assert {str(path.relative_to(whole)) for path in whole.rglob("*") if path.is_file()} == set(
    api.list_repo_files(repo, repo_type="dataset")
)
check = api.verify_repo_checksums(repo, repo_type="dataset")
assert not check.mismatches and not check.missing_paths and check.checked_count > 50
try:
    api.hf_hub_download(repo, "none.bin", repo_type="dataset", local_files_only=True)
    raise SystemExit("a file was made up")
except LocalEntryNotFoundError:
    pass

# The file system.
fs, base = HfFileSystem(), f"datasets/{repo}"
assert fs.info(f"{base}/{large}")["size"] == len(files[large]) and fs.isdir(f"{base}/bin")
assert {Path(name).name for name in fs.ls(f"{base}/txt", detail=False)} == {
    Path(name).name for name in files if name.startswith("txt/")
}
assert len(fs.glob(f"{base}/deep/**/*.txt")) == 50
with fs.open(f"{base}/{large}", "rb", block_size=2**20) as file:
    file.seek(3_000_000)
    assert file.read(2_000_000) == files[large][3_000_000:5_000_000]
with fs.open(f"{base}/written.txt", "w") as file:
    file.write("by the file system")
assert fs.cat_file(f"{base}/written.txt") == b"by the file system"
fs.cp_file(f"{base}/written.txt", f"{base}/copied.txt")
fs.rm(f"{base}/written.txt")
assert fs.exists(f"{base}/copied.txt") and not fs.exists(f"{base}/written.txt")
assert fs.read_text(f"{base}@{head}/deep/0000.txt") == f"0 {repo}"
