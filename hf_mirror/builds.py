"""Builds on many machines: several domains or categories at once, each in shards, with the bytes of one build alone.

Each shard reads the whole feedback and draws all scenes, which is quick, and writes its part of the prompts and rows,
which is not; what outgrows one machine's memory is built category by category.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa

from hf_mirror import PROJECT, __version__, domains
from hf_mirror.build import Shard, build_shard, discard, one_build, place, unfinished
from hf_mirror.build_settings import BuildSettings
from hf_mirror.errors import ConfigError, DataError
from hf_mirror.executors import Executor, Stage, execute
from hf_mirror.files import read_json, read_table, sha256_file, write_json, write_rows
from hf_mirror.identity import digest, file_digests
from hf_mirror.schema import SCENE

CONTENTS = "contents.json"  # of a shard: what is in it, written last


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
    for name, value in (("shards", shards), ("workers", 1 if workers is None else workers)):
        if value < 1:
            raise ConfigError(f"{name} is {value}; expected 1 or more")
    # Tasks may run in another folder. Links stay: a builder looks at what lies beside the name that it was given.
    jobs = [
        replace(
            job, builder=str(domains.load(job.builder).path.absolute()), raw=job.raw.absolute(), out=job.out.absolute()
        )
        for job in jobs
    ]
    _check(jobs)
    stages = [
        Stage(
            "build", len(jobs) * shards, partial(_build_task, tuple(jobs), shards, workers),
            tuple(job.name for job in jobs for _ in range(shards)),
        ),
        Stage("join", len(jobs), partial(_join_task, tuple(jobs), shards), tuple(job.name for job in jobs)),
    ]  # fmt: skip
    with ExitStack() as held:
        for job in jobs:
            held.enter_context(one_build(job.out / domains.load(job.builder).name))
        if not execute(stages, executor, logs):
            return {}
    return {job.name: read_json(job.out / domains.load(job.builder).name / "report.json") for job in jobs}


def _check(jobs: Sequence[Job]) -> None:
    """What is wrong with everything is better said before anything is sent away."""
    wrong = []
    for job in jobs:
        try:
            domains.load(job.builder).detect(job.raw)
        except DataError as error:
            wrong.append(error)
    if len(wrong) == len(jobs):
        raise wrong[0]


def join(shards: list[Path], domain: Path) -> None:
    """Makes the domain's folder of the folders of all its shards, in order, which stay as they are."""
    with TemporaryDirectory(dir=shards[0].parent) as scratch:
        whole = Path(scratch)
        shutil.copytree(shards[0], whole, dirs_exist_ok=True, ignore=shutil.ignore_patterns(CONTENTS))
        for name in sorted(path.stem for path in (shards[0] / "scenes").glob("*.parquet")):
            parts = [read_table(shard / "scenes" / f"{name}.parquet") for shard in shards]
            write_rows(whole / "scenes" / f"{name}.parquet", pa.concat_tables(parts), SCENE)
        place(whole, domain)


def _build_task(jobs: tuple[Job, ...], shards: int, workers: int | None, task: int) -> None:
    job, shard = jobs[task // shards], Shard(task % shards, shards)
    folder = _shard_folders(job, shards)[shard.k]
    if _is_whole(folder):
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent) as scratch:
        whole = Path(scratch) / "shard"
        written = build_shard(domains.load(job.builder), job.raw, whole, job.settings, shard, workers=workers)
        write_json(whole / CONTENTS, [path.relative_to(whole).as_posix() for path in written])
        if not _is_whole(whole):
            raise DataError(f"{whole} was taken away while it was written; run the same command again")
        if not _is_whole(folder):
            shutil.rmtree(folder, ignore_errors=True)  # a deletion that was stopped
        try:
            whole.rename(folder)
        except OSError:
            if not _is_whole(folder):  # else the same work is done twice, and was quicker there
                raise


def _join_task(jobs: tuple[Job, ...], shards: int, task: int) -> None:
    job = jobs[task]
    domain = domains.load(job.builder)
    folders = _shard_folders(job, shards)
    missing = [folder for folder in folders if not _is_whole(folder)]
    if missing:
        raise DataError(f"{missing[0]} is not there or not whole; run the same command again")
    join(folders, job.out / domain.name)
    discard(unfinished(job.out, domain.name))


def _is_whole(shard: Path) -> bool:
    """Whether everything that belongs to a shard is there: one that is half deleted is none."""
    with suppress(DataError):
        return all((shard / name).is_file() for name in read_json(shard / CONTENTS))
    return False


def _shard_folders(job: Job, shards: int) -> list[Path]:
    """Where shards lie until they are joined: apart from those of other raw files, settings or code."""
    domain = domains.load(job.builder)
    source = domain.detect(job.raw)
    terms = source.release, source.licence, source.redistributable, source.citation
    files = [(path.relative_to(job.raw if job.raw.is_dir() else job.raw.parent), file_digests(path)[0])
             for path in source.files]  # fmt: skip
    beside = sorted(path.relative_to(job.raw) for path in job.raw.rglob("*"))  # a builder may say what it left out
    code = [sha256_file(path) for path in (domain.path, *sorted((PROJECT / "hf_mirror").rglob("*.py")))]
    made_of = digest(__version__, *code, domain.template, asdict(job.settings), shards, *terms, *files, *beside)
    return [unfinished(job.out, domain.name) / made_of[:12] / f"{k:05d}" for k in range(shards)]
