"""Which ranks a model may hold, given what its interval leaves open."""

from __future__ import annotations

from collections.abc import Sequence

Score = dict[str, float | None]


def rank_sets(losses: Sequence[Score]) -> list[tuple[int, int]]:
    """The best and worst rank of each model by its log-loss `{value, low, high}`, lower is better.

    One model is better than another where its interval lies wholly below the other's. The best possible rank is 1 +
    the number of models that are better, the worst the number of models that are not worse. This is conservative: the
    same scenes answered by both tell smaller differences apart, which takes predictions and `mirror compare`. A model
    without an interval (one user) is neither better nor worse than any.
    """
    better = [sum(_below(other, loss) for other in losses) for loss in losses]
    worse = [sum(_below(loss, other) for other in losses) for loss in losses]
    return [(1 + above, len(losses) - below) for above, below in zip(better, worse, strict=True)]


def _below(one: Score, other: Score) -> bool:
    high, low = one["high"], other["low"]
    return high is not None and low is not None and high < low
