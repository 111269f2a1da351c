"""`mirror …`: parses arguments, calls the stages, prints what they return. Nothing else happens here.

Exit codes: 0 done, 1 the input or a remote is at fault (one line on standard error), 2 wrong usage.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from hf_mirror import PROJECT, __version__, printing
from hf_mirror.errors import ConfigError, MirrorError

Result = dict[str, Any]


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is one line, and to which the beginning of an option is none."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Raises ConfigError, so that wrong usage reads like every other error."""
        raise ConfigError(f"{message}; see `{self.prog} --help`")


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point of the `mirror` command."""
    try:
        options = parser().parse_args(arguments)
        result = options.call(options)
        if getattr(options, "json", False):
            shown = json.dumps(result, ensure_ascii=False, sort_keys=True, default=str)
        else:
            shown = options.show(result)
    except MirrorError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        print("error: stopped; run the same command again to go on", file=sys.stderr)
        raise SystemExit(130) from None
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        print(f"error: {error.strerror or error}{where}", file=sys.stderr)
        raise SystemExit(1) from None
    print(shown)


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
    from hf_mirror.build import BuildSettings
    from hf_mirror.build import build as run
    from hf_mirror.builds import Job, build_all, by_category
    from hf_mirror.domains import load
    from hf_mirror.executors import Executor
    from hf_mirror.progress import progress

    names = [Path(builder).stem for builder in options.builders]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"builder {name} is given {names.count(name)} times; give it once")
    raw = _raw(options.raw, names)
    history, train, evaluation = map(_bounds, (options.history, options.options, options.evaluation_options))
    regimes = _regimes(options.regime, names)
    jobs = []
    for builder, name in zip(options.builders, names, strict=True):
        if name not in raw:
            raise ConfigError(f"no raw folder for {name}; give --raw {name}=DIR")
        regime, named = regimes[name]
        settings = BuildSettings(
            options.scenes, regime, named, options.seed, history, train, evaluation, options.content_model
        )
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


def bench(options: argparse.Namespace) -> Result:
    """Test scenes to benchmark rows with their variants."""
    from hf_mirror.bench import bench as run

    return run(options.directory, seed=options.seed)


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

    return run(options.directory, options.namespace, options.tag, private=options.private, dry_run=options.dry_run)


def evaluate(options: argparse.Namespace) -> Result:
    """A model on the benchmark."""
    from hf_mirror.evaluation import evaluate as run

    model, _, revision = options.model.partition("@") if not Path(options.model).exists() else (options.model, "", "")
    results = run(
        model, revision or None, options.bench, options.domain, options.out,
        batch_size=options.batch_size, seed=options.seed,
    )  # fmt: skip
    return {"results": results}


def leaderboard(options: argparse.Namespace) -> Result:
    """Evaluation results to one table."""
    from hf_mirror.files import read_json

    paths = [p for folder in options.results for p in (folder.rglob("*.json") if folder.is_dir() else [folder])]
    results = [read_json(path) for path in sorted(paths)]
    results = [result for result in results if isinstance(result, dict) and "baselines" in result]
    if not results:
        raise MirrorError(f"no results in {', '.join(map(str, options.results))}; run `mirror evaluate` first")
    return {"results": results}


def hub_serve(options: argparse.Namespace) -> Result:
    """The offline Hub, until interrupted."""
    from hf_mirror.hub import serve

    serve(options.root, host=options.host, port=options.port)
    return {}


def run(options: argparse.Namespace) -> Result:
    """Every stage of a pipeline file."""
    from hf_mirror.pipeline import Pipeline
    from hf_mirror.pipeline import run as run_pipeline
    from hf_mirror.pipeline.settings import load_yaml

    pipeline = load_yaml(options.pipeline, Pipeline)
    if options.raw:
        raw = _raw(options.raw, pipeline.builders)
    else:  # the variable never stands in for a made-up sample that the file asks for
        found = _raw(shlex.split(os.environ.get("MIRROR_RAW", "")), pipeline.builders)
        raw = {name: path for name, path in found.items() if name not in pipeline.sample}
    return run_pipeline(pipeline, raw, options.out)


def doctor(options: argparse.Namespace) -> Result:
    """What this machine has, and which Hub commands talk to."""
    from hf_mirror.doctor import examine

    return examine()


def parser() -> Parser:
    """The whole command line. Built without any heavy import, so that `--help` answers at once."""
    top = Parser(prog="mirror", description="Recommender feedback in, versioned Hub repos of mirrored users out.")
    top.add_argument("--version", action="version", version=f"hf_mirror {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)

    _stage_commands(commands)
    _hub_commands(commands)
    _pipeline_commands(commands)
    _add(commands, "doctor", doctor, printing.counts)
    return top


def _stage_commands(commands: Any) -> None:
    command = _add(commands, "download", download, printing.counts)
    command.add_argument("builder", metavar="BUILDER", help="a builder's name, or the path of its file")
    command.add_argument("release", nargs="?", metavar="RELEASE", help="which, where the publisher has several")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the raw files go")
    command.add_argument("--accept-license", action="store_true", help="accept the terms that are shown without it")

    command = _add(commands, "build", build, printing.build)
    command.add_argument("builders", nargs="+", metavar="BUILDER", help="a builder's name, or the path of its file")
    command.add_argument("--raw", nargs="+", required=True, metavar="[NAME=]PATH", help="raw folder of each builder")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="the run folder")
    command.add_argument("--scenes", type=int, default=1000, metavar="N", help="scenes per domain, 80/10/10 (1000)")
    command.add_argument("--regime", nargs="+", default=[], metavar="[NAME=]REGIME",
                         help="exposure of train and validation scenes (popularity_matched; where a source logs "
                              "impressions, logged, unless NAME= says otherwise)")  # fmt: skip
    command.add_argument("--history", default="2-10", metavar="A-B", help="past events that a scene shows (2-10)")
    command.add_argument("--options", default="2-12", metavar="A-B", help="options of a train scene (2-12)")
    command.add_argument("--evaluation-options", default="5", metavar="A[-B]", help="options of other scenes (5)")
    command.add_argument("--content-model", metavar="NAME[@REV]",
                         help="a sentence-transformers model for content options (words by TF-IDF)")  # fmt: skip
    command.add_argument("--workers", type=int, metavar="N", help="processes that write prompts (one a core)")
    command.add_argument(
        "--executor",
        metavar="KIND[:OPTION=VALUE,…]",
        help="build in tasks that a local, slurm or ray executor runs, e.g. slurm:partition=cpu,time=04:00:00 (local)",
    )
    command.add_argument("--shards", type=int, metavar="N", help="tasks per domain (1)")
    command.add_argument(
        "--each-category", action="store_true", help="build every category of a source alone, in OUT/<category>"
    )
    _seed(command)

    command = _add(commands, "rationales", rationales, printing.counts)
    _directory(command)
    command.add_argument("--role", required=True, choices=("teacher", "student"), help="as whom it writes")
    _engine(command)
    command.add_argument("-n", type=int, default=10, help="decisions per scene (10); distilling needs 2")
    command.add_argument("--temperature", type=float, default=1.0, help="of sampling; 0 takes the likeliest (1.0)")
    command.add_argument("--top-p", type=float, default=0.9, help="the mass of tokens that are sampled from (0.9)")
    command.add_argument("--max-tokens", type=int, default=512, help="of one decision (512)")
    command.add_argument(
        "--price-per-million", type=_prices, metavar="IN,OUT", help="of tokens, to show what 1000 scenes cost"
    )
    command.add_argument(
        "--structured", action="store_true", help="let answers be nothing but the four parts, where the engine can"
    )
    _seed(command)

    command = _add(commands, "read", read, printing.counts)
    _directory(command)
    _engine(command)
    command.add_argument("--ifd", action="store_true", help="also what rule ifd needs of the teacher's decisions")
    command.add_argument(
        "--masked", action="store_true", help="also the choice from the masked thought alone, for its consistency"
    )

    command = _add(commands, "distill", distill, printing.distilled)
    _directory(command)
    command.add_argument(
        "--rule",
        default="uncertainty_gap",
        help="which pairs are kept: uncertainty_gap (the default), random, high_accuracy, low_accuracy, "
        "hit_above_chance, ifd or direct",
    )
    command.add_argument("--size", type=int, default=10_000, help="how many train pairs are kept (10000)")
    command.add_argument("--rejected-role", default="either", choices=("either", "teacher", "student"),
                         help="whose wrong decision is rejected (either)")  # fmt: skip
    command.add_argument("--rescue", action="store_true",
                         help="keep scenes that the teacher never hits as direct rows for SFT")  # fmt: skip
    _seed(command)

    command = _add(commands, "bench", bench, printing.counts)
    _directory(command)
    _seed(command)

    command = _add(commands, "audit", audit, printing.audit)
    command.add_argument("source", metavar="FOLDER|HUB_ID", help="a run folder, a folder of files, or a Hub dataset")
    command.add_argument("--subset", help="one subset or domain (default: all)")
    command.add_argument("--split", help="one split (default: all)")
    command.add_argument("--revision", help="the Hub dataset's branch, tag or commit")

    command = _add(commands, "show", show, printing.scenes)
    _directory(command)
    command.add_argument("--domain", help="one domain (default: all)")
    command.add_argument("--split", help="which split (train)")
    command.add_argument("-n", type=int, default=3, help="scenes per domain (3)")
    command.add_argument("--scene", metavar="ID", help="the scene with this id, or the beginning of one")
    command.add_argument("--decisions", action="store_true", help="also what was written about it, and how it was read")


def _hub_commands(commands: Any) -> None:
    command = _add(commands, "publish", publish, printing.publication)
    _directory(command)
    command.add_argument("--namespace", required=True, help="user or organisation on the Hub")
    command.add_argument("--tag", required=True, help="semantic version, e.g. v1.0.0; a tag never moves")
    command.add_argument("--private", action="store_true", help="create the repos private")
    command.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")

    command = _add(commands, "evaluate", evaluate, printing.board)
    command.add_argument("model", metavar="MODEL[@REV]", help="a folder or a Hub id")
    command.add_argument("--bench", required=True, help="REPO@REV, or a folder with <domain>.parquet")
    command.add_argument("--domain", help="one domain (default: all)")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="where results go")
    command.add_argument("--batch-size", type=int, help="sequences per forward pass (as memory allows)")
    _seed(command)

    command = _add(commands, "leaderboard", leaderboard, printing.board)
    command.add_argument("results", nargs="+", type=Path, help="results of `mirror evaluate`: files or folders")

    hub = commands.add_parser("hub", help="the offline Hub", description="The Hub's HTTP API on one folder.")
    hub_commands = hub.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    command = _add(hub_commands, "serve", hub_serve, lambda result: "stopped", as_json=False)
    command.add_argument("--root", type=Path, required=True, metavar="DIR", help="where repos are kept")
    command.add_argument("--port", type=int, default=0, help="0 takes a free one")
    command.add_argument("--host", default="127.0.0.1")


def _pipeline_commands(commands: Any) -> None:
    command = _add(commands, "run", run, printing.run)
    command.add_argument("pipeline", type=Path, help="a pipeline YAML file")
    _pipeline_options(command)

    command = _add(commands, "quickstart", run, printing.run, "The whole path on made-up feedback, in a few minutes.")
    command.set_defaults(pipeline=PROJECT / "pipelines" / "quickstart.yaml")
    _pipeline_options(command)


def _add(
    commands: Any,
    name: str,
    call: Callable[[argparse.Namespace], Result],
    show: Callable[[Result], str],
    about: str | None = None,
    as_json: bool = True,
) -> argparse.ArgumentParser:
    about = about or call.__doc__
    command: argparse.ArgumentParser = commands.add_parser(name, help=about, description=about)
    command.set_defaults(call=call, show=show)
    if as_json:
        command.add_argument("--json", action="store_true", help="print one JSON object")
    return command


def _directory(command: argparse.ArgumentParser) -> None:
    command.add_argument("directory", type=Path, metavar="DIR", help="the run folder")


def _seed(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seed", type=int, default=0, help="the same seed gives the same result (0)")


def _engine(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--backend", required=True, help="transformers, vllm, openai (a server at OPENAI_BASE_URL), template or echo"
    )
    command.add_argument("--model", required=True, help="a Hub id or folder; for template: teacher, student or reader")
    command.add_argument("--revision", help="the model's branch, tag or commit")
    command.add_argument(
        "--executor",
        metavar="KIND[:OPTION=VALUE,…]",
        help="work in tasks that a local, slurm or ray executor runs, e.g. ray:gpus_per_task=1 (local)",
    )
    command.add_argument("--tasks", type=int, metavar="N", help="how many tasks, each of which loads the model (1)")
    command.add_argument(
        "--price-per-hour", type=_price, metavar="P", help="of this machine, to show what 1000 scenes cost"
    )


def _pipeline_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--raw", nargs="+", metavar="[NAME=]PATH", help="raw folders (default: MIRROR_RAW)")
    command.add_argument("--out", type=Path, metavar="DIR", help="the run folder (default: the pipeline's)")


def _raw(given: Sequence[str], builders: Sequence[str]) -> dict[str, str]:
    """`NAME=PATH` pairs as a mapping; with one builder a bare path will do."""
    folders = {}
    for entry in given:
        name, found, path = entry.partition("=")
        if not found and len(builders) > 1:
            raise ConfigError(f"--raw {entry}: say whose folder it is: NAME={entry}")
        folders[name if found else builders[0]] = path if found else entry
    return folders


def _regimes(given: Sequence[str], builders: Sequence[str]) -> dict[str, tuple[str, bool]]:
    """Each builder's regime, and whether it was named for this builder alone."""
    everywhere = [entry for entry in given if "=" not in entry]
    if len(everywhere) > 1:
        raise ConfigError(f"--regime names {' and '.join(everywhere)} for all builders; give one, or NAME=REGIME")
    regimes = dict.fromkeys(builders, (everywhere[0] if everywhere else "popularity_matched", False))
    for name, _, regime in (entry.partition("=") for entry in given if "=" in entry):
        if name not in regimes:
            raise ConfigError(f"--regime {name}={regime}: {name} is not built; expected one of {', '.join(builders)}")
        regimes[name] = (regime, True)
    return regimes


def _price(text: str) -> float:
    """A number of 0 or more."""
    try:
        price = float(text)
    except ValueError:
        price = -1.0
    if not 0 <= price < float("inf"):
        raise argparse.ArgumentTypeError(f"found {text!r}; expected a number of 0 or more")
    return price


def _prices(text: str) -> tuple[float, float]:
    """`0.5,1.5`: of tokens in and out."""
    into, comma, out = text.partition(",")
    if not comma:
        raise argparse.ArgumentTypeError(f"found {text!r}; expected two numbers, of tokens in and out, such as 0.5,1.5")
    return _price(into), _price(out)


def _bounds(text: str) -> tuple[int, int]:
    """`2-10` or `5` as two numbers, both included."""
    low, _, high = text.partition("-")
    if not (low.isdecimal() and (high or low).isdecimal()):
        raise ConfigError(f"found {text!r}; expected a number or a range of numbers such as 2-10")
    return int(low), int(high or low)
