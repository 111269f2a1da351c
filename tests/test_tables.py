"""Clean logs: one order whatever the rows' order, and read = kept + dropped, by reason."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hf_mirror import tables
from hf_mirror.domains import Domain, Source
from hf_mirror.errors import DataError
from hf_mirror.files import read_rows
from hf_mirror.schema import EVENTS, ITEMS, USERS, Tables
from hf_mirror.tables import Log

SOURCE = Source("made up", "cc0-1.0", True, "", ())
TIME = pl.Datetime("ms", "UTC")
START = datetime(2001, 1, 1, tzinfo=UTC)
EVENT = {
    "user_id": pl.String, "item_id": pl.String, "timestamp": TIME, "signal": pl.Struct({"rating": pl.Int8}),
    "positive": pl.Boolean,
}  # fmt: skip
OPTIONAL = {"impression_id": pl.String, "impression": pl.List(pl.String), "row": pl.UInt32}
Row = tuple[Any, ...]


def event(user: str | None, item: str | None, hour: int | None, rating: int | None = 5) -> Row:
    time = None if hour is None else START + timedelta(hours=hour)
    return user, item, time, None if rating is None else {"rating": rating}, None if rating is None else rating >= 4


def made(
    events: Iterable[Row],
    users: Iterable[Any] = "ab",
    items: Iterable[Any] = "xyz",
    dropped: dict[str, int] | None = None,
) -> Tables:
    """Tables as a builder returns them; with eight values an event has the optional columns too."""
    rows, dropped = list(events), dropped or {}
    schema = {**EVENT, **OPTIONAL} if any(len(row) == len(EVENT) + len(OPTIONAL) for row in rows) else EVENT
    return Tables(
        pl.DataFrame({"user_id": list(users)}).with_columns(profile=pl.lit("{}")),
        pl.DataFrame({"item_id": list(items)}).with_columns(
            attributes=pl.lit('{"title":"T"}'), available_from=pl.lit(None, TIME)
        ),
        pl.DataFrame(rows, schema, orient="row"),
        len(rows) + sum(dropped.values()),
        dropped,
    )


def prepared(made_tables: Tables, tmp_path: Path = Path()) -> Log:
    domain = Domain("films", Path("films.py"), "4 or more", "", lambda path: SOURCE, lambda path, source: made_tables)
    return tables.prepare(domain, tmp_path, SOURCE)


def shown(log: Log) -> list[tuple[str, str, float, int]]:
    """A log's events as (user, item, hour, rating), in their order."""
    start = round(START.timestamp() * 1000)
    users, items, events = log.users["user_id"], log.items["item_id"], log.events
    return [
        (users[user], items[item], (time - start) / 3_600_000, signal["rating"])
        for user, item, time, signal in events.select("user", "item", "time", "signal").rows()
    ]


def same(one: Log, two: Log) -> bool:
    frames = ("users", "items", "events")
    return all(getattr(one, name).equals(getattr(two, name)) for name in frames) and one.dropped == two.dropped


def test_every_drop_is_counted_by_its_reason() -> None:
    log = prepared(made(
        [event("a", "x", 1), event("a", "x", 1), event("a", "x", 1, 2), event("c", "x", 1), event("a", "w", 1),
         event(None, "x", 1), event("b", "y", None), event("a", None, 1), event("a", "x", 1, None), event("b", "y", 0)],
        dropped={"unreadable": 2},
    ))  # fmt: skip
    assert log.dropped == {
        "unreadable": 2, "missing_value": 4, "user_not_described": 1, "item_not_described": 1, "duplicate_row": 1
    }  # fmt: skip
    assert log.read == log.events.height + sum(log.dropped.values()) == 12
    assert shown(log) == [("b", "y", 0, 5), ("a", "x", 1, 2), ("a", "x", 1, 5)]


