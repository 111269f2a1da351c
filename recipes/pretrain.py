"""Pretraining of a student from random weights, on choices as the feedback has them, without rationales.

    accelerate launch --config_file recipes/accelerate_configs/cpu.yaml recipes/pretrain.py \
        --config recipes/scratch-3m/pretrain.yaml --scenes RUN [RUN …] --output_dir OUT

RUN is what `mirror build` made. Several builds of one source with other seeds give each choice other options beside it;
they are read together (scenes.py). The tokenizer is trained on the train scenes, in phrases, so that most titles are
one token. OUT receives the model, its tokenizer and `train_report.json`. `--model_name_or_path` in place of
`from_scratch` goes on with what an earlier run gave, on other scenes; `recipes/sft.py` trains it on rationales.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from datasets import Dataset
from trl import ModelConfig, SFTConfig, SFTTrainer

from hf_mirror.errors import ConfigError
from recipes import checkpoints, scratch
from recipes.arguments import StrictParser, run
from recipes.choices import Choices
from recipes.scenes import Collator, check_users, load_choices, plain_head, rows
from recipes.training import Base, describe, find_base, finish, prepare
from recipes.watch import Watch, one_line_failures


@dataclass
class PretrainArguments:
    """What pretraining takes beside TRL's settings."""

    scenes: list[str] = field(metadata={"help": "run folders of `mirror build`: one source, built with several seeds"})
    from_scratch: str | None = field(
        default=None, metadata={"help": "JSON model configuration; or go on with model_name_or_path"}
    )
    histories: float = field(
        default=0.1, metadata={"help": "share of a history's entries that are learned, too: what the user took next"}
    )
    choice_scenes: int = field(default=500, metadata={"help": "validation scenes that are read at each evaluation"})


class Pretrainer(Watch, SFTTrainer):
    """TRL's SFTTrainer, watched, over rows of blocks."""

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **settings: Any) -> Any:
        """TRL's loss. It counts tokens by a mask of a row each, which this one is not: here they are counted anew."""
        tokenizer: Any = self.processing_class
        before, seen = self._total_train_tokens, inputs["input_ids"] != tokenizer.pad_token_id
        loss = super().compute_loss(model, inputs, *args, **settings)
        if model.training:
            tokens = self.accelerator.gather_for_metrics(seen.sum()).sum()
            self._total_train_tokens = before + int(tokens)
            self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
        return loss

    def names(self, batch: dict[str, Any]) -> list[str]:
        """Choices have no names that may be shown: they are told by their number in the order of the files."""
        found = {tuple(ids) for ids in batch["input_ids"].tolist()}
        tokenizer: Any = self.processing_class
        pad = tokenizer.pad_token_id
        width = batch["input_ids"].shape[1]
        rows = enumerate(self.rows["input_ids"])
        return [f"number {i}" for i, ids in rows if (*ids, *[pad] * (width - len(ids))) in found]


def main(argv: Sequence[str]) -> None:
    """Trains one model; `argv` as on the command line."""
    started = time.monotonic()
    script, training, model_arguments = StrictParser(PretrainArguments, SFTConfig, ModelConfig).parse(argv)
    prepare(training)
    _refuse(script, training, model_arguments)
    check_users(script.scenes)
    base: Base | None = None
    if script.from_scratch is None:
        base = find_base(model_arguments, training)
        facts, context, tokenizer = base.facts, base.context(), base.tokenizer(None, None)
        if tokenizer.chat_template != scratch.CHAT_TEMPLATE:
            raise ConfigError(f"{facts['base_model']} is not of recipes/pretrain.py; recipes/sft.py trains it further")
    choices, source = load_choices(script.scenes, "train")
    held_out = [group[0] for group in load_choices(script.scenes[:1], "validation")[0]]
    held_out = held_out[:: max(1, len(held_out) // script.choice_scenes)][: script.choice_scenes]

    if script.from_scratch is not None:
        shape = scratch.read_config(script.from_scratch)
        facts = {"base_model": None, "base_revision": None, "from_scratch": shape}
        context = shape["max_position_embeddings"]
        tokenizer = scratch.train_tokenizer(_texts(choices), shape["vocab_size"], context, scratch.PHRASES)
    longest = min(filter(None, (training.max_length, context)))
    train, dropped = rows(choices, tokenizer, longest, script.histories, training.seed)
    validation, too_long = rows([[scene] for scene in held_out], tokenizer, longest, histories=0)
    parts = {"train": train, "validation": validation}
    lengths = {split: np.array([[len(ids) for ids in part["input_ids"]]]) for split, part in parts.items()}
    data = {"folder": script.scenes[0], "files": source, "subset": "scenes"}
    report = describe("pretrain", facts, data, parts, lengths, training, model_arguments)
    report |= {"scenes": sum(map(len, choices)) - dropped, "histories": script.histories}
    report["dropped"] = {
        split: {"over_length": count} if count else {}
        for split, count in (("train", dropped), ("validation", too_long))
    }
    told = Choices.of(Dataset.from_list(held_out), "completion", tokenizer, script.choice_scenes, context)
    checkpoint = checkpoints.start(training, report)

    training.remove_unused_columns = False
    training.dataset_kwargs = {"skip_prepare_dataset": True}
    with one_line_failures(training):
        trainer = Pretrainer(
            model=base.model() if base else scratch.random_model(facts["from_scratch"], tokenizer, training.seed),
            args=training,
            train_dataset=train,
            eval_dataset=validation,
            data_collator=Collator(tokenizer.pad_token_id),
            processing_class=tokenizer,
        )
        if training.device.type == "cpu":
            plain_head(trainer.model)
        trainer.rows, trainer.answers, trainer.choices = train, ("completion",), told
        finish(trainer, base, report, checkpoint, started)


def _refuse(script: PretrainArguments, training: SFTConfig, model_arguments: ModelConfig) -> None:
    """ConfigError for settings that would be reported and not done, or done wrongly."""
    if not 0 <= script.histories <= 1:
        raise ConfigError(f"histories is {script.histories}; expected a share of a history's entries, from 0 to 1")
    if script.choice_scenes < 1:
        raise ConfigError(f"choice_scenes is {script.choice_scenes}; pretraining is watched on 1 scene or more")
    if training.packing:
        raise ConfigError("packing is set, but a row of pretraining holds a whole choice; remove it")
    if model_arguments.use_peft:
        raise ConfigError("use_peft is set, but pretraining trains all weights; remove it")
    if model_arguments.attn_implementation not in (None, "sdpa"):
        # Others read the mask of booleans as numbers, or not at all: blocks would see each other.
        raise ConfigError(f"attn_implementation is {model_arguments.attn_implementation}; blocks need sdpa")
    if (script.from_scratch is None) == (model_arguments.model_name_or_path is None):
        raise ConfigError("set either from_scratch (a model configuration) or model_name_or_path, and not both")


def _texts(choices: Any) -> Iterator[str]:
    for first, *_ in choices:
        yield from (message["content"] for message in first["prompt"] + first["completion"])


if __name__ == "__main__":
    run(main)
