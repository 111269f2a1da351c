"""`mirror compare`: are two models different, on the same scenes, beyond what users' luck explains?

Differences are paired on scenes and clustered by user; every pair of models is tested, and p-values are corrected for
that. The leaderboard makes its rank sets of the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from hf_mirror import metrics
from hf_mirror.alignment import Row
from hf_mirror.alignment.table import Table, is_headline
from hf_mirror.errors import DataError
from hf_mirror.evaluation.benchmark import Bench
from hf_mirror.files import read_json
from hf_mirror.result_schema import Result
from hf_mirror.results import predictions_of, read_predictions, read_result, same_rows

METRICS = ("accuracy", "log_loss")
SIGNIFICANT = 0.05
Answers = Sequence[Sequence[float] | None]


@dataclass(frozen=True)
class Contender:
    """One results file of `mirror evaluate` or `mirror baselines`, with the predictions beside it."""

    file: Path
    result: Result

    @property
    def group(self) -> tuple[str, str]:
        """Subset and mode: only within these results are compared."""
        return self.result["subset"], self.result["mode"]


def compare(paths: Sequence[Path], bench: Bench, *, seed: int = 0) -> dict[str, Any]:
    """`pairwise` of all results in `paths` (files or folders), per subset and mode with two of them or more: keys are
    `<subset>`, and `<subset>.rationale` in that mode.

    Raises DataError for results of other rows than `bench` has (a commit and the hash of a local file may name the
    same), where no two have subset and mode in common, and for predictions that are not there or not whole.
    """
    found = contenders(paths)
    subsets: dict[str, dict[str, Any]] = {}
    for subset, mode in sorted({each.group for each in found}):
        group = [each for each in found if each.group == (subset, mode)]
        if len(group) < 2:
            continue
        rows, revision = bench.rows(subset)
        for each in group:
            _check_rows(each, bench, revision)
        answers = {name: _answers(each, rows) for name, each in _named(group).items()}
        key = subset if mode == "direct" else f"{subset}.{mode}"
        subsets[key] = {"subset": subset, "mode": mode, "bench_revision": revision}
        subsets[key] |= pairwise(rows, answers, seed=seed)
    if not subsets:
        held = ", ".join(f"{each.file} ({', '.join(each.group)})" for each in found)
        raise DataError(f"no two results have subset and mode in common: {held}; compare like with like")
    return {"bench": bench.name, "subsets": subsets}


def contenders(paths: Iterable[Path]) -> list[Contender]:
    """All results in files and folders, in the order given; other JSON in a folder is passed over."""
    found: list[Contender] = []
    for path in paths:
        if not path.exists():
            raise DataError(f"{path} does not exist; expected results of `mirror evaluate` or `mirror baselines`")
        files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
        files = [file for file in files if path == file or _is_result(file)]
        if not files:
            raise DataError(f"{path} holds no results; expected the files of `mirror evaluate` or `mirror baselines`")
        for file in files:
            if file.resolve() in {each.file.resolve() for each in found}:
                raise DataError(f"{file} is given twice; expected results of two models")
            found.append(Contender(file, read_result(file)))
    return found


def _is_result(file: Path) -> bool:
    about = read_json(file)
    return isinstance(about, dict) and {"scores", "mode", "model"} <= about.keys()


def _answers(contender: Contender, rows: Sequence[Row]) -> Answers:
    path = predictions_of(contender.file)
    return read_predictions(path, contender.result, rows, f"{contender.file}, predictions")


def pairwise(rows: Sequence[Row], answers: Mapping[str, Answers], *, seed: int = 0) -> dict[str, Any]:
    """Every pair of models on the same benchmark rows, and what ranks that leaves open.

    `pairs`: per pair `a`, `b`, and for the `full` set of scenes (failures charged) and the `intersection` (rows that
    both answered) accuracy and log-loss of a less b: value, user-clustered interval, sign-flip `p_value`, and `p_holm`
    over all pairs. `ranks`: per model [best, worst] by log-loss on the full set, at 5 % after Holm.
    """
    kept = [i for i, row in enumerate(rows) if is_headline(row)]
    kept.sort(key=lambda i: (rows[i]["scene_id"], rows[i]["variant_id"]))
    table = Table.of([rows[i] for i in kept])
    probs = {name: metrics.pad([of[i] for i in kept], table.n_options) for name, of in answers.items()}
    full = {name: table.per_scene(of) for name, of in probs.items()}
    pairs = list(combinations(probs, 2))
    sets = {
        "full": [_difference(full[a], full[b]) for a, b in pairs],
        "intersection": [_of_both(table, probs[a], probs[b]) for a, b in pairs],
    }
    tested = {name: _tested(table.users, differences, seed) for name, differences in sets.items()}
    found = [{"a": a, "b": b, **{name: of[i] for name, of in tested.items()}} for i, (a, b) in enumerate(pairs)]
    return {"n_scenes": table.n_scenes, "pairs": found, "ranks": ranks(list(probs), found)}


def ranks(names: Sequence[str], pairs: Iterable[Mapping[str, Any]]) -> dict[str, list[int]]:
    """[best, worst] rank per model by log-loss: `metrics.rank_sets` of the pairs of `pairwise`."""
    better = set()
    for pair in pairs:
        loss = pair["full"]["log_loss"]
        if loss["p_holm"] < SIGNIFICANT:
            better.add((pair["a"], pair["b"]) if loss["value"] < 0 else (pair["b"], pair["a"]))
    return {name: list(span) for name, span in metrics.rank_sets(names, better).items()}


def _difference(a: Mapping[str, metrics.Floats], b: Mapping[str, metrics.Floats]) -> metrics.Floats:
    return np.stack([a[name] - b[name] for name in METRICS], axis=1)


def _of_both(table: Table, a: metrics.Floats, b: metrics.Floats) -> metrics.Floats:
    """Differences on the rows that both answered, [S, 2]; NaN for scenes without one."""
    rows = ~table.random & metrics.scored(a) & metrics.scored(b)
    truth, scene = table.truth[rows], table.scene[rows]
    columns = (of(a[rows], truth) - of(b[rows], truth) for of in (metrics.accuracy, metrics.log_loss))
    return np.stack([metrics.per_scene(column, scene, table.n_scenes) for column in columns], axis=1)


def _tested(users: metrics.Ints, differences: Sequence[metrics.Floats], seed: int) -> list[dict[str, Any]]:
    """Interval and tests of each pair's differences [S, 2]. Enough draws are made for Holm to find something."""
    draws = max(9_999, 40 * len(differences))
    found: list[dict[str, Any]] = [{"n_scenes": int(np.isfinite(of[:, 0]).sum())} for of in differences]
    alike: dict[bytes, list[int]] = {}
    for index, of in enumerate(differences):
        alike.setdefault(np.isfinite(of[:, 0]).tobytes(), []).append(index)
    for mask, group in alike.items():
        seen = np.frombuffer(mask, dtype=bool)
        if not seen.any():
            continue
        columns = np.concatenate([differences[index][seen] for index in group], axis=1)
        spans = metrics.intervals(columns, users[seen], seed=seed)
        p_values = metrics.sign_flip(columns, users[seen], seed=seed, draws=draws)
        tests = [asdict(span) | {"p_value": float(p)} for span, p in zip(spans, p_values, strict=True)]
        for place, index in enumerate(group):
            found[index] |= dict(zip(METRICS, tests[2 * place : 2 * place + 2], strict=True))
    for name in METRICS:
        parts = [of[name] for of in found if name in of]
        for part, adjusted in zip(parts, metrics.holm([part["p_value"] for part in parts]), strict=True):
            part["p_holm"] = float(adjusted)
    return found


def _check_rows(contender: Contender, bench: Bench, revision: str) -> None:
    """DataError for results of other rows than the benchmark has."""
    if not same_rows(contender.result, bench, revision):
        said = contender.result["bench_revision"]
        raise DataError(
            f"{contender.file} was made on other rows of {contender.result['subset']} ({said}) than --bench has "
            f"({revision}); compare results of the same rows"
        )


def _named(group: Sequence[Contender]) -> dict[str, Contender]:
    """By model, where two are called alike by their files."""
    names = [each.result["model"] for each in group]
    return {name if names.count(name) == 1 else str(each.file): each for name, each in zip(names, group, strict=True)}
