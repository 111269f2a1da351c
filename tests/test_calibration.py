"""Calibration, divergences and two-way intervals: hand-computed cases, and models of which the truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_mirror import metrics


def drawn(rng, scenes, size):
    """Probabilities, and truths that were drawn from them."""
    probs = rng.dirichlet(np.ones(size), scenes)
    return probs, (rng.random((scenes, 1)) > probs.cumsum(axis=1)).sum(axis=1).clip(0, size - 1)


def test_calibration_error_by_hand():
    # One bin: mean confidence 0.7, three of four right. Gap 0.05; 0.75 * 0.25 / 3 = 0.0625 of noise: nothing is left.
    confidence, outcome = np.full(4, 0.7), np.array([1.0, 1.0, 1.0, 0.0])
    assert metrics.calibration_error(confidence, outcome, np.arange(4)) == 0
    # All wrong: no noise, all of the gap. Half of the users: the same.
    assert metrics.calibration_error(confidence, np.zeros(4), np.arange(4)) == pytest.approx(0.7)
    # Confidence 0.1: gap 0.65, less 0.0625 with four users; with two, whose sums are 0.5 and -0.5: 2/1 * 0.5 / 16.
    assert metrics.calibration_error(confidence - 0.6, outcome, np.arange(4)) == pytest.approx(
        math.sqrt(0.65**2 - 0.0625)
    )
    pairs = metrics.calibration_error(confidence - 0.6, outcome, np.array([0, 0, 1, 1]))
    assert pairs == pytest.approx(math.sqrt(0.65**2 - 0.0625))
    assert metrics.calibration_error(confidence, outcome, np.zeros(4, dtype=int)) is None


def test_bins_are_equally_full_and_keep_equal_values_together():
    values = np.random.default_rng(0).random(600)
    assert set(np.bincount(metrics.equal_mass_bins(values))) == {40}
    assert metrics.equal_mass_bins(np.full(100, 0.2)).tolist() == [0] * 100
    assert metrics.equal_mass_bins(np.array([0.5])).tolist() == [0]


def test_a_calibrated_model_has_no_error_and_a_sure_one_has():
    rng = np.random.default_rng(1)
    plain, found, sure = [], [], []
    for _ in range(20):
        probs, truth = drawn(rng, 800, 4)
        bins = metrics.reliability_bins(probs, truth)
        gaps = [(part["confidence"] - part["accuracy"]) ** 2 * part["scenes"] / 800 for part in bins]
        plain.append(sum(gaps))
        found.append(
            [each(probs, truth, np.arange(800)) ** 2 for each in (metrics.ece_top_label, metrics.ece_class_wise)]
        )
        sharp = probs**3 / (probs**3).sum(axis=1, keepdims=True)
        sure.append(
            [metrics.ece_top_label(sharp, truth, np.arange(800)), metrics.ece_class_wise(sharp, truth, np.arange(800))]
        )
    assert np.mean(plain) > 0.002  # what is only noise
    assert (np.mean(found, axis=0) < 0.0006).all()
    assert (np.mean(sure, axis=0) > 0.08).all()


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 300), st.integers(2, 8), st.integers(0, 2**32 - 1))
def test_the_parts_of_the_brier_score_sum_up(scenes, size, seed):
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.ones(size), scenes).round(rng.integers(1, 4))
    truth = rng.integers(size, size=scenes)
    parts = metrics.brier_decomposition(probs, truth)
    total = ((probs - np.eye(size)[truth]) ** 2).sum(axis=1).mean()
    assert parts["reliability"] - parts["resolution"] + parts["uncertainty"] == pytest.approx(total)
    assert parts["uncertainty"] == pytest.approx(1 - 1 / size)


def test_a_certain_and_right_model_resolves_everything():
    parts = metrics.brier_decomposition(np.eye(4)[[0, 1, 2, 3] * 10], np.array([0, 1, 2, 3] * 10))
    assert parts == pytest.approx({"reliability": 0, "resolution": 0.75, "uncertainty": 0.75})


def test_ckld_by_hand():
    chosen, truths = np.eye(2)[[0, 0, 0, 0]], np.eye(2)[[0, 0, 1, 1]]
    # Smoothed: truths 3/6 and 3/6, choices 5/6 and 1/6.
    found = metrics.ckld(chosen, truths, np.full(4, 2))
    assert found == {"2": pytest.approx(0.5 * math.log(0.5 / (5 / 6)) + 0.5 * math.log(0.5 / (1 / 6)))}
    assert metrics.ckld(truths, truths, np.full(4, 2)) == {"2": 0}
    assert metrics.ckld(np.full((4, 2), np.nan), truths, np.full(4, 2)) == {}


def test_divergences_by_hand():
    assert metrics.jsd(np.array([1.0, 0]), np.array([0, 3.0])) == pytest.approx(math.log(2))
    half = metrics.jsd(np.array([1.0, 0]), np.array([1.0, 1.0]))  # middle (3/4, 1/4)
    assert half == pytest.approx((math.log(4 / 3) + 0.5 * math.log(2 / 3) + 0.5 * math.log(2)) / 2)
    values = np.array([5.0, 1.0, 1.0, 3.0])
    assert metrics.ks(values, np.array([0, 0.5, 0.5, 0]), np.array([1.0, 0, 0, 1.0])) == pytest.approx(1)
    assert metrics.ks(values, np.array([0, 1.0, 0, 0]), np.array([0, 0, 1.0, 0])) == 0  # equal values step together
    lift = metrics.popularity_lift(np.array([[0.5, 0.5, 0]]), np.array([[0.2, 0.8, np.nan]]), np.array([0]))
    assert lift == pytest.approx([0.3])


def test_two_way_error_by_hand():
    values, users, items = np.array([1.0, 1.0, 0, 0]), np.array([0, 1, 2, 3]), np.array([7, 7, 9, 9])
    # By user: 4/3 * 4 * 0.25 / 16 = 1/12, by pair the same, by item 2/1 * 2 / 16 = 1/4: what is left is the items'.
    assert metrics.two_way_error(values, users, items) == pytest.approx(0.5)
    assert metrics.two_way_error(values, users, users) == pytest.approx(math.sqrt(1 / 12))
    assert metrics.two_way_error(values, users, np.zeros(4, dtype=int)) == float("inf")


def test_an_interval_is_the_wider_of_one_way_and_two_way():
    rng = np.random.default_rng(0)
    users, items = rng.integers(200, size=800), rng.integers(40, size=800)
    liked = rng.random(40)[items] + 0.2 * rng.random(800)
    for values in (liked, rng.random(800)):
        one = metrics.interval(values, users, seed=0)
        two = metrics.intervals(values[:, None], users, seed=0, items=items)[0]
        assert two.low <= one.low and two.high >= one.high
        assert two.value == one.value
    wide = metrics.intervals(liked[:, None], users, seed=0, items=items)[0]
    assert wide.high - wide.low > 2 * (metrics.interval(liked, users, seed=0).high - wide.value)


def coverage(trials: int, users: int, n_items: int, draws: int) -> tuple[float, float]:
    """How often one-way and two-way intervals hold the expected accuracy of a model over users' and items' luck."""
    held = np.zeros(2)
    for trial in range(trials):
        rng = np.random.default_rng([trial, users])
        user = np.repeat(np.arange(users), rng.integers(1, 7, users))
        item = rng.integers(n_items, size=len(user))
        taste, pull = rng.normal(0, 0.12, users), rng.normal(0, 0.12, n_items)
        p = np.clip(0.4 + taste[user] + pull[item], 0, 1)
        values = (rng.random(len(user)) < p).astype(float)[:, None]
        for way, items in enumerate((None, item)):
            found = metrics.intervals(values, user, seed=trial, items=items, draws=draws)[0]
            held[way] += found.low <= 0.4 <= found.high
    return tuple(held / trials)


def test_two_way_intervals_cover_where_items_differ():
    one, two = coverage(200, users=120, n_items=30, draws=300)
    assert one < 0.92  # items are one cluster too many for it
    assert 0.90 <= two <= 0.995


@pytest.mark.soak
@pytest.mark.parametrize(("users", "n_items"), [(20, 60), (120, 30), (400, 400)])
def test_two_way_intervals_cover_at_their_nominal_rate(users, n_items):
    _, two = coverage(1_000, users, n_items, draws=500)
    assert 0.92 <= two <= 0.985
