"""Causal language models with weights, from a folder or the Hub, in this process.

Weights are safetensors only and no repo's code is ever run. Both methods work on batches of similar length and give
each request what it would get alone, up to the rounding of floating-point sums.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_mirror.backends import Generation, Request
from hf_mirror.errors import ConfigError
from hf_mirror.identity import seed
from hf_mirror.weights import load_causal_lm, resolve

if TYPE_CHECKING:
    import torch

WINDOW = 256  # requests that are sorted by length together; results leave in order, window by window
CLOSING = "]"  # what follows a label after an open bracket, as in `Behavior: [A]`


def continuations(rows: Sequence[Sequence[int]]) -> tuple[int, list[tuple[int, ...]]]:
    """Where tokenisations of one context with different labels part, and what then tells the labels apart.

    `rows`: the K token lists of context + label + closing. Returns the number of leading tokens they share and K
    tails. Trailing tokens that all tails share are left out as long as no tail becomes the beginning of another:
    the tails stay disjoint events, and in the usual case (one letter, then the bracket) each is a single token.
    """
    agree = [len(set(column)) == 1 for column in zip(*rows, strict=False)]
    shared = agree.index(False) if False in agree else len(agree)
    tails = [tuple(row[shared:]) for row in rows]
    while len({tail[-1:] for tail in tails}) == 1 and _prefix_free(shorter := [tail[:-1] for tail in tails]):
        tails = shorter
    return shared, tails


def _prefix_free(tails: Sequence[tuple[int, ...]]) -> bool:
    ordered = sorted(tails)
    return all(tails) and all(b[: len(a)] != a for a, b in pairwise(ordered))


@dataclass(frozen=True)
class _Row:
    """One sequence to read: `reads` holds (position, next token, label) whose log-probability counts."""

    request: int
    ids: list[int]
    reads: list[tuple[int, int, int]]


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
    """Generates and reads with one causal LM through its chat template.

    A model without a chat template is refused (ConfigError): a format made up here would be one that the model was
    not trained on, and would give other numbers than its own without a word.
    """

    def __init__(self, model: str, revision: str | None = None, *, batch_tokens: int = 32_768) -> None:
        """`model`: a folder, or a Hub id with `revision`. `batch_tokens` bounds tokens per forward pass, padding
        included; a single longer request still runs, alone."""
        import torch
        from transformers import AutoTokenizer

        self.model = model
        folder, self.revision = resolve(model, revision)
        cuda = torch.cuda.is_available()
        # Half precision is slow on CPUs and rounds probabilities; GPUs take the weights as they were saved.
        lm = load_causal_lm(folder, model, dtype="auto" if cuda else torch.float32)
        self._lm = lm.to("cuda" if cuda else "cpu").eval()
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        if not self._tokenizer.chat_template:
            raise ConfigError(f"{model} has no chat template; choose an instruction-tuned or a trained mirror model")
        self._context = getattr(self._lm.config.get_text_config(), "max_position_embeddings", None) or sys.maxsize
        self._stop = _ids(self._lm.generation_config.eos_token_id) | _ids(self._tokenizer.eos_token_id)
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
        for start in range(0, len(requests), WINDOW):
            window = requests[start : start + WINDOW]
            prompts = self._encode([self._render(request) for request in window])
            samples = [s for i, request in enumerate(window) for s in self._samples(request, i, len(prompts[i]))]
            cost = [len(p) + max((s.limit for s in samples if s.prompt == i), default=0) for i, p in enumerate(prompts)]
            fits = [i for i, request in enumerate(window) if request.n and len(prompts[i]) < self._context]
            for batch in self._batches(fits, cost, [request.n for request in window]):
                self._sample(prompts, [s for i in batch for s in samples if s.prompt == i])
            for s in samples:
                text = self._tokenizer.decode(s.tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
                yield Generation(s.request.id, s.index, text, s.finish_reason)

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

    def _render(self, request: Request) -> str:
        chat = self._tokenizer.apply_chat_template(request.messages, tokenize=False, add_generation_prompt=True)
        return chat + request.prefix

    def _encode(self, texts: list[str]) -> list[list[int]]:
        # The template has written the special tokens already.
        return self._tokenizer(texts, add_special_tokens=False)["input_ids"]

    def _batches(self, rows: Sequence[int], length: Sequence[int], repeats: Sequence[int]) -> Iterator[list[int]]:
        """`rows` from long to short, so that the widest batch comes first, cut by padded tokens."""
        batch: list[int] = []
        for row in sorted(rows, key=lambda i: (-length[i], i)):
            if batch and (sum(repeats[i] for i in batch) + repeats[row]) * length[batch[0]] > self._batch_tokens:
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch

    def _samples(self, request: Request, position: int, used: int) -> list[_Sample]:
        if request.seeds and len(request.seeds) != request.n:
            raise ConfigError(f"request {request.id} has {len(request.seeds)} seeds for {request.n} samples")
        seeds = request.seeds or [seed("sample", request.id, i) for i in range(request.n)]
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
            logits, mask, cache = out.logits[rows, -1], mask[rows], out.past_key_values
            cache.batch_select_indices(rows)
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

    def _continues(self, sample: _Sample, token: int) -> bool:
        if token in self._stop:
            sample.finish_reason = "stop"
            return False
        sample.tokens.append(token)
        return len(sample.tokens) < sample.limit

    def _read(self, requests: Sequence[Request], labels: Sequence[Sequence[str]]) -> Iterator[np.ndarray]:
        scores = [np.zeros(len(row)) for row in labels]
        rows: list[_Row] = []
        for i, (request, names) in enumerate(zip(requests, labels, strict=True)):
            if len(set(names)) != len(names) or not names:
                raise ConfigError(f"request {request.id} has labels {list(names)}; expected one or more, all different")
            context, closing = self._render(request), CLOSING if request.prefix.endswith("[") else ""
            found = _rows(i, self._encode([context + name + closing for name in names]))
            if max(len(row.ids) for row in found) > self._context:
                scores[i][:] = np.nan
            elif len(names) > 1:
                rows += found
        for batch in self._batches(range(len(rows)), [len(row.ids) for row in rows], [1] * len(rows)):
            self._score([rows[i] for i in batch], scores)
        for row in scores:
            exponentials = np.exp(row - row.max())
            yield exponentials / exponentials.sum()

    def _score(self, rows: list[_Row], scores: list[np.ndarray]) -> None:
        """Adds the log-probabilities that `rows` read to their requests' scores."""
        import torch

        with torch.inference_mode():
            ids, mask = self._pad([row.ids for row in rows], left=False)
            positions = sorted({position for row in rows for position, _, _ in row.reads})
            keep = torch.tensor(positions, dtype=torch.long, device=ids.device)
            logits = self._forward(ids, mask, keep=keep, use_cache=False).logits
            logits = logits if self._partial_logits else logits[:, keep]
            for index, row in enumerate(rows):
                here = [positions.index(position) for position, _, _ in row.reads]
                logprobs = torch.log_softmax(logits[index, here].double(), dim=-1).cpu().numpy()
                for line, (_, token, label) in enumerate(row.reads):
                    scores[row.request][label] += logprobs[line, token]

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


def _rows(request: int, rows: list[list[int]]) -> list[_Row]:
    """What to read for one request, from the tokenisations of its K continuations."""
    shared, tails = continuations(rows)
    if all(len(tail) == 1 for tail in tails):
        return [_Row(request, rows[0][:shared], [(shared - 1, tail[0], k) for k, tail in enumerate(tails)])]
    context = rows[0][:shared]
    return [
        _Row(request, [*context, *tail[:-1]], [(shared - 1 + j, token, k) for j, token in enumerate(tail)])
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
