"""Tables become scenes: user memory, exposure list and the real choice, each as of one moment.

A scene is a positive event whose truth is eligible, with at least two earlier events as memory. Scenes are drawn user
by user in turn (every user's first scene before anyone's second), so that few users never fill a split. Each draw is
seeded by the event's key and has a stream of its own; the position of the truth is one of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields

import numpy as np
import polars as pl

from hf_mirror.eligibility import REASONS, failed_rules
from hf_mirror.exposure import NOTHING, REGIMES, SOURCES, Batch
from hf_mirror.grouped import stable_order
from hf_mirror.identity import Streams, event_key, id_hashes, lots
from hf_mirror.splits import SPLITS
from hf_mirror.world import World

# After the first batch: where few events find options, taking only as many as are missing would take them one by one.
LEAST_BATCH = 4096


@dataclass(frozen=True)
class Sizes:
    """How many past events a scene shows, and how many options it offers, each drawn between two bounds (inclusive)."""

    history: tuple[int, int] = (2, 10)
    train_options: tuple[int, int] = (2, 12)
    evaluation_options: tuple[int, int] = (5, 5)


@dataclass
class SplitReport:
    """What became of a split's positives: `candidates == kept + sum(dropped.values())`."""

    regime: str
    candidates: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    truth_positions: dict[str, list[int]] = field(default_factory=dict)
    n_options: dict[str, int] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Drafts:
    """Scenes before they are rendered, as positions into the world; in the order of their keys.

    event, shown (past events as memory), choice_index, n_options: [scenes]. key: uint8 [scenes, 32]. options, sources,
    counts (as-of events), repeated (met before): [scenes, widest], NOTHING beyond n_options.
    """

    event: np.ndarray
    key: np.ndarray
    shown: np.ndarray
    n_options: np.ndarray
    choice_index: np.ndarray
    options: np.ndarray
    sources: np.ndarray
    counts: np.ndarray
    repeated: np.ndarray

    def __len__(self) -> int:
        return len(self.event)

    def take(self, rows: np.ndarray) -> Drafts:
        """Some of the drafts, in the order of `rows`."""
        return Drafts(*(getattr(self, part.name)[rows] for part in fields(self)))

    @classmethod
    def joined(cls, parts: list[Drafts]) -> Drafts:
        """All drafts of several batches, in the order of their keys."""
        widest = max((part.options.shape[1] for part in parts), default=1)

        def stack(name: str) -> np.ndarray:
            arrays = [getattr(part, name) for part in parts]
            if name in ("options", "sources", "counts", "repeated"):
                arrays = [np.pad(a, ((0, 0), (0, widest - a.shape[1])), constant_values=NOTHING) for a in arrays]
            return np.concatenate(arrays)

        whole = cls(*(stack(part.name) for part in fields(cls)))
        return whole.take(np.lexsort(whole.key.T[::-1]))


def draw(
    world: World,
    split: str,
    count: int,
    regime: str,
    secret: bytes,
    sizes: Sizes = Sizes(),
) -> tuple[Drafts, SplitReport]:
    """Up to `count` scenes of one split, with a report in which every positive of the split is accounted for."""
    report = SplitReport(regime)
    positives = np.flatnonzero((world.split == SPLITS.index(split)) & world.positive)
    usable = _usable(world, positives, regime, sizes, report)
    for queue in _queues(world, usable, secret, count):
        parts, taken, kept = [_drafts(world, queue[:0], split, regime, secret, sizes)], 0, 0
        while kept < count and taken < len(queue):
            batch = queue[taken : taken + max(count - kept, LEAST_BATCH if taken else 1)]
            found = _drafts(world, batch, split, regime, secret, sizes)
            part = found.take(np.arange(min(len(found), count - kept)))
            # What comes after the last scene that is needed was not asked for.
            used = len(batch) if len(part) == len(found) else int(np.flatnonzero(batch == part.event[-1])[0]) + 1
            parts.append(part)
            taken, kept = taken + used, kept + len(part)
        if kept == count:
            break
    drafts = Drafts.joined(parts)
    report.dropped |= {"too_few_peers": taken - kept, "not_needed": len(usable) - taken}
    return drafts, _told(report, drafts)


def draw_again(
    world: World, drafts: Drafts, split: str, regime: str, secret: bytes, sizes: Sizes = Sizes()
) -> tuple[Drafts, SplitReport]:
    """The same choices in another regime, each with the same memory, where they are eligible and find options there.
    The report's candidates are the drafts."""
    report = SplitReport(regime)
    usable = _usable(world, np.sort(drafts.event), regime, sizes, report)
    found = _drafts(world, usable, split, regime, secret, sizes)
    report.dropped["too_few_peers"] = len(usable) - len(found)
    drafts = Drafts.joined([found])
    return drafts, _told(report, drafts)


def _told(report: SplitReport, drafts: Drafts) -> SplitReport:
    """The report with what the drafts are like."""
    report.dropped = {reason: n for reason, n in report.dropped.items() if n}
    report.kept = len(drafts)
    for size in np.unique(drafts.n_options).tolist():
        slots = drafts.choice_index[drafts.n_options == size]
        report.n_options[str(size)] = len(slots)
        report.truth_positions[str(size)] = np.bincount(slots, minlength=size).tolist()
    counts = np.bincount(drafts.sources[drafts.options != NOTHING], minlength=len(SOURCES)).tolist()
    report.sources = {name: n for name, n in zip(SOURCES, counts, strict=True) if n}
    return report


