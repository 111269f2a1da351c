"""`mirror rehydrate`: closed rows of a published dataset and one's own raw files become the full rows, byte for byte.

The recorded build runs again on the raw files, which gives scenes, benchmark rows, prompts and the key of what is
sealed (sealing.py). Rows are joined by `scene_id` and checked, each by its `row_hmac`. The result is the repo as it
would be if its sources were open: the same subsets, splits (but for `headline`, which repeats rows) and order, for
`load_dataset` on the folder and for recipes.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hf_mirror import __version__, domains
from hf_mirror.bench import bench
from hf_mirror.build import build
from hf_mirror.build_settings import BuildSettings
from hf_mirror.domains import Domain
from hf_mirror.errors import ConfigError, DataError
from hf_mirror.files import count_rows, read_table, sha256_file, to_arrow, write_json, write_rows
from hf_mirror.progress import progress, say
from hf_mirror.prompts import rationale_messages
from hf_mirror.publish.cards import configs
from hf_mirror.publish.mixed import mix
from hf_mirror.publish.provenance import PROVENANCE, Published
from hf_mirror.publish.staging import MIXED, STAGES
from hf_mirror.publish.tiers import SEALED
from hf_mirror.sealing import NOTE, Seal


@dataclass(frozen=True)
class Rebuilt:
    """One closed domain, built again: its run folder and its lock."""

    name: str
    run: Path
    seal: Seal
    kind: str
    hint: str  # why rows may differ, for whoever meets one

    def full(self, subset: str, split: str, there: Path) -> pa.Table:
        """The full rows of one split of a subset that was published. DataError where a row is not what it was."""
        rows = MAKERS[self.kind](self, subset, split, there)
        there_are = count_rows(there / subset / f"{split}.parquet")
        if rows.num_rows != there_are:
            raise DataError(
                f"{subset}, {split}: {there_are} rows were published, {rows.num_rows} are here; {self.hint}"
            )
        marks = Counter(read_table(there / subset / f"{split}.parquet", ["row_hmac"])["row_hmac"].to_pylist())
        wrong = (marks - Counter(self.seal.mark(row) for row in rows.to_pylist())).total()
        if wrong:
            raise DataError(
                f"{subset}, {split}: {wrong} of {there_are} rows differ from what was published; {self.hint}"
            )
        return rows

    def scenes(self, split: str) -> pa.Table:
        """The scenes that the build gave."""
        return read_table(self.run / self.name / "scenes" / f"{split}.parquet")


def rehydrate(
    reference: str,
    raw: Mapping[str, Path],
    out: Path,
    *,
    builders: Sequence[Path] = (),
    content_model: str | None = None,
    endpoint: str | None = None,
) -> dict[str, Any]:
    """Writes the dataset `reference` (`<namespace>/<repo>@<revision>`) to `out` with full rows.

    `raw` has the raw files of every closed source, by domain ("" will do for the only one); `builders` are files of
    domains that are not this project's own. A content model that the build used is loaded only if `content_model` names
    it, because a Hub repo names it.

    Returns `{repo, revision, out, rows: {subset: {split: n}}, rehydrated: [domain], open: [subset]}`.

    Raises ConfigError where a raw folder is missing or nobody asked for it; DataError where raw files, template or rows
    are not those that were published, naming which; HubError where the dataset cannot be read.
    """
    published = Published.open(reference, endpoint, ["dataset"])
    sources, kind = published.provenance["sources"], published.provenance.get("kind")
    if kind not in STAGES:
        raise DataError(f"{reference} is of kind {kind!r}; expected one of {', '.join(STAGES)}")
    closed = [name for name, source in sources.items() if source["tier"] == "closed"]
    raw = {closed[0]: raw[""]} if list(raw) == [""] and len(closed) == 1 else raw
    _check_raw(reference, closed, raw)
    rows = published.provenance["rows"]
    known = {domain.name: domain for domain in map(domains.load, builders)}
    ours = {name: known.get(name) or _own(name) for name in closed}
    for name in closed:
        _check_content_model(name, sources[name]["settings"].get("content_model"), content_model)
    there = published.fetch(_files(published, closed))
    with _whole(out) as folder, TemporaryDirectory(dir=folder.parent, prefix=".rebuilt-") as scratch:
        tables: dict[str, dict[str, pa.Table]] = {}
        for name in closed:
            rebuilt = _rebuild(name, published, ours[name], raw[name], Path(scratch))
            for subset in _subsets(published, name):
                tables[subset] = {split: rebuilt.full(subset, split, there) for split in rows[subset]}
        mixed = published.provenance.get("mixed") or {}
        if set(mixed.get("domains", ())) & set(closed):
            tables[MIXED] = {
                split: mix(
                    {name: tables[name][split] for name in mixed["domains"] if split in tables[name]},
                    mixed["weights"],
                    mixed["seed"],
                )
                for split in rows[MIXED]
            }
        files = _write(folder, published, there, tables)
        note = {"repo": published.repo, "revision": published.revision, "code_version": __version__, "files": files}
        write_json(folder / NOTE, note)
    return {
        "repo": published.repo,
        "revision": published.revision,
        "out": str(out),
        "rows": rows,
        "rehydrated": closed,
        "open": [name for name in rows if name not in tables],
    }


def _subsets(published: Published, domain: str) -> list[str]:
    """The subsets that hold a closed domain: of a benchmark one per regime, else its own."""
    if published.provenance["kind"] != "bench":
        return [domain]
    return [name for name, of in published.provenance["bench"]["subsets"].items() if of == domain]


def _check_raw(reference: str, closed: Sequence[str], raw: Mapping[str, Path]) -> None:
    if not closed:
        raise ConfigError(f"all of {reference} is openly licensed: load_dataset gives its full rows already")
    for name in closed:
        if name not in raw:
            raise ConfigError(f"{reference} holds closed rows of {name}; give its raw files: --raw {name}=DIR")
    for name in raw:
        if name not in closed:
            raise ConfigError(f"{reference} has no closed source {name!r}; it has {', '.join(closed)}")


def _own(name: str) -> Domain:
    """A builder of this project: a name from a Hub repo is never taken for a path."""
    if name not in domains.available():
        raise ConfigError(f"no builder {name!r} comes with hf_mirror; give its file with --builder")
    return domains.load(name)


def _check_content_model(name: str, recorded: Any, allowed: str | None) -> None:
    if recorded is not None and recorded != allowed:
        raise ConfigError(
            f"{name} was built with content model {recorded!r}; pass --content-model with that name if you trust it"
        )


def _files(published: Published, closed: Sequence[str]) -> list[str]:
    """What is read of the repo. DataError where it has no rows of a closed source."""
    rows, sealed = published.provenance["rows"], published.provenance["kind"] in SEALED
    if missing := [name for name in closed if name not in rows]:
        raise DataError(
            f"{published.repo}@{published.revision} has no rows of {missing[0]}, which it says it was made of"
        )
    splits = {split for subset, counts in rows.items() if subset != MIXED for split in counts}
    if alone := set(rows.get(MIXED, ())) - splits:
        raise DataError(f"{published.repo}@{published.revision} has {', '.join(alone)} rows in {MIXED} alone")
    names = [f"{subset}/{split}.parquet" for subset, counts in rows.items() for split in counts]
    names += [f"{name}/{split}.sealed" for name in closed for split in rows[name] if sealed]
    return [*names, "LICENSE.md"]


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A folder that becomes `out` at the end, or nothing. What is there already is never overwritten."""
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise ConfigError(f"{out} exists and is not empty; choose another --out, or delete it")
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=".rehydrating-") as scratch:
        yield Path(scratch) / "whole"
        if out.is_dir():
            out.rmdir()
        (Path(scratch) / "whole").rename(out)


