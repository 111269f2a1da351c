"""Metrics: hand-computed cases and invariants."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_mirror import metrics


def ints(*values: int) -> metrics.Ints:
    return np.array(values, dtype=np.int64)


def rows_of(draw, n=None):
    """Random distributions over 2 to 12 options with a truth each."""
    sizes = draw(st.lists(st.integers(2, 12), min_size=n or 1, max_size=n or 20))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    probs = [rng.dirichlet(np.ones(size)) for size in sizes]
    truth = np.array([rng.integers(size) for size in sizes])
    return probs, truth, np.array(sizes), rng


def test_the_example_in_the_module_docstring():
    probs = np.array([[0.2, 0.5, 0.3]])
    truth = ints(1)
    assert metrics.accuracy(probs, truth) == [1.0]
    assert metrics.expected_accuracy(probs, truth) == [0.5]
    assert metrics.log_loss(probs, truth) == pytest.approx([0.693147], abs=1e-6)
    assert metrics.brier(probs, truth) == pytest.approx([0.38])


def test_ties_earn_their_share_and_padding_never_takes_part():
    probs = metrics.pad([[0.4, 0.4, 0.2], [0.5, 0.5], [0.1, 0.9]], ints(3, 2, 2))
    assert metrics.accuracy(probs, ints(0, 1, 0)).tolist() == [0.5, 0.5, 0.0]
    assert metrics.choices(probs).tolist() == [[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 1.0, 0.0]]


def test_a_truth_of_probability_zero_costs_708_nats_not_infinity():
    assert metrics.log_loss(np.array([[1.0, 0.0]]), ints(1)) == pytest.approx([708.396], abs=1e-3)


@pytest.mark.parametrize("bad", [None, [], [0.5, 0.5, 0.0], [0.5, math.nan], [math.inf, 0.0], [1.2, -0.2], [0.5, 0.4]])
def test_what_is_no_distribution_is_a_failure(bad):
    probs = metrics.pad([bad, [0.25, 0.75]], ints(2, 2))
    assert metrics.scored(probs).tolist() == [False, True]
    for metric in (metrics.accuracy, metrics.expected_accuracy, metrics.log_loss, metrics.brier):
        assert np.isnan(metric(probs, ints(0, 0))).tolist() == [True, False]


def test_softmax_over_the_options_alone():
    assert metrics.softmax([-1000.0, -1000.0 + math.log(3)]) == pytest.approx([0.25, 0.75])
    assert np.isnan(metrics.softmax([-1.0, math.nan])).all()
    assert metrics.softmax([]).shape == (0,)


def test_chance_centred():
    assert metrics.chance_centred(np.array([0.25, 1.0, 0.0, 1.0]), ints(4, 4, 2, 1)) == pytest.approx([0, 1, -1, 0])


def test_scenes_are_averaged_over_their_variants():
    values = np.array([1.0, 0.0, math.nan, math.nan, 0.4])
    by_scene = metrics.per_scene(values, ints(0, 0, 0, 1, 2), 3)
    assert by_scene[[0, 2]].tolist() == [0.5, 0.4]
    assert np.isnan(by_scene[1])


def test_a_failure_costs_the_larger_of_chance_and_the_models_own_mean():
    scene, price = ints(0, 0, 1, 2), np.log([2.0, 2.0, 2.0, 8.0])
    values = np.array([1.0, 2.0, math.nan, math.nan])  # own mean over scored scenes: 1.5
    assert metrics.charge_failures(values, scene, 3, price) == pytest.approx([1.0, 2.0, 1.5, math.log(8)])
    nothing = np.full(4, math.nan)
    assert metrics.charge_failures(nothing, scene, 3, price) == pytest.approx(price)


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_failing_never_pays(data):
    """Withholding the probabilities of any subset of rows never lowers the mean log-loss below the scored-only one."""
    probs, truth, sizes, rng = rows_of(data.draw)
    loss = metrics.log_loss(metrics.pad(probs, sizes), truth)
    withheld = np.where(rng.random(len(loss)) < 0.5, math.nan, loss)
    scene = np.arange(len(loss))
    charged = metrics.charge_failures(withheld, scene, len(loss), np.log(sizes))
    assert np.isfinite(charged).all()
    if np.isfinite(withheld).any():
        assert charged.mean() >= np.nanmean(withheld) - 1e-9
    assert (charged[np.isnan(withheld)] >= np.log(sizes)[np.isnan(withheld)] - 1e-9).all()


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_permuting_options_changes_no_metric(data):
    probs, truth, sizes, rng = rows_of(data.draw)
    orders = [rng.permutation(size) for size in sizes]
    moved = metrics.pad([row[order] for row, order in zip(probs, orders, strict=True)], sizes)
    moved_truth = np.array([int(np.flatnonzero(order == t)[0]) for order, t in zip(orders, truth, strict=True)])
    plain = metrics.pad(probs, sizes)
    for metric in (metrics.accuracy, metrics.expected_accuracy, metrics.log_loss, metrics.brier):
        assert metric(moved, moved_truth) == pytest.approx(metric(plain, truth))
    ranks = np.tile(np.arange(sizes.max()), (len(sizes), 1))
    for i, order in enumerate(orders):
        ranks[i, : len(order)] = order
    assert metrics.by_item(moved, ranks) == pytest.approx(plain)


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_probabilities_bound_their_metrics_and_baselines_sum_to_one(data):
    probs, truth, sizes, rng = rows_of(data.draw)
    padded = metrics.pad(probs, sizes)
    assert ((metrics.accuracy(padded, truth) >= 0) & (metrics.accuracy(padded, truth) <= 1)).all()
    assert ((metrics.brier(padded, truth) >= 0) & (metrics.brier(padded, truth) <= 2)).all()
    counts = [rng.integers(0, 100, size).tolist() for size in sizes]
    for baseline in (
        metrics.chance(sizes),
        metrics.popularity(counts, sizes),
        metrics.position_only(truth, sizes, rng.random(len(sizes)) < 0.5),
    ):
        assert baseline.sum(axis=1) == pytest.approx(1)
        assert all((row[size:] == 0).all() for row, size in zip(baseline, sizes, strict=True))


def test_baselines_by_hand():
    assert metrics.chance(ints(2, 4)).tolist() == [[0.5, 0.5, 0, 0], [0.25] * 4]
    assert metrics.popularity([[3, 0], [0, 0]], ints(2, 2)).tolist() == [[0.8, 0.2], [0.5, 0.5]]
    fit = np.array([True, True, True, False, False])
    position = metrics.position_only(ints(0, 0, 1, 1, 2), ints(2, 2, 2, 2, 3), fit)
    assert position[:4] == pytest.approx(np.tile([3 / 5, 2 / 5, 0], (4, 1)))
    assert position[4] == pytest.approx([1 / 3, 1 / 3, 1 / 3])


def test_a_slot_reader_gets_exactly_one_over_k_over_all_shifts():
    size, scenes = 5, 7
    truth = np.concatenate([(np.arange(size) + start) % size for start in range(scenes)])
    scene = np.repeat(np.arange(scenes), size)
    always_a = np.tile([0.6, 0.1, 0.1, 0.1, 0.1], (size * scenes, 1))
    assert metrics.per_scene(metrics.accuracy(always_a, truth), scene, scenes) == pytest.approx(1 / size)


# Intervals


def test_cluster_error_by_hand():
    values, clusters = np.array([1.0, 1.0, 0.0, 0.0]), ints(0, 0, 1, 1)
    # mean 0.5; residual sums +1 and -1; sqrt(2/1 * 2) / 4 = 0.5
    assert metrics.cluster_error(values, clusters) == pytest.approx(0.5)
    # s^2 = 1/3, s^2/4 = 1/12: 0.25 / (1/12) = 3
    assert metrics.design_effect(values, clusters) == pytest.approx(3.0)
    assert metrics.minimum_detectable_difference(values, clusters) == pytest.approx(2.801584 * math.sqrt(2) * 0.5)


def test_clusters_of_one_scene_have_the_plain_standard_error():
    values = np.random.default_rng(0).random(50)
    plain = values.std(ddof=1) / math.sqrt(50)
    assert metrics.cluster_error(values, np.arange(50)) == pytest.approx(plain)
    assert metrics.design_effect(values, np.arange(50)) == pytest.approx(1.0)


def test_one_cluster_has_no_interval():
    values, clusters = np.array([0.2, 0.4]), ints(3, 3)
    found = metrics.interval(values, clusters, seed=0)
    assert (found.value, found.low, found.high) == (pytest.approx(0.3), None, None)
    assert metrics.design_effect(values, clusters) is None
    assert metrics.minimum_detectable_difference(values, clusters) is None


def test_equal_values_have_an_interval_of_no_width():
    found = metrics.interval(np.full(300, 0.2), np.arange(300), seed=0)
    assert (found.low, found.high) == (pytest.approx(0.2), pytest.approx(0.2))
    assert metrics.design_effect(np.full(300, 0.2), np.arange(300)) is None


@pytest.mark.parametrize("users", [8, 40, 150])
def test_intervals_cover_at_their_nominal_rate(users):
    """Users differ in taste, so that scenes of a user agree; the true mean is 0.3."""
    hits, trials = 0, 200
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        taste = rng.beta(1.5, 3.5, users)
        clusters = np.repeat(np.arange(users), rng.integers(1, 9, users))
        values = (rng.random(len(clusters)) < taste[clusters]).astype(float)
        found = metrics.interval(values, clusters, seed=trial, draws=400)
        hits += found.low <= 0.3 <= found.high
    assert 0.90 <= hits / trials <= 0.99


def test_the_bootstrap_agrees_with_the_cluster_error_and_repeats_itself():
    rng = np.random.default_rng(1)
    clusters = np.repeat(np.arange(200), 4)
    values = rng.random(200)[clusters] + rng.random(800)
    found = metrics.interval(values, clusters, seed=5)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * metrics.cluster_error(values, clusters), rel=0.1)
    assert metrics.interval(values, clusters, seed=5) == found
    assert metrics.interval(values, clusters, seed=6) != found
    assert metrics.design_effect(values, clusters) == pytest.approx(2.5, abs=0.5)  # 1 + 3 * intraclass 0.5


# Position


def test_slot_shares_and_flip_rate_by_hand():
    # One scene of two items; columns are slots. Shifts choose item 0, item 1; the random order chooses item 0.
    probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8]])
    ranks = np.array([[0, 1], [1, 0], [1, 0]])
    chosen = metrics.choices(probs)
    random = np.array([False, False, True])
    assert metrics.slot_shares(chosen[random], ints(2)) == {"2": [0.0, 1.0]}
    assert metrics.flip_rate(metrics.by_item(chosen, ranks), ints(0, 0, 0), random, 1) == pytest.approx(0.5)


def test_flip_rate_of_a_taste_and_of_a_coin():
    ranks = np.array([[0, 1, 2], [1, 2, 0], [2, 0, 1]])
    scene, random = ints(0, 0, 0), np.array([False, False, True])
    taste = np.take_along_axis(np.tile([0.1, 0.7, 0.2], (3, 1)), ranks, axis=1)  # the same items, wherever they stand
    assert metrics.flip_rate(metrics.by_item(metrics.choices(taste), ranks), scene, random, 1) == pytest.approx(0)
    coin = metrics.choices(metrics.chance(ints(3, 3, 3)))
    assert metrics.flip_rate(metrics.by_item(coin, ranks), scene, random, 1) == pytest.approx(2 / 3)
    failed = np.full((3, 3), np.nan)
    assert metrics.flip_rate(failed, scene, random, 1) is None
    assert metrics.slot_shares(failed, ints(3, 3, 3)) == {}
