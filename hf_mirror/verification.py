"""`mirror verify`: what a model's repo says about its scores, made again.

- `self-reported`: no predictions are published, so nothing can be made again.
- `re-scored`: the published predictions go with every row of the benchmark, and give the published numbers.
- `verified`: besides, the model of that commit gives the published probabilities on N scenes drawn with a seed. Draw
  with a seed of your own: who knows it in advance can answer those scenes honestly and invent the others.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hf_mirror import __version__
from hf_mirror.alignment import Row
from hf_mirror.errors import ConfigError, DataError, HubError
from hf_mirror.evaluation import ENGINES, evaluate, open_bench
from hf_mirror.evaluation.benchmark import Bench
from hf_mirror.files import read_rows, write_json, write_rows
from hf_mirror.identity import Draws, digest
from hf_mirror.memorisation import REGIME as MEMORISED
from hf_mirror.publish.evaluations import COMMIT, FOLDER
from hf_mirror.publish.provenance import REFERENCE
from hf_mirror.publish.release import Remote, Snapshot
from hf_mirror.result_schema import NAME, RESULT_BYTES, Result
from hf_mirror.results import PREDICTION_BYTES, predictions_of, read_result, rescore
from hf_mirror.schema import BENCH
from hf_mirror.weights import FILES

PUBLISHED = re.compile(rf"{FOLDER}/{NAME}\.(direct|rationale)\.json")
MOST_RESULTS = 200

# By how much a probability of the same model may differ between two runs. Other rows in a batch, another number of
# threads or another machine change the order of sums; docs/decisions.md has what was measured.
TOLERANCE = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 5e-2}


def verify(
    reference: str,
    bench: str,
    *,
    rerun: int = 0,
    seed: int = 0,
    out: Path | None = None,
    endpoint: str | None = None,
) -> dict[str, Any]:
    """Checks every results file of the model `<namespace>/<repo>[@<revision>]` against `bench` (as `mirror evaluate`
    takes it); with `rerun` also runs the model again on so many scenes of each subset.

    Returns `{repo, revision, records, problems}`, a line per problem; writes the records as
    `out/<namespace>--<repo>.json`. Raises ConfigError for a name that is none, HubError where the repo, its results or
    the benchmark are not there.
    """
    match = REFERENCE.fullmatch(reference)
    if match is None or rerun < 0:
        raise ConfigError(
            f"{reference!r} with --rerun {rerun}; expected NAMESPACE/MODEL[@REVISION] and 0 or more scenes"
        )
    remote = Remote(endpoint, match[1], "model")
    there = remote.snapshot(match[2])
    probe = f"-{MEMORISED}.direct.json"  # its questions are of no benchmark
    names = sorted(name for name in there.files if PUBLISHED.fullmatch(name) and not name.endswith(probe))
    if there.sha is None or not names or len(names) > MOST_RESULTS:
        what = "is not there" if there.sha is None else f"has {len(names)} results in {FOLDER}/"
        raise HubError(f"model {reference} {what} on {remote.endpoint}; see `mirror evaluate` and `mirror submit`")
    opened = open_bench(bench)
    records, problems = [], []
    for name in names:
        try:
            records.append(_verified(remote, there, name, opened, rerun, seed))
        except DataError as error:
            problems.append(str(error))
    if out is not None:
        write_json(out / f"{match[1].replace('/', '--')}.json", records)
    return {"repo": match[1], "revision": there.sha, "records": records, "problems": problems}


def _verified(remote: Remote, there: Snapshot, name: str, bench: Bench, rerun: int, seed: int) -> dict[str, Any]:
    where = f"{remote.repo}@{str(there.sha)[:12]} {name}"
    beside = predictions_of(Path(name)).as_posix()
    wanted = [each for each in (name, beside) if each in there.files]
    for each, most in zip(wanted, (RESULT_BYTES, PREDICTION_BYTES), strict=False):
        if there.sizes[each] > most:
            raise DataError(f"{where}: {each} has {there.sizes[each]:,} bytes, more than {most:,}")
    folder = remote.fetch(str(there.sha), wanted)
    result = read_result(folder / name, where)
    if name != f"{FOLDER}/{result['subset']}.{result['mode']}.json" or result["model"] != remote.repo:
        raise DataError(f"{where} has results of {result['model']} on {result['subset']} ({result['mode']})")
    if "baseline" in result:
        raise DataError(f"{where} has results of a baseline; a model's repo holds those of the model")
    record = {
        "model": remote.repo,
        "commit": there.sha,
        **{key: result[key] for key in ("model_revision", "bench_revision", "subset", "mode", "predictions_sha256")},
        "status": "self-reported",
        "n_rerun": 0,
        "max_abs_difference": None,
        "seed": seed,
        "code_version": __version__,
    }
    if beside not in wanted:
        return record
    rows, answers = rescore(folder / name, folder / beside, bench, where, remote.api.endpoint)
    if not rerun:
        return record | {"status": "re-scored"}
    n, difference = _run_again(remote, there, result, rows, answers, rerun, seed, where)
    return record | {"status": "verified", "n_rerun": n, "max_abs_difference": difference}


def _run_again(
    remote: Remote, there: Snapshot, result: Result, rows: Sequence[Row], answers: Sequence[Sequence[float]],
    n: int, seed: int, where: str,
) -> tuple[int, float]:  # fmt: skip
    """How many scenes were run again, and the largest difference. DataError for one beyond the tolerance."""
    if result["backend"] not in ENGINES or result["backend"] == "openai":
        raise DataError(f"{where} comes from a server ({result['backend']}), which cannot be run again here")
    scenes = sorted({row["scene_id"] for row in rows})
    draws = Draws(bytes.fromhex(digest("verify", seed, result["subset"])), "scenes")
    chosen = {scenes[index] for index in draws.shuffled(range(len(scenes)))[:n]}
    some = [(row, answer) for row, answer in zip(rows, answers, strict=True) if row["scene_id"] in chosen]
    said = result["model_revision"]
    version = said if COMMIT.fullmatch(said) and remote.snapshot(said).sha == said else str(there.sha)
    model = remote.fetch(version, FILES)
    with tempfile.TemporaryDirectory(prefix="mirror-verify-") as work:
        write_rows(Path(work) / "bench" / f"{result['subset']}.parquet", [row for row, _ in some], BENCH)
        evaluate(
            str(model), None, str(Path(work) / "bench"), result["subset"], Path(work),
            mode=result["mode"], backend=result["backend"], dtype=result.get("dtype") or "float32",
        )  # fmt: skip
        stem = result["subset"] + (f".{result['mode']}" if result["mode"] != "direct" else "")
        again = read_rows(Path(work) / f"{stem}.predictions.parquet")
    made = {(row["scene_id"], row["variant_id"]): row["choice_probs"] for row in again}
    tolerance, worst, at = TOLERANCE[result.get("dtype") or "bfloat16"], 0.0, ""
    for row, before in some:
        gap = _gap(before, made[row["scene_id"], row["variant_id"]])
        if gap >= worst:
            worst, at = gap, f"{row['scene_id']}/{row['variant_id']}"
    if worst > tolerance:
        raise DataError(
            f"{where}: scene {at} differs by {worst:.3g} when the model of {version[:12]} is run again, more than "
            f"{tolerance:g} ({len(chosen)} scenes, seed {seed})"
        )
    return len(chosen), worst


def _gap(before: Sequence[float], after: Sequence[float] | None) -> float:
    """The largest difference between two answers to one row; infinite where one is a failure or no number."""
    if len(before) != len(after or []):
        return math.inf
    gaps = [abs(p - q) for p, q in zip(before, after or [], strict=True)]
    return math.inf if any(map(math.isnan, gaps)) else max(gaps, default=0.0)
