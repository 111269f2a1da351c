"""Who stands beside the truth: one function per regime and a dict literal.

A regime answers for a whole batch of scenes (batch.py) and knows only what had happened before each of them. Most fill
their slates from sources that propose an item at a time (proposals.py); two show what the user was really shown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from hf_mirror.exposure.batch import NOTHING, SOURCES, Batch, Slate, empty, one_source
from hf_mirror.exposure.proposals import fill
from hf_mirror.world import SESSION_GAP_MS

__all__ = ["NOTHING", "REGIMES", "SOURCES", "Batch", "Slate"]

# Drawn alike, as the prior art mixes them.
MIXED = ("uniform", "collaborative", "content")
# A share of likes from few events says little: it is shrunk towards the share of all, worth this many.
PRIOR_EVENTS = 5
LEAST_MEMORY = 2

Regime = Callable[[Batch], Slate]


def uniform(batch: Batch) -> Slate:
    """Every item alike."""
    return _from("uniform", batch)


def popularity(batch: Batch) -> Slate:
    """In proportion to the as-of count."""
    return _from("popularity", batch)


def popularity_matched(batch: Batch) -> Slate:
    """What late arrivals chose, drawn as the truth was: no option-side feature tells them apart."""
    return fill(batch, _sources("popularity_matched", batch), whole_sets=True)


def collaborative(batch: Batch) -> Slate:
    """What people with an item of the memory also met: a walk over the past."""
    return _from("collaborative", batch)


def content(batch: Batch) -> Slate:
    """What shares words with an item of the memory."""
    return _from("content", batch)


def mixed(batch: Batch) -> Slate:
    """Each option from `uniform`, `collaborative` or `content`, a third each.

    The truth's source too must have something to offer: else the one that has nothing would name the truth.
    """
    sources = _sources("uniform", batch)
    codes = np.array([SOURCES.index(name) for name in MIXED], np.int8)
    rows = np.arange(len(sources))
    for column in range(sources.shape[1]):
        sources[:, column] = codes[batch.streams.below("sources", len(MIXED), rows, column)]
    asked = np.c_[sources, sources[:, 0]]
    asked[rows, batch.wanted + 1] = sources[:, 0]
    filled = fill(replace(batch, wanted=batch.wanted + 1), asked)
    shown = filled.complete[:, None] & (np.arange(filled.items.shape[1]) < batch.wanted[:, None])
    return Slate(np.where(shown, filled.items, NOTHING)[:, : sources.shape[1] - 1], sources, batch.wanted)


def observed(batch: Batch) -> Slate:
    """What the user met, and did not choose, in the session of the choice: the one exposure that ratings disclose.

    Drawn from the items of the session that are nearest to the truth in popularity and liking as of the scene, twice
    as many as are wanted. Nothing that shares the choice's time counts, and nothing met before the session began; what
    was met earlier in it is an option and no memory.
    """
    items = empty(batch)
    for row, wanted in enumerate(batch.wanted.tolist()):
        found = _session_items(batch, row)
        if len(found) < wanted:
            continue
        near = found[np.argsort(_distance(batch, row, found), kind="stable")[: 2 * wanted]]
        near = _some(batch, row, near, wanted)
        rows = np.full(batch.shown[row], row)
        if (~np.isin(batch.memory_item(rows, np.arange(len(rows))), near)).sum() >= LEAST_MEMORY:
            items[row, :wanted] = near
    return one_source(batch, items, "observed")


def logged(batch: Batch) -> Slate:
    """The impression as it was logged, without what else was clicked in it; sampled down where it is too long.

    `wanted` is lowered to what there is. Logged options need not be eligible: they were shown.
    """
    items, wanted, impressions = empty(batch), batch.wanted.copy(), batch.world.impressions
    if impressions is None:
        raise ValueError(f"{batch.world.domain} logs no impressions")
    for row, event in enumerate(batch.event.tolist()):
        shown = impressions.unclicked(event)
        wanted[row] = min(int(wanted[row]), len(shown))
        items[row, : wanted[row]] = _some(batch, row, shown, int(wanted[row]))
    return Slate(items, one_source(batch, items, "logged").sources, wanted)


REGIMES: dict[str, Regime] = {
    "uniform": uniform,
    "popularity": popularity,
    "popularity_matched": popularity_matched,
    "collaborative": collaborative,
    "content": content,
    "mixed": mixed,
    "observed": observed,
    "logged": logged,
}


def _sources(name: str, batch: Batch) -> np.ndarray:
    width = int(batch.wanted.max(initial=1)) + 1
    return np.full((len(batch.event), width), SOURCES.index(name), np.int8)


def _from(name: str, batch: Batch) -> Slate:
    return fill(batch, _sources(name, batch))


def _some(batch: Batch, row: int, items: np.ndarray, count: int) -> np.ndarray:
    """`count` of the items by lot."""
    lot = batch.streams.below("negatives", 2**31, np.full(len(items), row), np.arange(len(items)))
    return items[np.argsort(lot, kind="stable")[:count]]


def _session_items(batch: Batch, row: int) -> np.ndarray:
    """Items of the running session that the user met at another time than the choice, and did not choose; by id.

    They pass the predicate that the truth has passed, as of the scene, but for what was met in this session.
    """
    world, event = batch.world, batch.event[row : row + 1]
    own = world.by_user.at(slice(*world.by_user.start[batch.user[row] : batch.user[row] + 2]))
    began = world.session_start(event)
    later = own[world.time[own] >= began]
    session = later[: 1 + int(np.argmax(np.r_[np.diff(world.time[later]) > SESSION_GAP_MS, True]))]
    others = session[~world.positive[session] & (world.time[session] != batch.time[row])]
    items = np.setdiff1d(world.item[others], world.item[session[world.positive[session]]]).astype(np.int64)
    met_before = world.touched(np.full(len(items), batch.user[row]), items, began - 1)
    own_before = (world.item[session[world.time[session] < batch.time[row]]] == items[:, None]).sum(1)
    known = world.count(items, batch.edge[row]) > own_before
    return items[known & (world.available_from[items] <= batch.time[row]) & world.described[items] & ~met_before]


def _distance(batch: Batch, row: int, items: np.ndarray) -> np.ndarray:
    """How far items are from the truth in doublings of the as-of count, and in tenths of the shrunk share of likes."""
    edge = batch.edge[row]
    both = np.r_[batch.truth[row], items]
    count, overall = batch.world.count(both, edge), (batch.world.total_likes(edge) + 0.5) / (edge + 1)
    liking = (batch.world.likes(both, edge) + PRIOR_EVENTS * overall) / (count + PRIOR_EVENTS)
    popular = np.log2(count + 1)
    return np.abs(popular[1:] - popular[0]) + 10 * np.abs(liking[1:] - liking[0])
