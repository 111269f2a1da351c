"""Logs typed by hand or made by hypothesis, through the library's own door; and the same logs read plainly."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hf_mirror import PROJECT, splits, tables
from hf_mirror.domains import Domain, Source, import_file, load
from hf_mirror.exposure import Batch
from hf_mirror.identity import Streams
from hf_mirror.rendering import Renderer
from hf_mirror.schema import Tables
from hf_mirror.splits import SPLITS, Split
from hf_mirror.tables import Log
from hf_mirror.world import SESSION_GAP_MS, World

TIME = pl.Datetime("ms", "UTC")
SOURCE = Source("typed by hand", "cc0-1.0", True, "Made-up feedback.", ())
HERE = Path(__file__).parent
TEMPLATE = """{{ profile.name }}, {{ now.isoformat() }}
{% for past in history %}- {{ past.item.title }} {{ past.signal.rating }} {{ past.positive }} {{ past.ago }}
{% endfor %}{% for option in exposure %}{{ option.label }} {{ option.item.title }}
{% endfor %}"""
# user, item, ms, rating (4 and more is a choice); with an impression: its id, and the items that were shown in it.
Event = tuple[Any, ...]
SHOWN_TOO = 6


def domain(raw: Tables, name: str = "films", template: str = TEMPLATE) -> Domain:
    """A domain whose builder returns these tables, whatever folder it is given."""
    return Domain(name, HERE / f"{name}.py", "4 or more", template, lambda path: SOURCE, lambda path, source: raw)


def typed(
    events: Iterable[Event],
    items: Mapping[str, Mapping[str, Any]] | None = None,
    available: Mapping[str, int] | None = None,
    histories: Mapping[str, list[str]] | None = None,
) -> Tables:
    """Tables as a builder returns them. Items (default: those of the events, with titles) have attributes by id."""
    log = list(events)
    if items is None:
        items = {item: {"title": f"Film {item}"} for item in sorted({row[1] for row in log})}
    people = sorted({row[0] for row in log} | set(histories or {}))
    users = pl.DataFrame({"user_id": people, "profile": [json.dumps({"name": one}) for one in people]},
                         {"user_id": pl.String, "profile": pl.String})  # fmt: skip
    if histories is not None:
        past = [histories.get(one, []) for one in people]
        users = users.with_columns(history=pl.Series(past, dtype=pl.List(pl.String)))
    frame = pl.DataFrame(
        {
            "user_id": pl.Series([row[0] for row in log], dtype=pl.String),
            "item_id": pl.Series([row[1] for row in log], dtype=pl.String),
            "timestamp": pl.Series([row[2] for row in log], dtype=pl.Int64).cast(TIME),
            "signal": pl.Series([{"rating": row[3]} for row in log], dtype=pl.Struct({"rating": pl.Int64})),
            "positive": pl.Series([row[3] >= 4 for row in log], dtype=pl.Boolean),
        }
    )
    if any(len(row) == SHOWN_TOO for row in log):
        seen = [row if len(row) == SHOWN_TOO else (*row, None, None) for row in log]
        frame = frame.with_columns(
            impression_id=pl.Series([row[4] for row in seen], dtype=pl.String),
            impression=pl.Series([row[5] for row in seen], dtype=pl.List(pl.String)),
        )
    dates = pl.Series([(available or {}).get(item) for item in items], dtype=pl.Int64).cast(TIME)
    things = pl.DataFrame(
        {
            "item_id": pl.Series(list(items), dtype=pl.String),
            "attributes": pl.Series([json.dumps(of, ensure_ascii=False) for of in items.values()], dtype=pl.String),
            "available_from": dates,
        }
    )
    return Tables(users, things, frame, frame.height, {})


def prepared(events: Iterable[Event], **given: Any) -> Log:
    """The clean log of typed events."""
    raw = typed(events, **given)
    return tables.prepare(domain(raw), HERE, SOURCE)


def arrived(log: Log) -> Split:
    """The split of a log."""
    return splits.by_arrival(*(log.events[name].to_numpy() for name in ("user", "time", "positive")))


def all_in(log: Log, name: str = "train") -> Split:
    """A split that has every event on one side."""
    return Split(np.full(log.events.height, SPLITS.index(name), np.int8), 0, 0, {})


def world_of(log: Log, name: str = "train") -> World:
    """The world of a log whose events are all of one split."""
    return World.of("films", log, all_in(log, name))


def changed(log: Log, split: Split, events: pl.DataFrame) -> tuple[Log, Split]:
    """A log with other events, which have a log's columns and `split`: in their one order, items known by them."""
    events = events.sort(*tables.KEY)
    seen = pl.DataFrame({"item": pl.Series(range(log.items.height), dtype=pl.Int32)}).join(
        events.group_by("item").agg(pl.col("time").min()), on="item", how="left", maintain_order="left"
    )
    items = log.items.with_columns(available_from=seen["time"].cast(TIME))
    return replace(log, events=events.drop("split"), items=items), replace(split, of_event=events["split"].to_numpy())


