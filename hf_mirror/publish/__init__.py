"""A run folder becomes versioned Hub repos: one commit and one annotated tag per repo, never half a version.

Order: scenes, rationales, preferences, bench, models. Each card names the commit of what it was made from, so a repo
is staged after the ones before it are published. Before anything is written, every repo that already has the tag is
compared with what this run would publish: equal bytes are success, other bytes stop the whole publication.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_mirror.errors import ConfigError, HubError
from hf_mirror.files import read_json
from hf_mirror.progress import say
from hf_mirror.publish import provenance
from hf_mirror.publish.cards import Lineage, benchmark_card, check, dataset_card, licence_file
from hf_mirror.publish.evaluations import stage_baselines
from hf_mirror.publish.model_repos import PAIRS, TrainedModel, find_models, stage_model
from hf_mirror.publish.registration import write_registration
from hf_mirror.publish.release import Changes, Remote, difference
from hf_mirror.publish.staging import Run, Staged, stage_datasets

PARTS = ("datasets", "models")
UNKNOWN_COMMIT = "0" * 40  # stands for a commit that does not exist yet, when only comparing
VERSION = re.compile(r"v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?")
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,94}[A-Za-z0-9])?")

# What each dataset repo is made from, in words that its card shows.
MADE_FROM = {
    "scenes": {},
    "rationales": {"mirror-scenes": "scenes"},
    "preferences": {"mirror-scenes": "scenes", "mirror-rationales": "rationales"},
    "bench": {"mirror-scenes": "scenes"},
}
REPORTS = {"preferences": "preferences.json", "bench": "bench.json"}


@dataclass
class Publication:
    """The settings of one call, and the commits that its repos have reached so far (repo name → SHA)."""

    run: Run
    work: Path
    namespace: str
    tag: str
    endpoint: str | None
    private: bool = False
    gated: str | None = None
    create_pr: bool = False
    commits: dict[str, str] = field(default_factory=dict)

    def remote(self, name: str, kind: str) -> Remote:
        """The Hub's side of one repo."""
        return Remote(self.endpoint, f"{self.namespace}/{name}", kind)

    def step(self, name: str, what: str) -> dict[str, str]:
        """One line of lineage."""
        return {"what": what, "repo": f"{self.namespace}/{name}", "revision": self.commits[name]}


@dataclass(frozen=True)
class Repo:
    """One repo to publish: its name and kind, and the dataset or model it comes from."""

    name: str
    kind: str
    source: Staged | TrainedModel


