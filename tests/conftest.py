"""Made-up feedback, built once per test run. What these fixtures return is shared: copy a folder before changing it."""

from __future__ import annotations

import hashlib
import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from hf_mirror import PROJECT, backends, build, cli, domains, rationales, splits, tables
from hf_mirror.world import World


@dataclass(frozen=True)
class Crowd:
    """A larger made-up sample, as `mirror build` sees it before it draws scenes."""

    log: tables.Log
    split: splits.Split
    world: World


@dataclass(frozen=True)
class Answer:
    """What a command left: its exit code and both streams."""

    code: int
    out: str
    err: str


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The module whose shared folder takes minutes comes first: towards the end workers take tests from each other, and
    each would make that folder for itself."""
    items.sort(key=lambda item: item.path.name != "test_run.py")


@pytest.fixture(scope="session")
def movielens() -> domains.Domain:
    return domains.load("movielens")


@pytest.fixture(scope="session")
def generate() -> Callable[..., None]:
    """The generator of made-up feedback: `generate(out, seed, users, films, ratings_per_user)`."""
    return domains.import_file(PROJECT / "dataset_builders" / "sample" / "movielens.py").generate


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory, generate: Callable[..., None]) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    generate(folder, seed=1, users=150, films=120, ratings_per_user=25)
    return folder


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, raw: Path, movielens: domains.Domain) -> Path:
    """A run folder with 200 scenes wanted, four template decisions per scene and role, and their readings."""
    folder = tmp_path_factory.mktemp("built")
    build.build(movielens, raw, folder, build.BuildSettings(scenes=200))
    for role in rationales.ROLES:
        rationales.write(folder, role, backends.load("template", role), rationales.WriteSettings(n=4))
    rationales.read(folder, backends.load("template", "reader"))
    return folder


@pytest.fixture(scope="session")
def crowd(tmp_path_factory: pytest.TempPathFactory, generate: Callable[..., None], movielens: domains.Domain) -> Crowd:
    folder = tmp_path_factory.mktemp("crowd")
    generate(folder, seed=2, users=1500, films=240, ratings_per_user=26)
    log = tables.prepare(movielens, folder, movielens.detect(folder))
    split = splits.by_arrival(*(log.events[name].to_numpy() for name in ("user", "time", "positive")))
    return Crowd(log, split, World.of("films", log, split))


@pytest.fixture
def mirror(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Runs a command in this process. What is not an error of ours escapes, as its traceback would."""

    def run(*arguments: object) -> Answer:
        capsys.readouterr()
        code = 0
        try:
            cli.main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(bool(end.code))
        out, err = capsys.readouterr()
        return Answer(code, out, err)

    return run


@pytest.fixture(scope="session")
def mirror_process() -> Callable[..., Answer]:
    """Runs a command in a process of its own, with extra environment variables."""

    def run(*arguments: object, **environment: str) -> Answer:
        done = subprocess.run(
            [sys.executable, "-c", "from hf_mirror.cli import main; main()", *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": str(PROJECT), **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, str]]:
    """The hash of every file below a folder, by relative path: equal means nothing was touched."""

    def of(folder: Path) -> dict[str, str]:
        return {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    return of


@pytest.fixture(scope="session")
def with_fault() -> Callable[[ModuleType, str, str], ModuleType]:
    """`module` as it would be with one line wrong: the copy in which `right` is replaced by `wrong`."""

    def copy(module: ModuleType, right: str, wrong: str) -> ModuleType:
        source = inspect.getsource(module)
        assert source.count(right) == 1, f"{right!r} is not one line of {module.__name__} any more; update this fault"
        faulty = ModuleType(module.__name__)
        faulty.__file__ = module.__file__
        exec(compile(source.replace(right, wrong), f"faulty {module.__name__}", "exec"), faulty.__dict__)
        return faulty

    return copy


SBATCH = """#!{python}
# Slurm's part, on one machine: keeps the script, and runs it for every place of its array.
import os, re, subprocess, sys
script = open(sys.argv[-1]).read()
open(os.environ["SUBMITTED"], "a").write(" ".join(sys.argv[1:-1]) + "\\n" + script)
last = re.search(r"--array=0-(\\d+)", script)
# The last job only adds up datatrove's own statistics.
for place in range(int(last[1]) + 1) if "launch_pickled_pipeline" in script else []:
    variables = {{**os.environ, "SLURM_ARRAY_TASK_ID": str(place), "SLURM_NODELIST": "here", "SLURM_JOB_ID": "7"}}
    done = subprocess.run(["bash", sys.argv[-1]], env=variables, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
print("Submitted batch job 7")
"""
SRUN = """#!/bin/bash
while [[ $1 == -* ]]; do [[ $1 == -n ]] && shift; shift; done
exec "$@"
"""


@pytest.fixture
def slurm(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands that stand in for Slurm's on one machine. Returns the file that every submission is added to."""
    commands = tmp_path_factory.mktemp("slurm")
    for name, text in (
        ("sbatch", SBATCH.replace("\\\\", "\\").format(python=sys.executable)),
        ("srun", SRUN),
        ("scontrol", "#!/bin/bash\necho here\n"),
    ):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setenv("SUBMITTED", str(commands / "submitted"))
    return commands / "submitted"
