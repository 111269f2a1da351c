"""Published scores are made again, and strangers' results submitted: the real Hub, a real model, the real lighteval."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hf_mirror.domains import import_file
from hf_mirror.errors import ConfigError, DataError, HubError
from hf_mirror.evaluation import evaluate
from hf_mirror.files import read_json, write_json
from hf_mirror.hub import EmbeddedHub
from hf_mirror.publish.evaluations import find_evaluations, stage
from hf_mirror.publish.submission import submit
from hf_mirror.results import read_result
from hf_mirror.verification import _gap, verify

fixture = import_file(Path(__file__).parent / "run_folder.py")
evaluations = import_file(Path(__file__).parent / "test_evaluation.py")
models, bench = evaluations.models, evaluations.bench

SHOP = "evaluations/shop.direct.json"
CARD = "---\nconfigs:\n- config_name: shop\n  data_files:\n  - split: test\n    path: shop/test.parquet\n---\n"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[EmbeddedHub]:
    with EmbeddedHub(tmp_path / "hub") as running:
        yield running


@pytest.fixture(scope="module")
def evaluated(models: Path, bench: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluated")
    evaluate(str(models / "random"), None, str(bench), "shop", out)
    return out


@pytest.fixture
def staged(evaluated: Path, tmp_path: Path) -> Path:
    """What a model's repo holds of an evaluation; tests spoil it."""
    found = find_evaluations(evaluated, lambda result: False)
    stage(found, tmp_path / "staged", repo="ns/model", bench="ns/mirror-bench", bench_commit=None)
    return tmp_path / "staged"


def upload(hub: EmbeddedHub, *folders: Path) -> None:
    from huggingface_hub import HfApi

    api = HfApi(endpoint=hub.url)
    api.create_repo("ns/model", exist_ok=True)
    for folder in folders:
        api.upload_folder(folder_path=folder, repo_id="ns/model")


def test_the_same_model_gives_the_same_probabilities(
    hub: EmbeddedHub, models: Path, bench: Path, staged: Path, tmp_path: Path
) -> None:
    said = read_json(staged / SHOP)
    assert read_result(staged / SHOP) == {name: value for name, value in said.items() if value is not None}
    upload(hub, models / "random", staged)
    found = verify("ns/model", str(bench), endpoint=hub.url, out=tmp_path / "records")
    assert [record["status"] for record in found["records"]] == ["re-scored"] and not found["problems"]
    found = verify("ns/model@main", str(bench), rerun=3, seed=5, endpoint=hub.url, out=tmp_path / "records")
    assert found["problems"] == []
    (record,) = read_json(tmp_path / "records" / "ns--model.json")
    result = read_json(staged / SHOP)
    assert record == found["records"][0] and (record["status"], record["n_rerun"]) == ("verified", 3)
    assert record["max_abs_difference"] < 1e-5 and record["seed"] == 5 and record["commit"] == found["revision"]
    assert all(record[key] == result[key] for key in ("model_revision", "bench_revision", "subset", "mode"))


def test_another_model_does_not(hub: EmbeddedHub, models: Path, bench: Path, staged: Path, tmp_path: Path) -> None:
    write_json(staged / SHOP, {k: v for k, v in read_json(staged / SHOP).items() if k != "dtype"})  # optional
    upload(hub, models / "uniform", staged)
    found = verify("ns/model", str(bench), rerun=2, endpoint=hub.url, out=tmp_path)
    assert found["records"] == read_json(tmp_path / "ns--model.json") == []
    (problem,) = found["problems"]
    assert "scene scene00" in problem and "differs by 0." in problem and "\n" not in problem


def test_a_commit_and_a_folder_of_the_same_rows(hub: EmbeddedHub, bench: Path, staged: Path) -> None:
    from huggingface_hub import HfApi

    api = HfApi(endpoint=hub.url)
    api.create_repo("ns/mirror-bench", repo_type="dataset")
    for content, words in ((bench / "bench" / "shop.parquet", ""), (b"other rows", "which is not what .* holds")):
        about = {"path_in_repo": "shop/test.parquet", "repo_id": "ns/mirror-bench", "repo_type": "dataset"}
        commit = api.upload_file(path_or_fileobj=content, **about).oid
        write_json(staged / SHOP, read_json(staged / SHOP) | {"bench_revision": commit})
        upload(hub, staged)
        found = verify("ns/model", str(bench), endpoint=hub.url)
        assert [record["status"] for record in found["records"]] == ([] if words else ["re-scored"])
        assert re.search(words, "".join(found["problems"])) and bool(found["problems"]) == bool(words)


def test_no_number_is_no_agreement() -> None:
    assert _gap([0.25, 0.75], [0.5, 0.5]) == 0.25 and _gap([], []) == _gap([], None) == 0
    assert _gap([0.5, 0.5], [0.5, math.nan]) == _gap([0.5, 0.5], [math.nan, 0.5]) == math.inf
    assert _gap([0.5, 0.5], []) == _gap([], [0.5, 0.5]) == math.inf