def _rebuild(name: str, published: Published, domain: Domain, raw: Path, scratch: Path) -> Rebuilt:
    """The recorded build, on these raw files."""
    recorded = published.provenance["sources"][name]
    _check_raw_files(name, domain, raw, recorded["raw_files"])
    if hashlib.sha256(domain.template.encode()).hexdigest() != recorded["template_sha256"]:
        raise DataError(
            f"the template of {name} is not the one that was published with hf_mirror {recorded['code_version']}; "
            f"this is {__version__}: install that version"
        )
    hint = f"raw files and template are the same, but it was built with hf_mirror {recorded['code_version']}"
    hint += ": install that version" if recorded["code_version"] != __version__ else ", as this is: with other code"
    if recorded["code_version"] != __version__:
        say(f"  {name} was built with hf_mirror {recorded['code_version']}, this is {__version__}: rows may differ")
    try:
        settings = BuildSettings.of(recorded["settings"])
    except (TypeError, ValueError) as error:
        raise DataError(f"the recorded settings of {name} are not this version's: {error}") from None
    run = scratch / name
    with progress(settings.scenes, f"  scenes of {name}") as advance:
        build(domain, raw, run, settings, advance)
    kind = published.provenance["kind"]
    if kind == "bench":
        bench(run, seed=published.provenance["bench"]["seed"])
    return Rebuilt(name, run, Seal.of(run / name), kind, hint)


