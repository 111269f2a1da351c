"""The lighteval suite without a model: documents, probabilities, tasks."""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import pytest

from hf_mirror.errors import ConfigError
from hf_mirror.files import write_rows
from hf_mirror.schema import BENCH

tasks = pytest.importorskip("evals.tasks", reason="lighteval is not installed")
FILE = Path(__file__).resolve().parents[2] / "evals" / "tasks.py"


def row(scene: str, order: str, gold: int, domain: str = "shop") -> dict:
    items = ["a", "b", "c"] if order != "random" else ["c", "a", "b"]
    return {
        "scene_id": scene,
        "variant_id": f"own-full-{order}",
        "domain": domain,
        "regime": "uniform",
        "user_cluster": f"user of {scene}",
        "variant": {"history": "own", "donor": None, "profile": "own", "text": "full", "order": order},
        "options": [{"item_key": item, "asof_count": 1, "source": "made"} for item in items],
        "groups": {},
        "gap_seconds": None,
        "n_clicked": None,
        "prompt": [{"role": "user", "content": f"{scene}?\nA, B or C"}],
        "choices": ["A", "B", "C"],
        "gold_index": gold,
    }


def respond(log_probs: list, context: int = 10, continuations: tuple[list[int], ...] = ([5, 6], [5, 7], [5, -1])):
    from lighteval.models.model_output import ModelResponse

    return ModelResponse(input_tokens=[1] * context, output_tokens=list(continuations), logprobs=log_probs)


def test_a_document_asks_the_stored_prompt_and_scores_the_answer_line():
    doc = tasks.direct_doc(row("s", "shift 0", 2), "mirror:shop")
    assert doc.query == "s?\nA, B or C"
    assert doc.choices == ["Behavior: [A", "Behavior: [B", "Behavior: [C"] and doc.gold_index == 2
    assert doc.instruction is None  # lighteval would glue it to the query
    assert (doc.specific["scene_id"], doc.specific["variant_id"], doc.specific["n_options"]) == (
        "s",
        "own-full-shift 0",
        3,
    )


def test_probabilities_are_over_exactly_the_options():
    doc = tasks.direct_doc(row("s", "shift 0", 0), "mirror:shop")
    found = tasks.OptionProbabilities().compute(doc, respond([-20.0, -20.0 + math.log(2), -20.0]))
    assert found["choice_probs"] == pytest.approx([0.25, 0.5, 0.25]) and found["failure"] == ""
    assert found["n_tokens"] == 12


@pytest.mark.parametrize("bad", [[-1.0, None, -1.0], [-1.0, math.nan, -1.0], [-1.0, -math.inf, -1.0], [-1.0, -2.0], []])
def test_what_is_not_finite_is_a_failure(bad):
    """lighteval's cache turns NaN into None."""
    doc = tasks.direct_doc(row("s", "shift 0", 0), "mirror:shop")
    found = tasks.OptionProbabilities().compute(doc, respond(bad))
    assert found["failure"] == "not_finite" and found["choice_probs"] == []


@pytest.mark.parametrize(("limit", "failure"), [("11", "over_length"), ("12", ""), ("", "")])
def test_inputs_that_lighteval_would_cut_are_failures(monkeypatch, limit, failure):
    monkeypatch.setenv("MIRROR_MAX_LENGTH", limit)
    doc = tasks.direct_doc(row("s", "shift 0", 0), "mirror:shop")
    assert tasks.OptionProbabilities().compute(doc, respond([-1.0, -1.0, -1.0]))["failure"] == failure


def test_the_table_is_flat_numbers_averaged_over_scenes():
    rows = [row("s", "shift 0", 0), row("s", "shift 1", 1), row("s", "random", 1), row("t", "shift 0", 2)]
    probs = [[0.8, 0.1, 0.1], [0.8, 0.1, 0.1], [0.8, 0.1, 0.1], [0.1, 0.1, 0.8]]
    records = [{"row": r, "choice_probs": p, "n_tokens": 7} for r, p in zip(rows, probs, strict=True)]
    flat = tasks.table_of_scores(records)
    assert flat["accuracy"] == pytest.approx((0.5 + 1) / 2)  # two scenes, not three rows
    assert flat["chance_log_loss"] == pytest.approx(math.log(3))
    assert (flat["coverage"], flat["n_scenes"], flat["n_clusters"], flat["longest_input"]) == (1, 2, 2, 7)
    assert all(isinstance(value, float) for value in flat.values())


