"""A domain's log as arrays, events in time order, and what could be known of it at any moment.

Every question about the past is asked as of an *edge*: the number of events, of anyone, strictly earlier than a time.
So nothing here can look ahead, and thousands of scenes are asked about at once, in any order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from hf_mirror.grouped import Grouped, stable_order
from hf_mirror.impressions import Impressions
from hf_mirror.neighbours import nearest
from hf_mirror.splits import Split
from hf_mirror.tables import Log
from hf_mirror.words import Words

FOREVER = np.iinfo(np.int64).max
SESSION_GAP_MS = 3_600_000
UNTIMED = -1


@dataclass
class World:
    """Per event, shape [events]: `time` (ms), `user`, `item` (positions of ids), `positive`, `split` (splits.py).

    Per user, `memory[memory_start[u] : memory_start[u + 1]]` are the items that the user met before the log, oldest
    first. Per item: `first_seen` (its first event, ms), `available_from` (ms), `described` (it has a title),
    `attributes` (JSON text). `impressions`: what was logged as shown, where the source logs it. `content_model`
    stands in for words in the content regime.
    """

    domain: str
    users: pl.Series
    items: pl.Series
    time: np.ndarray
    user: np.ndarray
    item: np.ndarray
    positive: np.ndarray
    split: np.ndarray
    first_seen: np.ndarray
    available_from: np.ndarray
    described: np.ndarray
    memory: np.ndarray
    memory_start: np.ndarray
    attributes: pl.Series
    impressions: Impressions | None
    content_model: str | None = None

    @classmethod
    def of(cls, domain: str, log: Log, split: Split, content_model: str | None = None) -> World:
        """The arrays of a clean log and its split."""
        events, n_items = log.events, log.items.height
        time, item = events["time"].to_numpy(), events["item"].to_numpy()
        first_seen = np.full(n_items, FOREVER)
        first_seen[item[::-1]] = time[::-1]  # the first event is assigned last
        memory, memory_start = _memories(log)
        title = log.items["attributes"].str.json_path_match("$.title")
        return cls(
            domain, log.users["user_id"], log.items["item_id"],
            time, events["user"].to_numpy(), item, events["positive"].to_numpy(), split.of_event,
            first_seen, log.items["available_from"].dt.epoch("ms").fill_null(-FOREVER).to_numpy(),
            (title.str.len_chars().fill_null(0) > 0).to_numpy(),
            memory, memory_start, log.items["attributes"], Impressions.of(log), content_model,
        )  # fmt: skip

    def edge(self, time: np.ndarray) -> np.ndarray:
        """How many events are strictly earlier than each time (ms)."""
        return np.searchsorted(self.time, time, side="left")

    def count(self, item: np.ndarray, edge: np.ndarray) -> np.ndarray:
        """Events of each item before the edge; any shapes that broadcast."""
        return self.by_item.before(item, edge)

    def likes(self, item: np.ndarray, edge: np.ndarray) -> np.ndarray:
        """Positive events of each item before the edge."""
        return self.choices_by_item.before(item, edge)

    def total_likes(self, edge: np.ndarray) -> np.ndarray:
        """Positive events of anyone before the edge."""
        return self._likes_of_all[edge]

    def earlier(self, event: np.ndarray) -> np.ndarray:
        """How many events of the same user are strictly earlier than each event."""
        return self._earlier[event]

    def touched(self, user: np.ndarray, item: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Whether each user met the item at or before the time (ms), or before the log began."""
        pairs, first, _ = self._meetings
        key = user.astype(np.int64) * len(self.items) + item
        place = np.minimum(np.searchsorted(pairs, key), len(pairs) - 1)
        return (pairs[place] == key) & (first[place] <= time)

    def repeats(self, event: np.ndarray) -> np.ndarray:
        """Whether the user of each event had met its item at a strictly earlier time, or before the log began."""
        return self._meetings[2][event]

    def memory_at(
        self, user: np.ndarray, edge: np.ndarray, shown: np.ndarray, position: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The item at a position (0: the oldest) of the latest `shown` that each user met before the edge, and its
        event; UNTIMED for what came before the log."""
        untimed = self.memory_start[user + 1] - self.memory_start[user]
        at = untimed + self.by_user.before(user, edge) - shown + position
        event = np.full(len(at), UNTIMED, np.int64)
        item = np.empty(len(at), np.int64)
        timed = at >= untimed
        event[timed] = self.by_user.nth(user[timed], (at - untimed)[timed])
        item[timed] = self.item[event[timed]]
        item[~timed] = self.memory[(self.memory_start[user] + at)[~timed]]
        return item, event

    @cached_property
    def by_user(self) -> Grouped:
        """Events by user."""
        return Grouped.by(self.user, len(self.users))

    @cached_property
    def by_item(self) -> Grouped:
        """Events by item."""
        return Grouped.by(self.item, len(self.items))

    @cached_property
    def arrivals(self) -> np.ndarray:
        """The position of the first event of every user that has one, ascending."""
        return np.sort(self._first_event[self._first_event < len(self.time)])

    @cached_property
    def arrival_order(self) -> np.ndarray:
        """Users in the order in which they arrive."""
        return np.argsort(self._first_event, kind="stable")

    @cached_property
    def choice_events(self) -> np.ndarray:
        """The events that are choices (positive), in time order."""
        return np.flatnonzero(self.positive).astype(np.int32)

    @cached_property
    def choices(self) -> Grouped:
        """Choices by user, as events."""
        return Grouped.by(self.user[self.choice_events], len(self.users), self.choice_events, len(self.time))

    @cached_property
    def choices_by_item(self) -> Grouped:
        """Choices by item, as events."""
        return Grouped.by(self.item[self.choice_events], len(self.items), self.choice_events, len(self.time))

    def session_start(self, event: np.ndarray) -> np.ndarray:
        """When the session of each event began (ms): a new one begins after a gap of more than an hour."""
        place = self.by_user.place(self.user[event], event)
        first = self.by_user.start[self.user[event]]
        left = np.arange(len(event))
        while len(left):
            at, before = self.by_user.at(place[left]), self.by_user.at(place[left] - 1)
            left = left[(place[left] > first[left]) & (self.time[at] - self.time[before] <= SESSION_GAP_MS)]
            place[left] -= 1
        return self.time[self.by_user.at(place)]

    @cached_property
    def words(self) -> Words:
        """The words of items' attributes."""
        return Words.of(self.attributes, self.order_of_appearance)

    @cached_property
    def nearest(self) -> np.ndarray:
        """The items that read most like each item, by the content model: [items, few]."""
        assert self.content_model is not None
        return nearest(self.attributes, self.content_model)

    @cached_property
    def _first_event(self) -> np.ndarray:
        first = np.full(len(self.users), len(self.time))
        first[self.user[::-1]] = np.arange(len(self.time))[::-1]
        return first

    @cached_property
    def ordinal(self) -> np.ndarray:
        """Numbers the events with the same user, item and time. Those stand side by side."""
        parts = (self.time, self.user, self.item)
        new = np.r_[True, np.any([part[1:] != part[:-1] for part in parts], axis=0)]
        return np.arange(len(new), dtype=np.int32) - _first_of_run(new)

    @cached_property
    def order_of_appearance(self) -> np.ndarray:
        """Items in the order in which they could first be offered (known and available); ties in the order of ids."""
        return np.argsort(self.offered_from, kind="stable")

    @cached_property
    def appearances(self) -> np.ndarray:
        """When the items in order of appearance could first be offered (ms), ascending."""
        return self.offered_from[self.order_of_appearance]

    @cached_property
    def offered_from(self) -> np.ndarray:
        """The time (ms) from which an item is known and available."""
        # Known means an event strictly before the scene.
        return np.maximum(np.where(self.first_seen == FOREVER, FOREVER, self.first_seen + 1), self.available_from)

    @cached_property
    def _likes_of_all(self) -> np.ndarray:
        return np.r_[0, np.cumsum(self.positive, dtype=np.int32)]

    @cached_property
    def _earlier(self) -> np.ndarray:
        """How many events of the same user are strictly earlier than each event."""
        order = self.by_user.positions
        user, time = self.user[order], self.time[order]
        first = _first_of_run(np.r_[True, (user[1:] != user[:-1]) | (time[1:] != time[:-1])])
        earlier = np.empty(len(order), np.int32)
        earlier[order] = first - self.by_user.start[user]
        return earlier

    @cached_property
    def _meetings(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Every (user, item) that met, as sorted keys, and when they first did (ms); and of each event, whether they
        had met at a strictly earlier time."""
        order = self.by_item.positions
        order = order[stable_order(self.user[order])].astype(np.int32)  # by user, then item, then time
        user, item = self.user[order], self.item[order]
        new = np.r_[True, (user[1:] != user[:-1]) | (item[1:] != item[:-1])]
        repeated = np.empty(len(order), bool)
        repeated[order] = self.time[order] > self.time[order[_first_of_run(new)]]
        key, time = user[new].astype(np.int64) * len(self.items) + item[new], self.time[order[new]]
        if len(self.memory):
            owner = np.repeat(np.arange(len(self.users)), np.diff(self.memory_start))
            before = np.unique(owner * len(self.items) + self.memory.astype(np.int64))
            repeated |= np.isin(self.user.astype(np.int64) * len(self.items) + self.item, before)
            key, at = np.unique(np.r_[before, key], return_index=True)
            time = np.r_[np.full(len(before), -FOREVER), time][at]
        return key, time, repeated


def _first_of_run(new: np.ndarray) -> np.ndarray:
    """For each place of a row, where its run began; `new` marks the beginnings."""
    return np.maximum.accumulate(np.where(new, np.arange(len(new), dtype=np.int32), 0))


def _memories(log: Log) -> tuple[np.ndarray, np.ndarray]:
    if "history" not in log.users.columns:
        return np.zeros(0, np.int32), np.zeros(log.users.height + 1, np.int64)
    places = log.items.select("item_id").with_row_index("item")
    met = (
        log.users.select(history=pl.col("history").cast(pl.List(pl.String))).with_row_index("user").explode("history")
        .join(places, left_on="history", right_on="item_id", how="inner", maintain_order="left")
    )  # fmt: skip
    start = np.searchsorted(met["user"].to_numpy(), np.arange(log.users.height + 1))
    return met["item"].cast(pl.Int32).to_numpy(), start
