"""Benchmark rows: every order tells the same story, and the truth stands everywhere equally often."""

from __future__ import annotations

import hashlib
import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from hf_mirror.bench import bench, gap_stratum, orders, rows
from hf_mirror.errors import DataError
from hf_mirror.files import read_rows, write_json, write_rows
from hf_mirror.prompts import LABELS, direct_messages
from hf_mirror.rendering import TEMPLATE_FILE, Renderer
from hf_mirror.schema import EVENTS, ITEMS, SCENE, USERS

TEMPLATE = """{{ profile.job }} saw {{ history|length }}.
{% for o in exposure %}
[{{ o.label }}] {{ o.item.title }}
{% endfor %}"""
ITEMS_HERE = {f"i{j}": {"title": f"title {j}"} for j in range(40)}
USERS_HERE = {f"u{j}": {"job": f"job {j}"} for j in range(9)}
EVENTS_HERE = [
    {"user_id": "u0", "item_id": "i39", "timestamp": datetime(2001, 2, day, tzinfo=UTC), "signal": {}, "positive": True}
    for day in (1, 2)
]
RENDERER = Renderer(TEMPLATE, USERS_HERE, ITEMS_HERE)
NOW = datetime(2001, 2, 3, 4, 5, tzinfo=UTC)


def exposed(item: str, count: int = 1) -> dict[str, Any]:
    return {"item_id": item, "source": "uniform", "asof_count": count, "repeated": False}


def make_scene(number: int, k: int, truth: int, gap: int | None = 100) -> dict[str, Any]:
    scene: dict[str, Any] = {
        "scene_id": hashlib.sha256(f"scene {number}".encode()).hexdigest()[:32],
        "domain": "plays",
        "split": "test",
        "regime": "uniform",
        "user_id": f"u{number % 9}",
        "timestamp": NOW,
        "gap_seconds": gap,
        "session_id": "s",
        "impression_id": None,
        "n_clicked": None,
        "truncated": False,
        "history": [{"item_id": "i39", "timestamp": NOW, "signal": {}, "positive": True}],
        "exposure": [exposed(f"i{(number + j) % 39}", j + 1) for j in range(k)],
        "choice_index": truth,
    }
    scene["prompt"] = RENDERER.prompt(scene)
    scene["prompt_sha256"] = "0" * 64
    return scene


def make_run(directory: Path, scenes: list[dict]) -> Path:
    folder = directory / "plays"
    write_json(folder / "report.json", {"domain": "plays"})
    (folder / TEMPLATE_FILE).write_text(TEMPLATE)
    write_rows(folder / "tables/users.parquet", [{"user_id": u, "profile": p} for u, p in USERS_HERE.items()], USERS)
    items = [{"item_id": i, "attributes": a, "available_from": None} for i, a in ITEMS_HERE.items()]
    write_rows(folder / "tables/items.parquet", items, ITEMS)
    write_rows(folder / "tables/events.parquet", EVENTS_HERE, EVENTS)
    write_rows(folder / "scenes/test.parquet", scenes, SCENE)
    return directory


@given(k=st.integers(2, 26), seed=st.integers(0, 3), data=st.data())
def test_every_order_keeps_the_options_and_follows_the_truth(k, seed, data):
    scene = make_scene(data.draw(st.integers(0, 50)), k, data.draw(st.integers(0, k - 1)))
    variants = rows(scene, RENDERER, seed)
    assert len(variants) == (k if k <= 12 else 5) + 1
    assert len({row["variant_id"] for row in variants}) == len(variants)
    titles = {ITEMS_HERE[option["item_id"]]["title"] for option in scene["exposure"]}
    truth_title = ITEMS_HERE[scene["exposure"][scene["choice_index"]]["item_id"]]["title"]
    truth_option = None
    for row in variants:
        lines = row["prompt"][0]["content"].splitlines()[-k:]
        assert {line.partition("] ")[2] for line in lines} == titles
        assert lines[row["gold_index"]] == f"[{LABELS[row['gold_index']]}] {truth_title}"
        assert row["scene_id"] == scene["scene_id"]
        assert row["choices"] == list(LABELS[:k])
        truth_option = truth_option or row["options"][row["gold_index"]]
        assert row["options"][row["gold_index"]] == truth_option
    shifts = [row["gold_index"] for row in variants if row["variant"]["order"] != "random"]
    assert len(set(shifts)) == len(shifts)
    if k <= 12:
        assert sorted(shifts) == list(range(k)), "over the shifts the truth visits each slot exactly once"
        assert variants[0]["prompt"] == direct_messages(scene["prompt"]), "shift 0 is the scene's own order"


def test_shift_by_hand():
    named = orders("ab" * 16, 4, seed=0)
    assert named["shift 1"] == [1, 2, 3, 0]
    assert list(named) == ["shift 0", "shift 1", "shift 2", "shift 3", "random"]
    scene = make_scene(0, 4, truth=0)
    by_order = {row["variant"]["order"]: row for row in rows(scene, RENDERER, 0)}
    assert [by_order[f"shift {n}"]["gold_index"] for n in range(4)] == [0, 3, 2, 1]
    assert [option["asof_count"] for option in by_order["shift 3"]["options"]] == [4, 1, 2, 3]
    assert by_order["shift 2"]["variant_id"] == "own-full-shift2"
    assert by_order["random"]["variant_id"] == "own-full-random"
    assert by_order["random"]["variant"] == {
        "history": "own", "donor": None, "profile": "own", "text": "full", "order": "random",
    }  # fmt: skip


