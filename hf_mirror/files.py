"""Files that are whole or absent: Parquet rows with their features, and JSON reports.

Everything is written beside its target, flushed to disk, then renamed, so that a killed run leaves either the old
file or the new one. The same rows give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from hf_mirror.errors import DataError

if TYPE_CHECKING:
    from datasets import Features


def canonical_json(value: Any) -> str:
    """One spelling per value: sorted keys, no spaces, unescaped UTF-8. What hashes and `Json` columns are made of."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


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


def to_arrow(rows: pa.Table | Iterable[Mapping[str, Any]], features: Features) -> pa.Table:
    """Rows (dicts, open maps as values or JSON text) or an Arrow table, in the columns and types of `features`."""
    from datasets.table import table_cast

    if not isinstance(rows, pa.Table):
        plain = pa.schema([(field.name, _storage(field.type)) for field in features.arrow_schema])
        rows = pa.Table.from_pylist([_encode(row, features) for row in rows], schema=plain)
    return table_cast(rows.select(list(features)), features.arrow_schema)


def write_rows(path: Path, rows: pa.Table | Iterable[Mapping[str, Any]], features: Features) -> int:
    """Writes one Parquet file that `load_dataset` reads back with exactly `features`. Returns the number of rows."""
    table = to_arrow(rows, features)
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=10_000)
    return table.num_rows


def read_table(path: Path) -> pa.Table:
    """One Parquet file as Arrow; a missing or truncated one is a DataError that names it."""
    try:
        return pq.read_table(path)
    except FileNotFoundError:
        raise DataError(f"{path} is missing; run the stage that writes it first") from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a whole Parquet file ({error}); delete it and run its stage again") from None


def read_rows(path: Path) -> list[dict[str, Any]]:
    """One Parquet file as Python rows, open maps decoded."""
    from datasets import Features

    table = read_table(path)
    features = Features.from_arrow_schema(table.schema)
    return [_decode(row, features) for row in table.to_pylist()]


def _storage(kind: pa.DataType) -> pa.DataType:
    if isinstance(kind, pa.BaseExtensionType):
        return kind.storage_type
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _storage(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(_storage(kind.value_type))
    return kind


def _encode(value: Any, feature: Any) -> Any:
    return _walk(value, feature, lambda v: v if isinstance(v, str) else canonical_json(v))


def _decode(value: Any, feature: Any) -> Any:
    return _walk(value, feature, lambda v: json.loads(v) if isinstance(v, str) else v)


def _walk(value: Any, feature: Any, on_map: Any) -> Any:
    """Applies `on_map` wherever `feature` is an open map, and leaves everything else as it is."""
    from datasets import Json, List

    if value is None:
        return None
    if isinstance(feature, Json):
        return on_map(value)
    if isinstance(feature, List):
        return [_walk(item, feature.feature, on_map) for item in value]
    if isinstance(feature, dict):
        return {name: _walk(value.get(name), inner, on_map) for name, inner in feature.items()}
    return value
