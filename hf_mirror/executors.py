"""Many tasks on this machine or on many: processes of our own, or datatrove's Slurm and Ray executors
(https://github.com/huggingface/datatrove).

A task leaves whole files or none, and does nothing where its files are there. So whatever was stopped or has failed is
run again, and what was done stays done. On Slurm and Ray all machines must see the run folder under one path.
"""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hf_mirror.errors import ConfigError, MirrorError, cause
from hf_mirror.processes import cores, each_alone

# The options that a person may give; on Slurm and Ray they are arguments of datatrove's executor.
OPTIONS: dict[str, dict[str, type]] = {
    "local": {"workers": int},
    "slurm": {
        "partition": str,
        "time": str,
        "qos": str,
        "cpus_per_task": int,
        "mem_per_cpu_gb": int,
        "gpus_per_task": int,
        "workers": int,
        "max_array_size": int,
        "condaenv": str,
        "venv_path": str,
        "sbatch_args": dict,
    },
    "ray": {"workers": int, "cpus_per_task": int, "mem_per_cpu_gb": float, "gpus_per_task": int, "time": int},
}
REQUIRED = {"slurm": ("partition", "time")}
# Without this, a traceback in datatrove's logs would show what variables hold: rows of people, tokens.
QUIET = {"LOGURU_DIAGNOSE": "NO"}
SHOWN = 5  # causes that an error tells, if many tasks fail


@dataclass(frozen=True)
class Executor:
    """Where tasks run: `kind` and its `OPTIONS`."""

    kind: str = "local"
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Executor:
        """`local:workers=4`, `slurm:partition=cpu,time=04:00:00,sbatch_args.account=lab` or `ray:cpus_per_task=2`."""
        kind, _, rest = text.partition(":")
        if kind not in OPTIONS:
            raise ConfigError(f"executor {kind!r} is not known; choose one of {', '.join(OPTIONS)}")
        options: dict[str, Any] = {}
        for entry in rest.split(",") if rest else []:
            name, equals, value = entry.partition("=")
            name, dot, key = name.partition(".")
            if not equals or name not in OPTIONS[kind]:
                near = get_close_matches(name, OPTIONS[kind], n=1)
                hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(OPTIONS[kind])}"
                raise ConfigError(f"executor {kind}: found {entry!r}, expected OPTION=VALUE; {hint}")
            wanted = OPTIONS[kind][name]
            if (wanted is dict) != bool(key) or bool(dot) != bool(key):
                form = f"{name}.KEY=VALUE" if wanted is dict else f"{name}=VALUE"
                raise ConfigError(f"executor {kind}: found {entry!r}, expected {form}")
            if wanted is dict:
                options.setdefault(name, {})[key] = value
            else:
                options[name] = _value(kind, name, value, wanted)
        for name in REQUIRED.get(kind, ()):
            if name not in options:
                raise ConfigError(f"executor {kind} needs {name}; give --executor {kind}:{name}=…")
        return cls(kind, options)


def _value(kind: str, name: str, text: str, wanted: type) -> Any:
    if wanted is str:
        return text
    try:
        number = wanted(text)
    except ValueError:
        number = 0
    if not number > 0:
        raise ConfigError(f"executor {kind}: found {name}={text}, expected a number above 0")
    return number


@dataclass(frozen=True)
class Stage:
    """`count` tasks that may run at once: `work(k)` for each k below. It is sent to other processes, so its parts are
    plain values and functions of modules. `labels` say whose a task is, where that is not plain."""

    name: str
    count: int
    work: Callable[[int], None]
    labels: tuple[str, ...] = ()


