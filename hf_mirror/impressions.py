"""What a source logged as shown: per event the items of its impression, the clicked ones among them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from hf_mirror.tables import Log

UNKNOWN = -1


@dataclass(frozen=True)
class Impressions:
    """Per event, shape [events]: `ids` (text) and `n_clicked` (events of the same impression). The items shown are
    `items[start[e] : start[e + 1]]`, UNKNOWN for what is not described; `clicked` marks those that were clicked."""

    ids: pl.Series
    n_clicked: np.ndarray
    items: np.ndarray
    start: np.ndarray
    clicked: np.ndarray

    @classmethod
    def of(cls, log: Log) -> Impressions | None:
        """The impressions of a clean log; None where the source logs none."""
        if "impression" not in log.events.columns or log.events["impression"].null_count() == log.events.height:
            return None
        known = pl.col("user").cast(pl.String) + " " + pl.col("impression_id")
        impression = pl.coalesce(known, "without an id " + pl.int_range(pl.len()).cast(pl.String))
        events = log.events.select("item", "impression", key=impression.rank("dense").cast(pl.Int64) - 1)
        places = log.items.select(pl.col("item_id")).with_row_index("place")
        shown = (
            events.select("key", pl.col("impression").cast(pl.List(pl.String))).with_row_index("event")
            .explode("impression").drop_nulls("impression")
            .join(places, left_on="impression", right_on="item_id", how="left", maintain_order="left")
            .select("event", "key", place=pl.col("place").cast(pl.Int64).fill_null(UNKNOWN))
        )  # fmt: skip
        key, items = shown["key"].to_numpy(), shown["place"].to_numpy()
        clicks = np.sort(events["key"].to_numpy() * log.items.height + events["item"].to_numpy())
        place = np.minimum(np.searchsorted(clicks, key * log.items.height + items), len(clicks) - 1)
        clicked = (items != UNKNOWN) & (clicks[place] == key * log.items.height + items)
        start = np.searchsorted(shown["event"].to_numpy(), np.arange(events.height + 1))
        count = np.bincount(events["key"].to_numpy())[events["key"].to_numpy()]
        return cls(log.events["impression_id"], count, items, start, clicked)

    def unclicked(self, event: int) -> np.ndarray:
        """What else was shown with the event's item and not clicked, each item once, in the order of ids."""
        part = slice(self.start[event], self.start[event + 1])
        return np.unique(self.items[part][~self.clicked[part]])

    def beside(self, event: np.ndarray, described: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Whether anything unclicked was shown beside each event's item, and whether all of that is described."""
        missing = ~self.clicked & ((self.items == UNKNOWN) | ~described[self.items])
        total = np.r_[0, np.cumsum(missing)]
        others = np.r_[0, np.cumsum(~self.clicked)]
        begin, end = self.start[event], self.start[event + 1]
        return others[end] > others[begin], total[end] == total[begin]