def _check_raw_files(name: str, domain: Domain, raw: Path, recorded: Sequence[Mapping[str, Any]]) -> None:
    """The raw files must be those that were built from: names the first that is not."""
    root = raw if raw.is_dir() else raw.parent
    found = {path.relative_to(root).as_posix(): path for path in domain.detect(raw).files}
    for file in recorded:
        path = found.pop(file["name"], None)
        if path is None:
            raise DataError(f"{raw} lacks {file['name']}, which {name} was built from; found {', '.join(found)}")
        if sha256_file(path) != file["sha256"]:
            raise DataError(
                f"{path} is not the file that {name} was built from: it has {path.stat().st_size:,} bytes and SHA-256 "
                f"{sha256_file(path)[:12]}…, expected {file['bytes']:,} bytes and {file['sha256'][:12]}…; "
                "get the same release from its publisher"
            )
    if found:
        raise DataError(f"{raw} also holds {', '.join(found)}, which {name} was not built from; take it away")


def _scenes(rebuilt: Rebuilt, subset: str, split: str, there: Path) -> pa.Table:
    return to_arrow(rebuilt.scenes(split), STAGES["scenes"].open)


def _bench(rebuilt: Rebuilt, subset: str, split: str, there: Path) -> pa.Table:
    return to_arrow(read_table(rebuilt.run / "bench" / f"{subset}.parquet"), STAGES["bench"].open)


def _unsealed(rebuilt: Rebuilt, subset: str, split: str, there: Path) -> pa.Table:
    """What was sealed, in its order, beside what its scenes give."""
    path = there / rebuilt.name / f"{split}.sealed"
    try:
        opened = pq.read_table(pa.BufferReader(rebuilt.seal.open(path.read_bytes(), rebuilt.kind, split)))
    except ValueError as error:
        raise DataError(f"{path.name} of {rebuilt.name} does not open: {error}; {rebuilt.hint}") from None
    scenes = rebuilt.scenes(split).select(["scene_id", "domain", "split", "exposure", "prompt"]).to_pylist()
    known = {
        row["scene_id"]: {name: row[name] for name in ("domain", "split")}
        | {"n_options": len(row["exposure"]), "prompt": rationale_messages(row["prompt"])}
        for row in scenes
    }
    rows = opened.to_pylist()
    if missing := [row["scene_id"] for row in rows if row["scene_id"] not in known]:
        raise DataError(
            f"{rebuilt.name}, {split}: the build gave no scene {missing[0]}, which was published; {rebuilt.hint}"
        )
    again = ({"completion": row["chosen"]} if "chosen" in row else {} for row in rows)
    whole = [known[row["scene_id"]] | row | more for row, more in zip(rows, again, strict=True)]
    return to_arrow(whole, STAGES[rebuilt.kind].open)


# How each kind of repo gets its full rows.
MAKERS: dict[str, Callable[[Rebuilt, str, str, Path], pa.Table]] = {
    "scenes": _scenes,
    "rationales": _unsealed,
    "preferences": _unsealed,
    "bench": _bench,
}


def _write(
    folder: Path, published: Published, there: Path, tables: Mapping[str, Mapping[str, pa.Table]]
) -> dict[str, str]:
    """Full rows, open rows as they were, licence, provenance and a card. Returns the SHA-256 of every file of rows."""
    written, schema = {}, STAGES[published.provenance["kind"]].open
    for subset, counts in published.provenance["rows"].items():
        for split in counts:
            name = f"{subset}/{split}.parquet"
            if subset in tables:
                write_rows(folder / name, tables[subset][split], schema)
            else:
                (folder / subset).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(there / name, folder / name)
            written[name] = sha256_file(folder / name)
    shutil.copyfile(there / "LICENSE.md", folder / "LICENSE.md")
    write_json(folder / PROVENANCE, published.provenance)
    (folder / "README.md").write_text(_card(published), encoding="utf-8")
    return written


def _card(published: Published) -> str:
    """What `load_dataset` needs to find subsets and splits, and what a person should know."""
    import yaml

    header = yaml.safe_dump({"configs": configs(published.provenance["rows"])}, sort_keys=False)
    return (
        f"---\n{header}---\n\n# {published.repo}, rehydrated\n\n"
        f"The full rows of `{published.repo}` at `{published.revision}`, made with raw files of closed sources. "
        "**Do not share this folder**: their licences, in LICENSE.md, forbid it.\n"
    )
