"""Clean tables: one order whatever the rows' order, and read = kept + dropped, by reason."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_mirror import tables
from hf_mirror.domains import Domain, Source
from hf_mirror.errors import DataError
from hf_mirror.files import read_rows
from hf_mirror.schema import Tables

SOURCE = Source("made up", "cc0-1.0", True, "", ())
TIME = pl.Datetime("ms", "UTC")
START = datetime(2001, 1, 1, tzinfo=UTC)
EVENT = {
    "user_id": pl.String, "item_id": pl.String, "timestamp": TIME, "signal": pl.String, "positive": pl.Boolean,
    "impression_id": pl.String, "impression": pl.List(pl.String),
}  # fmt: skip


def event(user: str | None, item: str | None, hour: int | None, rating: int = 5) -> tuple[Any, ...]:
    time = None if hour is None else START + timedelta(hours=hour)
    return user, item, time, f'{{"rating":{rating}}}', rating >= 4, None, None


def made(events: list[tuple[Any, ...]], users: str = "ab", items: str = "xyz", dropped: int = 0) -> Tables:
    return Tables(
        pl.DataFrame({"user_id": list(users), "profile": ["{}"] * len(users)}),
        pl.DataFrame({"item_id": list(items), "attributes": ['{"title":"T"}'] * len(items)}).with_columns(
            available_from=pl.lit(None, TIME)
        ),
        pl.DataFrame(events, EVENT, orient="row"),
        len(events) + dropped,
        {"unreadable": dropped} if dropped else {},
    )


def prepared(made_tables: Tables, tmp_path: Path = Path()) -> Tables:
    domain = Domain("films", Path("films.py"), "4 or more", "", lambda path: SOURCE, lambda path, source: made_tables)
    return tables.prepare(domain, tmp_path, SOURCE)


def test_every_drop_is_counted_by_its_reason() -> None:
    clean = prepared(made(
        [event("a", "x", 1), event("a", "x", 1), event("a", "x", 1, 2), event("c", "x", 1), event("a", "w", 1),
         event(None, "x", 1), event("b", "y", None), event("b", "y", 0)],
        dropped=2,
    ))  # fmt: skip
    assert clean.dropped == {
        "unreadable": 2, "missing_value": 2, "user_not_described": 1, "item_not_described": 1, "duplicate_row": 1
    }  # fmt: skip
    assert clean.read == clean.events.height + sum(clean.dropped.values()) == 10
    assert clean.events["user_id"].to_list() == ["b", "a", "a"]


def test_availability_is_the_first_event_where_the_publisher_is_silent() -> None:
    given_date = made([event("a", "x", 5), event("b", "x", 3), event("b", "y", 4)])
    said = START - timedelta(days=1)
    items = given_date.items.with_columns(
        available_from=pl.when(pl.col("item_id") == "y").then(pl.lit(said, TIME)).otherwise(None)
    )
    clean = prepared(replace(given_date, items=items))
    assert dict(clean.items.select("item_id", "available_from").rows()) == {
        "x": START + timedelta(hours=3), "y": said, "z": None
    }  # fmt: skip


rows = st.lists(
    st.tuples(st.sampled_from(["a", "b", "q", "é"]), st.sampled_from("xyzw"), st.integers(0, 4), st.integers(1, 5)),
    min_size=1, max_size=30,
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(rows, st.randoms())
def test_row_order_does_not_matter_and_counts_add_up(rows: list[Any], rng: random.Random) -> None:
    given_rows = [event(*row) for row in rows]
    shuffled = rng.sample(given_rows, len(given_rows))
    try:
        clean = prepared(made(given_rows, users="abé"))
    except DataError as error:
        assert "none of" in str(error)
        assert all(row[0] == "q" or row[1] == "w" for row in rows)
        return
    again = prepared(made(shuffled, users="éba", items="zyx"))
    assert clean.events.equals(again.events)
    assert clean.users.equals(again.users)
    assert clean.items.equals(again.items)
    assert clean.dropped == again.dropped
    assert clean.read == clean.events.height + sum(clean.dropped.values())
    assert clean.events["timestamp"].is_sorted()
    assert clean.events.height == len({row for row in rows if row[0] != "q" and row[1] != "w"})


def test_duplicates_that_differ_elsewhere_keep_the_same_row_in_any_order() -> None:
    """Two impressions that end in the same click are duplicates; which one stays must not hang on the file's order."""
    one = (*event("a", "x", 1)[:5], "m1", ["x", "y"])
    two = (*event("a", "x", 1)[:5], "m2", ["x", "z"])
    rest = [event("b", "y", hour) for hour in range(2, 40)]
    kept = {prepared(made([*order, *rest])).events["impression_id"][0] for order in ([one, two], [two, one])}
    assert len(kept) == 1


def test_a_builder_that_loses_rows_silently_is_refused() -> None:
    with pytest.raises(DataError, match="read 5 rows but accounts for 2"):
        prepared(replace(made([event("a", "x", 1), event("b", "x", 2)]), read=5))


@pytest.mark.parametrize("frame", ["users", "items", "events"])
def test_a_builder_that_lacks_a_column_is_refused(frame: str) -> None:
    whole = made([event("a", "x", 1), event("b", "x", 2)])
    column = getattr(whole, frame).columns[-1]
    with pytest.raises(DataError, match=f"its {frame} lack {column}"):
        prepared(replace(whole, **{frame: getattr(whole, frame).drop(column)}))


def test_nothing_usable_and_no_folder_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of 1 rows"):
        prepared(made([event("stranger", "x", 1)]))
    with pytest.raises(DataError, match="not a folder"):
        prepared(made([event("a", "x", 1)]), tmp_path / "nowhere")


def test_written_tables_come_back(built: Path, movielens: Domain, raw: Path, tmp_path: Path) -> None:
    clean = tables.prepare(movielens, raw, movielens.detect(raw))
    tables.write(tmp_path, clean)
    for name in ("users", "items", "events"):
        assert (tmp_path / f"{name}.parquet").read_bytes() == (
            built / "movielens" / "tables" / f"{name}.parquet"
        ).read_bytes()
    assert len(read_rows(tmp_path / "events.parquet")) == clean.events.height
    assert read_rows(tmp_path / "items.parquet")[0]["attributes"]["title"]


def test_json_column_sorts_its_keys() -> None:
    frame = pl.DataFrame({"b": [1], "a": ["Á"]}).select(tables.json_column(["b", "a"]))
    assert frame.to_series().to_list() == ['{"a":"Á","b":1}']


def test_shuffled_raw_files_give_the_same_tables(
    raw: Path, movielens: Domain, tmp_path: Path, contents: Callable[[Path], dict[str, str]]
) -> None:
    rng = random.Random(4)
    shuffled = tmp_path / "shuffled"
    shuffled.mkdir()
    for path in raw.iterdir():
        lines = path.read_bytes().splitlines(keepends=True)
        (shuffled / path.name).write_bytes(b"".join(rng.sample(lines, len(lines))))
    assert contents(shuffled) != contents(raw)
    for folder, out in ((raw, "one"), (shuffled, "two")):
        tables.write(tmp_path / out, tables.prepare(movielens, folder, movielens.detect(folder)))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
