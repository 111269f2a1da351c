"""Written and read decisions as columns, joined by scene and sample, for everything that scores them at once.

The join refuses what must not be mixed: rows of other scenes or of the other role, the same row twice, unread
decisions, and probabilities that are not a distribution over the scene's options.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hf_mirror import uncertainty
from hf_mirror.errors import DataError
from hf_mirror.files import arrow
from hf_mirror.rationales.shards import ROLES, SPLITS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Columns = dict[str, np.ndarray]
Model = tuple[str, str]  # name, revision

SHOWN = ["scene_id", "user_id", "gap_seconds", "choice_index", "exposure.list.element.asof_count"]
WRITTEN = [
    "scene_id",
    "role",
    "sample_index",
    "stated_choice",
    "parse_error",
    "finish_reason",
    "model",
    "model_revision",
]
READ = ["scene_id", "role", "sample_index", "reader", "reader_revision", "choice_probs", "ifd"]
DIRECT = ["scene_id", "reader", "reader_revision", "choice_probs"]


def read_scenes(folder: Path) -> Columns:
    """The train and validation scenes of a domain: id, split, row, K, truth and its as-of count, the user's number of
    events in the whole log (0 where there is no log) and the seconds since the last one (NaN for none); each [scenes].
    """
    paths = [folder / "scenes" / f"{split}.parquet" for split in SPLITS]
    tables = [_read(path, SHOWN) for path in paths]
    table = pa.concat_tables(tables)
    ids = table["scene_id"]
    if not len(ids):
        raise DataError(f"{folder}/scenes holds no train or validation scene; build it from more feedback")
    if pc.count_distinct(ids).as_py() != len(ids):
        raise DataError(f"{folder}/scenes holds the same scene_id twice; run `mirror build` again")
    exposure = table["exposure"]
    n_options = numbers(pc.list_value_length(exposure))
    counts = numbers(pc.struct_field(pc.list_flatten(exposure), "asof_count"))
    truth = numbers(table["choice_index"])
    first = np.cumsum(n_options) - n_options
    return {
        "scene_id": np.array(ids.to_pylist(), object),
        "split": np.repeat(SPLITS, [t.num_rows for t in tables]),
        "row": np.arange(len(ids)),
        "n_options": n_options.astype(np.int64),
        "truth": truth.astype(np.int64),
        "popularity": counts[first + truth].astype(np.float64),
        "activity": _activity(folder, table["user_id"]),
        "gap": numbers(table["gap_seconds"], missing=np.nan),
    }


def _activity(folder: Path, users: pa.ChunkedArray) -> Ints:
    """How many events each of these users has in the domain's log."""
    path = folder / "tables" / "events.parquet"
    if not path.is_file():
        return np.zeros(len(users), np.int64)
    ours = pc.unique(users)
    counts = np.zeros(len(ours) + 1, np.int64)
    for batch in _open(path).iter_batches(1 << 20, columns=["user_id"]):
        at = numbers(pc.index_in(batch["user_id"], ours), missing=len(ours))
        counts += np.bincount(at, minlength=len(counts))
    return counts[numbers(pc.index_in(users, ours))]


def read_direct(folder: Path, scenes: Columns) -> tuple[Floats, set[Model]]:
    """H(P(Y|X)) of each scene by a reading without a thought, as a share of log2 K (NaN for none), and who read."""
    paths = role_files(folder, "readings", "direct")
    found = np.full(len(scenes["scene_id"]), np.nan)
    if not paths:
        return found, set()
    table = pa.concat_tables([_read(path, DIRECT) for path in paths])
    scene = _scene_index(folder / "readings" / "direct", table, arrow(scenes["scene_id"].tolist()))
    if unread := len(found) - len(np.unique(scene)):
        raise DataError(f"{folder}/readings/direct lacks {unread} of {len(found)} scenes; run `mirror read` to the end")
    start, length, _, values = _probabilities(table["choice_probs"])
    for k in np.unique(scenes["n_options"]).tolist():
        here = np.flatnonzero((length == k) & (scenes["n_options"][scene] == k))
        probs = values[start[here, None] + np.arange(k)]
        found[scene[here]] = uncertainty.entropy(probs, normalise=True)
    return found, set(_distinct(table, "reader", "reader_revision"))


def read_role(folder: Path, role: str, scenes: Columns) -> tuple[Columns, Model, set[Model], dict[str, Any]]:
    """One role's decisions joined to their readings, who wrote them, who read them, and what was lost."""
    written = _shards(folder, "rationales", role, WRITTEN)
    readings = _shards(folder, "readings", role, READ)
    writers = _distinct(written, "model", "model_revision")
    if len(writers) != 1:
        raise DataError(
            f"{folder / 'rationales' / role} was written by {writers}; expected one model, write them again"
        )
    columns = _join(folder, role, written, readings, scenes)
    losses = _losses(written, columns["usable"])
    columns["role"] = np.full(written.num_rows, ROLES.index(role))
    return columns, writers[0], set(_distinct(readings, "reader", "reader_revision")), losses


