"""`mirror lineage`: what a published repo was made from, down to the raw files, and whether the Hub agrees.

Every repo of the chain is looked up at the commit that its child names. Checked is that the commit is there, that its
files have the hashes that its provenance.json names and no other file is beside them, and that the version that it was
published as still points to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_mirror.errors import DataError, HubError
from hf_mirror.files import sha256_file
from hf_mirror.publish.provenance import KINDS, PROVENANCE, Published
from hf_mirror.publish.release import Remote

Node = dict[str, Any]


def trace(reference: str, endpoint: str | None = None) -> dict[str, Any]:
    """`{tree, problems: [text]}` of `<namespace>/<repo>[@<revision>]`.

    A node is `{repo, kind, revision, tag, code_version, problems, sources, generators, made_from: [{what, …}]}`;
    one that was shown before has `seen` instead of what it was made from, and a model that others published (a base)
    has `external`. Raises HubError where the first repo is not there.
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
        "kind": found.remote.kind,
        "revision": found.revision,
        "tag": about["tag"],
        "code_version": about.get("code_version"),
        "problems": _problems(found),
        "sources": about["sources"],
        "generators": about.get("generators", []),
    }
    seen[found.repo, found.revision] = node
    node["made_from"] = [_parent(step, endpoint, seen) for step in about["made_from"]]
    return node


def _parent(step: Mapping[str, str], endpoint: str | None, seen: dict[tuple[str, str], Node]) -> Node:
    repo, revision = step["repo"], step["revision"]
    shown: Node = {"what": step["what"], "repo": repo, "revision": revision, "problems": []}
    if (repo, revision) in seen:
        return shown | {"seen": True}
    try:
        return {"what": step["what"]} | _node(Published.open(f"{repo}@{revision}", endpoint), endpoint, seen)
    except (HubError, DataError) as error:
        there = [kind for kind in KINDS if Remote(endpoint, repo, kind).snapshot(revision).sha is not None]
        if there == ["model"]:  # a base that others made tells nothing of its origin
            return shown | {"external": True}
        return shown | {"problems": [str(error)]}


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
    folder = found.remote.fetch(found.revision, small) if small else None
    for name, sha256 in said.items():
        algorithm, is_now = there.pop(name, (None, None))
        if algorithm is None:
            wrong.append(f"{name} is not there")
        elif (sha256_file(folder / name) if folder and algorithm == "git" else is_now) != sha256:
            wrong.append(f"{name} has other bytes than {PROVENANCE} names")
    wrong += [f"{name} is not named in {PROVENANCE}" for name in there if name != PROVENANCE]
    return wrong
