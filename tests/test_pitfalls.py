"""The faults of the prior art, one test each. Every check also runs on code that has the fault, and must reject it.

What a scene owes to the future (3 to 6) is in test_future.py, the machine (13) in test_determinism.py, the tokens of
letters (14) in backends/test_transformers.py, and the rules that truth and negatives share in test_eligibility.py.
"""

from __future__ import annotations

import json
import random
import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from hf_mirror import PROJECT, build, build_settings, domains, rows, scenes, splits, tables, world
from hf_mirror.exposure import NOTHING
from hf_mirror.files import read_json, read_rows
from hf_mirror.scenes import Drafts, Sizes
from hf_mirror.splits import LOST, SPLITS, Split
from hf_mirror.world import World

small = domains.import_file(Path(__file__).parent / "small_logs.py")

SECRET = b"p" * 32
UNLIKELY = 1e-4
SAMPLED = ("uniform", "popularity", "popularity_matched", "collaborative", "content", "mixed")
WithFault = Callable[[ModuleType, str, str], ModuleType]
Contents = Callable[[Path], dict[str, str]]


@pytest.fixture(scope="module")
def raw_news(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw news")
    small.made_up("mind", folder, seed=6, users=160, news=200)
    return folder


def shuffled(raw: Path, out: Path) -> Path:
    """A copy of a raw folder with the lines of every file in another order."""
    for path in (path for path in raw.rglob("*") if path.is_file()):
        lines = path.read_bytes().splitlines(keepends=True)
        target = out / path.relative_to(raw)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"".join(random.Random(4).sample(lines, len(lines))))
    return out


# 1. The true item is never last.


def position_p_values(drafts: Drafts) -> dict[int, float]:
    """Chi-square of the truth's slot against uniform, per number of options."""
    return {
        size: float(stats.chisquare(np.bincount(drafts.choice_index[drafts.n_options == size], minlength=size)).pvalue)
        for size in np.unique(drafts.n_options).tolist()
    }


@pytest.mark.parametrize("regime", SAMPLED)
def test_1_the_truth_is_in_every_slot_alike(crowd: Any, with_fault: WithFault, regime: str) -> None:
    p_values = position_p_values(scenes.draw(crowd.world, "train", 3000, regime, SECRET)[0])
    assert set(p_values) == set(range(2, 13))
    assert min(p_values.values()) > UNLIKELY
    evaluation = position_p_values(scenes.draw(crowd.world, "test", 2000, regime, SECRET)[0])
    assert set(evaluation) == {5} and evaluation[5] > UNLIKELY
    faulty = with_fault(scenes, 'streams.below("position", wanted + 1)', 'streams.below("position", wanted)')
    broken = position_p_values(faulty.draw(crowd.world, "train", 3000, regime, SECRET)[0])
    assert broken[2] < 1e-9
    assert min(broken[size] for size in range(3, 8)) < UNLIKELY


def test_1_the_truth_of_an_observed_scene_is_in_every_slot_alike(crowd: Any) -> None:
    drafts, _ = scenes.draw(crowd.world, "train", 300, "observed", SECRET, Sizes(train_options=(2, 3)))
    assert min(position_p_values(drafts).values()) > UNLIKELY


def test_1_the_slots_of_a_build_are_in_its_report(built: Path) -> None:
    report = read_json(built / "movielens" / "report.json")
    for name, part in report["scenes"].items():
        found: Counter[tuple[int, int]] = Counter()
        for row in read_rows(built / "movielens" / "scenes" / f"{name}.parquet"):
            found[len(row["exposure"]), row["choice_index"]] += 1
        reported = {(int(k), slot): n for k, slots in part["truth_positions"].items() for slot, n in enumerate(slots)}
        assert {key: n for key, n in reported.items() if n} == dict(found)


# 2. Train scenes are drawn from the evaluation users, and evaluation events are not excluded.