def renderer(log: Log, template: str = TEMPLATE) -> Renderer:
    """What writes the prompts of a log."""
    return Renderer(
        template,
        dict(log.users.select("user_id", "profile").rows()),
        dict(log.items.select("item_id", "attributes").rows()),
    )


def batch(world: World, event: int, n: int, wanted: int = 1, shown: int | None = None, seed: int = 0) -> Batch:
    """The scene of one event, n times, as n builds with other secrets would draw it. It shows all memory by default."""
    keys = np.random.default_rng(seed).integers(0, 256, (n, 32), np.uint8)
    events = np.full(n, event)
    user = world.user[events]
    memory = world.earlier(events) + world.memory_start[user + 1] - world.memory_start[user]
    return Batch.of(world, Streams(keys), events, np.full(n, wanted), memory if shown is None else np.full(n, shown))


class Plain:
    """A log's rows, asked one by one. `events`: (time, user, item, positive), ids as text, in the log's order."""

    def __init__(self, log: Log) -> None:
        self.log = log

    @cached_property
    def events(self) -> list[tuple[int, str, str, bool]]:
        frame, people, things = self.log.events, self.log.users["user_id"], self.log.items["item_id"]
        return list(zip(frame["time"], people.gather(frame["user"]), things.gather(frame["item"]), frame["positive"],
                        strict=True))  # fmt: skip

    @cached_property
    def attributes(self) -> dict[str, str]:
        return dict(self.log.items.select("item_id", "attributes").rows())

    @cached_property
    def untimed(self) -> dict[str, list[str]]:
        if "history" not in self.log.users.columns:
            return {}
        known = set(self.log.items["item_id"])
        return {user: [item for item in past or [] if item in known]
                for user, past in self.log.users.select("user_id", "history").rows()}  # fmt: skip

    def before(self, time: int) -> list[tuple[int, str, str, bool]]:
        return [event for event in self.events if event[0] < time]

    def memory(self, user: str, time: int) -> list[tuple[str, int | None]]:
        """What the user met before a time, oldest first: (item, time or None)."""
        old: list[tuple[str, int | None]] = [(item, None) for item in self.untimed.get(user, [])]
        return old + [(item, at) for at, who, item, _ in self.before(time) if who == user]

    def met(self, user: str, time: int) -> set[str]:
        """What the user met until a time, that time included."""
        return {item for at, who, item, _ in self.events if who == user and at <= time} | set(
            self.untimed.get(user, [])
        )

    def counts(self, time: int) -> Counter[str]:
        return Counter(item for _, _, item, _ in self.before(time))

    def offered(self, time: int) -> set[str]:
        """What was known and available."""
        since = dict(self.log.items.select("item_id", pl.col("available_from").dt.epoch("ms")).rows())
        return {item for item in self.counts(time) if since[item] is None or since[item] <= time}

    def allowed(self, event: int) -> set[str]:
        """What may stand beside the truth of an event."""
        time, user, truth, _ = self.events[event]
        titled = {item for item, text in self.attributes.items() if json.loads(text).get("title")}
        return (self.offered(time) & titled) - self.met(user, time) - {truth}

    def session(self, event: int) -> list[int]:
        """The events of the same user that no gap of more than an hour parts from this one."""
        user = self.events[event][1]
        own = [i for i, row in enumerate(self.events) if row[1] == user]
        parts: list[list[int]] = []
        for i in own:
            if not parts or self.events[i][0] - self.events[parts[-1][-1]][0] > SESSION_GAP_MS:
                parts.append([])
            parts[-1].append(i)
        return next(part for part in parts if event in part)

    def words(self, item: str) -> set[str]:
        """Of the keys, the texts and the numbers of its attributes."""

        def said(value: Any) -> list[str]:
            if isinstance(value, dict):
                return [*value, *said(list(value.values()))]
            if isinstance(value, list):
                return [text for one in value for text in said(one)]
            return [] if value is None or isinstance(value, bool) else [str(value)]

        return set(re.findall(r"\w{2,}", " ".join(said(json.loads(self.attributes[item]))).lower()))


def normalised(weights: Mapping[str, float]) -> dict[str, float]:
    """Weights as probabilities, without what has none."""
    total = sum(weights.values())
    return {item: weight / total for item, weight in weights.items() if weight > 0}


def films_come_out_over_time(log: Log) -> Log:
    """The log without the events that lie before their item's day. Of these days more are early than late."""
    first, last = log.events["time"].min(), log.events["time"].max()
    days = first + (last - first) * np.random.default_rng(0).random(log.items.height) ** 2
    out = days[log.events["item"].to_numpy()] <= log.events["time"].to_numpy()
    events = log.events.filter(pl.Series(out)).with_columns(split=pl.lit(0, pl.Int8))
    return changed(log, Split(np.zeros(0, np.int8), 0, 0, {}), events)[0]


def made_up(builder: str, folder: Path, **sizes: int) -> tuple[Domain, Log]:
    """A domain of the project, and the clean log of feedback that its sample generator makes up in a folder."""
    import_file(PROJECT / "dataset_builders" / "sample" / f"{builder}.py").generate(folder, **sizes)
    found = load(builder)
    return found, tables.prepare(found, folder, found.detect(folder))
