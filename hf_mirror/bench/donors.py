"""Whose history a swapped twin shows, so that what the own history is worth can be told.

A donor is another scene of the same subset (so of the same domain and split), of another user, as alike as can be
found: with the same number of shown events, its user in the same decile of activity, in the same month. No option of
the scene may be in its history; the truth counts for nothing beyond being one of the options. Where nobody fits, the
month goes first, then the decile, then the length may differ by one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from scipy.sparse import csr_matrix, diags

from hf_mirror.files import canonical_json
from hf_mirror.identity import Draws, digest
from hf_mirror.words import Words

RANDOM, NEAREST = "random", "nearest"
# What had to be given up to find a donor; `nobody` where even that found none.
RELAXED = ("nothing", "month", "month and activity", "month, activity and one event of length")
NOBODY = "nobody"

Scene = Mapping[str, Any]


@dataclass(frozen=True)
class Donors:
    """Donors of each scene, in the order of the scenes: `random` and `nearest` (None: nobody fits), and what was
    `relaxed` for them, one of RELAXED or NOBODY."""

    random: list[Scene | None]
    nearest: list[Scene | None]
    relaxed: list[str]

    @staticmethod
    def of(scenes: Sequence[Scene], events: Sequence[int], attributes: Callable[[str], Any], seed: int) -> Donors:
        """Finds them. `scenes` are in the order of scene_id, so that draws depend on nothing else; `events` counts each
        user's past; `attributes` gives an item's."""
        pools = _Pools(scenes, events)
        tastes = _tastes(scenes, attributes)
        found = Donors([], [], [])
        for row, scene in enumerate(scenes):
            fitting, relaxed = pools.fitting(row)
            found.relaxed.append(relaxed)
            found.random.append(None)
            found.nearest.append(None)
            if len(fitting):
                key = bytes.fromhex(digest("donor", seed, scene["scene_id"]))
                found.random[row] = scenes[fitting[Draws(key, RANDOM).below(len(fitting))]]
                # Rounded, so that what is equally near stays so on every machine; among those one is drawn.
                near = np.round((tastes[fitting] @ tastes[row].T).toarray().ravel(), 6)
                nearest = fitting[near == near.max()]
                found.nearest[row] = scenes[nearest[Draws(key, NEAREST).below(len(nearest))]]
        return found


class _Pools:
    """Scenes by what a donor must share, from the strictest to the loosest."""

    def __init__(self, scenes: Sequence[Scene], events: Sequence[int]) -> None:
        self._scenes = scenes
        deciles = np.searchsorted(np.quantile(events, np.linspace(0.1, 0.9, 9)), events).tolist() if scenes else []
        self._keys = [
            (len(scene["history"]), decile, f"{scene['timestamp']:%Y-%m}")
            for scene, decile in zip(scenes, deciles, strict=True)
        ]
        self._alike: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        self._of_user: dict[str, set[int]] = defaultdict(set)
        self._with_item: dict[str, set[int]] = defaultdict(set)
        for row, (scene, key) in enumerate(zip(scenes, self._keys, strict=True)):
            for shared in (key, key[:2], key[:1]):
                self._alike[shared].append(row)
            self._of_user[scene["user_id"]].add(row)
            for past in scene["history"]:
                self._with_item[past["item_id"]].add(row)

    def fitting(self, row: int) -> tuple[np.ndarray, str]:
        """The numbers of the scenes that may give their history to one, in order, and what was relaxed for them."""
        scene = self._scenes[row]
        unfit = self._of_user[scene["user_id"]].union(
            *(self._with_item.get(option["item_id"], ()) for option in scene["exposure"])
        )
        for pool, relaxed in zip(self._pools(row), RELAXED, strict=True):
            if fitting := [other for other in pool if other not in unfit]:
                return np.array(fitting), relaxed
        return np.array([], np.int64), NOBODY

    def _pools(self, row: int) -> Iterator[list[int]]:
        key = self._keys[row]
        yield self._alike[key]
        yield self._alike[key[:2]]
        yield self._alike[key[:1]]
        yield sorted(other for length in (key[0] - 1, key[0] + 1) for other in self._alike.get((length,), ()))


def _tastes(scenes: Sequence[Scene], attributes: Callable[[str], Any]) -> csr_matrix:
    """Per scene, the direction of the sum of its history's items, each the words of its attributes (title, genres and
    whatever else there is) by TF-IDF over the items of all histories. Shape [scenes, words]; zeros where none."""
    items = sorted({past["item_id"] for scene in scenes for past in scene["history"]})
    place = {item: number for number, item in enumerate(items)}
    words = Words.of(
        pl.Series([canonical_json(attributes(item)) for item in items], dtype=pl.String), np.arange(len(items))
    )
    n_words = int(words.of_item.max(initial=-1)) + 1
    held = csr_matrix((np.ones(len(words.of_item)), words.of_item, words.start), (len(items), n_words))
    document_frequency = np.bincount(words.of_item, minlength=n_words)
    weighted = _directions(held @ diags(np.log(len(items) / np.maximum(document_frequency, 1))))
    row, column = np.array(
        [(row, place[past["item_id"]]) for row, scene in enumerate(scenes) for past in scene["history"]] or [(0, 0)]
    ).T
    if not items:
        return csr_matrix((len(scenes), 1))
    return _directions(csr_matrix((np.ones(len(row)), (row, column)), (len(scenes), len(items))) @ weighted)


def _directions(rows: csr_matrix) -> csr_matrix:
    lengths = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
    return csr_matrix(diags(1 / np.where(lengths > 0, lengths, 1)) @ rows)
