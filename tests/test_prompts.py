"""What is asked, and how answers are read: a parse failure is a parse failure, never a guess."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hf_mirror import prompts
from hf_mirror.prompts import ANSWER_PREFIX, LABELS, SEPARATOR, parse

SCENE = [{"role": "user", "content": "You are a reader.\n\nA. One\nB. Two"}]


def test_the_answer_line_is_the_prefix_and_a_letter() -> None:
    assert prompts.answer_line(0) == "Behavior: [A]"
    for index, letter in enumerate(LABELS):
        assert prompts.answer_line(index) == f"{ANSWER_PREFIX}{letter}]"
        assert parse(prompts.answer_line(index), 26) == prompts.Parsed("", index, None)


def test_requests_are_one_user_message_that_ends_in_the_scene() -> None:
    for request in (prompts.rationale_messages(SCENE), prompts.direct_messages(SCENE)):
        assert [message["role"] for message in request] == ["user"]
        instruction, found, scene = request[0]["content"].partition(SEPARATOR)
        assert found and scene == SCENE[0]["content"]
        assert f"{ANSWER_PREFIX}X]" in instruction
    rationale = prompts.rationale_messages(SCENE)[0]["content"]
    assert [rationale.index(f"\n{stage}:") for stage in ("Stimulus", "Knowledge", "Evaluation")]
    assert "Stimulus" not in prompts.direct_messages(SCENE)[0]["content"]


def test_one_request_becomes_the_other_and_the_scene_again() -> None:
    direct, rationale = prompts.direct_messages(SCENE), prompts.rationale_messages(SCENE)
    assert prompts.direct_messages(rationale) == direct
    assert prompts.rationale_messages(direct) == rationale
    assert prompts.rationale_messages(rationale) == rationale
    for messages in (SCENE, direct, rationale):
        assert prompts.scene_text(messages) == SCENE[0]["content"]


@given(st.text())
@example(f"a{SEPARATOR}b")
def test_any_scene_comes_out_as_it_went_in(text: str) -> None:
    scene = [{"role": "user", "content": text}]
    assert prompts.scene_text(prompts.rationale_messages(scene)) == text
    assert prompts.scene_text(prompts.direct_messages(scene)) == text


def test_the_instruction_says_nothing_about_this_scene() -> None:
    other = [{"role": "user", "content": "Another\n\nA. Three\nB. Four\nC. Five"}]
    for ask in (prompts.rationale_messages, prompts.direct_messages):
        assert ask(SCENE)[0]["content"].split(SEPARATOR)[0] == ask(other)[0]["content"].split(SEPARATOR)[0]


@pytest.mark.parametrize(
    ("text", "choice", "thought"),
    [
        ("Stimulus: x\nBehavior: [B]", 1, "Stimulus: x"),
        ("Stimulus: x\nBehaviour: [b]", 1, "Stimulus: x"),
        ("Behavior:[ C ]\n", 2, ""),
        ("Behavior:\n[A]", 0, ""),
        ("behavior: [B]", 1, ""),
        ("BEHAVIOR: [B]", 1, ""),
        ("Behavior: [B]\nso it is.\nBehavior: [B]", 1, "so it is."),
        ("I would say [A] is bad, [B] better.\nBehavior: [B]", 1, "I would say [A] is bad, [B] better."),
        ("I think.\n**Behavior:** [B]", 1, "I think."),
        ("I think.\nBehavior: **[B]**", 1, "I think."),
        ("I think.\n**Behavior: [B]**\n", 1, "I think."),
        ("I think.\n__Behavior:__ [B]", 1, "I think."),
        ("I think.\nBehavior : `[B]`", 1, "I think."),
        # what stands beside the letter names the pick, and is no thought
        ("I think.\nBehavior: [B] Paper Lanterns (1962)", 1, "I think."),
        ("I think. Behavior: [B]. I take option B.\nGood night.", 1, "I think. \nGood night."),
    ],
)
def test_answers_that_are_understood(text: str, choice: int, thought: str) -> None:
    assert parse(text, 5) == prompts.Parsed(thought, choice, None)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "no_answer_line"),
        ("I take B.", "no_answer_line"),
        ("Behavior: B", "no_answer_line"),
        ("Behavior: [B", "no_answer_line"),
        ("Behavior: [AB]", "no_answer_line"),
        ("Behavior: []", "no_answer_line"),
        ("Behavior: [\N{KELVIN SIGN}]", "no_answer_line"),
        ("Behavior: [\N{LATIN SMALL LETTER LONG S}]", "no_answer_line"),
        ("Behavior: [A]\nBehavior: [B]", "conflicting_answers"),
        ("Behavior: [A]. No, behavior: [B]", "conflicting_answers"),
        ("Behavior: [A]\nBehavior: [Z]", "conflicting_answers"),
        ("Behavior: [F]", "label_out_of_range"),
        ("Behavior: [X]", "label_out_of_range"),
    ],
)
def test_answers_that_are_not_guessed_at(text: str, error: str) -> None:
    parsed = parse(text, 5)
    assert (parsed.stated_choice, parsed.parse_error) == (None, error)


@given(st.text(), st.integers(2, 26))
@example("Behavior: [K]", 12)
def test_exactly_one_of_choice_and_error(text: str, n_options: int) -> None:
    parsed = parse(text, n_options)
    assert (parsed.stated_choice is None) != (parsed.parse_error is None)
    assert parsed.stated_choice is None or 0 <= parsed.stated_choice < n_options


@given(st.text(st.characters(exclude_characters="[]")), st.integers(0, 25))
def test_a_thought_and_an_answer_line_come_apart(thought: str, index: int) -> None:
    parsed = parse(f"{thought}\n{prompts.answer_line(index)}", 26)
    assert parsed == prompts.Parsed(thought.strip(), index, None)


def test_prompt_hash_is_of_the_canonical_json() -> None:
    spelled = [{"content": SCENE[0]["content"], "role": "user"}]
    assert prompts.prompt_sha256(spelled) == prompts.prompt_sha256(SCENE)
    assert (
        prompts.prompt_sha256([{"role": "user", "content": "é"}])
        == hashlib.sha256('[{"content":"é","role":"user"}]'.encode()).hexdigest()
    )
