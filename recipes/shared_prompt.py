"""DPO without reading a prompt twice: chosen and rejected answer follow one copy of it.

TRL's DPOTrainer gives a model all prompts with their chosen answers and then all prompts with their rejected ones. Here
the model's forward takes such a batch, puts both answers behind one prompt, each blind to the other, and gives back the
log-probabilities that the two rows would have. Of a prompt of 1,200 tokens and answers of 150 that leaves 1,500 of
2,700 tokens to compute.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch

IGNORED = -100


def share_prompts(model: Any) -> bool:
    """Makes `model`, which TRL has given its fused head, read shared prompts once; False where it cannot: a model
    whose layers do not all see everything that the mask lets them see, or an attention that adds masks, and so takes
    a boolean one for numbers."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = base.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    sliding = getattr(config, "sliding_window", None) if "layer_types" not in config.to_dict() else None
    if kinds != {"full_attention"} or sliding or base.config._attn_implementation != "sdpa":
        return False
    original = base.forward

    def forward(self: Any, *args: Any, fused_lm_head: bool = False, **given: Any) -> Any:
        if not fused_lm_head or args or "position_ids" in given or len(given["input_ids"]) % 2:
            return original(*args, fused_lm_head=fused_lm_head, **given)
        ids, mask, labels = (given.pop(name) for name in ("input_ids", "attention_mask", "labels"))
        pairs = Pairs(ids, mask.bool(), labels)
        outputs = original(**pairs.inputs(), fused_lm_head=True, **given)
        for name in ("log_probs", "entropy", "is_top1", "log_sum_sq_probs", "mean_logits", "label_mask"):
            if getattr(outputs, name, None) is not None:
                setattr(outputs, name, pairs.apart(getattr(outputs, name)))
        return outputs

    base.forward = MethodType(forward, base)
    return True


class Pairs:
    """2 n rows, the n-th and the (n + i)-th of a pair, as n rows: prompt, first answer, second answer.

    A row's tokens lie at its left. Where a pair's prompts part before an answer begins, all from there counts as
    answer. `ids` and `labels` [2 n, T], `mask` [2 n, T], true where there is a token.
    """

    def __init__(self, ids: torch.Tensor, mask: torch.Tensor, labels: torch.Tensor) -> None:
        n, width = len(ids) // 2, ids.shape[1]
        self.ids, self.labels, self.width = ids, labels, width
        lengths = mask.sum(1)
        same = (ids[:n] == ids[n:]) & mask[:n] & mask[n:] & (labels[:n] == IGNORED) & (labels[n:] == IGNORED)
        self.shared = same.long().cumprod(1).sum(1)
        # The last shared token predicts the first of both answers: each row keeps a copy of it of its own.
        self.shared = (self.shared - 1).clamp(min=0)
        first, second = lengths[:n] - self.shared, lengths[n:] - self.shared
        self.starts = torch.stack([self.shared, self.shared + first])  # where the two answers begin, [2, n]
        self.total = self.shared + first + second
        column = torch.arange(int(self.total.max()), device=ids.device)[None]
        in_second = column >= self.starts[1][:, None]
        self.block = (column >= self.shared[:, None]).long() + in_second.long()
        self.there = column < self.total[:, None]
        position = torch.where(in_second, column - first[:, None], column)
        self.position = torch.where(self.there, position, 0)
        self.row = torch.arange(n, device=ids.device)[:, None] + n * in_second.long()

    def inputs(self) -> dict[str, torch.Tensor]:
        """`input_ids`, `position_ids`, `labels` [n, U] and `attention_mask` [n, 1, U, U]."""
        ids = torch.where(self.there, self.ids[self.row, self.position], 0)
        labels = torch.where(self.there & (self.block > 0), self.labels[self.row, self.position], IGNORED)
        sees = (self.block[:, :, None] == self.block[:, None, :]) | (self.block[:, None, :] == 0)
        causal = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device).tril()
        return {
            "input_ids": ids,
            "position_ids": self.position,
            "labels": labels,
            "attention_mask": (sees & causal)[:, None],
        }

    def apart(self, values: torch.Tensor) -> torch.Tensor:
        """What the fused head gives for shared rows, [n, U - 1], as it would for the rows apart, [2 n, T - 1]: 0 where
        nothing is learned."""
        n = len(values)
        found = values.new_zeros(2 * n, self.width)
        # Value u speaks of token u + 1, where both are of one answer.
        speaks = self.there[:, 1:] & (self.block[:, 1:] > 0) & (self.block[:, 1:] == self.block[:, :-1])
        return found.index_put((self.row[:, 1:][speaks], self.position[:, 1:][speaks]), values[speaks])[:, 1:]
