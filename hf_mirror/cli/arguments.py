"""Every command with its arguments, built without any heavy import, so that `--help` answers at once."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from hf_mirror import PROJECT, __version__
from hf_mirror.cli import commands as calls
from hf_mirror.cli import printing, scoring, values
from hf_mirror.cli.commands import Result
from hf_mirror.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is one line, and to which the beginning of an option is none."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Raises ConfigError, so that wrong usage reads like every other error."""
        raise ConfigError(f"{message}; see `{self.prog} --help`")


def parser() -> Parser:
    """The whole command line. Built without any heavy import, so that `--help` answers at once."""
    top = Parser(prog="mirror", description="Recommender feedback in, versioned Hub repos of mirrored users out.")
    top.add_argument("--version", action="version", version=f"hf_mirror {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)

    _feedback_commands(commands)
    _decision_commands(commands)
    _evaluation_commands(commands)
    _hub_commands(commands)
    _pipeline_commands(commands)
    _add(commands, "doctor", calls.doctor, printing.counts)
    return top


def _feedback_commands(commands: Any) -> None:
    command = _add(commands, "download", calls.download, printing.counts)
    command.add_argument("builder", metavar="BUILDER", help="a builder's name, or the path of its file")
    command.add_argument("release", nargs="?", metavar="RELEASE", help="which, where the publisher has several")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the raw files go")
    command.add_argument("--accept-license", action="store_true", help="accept the terms that are shown without it")

    command = _add(commands, "build", calls.build, printing.build)
    command.add_argument("builders", nargs="+", metavar="BUILDER", help="a builder's name, or the path of its file")
    command.add_argument("--raw", nargs="+", required=True, metavar="[NAME=]PATH", help="raw folder of each builder")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="the run folder")
    command.add_argument("--scenes", type=int, default=1000, metavar="N", help="scenes per domain, 80/10/10 (1000)")
    command.add_argument("--regime", nargs="+", default=[], metavar="[NAME=]REGIME",
                         help="exposure of train and validation scenes (popularity_matched; where a source logs "
                              "impressions, logged, unless NAME= says otherwise)")  # fmt: skip
    command.add_argument("--also-test", nargs="+", default=[], metavar="REGIME",
                         help="ask the choices of the test scenes in these regimes, too")  # fmt: skip
    command.add_argument(
        "--split-by",
        choices=("arrival", "user"),
        default="arrival",
        help="users by when they arrive, or by lot without a cut in time (arrival)",
    )
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

    command = _add(commands, "audit", calls.audit, printing.audit)
    command.add_argument("source", metavar="FOLDER|HUB_ID", help="a run folder, a folder of files, or a Hub dataset")
    command.add_argument("--subset", help="one subset or domain (default: all)")
    command.add_argument("--split", help="one split (default: all)")
    command.add_argument("--revision", help="the Hub dataset's branch, tag or commit")

    command = _add(commands, "show", calls.show, printing.scenes)
    _directory(command)
    command.add_argument("--domain", help="one domain (default: all)")
    command.add_argument("--split", help="which split (train)")
    command.add_argument("-n", type=int, default=3, help="scenes per domain (3)")
    command.add_argument("--scene", metavar="ID", help="the scene with this id, or the beginning of one")
    command.add_argument("--decisions", action="store_true", help="also what was written about it, and how it was read")


