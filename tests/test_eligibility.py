"""One predicate for truth and negatives: what it says, and that it tells the truth from nobody."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression

from hf_mirror import exposure, scenes
from hf_mirror.domains import import_file
from hf_mirror.eligibility import REASONS, eligible, failed_rules
from hf_mirror.exposure import NOTHING, proposals
from hf_mirror.exposure import batch as batches
from hf_mirror.scenes import Drafts
from hf_mirror.world import World

small = import_file(Path(__file__).parent / "small_logs.py")

SECRET = b"s" * 32
DAY_MS = 86_400_000
# All but `logged`, whose options are kept as they were shown (test_logged.py).
REGIMES = ("uniform", "popularity", "popularity_matched", "collaborative", "content", "mixed", "observed")
Inputs = Callable[[World, Drafts, int], np.ndarray]
WithFault = Callable[[ModuleType, str, str], ModuleType]


def test_every_rule_alone_makes_an_item_ineligible() -> None:
    good = {"first_seen": 1, "available_from": 1, "touched": False, "described": True}
    bad = {
        "not_known_from_another_user": {"first_seen": 5},
        "not_available": {"available_from": 6},
        "touched_before": {"touched": True},
        "without_attributes": {"described": False},
    }
    assert tuple(bad) == REASONS
    for reason, change in [(None, {}), *bad.items()]:
        values = {name: np.array([value]) for name, value in {**good, **change}.items()}
        failed = failed_rules(**values, time=5)
        assert [name for name, broken in zip(REASONS, failed, strict=True) if broken[0]] == [reason] * bool(reason)
        assert eligible(**values, time=5)[0] == (reason is None)


def test_times_are_strict_for_knowing_and_not_for_availability() -> None:
    first_seen, available = np.array([4, 5, 6]), np.array([0, 0, 0])
    nothing, everything = np.zeros(3, bool), np.ones(3, bool)
    assert eligible(first_seen, available, nothing, everything, 5).tolist() == [True, False, False]
    assert eligible(available, first_seen, nothing, everything, 5).tolist() == [True, True, False]


def test_eligible_is_exactly_no_failed_rule() -> None:
    grid = np.array(list(itertools.product([1, 5, 9], [1, 5, 9], [0, 1], [0, 1], [4, 5, 6])))
    arguments = (grid[:, 0], grid[:, 1], grid[:, 2].astype(bool), grid[:, 3].astype(bool), grid[:, 4])
    assert (eligible(*arguments) == ~np.any(failed_rules(*arguments), axis=0)).all()


def options_of(drafts: Drafts, row: int) -> np.ndarray:
    return drafts.options[row, : drafts.n_options[row]]


def flags(world: World, drafts: Drafts, row: int) -> np.ndarray:
    """The predicate's parts for every option of a scene, worked out from the events alone; shape [K, 4]."""
    time, user, options = world.time[drafts.event[row]], world.user[drafts.event[row]], options_of(drafts, row)
    before = world.time < time
    known = np.array([np.any(before & (world.item == item) & (world.user != user)) for item in options])
    touched = np.array([np.any(before & (world.item == item) & (world.user == user)) for item in options])
    return np.c_[known, world.available_from[options] <= time, ~touched, world.described[options]]


@pytest.mark.parametrize("regime", REGIMES)
def test_truth_and_negatives_alike_satisfy_the_predicate(crowd: Any, regime: str) -> None:
    """In the observed regime an option may have been met earlier in its session, and then is no memory."""
    for split in ("train", "test"):
        drafts, _ = scenes.draw(crowd.world, split, 100, regime, SECRET)
        assert len(drafts) == 100
        for row in range(100):
            found = flags(crowd.world, drafts, row)
            assert found[drafts.choice_index[row]].all()
            assert found[:, [0, 1, 3]].all() if regime == "observed" else found.all()


def ages(world: World, drafts: Drafts, row: int) -> np.ndarray:
    """What the predicate looks at, per option: log days since first seen and since available, and described."""
    time, options = world.time[drafts.event[row]], options_of(drafts, row)
    since = np.c_[time - world.first_seen[options], time - world.available_from[options]] / DAY_MS
    return np.c_[np.sign(since) * np.log1p(np.abs(since)), world.described[options]]


def excess_hits(world: World, drafts: Drafts, inputs: Inputs) -> np.ndarray:
    """Per scene, hit of a logistic regression on `inputs` minus chance; fitted on other users' scenes."""
    groups = world.user[drafts.event] % 2
    features = [inputs(world, drafts, row) for row in range(len(drafts))]
    truths = [np.eye(size)[slot] for size, slot in zip(drafts.n_options, drafts.choice_index, strict=True)]
    excess = np.zeros(len(drafts))
    for fold in (0, 1):
        others = np.flatnonzero(groups != fold)
        model = LogisticRegression(C=10, max_iter=500)
        model.fit(np.concatenate([features[i] for i in others]), np.concatenate([truths[i] for i in others]))
        for i in np.flatnonzero(groups == fold):
            scores = model.decision_function(features[i]).round(9)
            best = scores == scores.max()
            excess[i] = best[drafts.choice_index[i]] / best.sum() - 1 / len(best)
    return excess


def above_chance(world: World, drafts: Drafts, inputs: Inputs) -> tuple[float, float]:
    """How far the classifier is above chance, and half the width of its user-clustered 99.9 % interval."""
    users = np.unique(world.user[drafts.event], return_inverse=True)[1]
    excess = excess_hits(world, drafts, inputs)
    error = np.sqrt((np.bincount(users, excess) ** 2).sum()) / len(drafts)
    return float(excess.mean()), float(stats.norm.ppf(0.9995) * error)