def merge(roles: list[Columns]) -> Columns:
    """The decisions of both roles in the order (scene, role, sample_index); `start` points into all their `values`."""
    roles[1]["start"] = roles[1]["start"] + len(roles[0]["values"])
    both = {name: np.concatenate([columns[name] for columns in roles]) for name in roles[0]}
    values = both.pop("values")
    order = np.lexsort((both["sample"], both["role"], both["scene"]))
    return {name: column[order] for name, column in both.items()} | {"values": values}


def _shards(folder: Path, kind: str, role: str, columns: list[str]) -> pa.Table:
    paths = role_files(folder, kind, role)
    if not paths:
        command = "mirror read" if kind == "readings" else f"mirror rationales --role {role}"
        raise DataError(f"{folder / kind / role} holds no {kind}; run `{command}` first")
    table = pa.concat_tables([_read(path, columns) for path in paths])
    for found in pc.unique(table["role"]).to_pylist():
        if found != role:
            raise DataError(f"{folder / kind / role} holds rows of role {found!r}; move them to a folder of that name")
    return table


def role_files(folder: Path, kind: str, role: str) -> list[Path]:
    """The Parquet shards of `kind` (rationales or readings) of one role, in a fixed order."""
    return sorted((folder / kind / role).glob("*.parquet"))


def _join(folder: Path, role: str, written: pa.Table, readings: pa.Table, scenes: Columns) -> Columns:
    known, n_options = arrow(scenes["scene_id"].tolist()), scenes["n_options"]
    scene = _scene_index(folder / "rationales" / role, written, known)
    sample = numbers(written["sample_index"]).astype(np.int64)
    width = int(max(pc.max(written["sample_index"]).as_py() or 0, pc.max(readings["sample_index"]).as_py() or 0)) + 1
    key = scene * width + sample
    reading_scene = _scene_index(folder / "readings" / role, readings, known)
    reading_key = reading_scene * width + numbers(readings["sample_index"])
    for kind, keys in (("rationales", key), ("readings", reading_key)):
        if len(keys) and np.bincount(keys).max() > 1:
            raise DataError(
                f"{folder / kind / role} holds the same (scene_id, sample_index) twice; delete the old shards"
            )
    place = np.full(len(known) * width, -1)
    place[reading_key] = np.arange(len(reading_key))
    at = place[key]
    parsed = numbers(pc.and_(pc.is_null(written["parse_error"]), pc.is_valid(written["stated_choice"])))
    unread = int((parsed & (at < 0)).sum())
    if unread:
        raise DataError(
            f"{folder}: {unread} of {len(key)} {role} rationales have no reading; run `mirror read` to the end"
        )
    if (stray := len(reading_key) - int((at >= 0).sum())) > 0:
        raise DataError(
            f"{folder / 'readings' / role}: {stray} readings belong to no rationale; run `mirror read` again"
        )
    start, length, total, values = _probabilities(readings["choice_probs"])
    # The last place stands for what was not read.
    start, length, total = np.append(start, 0), np.append(length, 0), np.append(total, np.nan)
    ifd = np.append(numbers(readings["ifd"], missing=np.nan), np.nan)
    read = (at >= 0) & (length[at] > 0) & ~np.isnan(total[at])
    wrong = (length[at] != n_options[scene]) | (np.abs(total[at] - 1) > 1e-3) | (values.min(initial=0) < 0)
    if bad := np.flatnonzero(read & wrong).tolist():
        i = bad[0]
        found = f"{length[at[i]]} probabilities of sum {total[at[i]]:.4g} for {n_options[scene[i]]} options"
        below = ", and some of the role are below 0" if values.min(initial=0) < 0 else ""
        raise DataError(
            f"{folder / 'readings' / role}: scene {known[int(scene[i])]} has {found}{below}; delete the folder and run "
            "`mirror read` again"
        )
    return {
        "scene": scene,
        "sample": sample,
        "row": np.arange(len(scene)),
        "stated": np.where(parsed, numbers(written["stated_choice"], missing=-1), -1),
        "usable": parsed & read,
        "start": start[at],
        "ifd": ifd[at],
        "values": values,
    }


