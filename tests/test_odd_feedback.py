"""Feedback of odd shapes: one line that says what is wrong, or a build in which every positive is accounted for."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hf_mirror import build, domains, rows, scenes, tables
from hf_mirror.audit import audit
from hf_mirror.audit.drafts import of_drafts
from hf_mirror.errors import DataError
from hf_mirror.exposure import REGIMES
from hf_mirror.files import read_json, read_rows
from hf_mirror.schema import Tables
from hf_mirror.splits import LOST, SPLITS
from hf_mirror.world import World

small = domains.import_file(Path(__file__).parent / "small_logs.py")

SECRET = b"o" * 32
DAY = 86_400_000
SIZES = scenes.Sizes((1, 4), (2, 4), (3, 3))
# What was met before the log says nothing but that.
TEMPLATE = small.TEMPLATE.replace("past.signal.rating", "past.signal.rating or '-' if past.signal else '-'")


def counted(raw: Tables, regimes: Iterable[str]) -> dict[str, int] | str:
    """Builds every split in every regime; how many scenes there are by regime, or the one line that refuses the log."""
    try:
        log = tables.prepare(small.domain(raw), small.HERE, small.SOURCE)
        split = small.arrived(log)
    except DataError as error:
        assert str(error) and "\n" not in str(error)
        return str(error)
    assert log.read == log.events.height + sum(log.dropped.values())
    assert all(count > 0 for count in log.dropped.values())
    world = World.of("odd", log, split)
    kept = dict.fromkeys(regimes, 0)
    for regime in kept:
        for code, name in enumerate(SPLITS):
            drafts, report = scenes.draw(world, name, 200, regime, SECRET, SIZES)
            assert report.candidates == int(((world.split == code) & world.positive).sum())
            assert report.candidates == report.kept + sum(report.dropped.values())
            assert all(count > 0 for count in report.dropped.values())
            found = rows.rows(world, log, drafts, name, regime, small.renderer(log, TEMPLATE), workers=1).to_pylist()
            assert len(found) == len({row["scene_id"] for row in found}) == report.kept == len(drafts)
            for row in found:
                assert_possible(row, regime)
            audit(of_drafts(world, drafts, regime))
            kept[regime] += report.kept
    lost = sum(part["events"] for part in split.report["lost"].values())
    assert lost == int((world.split == LOST).sum())
    assert sum(split.report["events"].values()) + lost == log.events.height
    return kept


def assert_possible(row: dict[str, Any], regime: str) -> None:
    options = [option["item_id"] for option in row["exposure"]]
    assert len(set(options)) == len(options) >= 2
    assert 0 <= row["choice_index"] < len(options)
    assert row["gap_seconds"] is None or row["gap_seconds"] >= 0
    assert len(row["history"]) >= 1
    assert all(past["timestamp"] is None or past["timestamp"] < row["timestamp"] for past in row["history"])
    assert row["prompt"][0]["content"]
    if regime not in ("logged", "observed"):
        assert not any(option["repeated"] for option in row["exposure"])
        assert all(option["asof_count"] > 0 for option in row["exposure"])


# A few literal ones.


def crowd(people: int, each: int, films: int, start: int = 0, step: int = 1000) -> list[tuple[str, str, int, int]]:
    """People who come one after the other and rate films in turn, every third film badly."""
    return [
        (f"u{user:05}", f"i{(user * 7 + n) % films}", start + (user * each + n) * step, 2 if n % 3 == 2 else 5)
        for user in range(people)
        for n in range(each)
    ]


def test_what_cannot_be_split_is_refused_in_one_line() -> None:
    assert "none of 0 rows" in str(counted(small.typed([]), REGIMES))
    assert "2 users" in str(counted(small.typed(crowd(2, 40, 9)), REGIMES))
    assert "1 users" in str(counted(small.typed(crowd(1, 40, 9)), REGIMES))
    assert "one time" in str(counted(small.typed(crowd(50, 8, 9, step=0)), REGIMES))
    assert "1 users" in str(counted(small.typed([("u", "i", 1, 5)]), REGIMES))


@pytest.mark.parametrize("regime", [regime for regime in REGIMES if regime != "logged"])
def test_one_item_is_no_choice(regime: str) -> None:
    assert counted(small.typed(crowd(60, 4, 1)), [regime]) == {regime: 0}


def test_items_that_are_only_disliked_and_items_that_nobody_met() -> None:
    log = [*crowd(60, 6, 9), *((f"u{n:05}", "bad", n * 6000 + 3, 1) for n in range(60))]
    titles = {item: {"title": item} for item in {row[1] for row in log} | {f"unmet{n}" for n in range(40)}}
    found = counted(small.typed(log, items=titles), [regime for regime in REGIMES if regime != "logged"])
    assert found["uniform"] > 20 and found["popularity"] > 20
    assert counted(small.typed([(*row[:3], 1) for row in log]), ["uniform"]) == {"uniform": 0}


def test_a_user_with_ten_thousand_events() -> None:
    heavy = [("heavy", f"i{n % 400}", n * 50, 5 if n % 2 else 1) for n in range(10_000)]
    log = [*crowd(80, 5, 60, step=1250), *heavy]
    items = {f"i{n}": {"title": f"Film of kind{n % 9}"} for n in range(400)}
    regimes = ["uniform", "popularity", "collaborative", "content", "popularity_matched"]
    found = counted(small.typed(log, items), regimes)
    assert all(count > 50 for count in found.values()), found


def test_a_session_of_ten_thousand_events() -> None:
    heavy = [("heavy", f"i{n % 300}", n * 50, 5 if n % 40 == 0 else 1) for n in range(10_000)]
    found = counted(small.typed([*crowd(80, 5, 60, step=1250), *heavy]), ["observed"])
    assert sum(found.values()) > 3


def test_thousands_of_users_with_one_event_each() -> None:
    log = crowd(3000, 1, 50)
    assert counted(small.typed(log), ["uniform", "popularity_matched"]) == {"uniform": 0, "popularity_matched": 0}
    histories = {f"u{n:05}": [f"i{n % 50}", f"i{n % 49}"] for n in range(3000)}
    found = counted(small.typed(log, histories=histories), ["uniform", "popularity", "collaborative"])
    # Nobody leads anywhere: everybody has met one thing in the log.
    assert found["collaborative"] == 0 and min(found["uniform"], found["popularity"]) > 200


@pytest.mark.parametrize("start", [-2_000 * DAY, -1, 0, 4 * 10**12, 253_402_000_000_000])
def test_times_long_ago_and_far_ahead(start: int) -> None:
    found = counted(small.typed(crowd(60, 6, 20, start=start)), ["uniform", "observed"])
    assert found["uniform"] > 50


@pytest.mark.parametrize("moment", [-(2**61), -62_135_596_800_001, 253_402_300_800_000, 2**61])
def test_times_outside_the_calendar_are_counted_drops(moment: int) -> None:
    """What no calendar has cannot be told to a person: before the year 1, after 9999."""
    log = [*crowd(60, 6, 20), ("u00001", "i1", moment, 5), ("u00002", "i2", moment, 1)]
    raw = small.typed(log)
    assert tables.prepare(small.domain(raw), small.HERE, small.SOURCE).dropped == {"time_not_in_calendar": 2}
    assert counted(raw, ["uniform"]) == counted(small.typed(crowd(60, 6, 20)), ["uniform"])


def test_only_part_of_the_log_has_impressions() -> None:
    log: list[tuple[Any, ...]] = []
    for user, item, time, stars in crowd(60, 6, 9):
        shown = [f"i{n}" for n in range(user.endswith("3") * 4 + 2)]
        log.append((user, item, time, stars, f"q{time}", shown) if time % 3 else (user, item, time, stars))
    found = counted(small.typed(log), ["logged", "uniform"])
    assert found["logged"] > 20 and found["uniform"] > 20


ODD_TEXTS = (
    "", " ", "0", "é", "用户", "\N{PERSON IN LOTUS POSITION}\u200d", "مرحبا", "\u202etfel", "a\x1fb\x01", "a\tb",
    "a\nb", '"', "\\", "{{ now }}", "%s", "null", "'; --", "🇮🇹" * 3, "e\u0301", "x" * 300,
)  # fmt: skip


def test_ids_and_titles_of_any_script() -> None:
    names = [text or "empty" for text in ODD_TEXTS]
    log = [
        (names[user], names[(user + 3 * n) % len(names)], (user * 8 + n) * 9000 + n, 5 if n % 3 else 2)
        for user in range(len(names)) for n in range(8)
    ]  # fmt: skip
    titles = {name: {"title": text, "year": None} for name, text in zip(names, ODD_TEXTS, strict=True)}
    found = counted(small.typed(log, items=titles), ["uniform", "popularity", "content", "observed"])
    assert found["uniform"] > 30


def test_a_whole_build_of_odd_names_reads_back(tmp_path: Path) -> None:
    names = [text or "empty" for text in ODD_TEXTS]
    log = [
        (names[user], names[(user + 3 * n) % len(names)], (user * 8 + n) * 9000 + n, 5 if n % 3 else 2)
        for user in range(len(names)) for n in range(8)
    ]  # fmt: skip
    titles = {name: {"title": text or None} for name, text in zip(names, ODD_TEXTS, strict=True)}
    domain = small.domain(small.typed(log, items=titles))
    report = build.build(domain, small.HERE, tmp_path, build.BuildSettings(scenes=50, evaluation_options=(2, 3)))
    assert json.loads(json.dumps(report)) == read_json(tmp_path / "films" / "report.json")
    items = {row["item_id"]: row["attributes"] for row in read_rows(tmp_path / "films" / "tables" / "items.parquet")}
    assert items == titles
    written = [row for name in SPLITS for row in read_rows(tmp_path / "films" / "scenes" / f"{name}.parquet")]
    assert len(written) > 10
    assert all(option["item_id"] in titles for row in written for option in row["exposure"])


def test_without_any_title_there_is_one_line() -> None:
    raw = small.typed(crowd(60, 6, 9), items={f"i{n}": {"title": ""} for n in range(9)})
    assert counted(raw, ["uniform", "popularity_matched", "content"]) == dict.fromkeys(
        ("uniform", "popularity_matched", "content"), 0
    )
    with pytest.raises(DataError, match="title"):
        build.build(small.domain(raw), small.HERE, Path("/nonexistent"), build.BuildSettings(scenes=10))


# And whatever hypothesis thinks of.

names = st.sampled_from([text or "empty" for text in ODD_TEXTS]) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=4
)
times = st.integers(-5, 30) | st.integers(0, 40).map(lambda n: n * DAY) | st.sampled_from([10**15, -(10**14), 2**60])
stars = st.sampled_from([1, 3, 4, 5])


@st.composite
def logs(draw: st.DrawFn) -> tuple[Tables, bool]:
    people = draw(st.lists(names, min_size=1, max_size=9, unique=True))
    things = draw(st.lists(names, min_size=1, max_size=8, unique=True))
    events = draw(st.lists(st.tuples(st.sampled_from(people), st.sampled_from(things), times, stars), max_size=70))
    items = {item: {"title": draw(st.none() | st.just("") | names)} for item in things[draw(st.integers(0, 1)) :]}
    histories = draw(
        st.none() | st.dictionaries(st.sampled_from(people), st.lists(st.sampled_from(things), max_size=3))
    )
    available = draw(st.dictionaries(st.sampled_from(things), times, max_size=2))
    impressions = draw(st.booleans())
    if impressions:
        slates = st.none() | st.lists(st.sampled_from(things), max_size=5)
        events = [(*event, draw(st.none() | st.sampled_from("pq")), draw(slates)) for event in events]
    return small.typed(events, items, available, histories), impressions


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@example((small.typed([("a", "x", 0, 5), ("b", "x", 1, 5), ("c", "x", 2, 5)]), False))
@given(logs())
def test_any_log_is_refused_in_one_line_or_accounted_for(made: tuple[Tables, bool]) -> None:
    raw, impressions = made
    regimes = [regime for regime in REGIMES if regime != "logged" or impressions]
    counted(raw, regimes if not impressions or has_slates(raw) else [r for r in regimes if r != "logged"])


def has_slates(raw: Tables) -> bool:
    """Whether any usable event has an impression."""
    try:
        log = tables.prepare(small.domain(raw), small.HERE, small.SOURCE)
    except DataError:
        return True
    return World.of("odd", log, small.all_in(log)).impressions is not None


@settings(deadline=None, max_examples=25)
@given(st.lists(names, min_size=1, max_size=5, unique=True), st.integers(0, 2**32))
def test_prompts_hold_titles_as_they_are(titles: list[str], seed: int) -> None:
    """A title is shown, whatever it looks like to a template."""
    rng = np.random.default_rng(seed)
    log = [(f"u{u}", f"i{int(i)}", u * 10 + n, 5) for u in range(6) for n, i in enumerate(rng.permutation(5)[:4])]
    items = {f"i{n}": {"title": titles[n % len(titles)]} for n in range(5)}
    clean = small.prepared(log, items=items)
    world = small.world_of(clean)
    drafts, _ = scenes.draw(world, "train", 20, "uniform", SECRET, SIZES)
    for row in rows.rows(world, clean, drafts, "train", "uniform", small.renderer(clean), workers=1).to_pylist():
        text = row["prompt"][0]["content"]
        shown = [json.loads(dict(clean.items.select("item_id", "attributes").rows())[option["item_id"]])["title"]
                 for option in row["exposure"]]  # fmt: skip
        assert all(title.strip() in text for title in shown)
