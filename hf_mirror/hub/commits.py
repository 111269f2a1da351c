"""Writing to a repo: commits, tags and branches, one writer at a time, each either whole or not there."""

from __future__ import annotations

import base64
import binascii
import fnmatch
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pygit2
from pygit2.enums import FileMode, ObjectType

from hf_mirror.hub import disk
from hf_mirror.hub.gitread import blob_data, find_commit, has_ref
from hf_mirror.hub.lfs import LargeFiles, Pointer
from hf_mirror.hub.names import check_folder, check_path, check_ref, check_sha256
from hf_mirror.hub.refusals import Refusal, bad_request, no_entry, no_revision

# fmt: off
LFS_SUFFIXES = [
    "7z", "arrow", "bin", "bz2", "ckpt", "ftz", "gguf", "gz", "h5", "joblib", "jpeg", "jpg", "lz4", "mlmodel",
    "model", "msgpack", "npy", "npz", "onnx", "ot", "parquet", "pb", "pdf", "pickle", "pkl", "png", "pt",
    "pth", "rar", "safetensors", "tar", "tflite", "tgz", "wasm", "webp", "xz", "zip", "zst",
]
# fmt: on
ATTRIBUTES = ".gitattributes"
_TRACK = "filter=lfs diff=lfs merge=lfs -text"


def author() -> pygit2.Signature:
    """Who commits: there is one user as yet."""
    return pygit2.Signature("mirror", "mirror@localhost", int(time.time()), 0)


def first_commit(folder: Path) -> None:
    """A new bare repo at `folder` whose `main` holds the list of suffixes that go to LFS."""
    git = pygit2.init_repository(str(folder), bare=True, initial_head="main")
    lines = "".join(f"*.{suffix} {_TRACK}\n" for suffix in LFS_SUFFIXES)
    index = pygit2.Index()
    index.add(pygit2.IndexEntry(ATTRIBUTES, git.create_blob(lines.encode()), FileMode.BLOB))
    git.create_commit("refs/heads/main", author(), author(), "initial commit", index.write_tree(git), [])


def lfs_patterns(attributes: bytes | None) -> list[str]:
    """The patterns of a `.gitattributes` file that send files to LFS."""
    lines = (attributes or b"").decode("utf-8", "replace").splitlines()
    return [fields[0] for fields in map(str.split, lines) if "filter=lfs" in fields[1:]]


def is_tracked(path: str, patterns: Iterable[str]) -> bool:
    """Whether a pattern covers `path`. One without a slash looks at the file name alone, as in git."""
    name = path.rpartition("/")[2]
    plain = (pattern.replace("[[:space:]]", " ") for pattern in patterns)
    return any(fnmatch.fnmatchcase(path if "/" in p else name, p.lstrip("/")) for p in plain)


@dataclass
class Change:
    """The next tree of a branch, built from the operations of one request in the order they came."""

    folder: Path
    git: pygit2.Repository
    index: pygit2.Index
    large_files: LargeFiles
    large_paths: list[str] = field(default_factory=list)

    def apply(self, key: str, value: dict[str, Any]) -> None:
        """One line of the request: `file`, `lfsFile`, `deletedFile` or `deletedFolder`; anything else is a 400."""
        if key == "file":
            self._put(check_path(value["path"]), self.git.create_blob(_content(value)))
        elif key == "lfsFile":
            self._put_large(check_path(value["path"]), check_sha256(value.get("oid")))
        elif key == "deletedFile":
            path = check_path(value["path"])
            if path not in self.index:
                raise no_entry(path, "the branch's head")
            self.index.remove(path)
        elif key == "deletedFolder":
            self._remove_folder(check_folder(value["path"]))
        else:
            raise bad_request(f"Unknown operation {key!r}; expected file, lfsFile, deletedFile or deletedFolder")

    def _put(self, path: str, oid: Any) -> None:
        self.index.add(pygit2.IndexEntry(path, oid, FileMode.BLOB))

    def _put_large(self, path: str, oid: str) -> None:
        size = self.large_files.size(oid)
        if size is None:
            raise bad_request(
                f"The large file {path!r} with SHA-256 {oid} was not uploaded; upload it before the commit"
            )
        self.large_files.link_into(self.folder, oid)
        self._put(path, self.git.create_blob(Pointer(oid, size).encode()))
        self.large_paths.append(path)

    def write_tree(self) -> Any:
        """The finished tree. `.gitattributes` gets a line for each large file that no pattern of it covers."""
        known = blob_data(self.git, self.index[ATTRIBUTES].id) if ATTRIBUTES in self.index else b""
        patterns = lfs_patterns(known)
        large = (path for path in sorted(set(self.large_paths)) if path in self.index)
        lines = [f"{_pattern(path)} {_TRACK}\n" for path in large if not is_tracked(path, patterns)]
        if lines:
            gap = b"" if not known or known.endswith(b"\n") else b"\n"
            self._put(ATTRIBUTES, self.git.create_blob(known + gap + "".join(lines).encode()))
        return self.index.write_tree(self.git)

    def _remove_folder(self, path: str) -> None:
        inside = [entry.path for entry in self.index if not path or entry.path.startswith(f"{path}/")]
        if not inside:
            raise no_entry(path, "the branch's head")
        for name in inside:
            self.index.remove(name)


