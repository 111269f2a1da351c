"""What a run's tables say of the options its scenes show, as of each scene: the same features a build audits."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl

DAY_MS = 86_400_000


def with_items(options: pl.DataFrame, tables: Path) -> pl.DataFrame:
    """Adds features to options (columns `item_id`, `timestamp` of the scene, and any others), in their order.

    `title_length`, `missing_attributes` (null or empty), `described` (has a title); `available_days` since the item
    came out; `first_seen_days` since its first event, null until then, lest the truth's own event tell;
    `positive_share` of its events before the scene.
    """
    if not {"item_id", "timestamp"} <= set(options.columns) or not (tables / "items.parquet").is_file():
        return options
    shown = options.select("item_id").unique().lazy()
    items = pl.scan_parquet(tables / "items.parquet", glob=False).join(shown, on="item_id", how="semi").collect()
    log = pl.scan_parquet(tables / "events.parquet", glob=False).select("item_id", "timestamp", "positive")
    events = (
        log.join(shown, on="item_id", how="semi").sort("timestamp")
        .select(
            "item_id", "timestamp",
            first=pl.col("timestamp").first().over("item_id"),
            positive_share=pl.col("positive").cum_sum().over("item_id") / pl.int_range(1, pl.len() + 1).over("item_id"),
        ).collect()
    )  # fmt: skip
    firsts = events.select("item_id", "first").unique("item_id")
    before = options.with_row_index("place").sort("timestamp").join_asof(
        events.drop("first"), on="timestamp", by="item_id", allow_exact_matches=False, check_sortedness=False
    )  # fmt: skip
    return (
        before.join(_attributes(items), on="item_id", how="left")
        .join(firsts, on="item_id", how="left")
        .with_columns(
            first_seen_days=pl.when(pl.col("first") < pl.col("timestamp")).then(_days("first")),
            available_days=_days("available_from"),
            described=pl.col("title_length") > 0,
        )
        .sort("place")
        .drop("place", "available_from", "first")
    )


def _days(since: str) -> pl.Expr:
    return (pl.col("timestamp") - pl.col(since)).dt.total_milliseconds() / DAY_MS


def _attributes(items: pl.DataFrame) -> pl.DataFrame:
    decoded = [json.loads(text or "{}") for text in items["attributes"]]
    return items.select(
        "item_id", "available_from",
        title_length=pl.Series([len(str(of.get("title") or "")) for of in decoded], dtype=pl.Int64),
        missing_attributes=pl.Series([sum(value in (None, "", []) for value in of.values()) for of in decoded],
                                     dtype=pl.Int64),
    )  # fmt: skip
