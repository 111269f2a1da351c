"""Checkpoints: going on with a run that was stopped, from the last one that is whole, and only with the same run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from hf_mirror import files
from hf_mirror.errors import ConfigError, DataError

PLAN = "training_plan.json"


def whole(out: Path) -> list[Path]:
    """The checkpoints in `out` that were written to their end, oldest first: the trainer's state is written last."""
    found = [path for path in out.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    return sorted(filter(_is_whole, found), key=lambda path: int(path.name.removeprefix("checkpoint-")))


def _is_whole(path: Path) -> bool:
    try:
        json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def step(checkpoint: str) -> int:
    """The steps that were done when it was saved; its folder may have any name."""
    return int(files.read_json(Path(checkpoint) / "trainer_state.json")["global_step"])


def start(training: Any, plan: dict[str, Any]) -> str | None:
    """The checkpoint to go on from, or None for the beginning.

    `resume_from_checkpoint` is a checkpoint, or `true` for the last one in `output_dir`, also where there is none yet.
    `plan`, all that decides what is learnt, is kept beside the checkpoints. Raises ConfigError where the plan has
    changed since, or where `output_dir` holds what would be mixed up with another run.
    """
    asked, out = training.resume_from_checkpoint, Path(training.output_dir)
    plan = json.loads(files.canonical_json(plan))
    last = whole(out)[-1:]
    if asked is None or str(asked).lower() == "false":
        if last:
            raise ConfigError(
                f"{out} holds {last[0].name} of a run that did not end; set resume_from_checkpoint: true to go on with "
                "it, or choose another output_dir"
            )
    elif str(asked).lower() != "true":
        last = [Path(asked)]
        if not _is_whole(last[0]):
            raise DataError(f"resume_from_checkpoint: {asked} is no whole checkpoint; name another, or set it to true")
    elif not last and (out / "train_report.json").is_file():
        raise ConfigError(f"{out} holds a finished run; leave resume_from_checkpoint out to train anew")
    if last and (last[0].parent / PLAN).is_file():
        before = files.read_json(last[0].parent / PLAN)
        changed = sorted(name for name in before.keys() | plan.keys() if before.get(name) != plan.get(name))
        if changed:
            raise ConfigError(
                f"{last[0]} is of another run, which differs in {', '.join(changed)}; resume with the same settings "
                "and data, or choose another output_dir"
            )
    if training.process_index == 0:
        drop_half_written(out)
        files.write_json(out / PLAN, plan)
    return str(last[0]) if last else None


def drop_half_written(out: Path) -> None:
    """Removes checkpoints that were cut short."""
    kept = whole(out)
    for path in out.glob("checkpoint-*"):
        if path not in kept:
            shutil.rmtree(path)


def drop_all(out: Path) -> None:
    """Removes what only going on needs, optimizer states (pickles) among it."""
    for path in out.glob("checkpoint-*"):
        shutil.rmtree(path)
    (out / PLAN).unlink(missing_ok=True)