def test_times_that_no_calendar_has_are_dropped() -> None:
    """Years 1 to 9999 can be written as dates; others would fail when a scene is written."""
    raw = made([event("a", "x", hour) for hour in range(6)])
    first, last = tables.CALENDAR
    times = pl.Series("timestamp", [first - 1, first, 0, last, last + 1, 2**62]).cast(TIME)
    log = prepared(replace(raw, events=raw.events.with_columns(times)))
    assert log.dropped == {"time_not_in_calendar": 3}
    assert log.events["time"].to_list() == [first, 0, last]
    edges = log.events["time"].cast(TIME).to_list()
    assert [(edges[0].year, edges[0].month, edges[0].day), edges[2].year] == [(1, 1, 1), 9999]


def test_a_drop_of_the_builder_and_ours_for_one_reason_add_up() -> None:
    reasons = ("missing_value", "user_not_described", "item_not_described", "duplicate_row")
    rows = [event("a", "x", 1), event("a", "x", 1), event("c", "x", 1), event("a", "w", 1), event(None, "x", 1)]
    log = prepared(made(rows, dropped=dict.fromkeys(reasons, 10)))
    assert log.dropped == dict.fromkeys(reasons, 11)
    assert log.read == 45 == log.events.height + sum(log.dropped.values())


def test_the_columns_of_a_log_are_typed() -> None:
    log = prepared(made([(*event("a", "x", 5), "m1", ["x", "y"], 7), (*event("b", "y", 4), "m2", ["y"], 8)]))
    assert log.events.schema == {
        "time": pl.Int64, "user": pl.Int32, "item": pl.Int32, "signal": EVENT["signal"], "positive": pl.Boolean,
        **OPTIONAL,
    }  # fmt: skip
    assert log.users.schema == {"user_id": pl.String, "profile": pl.String}
    assert log.items.schema == {"item_id": pl.String, "attributes": pl.String, "available_from": TIME}
    assert log.events["time"][1] == round((START + timedelta(hours=5)).timestamp() * 1000)
    assert log.events["row"].to_list() == [8, 7]


def test_times_in_other_units_come_out_in_milliseconds() -> None:
    raw = made([event("a", "x", 5), event("b", "y", 4)])
    fine = replace(raw, events=raw.events.with_columns(pl.col("timestamp").dt.cast_time_unit("ns")))
    assert same(prepared(fine), prepared(raw))


def test_remarks_and_warnings_are_handed_on() -> None:
    remarks = pl.LazyFrame({"row": [0], "text": ["fine"]})
    log = prepared(replace(made([event("a", "x", 5)]), remarks=remarks, warnings=("odd",)))
    assert log.remarks is remarks and log.warnings == ("odd",)


def test_availability_is_the_first_event_where_the_publisher_is_silent() -> None:
    given_date = made([event("a", "x", 5), event("b", "x", 3), event("b", "y", 4)])
    said = START - timedelta(days=1)
    items = given_date.items.with_columns(
        available_from=pl.when(pl.col("item_id") == "y").then(pl.lit(said, TIME)).otherwise(None)
    )
    log = prepared(replace(given_date, items=items))
    assert dict(log.items.select("item_id", "available_from").rows()) == {
        "x": START + timedelta(hours=3), "y": said, "z": None
    }  # fmt: skip


def test_only_events_that_are_kept_make_an_item_available() -> None:
    log = prepared(made([event("stranger", "x", 1), event("a", "x", 5), event("a", "y", 2, None), event("a", "y", 6)]))
    assert log.items["available_from"].to_list() == [START + timedelta(hours=5), START + timedelta(hours=6), None]


# Ids, of any kind


people = ("a", "q", "é", "用户", "", "a b", "\N{PERSON IN LOTUS POSITION}", "0")
rows = st.lists(
    st.tuples(st.sampled_from(people), st.sampled_from("xyzw"), st.integers(0, 4), st.integers(1, 5)),
    min_size=1, max_size=30,
)  # fmt: skip


