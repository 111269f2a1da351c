"""Comparing models: hand-computed tests, their size under the null, and the command."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from hf_mirror import metrics
from hf_mirror.alignment import score
from hf_mirror.cli import main
from hf_mirror.comparison import pairwise, ranks
from hf_mirror.domains import import_file
from hf_mirror.files import sha256_file, write_json, write_rows
from hf_mirror.hub import EmbeddedHub
from hf_mirror.schema import BENCH, PREDICTION

made = import_file(Path(__file__).parent / "made_rows.py")
scene_rows, tasteful = made.scene_rows, made.tasteful


def test_sign_flip_by_hand():
    # Three users, sums 2, 1, 3: only the two vectors of equal signs reach 6.
    differences, users = np.array([[1.0], [1.0], [1.0], [3.0]]), np.array([0, 0, 1, 2])
    assert metrics.sign_flip(differences, users, seed=0).tolist() == [2 / 8]
    # Sums 2, 1, -1: |T| = 2; of eight vectors four have |T*| = 4 or 2 with … counted: 4,2,2,0 and their mirrors.
    assert metrics.sign_flip(np.array([[2.0], [1.0], [-1.0]]), np.arange(3), seed=0).tolist() == [6 / 8]
    assert metrics.sign_flip(np.array([[2.0], [1.0]]), np.zeros(2, dtype=int), seed=0).tolist() == [1.0]
    assert metrics.sign_flip(np.zeros((50, 1)), np.arange(50), seed=0).tolist() == [1.0]


def test_sign_flip_keeps_its_size_where_scenes_of_a_user_agree():
    """Under the null 5 % are below 0.05, with 400 experiments at once; scenes taken for independent are not."""
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(40), 5)
    differences = rng.normal(size=(40, 400))[users] + rng.normal(size=(200, 400))
    clustered = metrics.sign_flip(differences, users, seed=1, draws=999)
    assert 0.025 <= (clustered <= 0.05).mean() <= 0.08
    assert (metrics.sign_flip(differences, np.arange(200), seed=1, draws=999) <= 0.05).mean() > 0.15


def test_holm_and_rank_sets_by_hand():
    assert metrics.holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert metrics.holm([0.6, 0.7]) == pytest.approx([1, 1])
    assert metrics.holm([]).tolist() == []
    found = metrics.rank_sets(["a", "b", "c"], {("a", "b"), ("a", "c")})
    assert found == {"a": (1, 1), "b": (2, 3), "c": (2, 3)}
    assert metrics.rank_sets(["a", "b"], set()) == {"a": (1, 2), "b": (1, 2)}
    assert metrics.worst_group({"x": 0.5, "y": 0.2}) == {"group": "y", "accuracy": 0.2, "gap": 0.3}
    assert metrics.worst_group({}) is None


@pytest.fixture(scope="module")
def rows():
    return [row for n in range(60) for row in scene_rows(n, 3, n % 30)]


def test_pairs_by_hand(rows):
    good = [tasteful(row, 0.8) for row in rows]
    part = [tasteful(row, 0.5) if row["scene_id"] < "scene00030" else [] for row in rows]
    found = pairwise(rows, {"good": good, "part": part, "same": good})
    pair = found["pairs"][0]
    assert (pair["a"], pair["b"], found["n_scenes"]) == ("good", "part", 60)
    # Failures cost ln 3, the larger of chance and its own mean; accuracy 0.
    half = (math.log(0.8 / 0.5) + math.log(0.8 * 3)) / 2
    assert pair["full"]["log_loss"]["value"] == pytest.approx(-half)
    assert pair["full"]["accuracy"]["value"] == pytest.approx(0.5)
    assert pair["intersection"]["n_scenes"] == 30
    assert pair["intersection"]["log_loss"]["value"] == pytest.approx(-math.log(0.8 / 0.5))
    assert pair["full"]["log_loss"]["p_value"] == pytest.approx(1e-4)
    assert pair["full"]["log_loss"]["p_holm"] == pytest.approx(3e-4)
    assert found["pairs"][1]["full"]["log_loss"]["p_value"] == 1.0
    assert found["ranks"] == ranks(["good", "part", "same"], found["pairs"])
    assert found["ranks"] == {"good": [1, 2], "part": [3, 3], "same": [1, 2]}


def test_models_that_share_no_scene(rows):
    first = [tasteful(row, 0.8) if row["scene_id"] < "scene00030" else None for row in rows]
    other = [None if row["scene_id"] < "scene00030" else tasteful(row, 0.8) for row in rows]
    pair = pairwise(rows, {"a": first, "b": other})["pairs"][0]
    assert pair["intersection"] == {"n_scenes": 0}
    assert json.dumps(pair, allow_nan=False)


def answer(row, p):
    """P(truth) = p, or as p(row) says; None: a failure."""
    p = p(row) if callable(p) else p
    return {"choice_probs": [] if p is None else tasteful(row, p), "failure": None if p is not None else "no_answer"}


@pytest.fixture
def results(rows, tmp_path):
    """A bench, and `write(name, p)`, which makes the files of a model."""
    bench = tmp_path / "bench"
    write_rows(bench / "shop.parquet", rows, BENCH)
    revision = f"sha256:{sha256_file(bench / 'shop.parquet')}"

    def write(name, p, stem="shop", **given):
        out = tmp_path / name
        predictions = [{**{key: row[key] for key in ("scene_id", "variant_id")}, **answer(row, p)} for row in rows]
        write_rows(out / f"{stem}.predictions.parquet", predictions, PREDICTION)
        failures = [each["failure"] for each in predictions if each["failure"]]
        about = {
            "model": name, "model_revision": "1", "bench": bench.name, "bench_revision": revision, "subset": "shop",
            "domain": "shop", "mode": "direct", "backend": "transformers", "seed": 0, "code_version": "0.1.0",
            "predictions_sha256": sha256_file(out / f"{stem}.predictions.parquet"),
            "failures": {"no_answer": len(failures)} if failures else {},
            **score(rows, [each["choice_probs"] for each in predictions], seed=0),
        }  # fmt: skip
        write_json(out / f"{stem}.json", about | given)
        return str(out)

    return str(bench), write


def test_the_command(results, capsys):
    bench, write = results
    main(["compare", write("one", 0.8), write("two", 0.5), "--bench", bench, "--json"])
    pair = json.loads(capsys.readouterr().out)["subsets"]["shop"]["pairs"][0]
    assert pair["full"]["log_loss"]["value"] == pytest.approx(-math.log(0.8 / 0.5))
    main(["compare", write("one", 0.8), write("two", 0.5), "--bench", bench])
    shown = capsys.readouterr().out
    assert "one - two" in shown and "log-loss -0.470 [-0.470, -0.470] p=0.0001" in shown
    assert "ranks by log-loss: one 1, two 2" in shown and "answered by both" not in shown


def test_what_both_answered_is_told_where_it_is_less(rows, results, capsys):
    bench, write = results
    part = write("part", lambda row: 0.5 if row["scene_id"] < "scene00030" else None)
    main(["compare", write("one", 0.8), part, "--bench", bench])
    shown = capsys.readouterr().out
    assert "    60 scenes: accuracy +50.0 " in shown
    assert "    answered by both: 30 scenes: accuracy +0.0 " in shown


def test_results_of_both_modes_are_compared_mode_by_mode(results, capsys):
    bench, write = results
    for name in ("one", "two"):
        write(name, 0.8)
        write(f"{name}/", 0.6, stem="shop.rationale", mode="rationale")
    main(["compare", str(Path(bench).parent / "one"), str(Path(bench).parent / "two"), "--bench", bench, "--json"])
    assert list(json.loads(capsys.readouterr().out)["subsets"]) == ["shop", "shop.rationale"]


def test_a_baseline_that_does_not_answer_twins_is_compared(rows, results, capsys):
    bench, write = results
    with_twins = rows + [made.twin(row, "own-ids-random") for row in rows if row["variant"]["order"] == "random"]
    write_rows(Path(bench) / "shop.parquet", with_twins, BENCH)
    revision = f"sha256:{sha256_file(Path(bench) / 'shop.parquet')}"
    about = {"bench_revision": revision, "baseline": {"name": "any"}}
    given = [write(name, p, **about) for name, p in (("one", 0.8), ("two", 0.5))]
    main(["compare", *given, "--bench", bench, "--json"])
    assert json.loads(capsys.readouterr().out)["subsets"]["shop"]["n_scenes"] == 60


def test_a_commit_and_the_hash_of_its_file_are_the_same_rows(results, tmp_path, monkeypatch, capsys):
    from huggingface_hub import HfApi

    bench, write = results
    with EmbeddedHub(tmp_path / "hub") as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        api = HfApi(endpoint=hub.url)
        api.create_repo("ns/bench", repo_type="dataset")
        commits = []
        for content in (Path(bench) / "shop.parquet", b"other rows"):
            about = {"path_in_repo": "shop/test.parquet", "repo_id": "ns/bench", "repo_type": "dataset"}
            commits.append(api.upload_file(path_or_fileobj=content, **about).oid)
        same, other = ({"bench": "ns/bench@main", "bench_revision": commit} for commit in commits)
        main(["compare", write("one", 0.8), write("two", 0.5, **same), "--bench", bench])
        assert "one - two" in capsys.readouterr().out
        with pytest.raises(SystemExit):
            main(["compare", write("one", 0.8), write("two", 0.5, **other), "--bench", bench])
        assert "was made on other rows of shop" in capsys.readouterr().err


def test_a_file_given_twice_is_refused(results, capsys):
    bench, write = results
    one = write("one", 0.8)
    with pytest.raises(SystemExit):
        main(["compare", one, f"{one}/shop.json", "--bench", bench])
    assert "given twice" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"mode": "rationale"}, "no two results have subset and mode in common"),
        ({"bench_revision": "abc"}, "two/shop.json is no results file: bench_revision is 'abc'"),
        (
            {"bench_revision": "sha256:" + "0" * 64},
            "was made on other rows of shop (sha256:00",
        ),
        ({"predictions_sha256": "0" * 64}, "its SHA-256 is another"),
        ({"subset": "other"}, "no two results have subset and mode in common"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(results, capsys, given, told):
    bench, write = results
    with pytest.raises(SystemExit):
        main(["compare", write("one", 0.8), write("two", 0.5, **given), "--bench", bench])
    shown = capsys.readouterr().err
    assert told in shown and shown.count("\n") == 1