def apart(user: np.ndarray, time: np.ndarray, of_event: np.ndarray) -> bool:
    """Whether no user is on two sides and every test event is later than every validation and train event."""
    sides = [set(user[of_event == code].tolist()) for code in range(len(SPLITS))]
    assert all(sides)
    at = [time[of_event == code] for code in range(len(SPLITS))]
    disjoint = not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    return disjoint and bool(at[0].max() < at[1].min() and at[1].max() < at[2].min())


def test_2_users_are_disjoint_and_test_is_later(crowd: Any, with_fault: WithFault) -> None:
    user, time = crowd.world.user, crowd.world.time
    assert apart(user, time, crowd.split.of_event)
    by_user = np.searchsorted([0.8, 0.9], user / user.max(), side="right")
    assert not apart(user, time, by_user)
    by_time = np.searchsorted([crowd.split.cut_1, crowd.split.cut_2], time, side="right")
    assert not apart(user, time, by_time)
    faulty = with_fault(splits, "(first < cut_1) & (time < cut_1)", "(first < cut_1)")
    with pytest.raises(AssertionError, match="later"):
        faulty.by_arrival(user, time, crowd.world.positive)


def test_2_the_scenes_of_a_build_are_apart(built: Path) -> None:
    found = [
        (row["user_id"], row["timestamp"].timestamp(), code)
        for code, name in enumerate(SPLITS)
        for row in read_rows(built / "movielens" / "scenes" / f"{name}.parquet")
    ]
    assert apart(*(np.array(column) for column in zip(*found, strict=True)))


# 5. Prompts show aggregates over the full log.


def test_5_prompts_show_no_counts(built: Path) -> None:
    for row in read_rows(built / "movielens" / "scenes" / "test.parquet"):
        options = row["prompt"][0]["content"].split("Films you could watch now:")[1].strip().splitlines()
        assert all(line.endswith("]") and line.count("[") == 1 for line in options)
        assert len(options) == len(row["exposure"])


def aggregates_do_not_matter(domain: domains.Domain, raw: Path, work: Path) -> bool:
    """Whether tables and remarks are the same with other counts and means, which are of the whole log."""
    other = work / "other counts"
    shutil.copytree(raw, other)
    for path in other.glob("*.jsonl"):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        counted = [line for line in lines if {"average_rating", "rating_number", "helpful_vote"} & set(line)]
        assert len(counted) > len(lines) / 2
        for line in counted:
            line.update({name: 4321 for name in ("average_rating", "rating_number", "helpful_vote") if name in line})
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    logs = [tables.prepare(domain, folder, domain.detect(folder)) for folder in (raw, other)]
    found = [(log.items.rows(), log.users.rows(), log.events.rows(), log.remarks.collect().rows()) for log in logs]
    shutil.rmtree(other)
    return found[0] == found[1]


def test_5_a_publishers_aggregates_are_not_shown(tmp_path: Path, with_fault: WithFault) -> None:
    raw, amazon = PROJECT / "tests" / "fixtures" / "amazon_reviews" / "2023", domains.load("amazon_reviews")
    assert aggregates_do_not_matter(amazon, raw, tmp_path)
    module = domains.import_file(amazon.path)
    for right, wrong in (
        ('"store": "store"', '"store": "average_rating"'),
        ('"text": "text",', '"text": "helpful_vote",'),
    ):
        faulty = with_fault(module, right, wrong)
        assert not aggregates_do_not_matter(replace(amazon, load=faulty.load), raw, tmp_path), wrong


# 7. A one-star rating counts as a choice.


def only_liked(log: tables.Log) -> bool:
    """Whether exactly the ratings of 4 and more are positive."""
    rating = log.events["signal"].struct.field("rating")
    return bool((log.events["positive"] == (rating >= 4)).all()) and rating.n_unique() > 3


