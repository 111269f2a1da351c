"""The head that pretraining reads its rows with, and what a student teaches itself there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from trl.trainer.utils import FusedCausalLMOutput

from hf_mirror.errors import ConfigError
from recipes.scenes import IGNORED, letters_of


@dataclass
class OwnTitles:
    """What a student says in titles, for it to say in labels: self-distillation within one pass.

    What it holds for next at the end of a history, P(title | history), gives the options of a list their share: over
    how often a title is offered and not taken, as in sampled softmax, and with a sum of one. Sequences teach titles
    long before any student of this size finds the label that stands before one. `share` of an answer's target is this,
    the rest is the choice. The title itself is learned from what was taken alone: no gradient flows through this.
    """

    share: float
    letters: torch.Tensor  # [labels], the token of each
    offered: torch.Tensor  # [vocabulary], log of how often a title is offered and not taken, but for a constant

    @classmethod
    def of(cls, train: Dataset, tokenizer: Any, share: float) -> OwnTitles:
        """Counts what `train` offers; a title that is never offered counts as once. ConfigError where no list's titles
        are known."""
        if not any(train["asked"]):
            raise ConfigError(
                "own_titles is set, but no choice has several lists of options whose texts all begin behind what they "
                "share; give --scenes builds with several seeds, or remove it"
            )
        _, letters = letters_of(tokenizer)
        letter_of = {token: i for i, token in enumerate(letters)}
        counts = np.ones(len(tokenizer))
        for asked, titles, labels in zip(train["asked"], train["titles"], train["labels"], strict=True):
            if asked:
                options = np.reshape(titles, (len(asked), -1)).copy()
                taken = [letter_of[labels[at]] for at in asked]
                left = np.arange(options.shape[1]) != np.array(taken)[:, None]
                np.add.at(counts, options[left], 1)
        return cls(share, torch.tensor(letters), torch.tensor(counts).log().float())

    def mixed(
        self, logprobs: torch.Tensor, labels: torch.Tensor, next_title: torch.Tensor, titles: torch.Tensor
    ) -> torch.Tensor:
        """The expected log-probability of an answer, [lists], to be learned in place of that of the choice,
        `logprobs`. `labels`: log-probabilities of tokens where a label is asked, `next_title`: logits at the end of the
        history, both [lists, vocabulary]; `titles` [lists, options], filled up with -1."""
        known = titles.clamp(min=0)
        with torch.no_grad():
            said = next_title.gather(1, known) - self.offered.to(known.device)[known]
            said = said.masked_fill(titles < 0, -torch.inf).softmax(-1)
        letters = labels[:, self.letters.to(known.device)[: titles.shape[1]]]
        return (1 - self.share) * logprobs + self.share * (said * letters).sum(-1)


def plain_head(model: Any, own: OwnTitles | None = None) -> None:
    """In place of the head that TRL gives a model: the logits of learned positions, whole. TRL makes them in tiles, for
    batches whose logits would not fit; here they are a thousand rows or two, and on a CPU a step takes a third of the
    time. While training, answers are learned from `own`, too."""

    def forward(self: Any, labels: torch.Tensor, fused_lm_head: bool = True, **given: Any) -> FusedCausalLMOutput:
        asked, titles, ends = (given.pop(name) for name in ("asked", "titles", "ends"))
        head = self.get_output_embeddings()
        hidden = self.base_model(**given).last_hidden_state
        wanted = labels[:, 1:]
        there = wanted != IGNORED
        logits = head(hidden[:, :-1][there]).float()
        norm = logits.logsumexp(-1)
        logprobs = logits.gather(1, wanted[there][:, None])[:, 0] - norm
        with torch.no_grad():
            entropy = norm - (logits * (logits - norm[:, None]).exp()).sum(-1)
            first = (logits.argmax(-1) == wanted[there]).float()
        if own is not None and self.training and (asked >= 0).any():
            rows, lists = torch.nonzero(asked >= 0, as_tuple=True)
            at = (there.flatten().cumsum(0).view(there.shape) - 1)[rows, asked[rows, lists] - 1]
            with torch.no_grad():
                next_title = head(hidden[torch.arange(len(ends)), ends]).float()[rows]
            answers = logits[at] - norm[at][:, None]
            logprobs = logprobs.index_copy(0, at, own.mixed(logprobs[at], answers, next_title, titles[rows, lists]))
        blank = logprobs.new_zeros(wanted.shape)
        found = [blank.masked_scatter(there, values) for values in (logprobs, entropy, first)]
        return FusedCausalLMOutput(log_probs=found[0], entropy=found[1], is_top1=found[2], label_mask=there)

    original = model.forward
    model.forward = lambda *args, **given: (
        forward(model, **given) if given.get("fused_lm_head") else original(*args, **given)
    )
