"""An engine without weights: it weighs likeness to the history and popularity, and says so in EKB words.

It reads `request.scene`, never the truth. It makes the whole path run anywhere and proves plumbing, not claims; every
card names it. As a writer it comes in two models: `teacher`, and `student`, which weighs the same with more noise. As
a reader it gives what a careful reader would: the weights without noise, moved by what the thought names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from hf_mirror.backends import Generation, Request, SceneView, no_pattern
from hf_mirror.errors import ConfigError
from hf_mirror.identity import seed as seed_of
from hf_mirror.prompts import answer_line, parse

NOISE = {"teacher": 0.35, "student": 1.6, "reader": 0.0}
LIKENESS, POPULARITY, NAMED = 6.0, 0.3, 1.5
LIKED, DISLIKED = 1.0, -0.5

STIMULUS = (
    "I have a moment to choose, and {} catches my eye.",
    "Looking through the list, I stop at {}.",
    "What I notice first is {}.",
)
KNOWLEDGE = (
    "I remember {}, and it had something of what I look for: {}.",
    "What I did before tells me something: {} was about {}.",
    "From before I know {}; what stayed with me is {}.",
)
EVALUATION = {
    "sure": "Compared with the others, {} is clearly nearer to my taste than {}.",
    "torn": "{} and {} are close for me, and I lean to the first.",
    "popular": "Many people took {}, more than {}, and that counts a little too.",
}


class TemplateBackend:
    """`model` is `teacher`, `student` or `reader`."""

    structured = False

    def __init__(self, model: str = "teacher", revision: str | None = None) -> None:
        if model not in NOISE:
            raise ConfigError(f"the template backend has no model {model!r}; choose one of {', '.join(NOISE)}")
        self.model = model
        self.revision = revision or "1"

    def generate(self, requests: Sequence[Request]) -> Iterator[Generation]:
        """Writes Stimulus, Knowledge, Evaluation and the answer line; temperature scales the noise."""
        no_pattern(requests, "template")
        for request in requests:
            scene = _scene(request)
            weights = _weights(scene)
            read = len(request.messages[-1]["content"].split())
            seeds = request.seeds or tuple(seed_of(request.id, sample) for sample in range(request.n))
            for sample in range(request.n):
                rng = np.random.Generator(np.random.PCG64(seeds[sample]))
                noise = NOISE[self.model] * request.temperature * rng.gumbel(size=len(weights))
                text = _text(scene, weights + noise, rng)
                yield Generation(request.id, sample, text, "stop", len(text.split()), read * (sample == 0))

    def choice_probs(self, requests: Sequence[Request], labels: Sequence[Sequence[str]]) -> Iterator[np.ndarray]:
        """A softmax over the noiseless weights; options that the prefix names gain."""
        last: SceneView | None = None
        for request, names in zip(requests, labels, strict=True):
            scene = _scene(request)
            if scene is not last:  # a scene's decisions come together
                noiseless, last = _weights(scene), scene
            if len(names) != len(scene.options):
                raise ConfigError(f"request {request.id} has {len(names)} labels for {len(scene.options)} options")
            weights = noiseless.copy()
            for position, option in enumerate(scene.options):
                weights[position] += NAMED * request.prefix.count(_title(option.attributes))
            weights = np.exp(weights - weights.max())
            yield weights / weights.sum()

    def answer_logprobs(self, requests: Sequence[Request]) -> Iterator[float]:
        """How likely it would write an answer with this choice: its words are as likely whatever the scene, the option
        follows the noiseless weights, or is any of the K where the scene is not given."""
        for request in requests:
            scene = _scene(request)
            choice = parse(request.prefix, len(scene.options)).stated_choice
            weights = _weights(scene) if request.messages else np.zeros(len(scene.options))
            logs = weights - weights.max()
            logs -= np.log(np.exp(logs).sum())
            words = np.log(len(STIMULUS)) + np.log(len(KNOWLEDGE) if scene.history else 1)
            yield float((logs.min() if choice is None else logs[choice]) - words) / max(len(request.prefix.split()), 1)


def _scene(request: Request) -> SceneView:
    if request.scene is None:
        raise ConfigError(f"request {request.id} carries no scene; the template backend reads structure, not text")
    return request.scene


def _weights(scene: SceneView) -> np.ndarray:
    """Likeness to what was liked before plus a little popularity, centred; shape [K]."""
    liked = np.array([LIKED if seen.positive else DISLIKED for seen in scene.history])
    weights = np.empty(len(scene.options))
    for position, option in enumerate(scene.options):
        words = _words(option)
        likeness = [_jaccard(words, _words(seen)) for seen in scene.history]
        weights[position] = LIKENESS * float(np.dot(liked, likeness)) / max(len(likeness), 1)
        weights[position] += POPULARITY * float(np.log1p(option.asof_count))
    return weights - weights.mean()


def _text(scene: SceneView, weights: np.ndarray, rng: np.random.Generator) -> str:
    order = np.argsort(-weights, kind="stable")
    best, second = scene.options[int(order[0])], scene.options[int(order[1])]
    words = _words(best)
    likeness = [_jaccard(words, _words(seen)) for seen in scene.history]
    seen = scene.history[int(np.argmax(likeness))] if likeness else None
    shared = sorted(words & _words(seen)) if seen else []
    margin = weights[order[0]] - weights[order[1]]
    style = "sure" if margin > 1 else "popular" if best.asof_count > second.asof_count else "torn"
    lines = [f"Stimulus: {STIMULUS[rng.integers(len(STIMULUS))].format(_title(best.attributes))}"]
    if seen is not None:
        about = ", ".join(shared) if shared else "something else"
        lines.append(f"Knowledge: {KNOWLEDGE[rng.integers(len(KNOWLEDGE))].format(_title(seen.attributes), about)}")
    lines.append(f"Evaluation: {EVALUATION[style].format(_title(best.attributes), _title(second.attributes))}")
    return "\n".join([*lines, answer_line(int(order[0]))])


def _title(attributes: Mapping[str, Any]) -> str:
    return str(attributes.get("title", "this one"))


def _words(item: Any) -> frozenset[str]:
    """The words of every attribute but the title: whole list entries, and words of texts."""
    parts: list[str] = []
    for name, value in item.attributes.items():
        if name != "title":
            parts.extend(map(str, value) if isinstance(value, list) else [str(value)])
    return _tokens(tuple(parts))


@lru_cache(maxsize=65_536)
def _tokens(parts: tuple[str, ...]) -> frozenset[str]:
    return frozenset(token for part in parts for token in re.findall(r"[\w'-]+", part.lower()))


def _jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / len(a | b) if a or b else 0.0
