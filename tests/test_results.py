"""Results files of strangers: what is used of them, and in what words the rest is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_mirror.domains import import_file
from hf_mirror.errors import DataError
from hf_mirror.evaluation import open_bench
from hf_mirror.files import read_json, read_rows, sha256_file, write_json, write_rows
from hf_mirror.results import predictions_of, read_result, rescore
from hf_mirror.schema import BENCH, PREDICTION

fixture = import_file(Path(__file__).parent / "run_folder.py")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with results; tests copy what they spoil."""
    return fixture.make_run(tmp_path_factory.mktemp("results") / "run", ("shop",))


@pytest.fixture
def result(whole: Path, tmp_path: Path) -> Path:
    return fixture.add_results(tmp_path / "out", whole / "bench", "shop", "acme/model")


def refused(whole: Path, path: Path) -> str:
    """The one line that says why."""
    with pytest.raises(DataError) as caught:
        rescore(path, predictions_of(path), open_bench(str(whole)))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    return str(caught.value)


def test_results_are_what_their_predictions_say(whole: Path, result: Path) -> None:
    rows, answers = rescore(result, predictions_of(result), open_bench(str(whole)))
    assert len(rows) == len(answers) == 10 and answers[0] == [0.1, 0.7, 0.1, 0.1]


def test_the_order_of_predictions_means_nothing(whole: Path, result: Path) -> None:
    change_predictions(result, lambda rows: rows[::-1])
    assert rescore(result, predictions_of(result), open_bench(str(whole)))[1][0] == [0.1, 0.7, 0.1, 0.1]


def test_a_baseline_has_no_engine_and_no_revision(whole: Path) -> None:
    path = fixture.add_baseline(whole, "ease-(shown)", "shop")
    assert read_result(path)["baseline"] == {"name": "ease-(shown)"}


def test_a_baseline_may_leave_out_other_variants_alone(whole: Path, tmp_path: Path) -> None:
    rows = read_rows(whole / "bench" / "shop.parquet")
    twin = rows[-1] | {"variant_id": "none-full-random", "variant": rows[-1]["variant"] | {"history": "none"}}
    write_rows(tmp_path / "bench" / "shop.parquet", [*rows, twin], BENCH)
    path = fixture.add_baseline(tmp_path, "ease", "shop")
    bench = open_bench(str(tmp_path))
    assert rescore(path, predictions_of(path), bench)[1][-1] == [0.1, 0.7, 0.1, 0.1]
    own = {name: value for name, value in read_json(path).items() if name != "twins"}
    write_json(path, own)
    change_predictions(path, lambda rows: rows[:-1])
    assert rescore(path, predictions_of(path), bench)[1][-1] == []
    change_predictions(path, lambda rows: rows[:-1])
    assert "own-full-random; expected every row of shop once" in refused(tmp_path, path)


def set_at(*path: Any, to: Any) -> Callable[[Any], None]:
    def change(found: Any) -> None:
        for name in path[:-1]:
            found = found[name]
        found[path[-1]] = to

    return change


def without(name: str) -> Callable[[Any], None]:
    return lambda found: found.pop(name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_at("scores", "accuracy", "value", to=float("nan")), "scores.accuracy is not a finite number"),
        (set_at("scores", "log_loss", "low", to=float("-inf")), "scores.log_loss is not a finite number"),
        (set_at("scores", "accuracy", "value", to="0.9"), "scores.accuracy is not a finite number"),
        (set_at("scores", "accuracy", "value", to=True), "scores.accuracy is not a finite number"),
        (set_at("scores", "accuracy", to=0.9), "scores.accuracy is not {value, low, high}"),
        (set_at("scores", "<script>", to={"value": 1, "low": 1, "high": 1}), "scores has the name '<script>'"),
        (set_at("baselines", to={}), "baselines lacks chance"),
        (set_at("scores", to={}), "scores lacks accuracy, log_loss"),
        (without("scores"), "lacks scores"),
        (without("model_revision"), "lacks model_revision"),
        (without("predictions_sha256"), "lacks predictions_sha256"),
        (set_at("subset", to="../../etc/passwd"), "subset is '../../etc/passwd'"),
        (set_at("subset", to="..hidden"), "subset is '..hidden'"),
        (set_at("subset", to="nowhere"), "has no subset 'nowhere'"),
        (set_at("model", to="a\nb"), r"model is 'a\\nb'"),
        (set_at("model", to="m" * 3000), "model is 'mmmm"),
        (set_at("mode", to="both"), "mode is 'both'"),
        (set_at("dtype", to="int4; rm -rf"), "dtype is 'int4"),
        (set_at("bench_revision", to="main"), "bench_revision is 'main'"),
        (set_at("n_scenes", to=0), "n_scenes is 0"),
        (set_at("n_scenes", to=2.0), "n_scenes is not a count"),
        (set_at("seed", to=10**30), "seed is not a count"),
        (set_at("coverage", to=1.5), r"coverage is 1\.5, not a share"),
        (set_at("failures", to={"x": -1}), "failures.x is not a count"),
        (set_at("versions", to={str(i): "1" for i in range(3000)}), "versions has 3,000 names, more than 200"),
        (set_at("versions", to={"a\u0000": "1"}), "versions has the name"),
        (set_at("groups", to=json.loads("[" * 20 + "]" * 20)), "groups is not an object"),
        (set_at("bench_revision", to="sha256:" + "0" * 64), r"was made on shop of .* which is not what .* holds"),
        (set_at("scores", "accuracy", "value", to=0.99), r"scores.accuracy.value is 0.99, by the predictions 0\.\d+$"),
        (set_at("scores", "accuracy", "low", to=-9), "scores.accuracy.low is -9, by the predictions"),
        (set_at("baselines", "chance", "accuracy", "value", to=0.0), "baselines.chance.accuracy.value is 0, by"),
        (set_at("scores", "made_up", to={"value": 1, "low": 1, "high": 1}), "scores.made_up is nothing that scoring"),
        (set_at("n_clusters", to=900), "2 scenes of 900 users cannot be"),
        (set_at("n_clusters", to=1), "n_clusters is 1, by the predictions 2"),
        (set_at("underpowered", to=False), "underpowered is False, by the predictions True"),
        (set_at("regime", to="uniform"), "regime is 'uniform', by the predictions 'popularity_matched'"),
        (set_at("domain", to="films"), "domain is 'films', by the predictions 'shop'"),
        (set_at("failures", to={"over_length": 3}), "have failures {}, the results have {'over_length': 3}"),
        (set_at("predictions_sha256", to="0" * 64), "its SHA-256 is another"),
    ],
)
def test_odd_or_edited_results_are_one_line(
    whole: Path, result: Path, change: Callable[[Any], None], words: str
) -> None:
    found = read_json(result)
    change(found)
    result.write_text(json.dumps(found))
    with pytest.raises(DataError, match=words):
        rescore(result, predictions_of(result), open_bench(str(whole)))
    refused(whole, result)


