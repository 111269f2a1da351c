"""Which names of repos, files and revisions are let in. Everything that becomes a path on disk passes here first."""

from __future__ import annotations

import re

import pygit2

from hf_mirror.hub.refusals import Refusal, bad_request

KINDS = ("models", "datasets", "spaces")
RESERVED = {"api", "xet", "lfs", *KINDS}  # first segments of our own URLs
MAX_PATH = 1024  # bytes; the file systems below allow 255 per name and 4096 in all

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}")
_SHA = re.compile(r"[0-9a-f]{40}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def kind_of(type_name: str | None) -> str:
    """`model`, `dataset`, `space` or nothing, as `create_repo` sends it, to the plural used in URLs and on disk."""
    kind = f"{type_name or 'model'}s"
    if kind not in KINDS:
        raise bad_request(f"Unknown repo type {type_name!r}; expected model, dataset or space")
    return kind


def check_repo_id(namespace: str, name: str) -> str:
    """`namespace/name`, or 400 when either could not be a plain folder name or would collide with a URL of ours."""
    for part in (namespace, name):
        refused = ".." in part or "--" in part or part.endswith((".git", ".lock", ".", "-"))
        if refused or not _NAME.fullmatch(part):
            raise bad_request(f"Invalid repo name {part!r}: use letters, digits, '-', '_' and single '.', up to 96")
    if namespace.lower() in RESERVED:
        raise bad_request(f"The namespace {namespace!r} is reserved")
    return f"{namespace}/{name}"


def check_path(path: str) -> str:
    """A relative file path inside a repo, unchanged, or 400.

    Refused: empty, absolute, `.`, `..`, `.git` in any case, NUL and other control characters, backslashes, what exceeds
    the length that file systems take, and folders that have the name of one of git's own files. git itself would refuse
    most of these.
    """
    parts = path.split("/")
    unsafe = any(part in ("", ".", "..") or part.lower() == ".git" or len(part.encode()) > 255 for part in parts)
    unsafe |= any(part.lower() in (".gitattributes", ".gitmodules") for part in parts[:-1])
    if unsafe or "\\" in path or _CONTROL.search(path) or len(path.encode()) > MAX_PATH:
        raise bad_request(f"Invalid path in repo: {path[:200]!r}")
    return path


def check_folder(path: str) -> str:
    """Like `check_path`, but a trailing slash and the empty path (the root) are fine."""
    path = path.strip("/")
    return check_path(path) if path else ""


def check_ref(prefix: str, name: str) -> str:
    """The full name of a new branch or tag (`refs/heads/x`), or 400 when git would not take it."""
    full = f"{prefix}{name}"
    odd = name.startswith(("-", "refs/")) or not is_plain_ref(full)
    if odd or is_sha(name) or not pygit2.reference_is_valid_name(full):
        raise bad_request(f"Invalid reference name: {name[:200]!r}")
    return full


def is_plain_ref(name: str) -> bool:
    """Whether a reference can be a file: the C library below ends a name at a NUL, and file systems have limits, within
    which `.lock` must fit, too."""
    short = len(name.encode()) <= MAX_PATH and all(len(part.encode()) <= 250 for part in name.split("/"))
    return short and name.isprintable()


def is_sha(revision: str) -> bool:
    """Whether a revision is a full commit id rather than a name."""
    return bool(_SHA.fullmatch(revision))


def check_sha256(text: object) -> str:
    """A SHA-256 in lower-case hex, or 400 (422 in the words of LFS)."""
    if isinstance(text, str) and re.fullmatch(r"[0-9a-f]{64}", text):
        return text
    raise Refusal(422, f"Invalid SHA-256: {str(text)[:100]!r}")
