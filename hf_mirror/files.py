"""Files that are whole or absent: Parquet rows with their features, and JSON reports.

Everything is written beside its target, flushed to disk, then renamed, so that a killed run leaves either the old
file or the new one. The same rows give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hf_mirror.errors import DataError

ROW_GROUP = 10_000
_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def canonical_json(value: Any) -> str:
    """One spelling per value: sorted keys, no spaces, unescaped UTF-8. What hashes and `Json` columns are made of."""
    return _CANONICAL.encode(value)


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's contents, in hex, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it takes `path`'s place, on any error it disappears."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.filename is None and error.errno is not None:  # such as a full disk, which Arrow names nothing of
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, keys in the order given."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Reads a JSON file; a missing or half-written one is a DataError that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} is missing; run the stage that writes it first") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path} is not JSON ({error}); delete it and run the stage that writes it again") from None


def to_arrow(rows: pa.Table | Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows (dicts, open maps as values or JSON text) or an Arrow table, in the columns and types of `schema`."""
    if not isinstance(rows, pa.Table):
        plain = pa.schema([(field.name, _storage(field.type)) for field in schema])
        encoded = [{field.name: _encode(row.get(field.name), field.type) for field in schema} for row in rows]
        rows = pa.Table.from_pylist(encoded, schema=plain)
    return rows.select(schema.names).cast(schema)


def write_rows(path: Path, rows: pa.Table | Iterable[Mapping[str, Any]], schema: pa.Schema) -> int:
    """Writes one Parquet file that `load_dataset` reads back with exactly the features of `schema` (schema.py).
    Returns the number of rows."""
    table = to_arrow(rows, schema)
    with replacing(path) as temporary:
        _write(table, temporary)
    return table.num_rows


def parquet(table: pa.Table) -> bytes:
    """A table as the bytes of a Parquet file."""
    with pa.BufferOutputStream() as stream:
        _write(table, stream)
    return stream.getvalue().to_pybytes()


def _write(table: pa.Table, where: Path | pa.NativeFile) -> None:
    whole = table.combine_chunks()  # where chunks end, Parquet's pages end
    pq.write_table(whole, where, compression="zstd", row_group_size=ROW_GROUP)


def arrow(values: np.ndarray | list[str], missing: np.ndarray | None = None) -> pa.Array:
    """An Arrow array, null where `missing`. `pyarrow.array` would import pandas, which takes a third of a second."""
    import polars as pl

    column = pl.Series(values) if isinstance(values, np.ndarray) else pl.Series(values, dtype=pl.String)
    if missing is not None:
        column = pl.select(pl.when(pl.Series(~missing)).then(column)).to_series()
    return column.to_arrow(compat_level=pl.CompatLevel.oldest())


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """One Parquet file as Arrow, or some columns; a missing or truncated one is a DataError that names it."""
    with _whole(path):
        table = pq.read_table(path, columns=columns)
    if missing := set(columns or ()) - set(table.column_names):
        raise DataError(f"{path} has no column {', '.join(sorted(missing))}; delete it and run its stage again")
    return table


def read_batches(path: Path, size: int, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Columns of a Parquet file, `size` rows after `size` rows, without holding all of it; errors as `read_table`."""
    with _whole(path), pq.ParquetFile(path) as file:
        if missing := set(columns) - set(file.schema_arrow.names):
            raise DataError(f"{path} has no column {', '.join(sorted(missing))}; delete it and run its stage again")
        yield from file.iter_batches(size, columns=columns)


def count_rows(path: Path) -> int:
    """The number of rows of a Parquet file; errors as `read_table`."""
    with _whole(path):
        return int(pq.read_metadata(path).num_rows)


def read_rows(path: Path, columns: list[str] | None = None) -> list[dict[str, Any]]:
    """One Parquet file, or some columns, as Python rows, open maps decoded."""
    return rows_of(read_table(path, columns))


def rows_of(table: pa.Table | pa.RecordBatch) -> list[dict[str, Any]]:
    """Arrow rows as Python rows, open maps decoded."""
    return [{field.name: _decode(row[field.name], field.type) for field in table.schema} for row in table.to_pylist()]


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path} is missing; run the stage that writes it first") from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a whole Parquet file ({error}); delete it and run its stage again") from None


def _storage(kind: pa.DataType) -> pa.DataType:
    if isinstance(kind, pa.BaseExtensionType):
        return kind.storage_type
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _storage(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(_storage(kind.value_type))
    return kind


def _encode(value: Any, kind: pa.DataType) -> Any:
    return _walk(value, kind, lambda v: v if isinstance(v, str) else canonical_json(v))


def _decode(value: Any, kind: pa.DataType) -> Any:
    return _walk(value, kind, lambda v: json.loads(v) if isinstance(v, str) else v)


def _walk(value: Any, kind: pa.DataType, on_map: Callable[[Any], Any]) -> Any:
    """Applies `on_map` wherever `kind` is an open map, and leaves everything else as it is."""
    if value is None:
        return None
    if isinstance(kind, pa.BaseExtensionType):
        return on_map(value)
    if pa.types.is_list(kind):
        return [_walk(item, kind.value_type, on_map) for item in value]
    if pa.types.is_struct(kind):
        return {field.name: _walk(value.get(field.name), field.type, on_map) for field in kind}
    return value
