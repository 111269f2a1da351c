"""Causal language models with weights, from a folder or the Hub, in this process.

Weights are safetensors only and no repo's code is ever run. All methods work on batches of similar length and give
each request what it would get alone, up to the rounding of floating-point sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from hf_mirror.backends import Generation, Request, no_pattern
from hf_mirror.backends.tokens import Chat, check_numbers, softmax
from hf_mirror.backends.transformers import sampling, scoring
from hf_mirror.backends.transformers.model import LanguageModel
from hf_mirror.errors import ConfigError
from hf_mirror.weights import resolve

WINDOW = 256  # requests that are taken together; results leave in order, window by window
READ_AT_ONCE = 16  # answers are read at every position, and logits of long batches are the largest tensors by far


class TransformersBackend:
    """Generates and reads with one causal LM through its chat template."""

    structured = False

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        *,
        batch_tokens: int = 32_768,
        continuous: bool | None = None,
        dtype: str | None = None,
    ) -> None:
        """`model`: a folder, or a Hub id with `revision`. `batch_tokens` bounds the tokens that are held at once,
        padding included; a single longer request still runs, alone. `continuous`: whether waiting samples join a
        running batch where others end; by default on GPUs, where a step takes about as long with few rows as with
        many. On CPUs its time grows with its rows. `dtype`: `float32`, `bfloat16` or `float16`; by default float32 on
        CPUs, and on GPUs that of the weights."""
        self.model = model
        folder, self.revision = resolve(model, revision)
        self._model = LanguageModel(folder, model, dtype)
        self._chat = Chat(folder, model)
        self._stop = _ids(self._model.lm.generation_config.eos_token_id) | _ids(self._chat.tokenizer.eos_token_id)
        self._batch_tokens = batch_tokens
        self._continuous = self._model.lm.device.type != "cpu" if continuous is None else continuous

    def generate(self, requests: Sequence[Request]) -> Iterator[Generation]:
        """Samples `n` answers per request; see `Backend`.

        The n-th token of a sample is drawn by inverting the cumulative distribution (sorted by probability, cut at
        `top_p`) at the n-th number of the sample's own generator, PCG64 of its seed. So a sample depends on its
        request and seed, not on the batch it runs in. `temperature` 0 takes the likeliest token. The model's own
        generation settings (penalties, top-k) are not applied. Without `seeds`, they derive from id and index. A
        prompt that fills the context gives an empty text with finish_reason `context`.
        """
        no_pattern(requests, "transformers")
        for start in range(0, len(requests), WINDOW):
            window = requests[start : start + WINDOW]
            prompts = self._chat.encode([self._chat.render(request) for request in window])
            samples = [
                sample
                for i, request in enumerate(window)
                for sample in sampling.Sample.all_of(request, i, len(prompts[i]), self._model.context)
            ]
            sampling.write(self._model, prompts, samples, self._stop, self._batch_tokens, self._continuous)
            for s in samples:
                text, read = self._chat.decode(s.tokens), s.used * (s.index == 0)
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
            yield from self._choices(requests[start : start + WINDOW], labels[start : start + WINDOW])

    def answer_logprobs(self, requests: Sequence[Request]) -> Iterator[float]:
        """The log-probability of each request's prefix; see `Backend`."""
        for start in range(0, len(requests), WINDOW):
            scores, lengths, families, fits = [], [], [], set()
            for i, request in enumerate(requests[start : start + WINDOW]):
                ids, before = self._chat.answer(request)
                reads = [(position, ids[position + 1], 0) for position in range(before - 1, len(ids) - 1)]
                scores.append(np.array([np.nan if len(ids) > self._model.context else 0.0]))
                lengths.append(len(reads))
                if len(ids) <= self._model.context:
                    fits.add(i)
                    families.append(scoring.Family(0, [scoring.Row(i, ids, reads)]))
            scoring.read(self._model, families, scores, self._batch_tokens // READ_AT_ONCE)
            for i, (score, length) in enumerate(zip(scores, lengths, strict=True)):
                if i in fits:
                    check_numbers(score)
                yield float(score[0]) / max(length, 1)

    def _choices(self, requests: Sequence[Request], labels: Sequence[Sequence[str]]) -> Iterator[np.ndarray]:
        scores = [np.zeros(len(row)) for row in labels]
        over_length: set[int] = set()
        families: dict[str, list[scoring.Row]] = {}
        for i, (request, names) in enumerate(zip(requests, labels, strict=True)):
            question = self._chat.question(request, names)
            if question.longest > self._model.context:
                over_length.add(i)
            elif len(names) > 1:
                rows = families.setdefault(request.messages[-1]["content"], [])
                rows += scoring.Row.all_of(i, question)
        together = [scoring.Family.of(rows) for rows in families.values()]
        scoring.read(self._model, together, scores, self._batch_tokens)
        for i, row in enumerate(scores):
            yield np.full(len(row), np.nan) if i in over_length else softmax(row)


def _ids(value: int | list[int] | None) -> set[int]:
    return set() if value is None else {value} if isinstance(value, int) else set(value)