def _decision_commands(commands: Any) -> None:
    command = _add(commands, "rationales", calls.rationales, printing.counts)
    _directory(command)
    command.add_argument("--role", required=True, choices=("teacher", "student"), help="as whom it writes")
    _engine(command)
    command.add_argument("-n", type=int, default=10, help="decisions per scene (10); distilling needs 2")
    command.add_argument("--temperature", type=float, default=1.0, help="of sampling; 0 takes the likeliest (1.0)")
    command.add_argument("--top-p", type=float, default=0.9, help="the mass of tokens that are sampled from (0.9)")
    command.add_argument("--max-tokens", type=int, default=512, help="of one decision (512)")
    command.add_argument(
        "--price-per-million", type=values.prices, metavar="IN,OUT", help="of tokens, to show what 1000 scenes cost"
    )
    command.add_argument(
        "--structured", action="store_true", help="let answers be nothing but the four parts, where the engine can"
    )
    _seed(command)

    command = _add(commands, "read", calls.read, printing.counts)
    _directory(command)
    _engine(command)
    command.add_argument("--ifd", action="store_true", help="also what rule ifd needs of the teacher's decisions")
    command.add_argument(
        "--masked", action="store_true", help="also the choice from the masked thought alone, for its consistency"
    )

    command = _add(commands, "distill", calls.distill, printing.distilled)
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


def _hub_commands(commands: Any) -> None:
    command = _add(commands, "publish", calls.publish, printing.publication)
    _directory(command)
    command.add_argument("--namespace", required=True, help="user or organisation on the Hub")
    command.add_argument("--tag", required=True, help="semantic version, e.g. v1.0.0; a tag never moves")
    command.add_argument("--private", action="store_true", help="make the repos private")
    command.add_argument(
        "--gated", choices=("auto", "manual"), help="make the repos gated: who asks is let in, or you let in"
    )
    command.add_argument(
        "--create-pr", action="store_true", help="propose pull requests instead of commits; no tag yet"
    )
    command.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")

    command = _add(commands, "rehydrate", calls.rehydrate, printing.rehydrated)
    command.add_argument("dataset", metavar="REPO@REV", help="a published dataset with closed rows")
    command.add_argument(
        "--raw", nargs="+", required=True, metavar="[NAME=]PATH", help="raw folder of each closed source"
    )
    command.add_argument("--builder", nargs="+", type=Path, default=[], metavar="FILE",
                         help="builder files of domains that do not come with hf_mirror")  # fmt: skip
    command.add_argument("--content-model", metavar="NAME[@REV]", help="the one that the build used, if you trust it")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder for the full rows")

    command = _add(commands, "lineage", calls.lineage, printing.lineage)
    command.add_argument("repo", metavar="REPO[@REV]", help="a published dataset or model")

    hub = commands.add_parser("hub", help="The offline Hub.", description="The Hub's HTTP API on one folder.")
    hub_commands = hub.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    command = _add(hub_commands, "serve", calls.hub_serve, lambda result: "stopped", as_json=False)
    command.add_argument("--root", type=Path, required=True, metavar="DIR", help="where repos are kept")
    command.add_argument("--port", type=int, default=0, help="0 takes a free one")
    command.add_argument(
        "--host",
        default="127.0.0.1",
        help="an address of this machine alone, or any where there are tokens (127.0.0.1)",
    )

    command = _add(hub_commands, "token", calls.hub_token, printing.counts)
    command.add_argument("--root", type=Path, required=True, metavar="DIR", help="where repos are kept")
    command.add_argument("--name", required=True, help="whose token it is")
    command.add_argument("--role", default="write", choices=("read", "write"), help="what it is good for (write)")
    command.add_argument("--revoke", action="store_true", help="forget all tokens of this name instead")

    command = _add(hub_commands, "gc", calls.hub_gc, printing.counts)
    command.add_argument("--root", type=Path, required=True, metavar="DIR", help="where repos are kept")
    command.add_argument("--dry-run", action="store_true", help="count, and remove nothing")


