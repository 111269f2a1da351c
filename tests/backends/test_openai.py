"""The openai engine against a real server on loopback: one that works, and one that misbehaves in every way we know."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_mirror.backends import Request, load
from hf_mirror.backends.openai import OpenAIBackend
from hf_mirror.backends.openai import session as engine
from hf_mirror.domains import import_file
from hf_mirror.errors import ConfigError, MirrorError
from hf_mirror.prompts import LABELS

fake = import_file(Path(__file__).parent / "server.py")
MODEL, Server, logprob, uses = fake.MODEL, fake.Server, fake.logprob, fake.uses


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with Server() as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-made-up-secret")
        yield running


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "FIRST_WAIT", 0.01)


def request(name: str = "a", n: int = 3, **more: object) -> Request:
    return Request(name, [{"role": "user", "content": f"Scene {name}"}], n=n, seeds=tuple(range(n)), **more)


def backend() -> OpenAIBackend:
    return load("openai", MODEL)  # type: ignore[return-value]


def test_every_sample_is_a_request_with_its_own_seed(server: Any) -> None:
    answers = list(backend().generate([request("a", 4), request("b", 2)]))
    assert [(a.id, a.sample_index) for a in answers] == [*(("a", i) for i in range(4)), ("b", 0), ("b", 1)]
    assert uses(server) == {0: 2, 1: 2, 2: 1, 3: 1}
    assert {body["temperature"] for body in server.asked} == {1.0}
    assert {body["top_p"] for body in server.asked} == {0.9}


def test_a_server_that_ignores_seeds_still_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(seeds=False, models=None) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        answers = list(backend().generate([request(n=6)]))
    assert len({a.text for a in answers}) == 6
    assert {a.finish_reason for a in answers} == {"stop"}


def test_many_are_under_way_and_never_too_many(server: Any) -> None:
    list(backend().generate([request(str(i), 4) for i in range(40)]))
    assert engine.CONCURRENCY // 2 < server.most_at_once <= engine.CONCURRENCY


@pytest.mark.parametrize(
    "fault",
    [429, 503, 500, "cut", "malformed", "no choices", "not a completion", "error", "html", "parts", "a number", "slow"],
)
def test_what_passes_is_waited_out(server: Any, fault: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same answers as of a server without faults, none twice, none lost."""
    asked = backend()
    whole = list(asked.generate([request("a", 5)]))
    server.asked.clear()
    server.faults = [fault] * 2
    assert list(asked.generate([request("a", 5)])) == whole
    assert not server.faults
    assert len(server.asked) == 5 + 2 * (fault != "slow")


def test_retry_after_is_obeyed(server: Any) -> None:
    asked = backend()
    server.faults = [(429, {"Retry-After": "2"})]
    begin = time.monotonic()
    list(asked.generate([request(n=1)]))
    assert server.moments[1] - begin >= 2


