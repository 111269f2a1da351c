"""Direct preference optimisation on preference pairs: towards the chosen decision, away from the rejected one.

    accelerate launch --config_file recipes/accelerate_configs/cpu.yaml recipes/dpo.py --config recipes/tiny/dpo.yaml \
        --dataset DIR_OR_HUB_ID --model_name_or_path SFT_OUTPUT_DIR --output_dir OUT

The pairs' `prompt`, `chosen` and `rejected` go to TRL's DPOTrainer as they are. Starts from an SFT output: a full
model, or an adapter, which is trained further with `use_peft: true` and merged first without. The reference is the
model that training starts from. Rows that `max_length` would cut are counted and dropped, which is known before any
weight is loaded. OUT receives the model, its tokenizer and `train_report.json`; `mirror publish` pushes.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset, load_from_disk
from trl import DPOConfig, DPOTrainer, ModelConfig

from recipes import checkpoints
from recipes.arguments import DataArguments, StrictParser, run
from recipes.choices import Choices
from recipes.data import count_tokens, drop_long, load_pairs
from recipes.shared_prompt import share_prompts
from recipes.training import describe, find_base, finish, prepare
from recipes.watch import Watch, check_whole, one_line_failures

ANSWERS = ("chosen", "rejected")


class Trainer(Watch, DPOTrainer):
    """TRL's, watched."""

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """TRL's processes share what they read in a file beside the dataset's own, and rows in memory have none."""
        if self.args.world_size == 1 or dataset.cache_files:
            return super()._precompute_ref_logps(dataset, name, batch_size)
        folder = Path(str(self.args.output_dir)) / f"reference-{name}"
        if self.accelerator.is_main_process:
            dataset.save_to_disk(folder)
        self.accelerator.wait_for_everyone()
        found = super()._precompute_ref_logps(load_from_disk(folder), name, batch_size)
        for column in ("ref_chosen_logps", "ref_rejected_logps"):
            dataset = dataset.add_column(column, found[column][:])
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            shutil.rmtree(folder)
        return dataset


def main(argv: Sequence[str]) -> None:
    """Trains one model; `argv` as on the command line."""
    started = time.monotonic()
    script, training, model_arguments = StrictParser(DataArguments, DPOConfig, ModelConfig).parse(argv)
    prepare(training)
    rows, source = load_pairs(script, ("prompt", *ANSWERS), training.seed)

    base = find_base(model_arguments, training)
    context = base.context()
    tokenizer = base.tokenizer(None, training.pad_token)
    lengths, dropped = {}, {}
    for split, part in rows.items():
        counted = count_tokens(part, ANSWERS, tokenizer)
        rows[split], lengths[split], long = drop_long(split, part, counted, training.max_length, context)
        dropped[split] = {"over_length": long} if long else {}
    report = describe("dpo", base.facts, source, rows, lengths, training, model_arguments)
    report["dropped"] = dropped
    validation = rows.get("validation")
    choices = Choices.of(validation, "chosen", tokenizer, script.choice_scenes, context) if validation else None
    checkpoint = checkpoints.start(training, report)

    if validation is None:
        training.eval_strategy = "no"
    # TRL's reference of a new adapter is the model without it, of one trained further a frozen copy of it; precomputed
    # log-probabilities need none in memory.
    needs_reference = not (model_arguments.use_peft or training.precompute_ref_log_probs)
    with one_line_failures(training):
        trainer = Trainer(
            model=base.model(),
            ref_model=base.model() if needs_reference else None,
            args=training,
            train_dataset=rows["train"],
            eval_dataset=validation,
            processing_class=tokenizer,
            peft_config=base.peft_config(),
        )
        trainer.rows, trainer.answers, trainer.choices = rows["train"], ANSWERS, choices
        for model in filter(None, (trainer.model, trainer.ref_model)):
            share_prompts(trainer.accelerator.unwrap_model(model))
        check_whole("train", trainer.train_dataset, lengths["train"])
        if validation is not None:
            check_whole("validation", trainer.eval_dataset, lengths["validation"])
        finish(trainer, base, report, checkpoint, started)


if __name__ == "__main__":
    run(main)
