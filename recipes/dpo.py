"""Direct preference optimisation on preference pairs: towards the chosen decision, away from the rejected one.

    accelerate launch --config_file recipes/accelerate_configs/cpu.yaml recipes/dpo.py --config recipes/tiny/dpo.yaml \
        --dataset DIR_OR_HUB_ID --model_name_or_path SFT_OUTPUT_DIR --output_dir OUT

The pairs' `prompt`, `chosen` and `rejected` go to TRL's DPOTrainer as they are. Starts from an SFT output: a full
model, or an adapter, which is trained further with `use_peft: true` and merged first without. The reference is the
model that training starts from. A row that `max_length` would cut stops the run before any weight is loaded. OUT
receives the model, its tokenizer and `train_report.json`; `mirror publish` pushes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from trl import DPOConfig, DPOTrainer, ModelConfig

from recipes.arguments import DataArguments, StrictParser, run
from recipes.data import check_lengths, count_tokens, load_pairs
from recipes.training import describe, find_base, finish, prepare, settings_of

ANSWERS = ("chosen", "rejected")


def main(argv: Sequence[str]) -> None:
    """Trains one model; `argv` as on the command line."""
    started = time.monotonic()
    script, training, model_arguments = StrictParser(DataArguments, DPOConfig, ModelConfig).parse(argv)
    prepare(training)
    rows, source = load_pairs(script, ("prompt", *ANSWERS))

    base = find_base(model_arguments, training)
    context = base.context()
    tokenizer = base.tokenizer(None)
    lengths = {split: count_tokens(part, ANSWERS, tokenizer) for split, part in rows.items()}
    for split, found in lengths.items():
        check_lengths(split, found, training.max_length, context)
    report = describe("dpo", base.facts, source, rows, lengths)
    report["settings"] = settings_of(training, model_arguments)

    if "validation" not in rows:
        training.eval_strategy = "no"
    # An adapter is its own reference when switched off, and precomputed log-probabilities need none in memory.
    needs_reference = not (model_arguments.use_peft or training.precompute_ref_log_probs)
    trainer = DPOTrainer(
        model=base.model(),
        ref_model=base.model() if needs_reference else None,
        args=training,
        train_dataset=rows["train"],
        eval_dataset=rows.get("validation"),
        processing_class=tokenizer,
        peft_config=base.peft_config(),
    )
    finish(trainer, base, report, started)


if __name__ == "__main__":
    run(main)
