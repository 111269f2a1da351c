"""Builds on many machines: several domains or categories at once, each in shards, with the bytes of one build alone.

Each shard reads the whole feedback and draws all scenes, which is quick, and writes its part of the prompts and rows,
which is not; what outgrows one machine's memory is built category by category.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import pyarrow as pa

from hf_mirror import __version__, domains
from hf_mirror.build import BuildSettings, Shard, build_shard, place, remove_empty, unfinished
from hf_mirror.errors import ConfigError, DataError, MirrorError, cause
from hf_mirror.executors import Executor, Stage, execute
from hf_mirror.files import read_json, read_table, sha256_file, write_rows
from hf_mirror.identity import digest, file_digests
from hf_mirror.schema import SCENE


@dataclass(frozen=True)
class Job:
    """One domain to build: `builder` is its name or file, `out` the run folder. `name` is what people call it."""

    builder: str
    raw: Path
    out: Path
    settings: BuildSettings
    name: str


def by_category(job: Job) -> list[Job]:
    """A job per category of a raw folder, each with a run folder of its own below `out`, named like the category."""
    domain = domains.load(job.builder)
    if domain.categories is None:
        raise ConfigError(f"{domain.name} has no categories; leave --each-category out")
    return [
        replace(job, raw=path, out=job.out / category, name=f"{category}/{job.name}")
        for category, path in domain.categories(job.raw).items()
    ]


def build_all(
    jobs: Sequence[Job], shards: int, executor: Executor, logs: Path, workers: int | None = None
) -> dict[str, dict[str, Any]]:
    """Builds every job in `shards` parts. Returns the reports by the jobs' names; none where a scheduler will build
    them later. A job that fails stops no other, and is an error at the end."""
    if shards < 1:
        raise ConfigError(f"shards is {shards}; expected 1 or more")
    # Tasks may run in another folder. Links stay: a builder looks at what lies beside the name that it was given.
    jobs = [
        replace(
            job, builder=str(domains.load(job.builder).path.absolute()), raw=job.raw.absolute(), out=job.out.absolute()
        )
        for job in jobs
    ]
    for job in jobs:  # what is wrong is better said before anything is sent away
        domains.load(job.builder).detect(job.raw)
    stages = [
        Stage("build", len(jobs) * shards, partial(_build_task, tuple(jobs), shards, workers)),
        Stage("join", len(jobs), partial(_join_task, tuple(jobs), shards)),
    ]
    if not execute(stages, executor, logs):
        return {}
    return {job.name: read_json(job.out / domains.load(job.builder).name / "report.json") for job in jobs}


def join(shards: list[Path], domain: Path) -> None:
    """Makes the domain's folder of the folders of all its shards, in order, which stay as they are."""
    with TemporaryDirectory(dir=shards[0].parent) as scratch:
        whole = Path(scratch)
        shutil.copytree(shards[0], whole, dirs_exist_ok=True)
        for name in read_json(whole / "report.json")["scenes"]:
            parts = [read_table(shard / "scenes" / f"{name}.parquet") for shard in shards]
            write_rows(whole / "scenes" / f"{name}.parquet", pa.concat_tables(parts), SCENE)
        place(whole, domain)


def _build_task(jobs: tuple[Job, ...], shards: int, workers: int | None, task: int) -> None:
    job, shard = jobs[task // shards], Shard(task % shards, shards)
    try:
        folder = _shard_folder(job, shard)
        if folder.exists():
            return
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent) as scratch:
            whole = Path(scratch) / "shard"
            build_shard(domains.load(job.builder), job.raw, whole, job.settings, shard, workers=workers)
            try:
                whole.rename(folder)
            except OSError:
                if not folder.exists():  # else the same command runs twice, and was quicker there
                    raise
    except Exception as error:
        raise _named(job, error) from error


def _join_task(jobs: tuple[Job, ...], shards: int, task: int) -> None:
    job = jobs[task]
    domain = domains.load(job.builder)
    try:
        folders = [_shard_folder(job, Shard(k, shards)) for k in range(shards)]
        missing = [folder.name for folder in folders if not folder.exists()]
        if missing:
            raise DataError(f"{folders[0].parent} lacks shard {missing[0]}; run the same command again")
        join(folders, job.out / domain.name)
        _discard(unfinished(job.out, domain.name))
    except Exception as error:
        raise _named(job, error) from error


def _named(job: Job, error: Exception) -> MirrorError:
    return (type(error) if isinstance(error, MirrorError) else DataError)(f"{job.name}: {cause(error)}")


def _discard(beside: Path) -> None:
    """Takes shards away, those of other settings too: all at once, so that a kill leaves no half shard."""
    gone = Path(mkdtemp(dir=beside.parent))
    beside.rename(gone / beside.name)
    shutil.rmtree(gone)
    remove_empty(beside)


def _shard_folder(job: Job, shard: Shard) -> Path:
    """Where a shard lies until it is joined: apart from those of other raw files, settings or code."""
    domain = domains.load(job.builder)
    source = domain.detect(job.raw)
    terms = source.release, source.licence, source.redistributable, source.citation
    files = [(path.name, file_digests(path)[0]) for path in source.files]
    code = __version__, sha256_file(domain.path), domain.template
    made_of = digest(*code, asdict(job.settings), shard.of, *terms, *files)
    return unfinished(job.out, domain.name) / made_of[:12] / f"{shard.k:05d}"