@settings(deadline=None, max_examples=120)
@example([("a", "x", 1, 5), ("a", "x", 1, 5), ("a", "x", 1, 3), ("é", "x", 1, 5)], random.Random(0))
@given(rows, st.randoms())
def test_row_order_does_not_matter_and_counts_add_up(rows: list[Any], rng: random.Random) -> None:
    """Users are all described but `q`, and items all but `w`."""
    described = [user for user in people if user != "q"]
    given_rows = [event(*row) for row in rows]
    try:
        log = prepared(made(given_rows, users=described))
    except DataError as error:
        assert "none of" in str(error)
        assert all(row[0] == "q" or row[1] == "w" for row in rows)
        return
    shuffled = rng.sample(given_rows, len(given_rows))
    assert same(log, prepared(made(shuffled, users=described[::-1], items="zyx")))
    usable = [row for row in rows if row[0] != "q" and row[1] != "w"]
    assert shown(log) == sorted(set(usable), key=lambda row: (row[2], row[0].encode(), row[1], row[3]))
    expected = Counter(
        user_not_described=sum(row[0] == "q" for row in rows),
        item_not_described=sum(row[0] != "q" and row[1] == "w" for row in rows),
        duplicate_row=len(usable) - len(set(usable)),
    )
    assert log.dropped == +expected
    assert log.read == len(rows) == log.events.height + sum(log.dropped.values())


@pytest.mark.parametrize("kind", [pl.Int64, pl.UInt32, pl.Categorical, pl.Enum(["7", "10", "9", "100"])], ids=str)
def test_ids_are_text_whatever_they_were(kind: Any) -> None:
    """The order is that of the text, so that it does not hang on how a builder reads a file."""
    raw = made(
        [event("10", "100", 2), event("9", "7", 1), event("9", "10", 2)], users=["9", "10"], items=["7", "10", "100"]
    )
    typed = replace(
        raw,
        users=raw.users.with_columns(pl.col("user_id").cast(kind)),
        items=raw.items.with_columns(pl.col("item_id").cast(kind)),
        events=raw.events.with_columns(pl.col("user_id", "item_id").cast(kind)),
    )
    log = prepared(typed)
    assert same(log, prepared(raw))
    assert log.users["user_id"].to_list() == ["10", "9"]
    assert log.items["item_id"].to_list() == ["10", "100", "7"]
    assert shown(log) == [("9", "7", 1, 5), ("10", "100", 2, 5), ("9", "10", 2, 5)]


SMALL = 20
numbers = st.integers(0, 12) | st.sampled_from([-3, -1, SMALL - 1, SMALL, 10**6, 2**40, 2**63 - 1])


@settings(deadline=None, max_examples=150)
@example([7], [(7, 0), (None, 1), (8, 2), (-1, 3), (2**40, 4)])
@example([], [(7, 0)])
@example([0], [(-1, 0), (0, 1), (-3, 2)])
@example([-1, 3], [(-1, 0), (3, 0), (4, 0)])
@example([SMALL], [(SMALL, 0), (0, 1)])
@given(st.lists(numbers), st.lists(st.tuples(st.none() | numbers, st.integers(0, 3)), max_size=12))
def test_numbers_as_ids_are_found_as_text_would_be(described: list[int], met: list[tuple[int | None, int]]) -> None:
    """Whether they are looked up in a table, which takes small ones, or joined."""

    def log(kind: Any) -> Log | str:
        text = kind == pl.String
        spell = (lambda one: None if one is None else str(one)) if text else (lambda one: one)
        raw = made([event(None, "x", hour) for _, hour in met], users=[], items="xyz")
        ids = pl.Series("user_id", [spell(one) for one, _ in met], dtype=kind)
        users = pl.DataFrame({"user_id": pl.Series([spell(one) for one in described], dtype=kind)})
        try:
            return prepared(
                replace(raw, users=users.with_columns(profile=pl.lit("{}")), events=raw.events.with_columns(ids))
            )
        except DataError as error:
            return str(error)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "DENSE", SMALL)
        one, two = log(pl.Int64), log(pl.String)
    assert one == two if isinstance(one, str) or isinstance(two, str) else same(one, two)


