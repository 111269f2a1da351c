"""What all choices together look like beside all truths: their popularity and their categories."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from hf_mirror import metrics
from hf_mirror.alignment.table import Table

MATCHED = "popularity_matched"


def popularity_lift(table: Table, by_item: metrics.Floats, seed: int) -> dict[str, float | None] | None:
    """By how many as-of percentiles (0 to 1) choices are more popular than truths, with its interval. None where
    options are matched on popularity, where rows have no percentile, and where nothing is scored. `by_item` [S, W]."""
    percentiles = _numbers(table, "asof_percentile")
    if percentiles is None:
        return None
    lift = metrics.popularity_lift(by_item, percentiles, table.true_item)
    seen = np.isfinite(lift) & (np.array(table.regimes) != MATCHED)
    if not seen.any():
        return None
    return asdict(metrics.intervals(lift[seen][:, None], table.users[seen], seed=seed, items=table.items[seen])[0])


def divergence(table: Table, chosen: metrics.Floats) -> dict[str, dict[str, float | None]]:
    """Jensen-Shannon divergence and Kolmogorov-Smirnov distance between the options chosen, `chosen` [S, W] averaged
    over a scene's orders, and the true ones. Popularity is the as-of percentile, where rows have none the as-of count,
    in deciles for the former. Categories have no order, hence no KS; options without one are left out."""
    seen = metrics.scored(chosen)
    truths = np.zeros(chosen.shape)
    truths[np.arange(table.n_scenes), table.true_item] = 1
    inside = seen[:, None] & (np.arange(chosen.shape[1]) < table.sizes[:, None])
    found: dict[str, dict[str, float | None]] = {}
    for name in ("asof_percentile", "asof_count"):
        values = _numbers(table, name)
        if values is not None and seen.any():
            weights = chosen[inside], truths[inside]
            jsd = metrics.jsd(*metrics.quantile_shares(values[inside], *weights))
            found["popularity"] = {"jsd": jsd, "ks": metrics.ks(values[inside], *weights)}
            break
    names = table.of_options("category")
    known = inside & np.array([[*(each is not None for each in row), *_padding(row, chosen, False)] for row in names])
    if (chosen * known)[seen].sum() > 0 and (truths * known)[seen].sum() > 0:
        kinds = np.array([[*(each or "" for each in row), *_padding(row, chosen, "")] for row in names])[known]
        _, index = np.unique(kinds, return_inverse=True)
        shares = [np.bincount(index, weights=of[known]).astype(np.float64) for of in (chosen, truths)]
        found["category"] = {"jsd": metrics.jsd(*shares), "ks": None}
    return found


def _numbers(table: Table, name: str) -> metrics.Floats | None:
    """A number of each option [S, W], NaN beyond K; None where some option has none."""
    values = table.of_options(name)
    if any(each is None for row in values for each in row):
        return None
    width = int(table.n_options.max())
    return np.array([[*row, *[np.nan] * (width - len(row))] for row in values], dtype=np.float64)


def _padding(row: list[Any], chosen: metrics.Floats, value: Any) -> list[Any]:
    return [value] * (chosen.shape[1] - len(row))
