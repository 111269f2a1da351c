"""Causal language models with weights, from a folder or the Hub, in this process.

Weights are safetensors only and no repo's code is ever run. Both methods work on batches of similar length and give
each request what it would get alone, up to the rounding of floating-point sums.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_mirror.backends import Generation, Request, no_pattern
from hf_mirror.backends.tokens import Chat, Question, in_common, softmax
from hf_mirror.errors import ConfigError
from hf_mirror.weights import load_causal_lm, resolve

if TYPE_CHECKING:
    import torch

WINDOW = 256  # requests that are sorted by length together; results leave in order, window by window


READ_AT_ONCE = 16  # answers are read at every position, and logits of long batches are the largest tensors by far


@dataclass(frozen=True)
class _Row:
    """One sequence to read: `reads` holds (position, next token, label) whose log-probability counts."""

    request: int
    ids: list[int]
    reads: list[tuple[int, int, int]]


@dataclass(frozen=True)
class _Family:
    """Rows that begin with the same `shared` tokens, as all decisions about a scene do; 0 where it is not worth it."""

    shared: int
    rows: list[_Row]

    @classmethod
    def of(cls, rows: list[_Row]) -> _Family:
        """With as much shared as comes before anything that is read."""
        if len(rows) == 1:
            return cls(0, rows)
        first = min(position for row in rows for position, _, _ in row.reads)
        return cls(min(first, in_common([row.ids for row in rows])), rows)

    def pieces(self, most: int) -> list[_Family]:
        """Itself, or families of some rows each, so that none has more than `most` tokens if padded."""
        at_once = max(most // max(len(row.ids) for row in self.rows), 1)
        return [_Family(self.shared, self.rows[i : i + at_once]) for i in range(0, len(self.rows), at_once)]


@dataclass
class _Sample:
    """One answer in the making."""

    request: Request
    index: int
    prompt: int
    limit: int
    uniforms: np.ndarray
    tokens: list[int] = field(default_factory=list)
    finish_reason: str = "length"


class TransformersBackend:
    """Generates and reads with one causal LM through its chat template."""

    structured = False

    def __init__(self, model: str, revision: str | None = None, *, batch_tokens: int = 32_768) -> None:
        """`model`: a folder, or a Hub id with `revision`. `batch_tokens` bounds tokens per forward pass, padding
        included; a single longer request still runs, alone."""
        import torch

        self.model = model
        folder, self.revision = resolve(model, revision)
        cuda = torch.cuda.is_available()
        # Half precision is slow on CPUs and rounds probabilities; GPUs take the weights as they were saved.
        lm = load_causal_lm(folder, model, dtype="auto" if cuda else torch.float32)
        self._lm = lm.to("cuda" if cuda else "cpu").eval()
        self._chat = Chat(folder, model)
        self._context = getattr(self._lm.config.get_text_config(), "max_position_embeddings", None) or sys.maxsize
        self._stop = _ids(self._lm.generation_config.eos_token_id) | _ids(self._chat.tokenizer.eos_token_id)
        self._batch_tokens = batch_tokens
        self._partial_logits = "logits_to_keep" in inspect.signature(self._lm.forward).parameters

    def generate(self, requests: Sequence[Request]) -> Iterator[Generation]:
        """Samples `n` answers per request; see `Backend`.

        The n-th token of a sample is drawn by inverting the cumulative distribution (sorted by probability, cut at
        `top_p`) at the n-th number of the sample's own generator, PCG64 of its seed. So a sample depends on its
        request and seed, not on the batch it runs in. `temperature` 0 takes the likeliest token. The model's own
        generation settings (penalties, top-k) are not applied. Without `seeds`, they derive from id and index. A
        prompt that fills the context gives an empty text with finish_reason `length`.
        """
        no_pattern(requests, "transformers")
        for start in range(0, len(requests), WINDOW):
            window = requests[start : start + WINDOW]
            prompts = self._chat.encode([self._chat.render(request) for request in window])
            samples = [s for i, request in enumerate(window) for s in self._samples(request, i, len(prompts[i]))]
            cost = [len(p) + max((s.limit for s in samples if s.prompt == i), default=0) for i, p in enumerate(prompts)]
            fits = [i for i, request in enumerate(window) if request.n and len(prompts[i]) < self._context]
            for batch in self._batches(fits, cost, [request.n for request in window]):
                self._sample(prompts, [s for i in batch for s in samples if s.prompt == i])
            for s in samples:
                text, read = self._chat.decode(s.tokens), len(prompts[s.prompt]) * (s.index == 0)
                yield Generation(s.request.id, s.index, text, s.finish_reason, len(s.tokens), read)

    def choice_probs(self, requests: Sequence[Request], labels: Sequence[Sequence[str]]) -> Iterator[np.ndarray]:
        """One distribution per request over exactly its labels; see `Backend`.

        A label is scored by the tokens that really follow: context + label + `]` is tokenised as a whole for every
        label and compared with the others (`continuations`). Where one token tells the labels apart, one forward
        pass reads all K; where it takes more (merged brackets, labels of several tokens), each label's tail is read
        and its log-probabilities are summed. The softmax over the K scores is in float64.
        """
        if len(requests) != len(labels):
            raise ConfigError(f"{len(requests)} requests came with {len(labels)} lists of labels; expected one each")
        for start in range(0, len(requests), WINDOW):
            yield from self._read(requests[start : start + WINDOW], labels[start : start + WINDOW])

    def answer_logprobs(self, requests: Sequence[Request]) -> Iterator[float]:
        """The log-probability of each request's prefix; see `Backend`."""
        for start in range(0, len(requests), WINDOW):
            scores, families = [], []
            for i, request in enumerate(requests[start : start + WINDOW]):
                ids, before = self._chat.answer(request)
                scores.append(np.array([np.nan if len(ids) > self._context else 0.0]))
                if len(ids) <= self._context:
                    reads = [(position, ids[position + 1], 0) for position in range(before - 1, len(ids) - 1)]
                    families.append(_Family(0, [_Row(i, ids, reads)]))
            self._score_all(families, scores, self._batch_tokens // READ_AT_ONCE)
            lengths = [len(family.rows[0].reads) for family in families]
            found = iter(lengths)
            for score in scores:
                yield float(score[0]) if np.isnan(score[0]) else float(score[0]) / max(next(found), 1)

    def _batches(
        self, rows: Sequence[int], length: Sequence[int], repeats: Sequence[int], most: int | None = None
    ) -> Iterator[list[int]]:
        """`rows` from long to short, so that the widest batch comes first, cut by padded tokens."""
        batch: list[int] = []
        most = most or self._batch_tokens
        for row in sorted(rows, key=lambda i: (-length[i], i)):
            if batch and (sum(repeats[i] for i in batch) + repeats[row]) * length[batch[0]] > most:
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch

    def _samples(self, request: Request, position: int, used: int) -> list[_Sample]:
        seeds = [request.sample_seed(i) for i in range(request.n)]
        limit = max(0, min(request.max_tokens, self._context - used))
        uniforms = [np.random.default_rng(s).random(limit) for s in seeds]
        return [_Sample(request, i, position, limit, u) for i, u in enumerate(uniforms)]

    def _sample(self, prompts: list[list[int]], active: list[_Sample]) -> None:
        """Fills `tokens` and `finish_reason` of every sample. Each prompt is read once for all its samples."""
        import torch

        active = [sample for sample in active if sample.limit]
        if not active:
            return
        with torch.inference_mode():
            used = sorted({sample.prompt for sample in active})
            ids, mask = self._pad([prompts[i] for i in used], left=True)
            out = self._forward(ids, mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0), keep=1, use_cache=True)
            rows = torch.tensor([used.index(sample.prompt) for sample in active], device=ids.device)
            logits, mask, cache = out.logits[rows, -1], mask[rows], self._cache(out, rows)
            while True:
                tokens = _draw(logits, active)
                left = [row for row, token in enumerate(tokens.tolist()) if self._continues(active[row], token)]
                if not left:
                    return
                if len(left) < len(active):
                    rows = torch.tensor(left, device=ids.device)
                    active, tokens, mask = [active[row] for row in left], tokens[rows], mask[rows]
                    cache.batch_select_indices(rows)
                position_ids = mask.sum(1, keepdim=True)
                mask = torch.cat([mask, mask.new_ones(len(active), 1)], dim=1)
                out = self._forward(
                    tokens[:, None], mask, position_ids=position_ids, past_key_values=cache, use_cache=True
                )
                logits = out.logits[:, -1]

    def _cache(self, out: Any, rows: torch.Tensor) -> Any:
        """The cache of a forward pass, with a copy of its row for each of `rows`."""
        cache = getattr(out, "past_key_values", None)
        try:
            cache.batch_select_indices(rows)  # type: ignore[union-attr]
        except (AttributeError, NotImplementedError):
            kind = type(self._lm).__name__
            raise ConfigError(f"{self.model} is a {kind}, whose memory rows cannot share; use backend vllm") from None
        return cache

    def _continues(self, sample: _Sample, token: int) -> bool:
        if token in self._stop:
            sample.finish_reason = "stop"
            return False
        sample.tokens.append(token)
        return len(sample.tokens) < sample.limit

    def _read(self, requests: Sequence[Request], labels: Sequence[Sequence[str]]) -> Iterator[np.ndarray]:
        scores = [np.zeros(len(row)) for row in labels]
        families: dict[str, list[_Row]] = {}
        for i, (request, names) in enumerate(zip(requests, labels, strict=True)):
            question = self._chat.question(request, names)
            if question.longest > self._context:
                scores[i][:] = np.nan
            elif len(names) > 1:
                families.setdefault(request.messages[-1]["content"], []).extend(_rows(i, question))
        self._score_all([_Family.of(rows) for rows in families.values()], scores)
        yield from map(softmax, scores)

    def _score_all(self, families: list[_Family], scores: list[np.ndarray], most: int | None = None) -> None:
        """Adds the log-probabilities that all rows read to their requests' scores."""
        pieces = [piece for family in families for piece in family.pieces(most or self._batch_tokens)]
        for alone in (True, False):
            these = [family for family in pieces if (family.shared == 0) == alone]
            length = [max(len(row.ids) for row in family.rows) for family in these]
            for batch in self._batches(range(len(these)), length, [len(family.rows) for family in these], most):
                self._score([these[i] for i in batch], scores)

    def _score(self, families: list[_Family], scores: list[np.ndarray]) -> None:
        """One batch. What a family's rows begin with is read once, then the rest of every row."""
        import torch

        rows = [(place, row) for place, family in enumerate(families) for row in family.rows]
        start = [families[place].shared for place, _ in rows]
        with torch.inference_mode():
            ids, mask = self._pad([row.ids[first:] for (_, row), first in zip(rows, start, strict=True)], left=False)
            more: dict[str, Any] = {"use_cache": False}
            if families[0].shared:
                begin, before = self._pad([family.rows[0].ids[: family.shared] for family in families], left=True)
                positions = (before.cumsum(1) - 1).clamp(min=0)
                out = self._forward(begin, before, position_ids=positions, keep=1, use_cache=True)
                whose = torch.tensor([place for place, _ in rows], device=ids.device)
                cache = self._cache(out, whose)
                offset = torch.tensor(start, device=ids.device)[:, None]
                more = {"use_cache": True, "past_key_values": cache,
                        "position_ids": offset + torch.arange(ids.shape[1], device=ids.device)}  # fmt: skip
                mask = torch.cat([before[whose], mask], dim=1)
            reads = [
                [(p - first, token, label) for p, token, label in row.reads]
                for (_, row), first in zip(rows, start, strict=True)
            ]
            wanted = sorted({position for here in reads for position, _, _ in here})
            keep = torch.tensor(wanted, dtype=torch.long, device=ids.device)
            logits = self._forward(ids, mask, keep=keep, **more).logits
            logits = logits if self._partial_logits else logits[:, keep]
            column = {position: i for i, position in enumerate(wanted)}
            for index, (_, row) in enumerate(rows):
                at = torch.tensor([column[position] for position, _, _ in reads[index]], device=ids.device)
                tokens = torch.tensor([token for _, token, _ in reads[index]], device=ids.device)
                logprobs = torch.log_softmax(logits[index, at].double(), dim=-1)
                found = logprobs.gather(1, tokens[:, None])[:, 0].cpu().numpy()
                for (_, _, label), value in zip(reads[index], found, strict=True):
                    scores[row.request][label] += value

    def _pad(self, rows: Sequence[Sequence[int]], left: bool) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        width = max(map(len, rows))
        ids, mask = torch.zeros(2, len(rows), width, dtype=torch.long)
        for index, row in enumerate(rows):
            place = slice(width - len(row), width) if left else slice(0, len(row))
            ids[index, place], mask[index, place] = torch.tensor(row), 1
        return ids.to(self._lm.device), mask.to(self._lm.device)

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor, keep: Any = None, **settings: Any) -> Any:
        # Logits of every position of a long batch would be the largest tensor by far.
        if keep is not None and self._partial_logits:
            settings["logits_to_keep"] = keep
        return self._lm(input_ids=ids, attention_mask=mask, **settings)