@pytest.mark.parametrize("layout", ["ml-1m", "ml-100k", "ml-csv"])
def test_7_a_choice_is_a_liking(movielens: domains.Domain, with_fault: WithFault, layout: str) -> None:
    folder = PROJECT / "tests" / "fixtures" / "movielens" / layout
    assert "4" in movielens.positive
    assert only_liked(tables.prepare(movielens, folder, movielens.detect(folder)))
    builder = domains.import_file(PROJECT / "dataset_builders" / "movielens.py")
    faulty = with_fault(builder, 'positive=pl.col("rating") >= 4', 'positive=pl.col("rating") >= 0')
    assert not only_liked(tables.prepare(replace(movielens, load=faulty.load), folder, movielens.detect(folder)))


def test_7_every_truth_is_a_liking(built: Path) -> None:
    ratings = {
        (event["user_id"], event["item_id"], event["timestamp"]): event["signal"]["rating"]
        for event in read_rows(built / "movielens" / "tables" / "events.parquet")
    }
    for name in SPLITS:
        for row in read_rows(built / "movielens" / "scenes" / f"{name}.parquet"):
            truth = row["exposure"][row["choice_index"]]["item_id"]
            assert ratings[row["user_id"], truth, row["timestamp"]] >= 4


# 8. Logged impressions are overwritten by sampled ones in evaluation.


def evaluated_on_what_was_shown(module: Any, raw: Path, out: Path, **settings: Any) -> bool:
    """Whether every test scene offers what its impression showed."""
    module.build(domains.load("mind"), raw, out, module.BuildSettings(scenes=100, **settings))
    shown = {
        (event["user_id"], event["timestamp"], event["item_id"]): set(event["impression"])
        for event in read_rows(out / "mind" / "tables" / "events.parquet")
    }
    found = read_rows(out / "mind" / "scenes" / "test.parquet")
    assert len(found) > 5
    for row in found:
        offered = [option["item_id"] for option in row["exposure"]]
        impression = shown[row["user_id"], row["timestamp"], offered[row["choice_index"]]]
        if row["regime"] != "logged" or row["impression_id"] is None or not set(offered) <= impression:
            return False
    return True


def test_8_where_impressions_are_logged_they_are_used(raw_news: Path, tmp_path: Path, with_fault: WithFault) -> None:
    assert evaluated_on_what_was_shown(build, raw_news, tmp_path)
    assert evaluated_on_what_was_shown(build, raw_news, tmp_path, regime="uniform", instead_of_logged=True)
    assert {row["regime"] for row in read_rows(tmp_path / "mind" / "scenes" / "train.parquet")} == {"uniform"}
    faulty = with_fault(
        build_settings, '(split == "test" or not self.instead_of_logged)', "(not self.instead_of_logged)"
    )
    builder = SimpleNamespace(build=build.build, BuildSettings=faulty.BuildSettings)
    assert not evaluated_on_what_was_shown(builder, raw_news, tmp_path, regime="uniform", instead_of_logged=True)


# 9. Content embeddings are stored in file order and looked up by order of first appearance.


def content_options(of: World, log: tables.Log) -> list[dict[str, Any]]:
    drafts, _ = scenes.draw(of, "train", 150, "content", SECRET)
    assert len(drafts) == 150
    return rows.rows(of, log, drafts, "train", "content", small.renderer(log, "{{ exposure | length }}")).to_pylist()


def share_words(log: tables.Log, found: list[dict[str, Any]]) -> bool:
    """Whether every sampled option has a word in common with the memory, beside what all items have."""
    plain = small.Plain(log)
    everywhere = set.intersection(*(plain.words(item) for item in plain.attributes))
    for row in found:
        offered = [option["item_id"] for option in row["exposure"]]
        del offered[row["choice_index"]]
        remembered = set().union(*(plain.words(past["item_id"]) for past in row["history"])) - everywhere
        if not all(plain.words(item) & remembered for item in offered):
            return False
    return True


