"""What the commands of the benchmark do: making it, scoring on it, comparing, showing and checking scores."""

from __future__ import annotations

import argparse
from pathlib import Path

from hf_mirror.cli.commands import Result
from hf_mirror.errors import ConfigError


def bench(options: argparse.Namespace) -> Result:
    """Test scenes to benchmark rows with their variants."""
    from hf_mirror.bench import bench as run

    return run(options.directory, seed=options.seed)


def baselines(options: argparse.Namespace) -> Result:
    """Recommenders without a language model, on the benchmark's rows."""
    from hf_mirror.baselines import FOLDS, RECOMMENDERS
    from hf_mirror.baselines import baselines as run
    from hf_mirror.progress import progress
    from hf_mirror.rationales import domain_folders

    fits = len(domain_folders(options.directory)) * len(RECOMMENDERS) * (FOLDS + 1)
    with progress(fits, "recommenders", "fit") as advance:
        return {"results": run(options.directory, seed=options.seed, progress=advance)}


def evaluate(options: argparse.Namespace) -> Result:
    """A model on the benchmark."""
    from hf_mirror.evaluation import evaluate as run

    results = run(
        *_model(options.model), options.bench, options.domain, options.out,
        mode=options.mode, backend=options.backend, seed=options.seed, dtype=options.dtype,
    )  # fmt: skip
    return {"results": results}


def probe(options: argparse.Namespace) -> Result:
    """Whether a model has memorised a data set."""
    from hf_mirror.memorisation import probe as run
    from hf_mirror.memorisation import verdict

    results = run(
        *_model(options.model), options.directory, options.out,
        items=options.items, seed=options.seed, backend=options.backend, dtype=options.dtype,
    )  # fmt: skip
    return {"results": results, "verdicts": [verdict(result) for result in results]}


def leaderboard(options: argparse.Namespace) -> Result:
    """Evaluation results, of files or of the Hub, to one table and a static page."""
    from hf_mirror import leaderboard as room

    if bool(options.results) == bool(options.namespace):
        raise ConfigError("give either results of `mirror evaluate` or --namespace NS")
    if ((options.publish or options.verifications) and not options.namespace) or (options.tag and not options.publish):
        raise ConfigError("--publish and --verifications go with --namespace, and --tag goes with --publish")
    statuses = room.Statuses.read(options.verifications) if options.verifications else None
    if options.namespace:
        gathered = room.from_hub(options.namespace, statuses=statuses)
    else:
        gathered = room.from_files(options.results)
    shown = room.board(gathered)
    results = [entry.result | {"model": entry.name} for entry in gathered.entries]
    result: Result = {"results": results, "rejected": shown["rejected"]}
    if options.out:
        room.write_site(shown, options.out)
        result["page"] = str(options.out / "index.html")
    if options.publish:
        result["space"] = room.publish_space(shown, options.namespace, tag=options.tag)
    return result


def compare(options: argparse.Namespace) -> Result:
    """Results of two models or more: which differ, beyond users' luck."""
    from hf_mirror.comparison import compare as run
    from hf_mirror.evaluation import open_bench

    return run(options.results, open_bench(options.bench), seed=options.seed)


def verify(options: argparse.Namespace) -> Result:
    """What a model's repo says about its scores, made again."""
    from hf_mirror.verification import verify as run

    return run(options.repo, options.bench, rerun=options.rerun, seed=options.seed, out=options.out)


def submit(options: argparse.Namespace) -> Result:
    """Results of `mirror evaluate` to the repo of a model that others published."""
    from hf_mirror.publish.submission import submit as run

    return run(options.results, options.repo, create_pr=options.create_pr)


def _model(given: str) -> tuple[str, str | None]:
    """`MODEL[@REV]` as model and revision; a folder may have an @ in its name."""
    model, _, revision = given.partition("@") if not Path(given).exists() else (given, "", "")
    return model, revision or None
