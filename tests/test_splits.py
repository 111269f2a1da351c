"""Splits by arrival: disjoint users, ordered times, and every event accounted for, on any table."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hf_mirror import splits
from hf_mirror.errors import DataError

EPOCH = datetime(2001, 1, 1, tzinfo=UTC)
Row = tuple[str, int, bool]


def table(rows: Iterable[Row]) -> pl.DataFrame:
    """Events in time order, as clean tables are."""
    ordered = sorted(rows, key=lambda row: row[1])
    return pl.DataFrame(
        {
            "user_id": [row[0] for row in ordered],
            "timestamp": [EPOCH + timedelta(hours=row[1]) for row in ordered],
            "positive": [row[2] for row in ordered],
        },
        schema={"user_id": pl.String, "timestamp": pl.Datetime("ms", "UTC"), "positive": pl.Boolean},
    )


def check(events: pl.DataFrame, split: splits.Split) -> None:
    """Everything SCIENCE promises of a split, from the rows alone."""
    marked, report = split.events, split.report
    assert marked.drop("split").equals(events)
    assert set(marked["split"].drop_nulls()) <= set(splits.SPLITS)
    used = marked.drop_nulls("split")
    assert used.group_by("user_id").agg(pl.col("split").n_unique())["split"].eq(1).all()
    bounds = {"train": (None, split.cut_1), "validation": (split.cut_1, split.cut_2), "test": (split.cut_2, None)}
    for (name,), part in used.group_by("split"):
        after, before = bounds[name]
        assert after is None or part["timestamp"].min() > after
        assert before is None or part["timestamp"].max() < before
    assert not used["timestamp"].is_in([split.cut_1, split.cut_2]).any()
    for name, counted in (("events", events.height), ("positives", int(events["positive"].sum()))):
        assert sum(report[name].values()) + sum(lost[name] for lost in report["lost"].values()) == counted
    for name in splits.SPLITS:
        part = marked.filter(pl.col("split") == name)
        assert (report["events"][name], report["users"][name]) == (part.height, part["user_id"].n_unique())
    assert report["underpowered"] == (report["users"]["test"] < splits.UNDERPOWERED_BELOW)
    assert report["cut_1"].endswith("+00:00") and report["cut_2"].endswith("+00:00")


rows = st.lists(
    st.tuples(st.sampled_from(["a", "b", "é", "用户", "", "a b", "\N{PERSON IN LOTUS POSITION}", "0"]),
              st.integers(0, 25), st.booleans()),
    min_size=1, max_size=60,
)  # fmt: skip


@settings(deadline=None, max_examples=80)
@example([("only", 3, True)])
@example([(user, 3, True) for user in "abc"])
@example([(user, time, True) for user in "abc" for time in (0, 1)])
@given(rows)
def test_any_table_splits_cleanly_or_says_why_not(rows: list[Row]) -> None:
    events = table(rows)
    few, one_time = len({row[0] for row in rows}) < 3, len({row[1] for row in rows}) == 1
    try:
        split = splits.by_arrival(events)
    except DataError as error:
        assert few or "time" in str(error)
        assert "\n" not in str(error)
    else:
        assert not few and not one_time
        check(events, split)


def test_fewer_than_three_users_and_a_single_time_are_refused() -> None:
    with pytest.raises(DataError, match="only 2 users"):
        splits.by_arrival(table([("a", 0, True), ("b", 5, True)]))
    with pytest.raises(DataError, match="one time"):
        splits.by_arrival(table([(user, 7, True) for user in "abcd"]))


def people(seed: int, n: int, events: int = 8) -> list[Row]:
    rng = random.Random(seed)
    rows = []
    for user in range(n):
        arrival = rng.randrange(3000)
        rows += [(f"u{user}", arrival + rng.choice([0, 1, 2, 40, 300]), rng.random() < 0.5) for _ in range(events)]
    return rows


@pytest.mark.parametrize("seed", range(3))
def test_the_cuts_leave_the_most_test_users(seed: int) -> None:
    rows = people(seed, 400)
    split = splits.by_arrival(table(rows))
    check(table(rows), split)
    times = sorted(row[1] for row in rows)
    first = {user: min(row[1] for row in rows if row[0] == user) for user in {row[0] for row in rows}}
    quantiles = sorted({times[step * len(times) // 20] for step in range(10, 20)})
    best = 0
    for one in quantiles:
        for two in (cut for cut in quantiles if cut > one):
            validation = sum(one < arrival < two for arrival in first.values())
            enough = sum(time < one for time in times) >= len(times) / 2 and validation >= max(30, 0.05 * len(first))
            best = max(best, enough * sum(arrival > two for arrival in first.values()))
    assert best > 0
    assert not split.report["validation_minimum_relaxed"]
    assert split.report["users"]["test"] == best
    assert split.report["users"]["validation"] >= 30
    at_least_half = sum(row[1] < (split.cut_1 - EPOCH) / timedelta(hours=1) for row in rows)
    assert at_least_half >= len(rows) / 2


def test_too_small_for_the_rule_is_said() -> None:
    split = splits.by_arrival(table(people(0, 40)))
    assert split.report["validation_minimum_relaxed"]
    assert split.report["underpowered"]
    assert min(split.report["users"].values()) > 0


def test_users_who_straddle_a_cut_are_used_before_it() -> None:
    rows = [("early", t, True) for t in range(0, 100)] + [("late", t, True) for t in (95, 96, 97)]
    rows += [("middle", t, True) for t in (70, 72, 74, 99)] + [("other", 2, False)]
    split = splits.by_arrival(table(rows))
    check(table(rows), split)
    sides = dict(split.events.drop_nulls("split").select("user_id", "split").unique().rows())
    assert sides["early"] == "train"
    assert split.report["lost"]["after_cut_1_of_a_train_user"]["users"] == 1


def test_row_order_within_a_time_does_not_matter(crowd: Any) -> None:
    again = splits.by_arrival(crowd.tables.events.sample(fraction=1, shuffle=True, seed=3).sort("timestamp"))
    assert again.report == crowd.split.report
    check(crowd.tables.events, crowd.split)


def test_a_broken_guarantee_stops_the_build() -> None:
    marked = table([("a", 0, True), ("a", 1, True)]).with_columns(split=pl.Series(["train", "test"]))
    with pytest.raises(AssertionError, match="two splits"):
        splits._check(marked)
    marked = table([("a", 1, True), ("b", 1, True)]).with_columns(split=pl.Series(["train", "test"]))
    with pytest.raises(AssertionError, match="not all later"):
        splits._check(marked)
