"""`mirror baselines`: recommenders without a language model, scored on the benchmark's rows like models.

Each recommender gives every option a score; a conditional logit with one weight makes probabilities of it, and one on
all scores at once is the strongest baseline. Recommenders learn from train users' events. The weights are fitted on
train scenes, whose scores come from recommenders that have not seen the scene's user, in five folds by user: so that
the scores of train and test scenes mean the same.

History-based ones are asked twice: with the history that the scene shows, as a model is, and with the user's full past.
With the shown history they are also asked the twins that have another one or none (baselines/twins.py); what texts say
is nothing to them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hf_mirror import __version__
from hf_mirror.alignment import score
from hf_mirror.baselines.feedback import Asked, Log, first_cut, option_features
from hf_mirror.baselines.recommenders import Recommender, content, ease, item_knn, markov
from hf_mirror.baselines.sasrec import sasrec
from hf_mirror.baselines.twins import key_of, with_twins
from hf_mirror.bench import subsets_of
from hf_mirror.conditional_logit import Design, fit, log_probabilities, utility
from hf_mirror.errors import DataError
from hf_mirror.files import read_json, read_rows, sha256_file, write_json, write_rows
from hf_mirror.identity import digest, id_hashes
from hf_mirror.metrics import Floats, Ints
from hf_mirror.rationales import domain_folders
from hf_mirror.schema import PREDICTION

FOLDS = 5
SHOWN, FULL = "shown", "full past"
RECOMMENDERS: dict[str, Recommender] = {
    "content_knn": content,
    "item_knn": item_knn,
    "ease": ease,
    "markov": markov,
    "sasrec": sasrec,
}
BLIND = ("popularity", "recent_popularity", "liking", "age")

Columns = dict[str, Floats]


@dataclass(frozen=True)
class Baseline:
    """A logit on some columns: of one, what makes it a baseline of its own; of many, the strongest of all."""

    name: str
    history: str | None
    columns: tuple[str, ...]


def named() -> list[Baseline]:
    """All baselines, the simplest first."""
    found = [Baseline("recent_popularity", None, ("recent_popularity",)), Baseline("history_blind", None, BLIND)]
    for history in (SHOWN, FULL):
        parts = tuple(f"{name}, {history}" for name in RECOMMENDERS)
        found += [Baseline(name, history, (part,)) for name, part in zip(RECOMMENDERS, parts, strict=True)]
        found.append(Baseline("conditional_logit", history, (*BLIND, *parts)))
    return found


def baselines(
    directory: Path, *, seed: int = 0, progress: Callable[[int], None] = lambda n: None
) -> list[dict[str, Any]]:
    """Fits all baselines on every domain of a run and scores them on all subsets of its benchmark (`mirror bench`).

    Writes `baselines/<name>/<subset>.json`, as `mirror evaluate` does, and `.predictions.parquet` beside it; returns
    the results. `progress` is told of every recommender that is fitted: FOLDS + 1 times len(RECOMMENDERS) a domain.
    Raises DataError where no benchmark or no train scene is there.
    """
    results = []
    for folder in domain_folders(directory):
        paths = {part.name: directory / "bench" / f"{part.name}.parquet" for part in subsets_of(folder)}
        if missing := [path for path in paths.values() if not path.is_file()]:
            raise DataError(f"{missing[0]} is missing; run `mirror bench {directory}` first")
        probabilities = fitted(folder, read_json(directory / "bench.json")["seed"], progress)
        for subset, path in paths.items():
            results += _scored(directory, folder.name, subset, path, probabilities, seed)
    return results


def _scored(
    directory: Path, domain: str, subset: str, path: Path,
    probabilities: Mapping[Baseline, Mapping[str, Mapping[str, float]]], seed: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """The results of all baselines on one subset, also written."""
    results, every = [], read_rows(path)
    if every:
        for baseline, by_key in probabilities.items():
            rows = [row for row in every if _answers(baseline, row)]
            found = [in_order(row, by_key.get(key_of(subset, row))) for row in rows]
            result = {
                "model": _title(baseline),
                "baseline": asdict(baseline),
                "model_revision": None,
                "bench": str(directory / "bench"),
                "bench_revision": f"sha256:{sha256_file(path)}",
                "subset": subset,
                "domain": domain,
                "mode": "direct",
                **score(rows, found, seed=seed),
                "seed": seed,
                "code_version": __version__,
            }
            out = directory / "baselines" / _title(baseline).replace(" ", "-")
            write_json(out / f"{subset}.json", result)
            predictions = [
                {"scene_id": row["scene_id"], "variant_id": row["variant_id"], "choice_probs": probs, "failure": None}
                for row, probs in zip(rows, found, strict=True)
            ]
            write_rows(out / f"{subset}.predictions.parquet", predictions, PREDICTION)
            results.append(result)
    return results


def fitted(
    folder: Path, bench_seed: int, progress: Callable[[int], None] = lambda n: None
) -> dict[Baseline, dict[str, dict[str, float]]]:
    """Per baseline and what it is asked about (twins.py), the probability of every option, by the hash that benchmark
    rows have of it."""
    log, cut = Log.of(folder), first_cut(folder)
    train, test = Asked.of(folder, "train", log), with_twins(folder, log, bench_seed)
    if not train.ids:
        raise DataError(f"{folder / 'scenes' / 'train.parquet'} has no scene to fit weights on; build more scenes")
    known, asked = columns_of(log, cut, train, test, progress)
    keys = {number: digest("item", folder.name, item)[:16] for item, number in log.items.items()}
    found = {}
    for baseline in named():
        probabilities = _logit(baseline.columns, (train, known), (test, asked))
        found[baseline] = {
            key: {keys[item]: float(p) for item, p in zip(options, chances, strict=True) if item >= 0}
            for key, options, chances in zip(test.ids, test.options.tolist(), probabilities.tolist(), strict=True)
        }
    return found


def columns_of(
    log: Log, cut: int, train: Asked, test: Asked, progress: Callable[[int], None] = lambda n: None
) -> tuple[Columns, Columns]:
    """What logits are made of, [n, W] each, of train and of test scenes."""
    users = log.train_users(cut) - set(test.user.tolist())
    known, asked = option_features(log, train), option_features(log, test)
    folds = _fold(log, train.user)
    sides = {SHOWN: (train, test), FULL: (train.with_full_past(log), test.with_full_past(log))}
    for name, learn in RECOMMENDERS.items():
        recommend = learn(log.learned_from(cut, users), log.attributes)
        for history, (_, of_test) in sides.items():
            asked[f"{name}, {history}"] = recommend(of_test)
            known[f"{name}, {history}"] = np.zeros(train.options.shape)
        progress(1)
        for fold in np.unique(folds):
            rows = np.flatnonzero(folds == fold)
            recommend = learn(log.learned_from(cut, users - set(train.user[rows].tolist())), log.attributes)
            for history, (of_train, _) in sides.items():
                known[f"{name}, {history}"][rows] = recommend(of_train.some(rows))
            progress(1)
    return known, asked


def _answers(baseline: Baseline, row: Mapping[str, Any]) -> bool:
    """Whether a row asks what a baseline knows: with a full past, nobody else's history is asked for."""
    return row["variant"]["text"] == "full" and (baseline.history != FULL or row["variant"]["history"] == "own")


