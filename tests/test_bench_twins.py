"""Twins of a scene: the same choice with another history or less said, made without a look at the truth."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_mirror import domains
from hf_mirror.bench import bench, counts
from hf_mirror.bench.disguise import HIDDEN, ids_alone, numbered, titles_masked
from hf_mirror.bench.donors import NOBODY, RELAXED, Donors
from hf_mirror.bench.groups import category_of, category_source, coarse_keys, terciles
from hf_mirror.bench.past import Past
from hf_mirror.bench.twins import moved
from hf_mirror.build import build
from hf_mirror.build_settings import BuildSettings
from hf_mirror.files import canonical_json, read_json, read_rows, write_rows
from hf_mirror.schema import EVENTS, ITEMS, USERS

SAMPLES = {
    "movielens": {"users": 90, "films": 80},
    "mind": {"users": 60},
    "amazon_reviews": {},
}
NOW = datetime(2001, 2, 3, tzinfo=UTC)
GENRES = ("drama", "comedy", "western")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """All three domains of made-up feedback, with their benchmark."""
    base = tmp_path_factory.mktemp("twins")
    for name, arguments in SAMPLES.items():
        generator = domains.import_file(domains.PROJECT / "dataset_builders" / "sample" / f"{name}.py")
        generator.generate(base / "raw" / name, **arguments)
        also = ("uniform", "popularity") if name != "mind" else ("popularity_matched",)
        build(domains.load(name), base / "raw" / name, base / "run", BuildSettings(300, also_test=also), workers=1)
    bench(base / "run")
    return base / "run"


def scene(number: int, user: int, past: list[int], options: list[int], **changes: Any) -> dict[str, Any]:
    return {
        "scene_id": f"{number:032x}",
        "user_id": f"u{user}",
        "timestamp": NOW,
        "history": [
            {"item_id": f"i{item}", "timestamp": NOW - timedelta(days=1), "signal": {}, "positive": True}
            for item in past
        ],
        "exposure": [{"item_id": f"i{item}", "asof_count": 1} for item in options],
        "choice_index": 0,
    } | changes


def attributes(item: str) -> dict[str, Any]:
    return {"title": f"title {item}", "genres": [GENRES[int(item[1:]) % 3]]}


def donors(scenes: list[dict[str, Any]], events: list[int] | None = None, seed: int = 0) -> Donors:
    return Donors.of(scenes, events or [5] * len(scenes), attributes, seed)


many = st.lists(
    st.builds(
        lambda user, items, length: (user, items[:length], items[length : length + 3]),
        st.integers(0, 4),
        st.permutations(range(12)),
        st.integers(2, 4),
    ),
    min_size=1,
    max_size=14,
)


@settings(max_examples=60, deadline=None)
@given(made=many, truths=st.lists(st.integers(0, 2), min_size=14, max_size=14))
def test_donors_are_others_who_met_no_option_whatever_the_truth_is(made, truths):
    scenes = [scene(i, *one) for i, one in enumerate(made)]
    found = donors(scenes)
    for asked, random, nearest, relaxed in zip(scenes, found.random, found.nearest, found.relaxed, strict=True):
        assert (random is None) == (nearest is None) == (relaxed == NOBODY)
        for donor in filter(None, (random, nearest)):
            assert donor["user_id"] != asked["user_id"]
            met = {past["item_id"] for past in donor["history"]}
            assert not met & {option["item_id"] for option in asked["exposure"]}
            lengths = abs(len(donor["history"]) - len(asked["history"]))
            assert lengths == (1 if relaxed == RELAXED[3] else 0)
    others = [{**one, "choice_index": truth} for one, truth in zip(scenes, truths, strict=False)]
    ids = [[d and d["scene_id"] for d in kind] for kind in (found.random, found.nearest)]
    again = donors(others)
    assert ids == [[d and d["scene_id"] for d in kind] for kind in (again.random, again.nearest)]


def test_conditions_are_relaxed_in_order():
    month = NOW + timedelta(days=60)
    asked = scene(0, 0, [0, 1], [10, 11])
    strict, other_month = scene(1, 1, [2, 3], [8]), scene(2, 2, [2, 3], [8], timestamp=month)
    active, longer = scene(3, 3, [2, 3], [8], timestamp=month), scene(4, 4, [2, 3, 4], [8], timestamp=month)
    unfit, longest = scene(5, 5, [2, 10], [8]), scene(6, 6, [2, 3, 4, 5], [8])
    activity = {0: 5, 1: 5, 2: 5, 3: 900, 4: 900, 5: 5, 6: 5}

    def relaxed(*scenes: dict[str, Any]) -> tuple[str, str | None]:
        found = donors([asked, *scenes], [activity[int(one["scene_id"], 16)] for one in (asked, *scenes)])
        return found.relaxed[0], found.random[0] and found.random[0]["scene_id"]

    assert relaxed(strict, other_month, active, longer) == (RELAXED[0], strict["scene_id"])
    assert relaxed(unfit, other_month, active, longer) == (RELAXED[1], other_month["scene_id"])
    assert relaxed(unfit, active, longer) == (RELAXED[2], active["scene_id"])
    assert relaxed(unfit, longer) == (RELAXED[3], longer["scene_id"])
    assert relaxed(unfit, longest) == (NOBODY, None)


def test_the_nearest_donor_likes_the_same_and_the_random_one_need_not():
    asked = scene(0, 0, [0, 3], [10])  # dramas
    others = [scene(1 + i, 1 + i, [i % 3 + 12, i % 3 + 15], [11]) for i in range(9)]
    found = [donors([asked, *others], seed=seed) for seed in range(20)]
    assert {canonical_json(attributes(of.nearest[0]["history"][0]["item_id"])["genres"]) for of in found} == {
        '["drama"]'
    }
    drawn = {attributes(of.random[0]["history"][0]["item_id"])["genres"][0] for of in found}
    assert drawn == set(GENRES)
    assert found[0].random[0] == donors([asked, *others], seed=0).random[0]


def test_a_history_is_moved_to_the_time_of_the_scene():
    donor = scene(1, 1, [1, 2], [5], timestamp=NOW - timedelta(days=400))
    donor["history"][0]["timestamp"] = None
    donor["history"][1]["timestamp"] = donor["timestamp"] - timedelta(hours=3)
    moved_past = moved(donor, scene(0, 0, [3], [4]))
    assert [past["timestamp"] for past in moved_past] == [None, NOW - timedelta(hours=3)]
    assert donor["history"][1]["timestamp"] == NOW - timedelta(days=400, hours=3), "the donor stays as it is"


def test_hidden_titles_are_one_placeholder_also_in_texts():
    known = {
        "i1": {"title": "Gull Island (1951)", "genres": ["Drama"], "year": 1951, "blurb": "gull island, at last"},
        "i2": {"title": "It", "genres": ["Horror"], "year": 1990, "blurb": None},
    }
    told = scene(0, 0, [1], [1, 2])
    told["history"][0]["signal"] = {"rating": 4, "text": "It beats GULL ISLAND (1951) and Gull Islander."}
    hidden_scene, hidden = titles_masked(told, known)
    assert hidden["i1"] == {"title": HIDDEN, "genres": ["Drama"], "year": 1951, "blurb": f"{HIDDEN}, at last"}
    assert hidden["i2"] == {"title": HIDDEN, "genres": ["Horror"], "year": 1990, "blurb": None}
    assert hidden_scene["history"][0]["signal"] == {"rating": 4, "text": f"It beats {HIDDEN} and Gull Islander."}
    opaque_scene, opaque = ids_alone({"i1": 7, "i2": 3})(told, known)
    assert opaque["i1"] == {"title": "item 7", "genres": [], "year": 0, "blurb": ""}
    assert opaque["i2"] == {"title": "item 3", "genres": [], "year": 0, "blurb": None}
    assert opaque_scene["history"][0]["signal"] == {"rating": 4, "text": ""}
    assert told["history"][0]["signal"]["text"].startswith("It beats GULL")


def test_numbers_are_one_per_item_and_of_the_domain():
    items = [f"i{n}" for n in range(50)]
    numbers = numbered("films", items)
    assert sorted(numbers.values()) == list(range(1, 51)) and numbers == numbered("films", items[::-1])
    assert numbers != numbered("books", items)
    assert abs(np.corrcoef(range(50), [numbers[i] for i in items])[0, 1]) < 0.5


@pytest.mark.parametrize("domain", SAMPLES)
def test_twins_of_every_domain_pair_with_their_scene_and_say_nothing_else(run, domain):
    scenes = {one["scene_id"]: one for one in read_rows(run / domain / "scenes" / "test.parquet")}
    described = {row["item_id"]: row["attributes"] for row in read_rows(run / domain / "tables" / "items.parquet")}
    stored = read_rows(run / "bench" / f"{domain}.parquet")
    own = {row["scene_id"]: row for row in stored if row["variant_id"] == "own-full-random"}
    assert set(own) == set(scenes)
    twins = [row for row in stored if not row["variant_id"].startswith("own-full")]
    expected = {"none-full-random", "own-ids-random", "own-titles_masked-random"}
    expected |= {"swapped:random-full-random", "swapped:nearest-full-random"}
    expected |= {"swapped:random+profile-full-random"} if domain == "movielens" else set()
    assert {row["variant_id"] for row in twins} == expected
    for row in twins:
        pair, of = own[row["scene_id"]], scenes[row["scene_id"]]
        for name in ("options", "gold_index", "choices", "groups", "user_cluster", "regime"):
            assert row[name] == pair[name]
        assert row["variant"]["order"] == "random"
        text, variant = row["prompt"][0]["content"], row["variant"]
        past = [described[one["item_id"]] for one in of["history"]]
        shown = [described[one["item_id"]] for one in of["exposure"]]
        options = {one["title"] for one in shown}
        if variant["history"] != "own":
            given = [
                {described[entry["item_id"]]["title"] for entry in other["history"]}
                for other in scenes.values()
                if other["user_id"] != of["user_id"]
            ]
            fits = [titles for titles in given if all(title in text for title in titles)] + [set()]
            own_left = {one["title"] for one in past if one["title"] in text} - options
            assert own_left <= (set() if variant["history"] == "none" else set().union(*fits))
            assert variant["history"] == "none" or (fits[:-1] and text != pair["prompt"][0]["content"])
            assert all(title in text for title in options)
        elif variant["text"] == "titles_masked":
            assert not [one["title"] for one in past + shown if one["title"] in text]
            assert text.count(HIDDEN) >= len(past) + len(shown)
        else:
            assert len(re.findall(r"\bitem \d+", text)) == len(past) + len(shown)
            words = {value for one in past + shown for value in leaves(one)}
            assert not [word for word in words if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text)]


def leaves(value: Any) -> list[str]:
    """Every text of some attributes."""
    if isinstance(value, str):
        return [value] if value else []
    return [leaf for inner in (value.values() if isinstance(value, dict) else value or []) for leaf in leaves(inner)] \
        if isinstance(value, (dict, list)) else []  # fmt: skip


def test_only_the_swapped_profile_changes_who_is_asked(run):
    rows = [row for row in read_rows(run / "bench" / "movielens.parquet") if "swapped:random" in row["variant_id"]]
    texts: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        texts.setdefault(row["scene_id"], {})[row["variant"]["profile"]] = row["prompt"][0]["content"].split("\n\n")
    changed = 0
    for pair in texts.values():
        assert len(pair["own"]) == len(pair["swapped"])
        differ = [i for i, (a, b) in enumerate(zip(pair["own"], pair["swapped"], strict=True)) if a != b]
        assert all(pair["own"][i].startswith("You are a") for i in differ)
        changed += len(differ)
    assert changed > len(texts) / 2


@pytest.mark.parametrize("domain", SAMPLES)
def test_other_regimes_ask_the_same_choices(run, domain):
    headline = {
        (one["user_id"], one["timestamp"], one["exposure"][one["choice_index"]]["item_id"]): one
        for one in read_rows(run / domain / "scenes" / "test.parquet")
    }
    report = read_json(run / domain / "report.json")
    assert report["also_test"] and list(report["also_test"]) == report["settings"]["also_test"]
    for regime, part in report["also_test"].items():
        scenes = read_rows(run / domain / "scenes" / f"test-{regime}.parquet")
        assert part["candidates"] == len(headline) == part["kept"] + sum(part["dropped"].values())
        assert len(scenes) == part["kept"] > 0
        for one in scenes:
            pair = headline[one["user_id"], one["timestamp"], one["exposure"][one["choice_index"]]["item_id"]]
            assert (one["history"], one["split"], one["regime"]) == (pair["history"], "test", regime)
        rows = read_rows(run / "bench" / f"{domain}-{regime}.parquet")
        assert {(row["domain"], row["regime"]) for row in rows} == {(domain, regime)}
        assert {row["scene_id"] for row in rows} == {one["scene_id"] for one in scenes}


def test_another_build_takes_other_regimes_away(run, tmp_path):
    domain = domains.load("movielens")
    build(domain, run.parent / "raw" / "movielens", tmp_path, BuildSettings(100, also_test=("uniform",)), workers=1)
    bench(tmp_path)
    build(domain, run.parent / "raw" / "movielens", tmp_path, BuildSettings(100), workers=1)
    report = bench(tmp_path)
    assert list(report["subsets"]) == ["movielens"]
    assert [path.name for path in (tmp_path / "bench").iterdir()] == ["movielens.parquet"]
    assert not list((tmp_path / "movielens" / "scenes").glob("test-*"))


def test_the_past_of_a_scene_by_hand(tmp_path, monkeypatch):
    monkeypatch.setattr("hf_mirror.bench.past.BATCH", 3)
    day = [NOW + timedelta(days=n) for n in range(6)]
    log = [("a", "x", 0), ("b", "x", 0), ("a", "y", 1), ("b", "z", 2), ("a", "z", 2), ("b", "z", 3), ("a", "w", 5)]
    events = [{"user_id": u, "item_id": i, "timestamp": day[d], "signal": {}, "positive": True} for u, i, d in log]
    write_rows(tmp_path / "tables/events.parquet", events, EVENTS)
    items = [{"item_id": i, "attributes": {}, "available_from": None} for i in "wxyz"]
    write_rows(tmp_path / "tables/items.parquet", items, ITEMS)
    write_rows(tmp_path / "tables/users.parquet", [{"user_id": "a", "history": ["x", "y"]}, {"user_id": "b"}], USERS)

    def asked(user: str, when: int, counts: list[int]) -> dict[str, Any]:
        return {"user_id": user, "timestamp": day[when], "exposure": [{"asof_count": n} for n in counts]}

    # Before day 4 x, y and z are known, with 2, 1 and 3 events; before day 2 only x and y; before day 0 nothing is.
    past = Past.of(tmp_path, [asked("a", 4, [3, 2, 1, 0, 9]), asked("b", 2, [2, 1]), asked("a", 0, [1])])
    assert past.percentiles == [[0.666667, 0.333333, 0.0, 0.0, 1.0], [0.5, 0.0], [0.0]]
    assert past.events == [3 + 2, 1, 0 + 2]


def test_groups_and_categories_by_hand():
    assert terciles([1, 2, 3, 4, 5, 6], ("low", "middle", "high")) == ["low", "low", "middle", "middle", "high", "high"]
    assert terciles([7, 7, 7], ("low", "middle", "high")) == ["low"] * 3 and terciles([], ("a", "b", "c")) == []
    people = [{"gender": "mf"[n % 2], "city": f"c{n}", "born": n, "bio": "x" * 99, "land": "nl"} for n in range(20)]
    assert coarse_keys(people) == ["gender"]
    films = [{"title": "t", "studio": "ab"[n % 2], "genres": ["all", GENRES[n % 3]]} for n in range(30)]
    assert category_source(films) == ("genres", 1), "every film has the same first entry"
    assert category_of(films[2], ("genres", 1)) == "western" and category_of({"genres": []}, ("genres", 1)) is None
    assert category_source([{"title": "t", "studio": "ab"[n % 2]} for n in range(9)]) == ("studio", None)
    assert category_source([{"title": "ab"[n % 2], "isbn": str(n)} for n in range(9)]) is None
    assert category_of({"title": "t"}, None) is None


def test_minimum_detectable_difference_by_hand():
    # 2.801584 * sqrt(2 * 1 * 0.25 / 6400) and the same with design effect 2
    assert counts.minimum_detectable_difference(0.5, 6400, 1.0) == pytest.approx(0.0247628, abs=1e-6)
    assert counts.minimum_detectable_difference(0.5, 6400) == pytest.approx(0.0350199, abs=1e-6)
    assert counts.minimum_detectable_difference(0.5, 0) is None


def test_the_past_does_not_depend_on_the_order_of_scenes(run):
    scenes = read_rows(run / "movielens" / "scenes" / "test.parquet")
    past, other = (Past.of(run / "movielens", some) for some in (scenes, scenes[::-1]))
    assert other.events[::-1] == past.events and other.percentiles[::-1] == past.percentiles