def at_chance(world: World, drafts: Drafts, inputs: Inputs) -> bool:
    excess, reach = above_chance(world, drafts, inputs)
    return abs(excess) <= reach


@pytest.fixture(scope="module")
def releases(crowd: Any) -> World:
    """The crowd in a world where films come out one after the other: nobody rates a film before its day."""
    log = small.films_come_out_over_time(crowd.log)
    return World.of("films", log, small.arrived(log))


def test_a_classifier_on_the_predicates_inputs_is_at_chance(crowd: Any) -> None:
    drafts, _ = scenes.draw(crowd.world, "test", 2000, "popularity_matched", SECRET)
    assert len(drafts) > 1000
    assert at_chance(crowd.world, drafts, ages)
    # Where popularity is not matched, old films are the ones that people take: the check can fail.
    assert not at_chance(crowd.world, scenes.draw(crowd.world, "test", 1000, "uniform", SECRET)[0], ages)


def test_the_age_of_items_does_not_tell_the_truth_where_items_come_out_over_time(releases: World) -> None:
    """SCIENCE: the history-blind audit, age among its features, allows 2 points in the matched regime."""
    drafts, _ = scenes.draw(releases, "test", 2000, "popularity_matched", SECRET)
    assert len(drafts) > 1000
    excess, reach = above_chance(releases, drafts, ages)
    assert excess < max(0.02, reach)
    # By as-of counts alone, the newer is the more taken: the check can fail.
    others, _ = scenes.draw(releases, "test", 1000, "popularity", SECRET)
    excess, reach = above_chance(releases, others, ages)
    assert excess > max(0.05, reach)


def test_a_classifier_on_the_predicates_answers_is_at_chance_in_every_regime(
    releases: World, with_fault: WithFault, monkeypatch: pytest.MonkeyPatch
) -> None:
    for regime in REGIMES[:-1]:
        drafts, _ = scenes.draw(releases, "train", 250, regime, SECRET)
        assert len(drafts) == 250
        assert at_chance(releases, drafts, flags)
    # Negatives by other rules than the truth: any film will do, whether anyone knew it then or not.
    right, wrong = 'batch.time[rows], side="right")\n    place', 'batch.time[rows] + 2**60, side="right")\n    place'
    anything = with_fault(proposals, right, wrong)
    monkeypatch.setitem(anything.PROPOSALS, "uniform", anything.uniform)
    monkeypatch.setattr(exposure, "fill", anything.fill)
    other_rules = with_fault(batches, "return passes & (items", "return ~met & (items")
    monkeypatch.setattr(scenes, "Batch", other_rules.Batch)
    faulty, _ = scenes.draw(releases, "train", 600, "uniform", SECRET)
    assert len(faulty) == 600
    assert not at_chance(releases, faulty, flags)


def test_a_truth_that_fails_the_predicate_is_a_counted_drop(releases: World, with_fault: WithFault) -> None:
    drafts, report = scenes.draw(releases, "train", 100_000, "uniform", SECRET)
    assert report.dropped["not_known_from_another_user"] > 20
    assert report.candidates == report.kept + sum(report.dropped.values())
    faulty = with_fault(scenes, "        alive &= ~broken\n", "")
    kept = faulty.draw(releases, "train", 100_000, "uniform", SECRET)[0]
    assert all(flags(releases, drafts, row)[drafts.choice_index[row]].all() for row in range(300))
    assert not all(flags(releases, kept, row)[kept.choice_index[row]].all() for row in range(len(kept)))


def test_every_reason_is_counted_by_hand() -> None:
    """One user's choices, each with one fault; a truth with several is counted under the first."""
    log = [(f"v{n}", f"i{n}", n, 5) for n in range(1, 7)]
    log += [("u", "i1", 100, 5), ("u", "i2", 110, 5), ("u", "i3", 120, 5)]  # two without memory, one scene
    log += [
        ("u", "new", 130, 5),
        ("u", "early", 140, 5),
        ("u", "i1", 150, 5),
        ("v1", "bare", 7, 5),
        ("u", "bare", 160, 5),
    ]
    log += [("v2", "early", 8, 5)]
    titles = {item: {"title": None if item == "bare" else item} for item in {row[1] for row in log}}
    world = small.world_of(small.prepared(log, items=titles, available={"early": 1000}))
    _, report = scenes.draw(world, "train", 1000, "uniform", SECRET, scenes.Sizes(train_options=(2, 2)))
    assert report.dropped == {
        "too_little_history": 10, "not_known_from_another_user": 1, "not_available": 1, "touched_before": 1,
        "without_attributes": 1,
    }  # fmt: skip
    assert (report.candidates, report.kept) == (15, 1)


def test_options_of_observed_scenes_were_met_in_the_session_or_not_at_all(crowd: Any) -> None:
    world = crowd.world
    drafts, _ = scenes.draw(world, "train", 100, "observed", SECRET)
    there = drafts.options != NOTHING
    before = np.broadcast_to(world.session_start(drafts.event)[:, None] - 1, there.shape)
    user = np.broadcast_to(world.user[drafts.event][:, None], there.shape)
    assert not world.touched(user[there], drafts.options[there], before[there]).any()


def test_the_world_where_films_come_out_is_one(releases: World) -> None:
    first = np.array([releases.time[releases.item == item].min(initial=2**62) for item in range(len(releases.items))])
    known = first < 2**62
    assert known.sum() > 200
    assert (releases.available_from[known] == first[known]).all()
    days = pl.Series(first[known]).sort().diff().drop_nulls()
    assert days.median() > 3600_000