def in_order(row: Mapping[str, Any], chances: Mapping[str, float] | None) -> list[float]:
    """A scene's probabilities in the order in which a benchmark row has its options."""
    if chances is None:
        raise DataError(f"the benchmark has scene {row['scene_id']}, the build has not; run `mirror bench` again")
    return [chances[option["item_key"]] for option in row["options"]]


def _logit(names: Sequence[str], train: tuple[Asked, Columns], test: tuple[Asked, Columns]) -> Floats:
    """Probabilities [n, W] of test scenes by a logit that was fitted on train scenes."""
    asked, columns = train
    design, scale = Design.of({name: columns[name].T for name in names}, asked.inside.T, asked.truth)
    weights = dict(zip(design.names, fit(design) / scale, strict=True))
    asked, columns = test
    inside = asked.inside.T
    x = np.stack([np.where(inside, columns[name].T, 0) for name in names])
    raw = Design(list(names), x.astype(np.float32), inside, asked.truth)
    return np.exp(log_probabilities(utility(raw, np.array([weights.get(name, 0.0) for name in names])))).T


def _fold(log: Log, users: Ints) -> Ints:
    """0 to FOLDS - 1 per scene, the same for all scenes of a user, whoever else there is."""
    return (id_hashes(list(log.users))[users] % np.uint64(FOLDS)).astype(np.int64)


def _title(baseline: Baseline) -> str:
    return baseline.name.replace("_", "-") + (f" ({baseline.history})" if baseline.history else "")
