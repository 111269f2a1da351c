"""What every engine promises, tried on all that can answer on this machine."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from hf_mirror import backends
from hf_mirror.backends import ENGINES, Backend, Option, Request, SceneView, SeenItem
from hf_mirror.errors import ConfigError
from hf_mirror.prompts import LABELS, answer_pattern, parse

CASES = [
    "echo",
    "template-teacher",
    "template-student",
    "template-reader",
    "transformers",
    "openai",
    "vllm",
    "openai-vllm",
]


def film(title: str, *genres: str) -> dict:
    return {"title": title, "genres": list(genres)}


def scene(n_options: int) -> SceneView:
    past = tuple(SeenItem(film(f"Past {i}", "Drama"), {"rating": 4}, i % 2 == 0) for i in range(3))
    return SceneView(past, tuple(Option(film(f"Film {i}", "Drama" if i else "War"), 3 * i) for i in range(n_options)))


def request(name: str, n_options: int = 4, n: int = 3, **more: object) -> Request:
    text = f"Scene {name}: what will it be, and why? " + " ".join(f"word{i}" for i in range(30))
    seeds = tuple(range(100, 100 + n))
    more = {"max_tokens": 64, **more}
    return Request(name, [{"role": "user", "content": text}], n=n, seeds=seeds, scene=scene(n_options), **more)


@pytest.fixture(params=CASES)
def backend(request: pytest.FixtureRequest, open_backend: Callable[[str], Backend]) -> Backend:
    return open_backend(request.param)


def test_every_engine_is_tested() -> None:
    assert {case.partition("-")[0] for case in CASES} == set(ENGINES)


def test_it_says_what_answers(backend: Backend) -> None:
    assert backend.model and isinstance(backend.model, str)
    assert backend.revision and isinstance(backend.revision, str)


def test_generations_come_in_order_n_per_request(backend: Backend) -> None:
    asked = [request("b", n=3), request("a", n=1), request("c", n=2)]
    answers = list(backend.generate(asked))
    assert [(answer.id, answer.sample_index) for answer in answers] == [
        ("b", 0), ("b", 1), ("b", 2), ("a", 0), ("c", 0), ("c", 1)
    ]  # fmt: skip
    assert {answer.finish_reason for answer in answers} <= {"stop", "length"}
    assert all(answer.tokens > 0 for answer in answers)
    assert all(answer.prompt_tokens > 0 for answer in answers if answer.sample_index == 0)
    assert all(isinstance(answer.text, str) for answer in answers) and any(answer.text for answer in answers)
    assert list(backend.generate([])) == []


def test_the_same_seed_writes_the_same_text_in_any_batch(backend: Backend) -> None:
    asked = [request(name, n=4) for name in "abc"]
    together = list(backend.generate(asked))
    alone = [answer for one in reversed(asked) for answer in backend.generate([one])]
    assert sorted(together, key=repr) == sorted(alone, key=repr)


def test_other_seeds_write_other_texts(backend: Backend) -> None:
    one = request("a", n=12)
    texts = {answer.text for answer in backend.generate([one])}
    assert len(texts) > 1


@pytest.mark.parametrize("sizes", [[2], [12, 5, 2], [26]])
def test_probabilities_are_one_per_option_and_sum_to_one(backend: Backend, sizes: list[int]) -> None:
    asked = [request(str(i), size, prefix="Because.\nBehavior: [") for i, size in enumerate(sizes)]
    probs = list(backend.choice_probs(asked, [LABELS[:size] for size in sizes]))
    assert [p.shape for p in probs] == [(size,) for size in sizes]
    for p in probs:
        assert p.dtype == np.float64
        assert (p >= 0).all()
        assert p.sum() == pytest.approx(1)
    again = list(backend.choice_probs(asked[::-1], [LABELS[:size] for size in sizes[::-1]]))[::-1]
    assert all(one == pytest.approx(two, abs=1e-5) for one, two in zip(probs, again, strict=True))


@pytest.mark.parametrize("case", ["vllm", "openai-vllm"])
@pytest.mark.parametrize("sizes", [[2, 5, 12], [26]])
def test_engines_read_one_model_alike(case: str, sizes: list[int], open_backend: Callable[[str], Backend]) -> None:
    """What transformers reads equals a brute-force reading, label by label (test_transformers.py)."""
    asked = [request(str(i), size, prefix="I think of stars.\nBehavior: [") for i, size in enumerate(sizes)]
    labels = [LABELS[:size] for size in sizes]
    found = list(open_backend(case).choice_probs(asked, labels))
    expected = list(open_backend("transformers").choice_probs(asked, labels))
    assert all(one == pytest.approx(two, abs=1e-4) for one, two in zip(found, expected, strict=True))
    assert max(p.max() - p.min() for p in expected) > 0.05


def test_answers_have_a_likelihood_with_and_without_the_prompt(backend: Backend) -> None:
    answers = ["I think of tea.\nBehavior: [A]", "I think of stars and of tea.\nBehavior: [B]"]
    asked = [request(str(i), prefix=answer) for i, answer in enumerate(answers)]
    asked += [replace(one, messages=[]) for one in asked]
    found = list(backend.answer_logprobs(asked))
    assert len(found) == 4
    assert all(isinstance(value, float) and value < 0 for value in found)
    again = list(backend.answer_logprobs(asked[::-1]))[::-1]
    assert found == pytest.approx(again, abs=1e-3)
    assert list(backend.answer_logprobs([])) == []


@pytest.mark.parametrize("case", ["vllm", "openai-vllm"])
def test_engines_find_one_answer_as_likely(case: str, open_backend: Callable[[str], Backend]) -> None:
    asked = [request(str(i), prefix=f"I think of tea {i}.\nBehavior: [A]") for i in range(3)]
    asked += [replace(one, messages=[]) for one in asked]
    expected = list(open_backend("transformers").answer_logprobs(asked))
    assert list(open_backend(case).answer_logprobs(asked)) == pytest.approx(expected, abs=1e-2)


def test_structured_output_is_what_was_asked_for_or_refused(backend: Backend) -> None:
    """With a model whose weights are random, so that it would not write this by chance."""
    pattern = answer_pattern(3).replace("[^\\n]+", "(?:tea|stars){1,3}")
    one = request("a", n=4, pattern=pattern, max_tokens=300)
    if type(backend).__name__ in ("EchoBackend", "TransformersBackend", "TemplateBackend"):
        with pytest.raises(ConfigError, match="no structured output"):
            list(backend.generate([one]))
        return
    answers = list(backend.generate([one]))
    if type(backend).__name__ == "VllmBackend" or backend.model == "tiny":
        assert all(re.fullmatch(pattern, answer.text) for answer in answers if answer.finish_reason == "stop")
        assert any(answer.finish_reason == "stop" for answer in answers)


@pytest.mark.parametrize("case", ["transformers", "vllm", "openai-vllm"])
def test_what_is_longer_than_the_context_is_marked(case: str, open_backend: Callable[[str], Backend]) -> None:
    backend = open_backend(case)
    long = Request("long", [{"role": "user", "content": "star " * 2000}], prefix="[", n=2, seeds=(1, 2), max_tokens=4)
    short = request("short", prefix="[", n=1)
    probs = list(backend.choice_probs([long, short], ["ABC", "AB"]))
    assert np.isnan(probs[0]).all() and probs[0].shape == (3,)
    assert probs[1].sum() == pytest.approx(1)
    assert np.isnan(list(backend.answer_logprobs([long, short])))[:1].all()
    answers = list(backend.generate([short, long]))
    assert [(a.id, a.finish_reason) for a in answers[1:]] == [("long", "context")] * 2
    assert [a.text for a in answers[1:]] == ["", ""]


def test_echo_repeats_the_end_of_its_prompt() -> None:
    one = request("a", n=1)
    (answer,) = backends.load("echo", "echo").generate([one])
    assert one.messages[-1]["content"].endswith(answer.text)
    (cut,) = backends.load("echo", "echo").generate([request("a", n=1, max_tokens=2)])
    assert (cut.finish_reason, len(cut.text.split())) == ("length", 2)


def test_the_template_writes_what_parses_and_colder_is_surer() -> None:
    teacher = backends.load("template", "teacher")
    choices = {}
    for temperature in (0.0, 5.0):
        answers = list(teacher.generate([request("a", n=50, temperature=temperature)]))
        parsed = [parse(answer.text, 4) for answer in answers]
        assert all(p.parse_error is None for p in parsed)
        assert all(f"Film {p.stated_choice}" in p.thought for p in parsed)
        choices[temperature] = {p.stated_choice for p in parsed}
    assert len(choices[0.0]) == 1
    assert len(choices[5.0]) > 1


def test_the_template_reader_is_moved_by_what_the_thought_names() -> None:
    reader = backends.load("template", "reader")
    labels = [LABELS[:4]]
    (silent,) = reader.choice_probs([request("a", prefix="Hm.\nBehavior: [")], labels)
    (named,) = reader.choice_probs([request("a", prefix="Film 2 suits me.\nBehavior: [")], labels)
    assert named[2] > silent[2]
    assert silent.argmax() == 3  # drama, as what was liked, and the most popular


def test_the_template_needs_structure_and_matching_labels() -> None:
    reader = backends.load("template", "reader")
    bare = Request("a", [{"role": "user", "content": "x"}], seeds=(1,))
    with pytest.raises(ConfigError, match="no scene"):
        list(reader.generate([bare]))
    with pytest.raises(ConfigError, match="3 labels for 4 options"):
        list(reader.choice_probs([request("a")], [LABELS[:3]]))
    with pytest.raises(ConfigError, match="no model 'oracle'"):
        backends.load("template", "oracle")


def test_an_unknown_engine_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'template'"):
        backends.load("tempalte", "teacher")
