"""Scenes, each recomputed from the written tables by other code: memory, exposure, gaps, sessions, counts."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from hf_mirror import identity, scenes, splits
from hf_mirror.files import read_json, read_rows
from hf_mirror.prompts import LABELS, prompt_sha256
from hf_mirror.rendering import Renderer, ago, utc_from_ms
from hf_mirror.schema import Tables
from hf_mirror.world import World

SECRET = b"s" * 32
START = datetime(2001, 1, 1, tzinfo=UTC)
TEMPLATE = """{{ profile.name }}, {{ now.isoformat() }}
{% for past in history %}- {{ past.item.title }} {{ past.signal.rating }} {{ past.positive }} {{ past.ago }}
{% endfor %}{% for option in exposure %}{{ option.label }} {{ option.item.title }}
{% endfor %}"""


@pytest.fixture(scope="module")
def rows(built: Path) -> dict[str, list[dict[str, Any]]]:
    return {name: read_rows(built / "movielens" / "scenes" / f"{name}.parquet") for name in splits.SPLITS}


@pytest.fixture(scope="module")
def events(built: Path) -> list[dict[str, Any]]:
    return read_rows(built / "movielens" / "tables" / "events.parquet")


def test_there_are_scenes_in_every_split(rows: dict[str, list[dict[str, Any]]]) -> None:
    assert {name: len(part) for name, part in rows.items()} == {"train": 160, "validation": 20, "test": 20}
    everything = [row for part in rows.values() for row in part]
    assert len({row["scene_id"] for row in everything}) == len(everything)
    for name, part in rows.items():
        assert {row["split"] for row in part} == {name}
        assert [row["scene_id"] for row in part] == sorted(row["scene_id"] for row in part)


def test_memory_is_the_last_events_before_the_scene(rows: dict[str, Any], events: list[dict[str, Any]]) -> None:
    past = defaultdict(list)
    for event in events:
        past[event["user_id"]].append(event)
    for row in (row for part in rows.values() for row in part):
        before = [event for event in past[row["user_id"]] if event["timestamp"] < row["timestamp"]]
        shown = [{name: event[name] for name in ("item_id", "timestamp", "signal", "positive")} for event in before]
        assert row["history"] == shown[-len(row["history"]) :]
        assert min(2, len(before)) <= len(row["history"]) <= 10
        assert len(before) >= 2


def test_history_lengths_are_uniform(crowd: Any) -> None:
    drafts, _ = scenes.draw(crowd.world, "train", 3000, "uniform", SECRET)
    lengths = Counter(len(draft.history) for draft in drafts if crowd.world.earlier[draft.event] >= 10)
    counts = np.array([lengths[n] for n in range(2, 11)])
    assert counts.sum() > 1000
    assert abs(counts / counts.sum() - 1 / 9).max() < 0.03


def test_the_truth_is_what_the_user_chose_then(rows: dict[str, Any], events: list[dict[str, Any]]) -> None:
    chosen = {(e["user_id"], e["item_id"], e["timestamp"]) for e in events if e["positive"]}
    for row in (row for part in rows.values() for row in part):
        truth = row["exposure"][row["choice_index"]]["item_id"]
        assert (row["user_id"], truth, row["timestamp"]) in chosen


def test_negatives_were_known_and_not_met_by_the_user(rows: dict[str, Any], events: list[dict[str, Any]]) -> None:
    for row in (row for part in rows.values() for row in part):
        until = [event for event in events if event["timestamp"] <= row["timestamp"]]
        met = {event["item_id"] for event in until if event["user_id"] == row["user_id"]}
        known = {event["item_id"] for event in until if event["timestamp"] < row["timestamp"]}
        offered = [option["item_id"] for option in row["exposure"]]
        assert len(set(offered)) == len(offered)
        del offered[row["choice_index"]]
        assert not set(offered) & met
        assert set(offered) <= known


def test_counts_are_as_of_the_scene(rows: dict[str, Any], events: list[dict[str, Any]]) -> None:
    for row in (row for part in rows.values() for row in part):
        before = Counter(event["item_id"] for event in events if event["timestamp"] < row["timestamp"])
        assert [option["asof_count"] for option in row["exposure"]] == [
            before[option["item_id"]] for option in row["exposure"]
        ]


def test_gaps_and_sessions(rows: dict[str, Any], events: list[dict[str, Any]]) -> None:
    for row in (row for part in rows.values() for row in part):
        times = sorted({e["timestamp"] for e in events if e["user_id"] == row["user_id"]})
        now = times.index(row["timestamp"])
        assert row["gap_seconds"] == (times[now] - times[now - 1]).total_seconds()
        start = now
        while start and times[start] - times[start - 1] <= timedelta(hours=1):
            start -= 1
        began = round(times[start].timestamp() * 1000)
        assert row["session_id"] == identity.digest("session", "movielens", row["user_id"], began)[:16]


def test_numbers_of_options_and_regimes(rows: dict[str, Any]) -> None:
    assert {len(row["exposure"]) for row in rows["train"]} == set(range(2, 13))
    for name in ("validation", "test"):
        assert {len(row["exposure"]) for row in rows[name]} == {5}
    for row in (row for part in rows.values() for row in part):
        assert row["regime"] == "popularity_matched"
        assert {option["source"] for option in row["exposure"]} == {"popularity_matched"}
        assert 0 <= row["choice_index"] < len(row["exposure"])
        assert row["prompt_sha256"] == prompt_sha256(row["prompt"])


def test_every_positive_is_accounted_for(built: Path) -> None:
    report = read_json(built / "movielens" / "report.json")
    for name, part in report["scenes"].items():
        assert part["candidates"] == part["kept"] + sum(part["dropped"].values())
        assert part["candidates"] == report["splits"]["positives"][name]
        assert sum(sum(slots) for slots in part["truth_positions"].values()) == part["kept"]
        assert all(n > 0 for n in part["dropped"].values())


def test_users_take_turns(crowd: Any) -> None:
    drafts, report = scenes.draw(crowd.world, "test", 900, "uniform", SECRET)
    turns = Counter(int(crowd.world.user[draft.event]) for draft in drafts)
    assert report.kept == 900
    assert max(turns.values()) - min(turns.values()) <= 1
    assert len(turns) > 500


def test_fewer_scenes_are_a_subset_of_more(crowd: Any) -> None:
    """The number wanted decides how many scenes there are, never what is in them."""
    some = {draft.key: draft for draft in scenes.draw(crowd.world, "test", 300, "popularity_matched", SECRET)[0]}
    more = {draft.key: draft for draft in scenes.draw(crowd.world, "test", 900, "popularity_matched", SECRET)[0]}
    assert some.items() <= more.items()
    assert (len(some), len(more)) == (300, 900)


def test_progress_counts_kept_scenes(crowd: Any) -> None:
    seen: list[int] = []
    drafts, _ = scenes.draw(crowd.world, "test", 50, "uniform", SECRET, seen.append)
    assert sum(seen) == len(drafts) == 50


def small_world(log: list[tuple[str, str, int, int]]) -> tuple[Tables, World]:
    """A world of (user, item, second, rating), every event a train event; items i1..i6 have titles."""
    log = sorted(log, key=lambda row: (row[2], row[0], row[1], f'{{"rating":{row[3]}}}'))
    events = pl.DataFrame(
        {
            "user_id": [row[0] for row in log],
            "item_id": [row[1] for row in log],
            "timestamp": [START + timedelta(seconds=row[2]) for row in log],
            "signal": [f'{{"rating":{row[3]}}}' for row in log],
            "positive": [row[3] >= 4 for row in log],
        },
        schema_overrides={"timestamp": pl.Datetime("ms", "UTC")},
    )
    people, films = sorted({row[0] for row in log}), [f"i{n}" for n in range(1, 7)]
    users = pl.DataFrame({"user_id": people, "profile": [f'{{"name":"{person}"}}' for person in people]})
    items = pl.DataFrame({"item_id": films, "attributes": [f'{{"title":"Film {film}"}}' for film in films]})
    items = items.with_columns(available_from=pl.lit(None, events.schema["timestamp"]))
    clean = Tables(users, items, events, len(log), {})
    return clean, World.of("films", clean, pl.Series(["train"] * len(log), dtype=pl.String))


CROWD = [(f"v{n}", f"i{n}", n, 5) for n in range(1, 7)]


def rendered(log: list[tuple[str, str, int, int]]) -> list[dict[str, Any]]:
    clean, world = small_world(log)
    profiles, attributes = dict(clean.users.rows()), dict(clean.items.select("item_id", "attributes").rows())
    renderer = Renderer(TEMPLATE, profiles, attributes)
    drafts, report = scenes.draw(world, "train", 1000, "uniform", SECRET)
    assert report.candidates == report.kept + sum(report.dropped.values())
    return [row for row in scenes.rows(world, drafts, "train", "uniform", renderer) if row["user_id"] == "u"]


def with_two_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "TRAIN_OPTIONS", (2, 2))


def test_a_prompt_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    with_two_options(monkeypatch)
    (row,) = rendered([*CROWD, ("u", "i1", 100, 2), ("u", "i2", 160, 3), ("u", "i3", 7_500, 5)])
    first, second = (f"Film {option['item_id']}" for option in row["exposure"])
    assert row["prompt"] == [
        {
            "role": "user",
            "content": "u, 2001-01-01T02:05:00+00:00\n- Film i1 2 False 2 hours ago\n- Film i2 3 False 2 hours ago\n"
            f"A {first}\nB {second}",
        }
    ]
    assert "Film i3" in (first, second)
    assert (row["gap_seconds"], row["timestamp"]) == (7340, START + timedelta(seconds=7_500))
    began = round(row["timestamp"].timestamp() * 1000)
    assert row["session_id"] == identity.digest("session", "films", "u", began)[:16]


def test_events_at_the_truths_time_are_neither_memory_nor_options(monkeypatch: pytest.MonkeyPatch) -> None:
    with_two_options(monkeypatch)
    log = [*CROWD, ("u", "i1", 100, 5), ("u", "i2", 160, 3), ("u", "i3", 200, 5), ("u", "i4", 200, 5)]
    found = rendered(log)
    assert len(found) == 2
    for row in found:
        assert [entry["item_id"] for entry in row["history"]] == ["i1", "i2"]
        offered = {option["item_id"] for option in row["exposure"]}
        assert len(offered & {"i3", "i4"}) == 1
        assert not offered & {"i1", "i2"}


def test_scenes_with_the_same_exposure_and_time_have_ids_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A film rated twice in one second, with two ratings: two scenes may show the same options."""
    with_two_options(monkeypatch)
    log = [*CROWD[:4], ("u", "i1", 100, 2), ("u", "i2", 160, 3), ("u", "i3", 200, 5), ("u", "i3", 200, 4)]
    found = rendered(log)
    assert len(found) == 2
    assert [{option["item_id"] for option in row["exposure"]} for row in found] == [{"i3", "i4"}] * 2
    assert len({row["scene_id"] for row in found}) == 2


