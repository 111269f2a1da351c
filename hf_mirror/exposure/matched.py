"""The matched regime: options drawn as the truth itself was, so that nothing but the user's memory tells them apart.

Two users who arrive at about the same time are exchangeable, and so are their choices: what the latest arrivals chose
is what this user might have chosen, as popular, as liked and as new. Matching on counts alone cannot do that: of two
items with the same count the newer is the more taken now. Two things are not alike, and are made up for:

- *The truth is a first touch*, while an item that this user has met before is thrown away; what most people meet would
  be thrown away too often. An item that falls anywhere in a life has been met for half of it, so an item is kept with
  probability 1 / (2 - p), p the share of late arrivals who have met it. `_kept` has just that probability, and asks
  one person at a time.
- *The truth may be an item that no late arrival chose*, and its own event is not yet among what is known of it. As in
  the estimation of unseen words (Good 1953, https://doi.org/10.1093/biomet/40.3-4.237, with absolute discounting: Ney,
  Essen and Kneser 1994, https://doi.org/10.1006/csla.1994.1001), a third of every item's first choice among them goes
  to what they did not choose: to anything chosen earlier, or, for most of the first choices there, to something never
  chosen yet, half of the time something new.

What is left on three published logs of ratings, and what else was tried, stands in docs/decisions.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hf_mirror.exposure.batch import NOTHING, Batch
from hf_mirror.world import World

# Late arrivals are at least this many people, and so many that they hold about this many choices.
PEOPLE = 20
CHOICES = 1500
# Of an item's first choice by a late arrival one in so many counts for what none of them chose.
DISCOUNT = 3
# Turns of `_kept` and of `_unseen`: enough that one more would change nothing that can be measured.
TURNS = 8


@dataclass(frozen=True)
class Arrivals:
    """The latest arrivals as of each edge: the first of them in order of arrival, how many there are, and the position
    of the event with which the first came."""

    first: np.ndarray
    people: np.ndarray
    since: np.ndarray

    @classmethod
    def of(cls, world: World, edge: np.ndarray) -> Arrivals:
        """Who they are at each edge."""
        arrived = np.searchsorted(world.arrivals, edge)
        people = CHOICES * arrived // np.maximum(world.total_likes(edge), 1)
        people = np.minimum(np.maximum(people, PEOPLE), arrived)
        first = arrived - people
        return cls(first, people, _at(world.arrivals, first))


def latest_choices(batch: Batch, rows: np.ndarray, attempt: np.ndarray) -> np.ndarray:
    """One proposal for each row."""
    world, edge, streams = batch.world, batch.edge[rows], batch.streams
    late = Arrivals.of(world, edge)
    person = _at(world.arrival_order, late.first + streams.below("a late arrival", late.people, rows, attempt))
    choices = world.choices.before(person, edge)
    nth = streams.below("one of their choices", choices, rows, attempt)
    event = world.choices.nth(person, nth)
    item = world.item[event].astype(np.int64)
    first = world.choices_by_item.before(item, event) == world.choices_by_item.before(item, late.since)
    unseen = first & (streams.below("seen or unseen", DISCOUNT, rows, attempt) == 0)
    other = _unseen(batch, rows[unseen], late.since[unseen], attempt[unseen])
    item[unseen] = np.where(other == NOTHING, item[unseen], other)  # where all was chosen lately, nothing is unseen
    possible = (choices > 0) & (person != batch.user[rows])
    return np.where(_kept(batch, rows, item, late, possible, attempt), item, NOTHING)


def _unseen(batch: Batch, rows: np.ndarray, since: np.ndarray, attempt: np.ndarray) -> np.ndarray:
    """For each row an item that was not chosen after the event `since`: in proportion to earlier choices, discounted
    in favour of what was never chosen."""
    world, streams = batch.world, batch.streams
    found = np.full(len(rows), NOTHING, np.int64)
    left = np.arange(len(rows))
    for turn in range(TURNS if len(rows) else 0):
        here, at = rows[left], attempt[left] * TURNS + turn
        edge = batch.edge[here]
        event = _at(world.choice_events, streams.below("any earlier choice", world.total_likes(edge), here, at))
        item = world.item[event].astype(np.int64)
        first = world.choices_by_item.before(item, event) == 0
        never = first & (streams.below("chosen or never", 10, here, at) > 0)
        item[never] = _never_chosen(batch, here[never], since[left[never]], at[never])
        fits = item != NOTHING
        counts = (world.choices_by_item.before(item[fits], until) for until in (edge[fits], since[left[fits]]))
        fits[fits] = np.equal(*counts)
        found[left[fits]] = item[fits]
        left = left[~fits]
        if not len(left):
            break
    return found


def _never_chosen(batch: Batch, rows: np.ndarray, since: np.ndarray, at: np.ndarray) -> np.ndarray:
    """For each row an item that could be offered and was never chosen; for half of them one that is new."""
    world, streams = batch.world, batch.streams
    known = np.searchsorted(world.appearances, batch.time[rows], side="right")
    new = np.searchsorted(world.appearances, world.time[since], side="right")
    begin = np.where((streams.below("any or new", 2, rows, at) == 0) & (new < known), new, 0)
    item = _at(world.order_of_appearance, begin + streams.below("a never chosen item", known - begin, rows, at))
    fits = (known > 0) & (world.choices_by_item.before(item, batch.edge[rows]) == 0)
    return np.where(fits, item, NOTHING)


def _kept(
    batch: Batch, rows: np.ndarray, item: np.ndarray, late: Arrivals, undecided: np.ndarray, attempt: np.ndarray
) -> np.ndarray:
    """Keeps each item with probability 1 / (2 - p): heads, keep; tails, ask a late arrival: whoever has met it, again;
    else, throw away. P = 1/2 + 1/2 p P."""
    kept = np.zeros(len(rows), bool)
    left = np.flatnonzero(undecided)
    for turn in range(TURNS):
        heads = batch.streams.below("keep", 2, rows[left], attempt[left] * TURNS + turn) == 0
        kept[left[heads]] = True
        left = left[~heads]
        at = attempt[left] * TURNS + turn
        nth = batch.streams.below("another late arrival", late.people[left], rows[left], at)
        person = _at(batch.world.arrival_order, late.first[left] + nth)
        left = left[batch.world.touched(person, item[left], batch.time[rows[left]] - 1)]
        if not len(left):
            break
    return kept


def _at(array: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Entries at places, of which those of rows that have none are of no account."""
    return array[np.minimum(place, len(array) - 1)]