@pytest.mark.parametrize("kind", [pl.Int8, pl.UInt8, pl.Int32, pl.UInt64], ids=str)
def test_the_largest_and_least_numbers_are_ids_too(kind: Any) -> None:
    largest, least = pl.select(kind.max()).item(), pl.select(kind.min()).item()
    raw = made([event(None, "x", hour) for hour in range(3)], users=[])
    ids = pl.Series("user_id", [largest, 5, least], dtype=kind)
    for described in ([5], [5, largest], [5, least], [least, largest]):
        users = pl.DataFrame({"user_id": pl.Series(described, dtype=kind)}).with_columns(profile=pl.lit("{}"))
        log = prepared(replace(raw, users=users, events=raw.events.with_columns(ids)))
        kept = [one for one in (largest, 5, least) if one in described]
        assert [who for who, *_ in shown(log)] == [str(one) for one in kept]
        assert log.dropped == ({"user_not_described": 3 - len(kept)} if len(kept) < 3 else {})


@pytest.mark.parametrize("key", ["user_id", "item_id"])
def test_ids_of_two_kinds_are_refused(key: str) -> None:
    raw = made([event("1", "1", 1), event("1", "2", 2)], users=["1"], items=["1", "2"])
    mixed = replace(raw, events=raw.events.with_columns(pl.col(key).cast(pl.Int64)))
    with pytest.raises(DataError, match=f"builder films: {key} is String where described, Int64 in events"):
        prepared(mixed)


def test_described_twice_keeps_the_first_and_no_id_is_no_description() -> None:
    raw = made([event("a", "x", 1), event("b", "x", 2)])
    users = pl.DataFrame({"user_id": ["b", None, "a", "b"], "profile": ["1", "2", "3", "4"]})
    items = pl.DataFrame({"item_id": [None, "x", "x"], "attributes": ["1", "2", "3"]}).with_columns(
        available_from=pl.lit(None, TIME)
    )
    log = prepared(replace(raw, users=users, items=items))
    assert log.users.rows() == [("a", "3"), ("b", "1")]
    assert log.items.select("item_id", "attributes").rows() == [("x", "2")]


# Events at one time, and duplicates


def test_duplicates_that_differ_elsewhere_keep_the_same_row_in_any_order() -> None:
    """A click in two impressions is two clicks; twice in one it is a duplicate, and which stays must not hang on the
    file's order."""
    one = (*event("a", "x", 1), "m1", ["x", "y"], 1)
    two = (*event("a", "x", 1), "m2", ["x", "z"], 0)
    three = (*event("a", "x", 1), "m2", ["x", "y"], 2)
    rest = [(*event("b", "y", hour), "m3", ["y"], hour) for hour in range(2, 40)]
    for order in ([one, two, three], [three, two, one], [two, one, three]):
        log = prepared(made([*rest, *order]))
        assert log.dropped == {"duplicate_row": 1}
        assert log.events.select(*OPTIONAL).rows()[:2] == [("m1", ["x", "y"], 1), ("m2", ["x", "y"], 2)]
    log = prepared(made([three, *rest, two]))
    assert log.events.select(*OPTIONAL).row(0) == ("m2", ["x", "y"], 2)


def test_missing_optional_values_are_no_reason_to_drop_an_event() -> None:
    log = prepared(made([(*event("a", "x", 1), None, None, None), (*event("a", "x", 1), None, None, 3)]))
    assert log.dropped == {"duplicate_row": 1}
    log = prepared(made([(*event("a", "x", 1), None, None, None), (*event("a", "y", 1), "m", [None, "x"], 3)]))
    assert log.dropped == {} and log.events.height == 2


def test_signals_are_compared_by_what_they_say() -> None:
    """Not by the order of their fields; a missing field is a value like others."""
    rows = [event("a", "x", hour) for hour in (1, 1, 1, 1, 2, 2)]
    raw = made(rows)
    values = [(2, None), (10, "b"), (2, None), (10, "a"), (1, "z"), (1, "z")]
    kinds: dict[str, Any] = {"r": pl.Int64, "b": pl.String}
    logs = []
    for names in (["r", "b"], ["b", "r"]):
        signal = pl.DataFrame(values, kinds, orient="row").select(pl.struct(names).alias("signal"))
        logs.append(prepared(replace(raw, events=raw.events.with_columns(signal["signal"]))))
    for log in logs:
        assert log.dropped == {"duplicate_row": 2}
        texts = log.events.select(tables.as_json(log.events, "signal")).to_series().to_list()
        assert texts == ['{"b":"a","r":10}', '{"b":"b","r":10}', '{"b":null,"r":2}', '{"b":"z","r":1}']


