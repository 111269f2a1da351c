"""Users are split by when they arrive (SCIENCE: splits): train before cut 1, test after cut 2, validation between.

Every test event is later than every train event, and no user is on two sides. A user who straddles a cut is used only
before it; events exactly at a cut are used nowhere. What each rule costs is reported.

`by_user` is the older custom, for comparison with work that has it: disjoint users, and no cut in time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from hf_mirror.errors import DataError

SPLITS = ("train", "validation", "test")
KINDS = ("arrival", "user")
HELD_OUT = 0.1  # of all users, for validation and for test, where users are split by lot
MIN_TRAIN_EVENTS = 0.5
MIN_VALIDATION_USERS = 30
MIN_VALIDATION_SHARE = 0.05
UNDERPOWERED_BELOW = 200

LOST = -1
NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Split:
    """`of_event` is an index into SPLITS per event, or LOST; `report` says what was lost to which rule, and the cuts in
    time (ms, None where there are none)."""

    of_event: np.ndarray
    cut_1: int | None
    cut_2: int | None
    report: dict[str, Any]


def utc(milliseconds: int) -> datetime:
    """A timezone-aware UTC time."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)


def by_arrival(user: np.ndarray, time: np.ndarray, positive: np.ndarray) -> Split:
    """Splits events, all of shape [events] and in the order of `time` (ms), at the cuts that leave the most test users.

    Cuts lie on event-time quantiles in steps of 0.05; train keeps half of all events and validation 30 users or 5 %,
    whichever is more. Where no pair of cuts allows that, the pair with the largest smallest split is taken and the
    report says so. Fewer than three users is a DataError.
    """
    arrival = np.full(int(user.max(initial=-1)) + 1, NEVER)
    arrival[user[::-1]] = time[::-1]  # the first event is assigned last
    cut_1, cut_2, relaxed = _choose_cuts(time, arrival[arrival != NEVER])
    first = arrival[user]
    of_event = np.full(len(time), LOST, np.int8)
    of_event[(first < cut_1) & (time < cut_1)] = 0
    of_event[(first > cut_1) & (first < cut_2) & (time < cut_2)] = 1
    of_event[first > cut_2] = 2
    check(user, time, of_event)
    at_a_cut = np.isin(time, (cut_1, cut_2)) | np.isin(first, (cut_1, cut_2))
    lost = of_event == LOST
    reasons = {
        "after_cut_1_of_a_train_user": lost & ~at_a_cut & (first < cut_1),
        "after_cut_2_of_a_validation_user": lost & ~at_a_cut & (first >= cut_1),
        "at_a_cut": lost & at_a_cut,
    }
    times = {"cut_1": utc(cut_1).isoformat(), "cut_2": utc(cut_2).isoformat(), "validation_minimum_relaxed": relaxed}
    return Split(of_event, cut_1, cut_2, {**times, **_report(user, positive, of_event, reasons)})


def by_user(user: np.ndarray, positive: np.ndarray, lot: np.ndarray) -> Split:
    """Splits users in the order of `lot` [users]: the first tenth is test, the next validation, the rest train. Times
    play no part, so that a model may have learned from what came after a test scene."""
    present = np.unique(user)
    if len(present) < len(SPLITS):
        raise DataError(f"only {len(present)} users have usable events; a split by user needs at least 3")
    held_out = max(round(HELD_OUT * len(present)), 1)
    side = np.zeros(len(lot), np.int8)
    order = present[np.argsort(lot[present], kind="stable")]
    side[order[:held_out]], side[order[held_out : 2 * held_out]] = 2, 1
    of_event = side[user]
    times = {"cut_1": None, "cut_2": None, "validation_minimum_relaxed": False}
    return Split(of_event, None, None, {**times, **_report(user, positive, of_event, {})})


def check(user: np.ndarray, time: np.ndarray, of_event: np.ndarray) -> None:
    """The guarantees, asserted on every build: they are what the benchmark rests on."""
    sides = np.zeros((int(user.max(initial=-1)) + 1, len(SPLITS)), bool)
    used = of_event != LOST
    sides[user[used], of_event[used]] = True
    if (sides.sum(1) > 1).any():
        raise AssertionError("a user is in two splits")
    bounds = {name: time[of_event == code] for code, name in enumerate(SPLITS) if (of_event == code).any()}
    for earlier, later in pairwise(bounds):
        if not bounds[earlier].max() < bounds[later].min():
            raise AssertionError(f"{later} events are not all later than {earlier} events")


def _choose_cuts(time: np.ndarray, arrivals: np.ndarray) -> tuple[int, int, bool]:
    n_users, n_events = len(arrivals), len(time)
    if n_users < 3:
        raise DataError(f"only {n_users} users have usable events; a split by arrival needs at least 3, better 1,000")
    cuts = sorted({int(time[min(step * n_events // 20, n_events - 1)]) for step in range(10, 20)})
    arrivals = np.sort(arrivals)
    options = []
    for cut_1, cut_2 in combinations(cuts, 2):
        before, until = np.searchsorted(arrivals, (cut_1, cut_2), side="left").tolist()
        upto, since = np.searchsorted(arrivals, (cut_1, cut_2), side="right").tolist()
        validation, test = until - upto, n_users - since
        fits = int(np.searchsorted(time, cut_1)) >= MIN_TRAIN_EVENTS * n_events and validation >= max(
            MIN_VALIDATION_USERS, MIN_VALIDATION_SHARE * n_users
        )
        options.append((fits, test if fits else min(test, validation, before), cut_1, cut_2))
    if not options:
        raise DataError("all events lie at one time; a split by arrival needs events spread over time")
    fits, _, cut_1, cut_2 = max(options, key=lambda option: option[:2])
    return cut_1, cut_2, not fits


def _report(
    user: np.ndarray, positive: np.ndarray, of_event: np.ndarray, reasons: dict[str, np.ndarray]
) -> dict[str, Any]:
    def counts(rows: np.ndarray) -> dict[str, int]:
        return {
            "users": int((np.bincount(user[rows]) > 0).sum()),
            "events": int(rows.sum()),
            "positives": int(positive[rows].sum()),
        }

    kept = {name: counts(of_event == code) for code, name in enumerate(SPLITS)}
    return {
        **{what: {name: kept[name][what] for name in SPLITS} for what in ("users", "events", "positives")},
        "lost": {reason: counts(rows) for reason, rows in reasons.items() if rows.any()},
        "underpowered": kept["test"]["users"] < UNDERPOWERED_BELOW,
    }