def execute(stages: Sequence[Stage], executor: Executor, logs: Path) -> bool:
    """Runs all tasks of each stage before those of the next; what datatrove logs goes to a new folder below `logs`.

    Returns False where a scheduler was given the tasks and runs them later. Elsewhere a task that fails is an error
    here, once all others were tried; a task says itself what an earlier stage has left it without.
    """
    if executor.kind == "slurm":
        if any(letter.isspace() for letter in str(logs.absolute())):
            raise ConfigError(f"executor slurm: {logs} has a space in it, which Slurm's scripts do not take")
        _submit(stages, executor.options, _log_folder(logs))
        return False
    failed: list[tuple[Stage, dict[int, str]]] = []
    for stage in stages:
        if executor.kind == "ray":
            failed.append((stage, _on_ray(stage, executor.options, _log_folder(logs) / stage.name)))
        else:
            workers = executor.options.get("workers", cores())
            failed.append((stage, each_alone(stage.work, stage.count, workers)))
    for stage, causes in failed:  # those of later stages follow from the first
        if causes:
            named = (f"{stage.labels[task]}: {text}" if stage.labels else text for task, text in causes.items())
            different = list(dict.fromkeys(named))
            more = [f"{len(different) - SHOWN} more causes"] if len(different) > SHOWN else []
            all_causes = "; ".join([*different[:SHOWN], *more])
            if stage.count == 1:
                raise MirrorError(all_causes)
            raise MirrorError(
                f"{len(causes)} of {stage.count} tasks of {stage.name} failed: {all_causes} (all others were tried; "
                "mend this and run it again)"
            )
    return True


def _log_folder(logs: Path) -> Path:
    """A folder for what is sent away now: nothing of what was sent earlier and still runs is in it."""
    folder = logs.absolute() / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
    folder.mkdir(parents=True)
    return folder


@dataclass(frozen=True, repr=False)
class _Task:
    """A stage's work as datatrove calls it. The cause of a failure goes to `errors`, for whoever waits for it."""

    stage: Stage
    errors: Path

    def __repr__(self) -> str:
        """How it stands in datatrove's logs."""
        return f"{self.stage.name}: {self.stage.count} tasks"

    def __call__(self, data: Any, rank: int, world_size: int) -> None:
        try:
            self.stage.work(rank)
        except Exception as error:
            self.errors.mkdir(parents=True, exist_ok=True)
            (self.errors / f"{rank:05d}").write_text(cause(error), encoding="utf-8")
            raise


def _submit(stages: Sequence[Stage], options: Mapping[str, Any], logs: Path) -> None:
    """Hands a chain of job arrays to Slurm."""
    slurm = _datatrove().SlurmPipelineExecutor
    activate = Path(sys.prefix) / "bin" / "activate"
    arguments = {"qos": "", "venv_path": shlex.quote(str(activate)) if activate.is_file() else None} | dict(options)
    before = None
    for stage in stages:
        folder = logs / stage.name
        # A later stage runs even if a task before it failed: it does what can be done without it.
        before = slurm(
            pipeline=[_Task(stage, folder / "errors")], tasks=stage.count, logging_dir=str(folder), depends=before,
            job_name=f"mirror-{stage.name}", run_on_dependency_fail=True, skip_completed=False, **arguments,
        )  # fmt: skip
    try:
        if before is not None:
            before.launch_job()
    except FileNotFoundError:
        shutil.rmtree(logs)
        raise ConfigError("executor slurm: no sbatch on this machine; run this where jobs are submitted") from None
    except subprocess.CalledProcessError as error:
        raise MirrorError(f"sbatch refused with exit code {error.returncode}; its own words are above") from None
    except IndexError:
        raise MirrorError("sbatch said nothing, where `Submitted batch job N` was expected") from None


def _on_ray(stage: Stage, options: Mapping[str, Any], folder: Path) -> dict[int, str]:
    """The causes of failures by task. The cluster is the one that RAY_ADDRESS names or that this machine belongs to;
    else one of this machine alone."""
    try:
        import ray
    except ImportError:
        raise ConfigError("executor ray needs Ray: pip install -e '.[ray]'") from None
    errors = folder / "errors"
    ours = {
        "logging_dir": str(folder),
        "skip_completed": False,
        "ray_remote_kwargs": {"runtime_env": {"env_vars": QUIET}},
    }
    executor = _datatrove().RayPipelineExecutor([_Task(stage, errors)], tasks=stage.count, **ours, **options)
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    executor.run()
    left = executor.get_incomplete_ranks(skip_completed=True)
    return {task: _read(errors / f"{task:05d}") or f"task {task} was stopped; see {folder / 'logs'}" for task in left}


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _datatrove() -> Any:
    os.environ.update(QUIET)  # read when datatrove is imported, here and in the processes that are started
    try:
        import datatrove.executor
        from loguru import logger
    except ImportError:
        raise ConfigError("executors need datatrove: pip install -e '.[scale]'") from None
    logger.disable("datatrove")  # here; the tasks' logs keep it
    return datatrove.executor
