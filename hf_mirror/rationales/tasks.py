"""Writing and reading by executors (executors.py): tasks that load the engine once and do every n-th shard."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from hf_mirror.backends import Engine
from hf_mirror.errors import ConfigError
from hf_mirror.executors import Executor, Stage, execute
from hf_mirror.rationales.notes import alone
from hf_mirror.rationales.reading import ReadSettings, prepare_read, read
from hf_mirror.rationales.shards import Part, domain_folders
from hf_mirror.rationales.writing import WriteSettings, prepare_write, write


def write_by(
    executor: Executor, tasks: int, logs: Path, directory: Path, role: str, engine: Engine, settings: WriteSettings
) -> bool:
    """`write` in so many tasks. Returns False where a scheduler will run them later (executors.execute)."""
    work = _absolute(directory), role, engine, settings
    return _execute(executor, tasks, logs, "write", partial(_prepare_write, *work), partial(_write, tasks, *work))


def read_by(
    executor: Executor, tasks: int, logs: Path, directory: Path, engine: Engine, settings: ReadSettings
) -> bool:
    """`read` in so many tasks. Returns False where a scheduler will run them later (executors.execute)."""
    work = _absolute(directory), engine, settings
    return _execute(executor, tasks, logs, "read", partial(_prepare_read, *work), partial(_read, tasks, *work))


def _execute(
    executor: Executor, tasks: int, logs: Path, name: str, prepare: partial[None], work: partial[None]
) -> bool:
    if tasks < 1:
        raise ConfigError(f"tasks is {tasks}; expected 1 or more")
    return execute([Stage("prepare", 1, prepare), Stage(name, tasks, work)], executor, logs)


def _absolute(directory: Path) -> Path:
    """Tasks may run in another folder. No domain is better said before anything is sent away."""
    domain_folders(directory)
    return directory.absolute()


def _prepare_write(directory: Path, role: str, engine: Engine, settings: WriteSettings, task: int) -> None:
    with alone(directory, role, Part()):
        prepare_write(directory, role, engine.load(), settings, Part())


def _write(tasks: int, directory: Path, role: str, engine: Engine, settings: WriteSettings, task: int) -> None:
    write(directory, role, engine.load(), settings, part=Part(task, tasks))


def _prepare_read(directory: Path, engine: Engine, settings: ReadSettings, task: int) -> None:
    with alone(directory, "reader", Part()):
        prepare_read(directory, engine.load(), settings, Part())


def _read(tasks: int, directory: Path, engine: Engine, settings: ReadSettings, task: int) -> None:
    read(directory, engine.load(), settings, part=Part(task, tasks))
