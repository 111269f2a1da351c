"""Long counts of faults, for `make soak`; a few of each run in every `make test`."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hf_mirror import PROJECT, domains, tables
from hf_mirror.errors import DataError

LAYOUTS = sorted((PROJECT / "tests" / "fixtures" / "movielens").iterdir())
JUNK = (
    b"\0",
    b"\xff",
    b"::",
    b"\n",
    b"\r\n",
    b'"',
    b",",
    b"-1",
    b"99999999999999999999",
    b"nan",
    b"\t" * 50,
    b"x" * 5000,
)
WRITER = """
import pathlib, sys
from hf_mirror import backends, rationales
rationales.shards.SHARD_SCENES = 4
rationales.write(pathlib.Path(sys.argv[1]), "teacher", backends.load("template", "teacher"),
                 rationales.WriteSettings(n=40))
"""


def damage(folder: Path, rng: random.Random) -> None:
    """Cuts, doubles, swaps or overwrites a random piece of a random raw file."""
    path = rng.choice(sorted(path for path in folder.iterdir() if path.suffix != ".md"))
    data = bytearray(path.read_bytes())
    start = rng.randrange(len(data) + 1)
    end = min(len(data), start + rng.randrange(1, 40))
    piece = bytes(data[start:end])
    data[start:end] = rng.choice([b"", piece * 2, piece[::-1], rng.choice(JUNK), bytes([rng.randrange(256)])])
    path.write_bytes(bytes(data[: rng.randrange(len(data) + 1)] if rng.random() < 0.1 else data))


def check_damaged(seed: int, folder: Path) -> None:
    """A damaged folder is refused in one line, or every row that it gives is accounted for."""
    rng = random.Random(seed)
    shutil.copytree(rng.choice(LAYOUTS), folder)
    for _ in range(rng.randrange(1, 4)):
        damage(folder, rng)
    domain = domains.load("movielens")
    try:
        found = tables.prepare(domain, folder, domain.detect(folder))
    except DataError as error:
        assert "\n" not in str(error).strip() and str(folder) in str(error), error
        return
    assert found.read == found.events.height + sum(found.dropped.values())
    assert found.events["time"].null_count() == found.events["positive"].null_count() == 0


def check_kills(kills: int, folder: Path, contents: Callable[[Path], dict[str, str]]) -> None:
    """A writer that is killed over and over, at random moments, ends with the bytes of one left alone."""
    rng = random.Random(0)
    out = folder / "movielens" / "rationales" / "teacher"
    shutil.rmtree(out)
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    for _ in range(kills):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, folder], env=environment)
        time.sleep(rng.uniform(0.5, 2.0))
        writer.send_signal(signal.SIGKILL)
        writer.wait(60)
        if rng.random() < 0.3 and (shards := sorted(out.glob("*.parquet"))):
            rng.choice(shards).unlink()  # so that there is work left for the next kill
    subprocess.run([sys.executable, "-c", WRITER, folder], env=environment, check=True, timeout=120)
    resumed = {name: data for name, data in contents(out).items() if ".part" not in name}
    shutil.rmtree(out)
    subprocess.run([sys.executable, "-c", WRITER, folder], env=environment, check=True, timeout=120)
    assert resumed == contents(out)


def check_kills_of_tasks(kills: int, folder: Path, site: Path, contents: Callable[[Path], dict[str, str]]) -> None:
    """As `check_kills`, of the commands that write and read in tasks of two processes at once."""
    rng = random.Random(1)
    site.mkdir()
    # Imported by every process as it starts, those of tasks included.
    (site / "sitecustomize.py").write_text("import hf_mirror.rationales.shards as room\nroom.SHARD_SCENES = 4\n")
    environment = {**os.environ, "PYTHONPATH": f"{PROJECT}{os.pathsep}{site}"}
    tasks = ["--backend", "template", "--executor", "local:workers=2", "--tasks", "3", "--model"]
    write = ["rationales", str(folder), "--role", "teacher", "-n", "30", *tasks, "teacher"]
    read = ["read", str(folder), "--masked", *tasks, "reader"]
    program = [sys.executable, "-c", "from hf_mirror.cli import main; main()"]
    student = [*program, "rationales", str(folder), "--role", "student", "-n", "30", *tasks, "student"]
    subprocess.run(student, env=environment, check=True, timeout=120, stdout=subprocess.DEVNULL)
    for command, out in ((write, "rationales/teacher"), (read, "readings/teacher")):
        mirror, made = (
            [*program, *command],
            folder / "movielens" / out,
        )
        shutil.rmtree(made, ignore_errors=True)
        for _ in range(kills):
            running = subprocess.Popen(mirror, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(rng.uniform(0.5, 4.0))
            running.send_signal(signal.SIGKILL)
            running.wait(60)
            if shards := sorted(made.glob("*.parquet")):
                for shard in rng.sample(shards, len(shards) // 2):  # so that there is work left for the next kill
                    shard.unlink(missing_ok=True)
        subprocess.run(mirror, env=environment, check=True, timeout=120, stdout=subprocess.DEVNULL)
        resumed = {name: data for name, data in contents(made).items() if ".part" not in name}
        shutil.rmtree(made)
        subprocess.run(mirror, env=environment, check=True, timeout=120, stdout=subprocess.DEVNULL)
        assert resumed == contents(made)
        assert len(resumed) > 40


@pytest.fixture
def run_folder(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built, tmp_path / "run")
    (tmp_path / "run" / "movielens" / "rationales" / "teacher").mkdir(parents=True, exist_ok=True)
    return tmp_path / "run"


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_raw_folder(seed: int, tmp_path: Path) -> None:
    check_damaged(seed, tmp_path / "raw")


def test_a_few_kills(run_folder: Path, contents: Callable[[Path], dict[str, str]]) -> None:
    check_kills(2, run_folder, contents)


@pytest.mark.soak
def test_thousands_of_damaged_raw_folders(tmp_path: Path) -> None:
    for seed in range(40, 3040):
        check_damaged(seed, tmp_path / str(seed))
        shutil.rmtree(tmp_path / str(seed))


@pytest.mark.soak
def test_a_hundred_kills_of_tasks(run_folder: Path, tmp_path: Path, contents: Callable[[Path], dict[str, str]]) -> None:
    check_kills_of_tasks(50, run_folder, tmp_path / "site", contents)


@pytest.mark.soak
def test_a_hundred_kills(run_folder: Path, contents: Callable[[Path], dict[str, str]]) -> None:
    check_kills(100, run_folder, contents)
