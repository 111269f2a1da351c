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
from typing import Any

from hf_mirror import __version__, domains
from hf_mirror.build import BuildSettings, Shard, build_shard, join
from hf_mirror.errors import ConfigError, DataError
from hf_mirror.executors import Executor, Stage, execute
from hf_mirror.files import read_json
from hf_mirror.identity import digest, file_digests


@dataclass(frozen=True)
class Job:
    """One domain to build: `builder` is its name or file, `out` the run folder."""

    builder: str
    raw: Path
    out: Path
    settings: BuildSettings


def by_category(job: Job) -> list[Job]:
    """A job per category of a raw folder, each with a run folder of its own below `out`, named like the category."""
    domain = domains.load(job.builder)
    if domain.categories is None:
        raise ConfigError(f"{domain.name} has no categories; leave --each-category out")
    return [Job(job.builder, path, job.out / name, job.settings) for name, path in domain.categories(job.raw).items()]


def build_all(
    jobs: Sequence[Job], shards: int, executor: Executor, logs: Path, workers: int | None = None
) -> dict[str, dict[str, Any]]:
    """Builds every job in `shards` parts. Returns the reports by `<run folder>/<domain>`; none where a scheduler will
    build them later."""
    if shards < 1:
        raise ConfigError(f"shards is {shards}; expected 1 or more")
    # Tasks may run in another folder.
    jobs = [replace(job, builder=_found(job.builder), raw=job.raw.resolve(), out=job.out.resolve()) for job in jobs]
    for job in jobs:  # what is wrong is better said before anything is sent away
        domains.load(job.builder).detect(job.raw)
    stages = [
        Stage("build", len(jobs) * shards, partial(_build_task, tuple(jobs), shards, workers)),
        Stage("join", len(jobs), partial(_join_task, tuple(jobs), shards)),
    ]
    if not execute(stages, executor, logs):
        return {}
    folders = [job.out / domains.load(job.builder).name for job in jobs]
    return {str(folder): read_json(folder / "report.json") for folder in folders}


def _found(builder: str) -> str:
    return str(domains.load(builder).path.resolve())


def _build_task(jobs: tuple[Job, ...], shards: int, workers: int | None, task: int) -> None:
    job, shard = jobs[task // shards], Shard(task % shards, shards)
    domain, folder = domains.load(job.builder), _shard_folder(job, shard)
    if folder.exists():
        return
    unfinished = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    build_shard(domain, job.raw, unfinished, job.settings, shard, workers=workers)
    unfinished.rename(folder)


def _join_task(jobs: tuple[Job, ...], shards: int, task: int) -> None:
    job = jobs[task]
    folders = [_shard_folder(job, Shard(k, shards)) for k in range(shards)]
    missing = [folder.name for folder in folders if not folder.exists()]
    if missing:
        raise DataError(f"{folders[0].parent} lacks shard {missing[0]}; run the same command again")
    join(folders, job.out / domains.load(job.builder).name)
    shutil.rmtree(folders[0].parent)


def _shard_folder(job: Job, shard: Shard) -> Path:
    """Where a shard lies until it is joined: apart from those of other raw files, settings or code."""
    domain = domains.load(job.builder)
    files = [file_digests(path)[0] for path in domain.detect(job.raw).files]
    made_of = digest(__version__, domain.template, str(asdict(job.settings)), shard.of, *files)
    return job.out / f".{domain.name}-{made_of[:12]}" / f"{shard.k:05d}"
