"""Drafts become scene rows (schema.SCENE): ids, times, signals and the rendered prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import polars as pl
import pyarrow as pa

from hf_mirror.exposure import NOTHING, SOURCES
from hf_mirror.files import arrow, to_arrow
from hf_mirror.identity import digest, scene_id
from hf_mirror.prompts import Messages
from hf_mirror.rendering import Renderer
from hf_mirror.scenes import Drafts
from hf_mirror.schema import SCENE, TIME
from hf_mirror.splits import utc
from hf_mirror.tables import Log, as_json, remarks_of
from hf_mirror.world import UNTIMED, World

OLDEST = pl.CompatLevel.oldest()


def rows(
    world: World, log: Log, drafts: Drafts, split: str, regime: str, renderer: Renderer,
    workers: int | None = None, progress: Callable[[int], None] = lambda n: None, part: slice = slice(None),
) -> pa.Table:  # fmt: skip
    """Scene rows in the order of their ids, or a part of them; `workers` processes write the prompts (default: as many
    as help)."""
    ids = _ids(world, drafts)
    order = sorted(range(len(ids)), key=ids.__getitem__)[part]
    drafts, n = drafts.take(np.array(order, np.int64)), len(order)
    users = world.users[world.user[drafts.event]]
    times = arrow(world.time[drafts.event]).cast(TIME)
    history, exposure = _history(world, log, drafts, regime), _exposure(world, drafts)
    moments = [utc(at) for at in world.time[drafts.event].tolist()]
    prompts, hashes = renderer.prompts(users.to_list(), moments, history, exposure, workers, progress)
    columns = {
        "scene_id": arrow([ids[row] for row in order]),
        "domain": arrow([world.domain] * n),
        "split": arrow([split] * n),
        "regime": arrow([regime] * n),
        "user_id": users.to_arrow(compat_level=OLDEST),
        "timestamp": times,
        **_time_of_day(world, drafts),
        **_impression(world, drafts, regime),
        "history": history,
        "exposure": exposure,
        "choice_index": arrow(drafts.choice_index),
        "prompt": _chats(prompts),
        "prompt_sha256": arrow(hashes),
    }
    return to_arrow(pa.table(columns), SCENE)


def _chats(prompts: list[Messages]) -> pa.ListArray:
    parts = {name: arrow([message[name] for chat in prompts for message in chat])
             for name in ("role", "content")}  # fmt: skip
    return _lists(np.array([len(chat) for chat in prompts], np.int64), parts)


def _ids(world: World, drafts: Drafts) -> list[str]:
    """Scene ids. Scenes alike in user, time and options are told apart by the rank of their keys' order."""
    ranks: Counter[tuple[object, ...]] = Counter()
    ids = []
    options = np.sort(drafts.options, axis=1)
    shown = world.items[options[options != NOTHING]].to_list()
    end = np.cumsum((options != NOTHING).sum(1)).tolist()
    columns = world.users[world.user[drafts.event]].to_list(), world.time[drafts.event].tolist(), [0, *end], end
    for user, time, begin, stop in zip(*columns, strict=False):
        same = (user, time, *shown[begin:stop])
        ids.append(scene_id(world.domain, user, time, ranks[same], shown[begin:stop]))
        ranks[same] += 1
    return ids


def _exposure(world: World, drafts: Drafts) -> pa.ListArray:
    there = drafts.options != NOTHING
    parts = {
        "item_id": world.items[drafts.options[there]].to_arrow(compat_level=OLDEST),
        "source": arrow(list(SOURCES)).take(arrow(drafts.sources[there])),
        "asof_count": arrow(drafts.counts[there]),
        "repeated": arrow(drafts.repeated[there]),
    }
    return _lists(there.sum(1), parts)


def memory(world: World, drafts: Drafts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the scenes show of the past, oldest first: which scene, its item, and its event (UNTIMED before the log)."""
    row = np.repeat(np.arange(len(drafts)), drafts.shown)
    place = np.arange(len(row)) - np.repeat(np.cumsum(drafts.shown) - drafts.shown, drafts.shown)
    user, edge = world.user[drafts.event], world.edge(world.time[drafts.event])
    return row, *world.memory_at(user[row], edge[row], drafts.shown[row], place)


def _history(world: World, log: Log, drafts: Drafts, regime: str) -> pa.ListArray:
    row, item, event = memory(world, drafts)
    if regime == "observed":  # there an option may have been met earlier in the session
        shown = ~(item[:, None] == drafts.options[row]).any(1)
        row, item, event = row[shown], item[shown], event[shown]
    timed = event != UNTIMED
    parts = {
        "item_id": world.items[item].to_arrow(compat_level=OLDEST),
        "timestamp": arrow(world.time[np.where(timed, event, 0)], ~timed).cast(TIME),
        "signal": _signals(log, event),
        "positive": arrow(world.positive[event] | ~timed),
    }
    return _lists(np.bincount(row, minlength=len(drafts)), parts)


def _signals(log: Log, event: np.ndarray) -> pa.Array:
    """What each event says, as JSON text; the fields that are too large to hold are read now. `{}` where untimed."""
    wanted, at = np.unique(event[event != UNTIMED], return_inverse=True)
    signals = log.events.select("signal", *(["row"] if log.remarks is not None else []))[wanted]
    if log.remarks is not None and len(wanted):
        found = remarks_of(log.remarks, signals["row"])
        remarks = [name for name in found.columns if name != "row"]
        signals = signals.join(found, on="row", how="left", maintain_order="left").select(
            signal=pl.struct(pl.col("signal").struct.unnest(), *remarks)
        )
    text = np.full(len(event), "{}", object)
    text[event != UNTIMED] = signals.select(as_json(signals, "signal")).to_series().to_numpy()[at]
    return arrow(text.tolist())


def _time_of_day(world: World, drafts: Drafts) -> dict[str, pa.Array]:
    """How long after the user's previous event; and the session, named by the user and when it began."""
    user, edge = world.user[drafts.event], world.edge(world.time[drafts.event])
    earlier = world.by_user.before(user, edge)
    first = earlier == 0
    last = world.by_user.nth(user, np.maximum(earlier - 1, 0))
    gap = (world.time[drafts.event] - world.time[last]) // 1000
    began = world.session_start(drafts.event).tolist()
    people = world.users[user].to_list()
    sessions = [digest("session", world.domain, *one)[:16] for one in zip(people, began, strict=True)]
    return {"gap_seconds": arrow(gap, first), "session_id": arrow(sessions)}


def _impression(world: World, drafts: Drafts, regime: str) -> dict[str, pa.Array]:
    """The logged impression and how much of it is shown; nulls where the regime shows none."""
    if regime != "logged" or world.impressions is None:
        nothing = pa.nulls(len(drafts))
        return {"impression_id": nothing, "n_clicked": nothing, "truncated": arrow(np.zeros(len(drafts), bool))}
    seen = world.impressions
    slate = [len(seen.unclicked(event)) + 1 for event in drafts.event.tolist()]
    return {
        "impression_id": seen.ids[drafts.event].to_arrow().cast(pa.string()),
        "n_clicked": arrow(seen.n_clicked[drafts.event]),
        "truncated": arrow(drafts.n_options < np.array(slate, np.int64)),
    }


def _lists(length: np.ndarray, parts: dict[str, pa.Array]) -> pa.ListArray:
    offsets = arrow(np.r_[0, np.cumsum(length)].astype(np.int32))
    return pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(list(parts.values()), list(parts)))
