"""Runs `evals/tasks.py` in a process of its own, and follows it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hf_mirror import PROJECT, errors
from hf_mirror.alignment import Row
from hf_mirror.errors import ConfigError, DataError
from hf_mirror.files import read_json, write_json, write_rows
from hf_mirror.progress import progress
from hf_mirror.schema import BENCH

DONE = re.compile(r"mirror: (\d+) of (\d+) rows")


@dataclass(frozen=True)
class Job:
    """Who answers, and how: `model` as the engine takes it, `name` as people know it."""

    model: str
    name: str
    revision: str | None
    backend: str
    mode: str
    dtype: str


def ask(job: Job, parts: Mapping[str, Sequence[Row]], log: Path, journal: Path) -> dict[str, Any]:
    """The job's answers to the rows of all subsets: `device`, the `revision` that answered, and `records`, one a row.

    What the process prints stays in `log`; its errors of ours are raised here again.
    """
    if not (PROJECT / "evals" / "tasks.py").is_file():
        raise ConfigError(f"{PROJECT}/evals/tasks.py is missing; install hf_mirror from a checkout (pip install -e .)")
    with tempfile.TemporaryDirectory(prefix="mirror-evaluate-") as name:
        scratch = Path(name)
        for subset, rows in parts.items():
            write_rows(scratch / "bench" / f"{subset}.parquet", rows, BENCH)
        files = {what: str(scratch / f"{what}.json") for what in ("answers", "error")}
        local = {"journal": str(journal.resolve()), "scratch": str(scratch / "lighteval")}
        model = str(Path(job.model).resolve()) if Path(job.model).is_dir() else job.model
        write_json(scratch / "job.json", asdict(job) | {"model": model, "subsets": list(parts)} | files | local)
        environment = os.environ | {
            "MIRROR_BENCH": str(scratch / "bench"),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")])),
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_CACHE": str(scratch / "datasets"),
            "GIT_PYTHON_REFRESH": "quiet",
        }
        command = [sys.executable, "-m", "evals.tasks", str(scratch / "job.json")]
        status, last = _follow(command, scratch, environment, log, sum(map(len, parts.values())))
        if Path(files["error"]).is_file():
            error = read_json(Path(files["error"]))
            raise getattr(errors, error["kind"])(error["message"])
        if status:
            raise DataError(f"lighteval stopped on {job.name}: {last}; the whole log is {log}")
        return dict(read_json(Path(files["answers"])))


def _follow(command: list[str], cwd: Path, environment: dict[str, str], log: Path, rows: int) -> tuple[int, str]:
    """Runs a command, keeps its output in `log` and shows how far it is. Returns its status and its last line."""
    last, shown = "", 0
    with (
        log.open("w", encoding="utf-8") as file,
        progress(rows, "  lighteval", "row") as advance,
        subprocess.Popen(
            command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
        ) as process,
    ):
        try:
            for line in process.stdout or ():  # universal newlines: the \r of a progress bar ends a line too
                file.write(line)
                last = line.strip() or last
                if step := DONE.fullmatch(line.strip()):
                    advance(int(step[1]) - shown)
                    shown = int(step[1])
        except BaseException:
            process.kill()
            raise
    return process.returncode, last
