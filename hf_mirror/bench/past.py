"""What had happened before each scene: how popular its options were among all items, and how active its user.

One pass over the events, which are in order of time, so that memory does not grow with the log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_mirror.files import read_batches, read_table

BATCH = 250_000


@dataclass(frozen=True)
class Past:
    """As of each scene, in the order of the scenes. `percentiles`: per option, the share of items known by then that
    had fewer events than the option (None where the scene holds no count). `events`: how many the user had, with what
    the publisher says that came before the log."""

    percentiles: list[list[float | None]]
    events: list[int]

    @staticmethod
    def of(folder: Path, scenes: Sequence[Mapping[str, Any]]) -> Past:
        """The past of scenes (schema.SCENE) of a domain folder."""
        items = read_table(folder / "tables" / "items.parquet", ["item_id"])["item_id"].combine_chunks()
        people = pa.array(sorted({scene["user_id"] for scene in scenes}), pa.string())
        number = {user: i for i, user in enumerate(people.to_pylist())}
        before = _before_the_log(folder, people)
        time = np.array([round(scene["timestamp"].timestamp() * 1000) for scene in scenes], np.int64)
        waiting = np.argsort(time, kind="stable").tolist()[::-1]
        counts, met = np.zeros(len(items), np.int64), np.zeros(len(people), np.int64)
        found = Past([[] for _ in scenes], [0] * len(scenes))

        def answer(row: int) -> None:
            found.percentiles[row] = _percentiles(counts, [option["asof_count"] for option in scenes[row]["exposure"]])
            user = number[scenes[row]["user_id"]]
            found.events[row] = int(met[user] + before[user])

        columns = ["timestamp", "item_id", "user_id"]
        for batch in read_batches(folder / "tables" / "events.parquet", BATCH, columns):
            at = batch["timestamp"].cast(pa.int64()).to_numpy(zero_copy_only=False)
            item = _places(batch["item_id"], items)
            user = _places(batch["user_id"], people)
            start = 0
            while waiting and time[waiting[-1]] <= at[-1]:
                row = waiting.pop()
                end = int(np.searchsorted(at, time[row]))
                _count(counts, item[start:end])
                _count(met, user[start:end])
                start = end
                answer(row)
            _count(counts, item[start:])
            _count(met, user[start:])
        for row in waiting:
            answer(row)
        return found


def _places(ids: pa.Array, known: pa.Array) -> np.ndarray:
    return np.asarray(pc.fill_null(pc.index_in(ids, value_set=known), -1).to_numpy(zero_copy_only=False))


def _count(counts: np.ndarray, places: np.ndarray) -> None:
    np.add.at(counts, places[places >= 0], 1)


def _percentiles(counts: np.ndarray, options: Sequence[int | None]) -> list[float | None]:
    known = np.bincount(counts)
    known[:1] = 0
    fewer = np.r_[0, np.cumsum(known)]
    return [
        None if count is None else round(float(fewer[min(count, len(known))] / max(fewer[-1], 1)), 6)
        for count in options
    ]


def _before_the_log(folder: Path, people: pa.Array) -> np.ndarray:
    """How long the history is that the publisher says each of these users had before the log."""
    users = read_table(folder / "tables" / "users.parquet", ["user_id", "history"])
    there = pc.index_in(people, value_set=users["user_id"].combine_chunks())
    lengths = pc.fill_null(pc.list_value_length(users["history"]), 0).to_numpy()
    return np.asarray(lengths[there.to_numpy(zero_copy_only=False)])
