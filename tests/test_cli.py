"""The command line: quick help, one-line errors, exit codes, and outputs that survive what goes wrong."""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hf_mirror import PROJECT
from hf_mirror.cli.arguments import parser

Mirror = Callable[..., Any]
Contents = Callable[[Path], dict[str, str]]


def commands(parser: argparse.ArgumentParser, prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(words, parser) of every command that does something."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield prefix, parser
    for action in below:
        for name, child in action.choices.items():
            yield from commands(child, (*prefix, name))


COMMANDS = dict(commands(parser()))


def test_the_commands_that_this_release_promises() -> None:
    assert {"build", "rationales", "read", "distill", "bench", "publish", "evaluate", "leaderboard", "run",
            "quickstart", "doctor"} <= {words[0] for words in COMMANDS}  # fmt: skip
    assert ("hub", "serve") in COMMANDS


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_help_and_json(words: tuple[str, ...], mirror: Mirror) -> None:
    answer = mirror(*words, "--help")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith(f"usage: mirror {' '.join(words)}")
    assert ("--json" in answer.out) == (words != ("hub", "serve"))
    described = COMMANDS[words].description
    assert described and described in " ".join(answer.out.split())


def test_help_answers_at_once_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom hf_mirror.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit as end:\n"
        "    assert end.code == 0\n"
        "heavy = {'torch', 'transformers', 'datasets', 'huggingface_hub', 'polars', 'pyarrow', 'numpy', 'jinja2'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(PROJECT)}, capture_output=True, text=True, timeout=60
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stderr.strip() == "[]"
    assert "build" in done.stdout
    assert after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime <= 0.5


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ([], "COMMAND"),
        (["biuld"], "biuld"),
        (["build", "movielens"], "--raw"),
        (["build", "movielens", "--raw", "RAW", "--out", "OUT", "--scenes", "many"], "many"),
        (["build", "movielens", "--raw", "RAW", "--out", "OUT", "--scenes", "3"], "scenes is 3"),
        (["build", "movielens", "--raw", "RAW", "--out", "OUT", "--regime", "matched"], "popularity_matched"),
        (["build", "movielnes", "--raw", "RAW", "--out", "OUT"], "did you mean 'movielens'"),
        (["build", "nowhere/films.py", "--raw", "RAW", "--out", "OUT"], "films.py"),
        (["build", "movielens", "--raw", "other=RAW", "--out", "OUT"], "movielens"),
        (["build", "movielens", "--raw", "RAW", "--out", "OUT", "--unknown"], "--unknown"),
        (["rationales", "RUN", "--role", "critic", "--backend", "template", "--model", "teacher"], "critic"),
        (["rationales", "RUN", "--role", "teacher", "--backend", "tempalte", "--model", "x"], "'template'"),
        (["rationales", "RUN", "--role", "teacher", "--backend", "template", "--model", "oracle"], "oracle"),
        # the beginning of an option is not the option
        (["rationales", "RUN", "--rol", "teacher", "--backend", "template", "--model", "teacher"], "--role"),
        (
            [
                "rationales",
                "RUN",
                "--role",
                "student",
                "--backend",
                "template",
                "--model",
                "x",
                "--price-per-million",
                "3",
            ],
            "two numbers, of tokens in and out",
        ),
        (
            [
                "rationales",
                "RUN",
                "--role",
                "student",
                "--backend",
                "template",
                "--model",
                "x",
                "--price-per-hour",
                "two",
            ],
            "expected a number of 0 or more",
        ),
        (["run", "nowhere.yaml"], "nowhere.yaml"),
        (["hub"], "COMMAND"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    arguments: list[str], found: str, mirror: Mirror, raw: Path, built: Path, tmp_path: Path
) -> None:
    places = {"RAW": str(raw), "OUT": str(tmp_path / "out"), "RUN": str(built), "other=RAW": f"other={raw}"}
    answer = mirror(*(places.get(word, word) for word in arguments))
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("error: ") and answer.err.count("\n") == 1
    assert found in answer.err
    assert not (tmp_path / "out").exists()


def test_an_unknown_pipeline_key_names_the_nearest(mirror: Mirror, tmp_path: Path) -> None:
    text = (PROJECT / "pipelines" / "quickstart.yaml").read_text(encoding="utf-8")
    path = tmp_path / "wrong.yaml"
    path.write_text(text.replace("builders:", "biulders:"), encoding="utf-8")
    answer = mirror("run", path, "--out", tmp_path / "out")
    assert answer.code == 2
    assert "unknown key 'biulders'; did you mean 'builders'?" in answer.err
    assert answer.err.count("\n") == 1


WRITE = ["rationales", "RUN", "--role", "teacher", "--backend", "template", "--model", "teacher"]


# What each stage says when the stage before it has not run, or its files are damaged.
@pytest.mark.parametrize(
    ("spoil", "arguments", "found"),
    [
        ("report.json", ["read", "RUN", "--backend", "template", "--model", "reader"], "mirror build"),
        ("rationales", ["read", "RUN", "--backend", "template", "--model", "reader"], "mirror rationales"),
        ("scenes/train.parquet", WRITE, "train.parquet is missing"),
        ("tables/users.parquet", WRITE, "users.parquet is missing"),
        ("readings", ["distill", "RUN"], "readings"),
        ("scenes/test.parquet", ["bench", "RUN"], "test.parquet is missing"),
        ("template.jinja", WRITE, "template.jinja"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)  # fmt: skip
def test_a_missing_input_is_one_line_and_exit_code_1(
    spoil: str, arguments: list[str], found: str, mirror: Mirror, built: Path, tmp_path: Path
) -> None:
    shutil.copytree(built, tmp_path / "run")
    spoiled = tmp_path / "run" / "movielens" / spoil
    shutil.rmtree(spoiled) if spoiled.is_dir() else spoiled.unlink()
    answer = mirror(*(tmp_path / "run" if word == "RUN" else word for word in arguments))
    assert answer.code == 1
    last = answer.err.splitlines()[-1]
    assert last.startswith("error: ") and found in last
    assert sum(line.startswith("error: ") for line in answer.err.splitlines()) == 1


def test_a_truncated_parquet_file_is_one_line(mirror: Mirror, built: Path, tmp_path: Path) -> None:
    shutil.copytree(built, tmp_path / "run")
    path = tmp_path / "run" / "movielens" / "scenes" / "train.parquet"
    path.write_bytes(path.read_bytes()[:-50])
    answer = mirror("rationales", tmp_path / "run", "--role", "teacher", "--backend", "template", "--model", "teacher")
    assert answer.code == 1
    assert "train.parquet" in answer.err.splitlines()[-1]


def test_build_answers_in_json_and_in_words(mirror: Mirror, raw: Path, tmp_path: Path) -> None:
    given = ("build", "movielens", "--raw", raw, "--scenes", 20)
    as_json = mirror(*given, "--out", tmp_path / "one", "--json")
    assert as_json.code == 0
    report = json.loads(as_json.out)["movielens"]
    assert report == json.loads((tmp_path / "one" / "movielens" / "report.json").read_text())
    assert as_json.out.count("\n") == 1
    in_words = mirror(*given[:3], f"movielens={raw}", *given[4:], "--out", tmp_path / "two")
    assert in_words.code == 0
    assert f"{report['tables']['read']:,} rows read, {report['tables']['kept']:,} kept" in in_words.out


def test_rationales_read_distill_and_bench_answer_in_json(mirror: Mirror, built: Path, tmp_path: Path) -> None:
    shutil.copytree(built, tmp_path / "run")
    run = tmp_path / "run"
    steps = [
        ("rationales", run, "--role", "teacher", "--backend", "template", "--model", "teacher", "-n", 4),
        ("read", run, "--backend", "template", "--model", "reader"),
        ("distill", run, "--size", 20),
        ("bench", run),
    ]
    for step in steps:
        answer = mirror(*step, "--json")
        assert answer.code == 0, answer.err
        assert isinstance(json.loads(answer.out), dict)
        assert mirror(*step).code == 0
    said = mirror("distill", run, "--size", 20).out
    assert said.startswith("train: 20 pairs of 20 wanted, by rule uncertainty_gap\n")
    assert "not selected" in said and "preferences.html" in said and said.count("\n") < 20


def test_doctor_answers(mirror: Mirror) -> None:
    answer = mirror("doctor", "--json")
    assert answer.code == 0
    assert json.loads(answer.out)


def test_version(mirror: Mirror) -> None:
    from hf_mirror import __version__

    answer = mirror("--version")
    assert (answer.code, answer.out) == (0, f"hf_mirror {__version__}\n")


def test_in_a_process_of_its_own_an_error_is_one_line(
    mirror_process: Mirror, built: Path, tmp_path: Path, contents: Contents
) -> None:
    """The exit code and streams as a shell sees them, for one error of each kind; earlier outputs stay."""
    shutil.copytree(built, tmp_path / "run")
    before = contents(tmp_path / "run")
    broken = tmp_path / "broken"
    shutil.copytree(PROJECT / "tests" / "fixtures" / "movielens" / "ml-1m", broken)
    (broken / "ratings.dat").write_bytes(b"1::1::five::978300000\n")
    wrong_line = mirror_process("build", "movielens", "--raw", broken, "--out", tmp_path / "run")
    assert (wrong_line.code, wrong_line.out) == (1, "")
    assert wrong_line.err.startswith(f"error: {broken / 'ratings.dat'}:1: found '1::1::five::978300000'")
    assert wrong_line.err.count("\n") == 1
    usage = mirror_process("build")
    assert (usage.code, usage.out, usage.err.count("\n")) == (2, "", 1)
    assert contents(tmp_path / "run") == before
