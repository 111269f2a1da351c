"""The quality of decisions, on a folder small enough to count by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hf_mirror.errors import DataError
from hf_mirror.files import canonical_json, read_rows, write_rows
from hf_mirror.prompts import answer_line
from hf_mirror.rationales.quality import parts_of, quality
from hf_mirror.schema import ITEMS, RATIONALE, READING, SCENE

FILMS = {
    "1": {"title": "The Quiet Harbour", "genres": ["Drama"], "plot": "a long tale of a harbour in which nothing much "
          "ever happens to anyone at all, told twice"},
    "2": {"title": "Iron Tower", "genres": ["Action", "Drama"]},
    "3": {"title": "Last River", "genres": ["Western"]},
    "4": {"title": "Up", "genres": ["Animation"]},
}  # fmt: skip
IN_FORM = "Stimulus: {}\nKnowledge: {}\nEvaluation: {}"
THOUGHTS = {
    "teacher": [
        # names a shown film and its genre; the title that is not shown is part of a longer word
        IN_FORM.format("I notice Iron Tower.", "I remember Drama.", "Better than Last Riverside."),
        # names a film that is not in the prompt
        IN_FORM.format("The Quiet Harbour is popular.", "I rated Last River.", "I lean to it.\nWith all my heart."),
        "I just like Iron Tower.",
        "I just like Iron Tower.",
    ],
    "student": ["", "Hm."],
}


def make(folder: Path, masked: bool) -> None:
    """Two scenes of films 1 and 2; the third and fourth are elsewhere. The last student decision does not parse."""
    items = [{"item_id": i, "attributes": canonical_json(a), "available_from": None} for i, a in FILMS.items()]
    write_rows(folder / "tables" / "items.parquet", items, ITEMS)
    text = "You may take [A] The Quiet Harbour (Drama) or [B] Iron Tower (Action, Drama)."
    for split, ids in (("train", ["a"]), ("validation", ["b"])):
        scenes = [
            {"scene_id": i, "exposure": [{"item_id": "1"}, {"item_id": "2"}], "choice_index": 0,
             "prompt": [{"role": "user", "content": text}]}
            for i in ids
        ]  # fmt: skip
        write_rows(folder / "scenes" / f"{split}.parquet", scenes, SCENE)
    for role, thoughts in THOUGHTS.items():
        written: list[dict[str, Any]] = []
        read: list[dict[str, Any]] = []
        for sample, thought in enumerate(thoughts):
            error = "no_answer_line" if thought == "Hm." else None
            key = {"scene_id": "a" if sample != 1 else "b", "role": role, "sample_index": sample}
            written.append({**key, "thought": thought, "text": f"{thought}\n{answer_line(1)}", "stated_choice": 1,
                            "choice_named_in_thought": "Iron Tower" in thought, "parse_error": error})  # fmt: skip
            alone = [0.25, 0.75] if sample < 2 else [0.5, 0.5]
            read.append({**key, "choice_probs": [0.0, 1.0], "masked_choice_probs": alone if masked else None})
        for name, scene in (("train-00000.parquet", "a"), ("validation-00000.parquet", "b")):
            for kind, rows, schema in (("rationales", written, RATIONALE), ("readings", read, READING)):
                write_rows(folder / kind / role / name, [row for row in rows if row["scene_id"] == scene], schema)


def test_every_figure_by_hand(tmp_path: Path) -> None:
    make(tmp_path, masked=True)
    found = quality(tmp_path)
    teacher = found["teacher"]
    assert (teacher["decisions"], teacher["parsed"]) == (4, 4)
    assert teacher["in_form"] == {"count": 2, "of": 4, "share": 0.5}
    # Iron Tower, Drama; The Quiet Harbour and the absent Last River; Iron Tower; Iron Tower
    assert teacher["grounding"] == {"count": 5, "of": 6, "share": 0.8333}
    assert teacher["names_choice"]["count"] == 3
    assert teacher["repeats"] == {"count": 2, "of": 4, "share": 0.5}
    assert teacher["words"] == {"mean": 11.0, "p10": 5.0, "p50": 9.5, "p90": pytest.approx(18.2)}
    # where both options are as likely, the first counts as the likeliest: no hit by a tie
    assert teacher["consistency"] == {
        "count": 2, "of": 4, "share": 0.5, "chance": 0.5, "entropy": 0.0,
        "masked_entropy": pytest.approx((2 * 0.8113 + 2) / 4, abs=1e-4),
    }  # fmt: skip
    assert teacher["factors"]["Stimulus"] == {
        "an option": 1, "mood or moment": 0, "popularity": 1, "novelty": 0, "none of these": 0
    }  # fmt: skip
    assert teacher["factors"]["Evaluation"]["feeling"] == 1 and teacher["factors"]["Evaluation"]["comparison"] == 1
    student = found["student"]
    assert (student["decisions"], student["parsed"], student["in_form"]["count"]) == (2, 1, 0)
    assert student["grounding"] == {"count": 0, "of": 0, "share": None}


def test_parts_are_read_in_order_and_in_no_time() -> None:
    whole = "Stimulus: a\n\nKnowledge: b\nmore\nEvaluation: c\nBehavior: [A]"
    assert parts_of(whole) == {"Stimulus": "a", "Knowledge": "b more", "Evaluation": "c", "Behavior": "[A]"}
    for wrong in (
        "Behavior: [A]\nStimulus: a\nKnowledge: b\nEvaluation: c",
        "Well.\n" + whole,
        whole.replace("Knowledge: b", "Knowledge:").replace("more", ""),
        whole.replace("Knowledge", "Stimulus"),
        "Stimulus: a" + "\n" * 3000 + "Knowledge: b" + "\n" * 3000 + "Foo: 2",
    ):
        assert parts_of(wrong) is None, wrong[:60]


def test_the_longest_name_is_found_and_only_whole_words_are_grounded(tmp_path: Path) -> None:
    make(tmp_path, masked=False)
    items = [("1", "Dark Harbour"), ("2", "Dark Harbour Returns"), ("3", "Roman"), ("4", "Romance")]
    rows = [{"item_id": i, "attributes": canonical_json({"title": t, "gone": None, "new": True})} for i, t in items]
    write_rows(tmp_path / "tables" / "items.parquet", rows, ITEMS)
    path = tmp_path / "scenes" / "train.parquet"
    scenes = read_rows(path)
    scenes[0]["prompt"][0]["content"] = "[A] Dark Harbour [B] Romance"
    write_rows(path, scenes, SCENE)
    for path in (tmp_path / "rationales" / "teacher").iterdir():
        written = [row | {"thought": "Dark Harbour Returns, Roman. None of them, True."} for row in read_rows(path)]
        write_rows(path, written, RATIONALE)
    assert quality(tmp_path)["teacher"]["grounding"] == {"count": 0, "of": 8, "share": 0.0}


def test_what_was_not_read_is_not_made_up(tmp_path: Path) -> None:
    make(tmp_path, masked=False)
    assert quality(tmp_path)["teacher"]["consistency"] is None
    for path in (tmp_path / "rationales" / "student").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="mirror rationales --role student"):
        quality(tmp_path)
