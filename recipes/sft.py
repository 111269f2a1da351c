"""Supervised fine-tuning on the chosen decisions of preference pairs.

    accelerate launch --config_file recipes/accelerate_configs/cpu.yaml recipes/sft.py --config recipes/tiny/sft.yaml \
        --dataset DIR_OR_HUB_ID --output_dir OUT

The pairs' `prompt` and `completion` go to TRL's SFTTrainer as they are; the loss is on the completion only. Trains all
weights, or an adapter with `use_peft: true`. A row that `max_length` would cut stops the run before any weight is
loaded. OUT receives the model, its tokenizer and `train_report.json`; `mirror publish` pushes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from datasets import DatasetDict
from trl import ModelConfig, SFTConfig, SFTTrainer

from hf_mirror.errors import ConfigError
from recipes import scratch
from recipes.arguments import SFTArguments, StrictParser, run
from recipes.data import check_lengths, count_tokens, load_pairs, sft_rows
from recipes.training import Base, describe, find_base, finish, prepare, settings_of


def main(argv: Sequence[str]) -> None:
    """Trains one model; `argv` as on the command line."""
    started = time.monotonic()
    script, training, model_arguments = StrictParser(SFTArguments, SFTConfig, ModelConfig).parse(argv)
    prepare(training)
    if (script.from_scratch is None) == (model_arguments.model_name_or_path is None):
        raise ConfigError("set either from_scratch (a model configuration) or model_name_or_path, and not both")
    pairs, source = load_pairs(script, ("prompt", "completion"))
    prepared = {split: sft_rows(part, script.targets) for split, part in pairs.items()}
    rows = DatasetDict({split: part for split, (part, _) in prepared.items()})

    base: Base | None = None
    if script.from_scratch is None:
        base = find_base(model_arguments, training)
        facts, context = base.facts, base.context()
        tokenizer = base.tokenizer(training.chat_template_path)
    else:
        shape = scratch.read_config(script.from_scratch)
        facts = {"base_model": None, "base_revision": None, "from_scratch": shape}
        context = shape["max_position_embeddings"]
        tokenizer = scratch.train_tokenizer(_texts(rows), shape["vocab_size"], context)
    training.chat_template_path = None  # set on the tokenizer

    lengths = {split: count_tokens(part, ("completion",), tokenizer) for split, part in rows.items()}
    for split, found in lengths.items():
        check_lengths(split, found, training.max_length, context)
    report = describe("sft", facts, source, rows, lengths)
    report["targets"] = script.targets
    report["dropped"] = {split: dropped for split, (_, dropped) in prepared.items()}
    report["settings"] = settings_of(training, model_arguments)

    if "validation" not in rows:
        training.eval_strategy = "no"
    trainer = SFTTrainer(
        model=base.model() if base else scratch.random_model(facts["from_scratch"], tokenizer, training.seed),
        args=training,
        train_dataset=rows["train"],
        eval_dataset=rows.get("validation"),
        processing_class=tokenizer,
        peft_config=base.peft_config() if base else None,
    )
    finish(trainer, base, report, started)


def _texts(rows: Any) -> list[str]:
    train = rows["train"]
    return [message["content"] for name in ("prompt", "completion") for row in train[name] for message in row]


if __name__ == "__main__":
    run(main)