def _rows(request: int, question: Question) -> list[_Row]:
    """What to read for one request."""
    context, tails = question.context, question.tails
    if question.one_token_each:
        return [_Row(request, context, [(len(context) - 1, tail[0], k) for k, tail in enumerate(tails)])]
    return [
        _Row(request, [*context, *tail[:-1]], [(len(context) - 1 + j, token, k) for j, token in enumerate(tail)])
        for k, tail in enumerate(tails)
    ]


def _draw(logits: torch.Tensor, samples: list[_Sample]) -> torch.Tensor:
    """The next token of every sample; `logits`: [samples, vocabulary]."""
    import torch

    def column(values: list[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float64, device=logits.device)[:, None]

    temperature = column([sample.request.temperature for sample in samples])
    top_p = column([sample.request.top_p for sample in samples])
    uniform = column([sample.uniforms[len(sample.tokens)] for sample in samples])
    probs = torch.softmax(logits.double() / temperature.clamp(min=1e-6), dim=-1)
    probs, order = probs.sort(dim=-1, descending=True, stable=True)
    cumulative = probs.cumsum(dim=-1)
    size = (cumulative - probs < top_p).sum(dim=-1, keepdim=True).clamp(min=1)
    mass = cumulative.gather(1, size - 1)
    place = torch.minimum((cumulative <= uniform * mass).sum(dim=-1, keepdim=True), size - 1)
    place = torch.where(temperature > 0, place, torch.zeros_like(place))
    return order.gather(1, place)[:, 0]


def _ids(value: int | list[int] | None) -> set[int]:
    return set() if value is None else {value} if isinstance(value, int) else set(value)
