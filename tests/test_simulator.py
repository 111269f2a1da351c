"""The simulator with an engine that remembers what it was asked, and once with a real model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from hf_mirror.backends import Generation, Request
from hf_mirror.errors import DataError
from hf_mirror.prompts import ANSWER_PREFIX, direct_messages, rationale_messages
from hf_mirror.simulator import UserSimulator, scene_text
from recipes import scratch

MEMORY = {
    "profile": {"age": "25-34", "occupation": "programmer"},
    "history": [{"title": "Star Night", "genres": ["Drama", "Romance"], "signal": {"rating": 4}}, {"title": "Old Tea"}],
}
EXPOSURE = [{"title": "Moon Day", "genres": ["Comedy"]}, "Blue Tea", "Red Hill"]


class Recorder:
    """Likes the last option; keeps what it was asked."""

    model, revision = "recorder", "0"

    def __init__(self) -> None:
        self.asked: list[Request] = []

    def generate(self, requests: Sequence[Request]) -> Iterator[Generation]:
        for request in requests:
            self.asked.append(request)
            yield Generation(request.id, 0, "Stimulus: a hill.\nEvaluation: fine.\nBehavior: [A]", "stop")

    def choice_probs(self, requests: Sequence[Request], labels: Sequence[Sequence[str]]) -> Iterator[np.ndarray]:
        for request, names in zip(requests, labels, strict=True):
            self.asked.append(request)
            weights = np.arange(1, len(names) + 1, dtype=float)
            yield (
                np.full(len(names), np.nan) if "too long" in request.messages[0]["content"] else weights / weights.sum()
            )


def test_scene_text_has_profile_history_and_lettered_options() -> None:
    assert scene_text(MEMORY, EXPOSURE) == (
        "You are: age 25-34, occupation programmer.\n\n"
        "What you took before, oldest first:\n- Star Night [Drama, Romance]: rating 4\n- Old Tea\n\n"
        "What you could take now:\nA. Moon Day [Comedy]\nB. Blue Tea\nC. Red Hill"
    )
    assert scene_text("I like hills.", ["Red Hill"]) == "I like hills.\n\nWhat you could take now:\nA. Red Hill"
    assert scene_text({}, ["Red Hill"]) == "What you could take now:\nA. Red Hill"


def test_choose_reads_the_direct_request() -> None:
    backend = Recorder()
    choice = UserSimulator(backend).choose(MEMORY, EXPOSURE)
    assert (choice.index, choice.thought, choice.probs.tolist()) == (2, None, [1 / 6, 2 / 6, 3 / 6])
    [asked] = backend.asked
    assert asked.messages == direct_messages([{"role": "user", "content": scene_text(MEMORY, EXPOSURE)}])
    assert asked.prefix == ANSWER_PREFIX


def test_think_reads_after_the_thought_without_its_answer_line() -> None:
    backend = Recorder()
    choice = UserSimulator(backend).choose(MEMORY, EXPOSURE, think=True, seed=7)
    assert choice.thought == "Stimulus: a hill.\nEvaluation: fine."
    written, read = backend.asked
    assert written.seeds == (7,) and written.prefix == ""
    assert read.prefix == f"{choice.thought}\n{ANSWER_PREFIX}"
    assert (
        read.messages
        == written.messages
        == rationale_messages([{"role": "user", "content": scene_text(MEMORY, EXPOSURE)}])
    )


def test_a_stored_prompt_is_used_as_it_is() -> None:
    backend = Recorder()
    prompt = direct_messages([{"role": "user", "content": "A. Moon Day\nB. Blue Tea"}])
    choice = UserSimulator(backend).choose(prompt=prompt, exposure=["A", "B"])
    assert backend.asked[0].messages == prompt and choice.probs.shape == (2,)


@pytest.mark.parametrize(
    ("memory", "exposure", "said"),
    [
        (MEMORY, [], "0 options"),
        (MEMORY, ["x"] * 27, "27 options"),
        (MEMORY, [{"name": "x"}], "`title`"),
        ({"past": []}, ["x"], "past"),
        ("too long", ["x", "y"], "longer than"),
    ],
)
def test_bad_scenes_are_named(memory: dict | str, exposure: list, said: str) -> None:
    with pytest.raises(DataError, match=said):
        UserSimulator(Recorder()).choose(memory, exposure)


def test_from_pretrained_chooses_and_thinks(tmp_path: Path) -> None:
    tokenizer = scratch.train_tokenizer([scene_text(MEMORY, EXPOSURE)], 400, 512)
    shape = {"model_type": "llama", "vocab_size": 400, "hidden_size": 16, "intermediate_size": 32}
    shape |= {"num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 512}
    scratch.random_model(shape, tokenizer, seed=0).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    user = UserSimulator.from_pretrained(str(tmp_path))
    silent, aloud = (user.choose(MEMORY, EXPOSURE, think=think, max_tokens=8) for think in (False, True))
    assert silent.probs.sum() == pytest.approx(1) and silent.thought is None
    assert aloud.thought is not None and aloud.probs[aloud.index] == aloud.probs.max()
