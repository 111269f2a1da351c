"""Splits by arrival: disjoint users, ordered times, and every event accounted for, on any log."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hf_mirror import splits
from hf_mirror.errors import DataError
from hf_mirror.identity import id_hashes

EPOCH = 978_307_200_000  # 2001-01-01
HOUR = 3_600_000
TRAIN, VALIDATION, TEST = range(3)
Row = tuple[int, int, bool]


class Events(NamedTuple):
    """A log's arrays: user (a position), time (ms, ascending), positive."""

    user: np.ndarray
    time: np.ndarray
    positive: np.ndarray


def table(rows: Iterable[Row]) -> Events:
    """Rows of (user, hour, positive) as a log in time order has them."""
    user, hour, positive = zip(*sorted(rows, key=lambda row: row[1]), strict=True)
    return Events(np.array(user, np.int32), EPOCH + HOUR * np.array(hour, np.int64), np.array(positive, bool))


def check(events: Events, split: splits.Split) -> None:
    """Everything SCIENCE promises of a split, from the rows alone."""
    of_event, report = split.of_event, split.report
    assert of_event.shape == events.user.shape
    assert set(of_event.tolist()) <= {TRAIN, VALIDATION, TEST, splits.LOST}
    sides: dict[int, set[int]] = {}
    for user, side in zip(events.user.tolist(), of_event.tolist(), strict=True):
        sides.setdefault(user, set()).add(side)
    assert all(len(of_user - {splits.LOST}) <= 1 for of_user in sides.values())
    bounds = ((None, split.cut_1), (split.cut_1, split.cut_2), (split.cut_2, None))
    for side, (after, before) in enumerate(bounds):
        times = events.time[of_event == side]
        assert after is None or (times > after).all()
        assert before is None or (times < before).all()
    used = of_event != splits.LOST
    assert not np.isin(events.time[used], (split.cut_1, split.cut_2)).any()
    for name, counted in (("events", len(events.time)), ("positives", int(events.positive.sum()))):
        assert sum(report[name].values()) + sum(lost[name] for lost in report["lost"].values()) == counted
    for side, name in enumerate(splits.SPLITS):
        mine = of_event == side
        assert report["events"][name] == mine.sum()
        assert report["positives"][name] == events.positive[mine].sum()
        assert report["users"][name] == len(set(events.user[mine].tolist()))
    assert report["lost"] == lost_by_reason(events, split)
    assert report["underpowered"] == (report["users"]["test"] < splits.UNDERPOWERED_BELOW)
    for cut, milliseconds in (("cut_1", split.cut_1), ("cut_2", split.cut_2)):
        assert report[cut].endswith("+00:00")
        assert datetime.fromisoformat(report[cut]).timestamp() * 1000 == milliseconds


def lost_by_reason(events: Events, split: splits.Split) -> dict[str, dict[str, int]]:
    """What the report should say is lost, event by event."""
    rows = list(zip(*(column.tolist() for column in (*events, split.of_event)), strict=True))
    arrival: dict[int, int] = {}
    for user, time, _, _ in rows:
        arrival.setdefault(user, time)
    users: dict[str, set[int]] = {}
    found: dict[str, dict[str, int]] = {}
    for user, time, positive, side in rows:
        if side != splits.LOST:
            continue
        if {time, arrival[user]} & {split.cut_1, split.cut_2}:
            reason = "at_a_cut"
        elif arrival[user] < split.cut_1:
            reason = "after_cut_1_of_a_train_user"
        else:
            reason = "after_cut_2_of_a_validation_user"
        users.setdefault(reason, set()).add(user)
        counts = found.setdefault(reason, {"users": 0, "events": 0, "positives": 0})
        counts["users"] = len(users[reason])
        counts["events"] += 1
        counts["positives"] += positive
    return found


