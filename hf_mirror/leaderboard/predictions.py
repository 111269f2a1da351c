"""Predictions beside a results file, as far as two models are compared by them: strangers write these too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hf_mirror.alignment import SCORED_COLUMNS, Row
from hf_mirror.alignment.table import is_headline
from hf_mirror.errors import DataError
from hf_mirror.files import read_table, sha256_file
from hf_mirror.leaderboard.checking import Result
from hf_mirror.results import WHOLE

Answers = Sequence[Sequence[float] | None]
KEY = ["scene_id", "variant_id"]
MOST_VALUES = 1000  # per benchmark row


def headline_rows(path: Path) -> list[Row] | None:
    """The rows of a benchmark's file that count as samples; None for those of a closed domain, which hold no truth."""
    if not set(SCORED_COLUMNS) <= set(pq.read_schema(path).names):
        return None
    return [row for row in read_table(path, list(SCORED_COLUMNS)).to_pylist() if is_headline(row)]


def answers_of(path: Path, result: Result, rows: Sequence[Row]) -> Answers:
    """Option probabilities of every row, empty for failures. DataError where the file is not the one that the result
    names, lacks a row, or holds what are no probabilities."""
    if result.get("predictions_sha256", "") not in ("", sha256_file(path)):
        raise DataError("is not the file that the results name: its SHA-256 is another")
    try:
        about = pq.read_metadata(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"is not a whole Parquet file ({type(error).__name__})") from None
    groups = [about.row_group(i) for i in range(about.num_row_groups)]
    if sum(group.column(i).num_values for group in groups for i in range(group.num_columns)) > MOST_VALUES * len(rows):
        raise DataError("holds more values than the benchmark has rows for")
    try:
        table = read_table(path, [*KEY, "choice_probs"]).to_pylist()
    except DataError:
        raise DataError(f"has no columns {', '.join(KEY)} and choice_probs") from None
    held = {(row["scene_id"], row["variant_id"]): row["choice_probs"] for row in table}
    return [_probabilities(held, row) for row in rows]


def _probabilities(held: dict[tuple[str, str], Any], row: Row) -> list[float]:
    key = row["scene_id"], row["variant_id"]
    if key not in held:
        raise DataError(f"has no row {'/'.join(key)}")
    probs = held[key] or []
    fits = isinstance(probs, list) and len(probs) in (0, len(row["options"]))
    if not fits or not all(isinstance(p, float) and 0 <= p <= 1 for p in probs):
        raise DataError(f"has no probabilities of {len(row['options'])} options in row {'/'.join(key)}")
    if probs and abs(sum(probs) - 1) > WHOLE:
        raise DataError(f"has probabilities that do not add up to 1 in row {'/'.join(key)}")
    return probs
