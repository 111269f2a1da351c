"""What a model is asked, and how its answer is read. The answer line `Behavior: [X]` is defined here, once.

A scene's prompt is one user message, written by its domain's template. A *rationale* request asks for the decision
process first (Engel-Kollat-Blackwell: Stimulus, Knowledge, Evaluation, Behavior), a *direct* request for the answer
line alone. Instruction and scene share one user message, because chat templates exist that refuse a system role and
stock evaluation harnesses have no per-row system message (docs/decisions.md).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hf_mirror.files import canonical_json

Messages = list[dict[str, str]]

LABELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
ANSWER_PREFIX = "Behavior: ["
PARTS = ("Stimulus", "Knowledge", "Evaluation")  # of a decision process, before its answer line
SEPARATOR = "\n\n---\n\n"

# Models like to set it in bold, and to say more on the same line.
_ANSWER = re.compile(
    r"[*_`]{0,2}behaviou?r[*_`]{0,2} ?:[*_`]{0,2}\s*[*_`]{0,2}\[\s*([a-z])\s*\]", re.IGNORECASE | re.ASCII
)
ANSWER_LINE = re.compile(rf"{_ANSWER.pattern}[^\n]*", re.IGNORECASE | re.ASCII)


def answer_line(index: int) -> str:
    """`Behavior: [C]` for index 2."""
    return f"{ANSWER_PREFIX}{LABELS[index]}]"


def answer_pattern(n_options: int) -> str:
    """A regular expression of answers to a rationale request: four parts, a line each, and a letter that is there."""
    parts = "".join(rf"{part}: [^\n]+\n" for part in PARTS)
    return rf"{parts}{ANSWER_PREFIX[:-1]}\[[A-{LABELS[n_options - 1]}]\]"


def search_pattern() -> str:
    """A regular expression that finds what `parse` reads, for harnesses that search one: its only group is the letter,
    and it finds nothing where there is no answer line or answers contradict each other.

    It looks at the first answer, and then that none of another letter comes after it. A letter beyond the options is
    found, and equals no truth.
    """
    answer = _ANSWER.pattern
    other = answer.replace("([a-z])", r"(?!\1)[a-z]")
    return rf"(?ai)\A(?:(?!{answer.replace('([a-z])', '[a-z]')})[\s\S])*{answer}(?![\s\S]*{other})"


def rationale_messages(scene_prompt: Messages) -> Messages:
    """Asks for a first-person decision process that ends in the answer line. The truth is not in it."""
    return _with_instruction("rationale", scene_prompt)


def direct_messages(scene_prompt: Messages) -> Messages:
    """Asks for the answer line alone. Also takes a rationale request, whose instruction it replaces."""
    return _with_instruction("direct", scene_prompt)


def scene_text(prompt: Messages) -> str:
    """The scene as its domain's template wrote it, without the instruction of a rationale or direct request."""
    content = prompt[-1]["content"]
    before, found, after = content.partition(SEPARATOR)
    return after if found and before in (_instruction("rationale"), _instruction("direct")) else content


def prompt_sha256(prompt: Messages) -> str:
    """SHA-256, in hex, of the canonical JSON of a prompt."""
    return hashlib.sha256(canonical_json(prompt).encode()).hexdigest()


@dataclass(frozen=True)
class Parsed:
    """An answer taken apart: exactly one of `stated_choice` and `parse_error` is set."""

    thought: str
    stated_choice: int | None
    parse_error: str | None


def parse(text: str, n_options: int) -> Parsed:
    """Splits a decision into its thought and its stated choice. The thought is without answer lines and what follows
    on them, which may name the choice: a reader is to tell it from the thought alone.

    Tolerant in spelling (case, spaces, bold, the British "Behaviour"), strict in meaning: no answer line, answers that
    contradict each other, and letters beyond the options are parse errors, never a guess.
    """
    stated = {LABELS.index(letter.upper()) for letter in _ANSWER.findall(text)}
    thought = ANSWER_LINE.sub("", text).strip()
    if not stated:
        return Parsed(thought, None, "no_answer_line")
    if len(stated) > 1:
        return Parsed(thought, None, "conflicting_answers")
    choice = stated.pop()
    if choice >= n_options:
        return Parsed(thought, None, "label_out_of_range")
    return Parsed(thought, choice, None)


@cache
def _instruction(mode: str) -> str:
    from jinja2 import Template

    source = (Path(__file__).parent / f"{mode}.jinja").read_text(encoding="utf-8")
    return Template(source).render(answer_prefix=ANSWER_PREFIX).strip()


def _with_instruction(mode: str, prompt: Messages) -> Messages:
    return [{"role": "user", "content": f"{_instruction(mode)}{SEPARATOR}{scene_text(prompt)}"}]
