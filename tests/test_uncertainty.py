"""Hand-computed entropies, and the properties every decomposition must have."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hf_mirror import uncertainty as u

TIGHT = {"rtol": 0, "atol": 1e-9}


@st.composite
def readings(draw: st.DrawFn) -> np.ndarray:
    """[S, D, K] distributions, some of them one-hot or nearly so, some decisions failed."""
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(2, 6)))
    weights = draw(arrays(np.float64, shape, elements=st.sampled_from([0.0, 1e-12, 1e-3, 0.5, 1.0, 7.0, 1e6])))
    weights[..., 0] += 1e-9  # never all zero
    probs = weights / weights.sum(axis=-1, keepdims=True)
    probs[draw(arrays(np.bool_, shape[:2], elements=st.sampled_from([False, False, False, True])))] = np.nan
    return probs


def test_entropy_by_hand():
    assert u.entropy([0.5, 0.5]) == pytest.approx(1.0)
    assert u.entropy([0.5, 0.25, 0.25]) == pytest.approx(1.5)
    assert u.entropy([1.0, 0.0, 0.0]) == 0.0
    assert not np.signbit(u.entropy([1.0, 0.0])), "a certain choice has entropy 0, not -0"
    assert u.entropy([0.25] * 4, normalise=True) == pytest.approx(1.0)
    assert u.entropy([1.0], normalise=True) == 0.0
    assert np.isnan(u.entropy([np.nan, 0.5]))


def test_decisions_that_agree_share_no_information():
    same = u.decompose([[0.5, 0.25, 0.25]] * 4)
    assert same.total_entropy == pytest.approx(1.5)
    assert same.within_decision_entropy == pytest.approx(1.5)
    assert same.between_decision_information == pytest.approx(0.0, abs=1e-12)


def test_decisions_that_contradict_each_other_are_all_information():
    split = u.decompose([[1.0, 0.0], [0.0, 1.0]])
    assert (split.total_entropy, split.within_decision_entropy) == (pytest.approx(1.0), 0.0)
    assert split.between_decision_information == pytest.approx(1.0)


def test_a_mixed_case_by_hand():
    # mean = [0.75, 0.25]: H = 0.8112781; within = (0 + 1) / 2
    mixed = u.decompose([[1.0, 0.0], [0.5, 0.5]])
    assert mixed.total_entropy == pytest.approx(0.8112781244591328)
    assert mixed.within_decision_entropy == pytest.approx(0.5)
    assert mixed.between_decision_information == pytest.approx(0.3112781244591328)


def test_failed_decisions_are_left_out_and_counted():
    failed = [np.nan, np.nan]
    with_failures = u.decompose([[1.0, 0.0], failed, [0.5, 0.5], failed])
    assert with_failures.used_decisions == 2
    assert with_failures.total_entropy == pytest.approx(0.8112781244591328)
    none = u.decompose([failed, failed])
    assert none.used_decisions == 0
    assert np.isnan([none.total_entropy, none.within_decision_entropy, none.between_decision_information]).all()


def test_jackknife_by_hand():
    # plug-in 1 bit; leaving either decision out leaves one, whose information is 0: 2 * 1 - 1 * 0
    assert u.jackknife_information([[1.0, 0.0], [0.0, 1.0]]) == pytest.approx(2.0)
    # three decisions A, A, B: plug-in H(1/3); leave-one-out {1, 1, 0} bits
    plug_in = u.entropy([2 / 3, 1 / 3])
    assert u.jackknife_information([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]) == pytest.approx(3 * plug_in - 2 * 2 / 3)
    assert np.isnan(u.jackknife_information([[0.5, 0.5]]))


def test_jackknife_is_less_biased_than_the_plug_in():
    rng = np.random.default_rng(0)
    picks = rng.choice(4, size=(4000, 6), p=[0.4, 0.3, 0.2, 0.1])
    probs = np.eye(4)[picks]  # decisive readings: the information is the entropy of the picks
    truth = u.entropy([0.4, 0.3, 0.2, 0.1])
    plug_in = u.between_decision_information(probs).mean()
    corrected = u.jackknife_information(probs).mean()
    assert plug_in < truth - 0.2
    assert abs(corrected - truth) < 0.3 * abs(plug_in - truth)


@given(readings())
@settings(deadline=None)
def test_identity_and_bounds(probs):
    for normalise in (False, True):
        d = u.decompose(probs, normalise=normalise)
        top = 1.0 if normalise else np.log2(probs.shape[-1])
        seen = d.used_decisions > 0
        np.testing.assert_allclose(
            d.total_entropy, d.between_decision_information + d.within_decision_entropy, equal_nan=True, **TIGHT
        )
        for values in (d.total_entropy, d.between_decision_information, d.within_decision_entropy):
            assert (np.isnan(values) == ~seen).all()
            assert (values[seen] >= 0).all() and (values[seen] <= top + 1e-9).all()
        # at most one bit of information per doubling of decisions
        limit = np.log2(np.maximum(d.used_decisions, 1)) + 1e-9
        assert normalise or (d.between_decision_information[seen] <= limit[seen]).all()


@given(readings(), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_order_of_options_and_decisions_does_not_matter(probs, random):
    options = random.sample(range(probs.shape[-1]), probs.shape[-1])
    decisions = random.sample(range(probs.shape[-2]), probs.shape[-2])
    turned = probs[:, decisions][..., options]
    for function in (u.total_entropy, u.within_decision_entropy, u.between_decision_information):
        np.testing.assert_allclose(function(probs), function(turned), equal_nan=True, **TIGHT)
    np.testing.assert_allclose(
        u.jackknife_information(probs), u.jackknife_information(turned), equal_nan=True, rtol=0, atol=1e-7
    )


@given(readings())
@settings(deadline=None)
def test_scenes_do_not_touch_each_other(probs):
    whole = u.decompose(probs)
    for i, scene in enumerate(probs):
        np.testing.assert_allclose(whole.total_entropy[i], u.total_entropy(scene), equal_nan=True, **TIGHT)
        kept = scene[~np.isnan(scene).any(axis=-1)]
        assert whole.used_decisions[i] == len(kept)
        if len(kept):
            np.testing.assert_allclose(whole.within_decision_entropy[i], u.entropy(kept).mean(), **TIGHT)
