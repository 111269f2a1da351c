"""What of an evaluation leaves the house, and how a card tells it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors.numpy import save_file

from hf_mirror.domains import import_file
from hf_mirror.errors import DataError
from hf_mirror.files import read_json, write_json
from hf_mirror.publish.evaluations import Evaluation, stage_baselines
from hf_mirror.publish.model_repos import find_models, stage_model
from hf_mirror.publish.scores import described_evaluation
from hf_mirror.publish.staging import Run
from hf_mirror.results import read_result

fixture = import_file(Path(__file__).parent / "run_folder.py")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return fixture.make_run(tmp_path / "run")


def staged(run: Path, name: str, out: Path) -> Path:
    model = next(model for model in find_models(Run.open(run)) if model.name == name)
    return stage_model(model, out, namespace="acme", tag="v1.0.0", lineage=[])


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_of_a_closed_domain_no_predictions_and_no_counts_leave(run: Path, tmp_path: Path) -> None:
    fixture.add_model(run, "tuned", None, "films", base_id="HuggingFaceTB/SmolLM2-135M")
    path = run / "evaluations" / "tuned" / "films.json"
    whole = read_json(path)
    one = {"n_scenes": 1, "n_clusters": 1, **{name: whole["scores"][name] for name in ("accuracy", "log_loss")}}
    bins = [{"confidence": 0.5, "accuracy": 1, "scenes": 1}]
    counted = {"groups": {"gap": {"<1h": one}}, "calibration": {"4": {"bins": bins}}}
    shares = {"truth_share": {"4": [0, 1, 0, 0]}, "choice_share": {"4": [1, 0, 0, 0]}, "ckld": {"4": 1.0}}
    write_json(path, whole | counted | {"position": {"flip_rate": 0.5, **shares}})
    folder = staged(run, "tuned", tmp_path / "out")
    assert "evaluations/films.direct.json" in files(folder)
    assert not any(name.endswith(".parquet") for name in files(folder))
    shown = read_json(folder / "evaluations" / "films.direct.json")
    assert shown["scores"] == whole["scores"]
    assert not {"groups", "calibration", "worst_group", "brier_decomposition", "divergence"} & set(shown)
    assert shown["position"] == {"flip_rate": 0.5}
    card = (folder / "README.md").read_text()
    assert "| truths |" not in card and "those numbers stay self-reported" in card


def test_baselines_are_published_with_the_benchmark(run: Path, tmp_path: Path) -> None:
    for subset in ("shop", "films"):
        fixture.add_baseline(run, "ease-(shown)", subset)
    stage_baselines(Run.open(run), tmp_path / "bench", bench="acme/mirror-bench")
    names = {"shop.json", "shop.predictions.parquet", "films.json"}
    assert files(tmp_path / "bench") == {f"baselines/ease-(shown)/{name}" for name in names}
    result = read_json(tmp_path / "bench" / "baselines" / "ease-(shown)" / "shop.json")
    assert result["bench"] == "acme/mirror-bench" and str(tmp_path) not in str(result)
    card = (staged(run, "tiny-mirror-sft", tmp_path / "out") / "README.md").read_text()
    assert "| ease-(shown) | 0.250" in card


def test_scores_of_other_weights_or_rows_are_not_published(run: Path, tmp_path: Path) -> None:
    path = run / "evaluations" / "tiny-mirror-sft" / "shop.json"
    result = read_json(path)
    write_json(path, result | {"bench_revision": "sha256:" + "0" * 64})
    with pytest.raises(DataError, match=r"shop\.json was made on other rows than .*shop\.parquet"):
        staged(run, "tiny-mirror-sft", tmp_path / "out")
    write_json(path, result)
    path.with_name("shop.predictions.parquet").write_bytes(b"others")
    with pytest.raises(DataError, match=r"is not what shop\.json was made of"):
        staged(run, "tiny-mirror-sft", tmp_path / "out")
    path.rename(path.with_name("books.json"))
    with pytest.raises(DataError, match=r"expected the file to be named shop\.json"):
        staged(run, "tiny-mirror-sft", tmp_path / "out")


def test_scores_of_an_earlier_training_are_not_published(run: Path, tmp_path: Path) -> None:
    import numpy as np

    save_file({"weight": np.ones(8, np.float32)}, str(run / "models" / "tiny-mirror-sft" / "model.safetensors"))
    with pytest.raises(DataError, match="has scores of another version of tiny-mirror-sft"):
        staged(run, "tiny-mirror-sft", tmp_path / "out")


def test_both_modes_stand_side_by_side(run: Path, tmp_path: Path) -> None:
    out, version = run / "evaluations" / "tiny-mirror-sft", read_json(run / "evaluations/tiny-mirror-sft/shop.json")
    thoughts = {
        "decisions": 32,
        "valid": 0.75,
        "in_form": 1.0,
        "cut_off": 0.0,
        "stated_accuracy": 0.3,
        "consistent": 0.5,
    }
    fixture.add_results(out, run / "bench", "shop", "m", mode="rationale", rationale=thoughts,
                        model_revision=version["model_revision"])  # fmt: skip
    folder = staged(run, "tiny-mirror-sft", tmp_path / "out")
    stems = {"shop.direct", "shop.rationale"}
    expected = {f"evaluations/{stem}{end}" for stem in stems for end in (".json", ".predictions.parquet")}
    assert expected <= files(folder)
    assert "task_id: shop:rationale" in (folder / ".eval_results" / "mirror-bench.yaml").read_text()
    card = (folder / "README.md").read_text()
    path = fixture.add_results(tmp_path, run / "bench", "shop", "m", mode="rationale",
                               rationale=dict.fromkeys(thoughts) | {"decisions": 0})  # fmt: skip
    unread = Evaluation(path, read_result(path), closed=False)
    assert not any("thoughts" in fact for fact in described_evaluation(unread, "m", [])["facts"])
    assert "### `shop`, after thinking" in card and "Of 32 thoughts 75.0 % end in a valid option" in card


def test_a_card_tells_what_is_behind_the_scores(run: Path, tmp_path: Path) -> None:
    path = run / "evaluations" / "tiny-mirror-sft" / "shop.json"
    delta = {"value": -0.05, "low": -0.09, "high": -0.01}
    twin = {"n_scenes": 2, "accuracy": delta, "log_loss": {"value": 0.2, "low": 0.1, "high": 0.3}, "p_value": 0.01}
    behind = {
        "twins": {"swapped:random-full-random": twin},
        "calibration": {"4": {"ece_top_label": 0.123, "ece_class_wise": 0.05, "bins": []}},
        "position": {"choice_share": {"2": [1.0, 0.0], "4": [0.1, 0.6, 0.2, 0.1]},
                     "truth_share": {"2": [0.5, 0.5], "4": [0.25] * 4}, "slot_accuracy": 0.3, "flip_rate": 0.4},
        "worst_group": {"gap": {"group": "<1h", "accuracy": 0.2, "gap": 0.1}},
    }  # fmt: skip
    write_json(path, read_json(path) | behind)
    card = (staged(run, "tiny-mirror-sft", tmp_path / "out") / "README.md").read_text()
    for line in (
        "| another user's history, drawn at random | 2 | -0.050 (-0.090 to -0.010) | +0.200 (+0.100 to +0.300) |",
        "- Calibration error (ECE of the likeliest option, 0 is best): 12.3 points with 4 options.",
        "- Another order of the same options changes its choice in 40.0 % of cases.",
        "- Lowest accuracy by group: <1h of gap (10.0 points below the best).",
        "| 2 | choices | 100.0 % | 0.0 % |  |  |",
        "| 4 | truths | 25.0 % | 25.0 % | 25.0 % | 25.0 % |",
        "> **Underpowered**: fewer than 200 users.",
        "> **Some baselines do better**, by log-loss: chance",
        "Self-reported: ",
    ):
        assert line in card, line


def test_a_memorisation_probe_goes_along_but_is_no_score(run: Path, tmp_path: Path) -> None:
    out = run / "evaluations" / "tiny-mirror-sft"
    probe = read_json(out / "shop.json") | {
        "subset": "shop-memorised", "regime": "memorised", "bench": "mirror probe",
        "bench_revision": "sha256:" + "0" * 64,
    }  # fmt: skip
    write_json(out / "shop-memorised.json", probe)
    shutil.copy(out / "shop.predictions.parquet", out / "shop-memorised.predictions.parquet")
    folder = staged(run, "tiny-mirror-sft", tmp_path / "out")
    assert read_json(folder / "evaluations" / "shop-memorised.direct.json")["bench"] == "mirror probe"
    assert "memorised" not in (folder / ".eval_results" / "mirror-bench.yaml").read_text()