def test_9_what_is_known_of_an_item_is_looked_up_by_its_id(
    raw_news: Path, tmp_path: Path, with_fault: WithFault, monkeypatch: pytest.MonkeyPatch
) -> None:
    mind = domains.load("mind")
    other = shuffled(raw_news, tmp_path / "shuffled")

    def made(folder: Path, of: ModuleType = world) -> tuple[tables.Log, list[dict[str, Any]]]:
        log = tables.prepare(mind, folder, mind.detect(raw_news))
        return log, content_options(of.World.of("mind", log, small.all_in(log)), log)

    log, found = made(raw_news)
    again, the_same = made(other)
    assert log.items.rows() == again.items.rows()
    assert found == the_same
    assert share_words(log, found)
    # Words by order of first appearance.
    faulty = with_fault(world, "Words.of(self.attributes, ", "Words.of(self.attributes[self.order_of_appearance], ")
    assert not share_words(*made(raw_news, faulty))
    # Attributes in the order of the file, ids in theirs.
    in_file_order = "frame.with_columns(pl.col(key).sort_by(pl.col(key).cast(pl.String)))"
    monkeypatch.setattr(
        tables, "_described",
        with_fault(tables, "frame.sort(pl.col(key).cast(pl.String))", in_file_order)._described,
    )  # fmt: skip
    assert made(raw_news)[0].items.rows() != made(other)[0].items.rows()


# 10. MIND's "PM" times are parsed 12 hours early, and dates are compared as text.


def clock_is_right(domain: domains.Domain, raw: Path) -> bool:
    """Whether the time of every click is that of its line, read by hand, and events are in the order of times."""
    log = tables.prepare(domain, raw, domain.detect(raw))
    by_id: dict[str, datetime] = {}
    for part in ("train", "dev"):
        for line in (raw / part / "behaviors.tsv").read_text(encoding="utf-8").splitlines():
            number, _, clock, *_ = line.split("\t")
            month, day, year, hour, minute, second = map(int, re.split("[/ :]", clock[:-3]))
            hour = hour % 12 + (12 if clock.endswith("PM") else 0)
            by_id[f"{part}-{number}"] = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    assert {time.hour for time in by_id.values()} == set(range(24))
    times = log.events.select("impression_id", pl.col("time").cast(pl.Datetime("ms", "UTC")))
    return log.events["time"].is_sorted() and all(by_id[name] == time for name, time in times.rows())


def test_10_afternoons_are_afternoons(raw_news: Path, with_fault: WithFault) -> None:
    mind = domains.load("mind")
    assert clock_is_right(mind, raw_news)
    early = '"time").str.head(-3).str.to_datetime("%m/%d/%Y %H:%M:%S"'
    faulty = with_fault(domains.import_file(mind.path), '"time").str.to_datetime(TIME', early)
    assert not clock_is_right(replace(mind, load=faulty.load), raw_news)


# 11. A processor appends to its own input on every run.


def leaves_its_input(run: Callable[[Path, Path], Any], raw: Path, work: Path, contents: Contents) -> bool:
    """Whether a run and a second run leave the raw folder as it was, and give the same outputs."""
    shutil.copytree(raw, work / "raw")
    before = contents(work / "raw")
    run(work / "raw", work / "out")
    first = contents(work / "out")
    run(work / "raw", work / "out")
    return contents(work / "raw") == before and contents(work / "out") == first


def test_11_builds_only_read_their_input(
    raw: Path, movielens: domains.Domain, tmp_path: Path, contents: Contents
) -> None:
    settings = build.BuildSettings(scenes=20)

    def ours(source: Path, out: Path) -> None:
        build.build(movielens, source, out, settings)

    def appending(source: Path, out: Path) -> None:
        ours(source, out)
        with (source / "ratings.dat").open("ab") as file:
            file.write(b"1::1::5::978300000\n")

    assert leaves_its_input(ours, raw, tmp_path / "ours", contents)
    assert not leaves_its_input(appending, raw, tmp_path / "appending", contents)


# 12. History length is drawn from a global generator while formatting, so a rebuild gives other prompts.


def lengths(module: ModuleType, of: World, count: int) -> dict[bytes, int]:
    drafts, _ = module.draw(of, "train", count, "uniform", SECRET)
    return dict(zip([key.tobytes() for key in drafts.key], drafts.shown.tolist(), strict=True))


