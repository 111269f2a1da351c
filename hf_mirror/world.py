"""A domain's tables as arrays, events in time order: what every scene is cut from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from hf_mirror.exposure import AsOf, MatchedBins, shrunk_share
from hf_mirror.schema import Tables
from hf_mirror.splits import SPLITS

FOREVER = np.iinfo(np.int64).max


@dataclass
class World:
    """The arrays, and the ids and signals that positions stand for.

    Per event, shape [events]: `time` (ms), `user`, `item` (positions), `positive`, `split` (index into SPLITS or -1),
    `earlier` (the user's events at strictly earlier times), `repeated` (the user met the item at an earlier time),
    `ordinal`. Per item, shape [items]: `first_seen`, `available_from`, `described`. `of_user[u]` lists the positions
    of u's events in time order.
    """

    domain: str
    users: list[str]
    items: list[str]
    time: np.ndarray
    user: np.ndarray
    item: np.ndarray
    positive: np.ndarray
    split: np.ndarray
    earlier: np.ndarray
    repeated: np.ndarray
    ordinal: np.ndarray
    first_seen: np.ndarray
    available_from: np.ndarray
    described: np.ndarray
    of_user: list[np.ndarray]
    signal: list[str]

    @classmethod
    def of(cls, domain: str, tables: Tables, split: pl.Series) -> World:
        """`split` names each event's split (null where it is lost), in the order of `tables.events`."""
        users, items = tables.users["user_id"].to_list(), tables.items["item_id"].to_list()
        ids = tables.events.select(
            time=pl.col("timestamp").dt.epoch("ms"),
            user=pl.col("user_id").replace_strict(users, range(len(users)), return_dtype=pl.Int64),
            item=pl.col("item_id").replace_strict(items, range(len(items)), return_dtype=pl.Int64),
        )
        within = ids.select(
            earlier=pl.col("time").rank("min").over("user").cast(pl.Int64) - 1,
            repeated=pl.col("time") > pl.col("time").min().over("user", "item"),
            ordinal=pl.int_range(pl.len()).over("user", "item", "time"),
        )
        time, user, item = (ids[name].to_numpy() for name in ("time", "user", "item"))
        first_seen = np.full(len(items), FOREVER)
        np.minimum.at(first_seen, item, time)
        by_user = np.argsort(user, kind="stable")
        starts = np.searchsorted(user[by_user], np.arange(len(users) + 1))
        codes = split.replace_strict(
            {name: code for code, name in enumerate(SPLITS)}, default=-1, return_dtype=pl.Int64
        )
        return cls(
            domain, users, items, time, user, item, tables.events["positive"].to_numpy(), codes.to_numpy(),
            within["earlier"].to_numpy(), within["repeated"].to_numpy(), within["ordinal"].to_numpy(),
            first_seen,
            tables.items["available_from"].dt.epoch("ms").fill_null(-FOREVER).to_numpy(),
            tables.items["attributes"].str.json_path_match("$.title").str.len_chars().fill_null(0).to_numpy() > 0,
            [by_user[starts[u] : starts[u + 1]] for u in range(len(users))],
            tables.events["signal"].to_list(),
        )  # fmt: skip

    def asof(self) -> AsOf:
        """Running totals, at the beginning of time."""
        return AsOf(self.time, self.item, self.positive, len(self.items))

    def matched_bins(self) -> MatchedBins:
        """The matched regime's bins, from the as-of popularity and quality of every train positive."""
        order = np.lexsort((self.time, self.item))
        item, time, positive = self.item[order], self.time[order], self.positive[order]
        starts = np.searchsorted(item, item)
        # Strictly earlier events of the item: those before the first with the same item and time.
        change = np.r_[True, (item[1:] != item[:-1]) | (time[1:] != time[:-1])]
        tie_start = np.maximum.accumulate(np.where(change, np.arange(len(item)), 0))
        running = np.r_[0, np.cumsum(positive)]
        counts, positives = np.empty_like(order), np.empty_like(order)
        counts[order] = tie_start - starts
        positives[order] = running[tie_start] - running[starts]
        before = np.searchsorted(self.time, self.time, side="left")
        total_positive = np.r_[0, np.cumsum(self.positive)][before]
        truths = (self.split == 0) & self.positive & (counts > 0)
        quality = shrunk_share(positives, counts, total_positive, before)
        return MatchedBins.fit((counts / np.maximum(before, 1))[truths], quality[truths])
