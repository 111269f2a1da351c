"""Raw rows become a clean log: known users and items, typed UTC times, one order. Every drop has a counted reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from hf_mirror.domains import Domain, Source
from hf_mirror.errors import DataError
from hf_mirror.files import replacing, to_arrow, write_rows
from hf_mirror.schema import EVENTS, ITEMS, USERS, Tables

KEY = ("time", "user", "item")
OPTIONAL = ("impression_id", "impression", "row")
SLICE = 250_000
NEVER = np.iinfo(np.int64).max
# Integer ids below this are looked up in a table; a join takes five times as long.
DENSE = 1 << 26
# The years 1 to 9999, in ms: other times can neither be written as a date nor told to anybody.
CALENDAR = (-62_135_596_800_000, 253_402_300_799_999)


@dataclass(frozen=True)
class Log:
    """A domain's clean tables. `events` are in the order of time, user, item and signal, whatever order they were in.

    users: `user_id`, `profile` (JSON text), `history` (lists of item ids) where the publisher gives one; items:
    `item_id`, `attributes` (JSON text), `available_from`; both in the order of their ids. events: `time` (ms), `user`
    and `item` (positions in the two), `signal`, `positive` and what the builder gave of OPTIONAL.
    """

    users: pl.DataFrame
    items: pl.DataFrame
    events: pl.DataFrame
    read: int
    dropped: dict[str, int]
    remarks: pl.LazyFrame | None
    warnings: tuple[str, ...]


def as_json(frame: pl.DataFrame, column: str) -> pl.Expr:
    """A column of open maps as JSON text: what `datasets.Json` stores. Structs get sorted keys; text stays as it is."""
    kind = frame.schema[column]
    if not isinstance(kind, pl.Struct):
        return pl.col(column)
    names = sorted(field.name for field in kind.fields)
    if not names:
        return pl.repeat("{}", pl.len()).alias(column)
    return pl.struct(pl.col(column).struct.field(name) for name in names).struct.json_encode().alias(column)


def prepare(domain: Domain, raw: Path, source: Source) -> Log:
    """Loads a release and drops what cannot be used."""
    if not raw.is_dir() and not (domain.categories and raw.is_file()):
        raise DataError(f"{raw} is not a folder; give the folder that holds the raw files of {domain.name}")
    tables = domain.load(raw, source)
    _check(domain, tables)
    users, items = _described(tables.users, "user_id"), _described(tables.items, "item_id")
    read, remarks, warnings = tables.read, tables.remarks, tables.warnings
    events, dropped = _usable(tables, users, items)
    del tables  # its events are held no longer than they are needed
    events, duplicates = _ordered(events, remarks)
    if duplicates:
        dropped["duplicate_row"] = dropped.get("duplicate_row", 0) + duplicates
    if events.is_empty():
        raise DataError(f"{raw}: none of {read} rows can be used ({dropped}); check that the files belong together")
    items = items.with_columns(available_from=pl.coalesce("available_from", _first_seen(events, items.height)))
    return Log(
        users.with_columns(pl.col("user_id").cast(pl.String), as_json(users, "profile")),
        items.with_columns(pl.col("item_id").cast(pl.String), as_json(items, "attributes")),
        events, read, dropped, remarks, warnings,
    )  # fmt: skip


def write(directory: Path, log: Log) -> None:
    """Writes users, items and events as Parquet."""
    if "history" in log.users.columns:
        users = log.users.with_columns(pl.col("history").cast(pl.List(pl.String)))
    else:
        users = log.users.with_columns(history=pl.lit(None, pl.List(pl.String)))
    write_rows(directory / "users.parquet", users.to_arrow(compat_level=pl.CompatLevel.oldest()), USERS)
    write_rows(directory / "items.parquet", log.items.to_arrow(compat_level=pl.CompatLevel.oldest()), ITEMS)
    # Ids and signals repeat, times ascend; bounds of anything but time would serve nobody.
    form = {
        "compression": "zstd",
        "use_dictionary": ["user_id", "item_id", "signal"],
        "column_encoding": {"timestamp": "DELTA_BINARY_PACKED"},
        "write_statistics": ["timestamp"],
    }
    with replacing(directory / "events.parquet") as temporary, pq.ParquetWriter(temporary, EVENTS, **form) as writer:
        for part in _slices(log):
            writer.write_table(part)


def _slices(log: Log) -> Iterator[pa.Table]:
    users, items = log.users["user_id"], log.items["item_id"]
    for part in log.events.iter_slices(SLICE):
        frame = part.select(
            user_id=users.gather(part["user"]),
            item_id=items.gather(part["item"]),
            timestamp=pl.col("time").cast(pl.Datetime("ms", "UTC")),
            signal=as_json(part, "signal"),
            positive="positive",
            impression_id="impression_id" if "impression_id" in part.columns else pl.lit(None, pl.String),
            impression=pl.col("impression").cast(pl.List(pl.String)) if "impression" in part.columns
            else pl.lit(None, pl.List(pl.String)),
        )  # fmt: skip
        yield to_arrow(frame.to_arrow(compat_level=pl.CompatLevel.oldest()), EVENTS)


def _described(frame: pl.DataFrame, key: str) -> pl.DataFrame:
    """One row per id, in the order of the ids as text."""
    frame = frame.drop_nulls(key).unique(key, keep="first", maintain_order=True)
    return frame.sort(pl.col(key).cast(pl.String))


def _usable(tables: Tables, users: pl.DataFrame, items: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """Events whose parts are all there, with positions in place of ids; and the drops, each row under one reason."""
    dropped = Counter(tables.dropped)
    needed = ["user_id", "item_id", "timestamp", "signal", "positive"]
    extra = [name for name in OPTIONAL if name in tables.events.columns]
    found = tables.events.select(
        pl.col("timestamp").dt.epoch("ms").alias("time"),
        _places(tables.events["user_id"], users["user_id"]).alias("user"),
        _places(tables.events["item_id"], items["item_id"]).alias("item"),
        "signal",
        "positive",
        *extra,
        missing=pl.any_horizontal(pl.col(needed).is_null()),
    )
    for reason, bad in (
        ("missing_value", pl.col("missing")),
        ("time_not_in_calendar", ~pl.col("time").is_between(*CALENDAR)),
        ("user_not_described", pl.col("user").is_null()),
        ("item_not_described", pl.col("item").is_null()),
    ):
        if count := found.select(bad.sum()).item():
            found = found.filter(~bad)
            dropped[reason] += count
    return found.drop("missing"), dict(dropped)


def _places(ids: pl.Series, known: pl.Series) -> pl.Series:
    """The position in `known` of each id; null where it is not there."""
    if known.dtype.is_integer() and ids.dtype == known.dtype and len(known):
        numbers = known.to_numpy()
        if numbers.min() >= 0 and numbers.max() < DENSE:
            table = np.full(int(numbers.max()) + 2, -1, np.int32)
            table[numbers] = np.arange(len(numbers))
            beyond = len(table) - 1  # the last entry is of no id
            place = pl.Series(table[ids.cast(pl.Int64, strict=False).fill_null(beyond).clip(-1, beyond).to_numpy()])
            return place.replace(-1, None) if place.min() == -1 else place
    places = known.to_frame("id").with_row_index("place")
    return ids.to_frame("id").join(places, on="id", how="left", maintain_order="left")["place"].cast(pl.Int32)


def _ordered(events: pl.DataFrame, remarks: pl.LazyFrame | None = None) -> tuple[pl.DataFrame, int]:
    """The events in their one order, and how many were dropped as exact duplicates of another.

    Only events with the same time, user and item need their signals, remarks and impressions compared, and those are
    few.
    """
    events = events.sort(KEY)
    same = events.select(same=pl.all_horizontal(pl.col(name) == pl.col(name).shift(1) for name in KEY))["same"]
    tied = (same | same.shift(-1)).fill_null(False)
    if not tied.any():
        return events, 0
    place = tied.arg_true()
    extra = [
        pl.col(name).list.eval(pl.element().cast(pl.String)).list.join(" ") if name == "impression" else pl.col(name)
        for name in OPTIONAL
        if name in events.columns
    ]
    ties = events[place].with_columns(spelled=as_json(events, "signal"), place=place)
    compared = [*KEY, "spelled", *(["impression_id"] if "impression_id" in events.columns else [])]
    if remarks is not None:
        said = remarks_of(remarks, ties["row"])
        said = said.select("row", remark=pl.struct(sorted(set(said.columns) - {"row"})).struct.json_encode())
        ties, compared = ties.join(said, on="row", how="left"), [*compared, "remark"]
    ties = ties.sort(*compared, *extra)
    repeated = ties.select(
        again=pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift(1)) for name in compared)
    )["again"]
    order = np.arange(events.height)
    order[place] = ties["place"]
    kept = np.ones(len(order), bool)
    kept[place.filter(repeated)] = False
    return events[order[kept]], int(repeated.sum())


def remarks_of(remarks: pl.LazyFrame, rows: pl.Series) -> pl.DataFrame:
    """The remarks of some rows, read from the files."""
    return remarks.filter(pl.col("row").is_in(rows.implode())).collect(engine="streaming")


def _first_seen(events: pl.DataFrame, n_items: int) -> pl.Series:
    """When each item first occurs; null for items that never do."""
    first = np.full(n_items, NEVER)
    first[events["item"].to_numpy()[::-1]] = events["time"].to_numpy()[::-1]  # the first event is assigned last
    return pl.Series(first).replace(NEVER, None).cast(pl.Datetime("ms", "UTC"))


def _check(domain: Domain, tables: Tables) -> None:
    optional = {"history", *OPTIONAL}
    for name, frame, schema in (
        ("users", tables.users, USERS), ("items", tables.items, ITEMS), ("events", tables.events, EVENTS)
    ):  # fmt: skip
        missing = [column for column in schema.names if column not in frame.columns and column not in optional]
        if missing:
            raise DataError(f"builder {domain.name}: its {name} lack {', '.join(missing)}; see hf_mirror/schema.py")
    for key, frame in (("user_id", tables.users), ("item_id", tables.items)):
        described, met = frame.schema[key], tables.events.schema[key]
        if described.is_integer() != met.is_integer():
            raise DataError(f"builder {domain.name}: {key} is {described} where described, {met} in events; use one")
    accounted = tables.events.height + sum(tables.dropped.values())
    if accounted != tables.read:
        raise DataError(
            f"builder {domain.name}: read {tables.read} rows but accounts for {accounted}; count every drop"
        )
