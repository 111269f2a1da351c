"""Raw rows become clean tables: known users and items, typed UTC times, one order. Every drop has a counted reason."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from hf_mirror.domains import Domain, Source
from hf_mirror.errors import DataError
from hf_mirror.files import write_rows
from hf_mirror.schema import EVENTS, ITEMS, USERS, Tables

ORDER = ("timestamp", "user_id", "item_id", "signal")


def json_column(names: Sequence[str]) -> pl.Expr:
    """The named columns as one open map per row, as JSON text with sorted keys: what `datasets.Json` stores."""
    return pl.struct(sorted(names)).struct.json_encode()


def prepare(domain: Domain, raw: Path, source: Source) -> Tables:
    """Loads a release and drops what cannot be used. Rows come out in one order whatever order they were in."""
    if not raw.is_dir():
        raise DataError(f"{raw} is not a folder; give the folder that holds the raw files of {domain.name}")
    tables = domain.load(raw, source)
    _check_columns(domain, tables)
    users = tables.users.unique("user_id", keep="first", maintain_order=True).sort("user_id")
    items = tables.items.unique("item_id", keep="first", maintain_order=True).sort("item_id")
    events, dropped = tables.events.lazy(), dict(tables.dropped)
    kept = tables.events.height
    for reason, keep in _rules(users, items):
        before, events = kept, keep(events).collect().lazy()
        kept = events.select(pl.len()).collect().item()
        if kept < before:
            dropped[reason] = dropped.get(reason, 0) + before - kept
    clean = events.sort(ORDER).collect()
    if clean.is_empty():
        raise DataError(
            f"{raw}: none of {tables.read} rows can be used ({dropped}); check that the files belong together"
        )
    first = clean.group_by("item_id").agg(seen=pl.col("timestamp").min())
    items = items.join(first, on="item_id", how="left").with_columns(
        available_from=pl.coalesce("available_from", "seen")
    )
    return Tables(users, items.drop("seen").sort("item_id"), clean, tables.read, dropped)


def write(directory: Path, tables: Tables) -> None:
    """Writes users, items and events as Parquet."""
    for name, frame, features in (
        ("users", tables.users, USERS), ("items", tables.items, ITEMS), ("events", tables.events, EVENTS)
    ):  # fmt: skip
        write_rows(directory / f"{name}.parquet", frame.to_arrow(compat_level=pl.CompatLevel.oldest()), features)


def _rules(users: pl.DataFrame, items: pl.DataFrame):  # type: ignore[no-untyped-def]
    """What an event must satisfy, in order, as (reason for the drop, filter)."""
    return (
        ("missing_value", lambda e: e.drop_nulls(["user_id", "item_id", "timestamp", "signal", "positive"])),
        ("user_not_described", lambda e: e.join(users.lazy(), on="user_id", how="semi")),
        ("item_not_described", lambda e: e.join(items.lazy(), on="item_id", how="semi")),
        (
            "duplicate_row",
            lambda e: e.sort(*ORDER, "impression_id", pl.col("impression").list.join(" ")).unique(
                ["user_id", "item_id", "timestamp", "signal"], keep="first"
            ),
        ),
    )


def _check_columns(domain: Domain, tables: Tables) -> None:
    for name, frame, features in (
        ("users", tables.users, USERS), ("items", tables.items, ITEMS), ("events", tables.events, EVENTS)
    ):  # fmt: skip
        missing = [column for column in features if column not in frame.columns]
        if missing:
            raise DataError(f"builder {domain.name}: its {name} lack {', '.join(missing)}; see hf_mirror/schema.py")
    accounted = tables.events.height + sum(tables.dropped.values())
    if accounted != tables.read:
        raise DataError(
            f"builder {domain.name}: read {tables.read} rows but accounts for {accounted}; count every drop"
        )