def check_cuts(events: Events, split: splits.Split) -> None:
    """No other pair of quantiles would have been better: most test users where train and validation are large enough;
    where no pair allows that, the largest smallest split."""
    times, users = events.time.tolist(), events.user.tolist()
    first = {user: min(t for u, t in zip(users, times, strict=True) if u == user) for user in set(users)}
    quantiles = sorted({times[step * len(times) // 20] for step in range(10, 20)})

    def worth(one: int, two: int) -> tuple[bool, int]:
        train, validation, test = (
            sum(after < arrival < before for arrival in first.values())
            for after, before in ((-math.inf, one), (one, two), (two, math.inf))
        )
        half = sum(time < one for time in times) >= len(times) / 2
        fits = half and validation >= max(splits.MIN_VALIDATION_USERS, splits.MIN_VALIDATION_SHARE * len(first))
        return fits, test if fits else min(train, validation, test)

    assert split.cut_1 < split.cut_2 and {split.cut_1, split.cut_2} <= set(quantiles)
    chosen = worth(split.cut_1, split.cut_2)
    assert chosen == max(worth(one, two) for one, two in itertools.combinations(quantiles, 2))
    assert split.report["validation_minimum_relaxed"] == (not chosen[0])


# Users 0 to 9, some of whom have no events.
rows = st.lists(st.tuples(st.sampled_from([0, 1, 2, 4, 5, 7, 9]), st.integers(0, 25), st.booleans()), min_size=1,
                max_size=60)  # fmt: skip


@settings(deadline=None, max_examples=150)
@example([(7, 3, True)])
@example([(user, 3, True) for user in range(3)])
@example([(user, time, True) for user in range(3) for time in (0, 1)])
@given(rows)
def test_any_log_splits_cleanly_or_says_why_not(rows: list[Row]) -> None:
    events = table(rows)
    few, one_time = len({row[0] for row in rows}) < 3, len({row[1] for row in rows}) == 1
    try:
        split = splits.by_arrival(*events)
    except DataError as error:
        assert few or "time" in str(error)
        assert "\n" not in str(error)
    else:
        assert not few and not one_time
        check(events, split)
        check_cuts(events, split)


def test_no_events_at_all_are_refused() -> None:
    with pytest.raises(DataError, match="only 0 users"):
        splits.by_arrival(np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, bool))


def test_fewer_than_three_users_and_a_single_time_are_refused() -> None:
    with pytest.raises(DataError, match="only 2 users"):
        splits.by_arrival(*table([(0, 0, True), (6, 5, True)]))
    with pytest.raises(DataError, match="one time"):
        splits.by_arrival(*table([(user, 7, True) for user in range(4)]))


def people(seed: int, n: int, events: int = 8) -> list[Row]:
    rng = random.Random(seed)
    rows = []
    for user in range(n):
        arrival = rng.randrange(3000)
        rows += [(user, arrival + rng.choice([0, 1, 2, 40, 300]), rng.random() < 0.5) for _ in range(events)]
    return rows


@settings(deadline=None, max_examples=100)
@given(rows)
def test_the_cuts_of_small_logs_are_the_best(rows: list[Row]) -> None:
    """With a validation split of one user, so that the rule can hold."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splits, "MIN_VALIDATION_USERS", 1)
        try:
            split = splits.by_arrival(*table(rows))
        except DataError:
            return
        check_cuts(table(rows), split)


@pytest.mark.parametrize("seed", range(3))
def test_the_cuts_leave_the_most_test_users(seed: int) -> None:
    events = table(people(seed, 400))
    split = splits.by_arrival(*events)
    check(events, split)
    check_cuts(events, split)
    assert not split.report["validation_minimum_relaxed"]
    assert split.report["users"]["validation"] >= 30 < split.report["users"]["test"]
    assert (events.time < split.cut_1).mean() >= 0.5


def test_too_small_for_the_rule_is_said() -> None:
    split = splits.by_arrival(*table(people(0, 40)))
    assert split.report["validation_minimum_relaxed"]
    assert split.report["underpowered"]
    assert min(split.report["users"].values()) > 0


def test_users_who_straddle_a_cut_are_used_before_it() -> None:
    early, late, middle, other = range(4)
    rows = [(early, t, True) for t in range(0, 100)] + [(late, t, True) for t in (95, 96, 97)]
    rows += [(middle, t, True) for t in (70, 72, 74, 99)] + [(other, 2, False)]
    events = table(rows)
    split = splits.by_arrival(*events)
    check(events, split)
    assert set(split.of_event[events.user == early].tolist()) == {TRAIN, splits.LOST}
    assert split.report["lost"]["after_cut_1_of_a_train_user"]["users"] == 1


def test_who_arrives_exactly_at_a_cut_is_used_nowhere() -> None:
    rows = people(1, 400)
    cut = round((splits.by_arrival(*table(rows)).cut_1 - EPOCH) / HOUR)
    events = table([*rows, (400, cut, True), (400, cut + 500, True)])
    split = splits.by_arrival(*events)
    assert split.cut_1 == EPOCH + HOUR * cut, "two events more have moved the cut; try another seed"
    assert set(split.of_event[events.user == 400].tolist()) == {splits.LOST}
    check(events, split)


def test_users_without_events_change_nothing() -> None:
    """They are described, so they have a position, but they arrive nowhere."""
    rows = people(2, 60)
    one = splits.by_arrival(*table(rows))
    two = splits.by_arrival(*table([(3 * user + 1, time, positive) for user, time, positive in rows]))
    assert one.report == two.report
    assert np.array_equal(one.of_event, two.of_event)


def test_row_order_within_a_time_does_not_matter(crowd: Any) -> None:
    names = ["user", "time", "positive"]
    shuffled = crowd.log.events.select(names, place=pl.int_range(pl.len())).sample(fraction=1, shuffle=True, seed=3)
    shuffled = shuffled.sort("time", maintain_order=True)
    assert not shuffled["place"].is_sorted()
    again = splits.by_arrival(*(shuffled[name].to_numpy() for name in names))
    assert again.report == crowd.split.report
    assert np.array_equal(again.of_event, crowd.split.of_event[shuffled["place"].to_numpy()])
    check(Events(*(crowd.log.events[name].to_numpy() for name in names)), crowd.split)


def test_a_broken_guarantee_stops_the_build() -> None:
    def checked(user: list[int], time: list[int], of_event: list[int]) -> None:
        splits.check(np.array(user, np.int64), np.array(time, np.int64), np.array(of_event, np.int8))

    with pytest.raises(AssertionError, match="two splits"):
        checked([0, 0], [0, 1], [TRAIN, TEST])
    with pytest.raises(AssertionError, match="two splits"):
        checked([0, 1, 0, 0], [0, 1, 2, 3], [TRAIN, TEST, splits.LOST, VALIDATION])
    with pytest.raises(AssertionError, match="test events are not all later than train"):
        checked([0, 1], [1, 1], [TRAIN, TEST])
    with pytest.raises(AssertionError, match="validation events are not all later than train"):
        checked([0, 1, 2], [0, 5, 4], [TRAIN, TRAIN, VALIDATION])
    with pytest.raises(AssertionError, match="test events are not all later than validation"):
        checked([0, 1, 2], [0, 5, 4], [TRAIN, VALIDATION, TEST])
    checked([0, 1, 0, 2], [0, 1, 2, 3], [TRAIN, VALIDATION, splits.LOST, TEST])
    checked([0, 0], [1, 0], [splits.LOST, splits.LOST])
    checked([], [], [])


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(-1, 2)), max_size=8))
def test_check_refuses_exactly_the_faulty_splits(rows: list[tuple[int, int, int]]) -> None:
    used = [row for row in rows if row[2] != splits.LOST]
    one_side = all(a[2] == b[2] for a in used for b in used if a[0] == b[0])
    in_order = all(a[1] < b[1] for a in used for b in used if a[2] < b[2])
    user, time, of_event = (np.array([row[i] for row in rows], np.int64) for i in range(3))
    if one_side and in_order:
        splits.check(user, time, of_event)
    else:
        with pytest.raises(AssertionError):
            splits.check(user, time, of_event)


def test_users_by_lot_are_disjoint_and_keep_their_side() -> None:
    events = table(people(0, 200))
    lot = id_hashes([str(user) for user in range(200)])
    split = splits.by_user(events.user, events.positive, lot)
    assert split.cut_1 is None is split.report["cut_1"] and not split.report["lost"]
    assert split.report["users"] == {"train": 160, "validation": 20, "test": 20}
    assert sum(split.report["events"].values()) == len(events.user)
    sides = {user: set(split.of_event[events.user == user].tolist()) for user in range(200)}
    assert all(len(side) == 1 for side in sides.values())
    # The lot alone decides: times and the order of rows do not.
    mixed = np.random.default_rng(1).permutation(len(events.user))
    again = splits.by_user(events.user[mixed], events.positive[mixed], lot)
    assert np.array_equal(again.of_event, split.of_event[mixed])
    assert max(lot[list(sides)][[side == {TEST} for side in sides.values()]]) < min(
        lot[list(sides)][[side == {TRAIN} for side in sides.values()]]
    )


def test_a_split_by_lot_needs_three_users_with_events() -> None:
    with pytest.raises(DataError, match="only 2 users"):
        splits.by_user(np.array([0, 0, 2]), np.ones(3, bool), np.arange(5, dtype=np.uint64))
    split = splits.by_user(np.array([0, 4, 2]), np.ones(3, bool), np.arange(5, dtype=np.uint64))
    assert split.of_event.tolist() == [TEST, TRAIN, VALIDATION]
