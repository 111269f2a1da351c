"""Pitfalls 3 to 6: what a scene shows or offers does not depend on what happens at its time or after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest

from hf_mirror import domains, exposure, rows, scenes, world
from hf_mirror.exposure import NOTHING, batch, matched, proposals
from hf_mirror.splits import LOST, Split
from hf_mirror.tables import Log
from hf_mirror.world import SESSION_GAP_MS, World

small = domains.import_file(Path(__file__).parent / "small_logs.py")

SECRET = b"f" * 32
TICK_MS = 300_000  # times are rounded down to this, so that many people do something at one time
SCENES = 900
SAMPLED = ("uniform", "popularity", "popularity_matched", "collaborative", "content", "mixed")
WithFault = Callable[[ModuleType, str, str], ModuleType]


class Past(NamedTuple):
    """A log, the moment up to which its scenes are compared, and which of its events are scenes: the split does not
    move with the future. Of the people who do something at the very moment, half belong to the future."""

    name: str
    log: Log
    split: Split
    moment: int

    def marked(self) -> pl.DataFrame:
        return self.log.events.with_columns(split=self.split.of_event)

    def later(self) -> pl.Expr:
        return (pl.col("time") > self.moment) | ((pl.col("time") == self.moment) & (pl.col("user") % 2 == 1))


def past_of(name: str, log: Log) -> Past:
    """The busiest moment of the second half, and the last events before it as candidates for scenes."""
    whole = Split(np.full(log.events.height, LOST, np.int8), 0, 0, {})
    events = log.events.with_columns(time=pl.col("time") // TICK_MS * TICK_MS, split=pl.lit(LOST, pl.Int8))
    log, _ = small.changed(log, whole, events)
    busy = (
        log.events[log.events.height // 2 : log.events.height * 4 // 5].group_by("time").agg(pl.col("user").n_unique())
    )
    moment = busy.sort("user", "time")["time"][-1]
    past = Past(name, log, whole, moment)
    before = log.events.with_row_index("place").filter(~past.later())["place"].tail(SCENES)
    of_event = np.full(log.events.height, LOST, np.int8)
    of_event[before.to_numpy()] = 0
    return past._replace(split=replace(whole, of_event=of_event))


@pytest.fixture(scope="module")
def films(crowd: Any) -> Past:
    return past_of("films", small.films_come_out_over_time(crowd.log))


@pytest.fixture(scope="module")
def news(tmp_path_factory: pytest.TempPathFactory) -> Past:
    return past_of("news", small.made_up("mind", tmp_path_factory.mktemp("news"), seed=5, users=250, news=260)[1])


def with_another_future(past: Past, change: str) -> Past:
    """Later events removed, or given to other items and turned into their opposite."""
    events = past.marked()
    if change == "removed":
        events = events.filter(~past.later())
    else:
        other = pl.col("item").shuffle(seed=5)
        events = events.with_columns(
            item=pl.when(past.later()).then(other).otherwise("item"),
            positive=pl.when(past.later()).then(~pl.col("positive")).otherwise("positive"),
        )
    log, split = small.changed(past.log, past.split, events)
    return past._replace(log=log, split=split)


def written(past: Past, regime: str, of: Callable[..., World], by: ModuleType, write: ModuleType) -> dict[str, Any]:
    """Every scene up to the moment, by id."""
    there = of(past.name, past.log, past.split)
    drafts, _ = by.draw(there, "train", 1_000_000, regime, SECRET)
    template = domains.load("mind" if past.name == "news" else "movielens").template
    table = write.rows(there, past.log, drafts, "train", regime, small.renderer(past.log, template), workers=1)
    return {row["scene_id"]: row for row in table.to_pylist()}


def same_past(
    past: Past, regime: str, change: str,
    of: Callable[..., World] = World.of, by: ModuleType = scenes, write: ModuleType = rows,
) -> bool:  # fmt: skip
    """Whether all scenes up to the moment are the same whatever happens from then on.

    An observed scene shows what its own session holds, to the end: it is compared if its session has ended.
    """
    one = written(past, regime, of, by, write)
    two = written(with_another_future(past, change), regime, of, by, write)
    if regime == "observed":
        soon = past.log.events.filter(past.later() & (pl.col("time") <= past.moment + SESSION_GAP_MS))
        going_on = set(past.log.users["user_id"].gather(soon["user"].unique()))
        assert going_on
        one, two = ({key: row for key, row in found.items() if row["user_id"] not in going_on} for found in (one, two))
    assert len(one) > (30 if regime == "observed" else 200)
    return one == two


def test_people_do_things_at_the_very_moment(films: Past, news: Past) -> None:
    for past in (films, news):
        now = past.log.events.filter(pl.col("time") == past.moment)
        assert now.filter(past.later()).height and now.filter(~past.later()).height
        assert past.log.events.filter(past.later()).height > 500


@pytest.mark.parametrize("regime", [*SAMPLED, "observed"])
@pytest.mark.parametrize("change", ["removed", "altered"])
def test_3_to_6_scenes_do_not_depend_on_the_future(films: Past, change: str, regime: str) -> None:
    assert same_past(films, regime, change)


@pytest.mark.parametrize("change", ["removed", "altered"])
def test_3_to_6_logged_scenes_do_not_depend_on_the_future(news: Past, change: str) -> None:
    assert same_past(news, "logged", change)


FOREVER = "np.full(len(event), len(world.time))"


@pytest.mark.parametrize(
    ("regime", "module", "right", "wrong"),
    [
        ("uniform", batch, "met = world.touched(self.user[rows], items, time)",
         "met = world.touched(self.user[rows], items, 2**62)"),
        ("popularity", batch, "world.item[event], time, world.edge(time)", f"world.item[event], time, {FOREVER}"),
        ("collaborative", batch, "world.item[event], time, world.edge(time)", f"world.item[event], time, {FOREVER}"),
        ("popularity_matched", batch, "world.item[event], time, world.edge(time)",
         f"world.item[event], time, {FOREVER}"),
        ("popularity", world, 'np.searchsorted(self.time, time, side="left")',
         'np.searchsorted(self.time, time, side="right")'),
        ("content", proposals, 'batch.time[rows], side="right")\n    width',
         'batch.time[rows] + 2**31, side="right")\n    width'),
        ("popularity_matched", matched, "CHOICES * arrived // np.maximum(world.total_likes(edge), 1)",
         "CHOICES * arrived // int(world.total_likes(np.array([len(world.time)]))[0])"),
        ("uniform", scenes, "world.count(options, batch.edge[:, None])", "world.count(options, len(world.time))"),
        ("uniform", rows, "user, edge = world.user[drafts.event], world.edge(world.time[drafts.event])\n    return row",
         "user, edge = world.user[drafts.event], np.full(len(drafts), len(world.time))\n    return row"),
        ("observed", exposure, "np.diff(world.time[later]) > SESSION_GAP_MS", "np.diff(world.time[later]) < 0"),
        ("observed", exposure, "edge = batch.edge[row]", "edge = len(batch.world.time)"),
        ("logged", scenes, "world.count(options, batch.edge[:, None])", "world.count(options, len(world.time))"),
    ],
    ids=["4 touched ever", "3 popularity of the whole log", "3 neighbours of the whole log",
         "3 matched on the whole log", "3 popularity at the moment", "3 document frequencies of the next weeks",
         "3 arrivals by the whole log",
         "5 counts of the whole log", "later events as memory", "other sessions", "nearest in the whole log",
         "5 counts of the whole log beside what was logged"],
)  # fmt: skip
def test_3_to_6_reject_code_that_looks_ahead(
    films: Past, news: Past, regime: str, module: ModuleType, right: str, wrong: str,
    with_fault: WithFault, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    faulty = with_fault(module, right, wrong)
    past, given = news if regime == "logged" else films, {}
    if module is batch:
        monkeypatch.setattr(scenes, "Batch", faulty.Batch)
    elif module is proposals:
        monkeypatch.setattr(exposure, "fill", faulty.fill)
    elif module is matched:
        monkeypatch.setitem(proposals.PROPOSALS, "popularity_matched", faulty.latest_choices)
    elif module is exposure:
        monkeypatch.setitem(exposure.REGIMES, regime, faulty.REGIMES[regime])
    else:
        given = {world: {"of": getattr(faulty, "World", World).of}, scenes: {"by": faulty}, rows: {"write": faulty}}[
            module
        ]
    assert not (same_past(past, regime, "altered", **given) and same_past(past, regime, "removed", **given))


def test_6_items_are_not_offered_before_they_are_known(
    crowd: Any, with_fault: WithFault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last forty events go to a film that nobody has met before."""
    n, new = crowd.log.events.height - 40, crowd.log.items.height
    film = pl.when(pl.int_range(pl.len()) < n).then("item").otherwise(pl.lit(new, pl.Int32))
    extra = crowd.log.items.head(1).with_columns(item_id=pl.lit("9999"))
    log = replace(crowd.log, items=pl.concat([crowd.log.items, extra]))
    log, split = small.changed(log, crowd.split, log.events.with_columns(item=film, split=crowd.split.of_event))
    late = World.of("films", log, split)

    def offered_early(regime: str) -> bool:
        drafts, _ = scenes.draw(late, "test", 4000, regime, SECRET)
        early = late.time[drafts.event] < late.time[n]
        assert early.sum() > 1000
        return bool((drafts.options[early] == new).any())

    assert not any(offered_early(regime) for regime in SAMPLED)
    right, wrong = 'batch.time[rows], side="right")\n    place', 'batch.time[rows] + 2**60, side="right")\n    place'
    anything = with_fault(proposals, right, wrong)
    monkeypatch.setattr(exposure, "fill", anything.fill)
    assert not offered_early("uniform")  # the predicate alone is enough
    any_time = with_fault(batch, "return passes & (items", "return ~met & (items")
    monkeypatch.setattr(scenes, "Batch", any_time.Batch)
    assert offered_early("uniform")


def test_observed_options_do_not_depend_on_what_others_do_from_then_on(films: Past) -> None:
    """The session is its user's own; everything else that the regime looks at lies before the scene."""
    there = World.of(films.name, films.log, films.split)
    drafts, _ = scenes.draw(there, "train", 30, "observed", SECRET)
    assert len(drafts) == 30
    for row in range(0, 30, 3):
        event, events = int(drafts.event[row]), films.marked()
        time, user = int(there.time[event]), int(there.user[event])
        own_past = (pl.col("time") < time) | (pl.col("user") == user)
        log, split = small.changed(films.log, films.split, events.filter(own_past))
        alone = World.of(films.name, log, split)
        same = (alone.time == time) & (alone.user == user) & (alone.item == there.item[event])
        again = scenes._drafts(alone, np.flatnonzero(same), "train", "observed", SECRET, scenes.Sizes())
        size = int(drafts.n_options[row])
        assert again.options[0, :size].tolist() == drafts.options[row, :size].tolist()
        assert (again.options[0, size:] == NOTHING).all()
