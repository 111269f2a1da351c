"""`mirror lineage`: what a published repo was made from, down to the raw files, and whether the Hub agrees.

Every repo of the chain is looked up at the commit that its child names. Checked is that the commit is there, that its
files have the hashes that its provenance.json names and no other file is beside them, and that the version that it was
published as still points to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from hf_mirror.errors import MirrorError
from hf_mirror.publish.provenance import PROVENANCE, Published
from hf_mirror.publish.release import Remote

Node = dict[str, Any]

BASE = "base model"
# What each kind of repo is made from, and so names.
EXPECTED: dict[str, set[str]] = {
    "scenes": set(),
    "rationales": {"scenes"},
    "preferences": {"scenes", "rationales"},
    "bench": {"scenes"},
}


def trace(reference: str, endpoint: str | None = None) -> dict[str, Any]:
    """`{tree, problems: [text]}` of `<namespace>/<repo>[@<revision>]`.

    A node is `{repo, kind, revision, tag, code_version, problems, sources, generators, made_from: [{what, …}]}`;
    one that was shown before has `seen` instead of what it was made from, and a model that others published (a base)
    has `external`. A commit is visited once. Raises HubError where the first repo is not there.
    """
    tree = _node(Published.open(reference, endpoint), endpoint, {})
    return {"tree": tree, "problems": problems(tree)}


def problems(node: Node) -> list[str]:
    """What is wrong anywhere in a tree, each with its repo."""
    own = [f"{node['repo']}@{node['revision'][:12]}: {problem}" for problem in node["problems"]]
    return own + [line for parent in node.get("made_from", ()) for line in problems(parent)]


def _node(found: Published, endpoint: str | None, seen: dict[tuple[str, str], Node]) -> Node:
    about = found.provenance
    node: Node = {
        "repo": found.repo,
        "kind": about["kind"],
        "revision": found.revision,
        "tag": about["tag"],
        "code_version": about["code_version"],
        "problems": _problems(found),
        "sources": about["sources"],
        "generators": about["generators"],
    }
    seen[found.repo, found.revision] = node
    node["made_from"] = [_parent(step, node, endpoint, seen) for step in about["made_from"]]
    there = {step["what"] for step in about["made_from"]}
    node["problems"] += [
        f"{PROVENANCE} names no {what} that it was made from" for what in EXPECTED.get(about["kind"], set()) - there
    ]
    return node


def _parent(step: Mapping[str, str], child: Node, endpoint: str | None, seen: dict[tuple[str, str], Node]) -> Node:
    """What a step leads to. Commits are visited once, by whatever name a step calls them."""
    repo, revision = step["repo"], step["revision"]
    shown: Node = {"what": step["what"], "repo": repo, "revision": revision, "problems": []}
    try:
        found = Published.open(f"{repo}@{revision}", endpoint)
    except MirrorError as error:
        if step["what"] == BASE and _is_model(repo, revision, endpoint):  # one that others made tells nothing of itself
            return shown | {"external": True}
        return shown | {"problems": [str(error)]}
    if revision != found.revision:
        shown["problems"].append(f"{child['repo']} names it by {revision}, which may move")
    known = seen.get((found.repo, found.revision))
    if known is None:
        known = _node(found, endpoint, seen)
        return (
            {"what": step["what"]}
            | known
            | {"problems": [*shown["problems"], *known["problems"], *_odd(step, child, known)]}
        )
    return shown | {
        "revision": found.revision,
        "seen": True,
        "problems": [*shown["problems"], *_odd(step, child, known)],
    }


def _odd(step: Mapping[str, str], child: Node, parent: Node) -> list[str]:
    """Where a child and what it was made from disagree."""
    wrong = []
    if step["what"] in EXPECTED and step["what"] != parent["kind"]:
        wrong.append(f"{child['repo']} has it as {step['what']}, it holds {parent['kind']}")
    for name, source in child["sources"].items():
        other = parent["sources"].get(name)
        if other is not None and other != source:
            fields = ", ".join(key for key in source if source[key] != other.get(key))
            wrong.append(f"{child['repo']} was built from another {name} ({fields})")
    return wrong


def _is_model(repo: str, revision: str, endpoint: str | None) -> bool:
    with suppress(MirrorError):
        return Remote(endpoint, repo, "model").snapshot(revision).sha is not None
    return False


def _problems(found: Published) -> list[str]:
    wrong = []
    if found.provenance["repo"] != found.repo:
        wrong.append(f"{PROVENANCE} is of {found.provenance['repo']}")
    tag = found.provenance["tag"]
    tagged = found.remote.snapshot(tag).sha
    if tagged != found.revision:
        wrong.append(f"tag {tag} " + (f"points to {tagged[:12]}" if tagged else "is not there"))
    there, said = dict(found.there.files), found.provenance["files"]
    small = [name for name in said if there.get(name, ("", ""))[0] == "git"]
    here = {name: found.remote.hash_of(found.revision, name) for name in small}
    for name, sha256 in said.items():
        algorithm, is_now = there.pop(name, (None, None))
        if algorithm is None:
            wrong.append(f"{name} is not there")
        elif here.get(name, is_now) != sha256:
            wrong.append(f"{name} has other bytes than {PROVENANCE} names")
    wrong += [f"{name} is not named in {PROVENANCE}" for name in there if name != PROVENANCE]
    return wrong
