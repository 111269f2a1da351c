"""Supervised fine-tuning on the chosen decisions of preference pairs.

    accelerate launch --config_file recipes/accelerate_configs/cpu.yaml recipes/sft.py --config recipes/tiny/sft.yaml \
        --dataset DIR_OR_HUB_ID --output_dir OUT

The pairs' `prompt` and `completion` go to TRL's SFTTrainer as they are; the loss is on the completion only. Trains all
weights, or an adapter with `use_peft: true`. Rows that `max_length` would cut are counted and dropped, which is known
before any weight is loaded. OUT receives the model, its tokenizer and `train_report.json`; `mirror publish` pushes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from datasets import DatasetDict
from trl import ModelConfig, SFTConfig, SFTTrainer

from hf_mirror.errors import ConfigError, DataError
from recipes import checkpoints, scratch
from recipes.arguments import SFTArguments, StrictParser, run
from recipes.choices import Choices
from recipes.data import count_tokens, drop_long, load_pairs, sft_rows
from recipes.training import Base, describe, find_base, finish, prepare
from recipes.watch import Watch, check_whole, one_line_failures

ANSWERS = ("completion",)


class Trainer(Watch, SFTTrainer):
    """TRL's, watched."""


def main(argv: Sequence[str]) -> None:
    """Trains one model; `argv` as on the command line."""
    started = time.monotonic()
    script, training, model_arguments = StrictParser(SFTArguments, SFTConfig, ModelConfig).parse(argv)
    prepare(training)
    if (script.from_scratch is None) == (model_arguments.model_name_or_path is None):
        raise ConfigError("set either from_scratch (a model configuration) or model_name_or_path, and not both")
    if script.from_scratch is not None and model_arguments.use_peft:
        raise ConfigError("use_peft is set, but a model from random weights has nothing to adapt; remove it")
    if training.packing and (training.max_length is None or training.packing_strategy == "wrapped"):
        raise ConfigError("packing needs a max_length, and a packing_strategy that cuts no row: bfd, not wrapped")
    pairs, source = load_pairs(script, ("prompt", "completion"), training.seed)
    prepared = {split: sft_rows(part, script.targets) for split, part in pairs.items()}
    rows = DatasetDict({split: part for split, (part, _) in prepared.items() if len(part)})
    dropped = {split: reasons for split, (_, reasons) in prepared.items()}
    if "train" not in rows:
        raise DataError(f"no train row of {script.dataset} has an answer line; add `rationale` to targets")

    base: Base | None = None
    if script.from_scratch is None:
        base = find_base(model_arguments, training)
        facts, context = base.facts, base.context()
        tokenizer = base.tokenizer(training.chat_template_path, training.pad_token)
    else:
        shape = scratch.read_config(script.from_scratch)
        facts = {"base_model": None, "base_revision": None, "from_scratch": shape}
        context = shape["max_position_embeddings"]
        tokenizer = scratch.train_tokenizer(_texts(rows), shape["vocab_size"], context)
    training.chat_template_path = None  # set on the tokenizer

    lengths = {}
    for split, part in rows.items():
        counted = count_tokens(part, ANSWERS, tokenizer)
        rows[split], lengths[split], long = drop_long(split, part, counted, training.max_length, context)
        dropped[split] |= {"over_length": long} if long else {}
    report = describe("sft", facts, source, rows, lengths, training, model_arguments)
    report |= {"targets": script.targets, "dropped": dropped}
    validation = rows.get("validation")
    choices = Choices.of(validation, "completion", tokenizer, script.choice_scenes, context) if validation else None
    checkpoint = checkpoints.start(training, report)

    if validation is None:
        training.eval_strategy = "no"
    with one_line_failures(training):
        trainer = Trainer(
            model=base.model() if base else scratch.random_model(facts["from_scratch"], tokenizer, training.seed),
            args=training,
            train_dataset=rows["train"],
            eval_dataset=validation,
            processing_class=tokenizer,
            peft_config=base.peft_config() if base else None,
        )
        trainer.rows, trainer.answers, trainer.choices = rows["train"], ANSWERS, choices
        check_whole("train", trainer.train_dataset, lengths["train"])
        if validation is not None:
            check_whole("validation", trainer.eval_dataset, lengths["validation"])
        finish(trainer, base, report, checkpoint, started)


def _texts(rows: Any) -> list[str]:
    train = rows["train"]
    return [message["content"] for name in ("prompt", "completion") for row in train[name] for message in row]


if __name__ == "__main__":
    run(main)