def test_edited_numbers_are_a_problem_and_exit_1(
    hub: EmbeddedHub, bench: Path, staged: Path, mirror_process: Callable[..., Any]
) -> None:
    result = read_json(staged / SHOP)
    result["scores"]["accuracy"]["value"] = 0.999
    write_json(staged / SHOP, result)
    upload(hub, staged)
    done = mirror_process("verify", "ns/model", "--bench", bench, HF_ENDPOINT=hub.url)
    assert done.code == 1 and "shop.direct.json is not what its predictions say: scores.accuracy.value" in done.out


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / SHOP).write_text("{"), "is no results file: not JSON, or cut in half"),
        (lambda folder: (folder / SHOP).write_bytes(b" " * 5_000_000), "has 5,000,000 bytes, more than"),
        (lambda folder: shutil.copy(folder / SHOP, folder / "evaluations" / "books.direct.json"), "has results of ns"),
        (lambda folder: write_json(folder / SHOP, read_json(folder / SHOP) | {"model": "other/model"}), "of other/mo"),
        (
            lambda folder: write_json(folder / SHOP, read_json(folder / SHOP) | {"bench_revision": "a" * 40}),
            "which is not what .* holds",
        ),
        (
            lambda folder: write_json(
                folder / SHOP,
                {k: v for k, v in read_json(folder / SHOP).items() if k not in ("model_revision", "predictions_sha256")}
                | {"baseline": {"name": "ease"}},
            ),
            "has results of a baseline",
        ),
    ],
)
def test_what_strangers_put_into_a_repo(
    hub: EmbeddedHub, bench: Path, staged: Path, spoil: Callable[[Path], Any], words: str
) -> None:
    spoil(staged)
    upload(hub, staged)
    problems = verify("ns/model", str(bench), endpoint=hub.url)["problems"]
    assert any(re.search(words, problem) for problem in problems), problems
    assert all("\n" not in problem for problem in problems)


def test_without_predictions_a_score_stays_self_reported(hub: EmbeddedHub, bench: Path, staged: Path) -> None:
    (staged / "evaluations" / "shop.direct.predictions.parquet").unlink()
    upload(hub, staged)
    found = verify("ns/model", str(bench), rerun=2, endpoint=hub.url)
    assert [(r["status"], r["n_rerun"]) for r in found["records"]] == [("self-reported", 0)] and not found["problems"]


def test_what_cannot_be_verified_is_one_line(hub: EmbeddedHub, bench: Path, models: Path) -> None:
    with pytest.raises(HubError, match=r"model ns/none is not there on http"):
        verify("ns/none", str(bench), endpoint=hub.url)
    upload(hub, models / "uniform")
    with pytest.raises(HubError, match="has 0 results in evaluations/"):
        verify("ns/model", str(bench), endpoint=hub.url)
    with pytest.raises(ConfigError, match="expected NAMESPACE/MODEL"):
        verify("model", str(bench), endpoint=hub.url)


# --- submission ---------------------------------------------------------------------------------------------------


def test_results_are_submitted_once_and_beside_what_is_there(
    hub: EmbeddedHub, evaluated: Path, bench: Path, tmp_path: Path, mirror_process: Callable[..., Any]
) -> None:
    from huggingface_hub import HfApi

    api = HfApi(endpoint=hub.url)
    other = "- dataset: {id: other/bench, task_id: x}\n  value: 0.5\n"
    api.create_repo("ns/model")
    for name, text in (("README.md", "# theirs"), (".eval_results/mirror-bench.yaml", other)):
        api.upload_file(path_or_fileobj=text.encode(), path_in_repo=name, repo_id="ns/model")
    api.create_repo("ns/mirror-bench", repo_type="dataset")
    for name, content in (("README.md", CARD.encode()), ("shop/test.parquet", bench / "bench" / "shop.parquet")):
        about = {"repo_id": "ns/mirror-bench", "repo_type": "dataset"}
        api.upload_file(path_or_fileobj=content, path_in_repo=name, **about)
    commit = api.dataset_info("ns/mirror-bench").sha
    shutil.copytree(evaluated, tmp_path / "out")
    result = read_json(tmp_path / "out" / "shop.json")
    write_json(tmp_path / "out" / "shop.json", result | {"bench": "ns/mirror-bench@main", "bench_revision": commit})

    def run(*options: str) -> dict[str, Any]:
        environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
        done = mirror_process("submit", tmp_path / "out", "--repo", "ns/model", "--json", *options, **environment)
        assert done.code == 0, done.err
        return dict(json.loads(done.out.splitlines()[-1]))

    proposed = run("--create-pr")
    assert "/discussions/1" in proposed["pull_request"] and SHOP not in api.list_repo_files("ns/model")
    first, again = run(), run()
    assert first["new_commit"] and not again["new_commit"] and first["sha"] == again["sha"]
    files = api.list_repo_files("ns/model")
    assert {"README.md", SHOP, "evaluations/shop.direct.predictions.parquet"} <= set(files)
    path = api.hf_hub_download("ns/model", ".eval_results/mirror-bench.yaml", local_dir=tmp_path / "down")
    entries = yaml.safe_load(Path(path).read_text())
    assert [entry["dataset"]["id"] for entry in entries] == ["other/bench", "ns/mirror-bench"]
    assert entries[1]["dataset"] == {"id": "ns/mirror-bench", "task_id": "shop", "revision": commit}
    assert api.model_info("ns/model").eval_results[1].value == pytest.approx(
        result["scores"]["accuracy"]["value"], 1e-4
    )


def test_what_nobody_else_could_check_is_not_submitted(evaluated: Path, tmp_path: Path, hub: EmbeddedHub) -> None:
    with pytest.raises(ConfigError, match=r"was made on the folder .* which nobody else has"):
        submit(evaluated, "ns/model", endpoint=hub.url)
    with pytest.raises(DataError, match="holds no results"):
        submit(tmp_path / "nothing", "ns/model", endpoint=hub.url)
    shutil.copytree(evaluated, tmp_path / "out")
    result = read_json(tmp_path / "out" / "shop.json") | {"bench": "ns/mirror-bench@v1.0.0"}
    write_json(tmp_path / "out" / "shop.json", result | {"model": "someone/else"})
    with pytest.raises(ConfigError, match="has results of someone/else, not of ns/model"):
        submit(tmp_path / "out", "ns/model", endpoint=hub.url)
