"""One class per engine, one protocol for all: write text, and give one probability per option.

Adding an engine is one module with one class, one line in ENGINES and one extra in pyproject.toml.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Protocol

import numpy as np

from hf_mirror.errors import ConfigError
from hf_mirror.identity import seed

ENGINES = {
    "echo": "EchoBackend",
    "template": "TemplateBackend",
    "transformers": "TransformersBackend",
    "vllm": "VllmBackend",
    "openai": "OpenAIBackend",
}


@dataclass(frozen=True)
class SeenItem:
    """One past interaction as an engine may see it."""

    attributes: Mapping[str, Any]
    signal: Mapping[str, Any]
    positive: bool


@dataclass(frozen=True)
class Option:
    """One exposed item: its attributes, and how many interactions it had before the scene."""

    attributes: Mapping[str, Any]
    asof_count: int


@dataclass(frozen=True)
class SceneView:
    """A scene without its truth, for engines that read structure instead of text."""

    history: tuple[SeenItem, ...]
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Request:
    """One prompt. `prefix` is the beginning of the answer, already given; `seeds` holds one seed per sample. Answers
    match `pattern`, a regular expression, on engines with structured output."""

    id: str
    messages: list[dict[str, str]]
    prefix: str = ""
    n: int = 1
    seeds: tuple[int, ...] = ()
    temperature: float = 1.0
    top_p: float = 0.9
    max_tokens: int = 512
    pattern: str | None = None
    scene: SceneView | None = None

    def sample_seed(self, sample: int) -> int:
        """The seed of one sample: the one given, else one of the request's id and the sample's number."""
        if self.seeds and len(self.seeds) != self.n:
            raise ConfigError(f"request {self.id} has {len(self.seeds)} seeds for {self.n} samples")
        return self.seeds[sample] if self.seeds else seed("sample", self.id, sample)


@dataclass(frozen=True)
class Generation:
    """One sampled answer, without the prefix.

    `finish_reason` is `stop`, `length`, `context` where the prompt leaves no room for an answer, or `failed` where an
    endpoint gave no answer to this sample. `tokens` were generated; `prompt_tokens` were read for it, 0 for samples
    that share what was read for the first.
    """

    id: str
    sample_index: int
    text: str
    finish_reason: str
    tokens: int = 0
    prompt_tokens: int = 0


class Backend(Protocol):
    """What every engine offers. `model` and `revision` name exactly what answered; `structured` says whether answers
    can be held to a request's `pattern`."""

    model: str
    revision: str
    structured: bool

    def generate(self, requests: Sequence[Request]) -> Iterator[Generation]:
        """Yields `n` generations per request, in the order of requests and samples."""
        ...

    def choice_probs(self, requests: Sequence[Request], labels: Sequence[Sequence[str]]) -> Iterator[np.ndarray]:
        """Yields, per request, P(label) over exactly its labels as they follow `messages` + `prefix`: float64, shape
        [K], sum 1; all NaN where the input is longer than the engine's context."""
        ...

    def answer_logprobs(self, requests: Sequence[Request]) -> Iterator[float]:
        """Yields, per request, log P(`prefix` | `messages`) in nats, the mean over the prefix's tokens; without
        messages, of `prefix` by itself (of all but its first token, where the model has none to begin with). NaN where
        the input is longer than the engine's context."""
        ...


def no_pattern(requests: Sequence[Request], engine: str) -> None:
    """ConfigError if any request wants structured output, for engines without it."""
    if any(request.pattern for request in requests):
        raise ConfigError(f"backend {engine} has no structured output; leave --structured out")


@dataclass(frozen=True)
class Engine:
    """An engine and its model, by name: what is sent to where it runs."""

    backend: str
    model: str
    revision: str | None = None

    def load(self) -> Backend:
        """Opens it here."""
        return load(self.backend, self.model, self.revision)


def load(engine: str, model: str, revision: str | None = None) -> Backend:
    """The engine `engine` with `model` (a role for `template`, a Hub id or folder for engines with weights)."""
    if engine not in ENGINES:
        near = get_close_matches(engine, ENGINES, n=1, cutoff=0.0)
        raise ConfigError(f"backend {engine!r} is not known; did you mean {near[0]!r}? Known: {', '.join(ENGINES)}")
    backend: Backend = getattr(import_module(f"{__name__}.{engine}"), ENGINES[engine])(model, revision)
    return backend