def test_signals_may_be_json_text_already() -> None:
    raw = made([event("a", "x", 1, 3), event("a", "x", 1, 2), event("a", "x", 1, 2)])
    text = raw.events.with_columns(tables.as_json(raw.events, "signal"))
    log = prepared(replace(raw, events=text))
    assert log.dropped == {"duplicate_row": 1}
    assert log.events["signal"].to_list() == ['{"rating":2}', '{"rating":3}']


def test_maps_as_json_have_sorted_keys_and_a_text_for_every_row() -> None:
    frame = pl.DataFrame({"map": [{"b": 1, "a": "Á", "c": None}, {"b": None, "a": '"', "c": [2.5]}], "none": [{}, {}]})
    texts = frame.select(tables.as_json(frame, "map")).to_series().to_list()
    assert texts == ['{"a":"Á","b":1,"c":null}', '{"a":"\\"","b":null,"c":[2.5]}']
    assert frame.select(tables.as_json(frame, "none")).to_series().to_list() == ["{}", "{}"]
    frame = pl.DataFrame({"map": ['{"b":1,"a":2}', None]})
    assert frame.select(tables.as_json(frame, "map")).equals(frame)


# What builders may get wrong


def test_a_builder_that_loses_rows_silently_is_refused() -> None:
    with pytest.raises(DataError, match="read 5 rows but accounts for 2"):
        prepared(replace(made([event("a", "x", 1), event("b", "x", 2)]), read=5))


COLUMNS = [(frame, column) for frame, schema in (("users", USERS), ("items", ITEMS), ("events", EVENTS))
           for column in schema.names]  # fmt: skip


@pytest.mark.parametrize(("frame", "column"), COLUMNS)
def test_a_builder_that_lacks_a_column_is_refused_unless_it_is_optional(frame: str, column: str) -> None:
    whole = made([(*event("a", "x", 1), "m", ["x"], 0), (*event("b", "x", 2), "m", ["x"], 0)])
    whole = replace(whole, users=whole.users.with_columns(history=pl.lit(None, pl.List(pl.String))))
    less = replace(whole, **{frame: getattr(whole, frame).drop(column)})
    if column in ("history", "impression_id", "impression"):
        assert prepared(less).events.height == 2
    else:
        with pytest.raises(DataError, match=f"its {frame} lack {column}"):
            prepared(less)


def test_nothing_usable_and_no_folder_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of 1 rows"):
        prepared(made([event("stranger", "x", 1)]))
    with pytest.raises(DataError, match="none of 0 rows"):
        prepared(made([]))
    with pytest.raises(DataError, match="not a folder"):
        prepared(made([event("a", "x", 1)]), tmp_path / "nowhere")


# Written tables


