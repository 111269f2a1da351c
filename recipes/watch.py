"""What our trainers do beside TRL's: stop at numbers that are none, keep broken weights off the disk, read choices."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from safetensors import SafetensorError

from hf_mirror.errors import ConfigError, DataError, MirrorError
from recipes import checkpoints
from recipes.choices import Choices
from recipes.data import token_ids

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What safetensors and torch make of such an error number.
SAYS_NO_SPACE = ("No space left on device", "Disk quota exceeded", "File too large", "PytorchStreamWriter failed")


class Watch:
    """To be put before a trainer of TRL: `class Trainer(Watch, SFTTrainer)`."""

    rows: Dataset
    answers: tuple[str, ...]
    choices: Choices | None

    def training_step(self, model: Any, inputs: dict[str, Any], *more: Any, **named: Any) -> torch.Tensor:
        """One step as ever; DataError with the batch's rows if its loss is not finite."""
        batch = dict(inputs)
        loss: torch.Tensor = super().training_step(model, inputs, *more, **named)  # type: ignore[misc]
        if not torch.isfinite(loss):
            trainer: Any = self
            raise DataError(
                f"the loss became {loss.item()} in step {trainer.state.global_step + 1}, on rows "
                f"{', '.join(self.names(batch))}; "
                "nothing of it was saved; lower learning_rate, or look at these rows"
            )
        return loss

    def names(self, batch: dict[str, Any]) -> list[str]:
        """Which rows are in a batch."""
        trainer: Any = self
        return name_rows(self.rows, self.answers, trainer.processing_class, sequences(batch))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        check_weights(model)
        super()._save_checkpoint(model, trial)  # type: ignore[misc]
        trainer: Any = self
        if trainer.is_world_process_zero():
            for path in Path(trainer.args.output_dir).glob("checkpoint-*/training_args.bin"):
                path.unlink()  # a pickle that nobody reads

    def evaluation_loop(self, *given: Any, **named: Any) -> Any:
        """The trainer's own numbers, and how well the choices of validation scenes are told."""
        output = super().evaluation_loop(*given, **named)  # type: ignore[misc]
        if self.choices is not None:
            output.metrics.update(self.choices.read(self))
        return output


def check_weights(model: Any) -> None:
    """DataError if a trained weight is no number: a finite loss can be followed by a gradient that is not."""
    for name, weight in model.named_parameters():
        local = weight.to_local() if hasattr(weight, "to_local") else weight
        if weight.requires_grad and not torch.isfinite(local).all():
            raise DataError(f"weight {name} became NaN or infinite; nothing of it was saved; lower learning_rate")


def sequences(batch: dict[str, Any]) -> list[tuple[int, ...]]:
    """The token ids of each row in a batch, whether they are padded or packed one after the other."""
    ids, mask = batch["input_ids"].cpu(), batch.get("attention_mask")
    if mask is not None:
        return [tuple(row[keep.bool()].tolist()) for row, keep in zip(ids, mask.cpu(), strict=True)]
    begins = torch.nonzero(batch["position_ids"].cpu().flatten() == 0).flatten().tolist()
    return [tuple(part.tolist()) for part in torch.tensor_split(ids.flatten(), begins[1:])]


def name_rows(rows: Dataset, answers: tuple[str, ...], tokenizer: Any, found: list[tuple[int, ...]]) -> list[str]:
    """Which of `rows` these tokens are: `scene_id` where there is one, else the row's number."""
    names = rows["scene_id"] if "scene_id" in rows.column_names else [f"number {i}" for i in range(len(rows))]
    known = {tuple(ids): name for each in answers for name, ids in zip(names, token_ids(rows, each, tokenizer))}  # noqa: B905
    return list(dict.fromkeys(known[ids] for ids in found if ids in known))


@contextmanager
def one_line_failures(training: Any) -> Iterator[None]:
    """What a machine's limits and a wrong setting look like to torch and TRL, in a line that names the knob."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise _out_of_memory(training) from None
    except (OSError, RuntimeError, SafetensorError) as error:
        text = " ".join(str(error).split())
        if getattr(error, "errno", None) in NO_SPACE or any(words in text for words in SAYS_NO_SPACE):
            out = Path(training.output_dir)
            checkpoints.drop_half_written(out)
            kept = checkpoints.whole(out)
            advice = "make room and set resume_from_checkpoint: true" if kept else "make room and start again"
            last = f"{kept[-1].name} is whole" if kept else "no checkpoint was saved yet"
            raise MirrorError(f"{out} could not be written, the disk is full ({text}); {last}; {advice}") from None
        if "can't allocate memory" in text:
            raise _out_of_memory(training) from None
        raise


def _out_of_memory(training: Any) -> ConfigError:
    return ConfigError(
        f"out of memory with per_device_train_batch_size {training.per_device_train_batch_size}, "
        f"per_device_eval_batch_size {training.per_device_eval_batch_size} and max_length {training.max_length}; lower "
        "one of them (gradient_accumulation_steps makes up for the first), or set gradient_checkpointing: true"
    )


def check_whole(split: str, prepared: Dataset, lengths: np.ndarray) -> None:
    """DataError unless the trainer holds every token of every row, as counted: it cuts and drops in silence."""
    packed = "input_ids" in prepared.column_names
    names = [["input_ids"]] if packed else [["prompt_ids", "chosen_ids"], ["prompt_ids", "rejected_ids"]]
    held = [sum(len(ids) for name in each for ids in prepared[name]) for each in names]
    expected = lengths.sum(axis=1).tolist()
    if held != expected:
        raise DataError(
            f"the trainer holds {held} tokens of the {split} rows, {expected} were counted: the tokenizer or its chat "
            "template writes a prompt otherwise with an answer after it; set chat_template_path to another template"
        )