def repeats(module: ModuleType, crowd: Any) -> bool:
    """Whether history lengths are the same again, with more scenes, and with one more user about."""
    marked = crowd.log.events.with_columns(split=crowd.split.of_event)
    newcomer = crowd.log.users.height
    twin = marked.filter(pl.col("split") == 0)["user"][-1]
    extra = marked.filter(pl.col("user") == twin).with_columns(user=pl.lit(newcomer, pl.Int32))
    log = replace(
        crowd.log, users=pl.concat([crowd.log.users, pl.DataFrame({"user_id": ["newcomer"], "profile": ["{}"]})])
    )
    log, split = small.changed(log, crowd.split, pl.concat([marked, extra]))
    bigger = World.of("films", log, split)
    first, again = lengths(module, crowd.world, 600), lengths(module, crowd.world, 600)
    wider, crowded = lengths(module, crowd.world, 1500), lengths(module, bigger, 600)
    assert len(first) == 600 and len(first.keys() & crowded.keys()) > 500
    return all(other[key] == first[key] for other in (again, wider, crowded) for key in first.keys() & other.keys())


def test_12_history_lengths_belong_to_events(crowd: Any, with_fault: WithFault) -> None:
    assert repeats(scenes, crowd)
    right = 'streams.below("history", sizes.history[1] - sizes.history[0] + 1)'
    assert not repeats(with_fault(scenes, right, "np.random.randint(0, 9, len(events))"), crowd)
    faulty = with_fault(scenes, right, "STREAM.integers(0, 9, len(events))")
    faulty.STREAM = np.random.default_rng(0)  # type: ignore[attr-defined]
    assert not repeats(faulty, crowd)
    in_the_batch = with_fault(scenes, right, "np.random.default_rng(0).integers(0, 9, len(events))")
    assert not repeats(in_the_batch, crowd)


def test_12_a_rebuild_gives_the_same_bytes(
    raw: Path, built: Path, movielens: domains.Domain, tmp_path: Path, contents: Contents
) -> None:
    build.build(movielens, raw, tmp_path, build.BuildSettings(scenes=200))
    rebuilt, before = contents(tmp_path / "movielens"), contents(built / "movielens")
    assert rebuilt == {name: before[name] for name in rebuilt}
    assert len(rebuilt) == 10
    build.build(movielens, raw, tmp_path / "other", build.BuildSettings(scenes=200, seed=1))
    other = contents(tmp_path / "other" / "movielens")
    assert {name for name in rebuilt if other[name] != rebuilt[name]} == {
        "report.json", "report.html", "scenes/train.parquet", "scenes/validation.parquet", "scenes/test.parquet",
        "seal.key",
    }  # fmt: skip


# 21. Quotas by ceiling-then-remainder starve the last groups. Splits are in test_scenes.py, pairs in test_distill.py.


def test_21_nobody_is_starved_by_those_who_come_first(crowd: Any, with_fault: WithFault) -> None:
    """Where there are fewer scenes than people, everybody has one at most; where there are more, one at least."""
    people = len(np.unique(crowd.world.user[(crowd.split.of_event == 2) & crowd.world.positive]))

    def fair(module: ModuleType, count: int) -> bool:
        drafts, _ = module.draw(crowd.world, "test", count, "uniform", SECRET)
        turns = Counter(crowd.world.user[drafts.event].tolist())
        return max(turns.values()) - min(turns.values()) <= 1 and len(turns) >= min(count, 0.98 * people)

    assert fair(scenes, 100) and fair(scenes, 3 * people)
    faulty = with_fault(scenes, "order = stable_order(turn)", "order = np.arange(len(turn))")
    assert not fair(faulty, 3 * people)


def test_every_split_name_is_used(crowd: Any) -> None:
    assert isinstance(crowd.split, Split)
    assert set(crowd.split.of_event.tolist()) == {LOST, 0, 1, 2}
    assert all((scenes.draw(crowd.world, name, 5, "uniform", SECRET)[0].options != NOTHING).any() for name in SPLITS)