def test_metrics_survive_pickling():
    """lighteval may hand them to worker processes."""
    for _, metric in tasks.MODES.values():
        copy = pickle.loads(pickle.dumps(metric))
        assert copy.corpus_level_fn is tasks.table_of_scores


def test_decisions_of_an_engine_that_only_writes_are_votes():
    doc = tasks.rationale_doc(row("s", "shift 0", 0), "mirror:shop:rationale")
    assert "Stimulus" in doc.query and len(doc.choices) == 3
    texts = ["Behavior: [B]", "I like it\nBehavior: [B]", "Behavior: [A]", "Behavior: [Z]"]
    found = tasks.DecisionProbabilities().compute(doc, tasks.ModelResponse(text=texts))
    assert found["choice_probs"] == pytest.approx([(1 + 1 / 3) / 4, (2 + 1 / 3) / 4, (1 / 3) / 4])
    assert [each["stated_choice"] for each in found["decisions"]] == [1, 1, 0, None]
    assert found["decisions"][3]["parse_error"] == "label_out_of_range"
    none = tasks.DecisionProbabilities().compute(doc, tasks.ModelResponse(text=["hm"] * 4))
    assert (none["choice_probs"], none["failure"]) == ([], "no_answer")


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    for domain, scenes in (("shop", 2), ("my-test", 1)):
        rows = [row(f"s{i}", order, 0, domain) for i in range(scenes) for order in ("shift 0", "random")]
        write_rows(tmp_path / "run" / "bench" / f"{domain}.parquet", rows, BENCH)
    tasks.tasks_of.cache_clear()
    return tmp_path / "run"


def test_one_task_per_domain_whatever_its_file_is_called(bench, monkeypatch):
    from lighteval.tasks.lighteval_task import LightevalTask
    from lighteval.tasks.registry import Registry

    monkeypatch.setenv("MIRROR_BENCH", str(bench))
    by_path = Registry._extract_configs(Registry.create_custom_tasks_module(str(FILE)))
    by_name = Registry._extract_configs(Registry.create_custom_tasks_module("evals.tasks"))
    assert (
        set(by_path)
        == set(by_name)
        == {
            "mirror:shop",
            "mirror:shop:rationale",
            "mirror:my-test",
            "mirror:my-test:rationale",
        }
    )
    docs = {name: LightevalTask(config).eval_docs() for name, config in by_name.items()}
    assert {name: len(found) for name, found in docs.items()} == {name: 4 if "shop" in name else 2 for name in by_name}
    option = docs["mirror:shop"][0].specific["options"][0]
    assert {name: option[name] for name in ("item_key", "asof_count", "source")} == {
        "item_key": "a", "asof_count": 1, "source": "made",
    }  # fmt: skip


def test_a_changed_benchmark_is_never_read_from_a_cache(bench):
    from lighteval.tasks.lighteval_task import LightevalTask

    def size() -> int:
        tasks.tasks_of.cache_clear()
        return len(LightevalTask(next(t for t in tasks.tasks_of(str(bench)) if t.name == "mirror:shop")).eval_docs())

    assert size() == 4
    write_rows(bench / "bench" / "shop.parquet", [row("s", "shift 0", 0)], BENCH)
    assert size() == 1


def test_without_a_benchmark_one_line_says_what_to_set(monkeypatch):
    monkeypatch.delenv("MIRROR_BENCH", raising=False)
    with pytest.raises(ConfigError, match="MIRROR_BENCH is not set"):
        _ = tasks.TASKS_TABLE
    assert not hasattr(tasks, "SOMETHING_ELSE")
