"""Users are split by when they arrive (SCIENCE: splits): train before cut 1, test after cut 2, validation between.

Every test event is later than every train event, and no user is on two sides. A user who straddles a cut is used only
before it; events exactly at a cut are used nowhere. What each rule costs is reported.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

import polars as pl

from hf_mirror.errors import DataError

SPLITS = ("train", "validation", "test")
MIN_TRAIN_EVENTS = 0.5
MIN_VALIDATION_USERS = 30
MIN_VALIDATION_SHARE = 0.05
UNDERPOWERED_BELOW = 200


@dataclass(frozen=True)
class Split:
    """`events` with a `split` column (null where an event is lost), and the report of what was lost to which rule."""

    events: pl.DataFrame
    cut_1: datetime
    cut_2: datetime
    report: dict[str, Any]


def by_arrival(events: pl.DataFrame) -> Split:
    """Splits `events` (columns user_id, timestamp, positive) at the cuts that leave the most test users.

    Cuts lie on event-time quantiles in steps of 0.05; train keeps half of all events and validation 30 users or 5 %,
    whichever is more. Where no pair of cuts allows that, the pair with the largest smallest split is taken and the
    report says so. Fewer than three users is a DataError.
    """
    arrivals = events.group_by("user_id").agg(first=pl.col("timestamp").min())
    cut_1, cut_2, relaxed = _choose_cuts(events, arrivals)
    split = (
        pl.when((pl.col("first") < cut_1) & (pl.col("timestamp") < cut_1)).then(pl.lit("train"))
        .when((pl.col("first") > cut_1) & (pl.col("first") < cut_2) & (pl.col("timestamp") < cut_2))
        .then(pl.lit("validation"))
        .when(pl.col("first") > cut_2).then(pl.lit("test"))
    )  # fmt: skip
    marked = events.join(arrivals, on="user_id", how="left", maintain_order="left").with_columns(split=split)
    _check(marked)
    return Split(marked.drop("first"), cut_1, cut_2, _report(marked, cut_1, cut_2, relaxed))


def _choose_cuts(events: pl.DataFrame, arrivals: pl.DataFrame) -> tuple[datetime, datetime, bool]:
    times = events["timestamp"].sort()
    n_users, n_events = arrivals.height, events.height
    if n_users < 3:
        raise DataError(f"only {n_users} users have usable events; a split by arrival needs at least 3, better 1,000")
    cuts = sorted({times[min(int(step * n_events / 20), n_events - 1)] for step in range(10, 20)})
    first = arrivals["first"]
    options = []
    for cut_1 in cuts:
        for cut_2 in (cut for cut in cuts if cut > cut_1):
            validation, test = int(((first > cut_1) & (first < cut_2)).sum()), int((first > cut_2).sum())
            fits = int((times < cut_1).sum()) >= MIN_TRAIN_EVENTS * n_events and validation >= max(
                MIN_VALIDATION_USERS, MIN_VALIDATION_SHARE * n_users
            )
            options.append((fits, test if fits else min(test, validation, int((first < cut_1).sum())), cut_1, cut_2))
    if not options:
        raise DataError("all events lie at one time; a split by arrival needs events spread over time")
    fits, _, cut_1, cut_2 = max(options, key=lambda option: option[:2])
    return cut_1, cut_2, not fits


def _check(marked: pl.DataFrame) -> None:
    """The guarantees, asserted on every build: they are what the benchmark rests on."""
    used = marked.drop_nulls("split")
    if used.group_by("user_id").agg(pl.col("split").n_unique()).filter(pl.col("split") > 1).height:
        raise AssertionError("a user is in two splits")
    bounds = {
        name: (part["timestamp"].min(), part["timestamp"].max())
        for name in SPLITS
        if not (part := used.filter(pl.col("split") == name)).is_empty()
    }
    for earlier, later in pairwise(name for name in SPLITS if name in bounds):
        if not bounds[earlier][1] < bounds[later][0]:  # type: ignore[operator]
            raise AssertionError(f"{later} events are not all later than {earlier} events")


def _report(marked: pl.DataFrame, cut_1: datetime, cut_2: datetime, relaxed: bool) -> dict[str, Any]:
    at_a_cut = pl.col("timestamp").is_in([cut_1, cut_2]) | pl.col("first").is_in([cut_1, cut_2])
    reason = (
        pl.when(at_a_cut).then(pl.lit("at_a_cut"))
        .when(pl.col("first") < cut_1).then(pl.lit("after_cut_1_of_a_train_user"))
        .otherwise(pl.lit("after_cut_2_of_a_validation_user"))
    )  # fmt: skip
    counts = (
        pl.col("user_id").n_unique().alias("users"),
        pl.len().alias("events"),
        pl.col("positive").sum().alias("positives"),
    )
    kept = marked.drop_nulls("split").group_by("split").agg(counts)
    lost = marked.filter(pl.col("split").is_null()).with_columns(reason=reason).group_by("reason").agg(counts)
    by_split = {row["split"]: row for row in kept.to_dicts()}
    test_users = by_split.get("test", {}).get("users", 0)
    return {
        "cut_1": cut_1.isoformat(),
        "cut_2": cut_2.isoformat(),
        "validation_minimum_relaxed": relaxed,
        "users": {name: by_split.get(name, {}).get("users", 0) for name in SPLITS},
        "events": {name: by_split.get(name, {}).get("events", 0) for name in SPLITS},
        "positives": {name: by_split.get(name, {}).get("positives", 0) for name in SPLITS},
        "lost": {row.pop("reason"): row for row in lost.sort("reason").to_dicts()},
        "underpowered": test_users < UNDERPOWERED_BELOW,
    }
