"""Slots of the truth: the statistic by hand, its distribution, and the faults that it must see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hf_mirror.audit.choices import Choices
from hf_mirror.audit.positions import chi_square_tail, positions

Made = Callable[..., Choices]


def choices(truth: list[int], n_options: list[int]) -> Choices:
    return Choices(np.array(n_options), np.array(truth), np.arange(len(truth)))


def test_by_hand() -> None:
    # K = 2: slots 3 and 1 of 4, expected 2 each: (1 + 1) / 2 = 1. K = 3: one truth, expected 1/3 each.
    found = positions(choices([0, 0, 0, 1, 2], [2, 2, 2, 2, 3]))
    assert found["per_k"]["2"] == {"slots": [3, 1], "chi_square": 1.0, "p_value": 0.3173, "judged": False}
    assert found["per_k"]["3"]["slots"] == [0, 0, 1]
    assert found["per_k"]["3"]["chi_square"] == pytest.approx(2 * 1 / 3 + 4 / 3, abs=1e-4)
    assert found["first"] == {
        "share": 0.6,
        "chance": 0.4667,
        "z": pytest.approx((3 - 7 / 3) / (1 + 2 / 9) ** 0.5, abs=1e-4),
    }
    assert found["last"]["share"] == 0.4
    assert not found["never_last"]


@given(st.integers(1, 60), st.floats(0, 200))
def test_the_tail_is_that_of_scipy(freedom: int, statistic: float) -> None:
    assert chi_square_tail(statistic, freedom) == pytest.approx(stats.chi2.sf(statistic, freedom), rel=1e-9, abs=1e-12)


def test_a_fair_position_fails_as_rarely_as_it_should() -> None:
    """2,000 fair datasets at a level of one in a thousand: more than eight failures have a chance of 0.02 %."""
    rng = np.random.default_rng(0)
    failed = 0
    for _ in range(2000):
        k = rng.integers(2, 8, 400)
        failed += not positions(Choices(k, (rng.random(400) * k).astype(int), np.arange(400)))["passed"]
    assert failed <= 8


@pytest.mark.parametrize("k", [(2, 2), (5, 5), (2, 12)])
def test_a_position_drawn_before_the_truth_was_inserted_is_found(k: tuple[int, int]) -> None:
    """The prior art's: randint over the negatives, so that the last slot is never the truth."""
    rng = np.random.default_rng(1)
    sizes = rng.integers(k[0], k[1] + 1, 300)
    found = positions(Choices(sizes, (rng.random(300) * (sizes - 1)).astype(int), np.arange(300)))
    assert found["never_last"] and found["passed"] is False
    assert found["last"]["share"] == 0


def test_never_last_needs_enough_scenes_to_say_so() -> None:
    assert not positions(choices([0] * 9, [2] * 9))["never_last"]  # 1 in 512 by chance
    assert positions(choices([0] * 10, [2] * 10))["never_last"]  # 1 in 1,024


@pytest.mark.parametrize("chances", [(2, 1, 1, 1, 1), (1, 1, 2, 1, 1), (1, 1, 1, 1, 2)])
def test_a_favoured_slot_is_found(made: Made, chances: Any) -> None:
    fair = made(scenes=1500)
    skewed = made(scenes=1500, choose=lambda features, inside, rng: np.tile(chances, (len(inside), 1)))
    assert positions(fair)["passed"] is True
    assert positions(skewed)["passed"] is False and not positions(skewed)["never_last"]


def test_one_option_says_nothing() -> None:
    found = positions(choices([0, 0], [1, 1]))
    assert found["per_k"] == {} and found["passed"] is None and not found["never_last"]
    assert found["first"]["z"] is None
