"""What each command does: its arguments as the stages take them. Stages are imported when they are called."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hf_mirror.cli import values
from hf_mirror.errors import ConfigError

Result = dict[str, Any]


def download(options: argparse.Namespace) -> Result:
    """A release from its publisher, once its licence is accepted."""
    from hf_mirror.domains import load
    from hf_mirror.download import choose, terms
    from hf_mirror.download import download as run

    domain = load(options.builder)
    release = choose(domain, options.release)
    if not options.accept_license:
        print(terms(domain, release), file=sys.stderr if options.json else sys.stdout)
        raise ConfigError(f"read the terms of {domain.name} {release} and pass --accept-license if you accept them")
    return run(domain, release, options.out)


def build(options: argparse.Namespace) -> Result:
    """Raw feedback to tables, scenes and a report."""
    from hf_mirror.build import build as run
    from hf_mirror.build_settings import BuildSettings
    from hf_mirror.builds import Job, build_all, by_category
    from hf_mirror.domains import load
    from hf_mirror.executors import Executor
    from hf_mirror.progress import progress

    names = [Path(builder).stem for builder in options.builders]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"builder {name} is given {names.count(name)} times; give it once")
    raw = values.raw(options.raw, names)
    history, train, evaluation = map(values.bounds, (options.history, options.options, options.evaluation_options))
    regimes = values.regimes(options.regime, names)
    jobs = []
    for builder, name in zip(options.builders, names, strict=True):
        if name not in raw:
            raise ConfigError(f"no raw folder for {name}; give --raw {name}=DIR")
        regime, named = regimes[name]
        settings = BuildSettings(
            options.scenes, regime, named, options.seed, history, train, evaluation, options.content_model,
            tuple(options.also_test),
            options.split_by,
        )  # fmt: skip
        jobs.append(Job(builder, Path(raw[name]), options.out, settings, load(builder).name))
        if jobs[-1].name in [job.name for job in jobs[:-1]]:
            raise ConfigError(f"two builders are named {jobs[-1].name}; build them into different folders")
    if options.each_category:
        jobs = [part for job in jobs for part in by_category(job)]
    if options.each_category or options.shards is not None or options.executor is not None:
        executor = Executor() if options.executor is None else Executor.parse(options.executor)
        shards = 1 if options.shards is None else options.shards
        return build_all(jobs, shards, executor, options.out / "logs", options.workers)
    reports = {}
    for job in jobs:
        with progress(job.settings.scenes, f"scenes of {job.name}") as advance:
            reports[job.name] = run(load(job.builder), job.raw, job.out, job.settings, advance, options.workers)
    return reports


def rationales(options: argparse.Namespace) -> Result:
    """Scenes to written decisions of one role."""
    from hf_mirror import rationales as room

    settings = room.WriteSettings(
        options.n, options.temperature, options.top_p, options.max_tokens, options.seed, options.structured
    )
    return _write_or_read(
        options, f"{options.role} writes", 1,
        lambda engine, meter: room.write(options.directory, options.role, engine.load(), settings, meter),
        lambda by, tasks, logs: room.write_by(
            by, tasks, logs, options.directory, options.role, _engine_of(options), settings
        ),
        lambda: room.count_written(options.directory, options.role),
    )  # fmt: skip


def read(options: argparse.Namespace) -> Result:
    """Written decisions to option probabilities, by one reader."""
    from hf_mirror import rationales as room

    settings = room.ReadSettings(options.ifd, options.masked)
    return _write_or_read(
        options, "reader reads", 3,
        lambda engine, meter: room.read(options.directory, engine.load(), settings, meter),
        lambda by, tasks, logs: room.read_by(by, tasks, logs, options.directory, _engine_of(options), settings),
        lambda: room.count_read(options.directory),
    )  # fmt: skip


def _write_or_read(
    options: argparse.Namespace, what: str, rounds: int, here: Callable[..., Any], by: Callable[..., bool],
    count: Callable[[], Result],
) -> Result:  # fmt: skip
    """In this process, or in tasks of an executor; what is there then, and what this run cost."""
    from hf_mirror.executors import Executor
    from hf_mirror.progress import progress
    from hf_mirror.rationales import Meter, count_scenes

    prices = options.price_per_hour, getattr(options, "price_per_million", None)
    if options.executor is not None or options.tasks is not None:
        executor = Executor() if options.executor is None else Executor.parse(options.executor)
        tasks = 1 if options.tasks is None else options.tasks
        if prices != (None, None):
            raise ConfigError("prices are of work in this process; leave them out, or --executor and --tasks")
        if not by(executor, tasks, options.directory / "logs"):
            return {"submitted": f"{tasks} tasks; when they are done, this without --executor counts what they made"}
        return {"domains": count()}
    with progress(rounds * count_scenes(options.directory), what) as advance:
        meter = Meter(advance, *prices, rounds)
        here(_engine_of(options), meter)
        return {"domains": count(), "this_run": meter.summary()}


def _engine_of(options: argparse.Namespace) -> Any:
    from hf_mirror.backends import Engine

    return Engine(options.backend, options.model, options.revision)


def distill(options: argparse.Namespace) -> Result:
    """Decisions to preference pairs."""
    from hf_mirror.distill import distill as run

    return run(
        options.directory, rule=options.rule, size=options.size, seed=options.seed,
        rejected_role=options.rejected_role, rescue=options.rescue,
    )  # fmt: skip


def audit(options: argparse.Namespace) -> Result:
    """What any dataset of choices gives away without its users."""
    from hf_mirror.audit import audit as check
    from hf_mirror.audit.reading import read

    parts = read(options.source, options.subset, options.split, options.revision)
    return {label: check(choices) for label, choices in parts.items()}


def show(options: argparse.Namespace) -> Result:
    """Scenes, as a person reads them."""
    from hf_mirror.showing import show as run

    return run(options.directory, options.domain, options.split, options.n, options.scene, options.decisions)


def publish(options: argparse.Namespace) -> Result:
    """Everything in a run folder to versioned Hub repos."""
    from hf_mirror.publish import publish as run

    return run(
        options.directory, options.namespace, options.tag, private=options.private, gated=options.gated,
        create_pr=options.create_pr, dry_run=options.dry_run,
    )  # fmt: skip


def rehydrate(options: argparse.Namespace) -> Result:
    """Closed rows and one's own raw files to full rows."""
    from hf_mirror.rehydrate import rehydrate as run

    raw = {name: Path(path) for name, path in values.raw(options.raw, [""]).items()}
    return run(
        options.dataset, raw, options.out, builders=options.builder, content_model=options.content_model
    )  # fmt: skip


