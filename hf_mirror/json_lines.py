"""Which line of a file of JSON lines is wrong, and how: Polars, which reads such files fast, does not say."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import NoReturn

import polars as pl

from hf_mirror.errors import DataError

LINES_AT_A_TIME = 50_000
EXPECTED = "expected one JSON object per line"
AGAIN = "download it again"
KINDS = {pl.Float64: "a number", pl.Int64: "a whole number", pl.Boolean: "true or false", pl.List: "a list"}


def refuse(path: Path, schema: Mapping[str, pl.DataType], error: Exception) -> NoReturn:
    """Reads a file, compressed or not, again after `pl.scan_ndjson(path, schema=schema)` failed with `error`, and
    raises the DataError that names the first bad line. No line is quoted, since people's names may stand in it."""
    number = 0
    with path.open("rb") as raw:
        packed = raw.peek(2).startswith(b"\x1f\x8b")
        lines = _lines(path, gzip.GzipFile(fileobj=raw) if packed else raw)
        while batch := list(islice(lines, LINES_AT_A_TIME)):
            if _parses(batch, schema):
                number += len(batch)
                continue
            while len(batch) > 1:
                half = len(batch) // 2
                good = _parses(batch[:half], schema)
                batch, number = (batch[half:], number + half) if good else (batch[:half], number)
            raise DataError(f"{path}:{number + 1}: found {_fault(batch[0], schema)}; {AGAIN}")
    raise DataError(f"{path} does not parse ({str(error).splitlines()[0]}); {EXPECTED}; {AGAIN}")


def _lines(path: Path, file: Iterable[bytes]) -> Iterator[bytes]:
    number = 0
    try:
        for line in file:
            yield line
            number += 1
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path}:{number + 1}: the compressed data end or break here ({error}); {AGAIN}") from None


def _parses(lines: list[bytes], schema: Mapping[str, pl.DataType]) -> bool:
    try:
        pl.read_ndjson(b"".join(lines), schema=schema)
    except pl.exceptions.PolarsError:
        return False
    return True


def _fault(line: bytes, schema: Mapping[str, pl.DataType]) -> str:
    """What is wrong with a line, in words."""
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return f"bytes that are not UTF-8 at character {error.start + 1}, expected UTF-8"
    except json.JSONDecodeError as error:
        return f"no JSON at character {error.pos + 1} ({error.msg}), {EXPECTED}"
    except (ValueError, RecursionError):
        return f"JSON with a number or a nesting beyond all bounds, {EXPECTED}"
    if not isinstance(row, dict):
        return f"a JSON {type(row).__name__}, {EXPECTED}"
    for name, kind in schema.items():
        if name in row and not _parses([json.dumps({name: row[name]}).encode()], {name: kind}):
            value = "a text" if isinstance(row[name], str) else f"a JSON {type(row[name]).__name__}"
            return f"{value} as {name}, expected {KINDS.get(kind.base_type(), 'a text')}"
    return f"JSON that does not parse, {EXPECTED}"
