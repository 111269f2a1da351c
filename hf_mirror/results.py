"""Results of an evaluation, and whether they are what their predictions say.

Results come from strangers' repos. So a file is held to a form before anything of it is used, and its numbers are made
again from its predictions, row by row of the benchmark that it names: what cannot be made again is not believed.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hf_mirror import result_schema
from hf_mirror.alignment import Row, score
from hf_mirror.alignment.table import is_headline
from hf_mirror.errors import DataError
from hf_mirror.evaluation.benchmark import HUB_ID, Bench
from hf_mirror.files import read_rows, sha256_file
from hf_mirror.result_schema import FAILURE, RESULT_BYTES, Result
from hf_mirror.schema import PREDICTION

PREDICTION_BYTES = 256 * 2**20
VALUES = 100  # of a benchmark's row in a file of predictions, at most
CLOSE = 1e-6  # another machine sums in another order
WHOLE = 1e-4  # by how much the probabilities of a row may miss 1: some come from float32


def predictions_of(path: Path) -> Path:
    """Where the predictions of a results file lie: beside it."""
    return path.with_name(f"{path.name.removesuffix('.json')}.predictions.parquet")


def read_result(path: Path, where: str | None = None) -> Result:
    """A results file that is in form, of a model or a baseline. DataError, which calls the file `where`, if not."""
    where = where or str(path)
    try:
        return result_schema.read(beginning(path))
    except FileNotFoundError:
        raise DataError(f"{where} is missing; run `mirror evaluate` first") from None
    except DataError as problem:
        raise DataError(f"{where} is no results file: {problem}; run `mirror evaluate` again") from None


def beginning(path: Path) -> bytes:
    """A results file, or as much of it as tells that it is too large."""
    with path.open("rb") as file:
        return file.read(RESULT_BYTES + 1)


def read_predictions(path: Path, result: Result, rows: Sequence[Row], where: str | None = None) -> list[list[float]]:
    """P(option) of a result in the order of `rows`, all that the benchmark has of the subset; empty for failures, and
    for what a baseline was not asked: it may leave out rows that are not the headline's.

    DataError where the file is not the one that the result names, lacks a row, has one twice or one that the benchmark
    does not have, or holds what are no probabilities.
    """
    where = where or str(path)
    _check_file(path, result, len(rows), where)
    held = read_rows(path)
    found = {_key(row): row for row in held}
    if len(found) != len(held):
        raise DataError(f"{where} have a row twice; expected every row of {result['subset']} once")
    if others := found.keys() - {_key(row) for row in rows}:
        raise DataError(f"{where} have the row {'/'.join(min(others))[:99]}, which {result['subset']} has not")
    answers = []
    for row in rows:
        key = _key(row)
        if key not in found and ("baseline" not in result or is_headline(row)):
            raise DataError(f"{where} have no row {'/'.join(key)}; expected every row of {result['subset']} once")
        place = f"{where}, row {'/'.join(key)}"
        answers.append(_probabilities(found[key], len(row["options"]), place) if key in found else [])
    failures = Counter(row["failure"] for row in held if row["failure"])
    if dict(failures) != result.get("failures", {}):
        raise DataError(f"{where} have failures {dict(failures)}, the results have {result.get('failures', {})}")
    return answers


def rescore(
    path: Path, predictions: Path, bench: Bench, where: str | None = None, endpoint: str | None = None
) -> tuple[list[Row], list[list[float]]]:
    """The rows and probabilities behind a results file, once its numbers have been made again of them.

    DataError where the file is out of form, was made on other rows than the bench holds, does not go with its
    predictions, or says another number than they do. How valid its thoughts were (`rationale`) is not made again: that
    is in texts which are not published.
    """
    where = where or str(path)
    result = read_result(path, where)
    rows, revision = bench.rows(result["subset"])
    if not same_rows(result, bench, revision, endpoint):
        raise DataError(
            f"{where} was made on {result['subset']} of {result['bench']} at {result['bench_revision']}, which is not "
            f"what {bench.name} holds ({revision}); give --bench that version"
        )
    answers = read_predictions(predictions, result, rows, f"{where}, predictions")
    made = {"domain": rows[0]["domain"], **score(rows, answers, seed=result["seed"])}
    made = json.loads(json.dumps(made))
    said = {name: result[name] for name in made if name in result}
    for difference in islice(_differences(said, made, ""), 1):
        raise DataError(f"{where} is not what its predictions say: {difference}")
    return rows, answers


def same_rows(result: Result, bench: Bench, revision: str, endpoint: str | None = None) -> bool:
    """Whether a result was made on the rows of its subset that the benchmark has at `revision`, be they named by a
    commit or by the SHA-256 of a local file. A commit is one of the repo that the result names, where the benchmark
    itself is a folder."""
    if result["bench_revision"] == revision:
        return True
    named = result["bench"].partition("@")[0]
    repo = bench.repo or (named if HUB_ID.fullmatch(named) and not Path(result["bench"]).exists() else None)
    if repo is None:
        return False
    from hf_mirror.publish.release import Remote

    remote, path = Remote(endpoint, repo, "dataset"), f"{result['subset']}/test.parquet"
    one, other = (
        ("sha256", each[7:]) if each.startswith("sha256:") else remote.snapshot(each).files.get(path)
        for each in (result["bench_revision"], revision)
    )
    return one is not None and one == other


def _key(row: Row) -> tuple[str, str]:
    return row["scene_id"], row["variant_id"]


def _check_file(path: Path, result: Result, n_rows: int, where: str) -> None:
    """Size, hash, columns and counts, before any row is read."""
    if not path.is_file():
        raise DataError(f"{where} are missing; expected {path.name} beside the results")
    if path.stat().st_size > PREDICTION_BYTES:
        raise DataError(f"{where} have {path.stat().st_size:,} bytes, more than {PREDICTION_BYTES:,}")
    if "predictions_sha256" in result and sha256_file(path) != result["predictions_sha256"]:
        raise DataError(f"{where} are not the file that the results were made of: its SHA-256 is another")
    try:
        about = pq.read_metadata(path)
        columns = {field.name: field.type for field in about.schema.to_arrow_schema()}
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{where} are not a whole Parquet file ({type(error).__name__})") from None
    if columns != {field.name: field.type for field in PREDICTION}:
        raise DataError(f"{where} have columns {', '.join(columns)[:200]}; expected {', '.join(PREDICTION.names)}")
    if about.num_rows > n_rows or ("baseline" not in result and about.num_rows < n_rows):
        raise DataError(f"{where} have {about.num_rows:,} rows; {result['subset']} has {n_rows:,}")
    groups = (about.row_group(i) for i in range(about.num_row_groups))
    if sum(group.column(i).num_values for group in groups for i in range(group.num_columns)) > VALUES * n_rows:
        raise DataError(f"{where} hold more values than {n_rows:,} rows can have")


def _probabilities(row: Mapping[str, Any], n_options: int, where: str) -> list[float]:
    probs, failure = row["choice_probs"] or [], row["failure"]
    if not probs:
        if not re.fullmatch(FAILURE, failure or ""):
            raise DataError(f"{where}, has neither probabilities nor why they are missing")
        return []
    if failure is not None or len(probs) != n_options:
        raise DataError(
            f"{where}, has {len(probs)} probabilities{' of a failure' * bool(failure)} of {n_options} options"
        )
    if not all(p is not None and 0 <= p <= 1 for p in probs) or abs(sum(probs) - 1) > WHOLE:
        raise DataError(f"{where}, has no probabilities: {probs[:5]}")
    return list(probs)


def _differences(said: Any, made: Any, at: str) -> Iterator[str]:
    """Where a file says something else than its predictions, in words."""
    if isinstance(said, dict) and isinstance(made, dict):
        for name, inner in said.items():
            inside = f"{at}.{name}".lstrip(".")
            if name in made:
                yield from _differences(inner, made[name], inside)
            else:
                yield f"{inside} is nothing that scoring gives; was another version of hf_mirror used?"
    elif isinstance(said, list) and isinstance(made, list) and len(said) == len(made):
        for index, (one, other) in enumerate(zip(said, made, strict=True)):
            yield from _differences(one, other, f"{at}.{index}")
    elif type(said) in (int, float) and type(made) in (int, float):
        if not math.isclose(said, made, rel_tol=CLOSE, abs_tol=CLOSE):
            yield f"{at} is {said:.6g}, by the predictions {made:.6g}"
    elif said != made:
        yield f"{at} is {said!r:.60}, by the predictions {made!r:.60}"
