"""What a model answers to benchmark rows, in one of two modes, through any engine.

`direct`: P(option) read from one forward pass per row, without a thought. `rationale`: the model writes DECISIONS
decision processes per row and then reads the choice from each of its own thoughts, as distillation does; P(option) is
the mean over them, P(Y|X) = E_D P(Y|X,D) estimated. One decision alone would score a random draw.

Answers are made chunk by chunk, and each chunk is kept in a journal as soon as it is there. A run that was killed goes
on after its last whole chunk, and ends in the same numbers: a chunk is always made of the same rows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hf_mirror.backends import Backend, Generation, Request
from hf_mirror.errors import ConfigError
from hf_mirror.files import canonical_json, replacing
from hf_mirror.identity import digest, seed
from hf_mirror.prompts import ANSWER_PREFIX, Messages, parse

DECISIONS = 4  # per row in `rationale` mode; part of the task's version
TEMPERATURE, TOP_P, MAX_TOKENS = 1.0, 0.9, 512
CHUNKS = {"direct": 256, "rationale": 32}  # rows; what a kill may cost

OVER_LENGTH, NO_ANSWER = "over_length", "no_answer"


@dataclass(frozen=True)
class Question:
    """One benchmark row as a model sees it: the request of its mode, and the letters of its K options."""

    id: str
    messages: Messages
    letters: Sequence[str]


@dataclass(frozen=True)
class Decision:
    """One answer in `rationale` mode. `choice_probs` is empty where it does not parse, or no reading was possible."""

    text: str
    finish_reason: str
    choice_probs: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Answer:
    """P(option) over the row's K options, or empty with the reason in `failure`."""

    choice_probs: list[float]
    failure: str = ""
    decisions: list[Decision] = field(default_factory=list)

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Answer:
        """From what `asdict` made of it."""
        return cls(kept["choice_probs"], kept["failure"], [Decision(**found) for found in kept["decisions"]])


def answer(
    backend: Backend,
    mode: str,
    questions: Sequence[Question],
    journal: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Answer]:
    """The model's answer to every question. `journal`: where chunks are kept, if anywhere. `progress` is told how many
    rows are done, and of how many."""
    if mode not in MODES:
        raise ConfigError(f"mode {mode!r} is not known; choose one of {', '.join(MODES)}")
    kept = Journal(journal, digest(mode, canonical_json([asdict(question) for question in questions])))
    found: list[Answer] = []
    for chunk, start in enumerate(range(0, len(questions), CHUNKS[mode])):
        part = questions[start : start + CHUNKS[mode]]
        found += kept.chunk(chunk, lambda part=part: MODES[mode](backend, part))  # type: ignore[misc]
        progress(len(found), len(questions))
    return found


def direct(backend: Backend, questions: Sequence[Question]) -> list[Answer]:
    """One forward pass per row, whatever K."""
    requests = [Request(question.id, question.messages, ANSWER_PREFIX) for question in questions]
    return [_read(probs) for probs in backend.choice_probs(requests, [question.letters for question in questions])]


def rationale(backend: Backend, questions: Sequence[Question]) -> list[Answer]:
    """Thinks, then chooses. A decision that is cut off or has no answer line gives no probabilities; a row without any
    that does is a failure."""
    written = list(backend.generate([_writing(question) for question in questions]))
    of_row = [written[i * DECISIONS : (i + 1) * DECISIONS] for i in range(len(questions))]
    parsed = [[parse(each.text, len(q.letters)) for each in row] for q, row in zip(questions, of_row, strict=True)]
    readable = [(i, j) for i, row in enumerate(parsed) for j, each in enumerate(row) if each.stated_choice is not None]
    requests = [
        Request(f"{questions[i].id}/{j}", questions[i].messages, f"{parsed[i][j].thought}\n{ANSWER_PREFIX}")
        for i, j in readable
    ]
    read = backend.choice_probs(requests, [questions[i].letters for i, _ in readable])
    probs = dict(zip(readable, map(_read, read), strict=True))
    return [_mean(i, row, probs) for i, row in enumerate(of_row)]


MODES: dict[str, Callable[[Backend, Sequence[Question]], list[Answer]]] = {"direct": direct, "rationale": rationale}


def _writing(question: Question) -> Request:
    return Request(
        question.id,
        question.messages,
        n=DECISIONS,
        seeds=tuple(seed("evaluation", question.id, sample) for sample in range(DECISIONS)),
        temperature=TEMPERATURE,
        top_p=TOP_P,
        max_tokens=MAX_TOKENS,
    )


def _mean(row: int, written: Sequence[Generation], read: Mapping[tuple[int, int], Answer]) -> Answer:
    decisions = [
        Decision(each.text, each.finish_reason, found.choice_probs if (found := read.get((row, j))) else [])
        for j, each in enumerate(written)
    ]
    counted = [decision.choice_probs for decision in decisions if decision.choice_probs]
    if counted:
        return Answer(np.mean(counted, axis=0).tolist(), "", decisions)
    full = all(decision.finish_reason == "context" for decision in decisions)
    return Answer([], OVER_LENGTH if full else NO_ANSWER, decisions)


def _read(probs: np.ndarray) -> Answer:
    return Answer([], OVER_LENGTH) if np.isnan(probs).any() else Answer(probs.tolist())


class Journal:
    """Chunks of answers in a file of JSON lines, each written whole. A last line that was cut is made again; a journal
    of other questions is begun anew."""

    def __init__(self, path: Path | None, work: str) -> None:
        self._path = path
        self._known: dict[int, Any] = {}
        if path is None:
            return
        lines = list(_whole_lines(path)) if path.is_file() else []
        if lines[:1] == [{"work": work}]:
            self._known = {line["chunk"]: line["answers"] for line in lines[1:]}
        kept = [{"chunk": number, "answers": answers} for number, answers in self._known.items()]
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            lines = [canonical_json(line) + "\n" for line in [{"work": work}, *kept]]
            temporary.write_text("".join(lines), encoding="utf-8")

    def chunk(self, number: int, make: Callable[[], list[Answer]]) -> list[Answer]:
        """The answers of one chunk, made if they are not there."""
        if number in self._known:
            return [Answer.of(kept) for kept in self._known[number]]
        answers = make()
        if self._path is not None:
            line = canonical_json({"chunk": number, "answers": [asdict(each) for each in answers]})
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
                file.flush()
                os.fsync(file.fileno())
        return answers


def _whole_lines(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                yield json.loads(line)
            except ValueError:  # cut by a kill
                return
