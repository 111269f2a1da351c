"""`mirror show`: a person sees what the user remembered, what was offered, and what was chosen."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hf_mirror.distill import distill
from hf_mirror.errors import ConfigError, DataError
from hf_mirror.files import read_rows, write_json, write_rows
from hf_mirror.schema import ITEMS, SCENE, USERS
from hf_mirror.showing import show

NOW = datetime(2001, 2, 3, 4, 5, tzinfo=UTC)


def scene(number: int, split: str, **changes: Any) -> dict[str, Any]:
    history = [
        {
            "item_id": "i0",
            "timestamp": NOW - timedelta(days=3),
            "signal": {"stars": 5, "text": "so good"},
            "positive": True,
        },
        {"item_id": "i1", "timestamp": None, "signal": {"stars": 1, "text": None}, "positive": False},
    ]
    exposure = [
        {"item_id": f"i{j}", "source": "uniform" if j % 2 else "content", "asof_count": 10 * j, "repeated": j == 4}
        for j in range(2, 5)
    ]
    return {
        "scene_id": f"{number:02d}{split}", "domain": "plays", "split": split, "regime": "mixed", "user_id": "u1",
        "timestamp": NOW, "gap_seconds": 90, "session_id": "abc", "impression_id": "p7", "n_clicked": 2,
        "truncated": True, "history": history, "exposure": exposure, "choice_index": 1, "prompt": [],
    } | changes  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A domain `plays` with five train scenes and one test scene, and a domain `walks` with one."""
    for domain in ("plays", "walks"):
        folder = tmp_path / domain
        write_json(folder / "report.json", {})
        titles = {"i0": "Nine Umbrellas", "i1": "Brass\nOrchard", "i2": "x" * 100, "i3": "Zephyr", "i4": None}
        items = [{"item_id": i, "attributes": {"title": title}, "available_from": None} for i, title in titles.items()]
        write_rows(folder / "tables" / "items.parquet", items, ITEMS)
        profile = {"age": "25-34", "occupation": "lighthouse keeper", "note": None}
        write_rows(folder / "tables" / "users.parquet", [{"user_id": "u1", "profile": profile}], USERS)
        many = 5 if domain == "plays" else 1
        scenes = [scene(n, "train", domain=domain) for n in range(many)]
        write_rows(folder / "scenes" / "train.parquet", scenes, SCENE)
        write_rows(folder / "scenes" / "validation.parquet", [], SCENE)
        write_rows(folder / "scenes" / "test.parquet", [scene(9, "test", domain=domain, gap_seconds=None)], SCENE)
    return tmp_path


def test_a_scene_as_a_person_reads_it(run: Path, mirror: Any) -> None:
    answer = mirror("show", run, "--domain", "plays", "-n", 1)
    assert answer.code == 0
    assert answer.out.splitlines() == [
        "00train  plays/train, mixed",
        "user u1 (25-34, lighthouse keeper), 2001-02-03 04:05 UTC",
        "event before 1 minute ago, session_id abc, impression_id p7, n_clicked 2, truncated",
        "remembers, oldest first:",
        "  + Nine Umbrellas  3 days ago  stars 5, text so good",
        "  - Brass Orchard  at an unknown time  stars 1",
        "could choose:",
        f"  A. {'x' * 79}…  (content, 20 before)",
        "  B. Zephyr  (uniform, 30 before)  <- chosen",
        "  C. without a title  (content, 40 before, met before)",
    ]


def test_how_many_and_which(run: Path) -> None:
    def ids(**options: Any) -> list[str]:
        return [f"{one['domain']}/{one['scene_id']}" for one in show(run, **options)["scenes"]]

    assert ids() == ["plays/00train", "plays/01train", "plays/02train", "walks/00train"]
    assert ids(n=1) == ["plays/00train", "walks/00train"]
    assert ids(domain="plays", split="test") == ["plays/09test"]
    assert ids(scene="03train") == ["plays/03train"]
    assert ids(scene="09", domain="walks") == ["walks/09test"]  # looked for in every split
    assert len(ids(scene="0", n=9)) == 8


def test_exactly_the_real_choice_is_marked(run: Path) -> None:
    for one in show(run)["scenes"]:
        assert [option["chosen"] for option in one["options"]] == [False, True, False]
        assert [option["label"] for option in one["options"]] == ["A", "B", "C"]


def test_the_result_is_json(run: Path, mirror: Any) -> None:
    told = json.loads(mirror("show", run, "-n", 1, "--json").out)["scenes"]
    assert told == show(run, n=1)["scenes"]
    assert told[0]["memory"][0] == {
        "title": "Nine Umbrellas", "ago": "3 days ago", "positive": True, "signal": {"stars": 5, "text": "so good"},
    }  # fmt: skip


def test_what_is_not_there_is_one_line(run: Path, mirror: Any) -> None:
    for options, error, said in (
        ({"domain": "films"}, DataError, "plays, walks"),
        ({"scene": "zz"}, DataError, "begins with zz"),
        ({"split": "validation"}, DataError, "no scene"),
        ({"split": "tset"}, ConfigError, "choose one of train, validation, test"),
        ({"n": 0}, ConfigError, "n is 0"),
    ):
        with pytest.raises(error, match=said):
            show(run, **options)
    (run / "plays" / "tables" / "items.parquet").write_bytes(b"PAR1")
    answer = mirror("show", run)
    assert answer.code == 1 and answer.err.count("\n") == 1 and "items.parquet" in answer.err


def test_decisions_are_shown_with_what_became_of_them(built: Path, tmp_path: Path, mirror: Any) -> None:
    folder = tmp_path / "run"
    shutil.copytree(built, folder)
    distill(folder, size=50)
    pairs = {row["scene_id"]: row for row in read_rows(folder / "movielens" / "preferences" / "train.parquet")}
    assert pairs
    for one in show(folder, n=500, decisions=True)["scenes"]:
        direct, *decisions = one["decisions"]
        assert (direct["role"], len(decisions)) == ("direct", 8)
        assert all(sum(decision["probabilities"]) == pytest.approx(1, abs=1e-4) for decision in one["decisions"])
        became = {decision["became"]: decision for decision in decisions if decision["became"]}
        pair = pairs.get(one["scene_id"])
        assert set(became) == ({"chosen", "rejected"} if pair else set())
        for side, decision in became.items():
            assert decision["role"] == pair[f"{side}_role"]
            assert decision["thought"] in pair[side][0]["content"]
            assert f"Behavior: [{decision['states']}]" in pair[side][0]["content"]
    lines = mirror("show", folder, "--scene", next(iter(pairs)), "--decisions").out.splitlines()
    assert "decisions, as reader reads them:" in lines
    assert sum("<- the pair's" in line for line in lines) == 2
    assert sum(line.startswith("  without a thought  [A 0.") for line in lines) == 1
