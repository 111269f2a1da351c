"""The simplest engine: it repeats the end of its prompt and likes every option alike. For tests and dry runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from hf_mirror.backends import Generation, Request, no_pattern


class EchoBackend:
    """Generates the last `max_tokens` words of the request, chosen by the seed, and uniform option probabilities."""

    structured = False

    def __init__(self, model: str = "echo", revision: str | None = None) -> None:
        self.model = model or "echo"
        self.revision = revision or "1"

    def generate(self, requests: Sequence[Request]) -> Iterator[Generation]:
        """Repeats words of the prompt, beginning at a place that the sample's seed names."""
        no_pattern(requests, "echo")
        for request in requests:
            words = request.messages[-1]["content"].split()
            for sample in range(request.n):
                start = request.seeds[sample] % len(words) if request.seeds and words else 0
                text = " ".join(words[start : start + request.max_tokens])
                cut = len(words) - start > request.max_tokens
                reason = "length" if cut else "stop"
                yield Generation(request.id, sample, text, reason, len(text.split()), len(words) * (sample == 0))

    def choice_probs(self, requests: Sequence[Request], labels: Sequence[Sequence[str]]) -> Iterator[np.ndarray]:
        """1/K for every label."""
        for names in labels:
            yield np.full(len(names), 1 / len(names))

    def answer_logprobs(self, requests: Sequence[Request]) -> Iterator[float]:
        """Every word as likely as any of a thousand, whatever came before."""
        for _ in requests:
            yield -float(np.log(1000))
