"""Things by group in time order, asked how many of them were there at some moment: the one index behind every as-of
question.

Group and position are packed into one integer, so that one sort makes the index and one binary search asks it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Grouped:
    """Things that happened at positions, by group: `positions[start[g] : start[g + 1]]` are those of g, ascending."""

    keys: np.ndarray
    start: np.ndarray
    bits: int

    @classmethod
    def by(
        cls, group: np.ndarray, n_groups: int, position: np.ndarray | None = None, end: int | None = None
    ) -> Grouped:
        """Groups things by `group`. They happened at distinct `position`s below `end` (default: 0, 1, 2, …)."""
        bits = int(len(group) if end is None else end).bit_length()
        keys = np.sort((group.astype(np.int64) << bits) | (np.arange(len(group)) if position is None else position))
        start = np.searchsorted(keys, np.arange(n_groups + 1, dtype=np.int64) << bits)
        return cls(keys, start, bits)

    @property
    def positions(self) -> np.ndarray:
        """The positions of all things, group after group."""
        return self.at(slice(None))

    def at(self, place: np.ndarray | slice) -> np.ndarray:
        """The position of the thing at each place in the row of all groups; those beyond its end are of no account."""
        if not isinstance(place, slice):
            place = np.minimum(place, len(self.keys) - 1)
        return self.keys[place] & ((1 << self.bits) - 1)

    def nth(self, group: np.ndarray, n: np.ndarray) -> np.ndarray:
        """The position of the nth thing of each group."""
        return self.at(self.start[group] + n)

    def place(self, group: np.ndarray, edge: np.ndarray) -> np.ndarray:
        """The place of the group's first thing that is not before the edge."""
        return np.searchsorted(self.keys, (np.asarray(group, np.int64) << self.bits) | edge)

    def before(self, group: np.ndarray, edge: np.ndarray) -> np.ndarray:
        """How many things of the group are before the edge."""
        return self.place(group, edge) - self.start[group]


def stable_order(codes: np.ndarray) -> np.ndarray:
    """A stable order by non-negative codes; one sort of integers is several times faster than a stable sort."""
    bits = len(codes).bit_length()
    return np.sort((codes.astype(np.int64) << bits) | np.arange(len(codes))) & ((1 << bits) - 1)
