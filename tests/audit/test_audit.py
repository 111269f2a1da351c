"""The verdicts: fair choices pass at the nominal rate, and every fault fails the check that is there for it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hf_mirror.audit import audit
from hf_mirror.audit.choices import Choices

Made = Callable[..., Choices]
CHECKS = {"positions", "popularity", "history_blind", "eligibility"}


def test_fair_choices_pass_at_the_nominal_rate(made: Made) -> None:
    """150 datasets of four checks that fail a few times in a thousand each: 7 failures would be ten times too many."""
    failed: Counter[str] = Counter()
    for seed in range(150):
        failed.update(audit(made(seed, scenes=300, users=60 + seed))["failed"])
    assert sum(failed.values()) < 7, failed


def never_last(features: Any, inside: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.arange(inside.shape[1]) < inside.sum(axis=1, keepdims=True) - 1


def popular_truths(features: Any, inside: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Negatives drawn evenly, truths as people choose: in proportion to the count."""
    return features["asof_count"]


def popular_negatives(features: Any, inside: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Negatives drawn in proportion to the count of items, truths less so."""
    return features["asof_count"] ** -0.5


def nearest_counts(features: Any, inside: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Negatives matched to the truth's count from both sides: the truth stands in the middle."""
    counts = features["asof_count"]
    return 1 + 2.0 * (counts == np.sort(counts, axis=1)[:, [2]])


def newest(features: Any, inside: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What came out last is taken most."""
    ages = features["first_seen_days"]
    return 1 + 3.0 * (ages == ages.min(axis=1, keepdims=True))


def well_liked(features: Any, inside: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.exp(4 * features["positive_share"])


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (None, set()),
        (never_last, {"positions"}),
        (popular_truths, {"popularity", "history_blind"}),
        (popular_negatives, {"popularity", "history_blind"}),
        (nearest_counts, {"popularity", "history_blind"}),
        (newest, {"history_blind", "eligibility"}),
        (well_liked, {"history_blind"}),
    ],
)
def test_each_fault_fails_its_check(made: Made, fault: Any, expected: set[str]) -> None:
    found = audit(made(scenes=2500, users=600, choose=fault))
    assert expected <= set(found["failed"])
    assert set(found["failed"]) <= expected | {"history_blind"}  # the slot is a feature of the model as well
    assert found["passed"] == (not expected)
    assert set(found["checks"]) == CHECKS


@pytest.mark.parametrize("fault", [popular_truths, newest, well_liked])
def test_other_regimes_promise_positions_and_eligibility_alone(made: Made, fault: Any) -> None:
    found = audit(made(scenes=2500, users=600, choose=fault, regime="uniform"))
    assert found["passed"]
    assert found["checks"]["popularity"] == found["checks"]["history_blind"] == "shown"
    assert found["history_blind"]["excess"] > 0.05
    assert not audit(made(scenes=500, choose=never_last, regime="uniform"))["passed"]


def test_truths_and_negatives_under_different_rules_fail_in_any_regime_but_the_logged(made: Made) -> None:
    """Some negatives were not known yet, and no truth was: without any user the truth is among fewer options."""

    def with_rule(broken: str, value: float, regime: str) -> Any:
        fair = made(scenes=1500, users=400, regime=regime)
        unknown = (np.random.default_rng(0).random((1500, 5)) < 0.2) & (np.arange(5) != fair.truth[:, None])
        values = np.where(unknown, value, fair.features[broken])
        return audit(replace(fair, features=fair.features | {broken: values}))

    for broken, value in (
        ("first_seen_days", -2.0),
        ("first_seen_days", 0.0),
        ("available_days", -1.0),
        ("described", 0.0),
    ):
        assert "eligibility" in with_rule(broken, value, "uniform")["failed"], broken
    assert with_rule("described", 0.0, "logged")["checks"]["eligibility"] == "shown"
    fair = audit(made(scenes=1500, users=400, regime="uniform"))["eligibility"]
    assert fair["answers"]["excess"] == 0


def test_too_few_scenes_are_not_judged(made: Made) -> None:
    for small in (made(scenes=99), made(scenes=400, users=9), made(scenes=0)):
        found = audit(small)
        assert found["too_few"] and found["passed"] is None and found["failed"] == []
    assert not audit(made(scenes=100))["too_few"]
    assert audit(made(scenes=60))["positions"]["per_k"]["5"]["slots"] != []


def test_without_features_the_positions_are_judged_alone(made: Made) -> None:
    fair = made(scenes=300)
    found = audit(Choices(fair.n_options, fair.truth, fair.cluster))
    assert found["checks"] == {"positions": "passed", **dict.fromkeys(sorted(CHECKS - {"positions"}), "no data")}
    assert found["passed"] and found["gaps"] is None and found["popularity_histogram"] is None


def test_the_result_is_json_of_four_digits(made: Made) -> None:
    found = audit(made(scenes=400, k=(2, 12)))
    assert json.loads(json.dumps(found, allow_nan=False)) == found

    def floats(value: Any) -> list[float]:
        if isinstance(value, dict):
            return [number for inner in value.values() for number in floats(inner)]
        return [value] if isinstance(value, float) else []

    assert all(math.isfinite(number) and round(number, 4) == number for number in floats(found))


def test_the_order_of_scenes_does_not_matter(made: Made) -> None:
    scenes = made(scenes=1200, k=(2, 9), choose=popular_truths)
    shuffled = scenes.some(np.random.default_rng(3).permutation(1200))
    one, two = audit(scenes), audit(shuffled)
    assert one["positions"] == two["positions"] and one["gaps"] == two["gaps"] and one["checks"] == two["checks"]
    assert one["history_blind"]["accuracy"] == pytest.approx(two["history_blind"]["accuracy"], abs=2e-3)
    assert one["extremes"]["asof_count"] == two["extremes"]["asof_count"]


def test_features_that_never_differ_have_no_extremes(made: Made) -> None:
    assert set(audit(made(scenes=200))["extremes"]) == {
        "asof_count", "positive_share", "first_seen_days", "available_days", "title_length",
    }  # fmt: skip