def _pattern(path: str) -> str:
    """`path` as a pattern that matches it alone; spaces become a class, since the lines are split at spaces."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in path).replace(" ", "[[:space:]]")


def _content(value: dict[str, Any]) -> bytes:
    content, encoding = value.get("content", ""), value.get("encoding", "utf-8")
    try:
        return base64.b64decode(content, validate=True) if encoding == "base64" else content.encode("utf-8")
    except (binascii.Error, ValueError, TypeError, AttributeError):
        raise bad_request(f"The content of {value['path']!r} is not {encoding}") from None


def commit(folder: Path, branch: str, large_files: LargeFiles, lines: Iterable[tuple[str, dict[str, Any]]]) -> str:
    """Applies the lines of one commit request to a branch and returns the id of its head.

    412 when `parentCommit` is given and is not the head; the head as it is when nothing would change.
    """
    with disk.locked(folder / "hub.lock"):
        git = pygit2.Repository(str(folder))
        name = branch if branch.startswith("refs/") else f"refs/heads/{branch}"
        if name.startswith("refs/tags/") or not has_ref(git, name):
            raise no_revision(branch)
        head = git.references[name].peel(pygit2.Commit)
        change, message = Change(folder, git, pygit2.Index(), large_files), "Update"
        change.index.read_tree(head.tree)
        for key, value in lines:
            if key == "header":
                message = _check_header(value, str(head.id))
            else:
                change.apply(key, value)
        tree = change.write_tree()
        if tree == head.tree.id:
            return str(head.id)
        made = str(git.create_commit(None, author(), author(), message, tree, [head.id]))
        disk.write_ref(folder, name, made)
        return made


def _check_header(header: dict[str, Any], head: str) -> str:
    parent = header.get("parentCommit")
    if parent is not None and parent != head:
        raise Refusal(412, f"A commit has happened since: the head is {head}, parentCommit is {parent}")
    summary, description = str(header.get("summary") or "Update"), str(header.get("description") or "")
    return f"{summary}\n\n{description}".strip()


def create_tag(folder: Path, revision: str, tag: str, message: str) -> None:
    """An annotated tag on the commit that `revision` names; 409 when the tag exists."""
    name = check_ref("refs/tags/", tag)
    with disk.locked(folder / "hub.lock"):
        git = pygit2.Repository(str(folder))
        target = find_commit(git, revision)
        _new_ref(git, name)
        lines = f"object {target.id}\ntype commit\ntag {tag}\ntagger {_stamp(author())}\n\n{message or tag}\n"
        disk.write_ref(folder, name, str(git.write(ObjectType.TAG, lines.encode())))


def _new_ref(git: pygit2.Repository, name: str) -> None:
    """409 when the name is taken, or is a folder of other names or the other way round (`a` and `a/b`), as in git."""
    for taken in git.references:
        if taken == name or taken.startswith(f"{name}/") or name.startswith(f"{taken}/"):
            raise Refusal(409, f"Cannot create {name}: {taken} already exists")


def _stamp(who: pygit2.Signature) -> str:
    return f"{who.name} <{who.email}> {who.time} +0000"


def create_branch(folder: Path, branch: str, start: str) -> None:
    """A branch at the commit that `start` names; 409 when the branch exists."""
    name = check_ref("refs/heads/", branch)
    with disk.locked(folder / "hub.lock"):
        git = pygit2.Repository(str(folder))
        target = find_commit(git, start)
        _new_ref(git, name)
        disk.write_ref(folder, name, str(target.id))


def delete_ref(folder: Path, prefix: str, name: str) -> None:
    """Deletes a tag or a branch; 404 when there is none. `main` stays: every repo has one."""
    if prefix == "refs/heads/" and name == "main":
        raise bad_request("The branch main cannot be deleted")
    with disk.locked(folder / "hub.lock"):
        git = pygit2.Repository(str(folder))
        if not has_ref(git, f"{prefix}{name}"):
            raise no_revision(name)
        disk.delete_ref(git, f"{prefix}{name}")


def squash(folder: Path, branch: str, message: str) -> None:
    """Replaces a branch's history by one commit with the same files."""
    with disk.locked(folder / "hub.lock"):
        git = pygit2.Repository(str(folder))
        name = f"refs/heads/{branch}"
        if not has_ref(git, name):
            raise no_revision(branch)
        tree = git.references[name].peel(pygit2.Commit).tree.id
        only = git.create_commit(None, author(), author(), message or f"Super-squash {branch}", tree, [])
        disk.write_ref(folder, name, str(only))
