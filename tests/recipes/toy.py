"""A toy student, and how the tiny recipes are called for it."""

from __future__ import annotations

import json
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
