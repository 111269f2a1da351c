"""Pretraining of a student from random weights, on choices as the feedback has them: no rationale, no pretrained file.

    accelerate launch --config_file recipes/accelerate_configs/cpu.yaml recipes/pretrain.py \
        --config recipes/scratch-3m/pretrain.yaml --scenes RUN [RUN …] --output_dir OUT

RUN is what `mirror build` made. Several builds of one source with other seeds give each choice other options beside it;
they are read together (scenes.py). The tokenizer is trained on the train scenes, in phrases, so that most titles are
one token. OUT receives the model, its tokenizer and `train_report.json`; `recipes/sft.py` trains it further.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from trl import ModelConfig, SFTConfig, SFTTrainer

from hf_mirror.errors import ConfigError
from recipes import scratch
from recipes.arguments import StrictParser, run
from recipes.scenes import Collator, load_choices, rows
from recipes.training import describe, finish, prepare, settings_of


@dataclass
class PretrainArguments:
    """What pretraining takes beside TRL's settings."""

    scenes: list[str] = field(metadata={"help": "run folders of `mirror build`: one source, built with several seeds"})
    from_scratch: str = field(metadata={"help": "JSON model configuration"})
    histories: bool = field(
        default=True, metadata={"help": "learn what a history's user took next, and not the answers alone"}
    )
    validation_choices: int = field(default=1000, metadata={"help": "how many validation choices are looked at"})


class Pretrainer(SFTTrainer):
    """SFTTrainer over rows of blocks."""

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **settings: Any) -> Any:
        """TRL's loss. It counts tokens by a mask of a row each, which this one is not: here they are counted anew."""
        before, seen = self._total_train_tokens, inputs["attention_mask"].diagonal(dim1=-2, dim2=-1)
        loss = super().compute_loss(model, inputs, *args, **settings)
        if model.training:
            tokens = self.accelerator.gather_for_metrics(seen.sum()).sum()
            self._total_train_tokens = before + int(tokens)
            self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
        return loss


def main(argv: Sequence[str]) -> None:
    """Trains one model; `argv` as on the command line."""
    started = time.monotonic()
    script, training, model_arguments = StrictParser(PretrainArguments, SFTConfig, ModelConfig).parse(argv)
    prepare(training)
    if model_arguments.model_name_or_path is not None:
        raise ConfigError("pretraining starts from random weights; remove model_name_or_path, or run recipes/sft.py")
    shape = scratch.read_config(script.from_scratch)
    context = shape["max_position_embeddings"]
    choices, source = load_choices(script.scenes, "train")
    held_out, _ = load_choices(script.scenes[:1], "validation")
    step = max(1, len(held_out) // max(script.validation_choices, 1))
    with training.main_process_first(desc="tokenizer and rows"):
        tokenizer = scratch.train_tokenizer(_texts(choices), shape["vocab_size"], context, scratch.PHRASES)
        longest = min(training.max_length or context, context)
        train, dropped = rows(choices, tokenizer, longest, script.histories)
        validation, _ = rows(held_out[::step], tokenizer, longest, histories=False)

    lengths = {
        split: np.array([[len(ids) for ids in part["input_ids"]]])
        for split, part in (("train", train), ("validation", validation))
    }
    facts = {"base_model": None, "base_revision": None, "from_scratch": shape}
    data = {"folder": script.scenes[0], "files": source, "subset": "scenes"}
    report = describe("pretrain", facts, data, {"train": train, "validation": validation}, lengths)
    report |= {"scenes": sum(map(len, choices)), "histories": script.histories}
    report["dropped"] = {"train": {"over_length": dropped} if dropped else {}}
    report["settings"] = settings_of(training, model_arguments)

    training.remove_unused_columns = False
    training.dataset_kwargs = {"skip_prepare_dataset": True}
    trainer = Pretrainer(
        model=scratch.random_model(shape, tokenizer, training.seed),
        args=training,
        train_dataset=train,
        eval_dataset=validation,
        data_collator=Collator(tokenizer.pad_token_id),
        processing_class=tokenizer,
    )
    finish(trainer, None, report, started)


def _texts(choices: Any) -> Iterator[str]:
    for first, *_ in choices:
        yield from (message["content"] for message in first["prompt"] + first["completion"])


if __name__ == "__main__":
    run(main)
