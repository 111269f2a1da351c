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
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from hf_mirror.alignment import Row, score
from hf_mirror.errors import DataError
from hf_mirror.evaluation.benchmark import Bench
from hf_mirror.files import read_rows, sha256_file
from hf_mirror.schema import PREDICTION

Result = dict[str, Any]

RESULT_BYTES, PREDICTION_BYTES = 4 * 2**20, 256 * 2**20
DEPTH, MOST, LONGEST = 8, 2_000, 2_000  # of nested values, entries of one of them, characters of a text
CLOSE = 1e-6  # another machine sums in another order
WHOLE = 1e-4  # by how much the probabilities of a row may miss 1: some come from float32

LINE = r"[^\x00-\x1f\x7f]{1,300}"
NAME = r"(?!\.)[A-Za-z0-9._-]{1,96}"  # becomes a part of file names
REVISION = r"[0-9a-f]{40}|sha256:[0-9a-f]{64}"
# What is used as text, and how it has to look.
TEXTS = {
    "model": LINE, "bench": LINE, "bench_revision": REVISION, "subset": NAME, "domain": NAME,
    "regime": r"[a-z_]{1,40}(, [a-z_]{1,40}){0,9}", "mode": "direct|rationale", "code_version": r"[\w.+-]{1,40}",
}  # fmt: skip
ASKED = {"model_revision": LINE, "backend": NAME, "predictions_sha256": "[0-9a-f]{64}"}  # of models alone
METRIC, FAILURE = r"[a-z0-9_]{1,60}", r"[a-z_]{1,40}"
HEADLINE = ("accuracy", "log_loss")


def predictions_of(path: Path) -> Path:
    """Where the predictions of a results file lie: beside it."""
    return path.with_name(f"{path.name.removesuffix('.json')}.predictions.parquet")


def read_result(path: Path, where: str | None = None) -> Result:
    """A results file that is in form, of a model or a baseline. DataError, which calls the file `where`, if not."""
    where = where or str(path)
    try:
        if path.stat().st_size > RESULT_BYTES:
            raise _OddError(f"it has {path.stat().st_size:,} bytes, more than {RESULT_BYTES:,}")
        result = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
        _plain(result, "")
        _check(result)
    except FileNotFoundError:
        raise DataError(f"{where} is missing; run `mirror evaluate` first") from None
    except (ValueError, RecursionError) as error:  # what is no JSON, or no UTF-8, is a ValueError
        said = str(error) if isinstance(error, _OddError) else f"not a whole JSON file ({type(error).__name__})"
        raise DataError(f"{where} is no results file: {said}; run `mirror evaluate` again") from None
    return dict(result)


def read_predictions(path: Path, result: Result, rows: Sequence[Row], where: str | None = None) -> list[list[float]]:
    """P(option) of a result in the order of the benchmark's rows, empty for failures. DataError where the file is not
    the one that the result names, misses a row, has one that is not asked, or holds what are no probabilities."""
    where = where or str(path)
    _check_file(path, result, len(rows), where)
    found = {(row["scene_id"], row["variant_id"]): row for row in read_rows(path)}
    if len(found) != len(rows):
        raise DataError(f"{where} has a row twice; expected every row of {result['subset']} once")
    answers = []
    for row in rows:
        key = row["scene_id"], row["variant_id"]
        if key not in found:
            raise DataError(f"{where} has no row {'/'.join(key)}; expected every row of {result['subset']} once")
        answers.append(_probabilities(found[key], len(row["options"]), f"{where}, row {'/'.join(key)}"))
    failures = Counter(row["failure"] for row in found.values() if row["failure"])
    if dict(failures) != result.get("failures", {}):
        raise DataError(f"{where} has failures {dict(failures)}, its results file has {result.get('failures', {})}")
    return answers


def rescore(
    path: Path, predictions: Path, bench: Bench, where: str | None = None
) -> tuple[list[Row], list[list[float]]]:
    """The rows and probabilities behind a results file, once its numbers have been made again of them.

    DataError where the file is out of form, was made on other rows than the bench holds, does not go with its
    predictions, or says another number than they do. How valid its thoughts were (`rationale`) is not made again: that
    is in texts which are not published.
    """
    where = where or str(path)
    result = read_result(path, where)
    rows, revision = bench.rows(result["subset"])
    if not same_rows(result["subset"], result["bench_revision"], revision, bench.repo):
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


class _OddError(ValueError):
    """What is not as it should be in a file."""


def _no_number(text: str) -> NoReturn:
    raise _OddError(f"it holds {text}, which is no number")