@pytest.mark.parametrize("k", [3, 5, 20])
def test_a_truth_that_is_always_first_ends_up_anywhere(k):
    ids = [hashlib.sha256(str(i).encode()).hexdigest()[:32] for i in range(4000)]
    slots = [orders(i, k, seed=1)["random"].index(0) for i in ids]
    assert chisquare([slots.count(j) for j in range(k)]).pvalue > 1e-4
    if k > 12:
        drawn = [n for i in ids for n in orders(i, k, seed=1) if n != "random"]
        assert chisquare([drawn.count(f"shift {j}") for j in range(k)]).pvalue > 1e-4


def test_orders_depend_on_seed_and_scene_alone():
    assert orders("aa" * 16, 9, 0) == orders("aa" * 16, 9, 0)
    assert orders("aa" * 16, 9, 0)["random"] != orders("aa" * 16, 9, 1)["random"]
    assert orders("aa" * 16, 9, 0)["random"] != orders("ab" * 16, 9, 0)["random"]


def test_gap_strata():
    assert [gap_stratum(g) for g in (None, 0, 3599, 3600, 86_399, 86_400)] == [
        "first", "<1h", "<1h", "1h-1d", "1h-1d", ">=1d",
    ]  # fmt: skip


def test_row_order_of_the_scenes_does_not_matter_and_counts_add_up(tmp_path, caplog):
    scenes = [make_scene(i, 2 + i % 12, i % 2, gap=i * 10_000 if i else None) for i in range(30)]
    first, second = make_run(tmp_path / "a", scenes), make_run(tmp_path / "b", scenes[::-1])
    with caplog.at_level(logging.WARNING):
        report = bench(first, seed=5)
    bench(second, seed=5)
    for name in ("bench/plays.parquet", "bench.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    assert json.loads((first / "bench.json").read_text()) == report
    counts = report["subsets"]["plays"]
    stored = read_rows(first / "bench/plays.parquet")
    assert counts["rows"] == len(stored) == sum(counts["orders"].values()) + sum(counts["twins"].values())
    assert counts["scenes"] == 30 == sum(counts["n_options"].values()) == sum(counts["gap"].values())
    assert counts["scenes"] == sum(map(sum, counts["random_order_gold_slots"].values())) == counts["orders"]["random"]
    assert counts["chance_accuracy"] == pytest.approx(sum(1 / len(s["exposure"]) for s in scenes) / 30, abs=1e-6)
    assert (counts["users"], counts["underpowered"]) == (9, True)
    assert "underpowered" in caplog.text
    assert len({row["user_cluster"] for row in stored}) == 9
    assert len({(row["scene_id"], row["variant_id"]) for row in stored}) == len(stored)
    assert {row["groups"]["gap"] for row in stored} == {"first", "1h-1d", ">=1d"}


def test_scenes_beyond_the_letters_are_counted(tmp_path):
    run = make_run(tmp_path, [make_scene(1, 3, 0), make_scene(2, 26, 25)])
    wide = make_scene(3, 26, 0)
    wide["exposure"].append(exposed("i38"))
    write_rows(run / "plays/scenes/test.parquet", [make_scene(1, 3, 0), make_scene(2, 26, 25), wide], SCENE)
    counts = bench(run)["subsets"]["plays"]
    assert (counts["scenes"], counts["dropped"]) == (2, {"more_options_than_letters": 1})
    assert sum(counts["orders"].values()) == (3 + 1) + (5 + 1)


def test_no_id_of_a_user_or_item_is_stored(tmp_path):
    scene = make_scene(3, 5, 2)
    stored = json.dumps(rows(scene, RENDERER, 0))
    assert f'"{scene["user_id"]}"' not in stored
    assert not any(f'"{option["item_id"]}"' in stored for option in scene["exposure"])


def test_faults_are_told_and_nothing_is_written(tmp_path):
    with pytest.raises(DataError, match="mirror build"):
        bench(tmp_path)
    run = make_run(tmp_path / "empty", [])
    with pytest.raises(DataError, match="no test scene"):
        bench(run)
    run = make_run(tmp_path / "twice", [make_scene(1, 3, 0)] * 2)
    with pytest.raises(DataError, match="twice"):
        bench(run)
    run = make_run(tmp_path / "changed", [make_scene(1, 3, 0)])
    (run / "plays" / TEMPLATE_FILE).write_text(TEMPLATE + "!")
    with pytest.raises(DataError, match="stored prompt"):
        bench(run)
    long = make_scene(1, 3, 0) | {"exposure": [exposed("i1")] * 27}
    with pytest.raises(DataError, match="27 options"):
        rows(long, RENDERER, 0)
    assert not [*tmp_path.glob("*/bench.json"), *tmp_path.glob("*/bench/*")]
