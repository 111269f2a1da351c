"""Sources that propose one item at a time, for many scenes at once, from nothing but what had happened before each.

A proposal that is not eligible, or stands there already, is thrown away and another is made; so options are drawn
without replacement in proportion to their probability, and no list of scores is ever made. Collaborative and content
options are *walks*, in which the user enters by the memory that the scene shows:

- collaborative: an item of the memory, one of its earlier events by someone else, one of that person's earlier events.
  This is P3 (Cooper et al. 2014, https://doi.org/10.1145/2567948.2579244): an item–item model with no user factors,
  exactly as of the scene, where a fitted one would be as of its last time block.
- content: an item of the memory, one of its words by TF-IDF, another item with that word. Word frequencies too are
  counted over the items that could be offered at that time.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hf_mirror.exposure.batch import NOTHING, SOURCES, Batch, Slate, empty
from hf_mirror.exposure.matched import latest_choices

Proposal = Callable[[Batch, np.ndarray, int], np.ndarray]

# Proposals beyond the options wanted, before a scene is given up as having too few peers.
PATIENCE = 120
# Whole sets begin anew at every repetition, and need more.
PATIENCE_FOR_SETS = 420
MOST_WORDS = 48
IDF_STEPS = 1024


def uniform(batch: Batch, rows: np.ndarray, attempt: int) -> np.ndarray:
    """Any item that could be offered by then."""
    order = batch.world.order_of_appearance
    known = np.searchsorted(batch.world.appearances, batch.time[rows], side="right")
    place = batch.streams.below("negatives", known, rows, attempt)
    return np.where(known > 0, order[np.minimum(place, len(order) - 1)], NOTHING)


def popularity(batch: Batch, rows: np.ndarray, attempt: int) -> np.ndarray:
    """The item of any earlier event: in proportion to as-of counts."""
    event = batch.streams.below("negatives", batch.edge[rows], rows, attempt)
    return np.where(batch.edge[rows] > 0, batch.world.item[event], NOTHING)


def collaborative(batch: Batch, rows: np.ndarray, attempt: int) -> np.ndarray:
    """Item of the memory → someone else's earlier event with it → another earlier event of that person."""
    world, edge = batch.world, batch.edge[rows]
    start = _memory(batch, rows, attempt)
    count = world.count(start, edge)
    nth = batch.streams.below("walk to a person", count, rows, attempt)
    person = world.user[world.by_item.nth(start, nth)]
    nth = batch.streams.below("walk to an item", world.by_user.before(person, edge), rows, attempt)
    item = world.item[world.by_user.nth(person, nth)]
    return np.where((count > 0) & (person != batch.user[rows]), item, NOTHING)


def content(batch: Batch, rows: np.ndarray, attempt: int) -> np.ndarray:
    """Item of the memory → one of its words, by TF-IDF → another item with that word. With a content model: item of
    the memory → one of those that read most like it (neighbours.py)."""
    if batch.world.content_model is not None:
        return _alike(batch, rows, attempt)
    words, start = batch.world.words, _memory(batch, rows, attempt)
    known = np.searchsorted(batch.world.appearances, batch.time[rows], side="right")
    width = np.minimum(words.start[start + 1] - words.start[start], MOST_WORDS)
    columns = np.arange(int(width.max(initial=1)))
    held = columns < width[:, None]
    word = words.of_item[np.where(held, words.start[start][:, None] + columns, 0)]
    frequency = words.holders.before(word, known[:, None])
    # Integers, so that the draw is the same on every machine. A word that no other item has leads nowhere.
    idf = np.log2(np.maximum(known, 1)[:, None] / np.maximum(frequency, 1)) * IDF_STEPS
    weight = np.cumsum(np.where(held & (frequency > 1), np.rint(idf).astype(np.int64), 0), axis=1)
    drawn = batch.streams.below("walk to a word", weight[:, -1], rows, attempt)
    column = (weight <= drawn[:, None]).sum(1)
    at = np.arange(len(rows)), np.minimum(column, len(columns) - 1)
    nth = batch.streams.below("walk to an item", frequency[at], rows, attempt)
    item = batch.world.order_of_appearance[words.holders.nth(word[at], nth)]
    return np.where(weight[:, -1] > 0, item, NOTHING)


def _alike(batch: Batch, rows: np.ndarray, attempt: int) -> np.ndarray:
    near = batch.world.nearest[_memory(batch, rows, attempt)]
    offered = np.cumsum(batch.world.offered_from[near] <= batch.time[rows, None], axis=1)
    nth = batch.streams.below("walk to an item", offered[:, -1], rows, attempt)
    column = np.minimum((offered <= nth[:, None]).sum(1), near.shape[1] - 1)
    return np.where(offered[:, -1] > 0, near[np.arange(len(rows)), column], NOTHING)


PROPOSALS: dict[str, Proposal] = {
    "uniform": uniform,
    "popularity": popularity,
    "popularity_matched": latest_choices,
    "collaborative": collaborative,
    "content": content,
}


def fill(batch: Batch, sources: np.ndarray, whole_sets: bool = False) -> Slate:
    """Fills every row with distinct eligible items, its nth from the source in column n (column 0 is the truth's).

    With `whole_sets` a repeated item starts its row anew, so that a set of options has the product of its items'
    probabilities and the truth could have been any of them.
    """
    items = empty(batch)
    filled = np.zeros(len(items), np.int64)
    names = {code: SOURCES[code] for code in np.unique(sources).tolist()}
    for attempt in range(PATIENCE_FOR_SETS if whole_sets else PATIENCE):
        rows = np.flatnonzero(filled < batch.wanted)
        if not len(rows):
            break
        asked = sources[rows, filled[rows] + 1]
        proposed = np.full(len(rows), NOTHING, np.int64)
        for code, name in names.items():
            part = asked == code
            proposed[part] = PROPOSALS[name](batch, rows[part], attempt)
        fits = proposed != NOTHING
        fits[fits] = batch.eligible(rows[fits], proposed[fits])
        again = (items[rows] == proposed[:, None]).any(1) & (proposed != NOTHING)
        if whole_sets:
            again |= proposed == batch.truth[rows]
            items[rows[again]], filled[rows[again]] = NOTHING, 0
        fits &= ~again
        items[rows[fits], filled[rows[fits]]] = proposed[fits]
        filled[rows[fits]] += 1
    return Slate(items, sources, batch.wanted)


def _memory(batch: Batch, rows: np.ndarray, attempt: int) -> np.ndarray:
    """A uniformly drawn item of the memory that each row shows."""
    position = batch.streams.below("walk from memory", batch.shown[rows], rows, attempt)
    return batch.memory_item(rows, position)