def _usable(world: World, positives: np.ndarray, regime: str, sizes: Sizes, report: SplitReport) -> np.ndarray:
    """The positives that can be scenes; the others are counted, each under the first rule that it fails."""
    report.candidates = len(positives)
    item, user, time = world.item[positives], world.user[positives], world.time[positives]
    memory = world.earlier(positives) + world.memory_start[user + 1] - world.memory_start[user]
    rules = {"too_little_history": memory < sizes.history[0]}
    if regime == "logged":
        assert world.impressions is not None
        rules["without_attributes"] = ~world.described[item]
        others, described = world.impressions.beside(positives, world.described)
        rules |= {"nothing_else_shown": ~others, "option_without_attributes": ~described}
    else:
        failed = failed_rules(
            world.first_seen[item], world.available_from[item], world.repeats(positives), world.described[item], time
        )
        rules |= dict(zip(REASONS, failed, strict=True))
    alive = np.ones(len(positives), bool)
    for reason, broken in rules.items():
        report.dropped[reason] = int((alive & broken).sum())
        alive &= ~broken
    return positives[alive]


def _queues(world: World, events: np.ndarray, secret: bytes, count: int) -> Iterator[np.ndarray]:
    """The events by lot, every user's first before anyone's second: first the beginning of that order, as far as the
    lowest lots tell it, then more of it, at last the whole. Sorting millions to take thousands would be most of the
    work."""
    lot = lots(
        secret,
        _hashes(world.users, world.user[events])[world.user[events]],
        _hashes(world.items, world.item[events])[world.item[events]],
        world.time[events],
        world.ordinal[events],
    )
    for bits in (10, 6, 3):
        low = lot < np.uint64(1 << (64 - bits))
        if low.sum() >= 4 * count:
            # Of those with a low lot, each user's first is that user's first of all.
            queue, turn = _in_turn(world, events[low], lot[low])
            yield queue[turn == 0]
    yield _in_turn(world, events, lot)[0]


def _in_turn(world: World, events: np.ndarray, lot: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    by_lot = np.argsort(lot)
    events = events[by_lot]
    user = world.user[events]
    by_user = stable_order(user)
    turn = np.empty(len(events), np.int64)
    turn[by_user] = np.arange(len(events)) - np.searchsorted(user[by_user], user[by_user])
    order = stable_order(turn)
    return events[order], turn[order]


def _hashes(ids: pl.Series, positions: np.ndarray) -> np.ndarray:
    """A hash of each id that occurs at `positions`; shape of all ids."""
    there = np.zeros(len(ids), bool)
    there[positions] = True
    hashes = np.zeros(len(ids), np.uint64)
    hashes[there] = id_hashes(ids.filter(pl.Series(there)).to_list())
    return hashes


def _drafts(world: World, events: np.ndarray, split: str, regime: str, secret: bytes, sizes: Sizes) -> Drafts:
    """Scenes of these events, without those that found too few options."""
    keys = _keys(world, events, secret)
    streams = Streams(keys)
    low, high = sizes.train_options if split == "train" else sizes.evaluation_options
    user = world.user[events]
    memory = world.earlier(events) + world.memory_start[user + 1] - world.memory_start[user]
    length = sizes.history[0] + streams.below("history", sizes.history[1] - sizes.history[0] + 1)
    batch = Batch.of(
        world, streams, events, low - 1 + streams.below("options", high - low + 1), np.minimum(length, memory)
    )
    slate = REGIMES[regime](batch)
    options, sources, position = _placed(batch, slate.items, slate.sources, slate.wanted)
    there = options != NOTHING
    counts = np.where(there, world.count(options, batch.edge[:, None]), NOTHING)
    met = world.touched(user[:, None], np.where(there, options, 0), batch.time[:, None] - 1) & there
    if regime != "logged":
        # Elsewhere only an observed scene offers what the user had met, earlier in its session, and never the truth:
        # neither a mark nor the user's own event may tell it.
        counts, met = counts - met, np.zeros_like(met)
    drafts = Drafts(events, keys, batch.shown, slate.wanted + 1, position, options, sources, counts, met)
    return drafts.take(np.flatnonzero(slate.complete))


def _keys(world: World, events: np.ndarray, secret: bytes) -> np.ndarray:
    ids = world.users[world.user[events]].to_list(), world.items[world.item[events]].to_list()
    rest = world.time[events].tolist(), world.ordinal[events].tolist()
    keys = b"".join(event_key(secret, world.domain, *event) for event in zip(*ids, *rest, strict=True))
    return np.frombuffer(keys, np.uint8).reshape(len(events), 32)


def _placed(
    batch: Batch, items: np.ndarray, sources: np.ndarray, wanted: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Options and their sources, shuffled, [scenes, widest], with the truth at a slot of its own stream, [scenes]."""
    rows = np.arange(len(items))[:, None]
    lot = np.stack([batch.streams.below("order", 2**31, at=column) for column in range(items.shape[1])], axis=1)
    beyond = np.arange(items.shape[1]) >= wanted[:, None]
    order = np.argsort(np.where(beyond, 2**31, lot), axis=1, kind="stable")
    position = batch.streams.below("position", wanted + 1)
    column = np.arange(items.shape[1] + 1)
    # Slots after the truth's hold what comes one earlier in the shuffled order.
    at = np.minimum(column - (column > position[:, None]), items.shape[1] - 1)
    from_order = order[rows, at]
    truth = column == position[:, None]
    there = column <= wanted[:, None]
    placed = np.where(truth, batch.truth[:, None], items[rows, from_order])
    placed_sources = np.where(truth, sources[:, :1], sources[rows, from_order + 1])
    return np.where(there, placed, NOTHING), np.where(there, placed_sources, 0), position
