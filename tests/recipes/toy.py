"""A toy student, and how the tiny recipes are called for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHAPE = {
    "model_type": "llama",
    "vocab_size": 700,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
STUDENT = {"num_train_epochs": 3, "per_device_train_batch_size": 8, "logging_steps": 4}


def flags(method: str, run: Path, out: Path, **changes: object) -> list[str]:
    settings = {"dataset": run, "output_dir": out, "num_train_epochs": 1, "max_length": 512, **changes}
    found = ["--config", str(ROOT / "recipes" / "tiny" / f"{method}.yaml")]
    return found + [part for name, value in settings.items() for part in (f"--{name}", *str(value).split())]


def reported(out: Path) -> dict:
    return json.loads((out / "train_report.json").read_text())


def in_two_processes(script: Path, *arguments: str) -> None:
    """Launches a script as recipes/README.md does, with the configuration for two processes on CPUs."""
    config = ROOT / "recipes" / "accelerate_configs" / "cpu_ddp.yaml"
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config), str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run([*launch, *arguments], cwd=ROOT, env=environment, check=True, timeout=240, capture_output=True)
