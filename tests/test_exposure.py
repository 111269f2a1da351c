"""Regimes look only at what had happened, and the matched one leaves popularity at chance."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hf_mirror import scenes
from hf_mirror.audit import option_audit
from hf_mirror.exposure import PRIOR_EVENTS, REGIMES, AsOf, MatchedBins, popularity, shrunk_share, uniform

SECRET = b"s" * 32
logs = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3), st.booleans()), max_size=40)


def running(log: list[tuple[int, int, bool]]) -> AsOf:
    log = sorted(log)
    times, items, positive = (np.array([row[i] for row in log]) for i in range(3))
    return AsOf(times.astype(np.int64), items.astype(np.int64), positive.astype(bool), 4)


@settings(deadline=None)
@given(logs, st.lists(st.integers(0, 14), min_size=1, max_size=6).map(sorted))
def test_totals_count_events_strictly_before(log: list[tuple[int, int, bool]], stops: list[int]) -> None:
    asof = running(log)
    for stop in stops:
        asof.advance(stop)
        before = [row for row in log if row[0] < stop]
        assert asof.counts.tolist() == [sum(item == i for _, item, _ in before) for i in range(4)]
        assert asof.positives.tolist() == [sum(item == i and good for _, item, good in before) for i in range(4)]
        assert (asof.total, asof.total_positive) == (len(before), sum(row[2] for row in before))


def test_time_does_not_go_backwards() -> None:
    asof = running([(1, 0, True), (5, 1, False)])
    asof.advance(6)
    with pytest.raises(ValueError, match="back"):
        asof.advance(3)


def test_shrunk_share_by_hand() -> None:
    # 3 of 4 positive, overall (6 + 0.5) / (9 + 1) = 0.65: (3 + 5 * 0.65) / (4 + 5)
    assert PRIOR_EVENTS == 5
    assert shrunk_share(np.array([3]), np.array([4]), 6, 9)[0] == pytest.approx(6.25 / 9)
    assert shrunk_share(np.array([0]), np.array([0]), 0, 0)[0] == pytest.approx(0.5)


def test_uniform_and_popularity_weights() -> None:
    asof = running([(0, 1, True), (0, 1, False), (1, 2, True)])
    asof.advance(9)
    bins = MatchedBins.fit(np.array([]), np.array([]))
    assert uniform(asof, 0, bins).tolist() == [1, 1, 1, 1]
    assert popularity(asof, 0, bins).tolist() == [0, 2, 1, 0]


shares = st.lists(st.integers(0, 20).map(lambda n: n / 20), min_size=4, max_size=30)


@settings(deadline=None)
@given(shares, shares)
def test_peers_are_a_partition_and_contain_the_truth(one: list[float], two: list[float]) -> None:
    size = min(len(one), len(two))
    popular, quality = np.array(one[:size]), np.array(two[:size])
    bins = MatchedBins.fit(popular[: size // 2], quality[: size // 2])
    groups = [tuple(np.flatnonzero(bins.peers(popular, quality, truth))) for truth in range(size)]
    assert all(truth in group for truth, group in enumerate(groups))
    assert sum(len(group) for group in set(groups)) == size


def test_bins_hold_the_same_mass_of_truths(crowd: Any) -> None:
    bins = crowd.world.matched_bins()
    rng = np.random.default_rng(0)
    popular, quality = rng.permutation(3000) / 3000, rng.random(3000)
    fitted = MatchedBins.fit(popular, quality)
    sizes = {int(fitted.peers(popular, quality, truth).sum()) for truth in range(0, 3000, 50)}
    assert min(sizes) >= 95 and max(sizes) <= 105
    assert (np.diff(bins.popularity) >= 0).all() and (np.diff(bins.quality) >= 0).all()
    assert bins.quality.shape == (10, 2)


def test_bins_of_a_world_are_fitted_on_train_truths_alone(crowd: Any) -> None:
    """Worked out event by event, and unmoved by anything after the train split."""
    world = crowd.world
    asof, popular, quality = world.asof(), [], []
    for event in np.flatnonzero(world.split >= 0):
        if world.split[event] == 0 and world.positive[event]:
            asof.advance(int(world.time[event]))
            if asof.counts[world.item[event]]:
                popular.append(asof.counts[world.item[event]] / asof.total)
                quality.append(asof.quality()[world.item[event]])
        if len(popular) > 4000:
            break
    from dataclasses import replace

    cut = int(event) + 1
    head = replace(world, split=np.where(np.arange(len(world.split)) < cut, world.split, -1))
    expected = MatchedBins.fit(np.array(popular), np.array(quality))
    assert np.allclose(head.matched_bins().popularity, expected.popularity)
    assert np.allclose(head.matched_bins().quality, expected.quality)


def test_a_world_without_train_truths_has_one_bin() -> None:
    bins = MatchedBins.fit(np.array([]), np.array([]))
    assert bins.peers(np.array([0.1, 0.1]), np.array([0.5, 0.5]), 0).all()


@pytest.mark.parametrize("split", ["train", "test"])
def test_matched_popularity_is_at_chance(crowd: Any, split: str) -> None:
    """Argmax, argmin and median popularity: within 2 points of 1/K, and 99.9 % intervals over users contain it.

    With this many scenes of so few films, drawing without replacement shows: the bins hold a dozen peers.
    """
    audit = audit_of(crowd, split, "popularity_matched")
    assert audit["scenes"] > 2000
    width = stats.norm.ppf(0.9995)
    for name in ("most_popular", "least_popular", "median_popular"):
        excess = abs(audit[name]["share"] - audit["chance"])
        assert excess < 0.02 and excess < width * audit[name]["standard_error"], name


def test_unmatched_popularity_is_not_at_chance(crowd: Any) -> None:
    """The same check on the regime that does not match: it can fail."""
    audit = audit_of(crowd, "test", "uniform")
    assert audit["most_popular"]["share"] - audit["chance"] > 5 * audit["most_popular"]["standard_error"]


def audit_of(crowd: Any, split: str, regime: str) -> dict[str, Any]:
    world = crowd.world
    drafts, _ = scenes.draw(world, split, 4000, regime, SECRET)
    return option_audit(world, drafts)


def test_the_audit_by_hand() -> None:
    def draft(event: int, counts: tuple[int, ...]) -> scenes.Draft:
        return scenes.Draft(event, b"", (0, 1, 2), 0, counts, ())

    world: Any = SimpleNamespace(first_seen=np.array([7, 5, 9]), user=np.array([0, 1]))
    audit = option_audit(world, [draft(0, (9, 3, 1)), draft(1, (5, 5, 1))])
    assert audit["chance"] == pytest.approx(1 / 3, abs=1e-4)
    assert audit["most_popular"]["share"] == 0.75  # the second truth shares its place with another
    assert audit["least_popular"]["share"] == 0
    assert audit["median_popular"]["share"] == 0.25
    assert audit["newest"]["share"] == audit["oldest"]["share"] == 0
    assert option_audit(world, []) == {"scenes": 0}


@pytest.mark.parametrize("regime", REGIMES)
def test_negatives_follow_the_weights_of_their_regime(crowd: Any, regime: str) -> None:
    """The first negative of a fixed scene over many secrets, against the masked weights."""
    world = crowd.world
    event = int(np.flatnonzero((world.split == 2) & world.positive & (world.earlier > 2) & ~world.repeated)[500])
    asof, bins = world.asof(), world.matched_bins()
    asof.advance(int(world.time[event]))
    counts = np.zeros(len(world.items))
    for number in range(3000):
        draft = scenes._draft(world, asof, bins, event, number.to_bytes(4, "big") * 8, "test", regime)
        assert draft is not None
        counts[next(item for item in draft.options if item != world.item[event])] += 1
    touched = np.zeros(len(world.items), bool)
    touched[world.item[(world.user == world.user[event]) & (world.time <= world.time[event])]] = True
    allowed = (world.first_seen < world.time[event]) & ~touched & (np.arange(len(counts)) != world.item[event])
    weights = REGIMES[regime](asof, int(world.item[event]), bins) * allowed
    assert not counts[weights == 0].any()
    if regime == "uniform":
        inside = weights > 0
        assert stats.chisquare(counts[inside]).pvalue > 1e-4
    else:
        assert np.corrcoef(counts, weights)[0, 1] > 0.5
