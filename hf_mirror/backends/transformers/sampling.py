"""Sampling in batches: batch after batch, or continuous, where waiting samples take the place of those that end."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_mirror.backends import Request
from hf_mirror.backends.tokens import check_numbers
from hf_mirror.backends.transformers.model import LanguageModel

if TYPE_CHECKING:
    import torch


@dataclass
class Sample:
    """One answer in the making. `prompt` is the place of its prompt, `used` the prompt's tokens, `limit` how many may
    follow; `uniforms` has a number in [0, 1) for each of those."""

    request: Request
    index: int
    prompt: int
    used: int
    limit: int
    uniforms: np.ndarray
    tokens: list[int] = field(default_factory=list)
    finish_reason: str = "length"

    @classmethod
    def all_of(cls, request: Request, prompt: int, used: int, context: int) -> list[Sample]:
        """The `n` samples of a request."""
        limit = max(0, min(request.max_tokens, context - used))
        drawn = [np.random.default_rng(request.sample_seed(i)).random(limit) for i in range(request.n)]
        reason = "length" if used < context else "context"
        return [
            cls(request, i, prompt, used, limit, uniforms, finish_reason=reason) for i, uniforms in enumerate(drawn)
        ]

    def continues(self, token: int, stop: Collection[int]) -> bool:
        """Takes a token; False where the answer ends."""
        if token in stop:
            self.finish_reason = "stop"
            return False
        self.tokens.append(token)
        return len(self.tokens) < self.limit


def write(
    model: LanguageModel,
    prompts: Sequence[list[int]],
    samples: Sequence[Sample],
    stop: Collection[int],
    most: int,
    continuous: bool,
) -> None:
    """Fills `tokens` and `finish_reason` of all samples.

    `most` bounds the tokens of the running batch, padding and what is still to come included; more than that runs only
    where one prompt's samples are more. Samples begin from long to short, so that the widest batch comes first, and
    those of one prompt together, so that it is read once. With `continuous`, waiting samples join the running batch as
    soon as they fit; else when it has ended.
    """
    import torch

    samples = sorted((s for s in samples if s.limit), key=lambda s: (-s.used - s.limit, s.prompt, s.index))
    waiting = deque(list(group) for _, group in groupby(samples, key=lambda s: s.prompt))
    running: _Batch | None = None
    with torch.inference_mode():
        while waiting or running:
            joins = running is None or (continuous and running.joinable)
            newcomers = _take(waiting, running, most) if joins else []
            if newcomers:
                batch = _Batch.of(model, prompts, newcomers)
                running = running.joined(batch) if running else batch
            running = running.step(model, stop) if running else None


def _take(waiting: deque[list[Sample]], running: _Batch | None, most: int) -> list[Sample]:
    """The samples that may join now, taken from those that wait."""
    rows = len(running.samples) if running else 0
    width = max(s.used + s.limit for s in running.samples) if running else 0
    taken: list[Sample] = []
    while waiting:
        width = max(width, waiting[0][0].used + waiting[0][0].limit)
        rows += len(waiting[0])
        if (running or taken) and rows * width > most:
            break
        taken += waiting.popleft()
    return taken


@dataclass
class _Batch:
    """Samples that are written together: the logits of each one's next token, [samples, vocabulary], and what has been
    read for each, to the right of a mask [samples, width] and of the cache."""

    samples: list[Sample]
    logits: torch.Tensor
    mask: torch.Tensor
    cache: Any

    @classmethod
    def of(cls, model: LanguageModel, prompts: Sequence[list[int]], samples: list[Sample]) -> _Batch:
        """New samples, with their prompts read."""
        used = sorted({sample.prompt for sample in samples})
        place = {prompt: i for i, prompt in enumerate(used)}
        copies = [place[sample.prompt] for sample in samples]
        return cls(samples, *model.begin([prompts[prompt] for prompt in used], copies))

    @property
    def joinable(self) -> bool:
        """Whether others may join: not where a layer holds something else than all keys and values, such as the last
        ones of a window."""
        from transformers.cache_utils import DynamicLayer

        return all(type(layer) is DynamicLayer for layer in getattr(self.cache, "layers", [None]))

    def joined(self, others: _Batch) -> _Batch:
        """One batch of both, as wide as the longest row is long."""
        import torch
        from torch.nn.functional import pad

        both = (self, others)
        width = max(int(batch.mask.sum(1).max()) for batch in both)
        extra = [width - batch.mask.shape[1] for batch in both]  # negative where padding is cut
        for one, two in zip(self.cache.layers, others.cache.layers, strict=True):
            for name in ("keys", "values"):
                parts = [
                    pad(getattr(layer, name), (0, 0, more, 0)) for layer, more in zip((one, two), extra, strict=True)
                ]
                setattr(one, name, torch.cat(parts))
        mask = torch.cat([pad(batch.mask, (more, 0)) for batch, more in zip(both, extra, strict=True)])
        return _Batch([*self.samples, *others.samples], torch.cat([self.logits, others.logits]), mask, self.cache)

    def step(self, model: LanguageModel, stop: Collection[int]) -> _Batch | None:
        """One token more for every sample; None where that was the last of all."""
        import torch

        tokens, samples, mask = _draw(self.logits, self.samples), self.samples, self.mask
        left = [row for row, token in enumerate(tokens.tolist()) if samples[row].continues(token, stop)]
        if not left:
            return None
        if len(left) < len(samples):
            rows = torch.tensor(left, device=mask.device)
            samples, tokens, mask = [samples[row] for row in left], tokens[rows], mask[rows]
            model.select(self.cache, rows)
        positions = mask.sum(1, keepdim=True)
        mask = torch.cat([mask, mask.new_ones(len(samples), 1)], dim=1)
        logits, cache = model.forward(
            tokens[:, None], mask, position_ids=positions, past_key_values=self.cache, use_cache=True
        )
        return _Batch(samples, logits[:, -1], mask, cache)


def _draw(logits: torch.Tensor, samples: list[Sample]) -> torch.Tensor:
    """The next token of every sample; `logits`: [samples, vocabulary]."""
    import torch

    def column(values: list[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float64, device=logits.device)[:, None]

    temperature = column([sample.request.temperature for sample in samples])
    top_p = column([sample.request.top_p for sample in samples])
    uniform = column([sample.uniforms[len(sample.tokens)] for sample in samples])
    probs = torch.softmax(logits.double() / temperature.clamp(min=1e-6), dim=-1)
    if probs.isnan().any():
        check_numbers(float("nan"))
    probs, order = probs.sort(dim=-1, descending=True, stable=True)
    cumulative = probs.cumsum(dim=-1)
    size = (cumulative - probs < top_p).sum(dim=-1, keepdim=True).clamp(min=1)
    mass = cumulative.gather(1, size - 1)
    place = torch.minimum((cumulative <= uniform * mass).sum(dim=-1, keepdim=True), size - 1)
    place = torch.where(temperature > 0, place, torch.zeros_like(place))
    return order.gather(1, place)[:, 0]