def test_what_is_written_is_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = made(
        [
            (*event("a", "x", 1, 3), None, None, 0),
            (*event("b", "y", 2), "m1", ["y", "gone"], 1),
            (*event("a", "z", 3), "m2", [], 2),
        ]
    )
    raw = replace(
        raw,
        users=raw.users.with_columns(
            profile=pl.Series([{"name": "Á", "age": 3}, {"name": None, "age": None}]),
            history=pl.Series([["z", "gone", "z"], None]),
        ),
        items=raw.items.with_columns(available_from=pl.Series([START, None, None], dtype=TIME)),
    )
    tables.write(tmp_path / "whole", prepared(raw))
    assert read_rows(tmp_path / "whole" / "users.parquet") == [
        {"user_id": "a", "profile": {"age": 3, "name": "Á"}, "history": ["z", "gone", "z"]},
        {"user_id": "b", "profile": {"age": None, "name": None}, "history": None},
    ]
    assert read_rows(tmp_path / "whole" / "items.parquet") == [
        {"item_id": item, "attributes": {"title": "T"}, "available_from": when}
        for item, when in (("x", START), ("y", START + timedelta(hours=2)), ("z", START + timedelta(hours=3)))
    ]
    events = read_rows(tmp_path / "whole" / "events.parquet")
    keys = ("user_id", "item_id", "timestamp", "signal", "positive", "impression_id", "impression")
    assert events == [
        dict(zip(keys, ("a", "x", START + timedelta(hours=1), {"rating": 3}, False, None, None), strict=True)),
        dict(zip(keys, ("b", "y", START + timedelta(hours=2), {"rating": 5}, True, "m1", ["y", "gone"]), strict=True)),
        dict(zip(keys, ("a", "z", START + timedelta(hours=3), {"rating": 5}, True, "m2", []), strict=True)),
    ]
    # However many events are written at a time.
    monkeypatch.setattr(tables, "SLICE", 2)
    tables.write(tmp_path / "parts", prepared(raw))
    assert read_rows(tmp_path / "parts" / "events.parquet") == events
    for name, schema in (("users", USERS), ("items", ITEMS), ("events", EVENTS)):
        for folder in ("whole", "parts"):
            written = pq.read_schema(tmp_path / folder / f"{name}.parquet")
            assert written.equals(schema) and written.metadata[b"huggingface"] == schema.metadata[b"huggingface"]


def test_items_of_a_history_are_text_even_where_they_were_numbers(tmp_path: Path) -> None:
    raw = made([event("1", "3", 1), event("1", "4", 2)], users=["1"], items=["3", "4"])
    raw = replace(raw, users=raw.users.with_columns(history=pl.Series([[4, 3]])))
    tables.write(tmp_path, prepared(raw))
    assert read_rows(tmp_path / "users.parquet")[0]["history"] == ["4", "3"]


def test_without_histories_and_impressions_the_columns_are_there_and_empty(tmp_path: Path) -> None:
    tables.write(tmp_path, prepared(made([event("a", "x", 1), event("b", "x", 2)])))
    assert {row["history"] for row in read_rows(tmp_path / "users.parquet")} == {None}
    events = read_rows(tmp_path / "events.parquet")
    assert {(row["impression_id"], row["impression"]) for row in events} == {(None, None)}


def test_written_tables_come_back(built: Path, movielens: Domain, raw: Path, tmp_path: Path) -> None:
    log = tables.prepare(movielens, raw, movielens.detect(raw))
    tables.write(tmp_path, log)
    for name in ("users", "items", "events"):
        assert (tmp_path / f"{name}.parquet").read_bytes() == (
            built / "movielens" / "tables" / f"{name}.parquet"
        ).read_bytes()
    rows = read_rows(tmp_path / "events.parquet")
    assert len(rows) == log.events.height
    signals = log.events.select(tables.as_json(log.events, "signal")).to_series()
    assert [row["signal"] for row in rows] == [json.loads(text) for text in signals]
    assert [row["timestamp"].timestamp() * 1000 for row in rows] == log.events["time"].to_list()
    assert [row["user_id"] for row in rows] == log.users["user_id"].gather(log.events["user"]).to_list()
    assert [row["item_id"] for row in rows] == log.items["item_id"].gather(log.events["item"]).to_list()
    assert read_rows(tmp_path / "items.parquet")[0]["attributes"]["title"]


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


def test_reviews_that_differ_in_their_remarks_alone_are_two() -> None:
    """Ties are told apart by what is too large to be held, whatever order the rows were in."""
    for texts in (["good", "bad", "good"], ["bad", "good", "good"]):
        raw = made([(*event("a", "x", 1), None, None, row) for row in range(3)])
        said = pl.DataFrame({"row": range(3), "text": texts}, {"row": raw.events.schema["row"], "text": pl.String})
        log = prepared(replace(raw, remarks=said.lazy()))
        assert log.dropped == {"duplicate_row": 1}
        assert [texts[row] for row in log.events["row"]] == ["bad", "good"]
