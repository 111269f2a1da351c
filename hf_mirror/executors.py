"""Many tasks on this machine or on many, by datatrove's executors: `local` processes, `slurm` or `ray`
(https://github.com/huggingface/datatrove).

A task leaves whole files or none, and does nothing where its files are there. So whatever was stopped or has failed is
run again, and what was done stays done. On Slurm and Ray all machines must see the run folder under one path.
"""

from __future__ import annotations

import inspect
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hf_mirror.errors import ConfigError, MirrorError
from hf_mirror.processes import cores

CLASSES = {"local": "LocalPipelineExecutor", "slurm": "SlurmPipelineExecutor", "ray": "RayPipelineExecutor"}
# Without this, a traceback in datatrove's logs would show what variables hold: rows of people, tokens.
QUIET = {"LOGURU_DIAGNOSE": "NO"}
OURS = ("self", "pipeline", "tasks", "depends", "logging_dir", "skip_completed")


@dataclass(frozen=True)
class Executor:
    """Where tasks run. `options` are arguments of datatrove's executor of that `kind`."""

    kind: str = "local"
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Executor:
        """`local:workers=4`, `slurm:partition=cpu,time=04:00:00,sbatch_args.account=lab` or `ray:cpus_per_task=2`."""
        kind, _, rest = text.partition(":")
        if kind not in CLASSES:
            raise ConfigError(f"executor {kind!r} is not known; choose one of {', '.join(CLASSES)}")
        known = _parameters(kind)
        options: dict[str, Any] = {}
        for entry in rest.split(",") if rest else []:
            name, equals, value = entry.partition("=")
            parameter, _, key = name.partition(".")
            if not equals or parameter not in known:
                near = get_close_matches(parameter, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
                raise ConfigError(f"executor {kind}: found {entry!r}, expected OPTION=VALUE; {hint}")
            takes_keys = "dict" in known[parameter]
            if takes_keys != bool(key):
                form = f"{parameter}.KEY=VALUE" if takes_keys else f"{parameter}=VALUE"
                raise ConfigError(f"executor {kind}: found {entry!r}, expected {form}")
            if takes_keys:
                options.setdefault(parameter, {})[key] = value
            else:
                options[parameter] = _value(kind, name, value, known[parameter])
        return cls(kind, options)


@dataclass(frozen=True, repr=False)
class Stage:
    """`count` tasks that may run at once: `work(k)` for each k below. It is sent to other processes, so its parts are
    plain values and functions of modules."""

    name: str
    count: int
    work: Callable[[int], None]

    def __repr__(self) -> str:
        """How it stands in datatrove's logs."""
        return f"{self.name}: {self.count} tasks"

    def __call__(self, data: Any, rank: int, world_size: int) -> None:
        """One task, as datatrove calls it."""
        self.work(rank)


def execute(stages: Sequence[Stage], executor: Executor, logs: Path) -> bool:
    """Runs all tasks of each stage before those of the next; datatrove's logs go to `logs/<stage>`.

    Returns False where a scheduler was given the tasks and runs them later. Elsewhere a task that fails is an error
    here.
    """
    before = None
    for stage in stages:
        folder = (logs / stage.name).resolve()
        if folder.exists():
            shutil.rmtree(folder)  # marks of an earlier attempt would stand for this one's
        arguments: dict[str, Any] = {"logging_dir": str(folder), "tasks": stage.count, "skip_completed": False}
        if executor.kind == "local":
            arguments["workers"] = min(cores(), stage.count)
        if executor.kind == "ray":
            arguments["ray_remote_kwargs"] = {"runtime_env": {"env_vars": QUIET}}
        if executor.kind == "slurm":
            activate = Path(sys.prefix) / "bin" / "activate"
            arguments |= {"job_name": f"mirror-{stage.name}", "depends": before, "qos": ""}
            arguments |= {"venv_path": str(activate)} if activate.is_file() else {}
        try:
            before = _class(executor.kind)(pipeline=[stage], **(arguments | dict(executor.options)))
        except TypeError as error:
            raise ConfigError(f"executor {executor.kind}: {str(error).partition('() ')[2] or error}") from None
        if executor.kind == "ray":
            _join_cluster()
        if executor.kind != "slurm":
            before.run()
            failed = before.get_incomplete_ranks(skip_completed=True)
            if failed:
                raise MirrorError(
                    f"{len(failed)} of {stage.count} tasks of {stage.name} failed, the first of them {failed[0]}; "
                    f"see {folder / 'logs'}, mend the cause and run the same command again"
                )
    if executor.kind == "slurm" and before is not None:
        try:
            before.run()
        except FileNotFoundError:
            raise ConfigError("executor slurm: no sbatch on this machine; run this where jobs are submitted") from None
    return executor.kind != "slurm"


def _class(kind: str) -> Any:
    os.environ.update(QUIET)  # read when datatrove is imported, here and in the processes that are started
    try:
        import datatrove.executor
    except ImportError:
        raise ConfigError("executors need datatrove: pip install 'hf-mirror[scale]'") from None
    return getattr(datatrove.executor, CLASSES[kind])


def _parameters(kind: str) -> dict[str, str]:
    """The options that a person may give, with their types as text."""
    parameters = inspect.signature(_class(kind).__init__).parameters.values()
    return {p.name: str(p.annotation) for p in parameters if p.name not in OURS}


def _value(kind: str, name: str, text: str, annotation: str) -> Any:
    for word, convert in (("bool", _flag), ("int", int), ("float", float)):
        if word in annotation:
            try:
                return convert(text)
            except ValueError:
                raise ConfigError(f"executor {kind}: found {name}={text}, expected a value of {word}") from None
    return text


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError
    return text == "true"


def _join_cluster() -> None:
    """The cluster that RAY_ADDRESS names or that this machine belongs to; else one of this machine alone."""
    try:
        import ray
    except ImportError:
        raise ConfigError("executor ray needs Ray: pip install 'hf-mirror[ray]'") from None
    if not ray.is_initialized():
        ray.init(log_to_driver=False)