def test_a_repeat_is_a_counted_drop_and_a_first_touch_at_the_same_second_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_two_options(monkeypatch)
    log = [*CROWD, ("u", "i1", 100, 2), ("u", "i2", 160, 3), ("u", "i3", 200, 5), ("u", "i1", 300, 5)]
    _, world = small_world(log)
    _, report = scenes.draw(world, "train", 1000, "uniform", SECRET)
    assert report.dropped["touched_before"] == 1
    assert report.dropped["too_little_history"] == len(CROWD)
    assert report.kept == 1


def test_too_few_peers_are_counted() -> None:
    own = [("u", "i1", 100, 2), ("u", "i2", 160, 3), ("u", "i3", 200, 5)]
    _, world = small_world([*CROWD[:2], ("v1", "i3", 50, 1), *own])
    drafts, report = scenes.draw(world, "train", 1000, "uniform", SECRET)
    assert (drafts, report.dropped["too_few_peers"]) == ([], 1)


def test_order_puts_options_at_their_slots(built: Path, rows: dict[str, Any]) -> None:
    renderer = Renderer.of_run(built / "movielens")
    row = rows["test"][0]
    assert renderer.prompt(row) == row["prompt"]
    order = [3, 0, 4, 1, 2]
    lines = renderer.prompt(row, order)[0]["content"].splitlines()[-5:]
    original = row["prompt"][0]["content"].splitlines()[-5:]
    assert lines == [f"{LABELS[slot]}{original[position][1:]}" for slot, position in enumerate(order)]


def test_a_view_has_no_truth_in_it(built: Path, rows: dict[str, Any]) -> None:
    renderer = Renderer.of_run(built / "movielens")
    row = rows["test"][0]
    views = [renderer.view({**row, "choice_index": truth}) for truth in range(5)]
    assert all(view == views[0] for view in views)
    assert [option.asof_count for option in views[0].options] == [option["asof_count"] for option in row["exposure"]]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "just now"), (59, "just now"), (60, "1 minute ago"), (3599, "59 minutes ago"), (3600, "1 hour ago"),
     (86_399, "23 hours ago"), (86_400, "1 day ago"), (30 * 86_400, "1 month ago"), (800 * 86_400, "2 years ago")],
)  # fmt: skip
def test_ago(seconds: int, words: str) -> None:
    assert ago(timedelta(seconds=seconds)) == words


def test_utc_from_ms() -> None:
    assert utc_from_ms(-1) == datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)
    assert utc_from_ms(978_307_200_123) == START + timedelta(milliseconds=123)
