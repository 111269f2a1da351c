"""What baselines learn from and what they are asked, as arrays of item numbers.

They learn from train users' events alone, which all lie before the first test event, and are asked about scenes as a
model is: options, and a history. Counts are as of the scene, of everybody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from hf_mirror.files import read_json, read_rows
from hf_mirror.grouped import Grouped
from hf_mirror.identity import id_hashes
from hf_mirror.metrics import Bools, Floats, Ints
from hf_mirror.splits import NEVER, SPLITS, by_user

RECENT = 0.05  # of the events before a scene: what recent popularity counts in
DAY = 86_400_000


@dataclass(frozen=True)
class Log:
    """A domain's events of everybody in time order: `time` (ms), `user`, `item` and `positive`, shape [events].
    `memory` has what users met before the log, by user."""

    users: Mapping[str, int]
    items: Mapping[str, int]
    attributes: Sequence[Any]
    time: Ints
    user: Ints
    item: Ints
    positive: Bools
    memory: Mapping[int, Sequence[int]]

    @staticmethod
    def of(folder: Path) -> Log:
        """The tables of a built domain."""
        things = read_rows(folder / "tables" / "items.parquet")
        people = read_rows(folder / "tables" / "users.parquet")
        items = {row["item_id"]: number for number, row in enumerate(things)}
        users = {row["user_id"]: number for number, row in enumerate(people)}
        events = read_rows(folder / "tables" / "events.parquet", ["user_id", "item_id", "timestamp", "positive"])
        events.sort(key=lambda event: (event["timestamp"], event["user_id"], event["item_id"]))
        memory = {users[row["user_id"]]: [items[i] for i in row["history"] or () if i in items] for row in people}
        return Log(
            users,
            items,
            [row["attributes"] or {} for row in things],
            np.array([milliseconds(event["timestamp"]) for event in events], np.int64),
            np.array([users[event["user_id"]] for event in events], np.int64),
            np.array([items[event["item_id"]] for event in events], np.int64),
            np.array([event["positive"] for event in events], bool),
            {user: past for user, past in memory.items() if past},
        )

    @cached_property
    def by_item(self) -> Grouped:
        """Events by item."""
        return Grouped.by(self.item, len(self.items))

    @cached_property
    def likes_by_item(self) -> Grouped:
        """Positive events by item, at their places among all events."""
        liked = np.flatnonzero(self.positive)
        return Grouped.by(self.item[liked], len(self.items), liked, len(self.item))

    @cached_property
    def by_user(self) -> Grouped:
        """Events by user."""
        return Grouped.by(self.user, len(self.users))

    def train_users(self, cut: int) -> set[int]:
        """Who came before `cut` (first_cut), or whom a split without one has for training."""
        if cut < NEVER:
            return set(self.user[self.time < cut].tolist()) | set(self.memory)
        side = by_user(self.user, self.positive, id_hashes(list(self.users))).of_event
        return set(self.user[side == SPLITS.index("train")].tolist())

    def past(self, user: int, edge: int) -> list[int]:
        """Everything that a user chose before an event number, oldest first; all of it where nothing was a choice."""
        places = self.by_user.positions[
            self.by_user.start[user] : self.by_user.place(np.array([user]), np.array([edge]))[0]
        ]
        liked = places[self.positive[places]]
        return [*self.memory.get(user, ()), *self.item[liked if len(liked) else places].tolist()]

    def learned_from(self, before: int, users: set[int]) -> Sequences:
        """What `users` chose before a time (ms), as a sequence each."""
        rows = np.flatnonzero((self.time < before) & self.positive)
        found = {user: list(self.memory.get(user, ())) for user in sorted(users)}
        for user, item in zip(self.user[rows].tolist(), self.item[rows].tolist(), strict=True):
            if user in users:
                found[user].append(item)
        return Sequences(tuple(tuple(items) for items in found.values() if items), tuple(found), len(self.items))


@dataclass(frozen=True)
class Sequences:
    """Choices to learn from: items per user, oldest first."""

    items: tuple[tuple[int, ...], ...]
    users: tuple[int, ...]
    n_items: int

    @cached_property
    def matrix(self) -> csr_matrix:
        """Who chose what, 0 or 1, [users, items], float32."""
        rows = np.repeat(np.arange(len(self.items)), [len(items) for items in self.items])
        columns = np.concatenate([np.array(items, np.int64) for items in self.items])
        found = csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), (len(self.items), self.n_items))
        found.data[:] = 1  # duplicates were added up
        return found


@dataclass(frozen=True)
class Asked:
    """n scenes. `options` [n, W] are items, -1 beyond a scene's own; `truth` [n] its slot; `history` the items of what
    was chosen before, oldest first; `edge` [n] how many events lie before the scene, `time` (ms) and `user` [n]."""

    ids: list[str]
    options: Ints
    truth: Ints
    history: list[list[int]]
    user: Ints
    time: Ints
    edge: Ints

    @staticmethod
    def of(folder: Path, split: str, log: Log) -> Asked:
        """The scenes of one split with the history that they show."""
        columns = ["scene_id", "user_id", "timestamp", "history", "exposure", "choice_index"]
        scenes = read_rows(folder / "scenes" / f"{split}.parquet", columns)
        options = np.full((len(scenes), max((len(scene["exposure"]) for scene in scenes), default=1)), -1)
        for row, scene in enumerate(scenes):
            options[row, : len(scene["exposure"])] = [log.items[option["item_id"]] for option in scene["exposure"]]
        time = np.array([milliseconds(scene["timestamp"]) for scene in scenes], np.int64)
        return Asked(
            [scene["scene_id"] for scene in scenes],
            options,
            np.array([scene["choice_index"] for scene in scenes], np.int64),
            [chosen(scene["history"], log) for scene in scenes],
            np.array([log.users[scene["user_id"]] for scene in scenes], np.int64),
            time,
            np.searchsorted(log.time, time),
        )

    @staticmethod
    def joined(parts: Sequence[Asked]) -> Asked:
        """All scenes of several parts, one after the other."""
        widest = max(part.options.shape[1] for part in parts)
        slots = [
            np.pad(part.options, ((0, 0), (0, widest - part.options.shape[1])), constant_values=-1) for part in parts
        ]
        return Asked(
            [one for part in parts for one in part.ids],
            np.concatenate(slots),
            np.concatenate([part.truth for part in parts]),
            [history for part in parts for history in part.history],
            np.concatenate([part.user for part in parts]),
            np.concatenate([part.time for part in parts]),
            np.concatenate([part.edge for part in parts]),
        )

    def with_full_past(self, log: Log) -> Asked:
        """The same scenes with all that the user chose before."""
        pairs = zip(self.user.tolist(), self.edge.tolist(), strict=True)
        return replace(self, history=[log.past(user, edge) for user, edge in pairs])

    def some(self, rows: Ints | list[int]) -> Asked:
        """The scenes of these numbers."""
        return Asked(
            [self.ids[row] for row in rows],
            self.options[rows],
            self.truth[rows],
            [self.history[row] for row in rows],
            self.user[rows],
            self.time[rows],
            self.edge[rows],
        )

    @property
    def inside(self) -> Bools:
        """Which slots are options, [n, W]."""
        return self.options >= 0

    @property
    def n_options(self) -> Ints:
        """K per scene, [n]."""
        return self.inside.sum(axis=1)


def option_features(log: Log, asked: Asked) -> dict[str, Floats]:
    """What can be said of options without the user, each [n, W]: log counts of all events and of recent ones, the share
    of likes, and log days since the first event, all as of the scene."""
    item, edge = np.maximum(asked.options, 0), np.broadcast_to(asked.edge[:, None], asked.options.shape)
    count = log.by_item.before(item, edge)
    recent = count - log.by_item.before(item, edge - (RECENT * edge).astype(np.int64))
    likes = log.likes_by_item.before(item, edge)
    first = log.time[log.by_item.nth(item, np.zeros_like(item))] if len(log.time) else item
    age = np.maximum(asked.time[:, None] - first, 0) / DAY
    return {
        "popularity": np.log1p(count),
        "recent_popularity": np.log1p(recent),
        "liking": (likes + 1) / (count + 2),
        "age": np.log1p(age),
    }


def first_cut(folder: Path) -> int:
    """The time (ms) that everything to learn from lies before: the end of time where users are split without a cut."""
    from datetime import datetime

    cut = read_json(folder / "report.json")["splits"]["cut_1"]
    return NEVER if cut is None else milliseconds(datetime.fromisoformat(cut))


def milliseconds(time: Any) -> int:
    """A UTC time in ms since 1970."""
    return round(time.timestamp() * 1000)


def chosen(history: Sequence[Mapping[str, Any]], log: Log) -> list[int]:
    """What of a shown history was chosen; all of it where nothing was."""
    liked = [entry["item_id"] for entry in history if entry["positive"]]
    return [log.items[item] for item in liked or (entry["item_id"] for entry in history)]