def test_a_server_may_ask_for_more_than_the_client_would_wait(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    wait = engine.asyncio.sleep

    async def sleep(seconds: float) -> None:
        if threading.current_thread() is threading.main_thread():  # not the server's
            waits.append(seconds)
        else:
            await wait(seconds)

    asked = backend()
    monkeypatch.setattr(engine.asyncio, "sleep", sleep)
    server.faults = [(429, {"Retry-After": "180"}), (503, {"Retry-After": "soon"})]
    list(asked.generate([request(n=1)]))
    assert waits == [180, 2 * engine.FIRST_WAIT]


def test_one_bad_sample_costs_no_other(server: Any) -> None:
    asked = backend()
    for fault in (400, 413, 422):
        server.faults = [fault]
        answers = list(asked.generate([request("b", 10)]))
        assert [a.finish_reason for a in answers].count("failed") == 1
        assert [a.text for a in answers if a.finish_reason == "failed"] == [""]
    server.faults = ["no choices"] * 3
    assert [a.finish_reason for a in asked.generate([request("c", 1)])] == ["failed"]


def test_a_scene_that_a_server_fails_on_costs_no_other(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faulty variant: one scene that ends in a 500 each time, and a shard that can never be finished."""
    monkeypatch.setattr(engine, "RETRIES", 1)
    asked = backend()
    server.always = "such scenes"
    answers = list(asked.generate([request("a", 2), request("bad", 2), request("c", 2)]))
    assert [(a.id, a.finish_reason) for a in answers] == [
        *[("a", "stop")] * 2, *[("bad", "failed")] * 2, *[("c", "stop")] * 2
    ]  # fmt: skip


def test_an_endpoint_that_breaks_later_is_an_error(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faulty variant: after one good answer, whatever comes is taken for refused samples, and kept."""
    monkeypatch.setattr(engine, "RETRIES", 2)
    asked = backend()
    list(asked.generate([request("a", 2)]))
    for fault in (400, 500, "error", "html", "no choices"):
        server.always = fault
        with pytest.raises(MirrorError, match="see its log, and run the same command again"):
            list(asked.generate([request("b", 20)]))


def test_what_does_not_fit_the_context_is_said_and_room_is_used(server: Any) -> None:
    asked = backend()
    server.faults = ["too long"] * 2
    assert [(a.finish_reason, a.text) for a in asked.generate([request("d", 1)])] == [("context", "")]
    server.faults = ["too long for llama.cpp"] * 2
    assert [a.finish_reason for a in asked.generate([request("d", 1)])] == ["context"]
    server.always = "too long with so many tokens"
    [answer] = asked.generate([request("d", 1)])
    assert answer.finish_reason == "stop" and answer.text


def test_odd_answers_are_taken_for_what_they_are(server: Any) -> None:
    asked = backend()
    server.faults = ["half a pair", "no usage"]
    answers = list(asked.generate([request("a", 2)]))
    assert {a.finish_reason for a in answers} == {"stop"}
    assert "?" in {a.text for a in answers} and 0 in {a.tokens for a in answers}


def test_the_dated_name_is_the_revision_and_stays(server: Any) -> None:
    assert backend().revision == "as served"
    server.faults = ["nobody"]
    assert backend().revision == "as served"
    server.faults = ["dated"]
    asked = backend()
    assert asked.revision == f"{MODEL}-2026-01-31"
    with pytest.raises(MirrorError, match="answers as 'made-up', after 'made-up-2026-01-31'"):
        list(asked.generate([request("a", 2)]))
    assert load("openai", MODEL, "mine").revision == "mine"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (400, "answers 400 (this is a 400); see its log"),
        ("malformed", "gave nothing that is an answer; see its log"),
        ("other model", "answers as 'something else', after 'made-up'"),
        (401, "answers 401 (this is a 401); set OPENAI_API_KEY"),
        (404, "answers 404 (this is a 404)"),
        (429, "answers 429 (this is a 429); run the same command again"),
        (503, "answers 503 (this is a 503); see its log"),
        ("cut", "does not answer"),
        ("slow", "gave no answer within 0.2 s"),
    ],
)  # fmt: skip
def test_what_does_not_pass_is_one_line(
    server: Any, fault: object, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = backend()
    monkeypatch.setattr(engine, "RETRIES", 2)
    monkeypatch.setattr(engine, "TIMEOUT", 0.2 if fault == "slow" else 30.0)
    server.always = fault
    with pytest.raises(MirrorError) as error:
        list(asked.generate([request(n=1)]))
    assert message in str(error.value)
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


def test_endpoints_that_cannot_be_are_one_line(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="serves no model 'made-op'; did you mean 'made-up'"):
        load("openai", "made-op")
    for fault, message in (("other model", "answers as 'something else', but was asked for 'made-up'; pass --model"),
                           (400, "whether made-up is a chat model"), (401, "set OPENAI_API_KEY")):  # fmt: skip
        server.faults = [fault]
        with pytest.raises(MirrorError, match=message):
            backend()
    monkeypatch.setenv("OPENAI_API_KEY", "schlüssel")
    with pytest.raises(ConfigError, match="OPENAI_API_KEY holds characters that no key has"):
        backend()
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://me:hunter2@127.0.0.1:1/v1")
    with pytest.raises(MirrorError, match=r"http://127\.0\.0\.1:1/v1 does not answer") as error:
        backend()
    assert "hunter2" not in str(error.value)
    monkeypatch.delenv("OPENAI_BASE_URL")
    with pytest.raises(ConfigError, match="needs OPENAI_BASE_URL"):
        backend()


@pytest.mark.parametrize("size", [2, 12, 20, 26])
def test_probabilities_are_those_of_the_model(server: Any, size: int) -> None:
    """Read in one pass, or label by label where the server shows too few log-probabilities."""
    asked = request(prefix="Because.\nBehavior: [")
    (probs,) = backend().choice_probs([asked], [LABELS[:size]])
    text = f"<user>{asked.messages[0]['content']}<assistant>{asked.prefix}"
    scores = np.array([math.exp(logprob([ord(s) for s in text], ord(label))) for label in LABELS[:size]])
    assert probs == pytest.approx(scores / scores.sum(), abs=1e-9)


def test_labels_of_several_tokens_are_scored_whole(server: Any) -> None:
    labels = ["one", "two", "twenty"]
    (probs,) = backend().choice_probs([request(prefix="[")], [labels])
    scores = []
    for label in labels:
        score, before = 0.0, [ord(sign) for sign in "<user>Scene a<assistant>["]
        for sign in label:
            score += logprob(before, ord(sign))
            before.append(ord(sign))
        scores.append(math.exp(score))
    assert probs == pytest.approx(np.array(scores) / sum(scores), abs=1e-9)


def test_what_is_too_long_to_read_is_not_a_number(server: Any) -> None:
    long = Request("long", [{"role": "user", "content": "x" * 5000}], prefix="[")
    found = list(backend().choice_probs([long, request(prefix="[")], ["AB", "ABC"]))
    assert np.isnan(found[0]).all() and found[0].shape == (2,)
    assert found[1].sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokenize": False}, "it does not tokenise"),
        ({"logprobs": "raw"}, "--logprobs-mode processed_logprobs"),
        ({"logprobs": None}, "--logprobs-mode processed_logprobs"),
        ({"logprobs": -9999.0}, "--logprobs-mode processed_logprobs"),
    ],
)
def test_where_probabilities_cannot_be_had_it_is_said(
    options: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server(**options) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        with pytest.raises(ConfigError, match="gives no option probabilities") as error:
            list(backend().choice_probs([request(prefix="[")], ["ABC"]))
    assert message in str(error.value)
    assert "read with --backend transformers or vllm" in str(error.value)


def test_a_setting_that_is_refused_for_all_is_an_error(server: Any) -> None:
    asked = backend()
    server.always = "too many tokens"
    with pytest.raises(MirrorError, match="max_tokens is too large"):
        list(asked.generate([request("a", 2, max_tokens=5000)]))
    assert len(list(asked.generate([request("a", 2, max_tokens=50)]))) == 2


def test_a_slow_reader_is_not_one_without_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(**{"tokenising takes": 0.5}) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        reader = backend()
        monkeypatch.setattr(engine, "TIMEOUT", 0.1)
        with pytest.raises(MirrorError, match="gave no answer within"):
            list(reader.choice_probs([request(prefix="[")], ["ABC"]))


def test_another_model_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(**{"completes as": "somebody-else"}) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        with pytest.raises(MirrorError, match="answers as 'somebody-else', after 'made-up'"):
            list(backend().choice_probs([request(prefix="[")], ["ABC"]))


@pytest.mark.parametrize("models", [[None], [7], []])
def test_servers_may_say_little_of_their_models(models: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(models=models) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        if models == [7]:
            with pytest.raises(ConfigError, match="serves no model"):
                backend()
        else:
            assert len(list(backend().generate([request(n=2)]))) == 2


def test_leaving_early_leaves_nothing_under_way(server: Any) -> None:
    answers = backend().generate([request(str(i), 4) for i in range(200)])
    next(answers)
    answers.close()
    asked = len(server.asked)
    time.sleep(0.2)
    assert len(server.asked) <= asked + engine.CONCURRENCY


@pytest.mark.parametrize(
    "url", ["localhost:8000/v1", "http://localhost:abc/v1", "http://127.0.0.1:99999/v1", "http://[::1/v1"]
)
def test_an_address_that_is_none_is_one_line_at_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    with pytest.raises(ConfigError, match="OPENAI_BASE_URL is no address of a server"):
        load("openai", "made-up")


def test_several_readings_may_be_under_way_at_once(server: Any) -> None:
    """As `mirror read --ifd --masked` asks for them, a decision of each at a time."""
    reader = backend()
    asked = [Request(str(i), [{"role": "user", "content": "x"}], f"Tea {i}.\nBehavior: [") for i in range(3)]
    labels = [list("AB")] * 3
    both = zip(reader.choice_probs(asked, labels), reader.answer_logprobs(asked), strict=True)
    assert [probs.shape for probs, _ in both] == [(2,)] * 3
