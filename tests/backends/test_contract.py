"""What every engine promises. The transformers engine, which needs weights, has a file of its own."""

from __future__ import annotations

import numpy as np
import pytest

from hf_mirror import backends
from hf_mirror.backends import ENGINES, Backend, Option, Request, SceneView, SeenItem
from hf_mirror.errors import ConfigError
from hf_mirror.prompts import LABELS, parse

# Engines that answer here and now, each with the models it knows by name.
MODELS = {"echo": ["echo"], "template": ["teacher", "student", "reader"]}
ELSEWHERE = {"transformers"}
CASES = [(engine, model) for engine in ENGINES if engine not in ELSEWHERE for model in MODELS.get(engine, [])]


def film(title: str, *genres: str) -> dict:
    return {"title": title, "genres": list(genres)}


def scene(n_options: int) -> SceneView:
    past = tuple(SeenItem(film(f"Past {i}", "Drama"), {"rating": 4}, i % 2 == 0) for i in range(3))
    return SceneView(past, tuple(Option(film(f"Film {i}", "Drama" if i else "War"), 3 * i) for i in range(n_options)))


def request(name: str, n_options: int = 4, n: int = 3, **more: object) -> Request:
    text = f"Scene {name}: what will it be, and why? " + " ".join(f"word{i}" for i in range(30))
    seeds = tuple(range(100, 100 + n))
    return Request(name, [{"role": "user", "content": text}], n=n, seeds=seeds, scene=scene(n_options), **more)


@pytest.fixture(params=CASES, ids=["-".join(case) for case in CASES])
def backend(request: pytest.FixtureRequest) -> Backend:
    return backends.load(*request.param)


def test_every_engine_is_tested_somewhere() -> None:
    assert set(ENGINES) - ELSEWHERE == set(MODELS), "name the new engine's models here, or test it in its own file"


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
    assert all(isinstance(answer.text, str) and answer.text for answer in answers)
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
    assert all((one == two).all() for one, two in zip(probs, again, strict=True))


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
