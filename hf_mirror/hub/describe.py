"""What the Hub says about a repo: the JSON of repo info, listings, trees and leaderboards."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import yaml

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


def front_matter(text: str) -> str | None:
    """The YAML between the two `---` lines that open a card, or None when there is none."""
    head, _, rest = text.lstrip("\ufeff").partition("\n")
    if head.rstrip() != "---":
        return None
    block, found, _ = f"\n{rest}".partition("\n---")
    return block if found else None


@lru_cache(maxsize=256)
def card_data(readme: bytes) -> dict[str, Any]:
    """The metadata of a card; empty when there is none or it does not parse. Dates become text, as in JSON."""
    block = front_matter(readme.decode("utf-8", "replace"))
    try:
        found = yaml.load(block or "", Loader=_PlainLoader)
    except yaml.YAMLError:
        return {}
    return found if isinstance(found, dict) else {}


class _PlainLoader(yaml.SafeLoader):
    """SafeLoader that leaves dates as text, since JSON has none."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, regexp) for tag, regexp in rules if tag != "tag:yaml.org,2002:timestamp"]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def tags_of(card: dict[str, Any]) -> list[str]:
    """The tags that a repo can be filtered by, from its card."""
    found: list[str] = [str(card[key]) for key in ("library_name", "pipeline_tag") if card.get(key)]
    for key, prefix in _TAG_FIELDS.items():
        values = card.get(key) or []
        found += [f"{prefix}{value}" for value in (values if isinstance(values, list) else [values])]
    return list(dict.fromkeys(found))


def repo_info(repo: Repo, snapshot: Snapshot, blobs: bool = False, expand: list[str] | None = None) -> dict[str, Any]:
    """All fields that `model_info`, `dataset_info` and `space_info` read, or only those in `expand`."""
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
            {"filename": name, "verified": False, "data": row} for name, row in eval_results(snapshot)
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


def eval_results(snapshot: Snapshot) -> list[tuple[str, dict[str, Any]]]:
    """The rows of `.eval_results/*.yaml`, each with its file; those without dataset, task or value are left out."""
    rows: list[tuple[str, dict[str, Any]]] = []
    names = [entry.path for entry in snapshot.files() if entry.path.startswith(".eval_results/")]
    for name in names:
        if not name.endswith((".yaml", ".yml")):
            continue
        try:
            found = yaml.load(snapshot.read(name) or b"", Loader=_PlainLoader)
        except yaml.YAMLError:
            continue
        rows += [(name, row) for row in (found if isinstance(found, list) else []) if _is_result(row)]
    return rows


def _is_result(row: Any) -> bool:
    dataset = row.get("dataset") if isinstance(row, dict) else None
    return isinstance(dataset, dict) and "id" in dataset and "task_id" in dataset and "value" in row


def leaderboard(models: list[tuple[Repo, Snapshot]], dataset_id: str, base_model_only: bool) -> list[dict[str, Any]]:
    """Models ranked by their best value on a benchmark dataset, highest first; equal values by name.

    With `base_model_only` (the Hub's default), models whose card names a `base_model` are left out.
    """
    best: dict[str, dict[str, Any]] = {}
    for repo, snapshot in models:
        if base_model_only and card_data(snapshot.read("README.md") or b"").get("base_model"):
            continue
        for name, row in eval_results(snapshot):
            value = row["value"]
            if row["dataset"]["id"] != dataset_id or isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if repo.repo_id not in best or value > best[repo.repo_id]["value"]:
                best[repo.repo_id] = {
                    "modelId": repo.repo_id,
                    "value": value,
                    "filename": name,
                    "verified": False,
                    "source": row.get("source"),
                    "author": user(repo.namespace),
                }
    rows = sorted(best.values(), key=lambda row: (-row["value"], row["modelId"]))
    return [{"rank": rank, **row} for rank, row in enumerate(rows, 1)]


def user(name: str) -> dict[str, Any]:
    """An account, as far as this Hub knows any."""
    return {"_id": name, "type": "user", "name": name, "fullname": name, "avatarUrl": ""}