def _plain(value: Any, at: str, depth: int = 0) -> None:
    """Finite numbers, short texts and no deep nesting, whatever the keys are."""
    if depth > DEPTH:
        raise _OddError(f"{at[:60]} is nested more than {DEPTH} deep")
    if isinstance(value, float | int) and not -1e15 < value < 1e15:  # false for inf and nan as well
        raise _OddError(f"{at[:60]} is out of range")
    if isinstance(value, str | dict | list) and len(value) > (LONGEST if isinstance(value, str) else MOST):
        raise _OddError(f"{at[:60]} is too long")
    for name, inner in value.items() if isinstance(value, dict) else enumerate(value) if type(value) is list else ():
        if isinstance(name, str) and not re.fullmatch(LINE, name):
            raise _OddError(f"{at[:60]} has the key {name[:60]!r}")
        _plain(inner, f"{at}.{name}".lstrip("."), depth + 1)


def _check(result: Any) -> None:
    if not isinstance(result, dict):
        raise _OddError(f"expected one JSON object, found a {type(result).__name__}")
    for name, pattern in (TEXTS if "baseline" in result else TEXTS | ASKED).items():
        _text(result.get(name), pattern, name)
    for name, least in (("n_scenes", 1), ("n_clusters", 1), ("seed", 0)):
        if type(result.get(name)) is not int or result[name] < least:
            raise _OddError(f"{name} is {_shown(result.get(name))}; expected a whole number from {least}")
    if not _number(result.get("coverage")) or not 0 <= result["coverage"] <= 1:
        raise _OddError(f"coverage is {_shown(result.get('coverage'))}; expected a share")
    _scores(result.get("scores"), "scores")
    baselines = result.get("baselines")
    if not isinstance(baselines, dict) or "chance" not in baselines:
        raise _OddError("it has no baselines.chance")
    for name, scores in baselines.items():
        _text(name, METRIC, "the name of a baseline")
        _scores(scores, f"baselines.{name}")
    failures = result.get("failures", {})
    if not isinstance(failures, dict) or not all(type(n) is int and n > 0 for n in failures.values()):
        raise _OddError("failures is no map of counts")
    if result.get("dtype") not in (None, "float32", "bfloat16", "float16"):
        raise _OddError(f"dtype is {_shown(result['dtype'])}")


def _scores(scores: Any, at: str) -> None:
    if not isinstance(scores, dict) or not scores.keys() >= set(HEADLINE):
        raise _OddError(f"{at} lacks {' or '.join(HEADLINE)}")
    for name, interval in scores.items():
        _text(name, METRIC, f"a metric of {at}")
        if not isinstance(interval, dict) or interval.keys() != {"value", "low", "high"}:
            raise _OddError(f"{at}.{name} is {_shown(interval)}; expected value, low and high")
        bounds = [interval["low"], interval["high"]]
        if not _number(interval["value"]) or not (bounds == [None, None] or all(map(_number, bounds))):
            raise _OddError(f"{at}.{name} is {_shown(interval)}; expected numbers")


def _text(value: Any, pattern: str, what: str) -> None:
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise _OddError(f"{what} is {_shown(value)}")


def _number(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    return repr(value)[:60] if value is not None else "missing"


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
    if about.num_rows != n_rows:
        raise DataError(f"{where} have {about.num_rows:,} rows; {result['subset']} has {n_rows:,}")
    groups = (about.row_group(i) for i in range(about.num_row_groups))
    if sum(group.column(i).num_values for group in groups for i in range(group.num_columns)) > 100 * n_rows:
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


def same_rows(subset: str, said: str, given: str, repo: str | None) -> bool:
    """Whether two revisions (commits of the benchmark `repo`, or SHA-256 of a local file) name the same rows of a
    subset. Without a repo, only what is written alike is."""
    if said == given:
        return True
    if repo is None:
        return False
    from hf_mirror.publish.release import Remote

    remote, path = Remote(None, repo, "dataset"), f"{subset}/test.parquet"
    one, other = (
        ("sha256", each[7:]) if each.startswith("sha256:") else remote.snapshot(each).files.get(path)
        for each in (said, given)
    )
    return one is not None and one == other


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
    elif _number(said) and _number(made):
        if not math.isclose(said, made, rel_tol=CLOSE, abs_tol=CLOSE):
            yield f"{at} is {said:.6g}, by the predictions {made:.6g}"
    elif said != made:
        yield f"{at} is {_shown(said)}, by the predictions {_shown(made)}"
