"""Recipes are programs of their own: this starts one under `accelerate launch` and passes on what it says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from hf_mirror import PROJECT
from hf_mirror.errors import ConfigError, MirrorError
from hf_mirror.progress import say


def train(method: str, config: Path, accelerate: str, output: Path, arguments: Sequence[str], log: Path) -> None:
    """Trains with `recipes/<method>.py --config CONFIG` into `output`, which is made anew.

    `accelerate` names a file of recipes/accelerate_configs. Everything the recipe prints goes to standard error and
    into `log`. Raises MirrorError with the recipe's own last word if it fails.
    """
    recipe = PROJECT / "recipes" / f"{method}.py"
    launcher = PROJECT / "recipes" / "accelerate_configs" / f"{accelerate}.yaml"
    for path in (recipe, config, launcher):
        if not path.is_file():
            raise ConfigError(f"{path} is missing; name a student of recipes/ and one of its accelerate configs")
    shutil.rmtree(output, ignore_errors=True)
    options = ["--quiet", "--num_cpu_threads_per_process", str(os.cpu_count() or 1), "--config_file", str(launcher)]
    run = [*options, str(recipe), "--config", str(config), "--output_dir", str(output), *arguments]
    say(f"  accelerate launch {' '.join(run)}")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "accelerate.commands.launch", *run],
            env={
                # Spinning threads make a busy machine several times slower.
                "OMP_WAIT_POLICY": "PASSIVE",
                **os.environ,
                "TOKENIZERS_PARALLELISM": "false",
                "PYTHONUNBUFFERED": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
        )
        assert process.stdout is not None
        try:
            while chunk := process.stdout.read(65_536):
                file.write(chunk)
                sys.stderr.write(chunk.decode("utf-8", "replace"))
                sys.stderr.flush()
        except BaseException:
            process.terminate()  # nobody is left to wait for it
            raise
    if process.wait():
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        said = next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1] if lines else "nothing")
        raise MirrorError(f"training failed: {said.removeprefix('error: ')} (all it said is in {log})")
