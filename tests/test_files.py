"""Files are whole or absent, the same rows give the same bytes, and `datasets` reads back exactly what was written."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset, Features, Json, List, Value
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hf_mirror import PROJECT, files, schema
from hf_mirror.errors import DataError
from hf_mirror.schema import EVENTS, MAP, SCENE, TEXT, TIME, rows_of

OPEN = rows_of({"id": TEXT, "map": MAP, "list": [{"item": TEXT, "signal": MAP}]})
leaves = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text()
values = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
maps = st.dictionaries(st.text(), values, max_size=4)
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(maps)
def test_canonical_json_has_one_spelling_per_value(value: dict) -> None:
    backwards = dict(reversed(value.items()))
    assert files.canonical_json(value) == files.canonical_json(backwards)
    assert json.loads(files.canonical_json(value)) == value


def test_canonical_json_is_compact_and_unescaped() -> None:
    assert files.canonical_json({"b": "Á", "a": [1, 2]}) == '{"a":[1,2],"b":"Á"}'


@quick
@given(rows=st.lists(st.fixed_dictionaries({"id": st.text(), "map": maps, "signal": maps}), max_size=3))
def test_open_maps_come_back_as_they_went_in(tmp_path: Path, rows: list[dict]) -> None:
    full = [{"id": r["id"], "map": r["map"], "list": [{"item": r["id"], "signal": r["signal"]}]} for r in rows]
    assert files.write_rows(tmp_path / "rows.parquet", full, OPEN) == len(full)
    assert files.read_rows(tmp_path / "rows.parquet") == full


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    rows = [{"id": str(i), "map": {"b": i, "a": "Á"}, "list": []} for i in range(50)]
    spelled_otherwise = [{**row, "map": f'{{"a":"Á","b":{row["map"]["b"]}}}'} for row in rows]
    files.write_rows(tmp_path / "one.parquet", rows, OPEN)
    files.write_rows(tmp_path / "two.parquet", spelled_otherwise, OPEN)
    files.write_rows(tmp_path / "other.parquet", rows[1:], OPEN)
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    assert (tmp_path / "one.parquet").read_bytes() != (tmp_path / "other.parquet").read_bytes()


def test_datasets_reads_back_exactly_the_features(built: Path, tmp_path: Path) -> None:
    for path, features in (
        (built / "movielens" / "scenes" / "train.parquet", SCENE),
        (built / "movielens" / "tables" / "events.parquet", EVENTS),
    ):
        loaded = Dataset.from_parquet(str(path), cache_dir=str(tmp_path), keep_in_memory=True)
        assert loaded.features == Features.from_arrow_schema(features)
        ours = files.read_rows(path)
        assert loaded.num_rows == len(ours) > 0
        assert loaded[0] == ours[0]


def test_times_are_utc_milliseconds_and_may_be_missing(tmp_path: Path) -> None:
    when = datetime(2001, 2, 3, 4, 5, 6, 789_000, tzinfo=UTC)
    files.write_rows(tmp_path / "times.parquet", [{"t": when}, {"t": None}], rows_of({"t": TIME}))
    assert [row["t"] for row in files.read_rows(tmp_path / "times.parquet")] == [when, None]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    files.write_json(target, {"good": True})
    with pytest.raises(ValueError, match=r"Out of range|not JSON compliant"):
        files.write_json(target, {"bad": float("nan")})
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError)):
        files.write_rows(target, [{"t": "not a time"}], rows_of({"t": TIME}))
    with pytest.raises(RuntimeError), files.replacing(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert files.read_json(target) == {"good": True}
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    files.write_json(target, {"good": True})
    code = (
        "import os, pathlib, signal\nfrom hf_mirror.files import replacing\n"
        f"with replacing(pathlib.Path({str(target)!r})) as t:\n"
        "    t.write_text('{\"half\"')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(PROJECT)}, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert files.read_json(target) == {"good": True}


@pytest.mark.parametrize("content", [None, b"", b'{"half": ', b"\xff\xfe", b"\x00\x00"])
def test_a_json_file_that_is_missing_or_broken_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "report.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"report\.json"):
        files.read_json(path)


def test_a_parquet_file_cut_anywhere_is_named(tmp_path: Path) -> None:
    whole = tmp_path / "whole.parquet"
    files.write_rows(whole, [{"id": str(i), "map": {}, "list": []} for i in range(30)], OPEN)
    data = whole.read_bytes()
    cut = tmp_path / "cut.parquet"
    for length in (0, 1, 4, 8, len(data) // 2, len(data) - 9, len(data) - 1):
        cut.write_bytes(data[:length])
        with pytest.raises(DataError, match=r"cut\.parquet"):
            files.read_table(cut)
    with pytest.raises(DataError, match=r"gone\.parquet"):
        files.read_rows(tmp_path / "gone.parquet")


def test_a_parquet_file_with_a_damaged_page_is_named(tmp_path: Path) -> None:
    path = tmp_path / "damaged.parquet"
    files.write_rows(path, [{"id": f"{i} {i * i}", "map": {}, "list": []} for i in range(500)], OPEN)
    data = bytearray(path.read_bytes())
    data[40:400] = bytes(360)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"damaged\.parquet"):
        files.read_rows(path)


def test_a_table_loses_columns_that_are_not_in_the_features(tmp_path: Path) -> None:
    table = pa.table({"extra": ["x"], "t": [None]})
    files.write_rows(tmp_path / "narrow.parquet", table, rows_of({"t": TIME}))
    assert files.read_rows(tmp_path / "narrow.parquet") == [{"t": None}]


def test_sha256_file_is_the_plain_digest(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert files.sha256_file(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# Schemas, and Arrow arrays made without pandas


@pytest.mark.parametrize("name", ["USERS", "ITEMS", "EVENTS", "SCENE", "RATIONALE", "READING", "READ_RATIONALE", "PAIR",
                                  "PREDICTION", "BENCH"])  # fmt: skip
def test_schemas_say_to_datasets_what_they_say_to_arrow(name: str) -> None:
    ours = getattr(schema, name)
    features = Features.from_arrow_schema(ours)
    assert list(features) == ours.names
    theirs = features.arrow_schema
    assert theirs.remove_metadata().equals(ours.remove_metadata())
    assert json.loads(theirs.metadata[b"huggingface"]) == json.loads(ours.metadata[b"huggingface"])


def test_a_schema_by_hand() -> None:
    kinds = {
        "id": TEXT,
        "at": TIME,
        "map": MAP,
        "p": [pa.float32()],
        "one": {"n": pa.int32(), "many": [{"x": pa.float64()}]},
    }
    ours = rows_of(kinds)
    assert ours.types == [
        pa.string(), pa.timestamp("ms", "UTC"), pa.json_(), pa.list_(pa.float32()),
        pa.struct([("n", pa.int32()), ("many", pa.list_(pa.struct([("x", pa.float64())])))]),
    ]  # fmt: skip
    assert Features.from_arrow_schema(ours) == Features(
        {
            "id": Value("string"), "at": Value("timestamp[ms, tz=UTC]"), "map": Json(), "p": List(Value("float32")),
            "one": {"n": Value("int32"), "many": List({"x": Value("float64")})},
        }
    )  # fmt: skip
    assert rows_of({}).names == []


scalars = {"ints": st.integers(-(2**63), 2**63 - 1), "floats": st.floats(), "flags": st.booleans()}
KINDS = {"ints": np.int64, "floats": np.float64, "flags": np.bool_}


@given(st.data())
def test_numbers_become_arrow_and_null_where_missing(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(scalars)))
    values = data.draw(st.lists(scalars[kind]))
    lost = data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))
    check_arrow(KINDS[kind], values, lost)


def check_arrow(kind: type, values: list, lost: list[bool]) -> None:
    array = np.array(values, kind)
    plain, holed = files.arrow(array), files.arrow(array, np.array(lost, bool))
    assert plain.type == holed.type == pa.from_numpy_dtype(array.dtype)
    assert plain.null_count == 0
    assert repr(plain.to_pylist()) == repr(array.tolist())
    assert repr(holed.to_pylist()) == repr([None if gone else x for x, gone in zip(array.tolist(), lost, strict=True)])


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32, np.uint8, np.uint32, np.uint64, np.float32])
def test_small_numbers_keep_their_type(kind: type) -> None:
    check_arrow(kind, [0, 1, 100], [False, True, False])


@example(["a", None, ""])
@given(st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"]))))
def test_text_becomes_arrow(values: list[str]) -> None:
    """Also where there is none, or only nulls."""
    array = files.arrow(values)
    assert array.type in (pa.string(), pa.large_string())
    assert array.to_pylist() == values
    assert array.cast(pa.string()).to_pylist() == values


def test_arrow_does_not_wait_for_pandas() -> None:
    code = (
        "import sys, numpy, pyarrow\nfrom hf_mirror.files import arrow, to_arrow\n"
        "from hf_mirror.schema import TEXT, rows_of\n"
        "arrow(numpy.arange(3), numpy.arange(3) > 1)\narrow(['a', 'b'])\n"
        "to_arrow(pyarrow.table({'a': arrow(['b'])}), rows_of({'a': TEXT}))\n"
        "assert not {'pandas', 'datasets', 'torch'} & set(sys.modules), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(PROJECT)}, timeout=60, check=True)


def test_open_maps_may_be_given_as_values_or_as_text() -> None:
    rows = [
        {"id": "1", "map": {"b": 1, "a": [None]}, "list": [{"item": "x", "signal": '{"r":1}'}]},
        {"id": "2", "map": "{}"},
    ]
    table = files.to_arrow(rows, OPEN)
    assert table.schema.equals(OPEN)
    assert table["map"].to_pylist() == ['{"a":[null],"b":1}', "{}"]
    assert table["list"].to_pylist() == [[{"item": "x", "signal": '{"r":1}'}], None]
    text = pa.table(
        {"list": table["list"], "id": pa.chunked_array([["1", "2"]], pa.large_string()), "map": table["map"]}
    )
    assert files.to_arrow(text, OPEN).equals(table)
