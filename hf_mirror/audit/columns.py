"""A table of choices as arrays. Columns are known by their names, options by what they are.

Options are lists of texts or structs, parallel lists of texts and labels (as in
https://huggingface.co/datasets/allenai/ai2_arc), or either as JSON text; answers are slots from 0, letters, labels, or
the text of an option.
"""

from __future__ import annotations

import re
import string
from pathlib import Path

import numpy as np
import polars as pl

from hf_mirror.audit.choices import Choices, clusters
from hf_mirror.audit.items import with_items
from hf_mirror.errors import DataError
from hf_mirror.metrics import Floats, Ints

OPTIONS = ("exposure", "options", "candidates", "choices", "endings")
ANSWERS = ("choice_index", "gold_index", "answer_index", "label", "answer", "answerKey")
USERS = ("user_id", "user_cluster", "user")
KNOWN = {*OPTIONS, *ANSWERS, *USERS, "scene_id", "variant", "regime", "gap_seconds", "timestamp"}
LETTERS = {letter: slot for slot, letter in enumerate(string.ascii_uppercase)}
MOST_SOURCES = 16
# Names of options, and what is about the user rather than the option: no features.
NO_FEATURE = re.compile(r"(.*_)?(id|key)|row|slot|timestamp|repeated")


def first_of(names: tuple[str, ...], columns: list[str]) -> str | None:
    """The first of some names that is a column."""
    return next((name for name in names if name in columns), None)


def choices_of(table: pl.DataFrame, where: str, regime: str = "unknown", tables: Path | None = None) -> Choices:
    """One table of choices, a scene per row; `tables` is the folder of a run's tables, which say more of its options.

    Of rows that share a `scene_id`, variants of one scene, only the one in random order counts, or else the first.
    Without a column of users every row is one. Raises DataError, with the row, where options or answers do not read.
    """
    option, answer, user = (first_of(names, table.columns) for names in (OPTIONS, ANSWERS, USERS))
    if option is None or answer is None:
        raise DataError(f"{where}: found columns {', '.join(table.columns)}; expected options and an answer")
    table = _one_per_scene(table).with_row_index("row")
    options = _exploded(table, option, where)
    n_options = np.bincount(options["row"], minlength=table.height)
    if (n_options == 0).any():
        raise DataError(
            f"{where}, row {int((n_options == 0).argmax()) + 1}: found no options in {option}; leave it out"
        )
    truth = _truth(table, options, answer, where)
    if (wrong := (truth < 0) | (truth >= n_options)).any():
        row = int(wrong.argmax())
        found = f"{table[answer][row]!r} in {answer}, {n_options[row]} options"
        raise DataError(f"{where}, row {row + 1}: found {found}; expected a slot from 0, a letter, or an option's text")
    options = with_items(options, tables) if tables else options
    cluster = _clusters(table[user]) if user else np.arange(table.height)
    gaps = table["gap_seconds"].fill_null(-1).to_numpy() if "gap_seconds" in table.columns else None
    return Choices(n_options, truth, cluster, _features(options, n_options), gaps, regime)


def _one_per_scene(table: pl.DataFrame) -> pl.DataFrame:
    if "scene_id" not in table.columns:
        return table
    if "variant" in table.columns:
        table = table.sort(pl.col("variant").struct.field("order") != "random", maintain_order=True)
    return table.unique("scene_id", keep="first", maintain_order=True)


def _exploded(table: pl.DataFrame, option: str, where: str) -> pl.DataFrame:
    """A line per option: `row`, `slot`, and its `text` (with its `key` where it has a label) or the fields of its
    struct."""
    column = table[option]
    if column.dtype == pl.String:
        try:
            column = column.str.json_decode(infer_schema_length=None)
        except pl.exceptions.PolarsError:
            raise DataError(f"{where}: column {option} holds text that is no JSON list; expected lists") from None
    frame = table.select(name for name in ("row", "timestamp") if name in table.columns)
    if isinstance(column.dtype, pl.Struct):
        frame = frame.hstack(column.struct.unnest().rename({"label": "key"}, strict=False))
        lists = [name for name, kind in frame.schema.items() if isinstance(kind, pl.List)]
    else:
        frame = frame.with_columns(text=column)
        lists = ["text"] * isinstance(column.dtype, pl.List)
    if not lists:
        raise DataError(f"{where}: column {option} is {column.dtype}; expected a list of options per row")
    frame = frame.explode(lists, empty_as_null=False)
    frame = frame.unnest("text") if isinstance(frame.schema.get("text"), pl.Struct) else frame
    return frame.with_columns(slot=pl.int_range(pl.len()).over("row"))


def _truth(table: pl.DataFrame, options: pl.DataFrame, answer: str, where: str) -> Ints:
    """The slot of every row's answer, -1 where it is none: by the reading that fits the most rows."""
    given = table[answer]
    if given.dtype.is_integer():
        return given.fill_null(-1).cast(pl.Int64).to_numpy()
    if given.dtype != pl.String:
        raise DataError(f"{where}: column {answer} is {given.dtype}; expected a slot, a letter or an option's text")
    bare = given.str.strip_chars()
    readings = [_matching(table, options, answer, field) for field in ("key", "text") if field in options.columns]
    readings += [bare.replace_strict(LETTERS, default=None, return_dtype=pl.Int64), bare.cast(pl.Int64, strict=False)]
    return min(readings, key=lambda slots: slots.null_count()).fill_null(-1).to_numpy()


def _matching(table: pl.DataFrame, options: pl.DataFrame, answer: str, field: str) -> pl.Series:
    """Per row, the first slot whose `field` is the answer."""
    slots = (
        options.select("row", "slot", pl.col(field).cast(pl.String))
        .join(table.select("row", given=answer), on="row")
        .filter(pl.col(field) == pl.col("given"))
        .group_by("row").agg(pl.col("slot").min().cast(pl.Int64))
    )  # fmt: skip
    return table.select("row").join(slots, on="row", how="left", maintain_order="left")["slot"]


def _clusters(users: pl.Series) -> Ints:
    names = users.cast(pl.String).fill_null("")
    return clusters(names.unique().sort().to_list())[names.rank("dense").cast(pl.Int64).to_numpy() - 1]


def _features(options: pl.DataFrame, n_options: Ints) -> dict[str, Floats]:
    """Numbers as they are, texts by their length in characters, a `source` by its code."""
    found = {}
    for name, kind in options.schema.items():
        values = options[name]
        if NO_FEATURE.fullmatch(name):
            continue
        if name == "source" and values.n_unique() <= MOST_SOURCES:
            values = values.rank("dense")
        elif kind == pl.String:
            name, values = f"{name}_length", values.str.len_chars()
        elif not (kind.is_numeric() or kind == pl.Boolean):
            continue
        found[name] = np.full((len(n_options), int(n_options.max(initial=1))), np.nan)
        found[name][options["row"], options["slot"]] = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return found
