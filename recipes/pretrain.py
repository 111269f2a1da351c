"""Pretraining of a student from random weights, on choices as the feedback has them, without rationales.

    accelerate launch --config_file recipes/accelerate_configs/cpu.yaml recipes/pretrain.py \
        --config recipes/scratch-3m/histories.yaml --scenes RUN [RUN …] --output_dir OUT

RUN is what `mirror build` made. Several builds of one source with other seeds give each choice other options beside it;
they are read together (scenes.py). The tokenizer is trained on the train scenes, in phrases, so that most titles are
one token. OUT receives the model, its tokenizer and `train_report.json`. `--model_name_or_path` in place of
`from_scratch` goes on with what an earlier run gave, on other scenes; `recipes/sft.py` trains it on rationales.

`--lists 0` learns histories alone, as sequences: what is taken after what, at fewer tokens a row.
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
from recipes.head import OwnTitles, plain_head
from recipes.scenes import Collator, check_users, load_choices, rows
from recipes.training import Base, describe, find_base, finish, prepare
from recipes.watch import Watch, one_line_failures


@dataclass
class PretrainArguments:
    """What pretraining takes beside TRL's settings."""

    scenes: list[str] = field(metadata={"help": "run folders of `mirror build`: one source, built with several seeds"})
    from_scratch: str | None = field(
        default=None, metadata={"help": "JSON model configuration; or go on with model_name_or_path"}
    )
    new_layers: int = field(
        default=0, metadata={"help": "layers that model_name_or_path gets on top, which begin without effect"}
    )
    histories: float = field(
        default=0.1, metadata={"help": "share of a history's entries that are learned, too: what the user took next"}
    )
    lists: int | None = field(
        default=None,
        metadata={"help": "lists of options that are read behind a history, 0: histories alone; unset: all"},
    )
    own_titles: float = field(
        default=0.0,
        metadata={"help": "share of an answer's target that is what the student itself says in titles, 0 to 1"},
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
    choices = _needed(choices, training)
    train, dropped = rows(choices, tokenizer, longest, script.histories, training.seed, script.lists)
    own = OwnTitles.of(train, tokenizer, script.own_titles) if script.own_titles else None
    share = 1 if script.lists == 0 else 0
    validation, lost = rows([[scene] for scene in held_out], tokenizer, longest, share, lists=script.lists)
    parts = {"train": train, "validation": validation}
    lengths = {split: np.array([[len(ids) for ids in part["input_ids"]]]) for split, part in parts.items()}
    data = {"folder": script.scenes[0], "files": source, "subset": "scenes"}
    report = describe("pretrain", facts, data, parts, lengths, training, model_arguments)
    report |= {"scenes": sum(map(max, train["block"])), "histories": script.histories, "lists": script.lists}
    report |= {"new_layers": script.new_layers, "own_titles": script.own_titles}
    report["own_title_lists"] = sum(map(len, train["asked"])) if own else 0
    report["dropped"] = {
        split: {reason: count for reason, count in found.items() if count}
        for split, found in (("train", dropped), ("validation", lost))
    }
    told = Choices.of(Dataset.from_list(held_out), "completion", tokenizer, script.choice_scenes, context)
    checkpoint = checkpoints.start(training, report)

    training.remove_unused_columns = False
    training.dataset_kwargs = {"skip_prepare_dataset": True}
    with one_line_failures(training):
        trainer = Pretrainer(
            model=_model(base, facts, tokenizer, script.new_layers, training.seed),
            args=training,
            train_dataset=train,
            eval_dataset=validation,
            data_collator=Collator(tokenizer.pad_token_id),
            processing_class=tokenizer,
        )
        plain_head(trainer.model, own)
        trainer.rows, trainer.answers, trainer.choices = train, ("completion",), told
        finish(trainer, base, report, checkpoint, started)


def _refuse(script: PretrainArguments, training: SFTConfig, model_arguments: ModelConfig) -> None:
    """ConfigError for settings that would be reported and not done, or done wrongly."""
    if not 0 <= script.histories <= 1:
        raise ConfigError(f"histories is {script.histories}; expected a share of a history's entries, from 0 to 1")
    if not 0 <= script.own_titles <= 1:
        raise ConfigError(f"own_titles is {script.own_titles}; expected a share of an answer's target, from 0 to 1")
    if script.own_titles and script.lists == 0:
        raise ConfigError("own_titles is set, but with lists 0 no answers are learned; remove one")
    if script.own_titles and script.histories == 0:
        raise ConfigError("own_titles is set, but with histories 0 no titles are learned; raise it")
    if script.own_titles and training.label_smoothing_factor:
        raise ConfigError("own_titles and label_smoothing_factor both soften an answer's target; remove one")
    if script.lists is not None and script.lists < 0:
        raise ConfigError(f"lists is {script.lists}; expected how many lists of options are read, 0 for none")
    if script.lists == 0 and script.histories == 0:
        raise ConfigError("lists and histories are both 0, which leaves nothing to learn; raise one")
    if script.choice_scenes < 1:
        raise ConfigError(f"choice_scenes is {script.choice_scenes}; pretraining is watched on 1 scene or more")
    if training.packing:
        raise ConfigError("packing is set, but a row of pretraining holds a whole choice; remove it")
    if model_arguments.use_peft:
        raise ConfigError("use_peft is set, but pretraining trains all weights; remove it")
    if model_arguments.attn_implementation not in (None, "sdpa"):
        # Others read the mask of booleans as numbers, or not at all: blocks would see each other.
        raise ConfigError(f"attn_implementation is {model_arguments.attn_implementation}; blocks need sdpa")
    if script.new_layers < 0 or (script.new_layers and script.from_scratch is not None):
        raise ConfigError(f"new_layers is {script.new_layers}; expected 0 or more, on top of model_name_or_path")
    if (script.from_scratch is None) == (model_arguments.model_name_or_path is None):
        raise ConfigError("set either from_scratch (a model configuration) or model_name_or_path, and not both")


def _model(base: Base | None, facts: dict[str, Any], tokenizer: Any, new_layers: int, seed: int) -> Any:
    if base is None:
        return scratch.random_model(facts["from_scratch"], tokenizer, seed)
    return scratch.grow(base.model(), new_layers, seed) if new_layers else base.model()


def _needed(choices: list[Any], training: SFTConfig) -> list[Any]:
    """As many choices as `max_steps` can read, drawn by `seed`: the others need not be made rows."""
    batch = training.per_device_train_batch_size * training.gradient_accumulation_steps * training.world_size
    needed = training.max_steps * batch
    if not 0 < needed < len(choices):
        return choices
    drawn = np.random.default_rng(training.seed).choice(len(choices), needed, replace=False)
    return [choices[at] for at in np.sort(drawn)]


def _texts(choices: Any) -> Iterator[str]:
    for first, *_ in choices:
        yield from (message["content"] for message in first["prompt"] + first["completion"])


if __name__ == "__main__":
    run(main)
