"""Extremes, gaps and the histogram, by hand and as invariants."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hf_mirror.audit.choices import Choices
from hf_mirror.audit.shares import extremes, gaps, popularity_histogram
from hf_mirror.bench import gap_stratum
from hf_mirror.metrics import cluster_error

NAN = float("nan")
Made = Callable[..., Choices]


def counted(counts: list[list[float]], truth: list[int], cluster: list[int] | None = None) -> Choices:
    values = np.array(counts)
    sizes = (~np.isnan(values)).sum(axis=1)
    users = np.arange(len(truth)) if cluster is None else np.array(cluster)
    return Choices(sizes, np.array(truth), users, {"asof_count": values})


def test_extremes_by_hand() -> None:
    """Ties share their hit; of four options the median is the lower middle."""
    scenes = counted([[9, 3, 1, NAN], [5, 5, 1, NAN], [1, 2, 3, 4]], [0, 0, 1])
    found = extremes(scenes, "asof_count")
    assert found["scenes"] == 3
    assert found["largest"]["share"] == 0.5  # 1, one half, 0
    assert found["smallest"]["share"] == 0
    assert found["median"]["share"] == 0.5  # 0, one half of the two fives, 1
    assert found["largest"]["chance"] == pytest.approx((1 / 3 + 1 / 3 + 1 / 4) / 3, abs=1e-4)


def test_all_alike_is_chance_exactly() -> None:
    found = extremes(counted([[7, 7, 7], [0, 0, NAN]], [2, 0]), "asof_count")
    for name in ("largest", "smallest", "median"):
        assert found[name]["share"] == found[name]["chance"] == pytest.approx(5 / 12, abs=1e-4)
        assert found[name]["standard_error"] == 0


def test_a_scene_with_an_unknown_value_is_left_out() -> None:
    scenes = Choices(
        np.array([2, 2]), np.array([0, 0]), np.array([0, 1]), {"age": np.array([[3.0, 1.0, 9.0], [NAN, 1.0, 9.0]])}
    )
    assert extremes(scenes, "age")["scenes"] == 1
    assert extremes(scenes, "age")["largest"]["share"] == 1  # what stands beyond K is no option
    unknown = Choices(np.array([2]), np.array([0]), np.array([0]), {"age": np.full((1, 2), NAN)})
    assert extremes(unknown, "age") == {"scenes": 0}


def test_errors_are_those_of_clusters(made: Made) -> None:
    scenes = made(scenes=300, users=40)
    counts = scenes.features["asof_count"]
    hits = np.take_along_axis(counts, scenes.truth[:, None], 1)[:, 0] == counts.max(axis=1)
    ties = (counts == counts.max(axis=1, keepdims=True)).sum(axis=1)
    expected = cluster_error(hits / ties - 0.2, scenes.cluster)
    assert extremes(scenes, "asof_count")["largest"]["standard_error"] == pytest.approx(expected, abs=1e-4)


def test_strata_are_those_of_the_benchmark() -> None:
    seconds = np.array([-1, 0, 3_599, 3_600, 86_399, 86_400, 10**7])
    names = [gap_stratum(None), *(gap_stratum(int(second)) for second in seconds[1:])]
    for position, name in enumerate(names):
        one = Choices(np.array([2]), np.array([0]), np.array([0]), {}, seconds[[position]])
        found = gaps(one)
        assert found and {key for key, part in found["strata"].items() if part["scenes"]} == {name}


def test_a_small_stratum_of_a_day_says_so() -> None:
    def of(scenes: int, users: int) -> bool:
        many = np.ones(scenes, int)
        found = gaps(Choices(2 * many, 0 * many, np.arange(scenes) % users, {}, 100_000 * many))
        assert found
        return bool(found["too_small"])

    assert not of(200, 200)
    assert of(199, 199) and of(400, 199)
    assert gaps(Choices(np.array([2]), np.array([0]), np.array([0]))) is None


def test_the_histogram_by_hand() -> None:
    found = popularity_histogram(counted([[0, 1, 2, NAN], [3, 4, 7, 8]], [0, 3]))
    assert found == {"edges": [0, 1, 2, 4, 8], "truth": [1, 0, 0, 0, 1], "negatives": [0, 1, 2, 2, 0]}
    assert popularity_histogram(Choices(np.array([2]), np.array([0]), np.array([0]))) is None


def test_the_histogram_counts_every_option_once(made: Made) -> None:
    scenes = made(scenes=200, k=(2, 9))
    found = popularity_histogram(scenes)
    assert found and sum(found["truth"]) == 200
    assert sum(found["negatives"]) == int((scenes.n_options - 1).sum())
