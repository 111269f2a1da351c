"""Evaluations as files of a repo: results, predictions and `.eval_results`, of our models and of others'.

Of a closed domain predictions stay at home, and of its results so does what is counted per slot, number of options or
group. The orders of a scene's options are no secret, and a good model's likeliest option is mostly the true one: with
the probabilities of a scene in several orders anybody could tell which option was taken, and so they could from a count
of one scene.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_mirror.errors import DataError
from hf_mirror.files import sha256_file, write_json
from hf_mirror.memorisation import REGIME as MEMORISED
from hf_mirror.publish.staging import Run
from hf_mirror.result_schema import Result
from hf_mirror.results import predictions_of, read_result

FOLDER = "evaluations"
RESULTS = ".eval_results/mirror-bench.yaml"
COMMIT = re.compile(r"[0-9a-f]{40}")
# What is left out of the results of a closed domain: each may be the count of a single scene.
COUNTED = ("calibration", "brier_decomposition", "divergence", "groups", "worst_group")
OF_ORDER_ALONE = ("slot_accuracy", "flip_rate")


@dataclass(frozen=True)
class Evaluation:
    """A results file, as it was written, and the predictions beside it. `closed`: of a domain that is."""

    path: Path
    result: Result
    closed: bool

    @property
    def name(self) -> str:
        """Of its files in a repo, without their endings."""
        return f"{self.result['subset']}.{self.result['mode']}"


def find_evaluations(folder: Path, closed: Callable[[Result], bool]) -> list[Evaluation]:
    """What `mirror evaluate` left in a folder. DataError for a results file that is out of form, lies under another
    name than its own, or is without the predictions that it was made of."""
    found = []
    for path in sorted(folder.glob("*.json")):
        result = read_result(path)
        stem = result["subset"] + (f".{result['mode']}" if result["mode"] != "direct" else "")
        if path.name != f"{stem}.json":
            raise DataError(f"{path} holds results of {stem}; expected the file to be named {stem}.json")
        predictions = predictions_of(path)
        if not predictions.is_file() or sha256_file(predictions) != result["predictions_sha256"]:
            raise DataError(f"{predictions} is not what {path.name} was made of; run `mirror evaluate` again")
        found.append(Evaluation(path, result, closed(result)))
    return found


def of_run(run: Run, model: str) -> list[Evaluation]:
    """Those of a model in a run folder, made on the benchmark rows that the run has now, or on a published version."""
    found = find_evaluations(run.directory / "evaluations" / model, lambda result: is_closed(run, result))
    for evaluation in found:
        _check_bench(run, evaluation.result, evaluation.path)
    return found


def is_closed(run: Run, result: Result) -> bool:
    """Whether the domain of a result may not be redistributed; one that the run does not have may not."""
    return result["domain"] not in run.reports or run.closed(result["domain"])


def stage(evaluations: Sequence[Evaluation], target: Path, *, repo: str, bench: str, bench_commit: str | None) -> None:
    """Writes `evaluations/<subset>.<mode>.json`, `.predictions.parquet` of open domains, and `.eval_results`, under
    the names that model and benchmark have on the Hub. `bench_commit`: where the run's own rows are published."""
    for each in evaluations:
        names = {"model": repo} | ({} if _is_probe(each.result) else {"bench": bench})
        _write(each, target / FOLDER / f"{each.name}.json", names)
    if scores := [each.result for each in evaluations if not _is_probe(each.result)]:
        path = target / RESULTS
        path.parent.mkdir(exist_ok=True)
        path.write_text(results_yaml(scores, bench, bench_commit), encoding="utf-8")


def stage_baselines(run: Run, target: Path, *, bench: str) -> None:
    """Writes `baselines/<name>/<subset>.json` into the benchmark's folder, and `.predictions.parquet` where it may."""
    for each in baselines_of(run):
        _write(each, target / "baselines" / each.path.parent.name / f"{each.result['subset']}.json", {"bench": bench})


def baselines_of(run: Run) -> list[Evaluation]:
    """What `mirror baselines` left in a run folder, made on the benchmark rows that it has now."""
    found = []
    for path in sorted((run.directory / "baselines").glob("*/*.json")):
        result = read_result(path)
        _check_bench(run, result, path)
        found.append(Evaluation(path, result, is_closed(run, result)))
    return found


def results_yaml(results: Sequence[Result], bench: str, bench_commit: str | None) -> str:
    """`.eval_results` as the Hub reads it: https://huggingface.co/docs/hub/eval-results. A task is a subset; of the
    `rationale` mode, `<subset>:rationale`, since the two numbers do not rank together."""
    import yaml

    return yaml.safe_dump(entries(results, bench, bench_commit), sort_keys=False, allow_unicode=True)


def entries(results: Sequence[Result], bench: str, bench_commit: str | None) -> list[dict[str, Any]]:
    """Those of `.eval_results`, one a result."""
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    found = []
    for result in results:
        revision = result["bench_revision"]
        accuracy, loss = (interval(result["scores"][key]) for key in ("accuracy", "log_loss"))
        found.append(
            EvalResultEntry(
                dataset_id=bench,
                task_id=result["subset"] + (":rationale" if result["mode"] == "rationale" else ""),
                value=round(result["scores"]["accuracy"]["value"], 6),
                dataset_revision=revision if COMMIT.fullmatch(revision) else bench_commit,
                notes=f"{result['mode']}, mean over option orders: accuracy {accuracy}, log-loss {loss}; self-reported",
            )
        )
    return eval_result_entries_to_yaml(found)


def interval(score: dict[str, Any], sign: str = "") -> str:
    """A value with its interval, in words."""
    bounds = "no interval" if score["low"] is None else f"{score['low']:{sign}.3f} to {score['high']:{sign}.3f}"
    return f"{score['value']:{sign}.3f} ({bounds})"


def without_counts(result: Result) -> Result:
    """Results of a closed domain, without what could be the count of one scene."""
    position = result.get("position") or {}
    kept = {name: value for name, value in result.items() if name not in COUNTED}
    return kept | {"position": {name: position[name] for name in OF_ORDER_ALONE if name in position}}


def _write(evaluation: Evaluation, path: Path, names: dict[str, str]) -> None:
    result = without_counts(evaluation.result) if evaluation.closed else evaluation.result
    write_json(path, result | names)
    if not evaluation.closed:
        shutil.copyfile(predictions_of(evaluation.path), predictions_of(path))


def _check_bench(run: Run, result: Result, path: Path) -> None:
    """Local results must be of the rows that the run publishes, those of a Hub version say which."""
    if _is_probe(result):
        return
    rows = run.directory / "bench" / f"{result['subset']}.parquet"
    said = result["bench_revision"]
    if not COMMIT.fullmatch(said) and not (rows.is_file() and said == f"sha256:{sha256_file(rows)}"):
        raise DataError(f"{path} was made on other rows than {rows}; run `mirror evaluate` or `mirror baselines` again")


def _is_probe(result: Result) -> bool:
    """Whether it is of `mirror probe`, which brings questions of its own."""
    return bool(result["regime"] == MEMORISED)
