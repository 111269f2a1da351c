"""The `evaluate` module, loaded as its users load it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hf_mirror import PROJECT, metrics


@pytest.fixture(scope="module")
def metric(tmp_path_factory):
    import evaluate

    cache = str(tmp_path_factory.mktemp("metric"))
    return evaluate.load(str(PROJECT / "evals" / "metrics" / "mirror_alignment"), cache_dir=cache)


def test_by_hand(metric):
    found = metric.compute(predictions=[[0.2, 0.5, 0.3], [0.9, 0.1], []], references=[1, 1, 0], users=["a", "a", "b"])
    right, wrong = -math.log(0.5), -math.log(0.1)
    assert found["accuracy"] == pytest.approx(1 / 3)
    assert found["expected_accuracy"] == pytest.approx(0.6 / 3)
    assert found["log_loss"] == pytest.approx((right + wrong + (right + wrong) / 2) / 3)  # above ln 2
    assert found["brier"] == pytest.approx((0.38 + 1.62 + 1.0) / 3)
    assert found["chance_centred_accuracy"] == pytest.approx((1 - 1 - 1) / 3)
    assert (found["coverage"], found["n_scenes"]) == (pytest.approx(2 / 3), 3)
    assert found["accuracy_low"] < 1 / 3 < found["accuracy_high"]


def test_it_agrees_with_the_library(metric):
    rng = np.random.default_rng(0)
    sizes, users = rng.integers(2, 7, 60), rng.integers(12, size=60)
    rows = [rng.dirichlet(np.ones(size)) for size in sizes]
    rows[7] = np.full(sizes[7], np.nan)
    truth = np.array([rng.integers(size) for size in sizes])
    found = metric.compute(predictions=[row.tolist() for row in rows], references=truth.tolist(), users=users.tolist())
    probs, scene = metrics.pad(rows, sizes), np.arange(60)
    accuracy = np.nan_to_num(metrics.accuracy(probs, truth))
    loss = metrics.charge_failures(metrics.log_loss(probs, truth), scene, 60, np.log(sizes))
    brier = metrics.charge_failures(metrics.brier(probs, truth), scene, 60, 1 - 1 / sizes)
    assert found["log_loss"] == pytest.approx(loss.mean())
    assert found["brier"] == pytest.approx(brier.mean())
    assert found["chance_centred_accuracy"] == pytest.approx(metrics.chance_centred(accuracy, sizes).mean())
    assert found["mcfadden_r2_uniform"] == pytest.approx(metrics.mcfadden_r2(loss, np.log(sizes)).mean())
    span = metrics.interval(accuracy, users, seed=0)
    assert (found["accuracy_low"], found["accuracy_high"]) == (pytest.approx(span.low), pytest.approx(span.high))


def test_as_compute_metrics_of_a_trainer(metric, tmp_path):
    """A model whose logits over two options are its input: the Trainer hands them over with the labels."""
    import torch
    from transformers import Trainer, TrainingArguments

    class Echo(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(()))

        def forward(self, x, labels):
            logits = x * self.scale
            return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}

    def compute_metrics(output):
        return metric.compute(predictions=output.predictions, references=output.label_ids, logits=True)

    rows = [{"x": [math.log(3.0), 0.0], "labels": 0}, {"x": [7.0, 7.0], "labels": 1}]
    arguments = TrainingArguments(str(tmp_path), report_to="none", use_cpu=True)
    trainer = Trainer(Echo(), arguments, eval_dataset=rows, compute_metrics=compute_metrics)
    found = trainer.evaluate()
    assert found["eval_accuracy"] == pytest.approx(0.75)
    assert found["eval_log_loss"] == pytest.approx(-(math.log(0.75) + math.log(0.5)) / 2)
    assert found["eval_log_loss"] == pytest.approx(found["eval_loss"])
    assert found["eval_coverage"] == 1 and "eval_accuracy_low" not in found


def test_logits_that_are_not_finite_are_failures(metric):
    given = {"predictions": [[math.nan, 1.0], [0.0, 0.0], [900.0, 0.0]], "references": [0, 0, 0]}
    found = metric.compute(**given, logits=True)
    assert found["coverage"] == pytest.approx(2 / 3) and found["accuracy"] == pytest.approx(0.5)
    assert metric.compute(**given)["coverage"] == 0  # logits taken for probabilities


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"predictions": [[0.5, 0.5]], "references": [2]}, "none of the 2 options"),
        ({"predictions": [[]], "references": [0]}, "no prediction has probabilities"),
        ({"predictions": [[0.5, 0.5]], "references": [0], "users": ["a", "b"]}, "2 users for 1 scenes"),
    ],
)
def test_bad_input_is_told(metric, given, told):
    with pytest.raises(ValueError, match=told):
        metric.compute(**given)
