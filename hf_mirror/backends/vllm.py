"""vLLM in this process: https://docs.vllm.ai. It wants an environment of its own (`make test-vllm` makes one).

Prefix caching shares a scene's prompt between its samples, and between its decisions when they are read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from hf_mirror.backends import Generation, Request
from hf_mirror.backends.tokens import Chat, Question, softmax
from hf_mirror.errors import ConfigError
from hf_mirror.prompts import LABELS
from hf_mirror.weights import causal_lm_config, resolve

LONGEST = 8192  # tokens that are read at once on a CPU, or more where the context is longer


class VllmBackend:
    """Generates and reads with one causal LM, as fast as the machine allows.

    Weights are safetensors only and no repo's code is ever run. A sample's seed is its own, but sums are taken batch by
    batch, so that another batch may round otherwise and now and then draw another token.
    """

    structured = True

    def __init__(self, model: str, revision: str | None = None) -> None:
        """`model`: a folder, or a Hub id with `revision`."""
        try:
            import torch
            from vllm import LLM
        except ImportError:
            raise ConfigError("backend vllm needs an environment with vLLM: pip install vllm, then hf_mirror") from None
        self.model = model
        folder, self.revision = resolve(model, revision)
        if (folder / "adapter_config.json").exists():
            raise ConfigError(
                f"{model} is an adapter; backend vllm wants whole weights, backend transformers merges them"
            )
        config = causal_lm_config(folder, model).get_text_config()
        self._chat = Chat(folder, model)
        # Half precision is slow on CPUs and rounds probabilities; GPUs take the weights as they were saved. A prompt
        # that is read in chunks turns its sample's generator back in between, which torch's for CPUs cannot.
        longest = getattr(config, "max_position_embeddings", None) or LONGEST
        on_cpu = {"dtype": "float32", "enable_chunked_prefill": False, "max_num_batched_tokens": max(longest, LONGEST)}
        self._llm = LLM(
            str(folder),
            **({"dtype": "auto"} if torch.cuda.is_available() else on_cpu),
            load_format="safetensors",
            trust_remote_code=False,
            enable_prefix_caching=True,
            # Probabilities of the allowed tokens alone: of raw ones, an option beyond the most likely would be lost.
            logprobs_mode="processed_logprobs",
            max_logprobs=len(LABELS),
        )
        self._context = self._llm.llm_engine.model_config.max_model_len

    def generate(self, requests: Sequence[Request]) -> Iterator[Generation]:
        """Samples `n` answers per request; see `Backend`. A prompt that fills the context gives an empty text with
        finish_reason `context`."""
        prompts = self._chat.encode([self._chat.render(request) for request in requests])
        fits = [len(prompt) < self._context for prompt in prompts]
        jobs = [
            (prompt, self._sampling(request, sample, self._context - len(prompt)))
            for request, prompt, fit in zip(requests, prompts, fits, strict=True)
            for sample in range(request.n)
            if fit
        ]
        answers = iter(self._run(jobs))
        for request, fit in zip(requests, fits, strict=True):
            for sample in range(request.n):
                if not fit:
                    yield Generation(request.id, sample, "", "context")
                    continue
                found = next(answers)
                answer = found.outputs[0]
                reason = "length" if answer.finish_reason == "length" else "stop"
                read = len(found.prompt_token_ids) * (sample == 0)
                yield Generation(request.id, sample, answer.text, reason, len(answer.token_ids), read)

    def choice_probs(self, requests: Sequence[Request], labels: Sequence[Sequence[str]]) -> Iterator[np.ndarray]:
        """One distribution per request over exactly its labels; see `Backend`.

        Where one token tells the labels apart, one pass over the context gives them all; where it takes more, every
        label's tokens are read and their log-probabilities summed.
        """
        asked = [self._chat.question(*pair) for pair in zip(requests, labels, strict=True)]
        jobs = [job for question in asked if question.longest < self._context for job in _reading(question)]
        answers = iter(self._run(jobs))
        for question in asked:
            if question.longest >= self._context:
                yield np.full(len(question.tails), np.nan)
            elif question.one_token_each:
                found = next(answers).outputs[0].logprobs[0]
                yield softmax(np.array([found[tail[0]].logprob for tail in question.tails]))
            else:
                yield softmax(np.array([_tail(next(answers), tail) for tail in question.tails]))

    def answer_logprobs(self, requests: Sequence[Request]) -> Iterator[float]:
        """The log-probability of each request's prefix; see `Backend`."""
        from vllm import SamplingParams

        asked = [self._chat.answer(request) for request in requests]
        settings = SamplingParams(max_tokens=1, prompt_logprobs=0)
        answers = iter(self._run([(ids, settings) for ids, _ in asked if len(ids) < self._context]))
        for ids, start in asked:
            tail = ids[start:]
            yield _tail(next(answers), tail) / max(len(tail), 1) if len(ids) < self._context else math.nan

    def _sampling(self, request: Request, sample: int, room: int) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        return SamplingParams(
            temperature=request.temperature,
            top_p=request.top_p,
            max_tokens=min(request.max_tokens, room),
            seed=request.sample_seed(sample),
            structured_outputs=StructuredOutputsParams(regex=request.pattern) if request.pattern else None,
        )

    def _run(self, jobs: list[tuple[list[int], Any]]) -> Any:
        from vllm import TokensPrompt

        prompts = [TokensPrompt(prompt_token_ids=prompt) for prompt, _ in jobs]
        return self._llm.generate(prompts, [settings for _, settings in jobs], use_tqdm=False) if jobs else []


def _reading(question: Question) -> list[tuple[list[int], Any]]:
    from vllm import SamplingParams

    if question.one_token_each:
        tokens = [tail[0] for tail in question.tails]
        settings = SamplingParams(max_tokens=1, temperature=1.0, logprobs=len(tokens), allowed_token_ids=tokens)
        return [(question.context, settings)]
    settings = SamplingParams(max_tokens=1, prompt_logprobs=0)
    return [([*question.context, *tail], settings) for tail in question.tails]


def _tail(answer: Any, tail: Sequence[int]) -> float:
    """The log-probability of the tokens at the end of a prompt."""
    logprobs = answer.prompt_logprobs[-len(tail) :]
    return sum(found[token].logprob for found, token in zip(logprobs, tail, strict=True))