def lineage(options: argparse.Namespace) -> Result:
    """What a published repo was made from, checked against the Hub."""
    from hf_mirror.publish.lineage import trace

    return trace(options.repo)


def hub_serve(options: argparse.Namespace) -> Result:
    """The offline Hub, until interrupted."""
    from hf_mirror.hub import serve

    serve(options.root, host=options.host, port=options.port)
    return {}


def hub_token(options: argparse.Namespace) -> Result:
    """A token for the offline Hub, which asks for one from then on."""
    from hf_mirror.hub.accounts import Accounts

    options.root.mkdir(parents=True, exist_ok=True)
    accounts = Accounts(options.root)
    if options.revoke:
        return {"revoked": accounts.revoke(options.name), "name": options.name}
    return {"token": accounts.add(options.name, options.role), "name": options.name, "role": options.role}


def hub_gc(options: argparse.Namespace) -> Result:
    """Removes large files that no commit of the offline Hub uses."""
    from hf_mirror.hub.garbage import collect

    return collect(options.root, options.dry_run)


def run(options: argparse.Namespace) -> Result:
    """Every stage of a pipeline file."""
    from hf_mirror.pipeline import Pipeline
    from hf_mirror.pipeline import run as run_pipeline
    from hf_mirror.pipeline.settings import load_yaml

    pipeline = load_yaml(options.pipeline, Pipeline)
    if options.raw:
        raw = values.raw(options.raw, pipeline.builders)
    else:  # the variable never stands in for a made-up sample that the file asks for
        found = values.raw(shlex.split(os.environ.get("MIRROR_RAW", "")), pipeline.builders)
        raw = {name: path for name, path in found.items() if name not in pipeline.sample}
    return run_pipeline(pipeline, raw, options.out)


def doctor(options: argparse.Namespace) -> Result:
    """What this machine has, and which Hub commands talk to."""
    from hf_mirror.doctor import examine

    return examine()
