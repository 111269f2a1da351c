"""A whole pipeline, small: from made-up feedback to published, evaluated models, then again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hf_mirror import PROJECT
from hf_mirror.domains import import_file
from hf_mirror.errors import ConfigError
from hf_mirror.files import read_json, sha256_file
from hf_mirror.hub import EmbeddedHub
from hf_mirror.pipeline.form import Engine, Pipeline, Train, Write
from hf_mirror.pipeline.stages import Run

PIPELINE = """
out: {out}
builders: [movielens]
sample:
  movielens: {{users: 90, films: 90, ratings_per_user: 20}}
scenes: 50
write:
  teacher: {{backend: template, model: teacher}}
  student: {{backend: template, model: student}}
  n: 4
read: {{backend: template, model: reader}}
distill: {{rule: uncertainty_gap, size: {size}}}
train: {{student: tiny}}
"""
TRAINERS = """
import sys
from datasets import load_dataset
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

model, out = sys.argv[1:]
for subset in ("movielens", "mixed"):
    rows = load_dataset("mirror/mirror-preferences", subset, revision="v0.1.0", split="train")
    shared = dict(output_dir=out, max_steps=1, per_device_train_batch_size=2, max_length=1024, use_cpu=True, bf16=False,
                  report_to="none", save_strategy="no")
    SFTTrainer(model, SFTConfig(**shared), train_dataset=rows).train()
    DPOTrainer(model, args=DPOConfig(**shared), train_dataset=rows).train()
