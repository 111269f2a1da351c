"""The conditional logit: the right weights, and nothing learned from the users it is judged on."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import minimize

from hf_mirror import conditional_logit
from hf_mirror.audit import logit
from hf_mirror.audit.choices import LEAST_SCENES, SLOTS, Choices
from hf_mirror.audit.logit import crossfit

Made = Callable[..., Choices]


def test_one_weight_by_hand() -> None:
    """Two options, one marked; the marked one is chosen in 3 of 4 scenes. Centred and scaled, it is 1 against -1, so
    that without a penalty 2w = ln 3; the penalty of w^2/2 against 4,000 scenes moves that by little."""
    values = np.tile([1.0, 0.0], (4000, 1))
    truth = (np.arange(4000) % 4 == 0).astype(int)
    scenes = Choices(np.full(4000, 2), truth, np.arange(4000), {"source": values})
    design = logit._scenes(scenes, ["source"], slot=False)
    assert design.names == ["source: 0", "source: 1"]
    one = conditional_logit.Design(design.names[1:], design.x[1:], design.inside, design.truth)
    assert set(np.unique(one.x)) == {-1.0, 1.0}
    assert conditional_logit.fit(one)[0] == pytest.approx(np.log(3) / 2, abs=2e-3)
    found = crossfit(scenes, ["source"])
    assert found["accuracy"] == pytest.approx(0.75, abs=1e-4)
    assert found["excess"] == pytest.approx(0.25, abs=1e-4)
    assert found["log_loss"] == pytest.approx(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)), abs=1e-3)
    assert found["chance_log_loss"] == pytest.approx(np.log(2), abs=1e-4)


def test_the_fit_is_the_minimum_that_scipy_finds(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditional_logit, "TOLERANCE", 1e-5)
    scenes = made(scenes=300, k=(2, 6), choose=lambda f, inside, rng: f["asof_count"] * f["positive_share"])
    design = logit._scenes(scenes, sorted(scenes.features), slot=True)

    def loss(weights: np.ndarray) -> float:
        logs = conditional_logit.log_probabilities(conditional_logit.utility(design, weights))
        return float(conditional_logit.PENALTY / 2 * weights @ weights - conditional_logit.at_truth(logs, design).sum())

    found = conditional_logit.fit(design)
    best = minimize(loss, np.zeros(len(found)), method="BFGS")
    assert loss(found) <= best.fun + 1e-2
    assert loss(found) < loss(np.zeros(len(found))) - 20


def test_columns_are_centred_scaled_and_never_constant(made: Made) -> None:
    scenes = made(scenes=200, k=(2, 7))
    design = logit._scenes(scenes, sorted(scenes.features), slot=True)
    assert not any(name.startswith("described") for name in design.names)  # all options have a title: it tells nothing
    assert {"asof_count", "asof_count: largest", "slot: smallest", "source: 2"} <= set(design.names)
    assert np.abs(design.x.sum(axis=1)).max() < 1e-3
    assert np.allclose(np.square(design.x).sum(axis=(1, 2)) / design.inside.sum(), 1, atol=1e-3)
    assert not design.x[:, ~design.inside].any()


def test_what_is_not_known_is_a_column_of_its_own(made: Made) -> None:
    """A date that only negatives lack gives the truth away, whatever the dates are."""
    scenes = made(scenes=600)
    dates = np.where(np.arange(5) == scenes.truth[:, None], 1.0, np.nan)
    found = crossfit(Choices(scenes.n_options, scenes.truth, scenes.cluster, {"date": dates}), ["date"])
    assert found["accuracy"] == 1
    assert "date: not known" in found["weights"]


def test_the_step_without_a_fold_is_a_fit_without_it(made: Made) -> None:
    scenes = made(scenes=400, users=80, choose=lambda f, inside, rng: f["asof_count"] ** 0.5)
    scenes = scenes.some(np.argsort(logit.fold(scenes.cluster), kind="stable"))
    design = logit._scenes(scenes, sorted(scenes.features), slot=True)
    fold = logit.fold(scenes.cluster)
    bounds = np.searchsorted(fold, range(logit.FOLDS + 1))
    quick = logit._left_out_utility(design, conditional_logit.fit(design), bounds)
    for held_out in range(logit.FOLDS):
        others = np.flatnonzero(fold != held_out)
        refit = conditional_logit.fit(
            conditional_logit.Design(
                design.names, design.x[:, :, others], design.inside[:, others], design.truth[others]
            )
        )
        slow = conditional_logit.utility(design, refit)[:, fold == held_out]
        difference = quick[:, fold == held_out] - slow
        assert np.abs(difference - difference.mean(axis=0)).max() < 0.1
        assert (quick[:, fold == held_out].argmax(axis=0) == slow.argmax(axis=0)).mean() > 0.97


def test_no_user_is_judged_by_a_fit_that_saw_them(made: Made) -> None:
    """Each user always takes the option with a mark of their own: nothing that other users could teach."""
    scenes = made(scenes=600, users=120)
    rng = np.random.default_rng(0)
    liked = rng.normal(size=(120, 40))
    marks = rng.integers(0, 40, (600, 5))
    own = np.take_along_axis(liked[scenes.cluster], marks, axis=1)
    alone = Choices(scenes.n_options, own.argmax(axis=1), scenes.cluster, {"source": marks.astype(float)})
    everybody = Choices(
        scenes.n_options, liked[0][marks].argmax(axis=1), scenes.cluster, {"source": marks.astype(float)}
    )
    assert abs(crossfit(alone, ["source"])["excess"]) < 3.3 * crossfit(alone, ["source"])["standard_error"]
    assert crossfit(everybody, ["source"])["excess"] > 0.4
    assert len(set(zip(scenes.cluster.tolist(), logit.fold(scenes.cluster).tolist(), strict=True))) == len(
        np.unique(scenes.cluster)
    )
    assert set(logit.fold(np.arange(200)).tolist()) == set(range(logit.FOLDS))


def test_a_perfect_tell_does_not_overflow(made: Made) -> None:
    scenes = made(scenes=2000)
    told = (np.arange(5) == scenes.truth[:, None]) * 1e6
    found = crossfit(Choices(scenes.n_options, scenes.truth, scenes.cluster, {"told": told}), ["told"])
    assert found["accuracy"] == 1 and 0 <= found["log_loss"] < 0.1


def test_without_any_difference_it_is_at_chance_exactly(made: Made) -> None:
    scenes = made(scenes=200, k=(2, 6))
    same = Choices(scenes.n_options, scenes.truth, scenes.cluster, {"described": scenes.features["described"]})
    found = crossfit(same, ["described"])
    assert (found["excess"], found["standard_error"], found["weights"]) == (0, 0, {})
    assert found["log_loss"] == found["chance_log_loss"]


def test_the_sample_has_nearly_all_users_and_does_not_depend_on_the_order_of_scenes(made: Made) -> None:
    scenes = made(scenes=9000, users=700)
    sample = scenes.sample()
    assert len(sample.truth) == SLOTS // 5 and len(np.unique(sample.cluster)) > 690
    shuffled = scenes.some(np.random.default_rng(0).permutation(9000)).sample()
    assert np.array_equal(
        np.sort(shuffled.features["title_length"], axis=0), np.sort(sample.features["title_length"], axis=0)
    )
    assert np.array_equal(np.bincount(shuffled.cluster), np.bincount(sample.cluster))
    elsewhere = Choices(
        scenes.n_options, 4 - scenes.truth, scenes.cluster, scenes.features, scenes.gap_seconds
    ).sample()
    assert np.array_equal(elsewhere.truth, 4 - sample.truth)  # which scenes are taken does not depend on the truth
    small = made(scenes=100)
    assert small.sample() is small
    wide = made(scenes=1500, k=(200, 200))
    assert len(wide.sample().truth) == LEAST_SCENES


def test_large_builds_are_audited_in_a_moment(made: Made) -> None:
    scenes = made(scenes=20_000, users=5000, k=(2, 12))
    start = time.process_time()
    crossfit(scenes, sorted(scenes.features), slot=True)
    assert time.process_time() - start < 1  # 0.05 s on an idle core
