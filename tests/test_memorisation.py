"""The memorisation probe: what is asked, and what it finds in a model that knows, or does not."""

from __future__ import annotations

import re

import pytest

from hf_mirror.alignment import score
from hf_mirror.errors import DataError
from hf_mirror.files import write_json, write_rows
from hf_mirror.memorisation import probe, rows, verdict
from hf_mirror.schema import EVENTS, ITEMS


@pytest.fixture
def folder(tmp_path):
    """Forty films, of which two share a title and one has none."""
    items = [
        {"item_id": str(100 + i), "attributes": {"title": f"Film {min(i, 38)}"} if i else {}, "available_from": None}
        for i in range(40)
    ]
    write_rows(tmp_path / "films" / "tables" / "items.parquet", items, ITEMS)
    write_rows(tmp_path / "films" / "tables" / "events.parquet", [], EVENTS)
    write_json(tmp_path / "films" / "report.json", {"source": {"release": "made-up films"}})
    return tmp_path / "films"


def test_each_question_has_the_true_title_once_in_every_place(folder):
    found = rows(folder, 10, seed=0)
    assert len(found) == 10 * 6 and found == rows(folder, 10, seed=0) != rows(folder, 10, seed=1)
    for row in found:
        text = row["prompt"][0]["content"]
        number = int(re.search(r"made-up films, .* id (\d+)\?", text)[1]) - 100
        assert f"[{row['choices'][row['gold_index']]}] Film {number}" in text.splitlines()
        assert number not in (0, 38, 39) and len(set(re.findall(r"\] (Film \d+)", text))) == 5
    shifts = [row["gold_index"] for row in found if row["variant"]["order"] != "random"]
    assert {slot: shifts.count(slot) for slot in range(5)} == dict.fromkeys(range(5), 10)


def test_who_knows_is_told_from_who_guesses(folder):
    found = rows(folder, 30, seed=0)
    about = {"domain": "films"}
    guesses = about | score(found, [[0.2] * 5] * len(found), seed=0)
    known = [[0.9 if slot == row["gold_index"] else 0.025 for slot in range(5)] for row in found]
    knows = about | score(found, known, seed=0)
    assert verdict(guesses).startswith("films: shows no sign") and "20.0 % right" in verdict(guesses)
    assert verdict(knows).startswith("films: knows titles") and "100.0 % right" in verdict(knows)


def test_nothing_to_ask_is_one_line(folder, tmp_path):
    write_rows(folder / "tables" / "items.parquet", [], ITEMS)
    with pytest.raises(DataError, match="no domain with 5 titles"):
        probe("model", None, tmp_path, tmp_path / "out")
