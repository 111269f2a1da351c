"""What the Hub says about a repo: the JSON of repo info, listings, trees and leaderboards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hf_mirror.hub.cards import card_data, eval_results
from hf_mirror.hub.gitread import Entry, Snapshot, commit_date
from hf_mirror.hub.repos import Repo

# Card fields whose values become tags, and what is written before them.
_TAG_FIELDS = {
    "tags": "",
    "language": "",
    "license": "license:",
    "datasets": "dataset:",
    "task_categories": "task_categories:",
    "size_categories": "size_categories:",
    "base_model": "base_model:",
}
_ALWAYS = {"_id", "id", "modelId"}


def tags_of(card: dict[str, Any]) -> list[str]:
    """The tags that a repo can be filtered by, from its card."""
    found: list[str] = [str(card[key]) for key in ("library_name", "pipeline_tag") if card.get(key)]
    for key, prefix in _TAG_FIELDS.items():
        values = card.get(key) or []
        found += [f"{prefix}{value}" for value in (values if isinstance(values, list) else [values])]
    return list(dict.fromkeys(found))


def repo_info(
    repo: Repo, snapshot: Snapshot, readable: bool, blobs: bool = False, expand: list[str] | None = None
) -> dict[str, Any]:
    """All fields that `model_info`, `dataset_info` and `space_info` read, or only those in `expand`. Results are shown
    where the files of the repo are `readable` for who asks."""
    settings, card = repo.settings(), card_data(snapshot.read("README.md") or b"")
    info: dict[str, Any] = {
        "_id": snapshot.sha[:24],
        "id": repo.repo_id,
        "author": repo.namespace,
        "sha": snapshot.sha,
        "lastModified": commit_date(snapshot.commit),
        "createdAt": settings["created_at"],
        "private": settings["private"],
        "gated": settings["gated"],
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": tags_of(card),
        "cardData": card or None,
    }
    if repo.kind == "models":
        info |= {
            "modelId": repo.repo_id,
            "pipeline_tag": card.get("pipeline_tag"),
            "library_name": card.get("library_name"),
        }
    if repo.kind == "spaces":
        info["sdk"] = card.get("sdk") or settings.get("sdk")
    if not expand or "siblings" in expand:
        info["siblings"] = [sibling(entry, blobs) for entry in snapshot.files()]
    if repo.kind == "models" and (not expand or "evalResults" in expand):
        info["evalResults"] = [
            {"filename": name, "verified": False, "data": row}
            for name, row in (eval_results(snapshot) if readable else ())
        ]
    return info if not expand else {key: info[key] for key in info if key in _ALWAYS or key in expand}


def sibling(entry: Entry, blobs: bool) -> dict[str, Any]:
    """One file in a repo's info; with `blobs`, also its size and hashes."""
    answer: dict[str, Any] = {"rfilename": entry.path}
    if blobs:
        answer |= {"size": entry.size, "blobId": entry.oid} | _lfs(entry, "sha256")
    return answer


def tree_entry(entry: Entry, last: Any = None) -> dict[str, Any]:
    """One row of a tree or of paths-info; `last` is the commit that changed it last, where that was asked for."""
    answer: dict[str, Any] = {
        "type": "directory" if entry.is_folder else "file",
        "oid": entry.oid,
        "size": entry.size,
        "path": entry.path,
    } | _lfs(entry, "oid")
    if last is not None:
        title = last.message.partition("\n")[0]
        answer["lastCommit"] = {"id": str(last.id), "title": title, "date": commit_date(last)}
    return answer


def _lfs(entry: Entry, hash_key: str) -> dict[str, Any]:
    if entry.lfs is None:
        return {}
    return {"lfs": {hash_key: entry.lfs.oid, "size": entry.lfs.size, "pointerSize": len(entry.lfs.encode())}}


def best_result(
    repo: Repo, snapshot: Snapshot, is_asked: Callable[[str], bool], base_model_only: bool
) -> dict[str, Any] | None:
    """A model's row of a leaderboard: its best value on the dataset that is asked for; None where it has none.

    With `base_model_only` (the Hub's default), models whose card names a `base_model` are left out.
    """
    if base_model_only and card_data(snapshot.read("README.md") or b"").get("base_model"):
        return None
    numbers = [(name, row) for name, row in eval_results(snapshot) if type(row["value"]) in (int, float)]
    found = [(name, row) for name, row in numbers if is_asked(row["dataset"]["id"])]
    if not found:
        return None
    name, row = max(found, key=lambda pair: pair[1]["value"])
    return {
        "modelId": repo.repo_id,
        "value": row["value"],
        "filename": name,
        "verified": False,
        "source": row.get("source"),
        "author": user(repo.namespace),
    }


def user(name: str) -> dict[str, Any]:
    """An account, as far as this Hub knows any."""
    return {"_id": name, "type": "user", "name": name, "fullname": name, "avatarUrl": ""}