@pytest.mark.parametrize(
    "text", ["", "[]", "null", '"text"', "{}", '{"model": "m"', "\ud800", "[" * 100_000, "1" * 9_000]
)
def test_what_is_no_results_file(whole: Path, result: Path, text: str) -> None:
    result.write_bytes(text.encode("utf-8", "surrogatepass"))
    assert "is no results file" in refused(whole, result)


def test_a_file_cut_anywhere_is_refused(whole: Path, result: Path) -> None:
    data = result.read_bytes().rstrip()
    for cut in range(0, len(data), max(1, len(data) // 40)):
        result.write_bytes(data[:cut])
        assert "not JSON, or cut in half" in refused(whole, result)


def test_a_file_of_many_bytes_is_not_read(whole: Path, result: Path) -> None:
    with result.open("r+b") as file:
        file.truncate(2**33)  # sparse
    assert "4,194,305 bytes, more than 4,194,304" in refused(whole, result)


# --- predictions --------------------------------------------------------------------------------------------------


def change_predictions(result: Path, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    """Writes other predictions, and their hash into the results."""
    rows = read_rows(predictions_of(result))
    rows = change(rows) or rows
    write_rows(predictions_of(result), rows, PREDICTION)
    seal(result)


def seal(result: Path) -> None:
    write_json(result, read_json(result) | {"predictions_sha256": sha256_file(predictions_of(result))})


def swap(rows: list[dict[str, Any]]) -> None:
    rows[0]["choice_probs"], rows[7]["choice_probs"] = [0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows[:-1], "have 9 rows; shop has 10"),
        (lambda rows: [*rows[:-1], rows[0]], "have a row twice"),
        (set_at(3, "scene_id", to="another"), "have the row another/own-full-shift3, which shop has not"),
        (set_at(0, "choice_probs", to=[0.5, 0.5]), "has 2 probabilities of 4 options"),
        (set_at(0, "choice_probs", to=[0.5, 0.5, float("nan"), 0]), "has no probabilities: "),
        (set_at(0, "choice_probs", to=[0.5, 0.5, None, 0]), "has no probabilities: "),
        (set_at(0, "choice_probs", to=[1.5, -0.5, 0, 0]), "has no probabilities: "),
        (set_at(0, "choice_probs", to=[0.5, 0, 0, 0]), "has no probabilities: "),
        (set_at(0, "choice_probs", to=[]), "neither probabilities nor why they are missing"),
        (set_at(0, "failure", to="over_length"), "has 4 probabilities of a failure of 4 options"),
        (swap, "is not what its predictions say: "),
    ],
)
def test_odd_predictions_are_one_line(
    whole: Path, result: Path, change: Callable[[list[dict[str, Any]]], Any], words: str
) -> None:
    change_predictions(result, change)
    with pytest.raises(DataError, match=words):
        rescore(result, predictions_of(result), open_bench(str(whole)))
    refused(whole, result)


def test_failures_are_counted_and_charged(whole: Path, result: Path) -> None:
    change_predictions(result, lambda rows: rows[0].update(choice_probs=[], failure="over_length"))
    assert "have failures {'over_length': 1}, the results have {}" in refused(whole, result)
    write_json(result, read_json(result) | {"failures": {"over_length": 1}})
    assert "coverage is 1, by the predictions 0.875" in refused(whole, result)


def test_predictions_that_are_missing_cut_or_other_columns(whole: Path, result: Path) -> None:
    path = predictions_of(result)
    data = path.read_bytes()
    path.write_bytes(data[:100])
    seal(result)
    assert "not a whole Parquet file" in refused(whole, result)
    pq.write_table(pa.table({"scene_id": list("abcdefgh")}), path)
    seal(result)
    assert "have columns scene_id; expected scene_id, variant_id" in refused(whole, result)
    path.unlink()
    assert "are missing; expected shop.predictions.parquet" in refused(whole, result)


def test_few_rows_of_many_values_are_not_read(whole: Path, result: Path) -> None:
    change_predictions(result, set_at(0, "choice_probs", to=[0.0] * 1000))
    assert "hold more values than 10 rows can have" in refused(whole, result)


def test_results_of_another_bench_with_the_same_scenes(whole: Path, result: Path, tmp_path: Path) -> None:
    rows = read_rows(whole / "bench" / "shop.parquet")
    rows[0]["gold_index"] = (rows[0]["gold_index"] + 1) % 4
    write_rows(tmp_path / "other" / "shop.parquet", rows, BENCH)
    assert "give --bench that version" in refused(tmp_path / "other", result)