print("trained")
"""


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `mirror` in a process of its own, as a person would."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "MIRROR_"))}
    return subprocess.run(
        [str(Path(sys.executable).with_name("mirror")), *arguments],
        env={**kept, "OMP_WAIT_POLICY": "PASSIVE", **environment},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def datasets_of(run: Path) -> dict[str, str]:
    """Every dataset file of a run folder, by content."""
    patterns = ("*/scenes/*", "*/rationales/*/*.parquet", "*/readings/*/*.parquet", "*/preferences/*", "bench/*")
    return {str(p.relative_to(run)): sha256_file(p) for pattern in patterns for p in sorted(run.glob(pattern))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("pipeline")
    (folder / "small.yaml").write_text(PIPELINE.format(out=folder / "run", size=24), encoding="utf-8")
    done = command("run", str(folder / "small.yaml"), "--json")
    assert done.returncode == 0, done.stderr[-4000:]
    return folder, json.loads(done.stdout)


def test_everything_is_published_and_scored(whole: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = whole
    assert {result["model"].rsplit("/", 1)[-1] for result in summary["results"]} == {
        "tiny-mirror-sft",
        "tiny-mirror-dpo",
    }
    for result in summary["results"]:
        assert result["coverage"] == 1
        assert set(result["baselines"]) == {"chance", "popularity", "position_only"}
        assert result["baselines"]["chance"]["accuracy"]["value"] == pytest.approx(0.2)
    repos = {repo["repo"] for part in summary["repos"].values() for repo in part["repos"]}
    kinds = ("scenes", "rationales", "preferences", "bench")
    assert {f"mirror/mirror-{kind}" for kind in kinds} | {"mirror/tiny-mirror-sft", "mirror/tiny-mirror-dpo"} <= repos
    report = read_json(folder / "run" / "movielens" / "report.json")
    assert report["tables"]["read"] == report["tables"]["kept"] + sum(report["tables"]["dropped"].values())


def test_a_second_run_does_nothing_and_changes_nothing(whole: tuple[Path, dict[str, Any]]) -> None:
    folder, first = whole
    before = datasets_of(folder / "run")
    assert len(before) > 8
    done = command("run", str(folder / "small.yaml"), "--json")
    assert done.returncode == 0, done.stderr[-4000:]
    second = json.loads(done.stdout)
    assert second["seconds"] == {}
    assert datasets_of(folder / "run") == before
    for part in second["repos"].values():
        assert not any(repo["new_commit"] or repo["new_tag"] for repo in part["repos"])
    assert second["results"] == first["results"]


def test_the_same_file_elsewhere_gives_the_same_bytes(whole: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, _ = whole
    raw = folder / "run" / "raw" / "movielens"
    steps = [
        ["build", "movielens", "--raw", str(raw), "--out", str(tmp_path), "--scenes", "50"],
        ["rationales", str(tmp_path), "--role", "teacher", "--backend", "template", "--model", "teacher", "-n", "4"],
        ["rationales", str(tmp_path), "--role", "student", "--backend", "template", "--model", "student", "-n", "4"],
        ["read", str(tmp_path), "--backend", "template", "--model", "reader"],
        ["distill", str(tmp_path), "--size", "24"],
        ["bench", str(tmp_path)],
    ]
    for step in steps:
        done = command(*step, TZ="Asia/Tokyo", PYTHONHASHSEED="7")
        assert done.returncode == 0, done.stderr
    assert datasets_of(tmp_path) == datasets_of(folder / "run")


def test_trainers_take_the_published_rows_as_they_are(whole: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, _ = whole
    with EmbeddedHub(folder / "run" / "hub") as hub:
        done = subprocess.run(
            [sys.executable, "-c", TRAINERS, str(folder / "run" / "models" / "tiny-mirror-sft"), str(tmp_path / "out")],
            env={**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), "HF_UPDATE_DOWNLOAD_COUNTS": "0",
                 "OMP_WAIT_POLICY": "PASSIVE"},
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
    assert done.stdout.endswith("trained\n"), done.stderr[-4000:]


def test_other_bytes_under_the_same_tag_are_refused(whole: tuple[Path, dict[str, Any]]) -> None:
    """Last: it leaves other pairs in the run folder."""
    folder, _ = whole
    (folder / "smaller.yaml").write_text(PIPELINE.format(out=folder / "run", size=12), encoding="utf-8")
    done = command("run", str(folder / "smaller.yaml"))
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "v0.1.0" in lines[0] and "Traceback" not in done.stderr
    assert (folder / "run" / "models" / "tiny-mirror-dpo" / "model.safetensors").is_file()


def test_a_source_that_lost_its_licence_is_built_again(tmp_path: Path) -> None:
    engine = Engine("template", "reader")
    pipeline = Pipeline("unused", ("movielens",), Write(engine, engine), engine, Train("tiny"), scenes=40)
    raw = tmp_path / "raw"
    import_file(PROJECT / "dataset_builders" / "sample" / "movielens.py").generate(raw, users=60, films=60)
    run = Run(pipeline, {"movielens": raw}, tmp_path / "run", "http://unused")
    run.make_scenes()
    report = tmp_path / "run" / "movielens" / "report.json"
    assert read_json(report)["source"]["redistributable"]
    run.make_scenes()
    assert list(run.stamps.seconds) == ["build-movielens"]
    (raw / "README").unlink()
    run.make_scenes()
    assert not read_json(report)["source"]["redistributable"]


def test_a_domain_of_another_run_is_refused(tmp_path: Path) -> None:
    engine = Engine("template", "reader")
    pipeline = Pipeline("unused", ("movielens",), Write(engine, engine), engine, Train("tiny"), scenes=40)
    raw = tmp_path / "raw"
    import_file(PROJECT / "dataset_builders" / "sample" / "movielens.py").generate(raw, users=60, films=60)
    run = Run(pipeline, {"movielens": raw}, tmp_path / "run", "http://unused")
    run.make_scenes()
    run._refuse_other_domains()
    (tmp_path / "run" / "left_over").mkdir()
    (tmp_path / "run" / "left_over" / "report.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigError, match="left_over"):
        run._refuse_other_domains()


def test_results_that_are_none_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"baselines": {}}', encoding="utf-8")
    done = command("leaderboard", str(tmp_path))
    assert done.returncode == 1 and done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1
