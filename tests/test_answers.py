"""What a model answers, by rows: chunks, journals, decisions. The engine is real, with a tiny model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from hf_mirror.backends import Generation, Request
from hf_mirror.errors import ConfigError
from hf_mirror.evaluation import answers
from hf_mirror.evaluation.answers import DECISIONS, Answer, Question, answer
from hf_mirror.evaluation.thoughts import thoughts
from hf_mirror.identity import seed

ROOT = Path(__file__).resolve().parents[1]


class Scripted:
    """An engine of fixed answers that counts what it is asked. Row `wrong` states nothing, row `full` has no room."""

    model, revision, structured = "scripted", "1", False

    def __init__(self) -> None:
        self.asked: list[str] = []

    def generate(self, requests: Sequence[Request]) -> Iterator[Generation]:
        """`Behavior: [A]` or `[B]` in turn."""
        for request in requests:
            self.asked.append(request.id)
            assert request.n == DECISIONS and request.seeds == tuple(
                seed("evaluation", request.id, i) for i in range(4)
            )
            for sample in range(request.n):
                text = f"Stimulus: {request.id}.\nKnowledge: k.\nEvaluation: e.\nBehavior: [{'AB'[sample % 2]}]"
                reason = "stop"
                if request.id == "wrong":
                    text, reason = "Stimulus: I cannot say", "length"
                if request.id == "full":
                    text, reason = "", "context"
                yield Generation(request.id, sample, text, reason)

    def choice_probs(self, requests: Sequence[Request], labels: Sequence[Sequence[str]]) -> Iterator[np.ndarray]:
        """0.7 for the first option, after decision 1 for the second."""
        for request, letters in zip(requests, labels, strict=True):
            self.asked.append(request.id)
            probs = np.full(len(letters), 0.3 / (len(letters) - 1))
            probs[int(request.id.endswith("/1"))] = 0.7
            yield np.full(len(letters), np.nan) if request.id == "full" else probs


def question(name: str, k: int = 3) -> Question:
    return Question(name, [{"role": "user", "content": f"scene {name}"}], "ABCDEFGH"[:k])


def test_a_direct_answer_is_one_reading_and_an_overlong_one_a_failure():
    found = answer(Scripted(), "direct", [question("one"), question("full")])
    assert found == [Answer([0.7, 0.15, 0.15]), Answer([], "over_length")]


def test_thinking_averages_what_is_read_after_each_thought():
    backend = Scripted()
    one, wrong, full = answer(backend, "rationale", [question("one"), question("wrong"), question("full")])
    assert one.choice_probs == pytest.approx([(3 * 0.7 + 0.15) / 4, (3 * 0.15 + 0.7) / 4, 0.15])
    assert (wrong.choice_probs, wrong.failure) == ([], "no_answer")
    assert (full.choice_probs, full.failure) == ([], "over_length")
    assert [decision.finish_reason for decision in wrong.decisions] == ["length"] * DECISIONS
    assert backend.asked[3:] == [f"one/{i}" for i in range(DECISIONS)]


def test_the_reader_sees_the_thought_without_its_answer():
    seen: list[Request] = []

    class Watched(Scripted):
        def choice_probs(self, requests, labels):
            seen.extend(requests)
            return super().choice_probs(requests, labels)

    answer(Watched(), "rationale", [question("one")])
    assert {request.prefix for request in seen} == {
        "Stimulus: one.\nKnowledge: k.\nEvaluation: e.\nBehavior: ["
    }  # the pick itself is not there
    assert seen[0].messages == question("one").messages


def test_what_thoughts_are_worth():
    own = {"history": "own", "profile": "own", "text": "full", "order": "random"}
    options = "Pick one:\nA. Red Harbour (1990) [Drama]\nB. Ox"
    prompt = [{"role": "user", "content": options}]
    other = [{"role": "user", "content": "A. Red Harbour (1990) Again [Drama]\nB. Blue Garden"}]
    rows = [
        {"variant": own, "gold_index": 0, "prompt": prompt},
        {"variant": {**own, "history": "none"}, "gold_index": 0, "prompt": prompt},
        {"variant": own, "gold_index": 0, "prompt": other},
    ]
    good = {"text": "Stimulus: a\nKnowledge: b\nEvaluation: c\nBehavior: [A]", "finish_reason": "stop"}
    decisions = [
        {**good, "stated_choice": 0, "choice_probs": [0.9, 0.1]},
        {**good, "stated_choice": 1, "choice_probs": [0.6, 0.4]},
        {
            "text": "Stimulus: Red Harbour (1990), not Blue Garden or Ox",
            "finish_reason": "length",
            "stated_choice": None,
            "choice_probs": [],
        },
        {"text": "Behavior: [A]", "finish_reason": "stop", "stated_choice": 0, "choice_probs": []},
    ]
    assert thoughts(rows, [decisions, decisions, []]) == {
        "decisions": 4, "valid": 0.75, "in_form": 0.5, "cut_off": 0.25, "grounded": 0.5, "stated_accuracy": 0.5,
        "consistent": 0.5,
    }  # fmt: skip
    nothing = thoughts(rows, [[], [], []])
    assert nothing["valid"] is nothing["grounded"] is None


def test_an_unknown_mode_is_one_line():
    with pytest.raises(ConfigError, match="mode 'guess' is not known; choose one of direct, rationale"):
        answer(Scripted(), "guess", [])


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(answers.CHUNKS, "direct", 2)


def test_a_journal_is_made_once_and_read_again(tmp_path, small_chunks):
    questions = [question(str(i)) for i in range(5)]
    told: list[tuple[int, int]] = []
    first = answer(Scripted(), "direct", questions, tmp_path / "a.jsonl", lambda *done: told.append(done))
    assert told == [(2, 5), (4, 5), (5, 5)]
    again = Scripted()
    assert answer(again, "direct", questions, tmp_path / "a.jsonl") == first and again.asked == []
    other = Scripted()
    answer(other, "direct", questions[1:], tmp_path / "a.jsonl")
    assert other.asked == ["1", "2", "3", "4"]  # another work: begun anew


@pytest.mark.parametrize("cut", range(0, 400, 37))
def test_a_journal_that_was_cut_anywhere_goes_on_to_the_same_bytes(tmp_path, small_chunks, cut):
    questions = [question(str(i)) for i in range(5)]
    whole = tmp_path / "whole.jsonl"
    first = answer(Scripted(), "direct", questions, whole)
    half = tmp_path / "half.jsonl"
    half.write_bytes(whole.read_bytes()[:cut])
    assert answer(Scripted(), "direct", questions, half) == first
    assert half.read_bytes() == whole.read_bytes()


def test_a_killed_run_goes_on_where_it_was(tmp_path):
    """A process that is killed between chunks, and the same again."""
    code = f"""
import sys, time
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
from pathlib import Path
from hf_mirror.evaluation import answers
from test_answers import Scripted, question
answers.CHUNKS["direct"] = 1
class Slow(Scripted):
    def choice_probs(self, requests, labels):
        time.sleep(0.2)
        print(requests[0].id, flush=True)
        return super().choice_probs(requests, labels)
found = answers.answer(Slow(), "direct", [question(str(i)) for i in range(8)], Path({str(tmp_path / "j")!r}))
print(len(found), "answers")
"""
    first = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert "2\n" in iter(first.stdout.readline, "")
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    time.sleep(0.05)
    kept = [json.loads(line) for line in (tmp_path / "j").read_text().splitlines()]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.split()[-2:] == ["8", "answers"], done.stderr
    asked = done.stdout.split()[:-2]
    assert asked == [str(i) for i in range(len(kept) - 1, 8)] and 2 <= len(kept) - 1 <= 3
