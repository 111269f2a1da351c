"""Who stands beside the truth: one function per regime and a dict literal.

A regime answers with one non-negative integer weight per item; what is not eligible is masked by the caller, and
the negatives are drawn without replacement in proportion to what is left. Everything a regime may look at is an `AsOf`:
what had happened strictly before the scene.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

COUNT_BINS = 10
QUALITY_BINS = 3
# A share of positives from few events says little: it is shrunk towards the share of all events, worth this many.
PRIOR_EVENTS = 5


class AsOf:
    """The running totals of every item, moved forward in time: what a scene at `advance(t)` may know.

    times: ms, shape [events], ascending. items: item positions, shape [events]. positive: shape [events].
    `counts` and `positives` have shape [items]; `total` and `total_positive` are their sums.
    """

    def __init__(self, times: np.ndarray, items: np.ndarray, positive: np.ndarray, n_items: int) -> None:
        self._times, self._items, self._positive = times, items, positive
        self._next = 0
        self.counts = np.zeros(n_items, np.int64)
        self.positives = np.zeros(n_items, np.int64)
        self.total = 0
        self.total_positive = 0

    def advance(self, time: int) -> None:
        """Adds every event strictly before `time`. Times must not go backwards."""
        end = int(np.searchsorted(self._times, time, side="left"))
        if end < self._next:
            raise ValueError(f"cannot move back from event {self._next} to {end}")
        items = self._items[self._next : end]
        positive_items = items[self._positive[self._next : end]]
        self.counts += np.bincount(items, minlength=len(self.counts))
        self.positives += np.bincount(positive_items, minlength=len(self.counts))
        self.total, self.total_positive, self._next = end, self.total_positive + len(positive_items), end

    def quality(self) -> np.ndarray:
        """Each item's shrunk share of positive events, shape [items]."""
        return shrunk_share(self.positives, self.counts, self.total_positive, self.total)


def shrunk_share(
    positives: np.ndarray, counts: np.ndarray, total_positive: np.ndarray | int, total: np.ndarray | int
) -> np.ndarray:
    """(positives + m * overall share) / (counts + m), with m = PRIOR_EVENTS; 0.5 overall where nothing happened yet."""
    overall = (np.asarray(total_positive) + 0.5) / (np.asarray(total) + 1.0)
    return (positives + PRIOR_EVENTS * overall) / (counts + PRIOR_EVENTS)


@dataclass(frozen=True)
class MatchedBins:
    """10 popularity x 3 quality bins whose edges are fixed on train positives before anything is sampled.

    Popularity is the item's share of all events so far, so that bins mean the same early and late; quality is its
    shrunk share of positives, because that is what makes an item a truth. Edges are quantiles over train *truths*:
    every bin holds the same mass of truths, and is narrow where the popular items are.
    """

    popularity: np.ndarray  # inner edges, shape [9]
    quality: np.ndarray  # inner edges per popularity bin, shape [10, 2]

    @classmethod
    def fit(cls, popularity: np.ndarray, quality: np.ndarray) -> MatchedBins:
        """Edges from the as-of popularity and quality of train truths, both of shape [truths]."""
        if not len(popularity):
            return cls(np.zeros(COUNT_BINS - 1), np.zeros((COUNT_BINS, QUALITY_BINS - 1)))
        edges = np.quantile(popularity, np.arange(1, COUNT_BINS) / COUNT_BINS)
        bins = np.searchsorted(edges, popularity, side="right")
        inner = np.arange(1, QUALITY_BINS) / QUALITY_BINS
        overall = np.quantile(quality, inner)
        rows = [np.quantile(quality[bins == b], inner) if np.any(bins == b) else overall for b in range(COUNT_BINS)]
        return cls(edges, np.stack(rows))

    def peers(self, popularity: np.ndarray, quality: np.ndarray, truth: int) -> np.ndarray:
        """True for the items in the truth's bin, shape [items]."""
        row = int(np.searchsorted(self.popularity, popularity[truth], side="right"))
        low, high = _interval(self.popularity, row)
        in_row = (popularity >= low) & (popularity < high)
        column = int(np.searchsorted(self.quality[row], quality[truth], side="right"))
        low, high = _interval(self.quality[row], column)
        return in_row & (quality >= low) & (quality < high)


def _interval(edges: np.ndarray, position: int) -> tuple[float, float]:
    low = edges[position - 1] if position else -np.inf
    high = edges[position] if position < len(edges) else np.inf
    return float(low), float(high)


Regime = Callable[[AsOf, int, MatchedBins], np.ndarray]


def uniform(asof: AsOf, truth: int, bins: MatchedBins) -> np.ndarray:
    """Every item alike."""
    return np.ones(len(asof.counts), np.int64)


def popularity(asof: AsOf, truth: int, bins: MatchedBins) -> np.ndarray:
    """In proportion to the as-of count."""
    return asof.counts


def popularity_matched(asof: AsOf, truth: int, bins: MatchedBins) -> np.ndarray:
    """Within the truth's bin, in proportion to the as-of positives plus a tenth: as truths themselves are drawn.

    Uniform draws within the bin leave the truth the most popular of five options in 23-26 % of test scenes on three
    public releases; these weights leave it at 20-21 % (docs/decisions.md).
    """
    peers = bins.peers(asof.counts / max(asof.total, 1), asof.quality(), truth)
    return peers * (10 * asof.positives + 1)


REGIMES: dict[str, Regime] = {
    "uniform": uniform,
    "popularity": popularity,
    "popularity_matched": popularity_matched,
}
