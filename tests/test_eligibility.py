"""One predicate for truth and negatives: what it says, and that it tells the truth from nobody."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression

from hf_mirror import scenes, splits
from hf_mirror.eligibility import REASONS, eligible, failed_rules
from hf_mirror.scenes import Draft
from hf_mirror.world import World

SECRET = b"s" * 32
DAY_MS = 86_400_000
Inputs = Callable[[World, Draft], np.ndarray]


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


def flags(world: World, draft: Draft) -> np.ndarray:
    """The predicate's parts for every option, worked out from the events alone; shape [K, 4]."""
    time, user = world.time[draft.event], world.user[draft.event]
    before = world.time < time
    known = np.array([np.any(before & (world.item == item) & (world.user != user)) for item in draft.options])
    touched = np.array([np.any(before & (world.item == item) & (world.user == user)) for item in draft.options])
    options = np.array(draft.options)
    return np.c_[known, world.available_from[options] <= time, ~touched, world.described[options]]


@pytest.mark.parametrize("regime", ["uniform", "popularity", "popularity_matched"])
def test_truth_and_negatives_alike_satisfy_the_predicate(crowd: Any, regime: str) -> None:
    for split in ("train", "test"):
        drafts, _ = scenes.draw(crowd.world, split, 120, regime, SECRET)
        assert len(drafts) == 120
        assert all(flags(crowd.world, draft).all() for draft in drafts)


def ages(world: World, draft: Draft) -> np.ndarray:
    """What the predicate looks at, per option: log days since first seen and since available, and described."""
    time, options = world.time[draft.event], np.array(draft.options)
    since = np.c_[time - world.first_seen[options], time - world.available_from[options]] / DAY_MS
    return np.c_[np.sign(since) * np.log1p(np.abs(since)), world.described[options]]


def excess_hits(world: World, drafts: list[Draft], inputs: Inputs) -> np.ndarray:
    """Per scene, hit of a logistic regression on `inputs` minus chance; fitted on other users' scenes."""
    groups = np.array([world.user[draft.event] % 2 for draft in drafts])
    features = [inputs(world, draft) for draft in drafts]
    truths = [np.eye(len(draft.options))[draft.choice_index] for draft in drafts]
    excess = np.zeros(len(drafts))
    for fold in (0, 1):
        others = np.flatnonzero(groups != fold)
        model = LogisticRegression(C=10, max_iter=500)
        model.fit(np.concatenate([features[i] for i in others]), np.concatenate([truths[i] for i in others]))
        for i in np.flatnonzero(groups == fold):
            scores = model.decision_function(features[i]).round(9)
            best = scores == scores.max()
            excess[i] = best[drafts[i].choice_index] / best.sum() - 1 / len(drafts[i].options)
    return excess


def at_chance(world: World, drafts: list[Draft], inputs: Inputs) -> bool:
    """Whether the user-clustered 99.9 % interval of the classifier's excess contains zero."""
    users = np.unique([world.user[draft.event] for draft in drafts], return_inverse=True)[1]
    excess = excess_hits(world, drafts, inputs)
    error = np.sqrt((np.bincount(users, excess) ** 2).sum()) / len(drafts)
    return bool(abs(excess.mean()) <= stats.norm.ppf(0.9995) * error)


@pytest.fixture(scope="module")
def releases(crowd: Any) -> World:
    """The crowd in a world where films come out one after the other: nobody rates a film before its day."""
    events = crowd.tables.events
    first, last = events["timestamp"].min(), events["timestamp"].max()
    days = {item: first + (last - first) * share for item, share in zip(
        crowd.tables.items["item_id"], np.random.default_rng(0).random(crowd.tables.items.height) ** 2, strict=True
    )}  # fmt: skip
    released = events["item_id"].replace_strict(days, return_dtype=pl.Datetime("ms", "UTC")) <= events["timestamp"]
    clean = replace(crowd.tables, events=events.filter(released))
    items = clean.items.drop("available_from").join(
        clean.events.group_by("item_id").agg(available_from=pl.col("timestamp").min()), on="item_id", how="left"
    )
    split = splits.by_arrival(clean.events).events["split"]
    return World.of("films", replace(clean, items=items.sort("item_id")), split)


def test_a_classifier_on_the_predicates_inputs_is_at_chance(crowd: Any) -> None:
    drafts, _ = scenes.draw(crowd.world, "test", 2000, "popularity_matched", SECRET)
    assert len(drafts) > 1000
    assert at_chance(crowd.world, drafts, ages)
    # Where popularity is not matched, old films are the ones that people take: the check can fail.
    assert not at_chance(crowd.world, scenes.draw(crowd.world, "test", 2000, "uniform", SECRET)[0], ages)


@pytest.mark.xfail(strict=True, reason="matched on all-time counts: newer items are likelier (docs/decisions.md)")
def test_the_age_of_items_does_not_tell_the_truth_where_items_come_out_over_time(releases: World) -> None:
    """SCIENCE: the history-blind audit, age among its features, allows 2 points in the matched regime.

    Items with the same count so far are not alike: the newer one is the more taken now.
    """
    drafts, _ = scenes.draw(releases, "test", 2000, "popularity_matched", SECRET)
    assert len(drafts) > 1000
    assert at_chance(releases, drafts, ages) or excess_hits(releases, drafts, ages).mean() < 0.02


def test_a_classifier_on_the_predicates_answers_is_at_chance_in_every_regime(
    releases: World, with_fault: Callable[[ModuleType, str, str], ModuleType]
) -> None:
    for regime in ("uniform", "popularity", "popularity_matched"):
        drafts, _ = scenes.draw(releases, "train", 600, regime, SECRET)
        assert len(drafts) == 600
        assert at_chance(releases, drafts, flags)
    # Negatives by other rules than the truth: any film will do, whether anyone knew it then or not.
    faulty = with_fault(
        scenes,
        "allowed = eligible(world.first_seen, world.available_from, touched, world.described, time)",
        "allowed = ~touched",
    )
    assert not at_chance(releases, faulty.draw(releases, "train", 600, "uniform", SECRET)[0], flags)


def test_a_truth_that_fails_the_predicate_is_a_counted_drop(
    releases: World, with_fault: Callable[[ModuleType, str, str], ModuleType]
) -> None:
    drafts, report = scenes.draw(releases, "train", 100_000, "uniform", SECRET)
    assert report.dropped["not_known_from_another_user"] > 20
    assert report.candidates == report.kept + sum(report.dropped.values())
    faulty = with_fault(scenes, "        alive &= ~broken\n", "")
    kept = faulty.draw(releases, "train", 100_000, "uniform", SECRET)[0]
    assert all(flags(releases, draft)[draft.choice_index].all() for draft in drafts[:300])
    assert not all(flags(releases, draft)[draft.choice_index].all() for draft in kept)
