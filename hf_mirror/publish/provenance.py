"""What a published repo says of its origin: provenance.json, as it is written, and as it stands on a Hub at one commit.

Whoever may write to a repo may write anything into it. So every field that is used is checked here, names that become
paths above all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_mirror import __version__
from hf_mirror.errors import ConfigError, DataError, HubError
from hf_mirror.files import read_json, sha256_file, write_json
from hf_mirror.publish.licences import terms
from hf_mirror.publish.release import Remote, Snapshot
from hf_mirror.publish.staging import MIXED, Run, Staged

PROVENANCE = "provenance.json"
KINDS = ("dataset", "model")
REFERENCE = re.compile(r"([\w.-]+/[\w.-]+?)(?:@([^@\s]+))?")
MOST = 10_000  # entries of any list or map

# Patterns of what is used as text: all of it is shown to people or made into paths.
NAME, SPLIT, HASH = r"[A-Za-z0-9_-]{1,64}", "train|validation|test|headline", "[0-9a-f]{64}"
LINE, PATH = r"[^\x00-\x1f\x7f]{1,1000}", r"(?!/)(?!.*(?:^|/)\.\.?(?:/|$))[^\x00-\x1f\x7f\\]{1,500}"


def write(
    folder: Path,
    run: Run,
    *,
    repo: str,
    tag: str,
    staged: Staged | None,
    sources: Sequence[str],
    generators: Sequence[Mapping[str, str]],
    lineage: Sequence[Mapping[str, str]],
) -> None:
    """Writes it beside all other files of a repo's folder, which are staged rows, or (None) a model. Nothing in it
    depends on the clock or on this machine."""
    (folder / PROVENANCE).unlink(missing_ok=True)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    write_json(
        folder / PROVENANCE,
        {
            "repo": repo,
            "tag": tag,
            **(_made_with(run, staged) if staged else {"kind": "model"}),
            "code_version": __version__,
            "sources": {name: _source(run, name) for name in sources},
            "generators": [{**line, "licence": terms(line["model"]).licence} for line in generators],
            "made_from": list(lineage),
            "rows": staged.rows if staged else {},
            "files": {path.relative_to(folder).as_posix(): sha256_file(path) for path in files},
        },
    )


def _made_with(run: Run, staged: Staged) -> dict[str, Any]:
    """What its rows depend on besides its sources: what a rehydration needs."""
    made: dict[str, Any] = {"kind": staged.kind}
    if staged.kind == "bench":
        made["bench"] = {"seed": read_json(run.directory / "bench.json")["seed"], "subsets": staged.domains}
    if MIXED in staged.rows:
        pool = [name for name in staged.pool if name in staged.rows]
        made["mixed"] = {"domains": pool, "weights": staged.weights, "seed": staged.seed}
    return made


def _source(run: Run, name: str) -> dict[str, Any]:
    """A source as a rebuild needs it: release, raw file hashes, settings and code version. No times, no counts."""
    report = run.reports[name]
    source = report["source"]
    missing = [key for key in ("seed", "settings", "code_version", "template_sha256") if key not in report]
    if missing:
        raise DataError(f"{run.directory / name / 'report.json'} lacks {', '.join(missing)}; run `mirror build` again")
    return {
        "release": source["release"],
        "licence": source["licence"],
        "tier": "closed" if run.closed(name) else "open",
        "raw_files": source["files"],
        "settings": report["settings"],
        "seed": report["seed"],
        "code_version": report["code_version"],
        "template_sha256": report["template_sha256"],
    }


@dataclass(frozen=True)
class Published:
    """A repo that `mirror publish` made, at one commit; `there` is what the Hub holds."""

    remote: Remote
    there: Snapshot
    provenance: Mapping[str, Any]

    @staticmethod
    def open(reference: str, endpoint: str | None = None, kinds: Sequence[str] = KINDS) -> Published:
        """Finds `<namespace>/<repo>[@<revision>]` as one of `kinds`. HubError where it is not there, or not ours;
        DataError where its provenance.json is not as this version writes it."""
        match = REFERENCE.fullmatch(reference)
        if match is None:
            raise ConfigError(f"{reference!r} is not a Hub repo; expected NAMESPACE/REPO@REVISION")
        repo, revision = match[1], match[2]
        for kind in kinds:
            remote = Remote(endpoint, repo, kind)
            there = remote.snapshot(revision)
            if there.sha is not None:
                return Published(remote, there, _provenance(remote, there))
        raise HubError(f"{' or '.join(kinds)} {reference} is not on {remote.endpoint}; check name, revision and token")

    @property
    def revision(self) -> str:
        """The commit."""
        return str(self.there.sha)

    @property
    def repo(self) -> str:
        """Its name with its namespace."""
        return self.remote.repo

    def fetch(self, names: Sequence[str]) -> Path:
        """These of its files in a folder. DataError where one is not there, or not what provenance.json says."""
        said = self.provenance["files"]
        if unnamed := [name for name in names if name not in said or name not in self.there.files]:
            raise DataError(f"{self.repo}@{self.revision}: {unnamed[0]} is missing, there or in its {PROVENANCE}")
        folder = self.remote.fetch(self.revision, list(names))
        for name in names:
            if not (folder / name).is_file() or sha256_file(folder / name) != said[name]:
                raise DataError(f"{self.repo}@{self.revision}: {name} is not the file that its {PROVENANCE} names")
        return folder


def _provenance(remote: Remote, there: Snapshot) -> dict[str, Any]:
    at = f"{remote.repo}@{there.sha}"
    if PROVENANCE not in there.files:
        raise HubError(f"{at} has no {PROVENANCE}; it was not made by `mirror publish`")
    if there.files[PROVENANCE][0] != "git":
        raise DataError(f"{PROVENANCE} of {at} is a large file; expected a small one")
    try:
        found = read_json(remote.fetch(str(there.sha), [PROVENANCE]) / PROVENANCE)
        _check(found)
    except (OddError, RecursionError) as error:
        raise DataError(f"{PROVENANCE} of {at} is not as `mirror publish` writes it: {error}") from None
    return dict(found)


class OddError(Exception):
    """A field that is missing or not as it should be."""


def _check(about: Any) -> None:
    _text(about, "repo", LINE)
    _text(about, "tag", LINE)
    _text(about, "kind", NAME)
    _text(about, "code_version", r"[\w.+-]{1,40}")
    for _, name, value in _each(about, "files", dict):
        _match(name, PATH, "files")
        _match(value, HASH, name)
    for _, name, counts in _each(about, "rows", dict):
        _match(name, NAME, "rows")
        for _, split, count in _each({name: counts}, name, dict):
            _match(split, SPLIT, f"rows of {name}")
            if type(count) is not int or count < 1:
                raise OddError(f"rows of {name} are {count!r}")
    for _, _, step in _each(about, "made_from", list):
        for key in ("what", "repo", "revision"):
            _text(step, key, LINE)
    for _, _, line in _each(about, "generators", list):
        for key in ("domain", "role", "model", "revision", "licence"):
            _text(line, key, LINE)
    for _, name, source in _each(about, "sources", dict):
        _match(name, NAME, "sources")
        for key in ("release", "licence", "code_version", "template_sha256"):
            _text(source, key, LINE)
        _text(source, "tier", "open|closed")
        if not isinstance(source.get("settings"), dict):
            raise OddError(f"settings of {name}")
        for _, _, file in _each(source, "raw_files", list):
            _text(file, "name", PATH)
            _text(file, "sha256", HASH)
            if type(file.get("bytes")) is not int:
                raise OddError(f"bytes of {file['name']}")
    if "mixed" in about:
        mixed = about["mixed"]
        domains = [name for _, _, name in _each(mixed, "domains", list)]
        for name in domains:
            if name not in about["sources"]:
                raise OddError(f"mixed has {name!r}")
        weights = mixed.get("weights")
        fits = weights is None or (isinstance(weights, dict) and set(weights) >= set(domains))
        if not fits or type(mixed.get("seed")) is not int or "mixed" not in about["rows"]:
            raise OddError("mixed")
    if about["kind"] == "bench":
        if type((about.get("bench") or {}).get("seed")) is not int:
            raise OddError("bench has no seed")
        for _, subset, domain in _each(about["bench"], "subsets", dict):
            if subset not in about["rows"] or domain not in about["sources"]:
                raise OddError(f"bench has {subset!r} of {domain!r}")


def _each(of: Any, key: str, kind: type) -> list[tuple[str, Any, Any]]:
    found: Any = of.get(key) if isinstance(of, dict) else None
    fits = isinstance(found, kind)
    if not fits or len(found) > MOST:
        raise OddError(f"{key} is no {'map' if kind is dict else 'list'}, or too long a one")
    pairs: Iterable[tuple[Any, Any]] = found.items() if isinstance(found, dict) else enumerate(found)
    return [(key, name, value) for name, value in pairs]


def _text(of: Any, key: str, pattern: str) -> None:
    _match(of.get(key) if isinstance(of, dict) else None, pattern, key)


def _match(value: Any, pattern: str, what: str) -> None:
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise OddError(f"{what} is {str(value)[:60]!r}")
