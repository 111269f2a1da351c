"""What a regime is given: many scenes at once, each as of its own moment; and what it answers: a slate for each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hf_mirror.eligibility import eligible
from hf_mirror.identity import Streams
from hf_mirror.world import World

# Where an option comes from, as scenes name it.
SOURCES = ("uniform", "popularity", "popularity_matched", "collaborative", "content", "observed", "logged")
NOTHING = -1


@dataclass(frozen=True)
class Batch:
    """Scenes that want options, shape [scenes] each: `event` (the choice), its `user`, `truth` (item), `time` (ms) and
    `edge` (events strictly before it); `wanted`, how many options beside the truth; `shown`, how many of the user's
    latest items the scene shows as memory. `streams` has the scenes' random numbers."""

    world: World
    streams: Streams
    event: np.ndarray
    wanted: np.ndarray
    shown: np.ndarray
    user: np.ndarray
    truth: np.ndarray
    time: np.ndarray
    edge: np.ndarray

    @classmethod
    def of(cls, world: World, streams: Streams, event: np.ndarray, wanted: np.ndarray, shown: np.ndarray) -> Batch:
        """The scenes of these events."""
        time = world.time[event]
        return cls(
            world, streams, event, wanted, shown, world.user[event], world.item[event], time, world.edge(time)
        )  # fmt: skip

    def eligible(self, rows: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Whether each item may stand beside the truth of its row: the predicate that the truth has passed."""
        world, time = self.world, self.time[rows]
        met = world.touched(self.user[rows], items, time)
        passes = eligible(world.first_seen[items], world.available_from[items], met, world.described[items], time)
        return passes & (items != self.truth[rows])

    def memory_item(self, rows: np.ndarray, position: np.ndarray) -> np.ndarray:
        """The item at each position of the memory that its row shows; 0 is the oldest."""
        return self.world.memory_at(self.user[rows], self.edge[rows], self.shown[rows], position)[0]


@dataclass(frozen=True)
class Slate:
    """What stands beside each truth. items: [scenes, widest], NOTHING beyond a row's `wanted` or where none was found.

    sources: [scenes, widest + 1], positions in SOURCES; column 0 is the truth's, which is drawn as the others' are, so
    that it tells nothing. wanted: [scenes], how many a row has if it is complete (a logged slate may be short).
    """

    items: np.ndarray
    sources: np.ndarray
    wanted: np.ndarray

    @property
    def complete(self) -> np.ndarray:
        """Rows that have all they want, shape [scenes]."""
        return ((self.items != NOTHING).sum(1) == self.wanted) & (self.wanted > 0)


def empty(batch: Batch) -> np.ndarray:
    """No item for any row: [scenes, widest]."""
    return np.full((len(batch.event), int(batch.wanted.max(initial=1))), NOTHING, np.int64)


def one_source(batch: Batch, items: np.ndarray, name: str) -> Slate:
    """A slate in which every option comes from one source."""
    shape = (len(items), items.shape[1] + 1)
    return Slate(items, np.full(shape, SOURCES.index(name), np.int8), batch.wanted)