def _scene_index(folder: Path, table: pa.Table, known: pa.Array) -> Ints:
    index = numbers(pc.index_in(table["scene_id"], known), missing=-1).astype(np.int64)
    if stray := np.flatnonzero(index < 0).tolist():
        found = f"{len(stray)} rows of scenes that are not in train or validation, first {table['scene_id'][stray[0]]}"
        raise DataError(f"{folder} holds {found}; delete the folder and run its stage on these scenes")
    return index


def _probabilities(column: pa.ChunkedArray) -> tuple[Ints, Ints, Floats, Floats]:
    """Per reading: where its probabilities start, how many they are, their sum (NaN if any is); then all values."""
    length = numbers(pc.list_value_length(column), missing=0).astype(np.int64)
    values = numbers(pc.list_flatten(column), missing=np.nan).astype(np.float64)
    start = np.cumsum(length) - length
    sums, failed = (np.append(0.0, np.cumsum(part)) for part in (np.nan_to_num(values), np.isnan(values)))
    end = start + length
    return start, length, np.where(failed[end] > failed[start], np.nan, sums[end] - sums[start]), values


def _read(path: Path, columns: list[str]) -> pa.Table:
    file = _open(path)
    if missing := {name.partition(".")[0] for name in columns} - set(file.schema_arrow.names):
        raise DataError(f"{path} has no column {', '.join(sorted(missing))}; run the stage that writes it again")
    return file.read(columns=columns)


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except FileNotFoundError:
        raise DataError(f"{path} is missing; run the stage that writes it first") from None
    except pa.ArrowInvalid as error:
        raise DataError(f"{path} is not a whole Parquet file ({error}); delete it and run its stage again") from None


def _losses(written: pa.Table, usable: np.ndarray) -> dict[str, Any]:
    """What became of one role's decisions: written == usable + parse errors + unread. Unread: no probabilities."""
    found = pc.value_counts(pc.drop_null(written["parse_error"])).to_pylist()
    errors = {row["values"]: row["counts"] for row in sorted(found, key=lambda row: row["values"])}
    ended = {row["values"]: row["counts"] for row in pc.value_counts(written["finish_reason"]).to_pylist()}
    return {
        "written": written.num_rows,
        "usable": int(usable.sum()),
        "parse_errors": errors,
        "unread": written.num_rows - int(usable.sum()) - sum(errors.values()),
        "cut_by_length": ended.get("length", 0),
    }


def take(paths: list[Path], columns: list[str], rows: Ints) -> pa.Table:
    """The given rows of the files put end to end, in the order asked for; holds one row group at a time."""
    order = np.argsort(rows, kind="stable")
    wanted, first, parts = rows[order], 0, []
    for path in paths:
        file = _open(path)
        for group in range(file.num_row_groups):
            n = file.metadata.row_group(group).num_rows
            here = wanted[(wanted >= first) & (wanted < first + n)] - first
            if len(here):
                parts.append(file.read_row_group(group, columns=columns).take(_indices(here)))
            first += n
    empty = pa.Table.from_batches([], pa.schema([file.schema_arrow.field(name) for name in columns]))
    return pa.concat_tables([empty, *parts]).take(_indices(np.argsort(order, kind="stable")))


def numbers(column: pa.Array | pa.ChunkedArray, missing: float = 0) -> np.ndarray:
    """A column of numbers or booleans as an array, with `missing` for its nulls. Arrow's own ways from the one to the
    other import pandas, which takes as long as reading a hundred thousand decisions."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_boolean(whole.type):
        return numbers(whole.cast(pa.uint8()), missing).astype(bool)
    if not whole.null_count:
        return np.from_dlpack(whole)
    bare = pa.Array.from_buffers(whole.type, len(whole), [None, whole.buffers()[1]], offset=whole.offset)
    return np.where(numbers(pc.is_valid(whole)), np.from_dlpack(bare), missing)


def _indices(rows: Ints) -> pa.Array:
    return pa.Array.from_buffers(pa.int64(), len(rows), [None, pa.py_buffer(np.ascontiguousarray(rows, np.int64))])


def _distinct(table: pa.Table, name: str, revision: str) -> list[Model]:
    names, revisions = (table[column].combine_chunks().dictionary_encode("encode") for column in (name, revision))
    width = len(revisions.dictionary)
    together = np.bincount(numbers(names.indices).astype(np.int64) * width + numbers(revisions.indices))
    pairs = [divmod(code, width) for code in np.flatnonzero(together).tolist()]
    return sorted((names.dictionary[i].as_py() or "", revisions.dictionary[j].as_py() or "") for i, j in pairs)


def counts(values: np.ndarray) -> dict[str, int]:
    """How often each value occurs, by value."""
    names, n = np.unique(values, return_counts=True)
    return dict(zip(names.tolist(), n.tolist(), strict=True))
