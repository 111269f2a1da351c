"""hf_mirror's engines as a lighteval model: one forward pass per row, where the stock one makes one per option.

    MIRROR_BENCH=<ns>/mirror-bench@v1.0.0 MIRROR_BACKEND=transformers \\
    lighteval custom <ns>/<model> evals/model.py "mirror:<subset>|0" --custom-tasks evals.tasks --output-dir out

`MIRROR_BACKEND` is `transformers` (default), `vllm` or `openai` (a server at `OPENAI_BASE_URL`), `MIRROR_REVISION` the
model's revision. Nothing is cached between runs: lighteval's sample cache would be keyed by the path of the model and
not by its weights.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lighteval.models.abstract_model import LightevalModel, ModelConfig
from lighteval.models.model_output import ModelResponse
from lighteval.tasks.requests import Doc

from evals.tasks import Thoughtful
from hf_mirror.backends import Backend, load
from hf_mirror.evaluation.answers import OVER_LENGTH, Answer, Question, answer


class MirrorModel(LightevalModel):
    """Answers benchmark rows through a `Backend`; see `hf_mirror.evaluation.answers`."""

    def __init__(
        self,
        config: ModelConfig,
        backend: Backend | None = None,
        journal: Path | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self.config = config
        self.backend = backend or load(
            os.environ.get("MIRROR_BACKEND", "transformers"), config.model_name, os.environ.get("MIRROR_REVISION")
        )
        self._journal, self._progress = journal, progress
        self._cache = _NoCache()

    def loglikelihood(self, docs: list[Doc]) -> list[ModelResponse]:
        """`direct` rows: log P(option | row) over exactly the row's options."""
        return [
            ModelResponse(
                input=doc.query,
                logprobs=_logarithms(found, len(doc.choices)),
                truncated_tokens_count=int(found.failure == OVER_LENGTH),
            )
            for doc, found in self._answers("direct", docs)
        ]

    def greedy_until(self, docs: list[Doc]) -> list[ModelResponse]:
        """`rationale` rows: decisions (sampled, not greedy) in `text`, and log P(option | row), their mean."""
        return [
            Thoughtful(
                input=doc.query,
                text=[decision.text for decision in found.decisions],
                decisions=found.decisions,
                logprobs=_logarithms(found, len(doc.choices)),
                truncated_tokens_count=int(found.failure == OVER_LENGTH),
            )
            for doc, found in self._answers("rationale", docs)
        ]

    def loglikelihood_rolling(self, docs: list[Doc]) -> list[ModelResponse]:
        """No task of this suite asks for it."""
        raise NotImplementedError("perplexity of whole texts is no part of the mirror suite")

    def _answers(self, mode: str, docs: Sequence[Doc]) -> list[tuple[Doc, Answer]]:
        questions = [
            Question(
                "/".join(str((doc.specific or {})[name]) for name in ("domain", "regime", "scene_id", "variant_id")),
                [{"role": "user", "content": doc.query}],
                [choice.rpartition("[")[2] for choice in doc.choices],
            )
            for doc in docs
        ]
        return list(zip(docs, answer(self.backend, mode, questions, self._journal, self._progress), strict=True))

    @property
    def tokenizer(self) -> Any:
        """Engines tokenise by themselves."""
        raise NotImplementedError("the engine has its own tokenizer")

    @property
    def add_special_tokens(self) -> bool:
        """The chat template has written them."""
        return False

    @property
    def max_length(self) -> int:
        """Engines know it, and say which rows do not fit."""
        raise NotImplementedError("the engine knows its context")


class _NoCache:
    """What lighteval's pipeline wants of a cache."""

    def _init_registry(self, registry: Any) -> None:
        """Nothing is kept."""


def _logarithms(found: Answer, n_options: int) -> list[float]:
    if not found.choice_probs:
        return [math.nan] * n_options
    return [math.log(max(p, sys.float_info.min)) for p in found.choice_probs]
