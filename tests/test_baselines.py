"""Recommenders without a language model: each finds what it is for, none sees the truth or the future."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_mirror import baselines as room
from hf_mirror.baselines.feedback import Asked, Log, Sequences, first_cut, option_features
from hf_mirror.baselines.recommenders import content, ease, item_knn, markov
from hf_mirror.baselines.sasrec import sasrec
from hf_mirror.bench import bench
from hf_mirror.evaluation import open_bench
from hf_mirror.files import read_json, read_rows
from hf_mirror.results import predictions_of, rescore

LEARNERS = {"item_knn": item_knn, "ease": ease, "markov": markov, "sasrec": sasrec}


def known(*sequences: Sequence[int], n_items: int = 8) -> Sequences:
    return Sequences(tuple(map(tuple, sequences)), tuple(range(len(sequences))), n_items)


def asked(options: list[list[int]], histories: list[list[int]]) -> Asked:
    n = np.zeros(len(options), np.int64)
    return Asked([str(i) for i in range(len(options))], np.array(options), n, histories, n, n, n)


@pytest.mark.parametrize("name", ["item_knn", "ease"])
def test_neighbours_prefer_what_went_together(name: str) -> None:
    pairs = [(0, 1)] * 30 + [(2, 3)] * 30 + [(4, 5)] * 30
    scores = LEARNERS[name](known(*pairs), [])(asked([[1, 3], [3, 1], [5, 3]], [[0], [0], [4, 4]]))
    assert scores[0, 0] > scores[0, 1] and scores[1, 1] > scores[1, 0] and scores[2, 0] > scores[2, 1]
    assert scores[0, 0] == pytest.approx(scores[1, 1])


def test_ease_by_hand() -> None:
    """Two users of (0, 1), one of (2,): the gram matrix with 250 on its diagonal, inverted."""
    gram = np.array([[2, 2, 0], [2, 2, 0], [0, 0, 1]], float) + 250 * np.eye(3)
    inverse = np.linalg.inv(gram)
    scores = ease(known((0, 1), (0, 1), (2,), n_items=3), [])(asked([[1, 2]], [[0]]))
    assert scores[0] == pytest.approx([-inverse[0, 1] / inverse[1, 1], -inverse[0, 2] / inverse[2, 2]])


@pytest.mark.parametrize("name", ["markov", "sasrec"])
def test_sequence_models_know_what_comes_next(name: str) -> None:
    chain = [tuple((start + step) % 8 for step in range(6)) for start in range(8)] * 20
    scores = LEARNERS[name](known(*chain), [])(asked([[3, 1], [6, 4]], [[0, 1, 2], [3, 4, 5]]))
    assert (scores[:, 0] > scores[:, 1]).all()


def test_markov_by_hand() -> None:
    scores = markov(known((0, 1), (0, 1), (0, 2), n_items=3), [])(asked([[1, 2, -1]], [[2, 0]]))
    share = np.array([1, 3, 2]) / 6
    expected = [np.log((count + share[i]) / (4 * share[i])) for i, count in ((1, 2), (2, 1))]
    assert scores[0, :2] == pytest.approx(expected) and scores[0, 2] == 0


def test_content_prefers_what_reads_alike() -> None:
    attributes = [
        {"title": "Blue sea", "genres": ["Drama"]},
        {"title": "Blue sky", "genres": ["Drama"]},
        {"title": "Red car", "genres": ["Science Fiction"]},
    ]
    scores = content(known((0, 1), n_items=3), attributes)(asked([[1, 2]], [[0]]))
    assert scores[0, 0] > scores[0, 1] == 0
    assert (content(known((0, 1), n_items=3), [{}, {}, {}])(asked([[1, 2]], [[0]])) == 0).all()


@pytest.mark.parametrize("name", LEARNERS)
def test_no_history_and_unknown_items_are_no_trouble(name: str) -> None:
    scores = LEARNERS[name](known((0, 1), (1, 0)), [])(asked([[1, 7, -1], [7, 6, -1]], [[], [5]]))
    assert np.isfinite(scores).all() and (scores[0] == 0).all()


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory, built: Path) -> tuple[Path, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("scored") / "run"
    shutil.copytree(built, folder)
    scenes = folder / "movielens" / "scenes"
    shutil.copyfile(scenes / "test.parquet", scenes / "test-uniform.parquet")  # as if built with --also-test
    bench(folder)
    return folder, room.baselines(folder)


def test_every_baseline_is_a_result_with_predictions(scored: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, results = scored
    assert len(results) == 2 * len(room.named()) == 28
    rows = {(row["scene_id"], row["variant_id"]): row for row in read_rows(folder / "bench" / "movielens.parquet")}
    by_subset = [[r["scores"] for r in results if r["subset"] == name] for name in ("movielens", "movielens-uniform")]
    assert by_subset[0] == by_subset[1], "of the same scenes"
    for result in results[:14]:
        path = folder / "baselines" / result["model"].replace(" ", "-") / "movielens.json"
        assert read_json(path)["scores"] == result["scores"] and result["coverage"] == 1
        rescore(path, predictions_of(path), open_bench(str(folder)))
        predictions = read_rows(predictions_of(path))
        full_past = result["baseline"]["history"] == "full past"
        answered = [r for r in rows.values() if r["variant"]["text"] == "full"]
        answered = [r for r in answered if not full_past or r["variant"]["history"] == "own"]
        assert len(predictions) == len(answered)
        by_item: dict[tuple[str, str, str], set[float]] = {}
        for row in predictions:
            assert sum(row["choice_probs"]) == pytest.approx(1)
            asked_row = rows[row["scene_id"], row["variant_id"]]
            for option, p in zip(asked_row["options"], row["choice_probs"], strict=True):
                asked = asked_row["variant"]["donor"] or asked_row["variant"]["history"]
                by_item.setdefault((row["scene_id"], asked, option["item_key"]), set()).add(p)
        assert all(len(found) == 1 for found in by_item.values())  # permuting options permutes probabilities


def test_another_history_changes_what_history_tells_and_nothing_else(
    scored: tuple[Path, list[dict[str, Any]]],
) -> None:
    """Popularity says the same of a twin; EASE does not, and without history it knows nothing."""
    folder = scored[0]
    rows = {(row["scene_id"], row["variant_id"]): row for row in read_rows(folder / "bench" / "movielens.parquet")}
    by_name = {}
    for name in ("recent-popularity", "ease-(shown)"):
        found = read_rows(folder / "baselines" / name / "movielens.predictions.parquet")
        by_name[name] = {(row["scene_id"], row["variant_id"]): row["choice_probs"] for row in found}
    twins = [key for key, row in rows.items() if row["variant"]["history"] != "own"]
    differ = {
        name: {key for key in twins if found[key] != found[key[0], "own-full-random"]}
        for name, found in by_name.items()
    }
    assert twins and not differ["recent-popularity"]
    assert len(differ["ease-(shown)"]) > 0.9 * len(twins)
    for key in twins:
        if rows[key]["variant"]["history"] == "none":
            assert by_name["ease-(shown)"][key] == pytest.approx(
                [1 / len(rows[key]["options"])] * len(rows[key]["options"])
            )


def test_the_truth_of_test_scenes_is_never_seen(
    scored: tuple[Path, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(room.RECOMMENDERS, "sasrec")  # which takes long, and is asked in the same way
    folder = scored[0] / "movielens"
    log, cut = Log.of(folder), first_cut(folder)
    train, test = (Asked.of(folder, split, log) for split in ("train", "test"))
    as_it_is = room.columns_of(log, cut, train, test)[1]
    other = room.columns_of(log, cut, train, replace(test, truth=np.zeros_like(test.truth)))[1]
    assert all((as_it_is[name] == other[name]).all() for name in as_it_is)


def test_nothing_after_a_scene_is_seen(scored: tuple[Path, list[dict[str, Any]]]) -> None:
    """Without the events from the last test scene on, nothing changes; what is learned from ends at the first cut."""
    folder = scored[0] / "movielens"
    log = Log.of(folder)
    test = Asked.of(folder, "test", log)
    end = int(test.edge.max())
    cut_off = Log(log.users, log.items, log.attributes, log.time[:end], log.user[:end], log.item[:end],
                  log.positive[:end], log.memory)  # fmt: skip
    assert end < len(log.time)
    for name, values in option_features(log, test).items():
        assert (values == option_features(cut_off, test)[name])[test.inside].all(), name
    assert test.with_full_past(log).history == test.with_full_past(cut_off).history
    cut = first_cut(folder)
    learned = log.learned_from(cut, set(log.user.tolist()))
    assert sum(map(len, learned.items)) == int(((log.time < cut) & log.positive).sum())


def test_train_scores_come_from_others(
    scored: tuple[Path, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No recommender that scores a train scene has learned from the scene's user."""
    folder = scored[0] / "movielens"
    log, cut = Log.of(folder), first_cut(folder)
    train, test = (Asked.of(folder, split, log) for split in ("train", "test"))
    learned: list[tuple[set[int], set[int]]] = []

    def spy(known: Sequences, attributes: Sequence[Any]) -> Callable[[Asked], np.ndarray]:
        def scores(asked: Asked) -> np.ndarray:
            learned.append((set(known.users), set(asked.user.tolist())))
            return np.zeros(asked.options.shape)

        return scores

    monkeypatch.setattr(room, "RECOMMENDERS", {"spy": spy})
    room.columns_of(log, cut, train, test)
    assert len(learned) == 2 * (1 + room.FOLDS) and all(not users & asked for users, asked in learned)


def test_the_command_prints_one_table(scored: tuple[Path, list[dict[str, Any]]], mirror: Callable[..., Any]) -> None:
    folder = scored[0]
    done = mirror("leaderboard", folder / "baselines")
    assert done.code == 0 and "ease (shown)" in done.out and "conditional-logit (full past)" in done.out
    shutil.rmtree(folder / "bench")
    refused = mirror("baselines", folder)
    assert refused.code == 1 and "movielens.parquet is missing; run `mirror bench" in refused.err