def _evaluation_commands(commands: Any) -> None:
    command = _add(commands, "bench", scoring.bench, printing.bench)
    _directory(command)
    _seed(command)

    command = _add(commands, "baselines", scoring.baselines, printing.board)
    _directory(command)
    _seed(command)

    command = _add(commands, "evaluate", scoring.evaluate, printing.board)
    command.add_argument("model", metavar="MODEL[@REV]", help="a folder or a Hub id")
    command.add_argument("--bench", required=True, help="REPO@REV, or a folder with <domain>.parquet")
    command.add_argument("--domain", metavar="SUBSET", help="one domain, or <domain>-<regime> (default: all)")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="where results go")
    command.add_argument("--mode", default="direct", choices=("direct", "rationale"),
                         help="probabilities without a thought, or think, then choose (direct)")  # fmt: skip
    _answering(command)
    _seed(command)

    command = _add(commands, "probe", scoring.probe, lambda found: "\n".join(found["verdicts"]))
    command.add_argument("model", metavar="MODEL[@REV]", help="a folder or a Hub id")
    command.add_argument("directory", type=Path, metavar="DIR", help="a run folder, for the items of its domains")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="where results go")
    command.add_argument("--items", type=int, default=200, metavar="N", help="how many per domain (200)")
    _answering(command)
    _seed(command)

    command = _add(commands, "leaderboard", scoring.leaderboard, printing.leaderboard)
    command.add_argument("results", nargs="*", type=Path, help="results of `mirror evaluate`: files or folders")
    command.add_argument("--namespace", metavar="NS", help="instead: what the Hub has for NS/mirror-bench")
    command.add_argument("--out", type=Path, metavar="DIR", help="write the page here too; open its index.html")
    command.add_argument("--publish", action="store_true", help="bring the Space NS/mirror-leaderboard to this board")
    command.add_argument("--tag", metavar="vX.Y.Z", help="mark the Space's commit")
    command.add_argument("--verifications", type=Path, metavar="DIR", help="what `mirror verify` wrote")

    command = _add(commands, "compare", scoring.compare, printing.comparison)
    command.add_argument("results", nargs="+", type=Path, help="results of two models or more: files or folders")
    command.add_argument("--bench", required=True, help="REPO@REV, or the folder that they were evaluated on")
    _seed(command)

    command = _add(commands, "submit", scoring.submit, printing.submitted)
    command.add_argument("results", type=Path, metavar="DIR", help="what `mirror evaluate --out` wrote")
    command.add_argument("--repo", required=True, metavar="NAMESPACE/MODEL", help="the model on the Hub")
    command.add_argument("--create-pr", action="store_true", help="propose a pull request instead of a commit")

    command = _add(commands, "verify", scoring.verify, printing.verified)
    command.add_argument("repo", metavar="REPO[@REV]", help="a model on the Hub with published results")
    command.add_argument("--bench", required=True, help="REPO@REV, or a folder with <domain>.parquet")
    command.add_argument("--rerun", type=int, default=0, metavar="N", help="scenes per subset to run again (0)")
    command.add_argument("--out", type=Path, metavar="DIR", help="where records for the leaderboard go")
    command.add_argument("--seed", type=int, default=0, help="which scenes are run again; take one of your own (0)")


def _pipeline_commands(commands: Any) -> None:
    command = _add(commands, "run", calls.run, printing.run)
    command.add_argument("pipeline", type=Path, help="a pipeline YAML file")
    _pipeline_options(command)

    command = _add(
        commands, "quickstart", calls.run, printing.run, "The whole path on made-up feedback, in a few minutes."
    )
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


def _answering(command: argparse.ArgumentParser) -> None:
    command.add_argument("--backend", default="transformers", choices=("transformers", "vllm", "openai"),
                         help="the engine; openai asks a server at OPENAI_BASE_URL (transformers)")  # fmt: skip
    command.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"),
                         help="of the weights, with transformers (float32)")  # fmt: skip


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
        "--price-per-hour", type=values.price, metavar="P", help="of this machine, to show what 1000 scenes cost"
    )


def _pipeline_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--raw", nargs="+", metavar="[NAME=]PATH", help="raw folders (default: MIRROR_RAW)")
    command.add_argument("--out", type=Path, metavar="DIR", help="the run folder (default: the pipeline's)")
