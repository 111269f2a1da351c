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

# Of a batch, for each of these rows, the item of this attempt; rows may repeat, with other attempts.
Proposal = Callable[[Batch, np.ndarray, np.ndarray], np.ndarray]

# Proposals beyond the options wanted, before a scene is given up as having too few peers.
PATIENCE = 120
# Whole sets begin anew at every repetition, and need more.
PATIENCE_FOR_SETS = 420
# Proposals made at once: where few rows are left, many attempts of each, which costs no more than one.
AT_ONCE = 4096
MOST_WORDS = 48
IDF_STEPS = 1024


def uniform(batch: Batch, rows: np.ndarray, attempt: np.ndarray) -> np.ndarray:
    """Any item that could be offered by then."""
    order = batch.world.order_of_appearance
    known = np.searchsorted(batch.world.appearances, batch.time[rows], side="right")
    place = batch.streams.below("negatives", known, rows, attempt)
    return np.where(known > 0, order[np.minimum(place, len(order) - 1)], NOTHING)


def popularity(batch: Batch, rows: np.ndarray, attempt: np.ndarray) -> np.ndarray:
    """The item of any earlier event: in proportion to as-of counts."""
    event = batch.streams.below("negatives", batch.edge[rows], rows, attempt)
    return np.where(batch.edge[rows] > 0, batch.world.item[event], NOTHING)


def collaborative(batch: Batch, rows: np.ndarray, attempt: np.ndarray) -> np.ndarray:
    """Item of the memory → someone else's earlier event with it → another earlier event of that person."""
    world, edge = batch.world, batch.edge[rows]
    start = _memory(batch, rows, attempt)
    count = world.count(start, edge)
    nth = batch.streams.below("walk to a person", count, rows, attempt)
    person = world.user[world.by_item.nth(start, nth)]
    nth = batch.streams.below("walk to an item", world.by_user.before(person, edge), rows, attempt)
    item = world.item[world.by_user.nth(person, nth)]
    return np.where((count > 0) & (person != batch.user[rows]), item, NOTHING)


def content(batch: Batch, rows: np.ndarray, attempt: np.ndarray) -> np.ndarray:
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


def _alike(batch: Batch, rows: np.ndarray, attempt: np.ndarray) -> np.ndarray:
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
    attempt, patience = 0, PATIENCE_FOR_SETS if whole_sets else PATIENCE
    while attempt < patience and len(rows := np.flatnonzero(filled < batch.wanted)):
        ahead = min(max(AT_ONCE // len(rows), 1), patience - attempt)
        proposed, fits = _proposed(batch, rows, sources, filled, np.arange(attempt, attempt + ahead))
        for nth in range(ahead):
            left = np.flatnonzero(filled[rows] < batch.wanted[rows])
            row = rows[left]
            source = sources[row, filled[row] + 1]
            item = proposed[source, left, nth]
            again = (items[row] == item[:, None]).any(1) & (item != NOTHING)
            if whole_sets:
                again |= item == batch.truth[row]
                items[row[again]], filled[row[again]] = NOTHING, 0
            fit = fits[source, left, nth] & ~again
            items[row[fit], filled[row[fit]]] = item[fit]
            filled[row[fit]] += 1
        attempt += ahead
    return Slate(items, sources, batch.wanted)


def _proposed(
    batch: Batch, rows: np.ndarray, sources: np.ndarray, filled: np.ndarray, attempts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What each source proposes to each row at each attempt, and whether it is eligible; [SOURCES, rows, attempts].

    Of one attempt only the source is asked whose turn it is.
    """
    proposed = np.full((len(SOURCES), len(rows), len(attempts)), NOTHING, np.int64)
    asked = sources[rows, filled[rows] + 1]
    for source in np.unique(sources[rows]).tolist():
        part = np.flatnonzero(asked == source) if len(attempts) == 1 else np.arange(len(rows))
        found = PROPOSALS[SOURCES[source]](batch, np.repeat(rows[part], len(attempts)), np.tile(attempts, len(part)))
        proposed[source, part] = found.reshape(len(part), len(attempts))
    fits = proposed != NOTHING
    fits[fits] = batch.eligible(rows[np.nonzero(fits)[1]], proposed[fits])
    return proposed, fits


def _memory(batch: Batch, rows: np.ndarray, attempt: np.ndarray) -> np.ndarray:
    """A uniformly drawn item of the memory that each row shows."""
    position = batch.streams.below("walk from memory", batch.shown[rows], rows, attempt)
    return batch.memory_item(rows, position)