def publish(
    directory: Path,
    namespace: str,
    tag: str,
    *,
    endpoint: str | None = None,
    private: bool = False,
    gated: str | None = None,
    create_pr: bool = False,
    dry_run: bool = False,
    seed: int = 0,
    only: Sequence[str] = PARTS,
    weights: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Publishes the run in `directory` as repos of `namespace` at version `tag` (vX.Y.Z).

    `only=("datasets",)` before training and the whole again afterwards is the usual way: the datasets are then found
    unchanged. `weights` per domain shape the `mixed` subset (None: all rows). `private` and `gated` (`auto` or
    `manual`) make the repos so. With `create_pr` each commit is a pull request, and no tag is made: publish again
    without it once they are merged. `dry_run` writes nothing anywhere.

    Returns `{endpoint, namespace, tag, dry_run, repos: [{repo, kind, sha, new_commit, new_tag, pull_request, added,
    changed, deleted, rows}], withheld: {model: reason}}`; in a dry run `sha` is null for what does not exist yet.
    Raises ConfigError for a bad tag, namespace or part; DataError for a run that lacks something; HubError where the
    Hub cannot be reached, refuses, or holds other bytes at this tag (then nothing was changed).
    """
    _check_arguments(namespace, tag, only)
    run = Run.open(directory)
    with tempfile.TemporaryDirectory(prefix="mirror-publish-") as work:
        address = endpoint or os.environ.get("HF_ENDPOINT")
        job = Publication(run, Path(work), namespace, tag, address, private, gated, create_pr)
        staged = stage_datasets(run, job.work, seed=seed, weights=weights)
        models = find_models(run) if "models" in only else []
        withheld = {model.name: reason for model in models if (reason := model.withheld())}
        repos = [Repo(part.name, "dataset", part) for part in staged]
        repos += [Repo(model.name, "model", model) for model in models if model.name not in withheld]
        plans = _compare(job, repos)
        ours = [repo for repo in repos if f"{repo.kind}s" in only]
        if not dry_run:
            _require_datasets(job, [repo for repo in repos if repo not in ours])
            for repo in ours:
                plans[repo.name] |= _release(job, repo)
                done = plans[repo.name]
                state = done["pull_request"] or ("new commit" if done["new_commit"] else "unchanged")
                say(f"  {done['repo']} {tag}: {state} {done['sha']}")
        return {
            "endpoint": job.remote("x", "dataset").endpoint,
            "namespace": namespace,
            "tag": tag,
            "dry_run": dry_run,
            "repos": [plans[repo.name] for repo in ours],
            "withheld": withheld,
        }


def _check_arguments(namespace: str, tag: str, only: Sequence[str]) -> None:
    if not VERSION.fullmatch(tag):
        raise ConfigError(f"tag {tag!r} is not a semantic version; expected vX.Y.Z, such as v0.1.0")
    if not NAME.fullmatch(namespace) or "--" in namespace or ".." in namespace:
        raise ConfigError(
            f"namespace {namespace!r} is not a Hub user or organisation name; letters, digits, - and . only"
        )
    unknown = [part for part in only if part not in PARTS]
    if unknown or not only:
        raise ConfigError(f"only names {unknown or 'nothing'}; expected one or both of {', '.join(PARTS)}")


def _compare(job: Publication, repos: list[Repo]) -> dict[str, dict[str, Any]]:
    """What publishing would do to each repo. HubError if any repo has the tag with other bytes. Changes nothing.

    A repo downstream of one that will get a new commit is compared against a commit that cannot exist: it can only be
    equal if all it was made from is published already.
    """
    plans = {}
    for repo in repos:
        remote = job.remote(repo.name, repo.kind)
        folder = _stage(job, repo)
        tagged = remote.snapshot(job.tag)
        if tagged.sha is not None and (changes := difference(folder, tagged)):
            raise HubError(
                f"{remote.repo} already has {job.tag} with other bytes ({_some(changes)}) on {remote.endpoint}; "
                "tags are never moved: publish under a new version; nothing was changed"
            )
        there = tagged if tagged.sha is not None else remote.snapshot(None)
        changes = difference(folder, there)
        job.commits[repo.name] = UNKNOWN_COMMIT if changes or there.sha is None else there.sha
        plans[repo.name] = {
            "repo": remote.repo,
            "kind": repo.kind,
            "sha": None if changes else there.sha,
            "new_commit": bool(changes),
            "new_tag": tagged.sha is None and not job.create_pr,
            "pull_request": None,
            "added": changes.added,
            "changed": changes.changed,
            "deleted": changes.deleted,
            "rows": repo.source.rows if isinstance(repo.source, Staged) else None,
        }
    return plans


def _require_datasets(job: Publication, others: list[Repo]) -> None:
    """With models alone, what they come from must stand at this tag already."""
    for repo in others:
        if repo.kind == "dataset" and job.commits[repo.name] == UNKNOWN_COMMIT:
            raise HubError(f"{job.namespace}/{repo.name} is not published at {job.tag}; publish the datasets first")


def _release(job: Publication, repo: Repo) -> dict[str, Any]:
    """Brings one repo to this version: nothing, a tag, a commit and a tag, or a pull request."""
    remote = job.remote(repo.name, repo.kind)
    folder = _stage(job, repo)
    tagged = remote.snapshot(job.tag)
    if tagged.sha is not None:
        if job.private or job.gated:
            remote.create(job.private, job.gated)
        if difference(folder, tagged):
            raise HubError(f"{remote.repo} got {job.tag} with other bytes while this ran; publish under a new version")
        job.commits[repo.name] = tagged.sha
        return {"sha": tagged.sha, "new_commit": False, "new_tag": False}
    remote.create(job.private, job.gated)
    head = remote.snapshot(None)
    changes = difference(folder, head)
    sha, message, request = head.sha, f"{repo.name} {job.tag}", None
    if job.create_pr and changes:
        sha, request = remote.propose(folder, changes, head.sha, message)
    elif changes or sha is None:
        sha = remote.commit(folder, changes, head.sha, message)
    if not job.create_pr:
        remote.tag(job.tag, sha, f"{remote.repo} {job.tag}")
    job.commits[repo.name] = sha
    return {"sha": sha, "new_commit": bool(changes), "new_tag": not job.create_pr, "pull_request": request}


def _stage(job: Publication, repo: Repo) -> Path:
    """The repo's folder as of now: its card and provenance name the commits known so far."""
    if isinstance(repo.source, TrainedModel):
        lineage = _model_lineage(job, repo.source)
        folder = stage_model(repo.source, job.work / "models", namespace=job.namespace, tag=job.tag, lineage=lineage)
        sources, generators = repo.source.domains, repo.source.generators()
    else:
        lineage = [job.step(name, what) for name, what in MADE_FROM[repo.source.kind].items() if name in job.commits]
        folder = repo.source.folder
        sources = list(dict.fromkeys(repo.source.domains.values()))
        generators = job.run.generators() if repo.source.kind in ("rationales", "preferences") else []
        if repo.source.kind == "bench":
            stage_baselines(job.run, folder, bench=f"{job.namespace}/{repo.name}")
        _write_dataset_card(job, repo.source, lineage, sources)
        if repo.source.kind == "bench":
            write_registration(repo.source)
    check((folder / "README.md").read_text(encoding="utf-8"), repo.kind)
    staged = repo.source if isinstance(repo.source, Staged) else None
    provenance.write(
        folder, job.run, repo=f"{job.namespace}/{repo.name}", tag=job.tag, staged=staged,
        sources=sources, generators=generators, lineage=lineage,
    )  # fmt: skip
    return folder


def _write_dataset_card(job: Publication, staged: Staged, lineage: Lineage, sources: list[str]) -> None:
    reports = {}
    if staged.kind in REPORTS:
        reports[staged.kind] = read_json(job.run.directory / REPORTS[staged.kind])
    write = benchmark_card if staged.kind == "bench" else dataset_card
    card = write(staged, job.run, namespace=job.namespace, tag=job.tag, lineage=lineage, reports=reports)
    (staged.folder / "README.md").write_text(card, encoding="utf-8")
    (staged.folder / "LICENSE.md").write_text(licence_file(job.run, sources), encoding="utf-8")


def _model_lineage(job: Publication, model: TrainedModel) -> Lineage:
    """The exact data (as trained on), the base, and the benchmark and sources at this version."""
    data = model.train["dataset"]
    lineage = []
    if data.get("id"):
        lineage.append({"what": PAIRS, "repo": data["id"], "revision": data["revision"]})
    elif "mirror-preferences" in job.commits:
        lineage.append(job.step("mirror-preferences", f"{PAIRS} (trained from the same rows in the run folder)"))
    if model.parent and model.parent.name in job.commits:
        lineage.append(job.step(model.parent.name, "base model"))
    evaluated = (job.run.directory / "evaluations" / model.name).is_dir()
    return lineage + ([job.step("mirror-bench", "benchmark")] if evaluated and "mirror-bench" in job.commits else [])


def _some(changes: Changes) -> str:
    names = [*changes.changed, *changes.added, *changes.deleted]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
