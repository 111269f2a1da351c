"""The observed regime: options are what the user met and did not choose in the choice's session, and no memory."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import stats

from hf_mirror import exposure, rows, scenes
from hf_mirror.domains import import_file
from hf_mirror.exposure import NOTHING, PRIOR_EVENTS, REGIMES
from hf_mirror.scenes import Sizes
from hf_mirror.tables import Log

small = import_file(Path(__file__).parent / "small_logs.py")

SECRET = b"s" * 32
HOUR = 3_600_000
WithFault = Callable[[ModuleType, str, str], ModuleType]
TWO = Sizes(train_options=(2, 2))


def evenings(seed: int) -> Log:
    """Eight people who rate some of twenty films in each of three sessions, often several at one time."""
    rng = random.Random(seed)
    events = []
    for user in range(8):
        for evening in range(3):
            start = (evening * 30 + user) * HOUR
            met = rng.sample(range(20), 9)
            for item in [*met, *met[:3]]:  # three of them twice
                events.append((f"u{user}", f"i{item:02}", start + rng.randrange(6) * 600_000, rng.choice([1, 2, 3, 5])))
    items = {f"i{n:02}": {"title": "" if n == 0 else f"Film {n}"} for n in range(20)}
    return small.prepared(events, items=items, available={"i01": 40 * HOUR}, histories={"u2": ["i05", "i06"]})


def candidates(plain: Any, event: int) -> list[str]:
    """What may be shown beside the truth of an event, the nearest first."""
    time, user, truth, _ = plain.events[event]
    session = [plain.events[i] for i in plain.session(event)]
    chosen = {item for _, _, item, positive in session if positive}
    old = plain.met(user, session[0][0] - 1)
    by_others = {item for _, who, item, _ in plain.before(time) if who != user}
    fit = {item for at, _, item, positive in session if not positive and at != time} - chosen - old
    fit &= by_others & plain.offered(time) - {"i00"}
    before = plain.before(time)
    counts, likes = plain.counts(time), Counter(item for _, _, item, positive in before if positive)
    overall = (sum(likes.values()) + 0.5) / (len(before) + 1)

    def distance(item: str) -> float:
        one, two = ((likes[i] + PRIOR_EVENTS * overall) / (counts[i] + PRIOR_EVENTS) for i in (item, truth))
        return abs(math.log2(counts[item] + 1) - math.log2(counts[truth] + 1)) + 10 * abs(one - two)

    return sorted(fit, key=lambda item: (distance(item), item))


def follows_the_rules(regime: Callable[[Any], exposure.Slate], seeds: range = range(3)) -> int:
    """How many slates there are, after all have been checked; 0 where one breaks a rule."""
    found = 0
    for seed in seeds:
        log = evenings(seed)
        world, plain = small.world_of(log), small.Plain(log)
        for event in range(len(plain.events)):
            time, user, _, positive = plain.events[event]
            memory = [item for item, _ in plain.memory(user, time)]
            if not positive or len(memory) < 2:
                continue
            wanted = 1 + event % 3
            slate = regime(small.batch(world, event, 3, wanted=wanted))
            possible = candidates(plain, event)
            for items in slate.items.tolist():
                shown = {world.items[item] for item in items if item != NOTHING}
                if shown and (len(shown) != wanted or not shown <= set(possible[: 2 * wanted])):
                    return 0
                if shown and sum(item not in shown for item in memory) < 2:
                    return 0
                if not shown and len(possible) >= wanted and sum(item not in possible for item in memory) >= 2:
                    return 0
                found += bool(shown)
    return found


def test_options_are_the_nearest_of_what_was_met_and_not_chosen_in_the_session() -> None:
    assert follows_the_rules(REGIMES["observed"]) > 100


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("np.diff(world.time[later]) > SESSION_GAP_MS", "np.diff(world.time[later]) < 0"),
        ("later = own[world.time[own] >= began]", "later = own"),
        ("~world.positive[session] & (world.time[session] != batch.time[row])", "~world.positive[session]"),
        ("np.setdiff1d(world.item[others], world.item[session[world.positive[session]]])",
         "np.unique(world.item[others])"),
        ("& world.described[items] & ~met_before", "& world.described[items]"),
        ("known & (world", "(world"),
        ("(world.available_from[items] <= batch.time[row]) &", "True &"),
        ("world.described[items] &", "True &"),
        ("[: 2 * wanted]", "[: 4 * wanted]"),
        ("found[np.argsort(_distance(batch, row, found), kind=\"stable\")", "found[np.argsort(-found)"),
        ("+ 10 * np.abs", "+ 0 * np.abs"),
        (".sum() >= LEAST_MEMORY", ".sum() >= 0"),
    ],
)  # fmt: skip
def test_other_rules_are_noticed(with_fault: WithFault, right: str, wrong: str) -> None:
    assert follows_the_rules(with_fault(exposure, right, wrong).observed) == 0


def test_the_wanted_ones_are_a_uniform_draw_from_the_nearest() -> None:
    log = evenings(1)
    world, plain = small.world_of(log), small.Plain(log)
    event = next(
        event for event, (time, user, _, positive) in enumerate(plain.events)
        if positive and len(candidates(plain, event)) >= 4 and len(plain.memory(user, time)) >= 8
    )  # fmt: skip
    slate = REGIMES["observed"](small.batch(world, event, 2000, wanted=2))
    found = Counter(frozenset(world.items[item] for item in pair) for pair in slate.items.tolist())
    assert set(found) == {frozenset(pair) for pair in itertools.combinations(candidates(plain, event)[:4], 2)}
    assert stats.chisquare(list(found.values())).pvalue > 1e-4


def test_distance_by_hand() -> None:
    """3 of 4 positive, overall (6 + 0.5) / (9 + 1) = 0.65: (3 + 5 * 0.65) / (4 + 5); one of no events has 0.65."""
    assert PRIOR_EVENTS == 5
    log = [(f"v{n}", "x", n, 5 if n < 3 else 1) for n in range(4)] + [
        (f"v{n}", "y", n, 5 if n < 3 else 1) for n in range(5)
    ]
    log += [("u", "new", 50, 5)]
    clean = small.prepared(log)
    world = small.world_of(clean)
    scene = small.batch(world, 9, 1)
    truth, other = list(world.items).index("new"), list(world.items).index("x")
    assert scene.truth.tolist() == [truth]
    found = exposure._distance(scene, 0, np.array([other]))
    assert found[0] == pytest.approx(math.log2(5) + 10 * abs(6.25 / 9 - 0.65))


@pytest.fixture(scope="module")
def shown(crowd: Any) -> list[dict[str, Any]]:
    drafts, report = scenes.draw(crowd.world, "train", 150, "observed", SECRET)
    assert report.kept == 150
    assert report.candidates == report.kept + sum(report.dropped.values())
    table = rows.rows(crowd.world, crowd.log, drafts, "train", "observed", small.renderer(crowd.log, "{{ now }}"))
    return table.to_pylist()


def test_an_option_is_never_in_the_memory_that_is_shown(
    crowd: Any, shown: list[dict[str, Any]], with_fault: WithFault
) -> None:
    def apart(found: list[dict[str, Any]]) -> bool:
        return all(
            not {past["item_id"] for past in row["history"]} & {option["item_id"] for option in row["exposure"]}
            for row in found
        )

    assert apart(shown)
    assert all(2 <= len(row["history"]) <= 10 for row in shown)
    drafts, _ = scenes.draw(crowd.world, "train", 150, "observed", SECRET)
    faulty = with_fault(rows, 'if regime == "observed":', 'if regime == "nothing":')
    table = faulty.rows(crowd.world, crowd.log, drafts, "train", "observed", small.renderer(crowd.log, "{{ now }}"))
    assert not apart(table.to_pylist())


def test_truths_are_liked_and_the_others_are_not(crowd: Any, shown: list[dict[str, Any]]) -> None:
    plain = small.Plain(crowd.log)
    ratings = crowd.log.events["signal"].struct.field("rating").to_list()
    stars = {(user, item): rating for (_, user, item, _), rating in zip(plain.events, ratings, strict=True)}
    for row in shown:
        for slot, option in enumerate(row["exposure"]):
            rating = stars[row["user_id"], option["item_id"]]
            assert rating >= 4 if slot == row["choice_index"] else rating <= 3
        assert row["regime"] == "observed" and {option["source"] for option in row["exposure"]} == {"observed"}


def test_what_was_met_earlier_in_the_session_is_not_told_apart(crowd: Any, shown: list[dict[str, Any]]) -> None:
    """Never the truth had been met: a flag, or the user's own event among the counts, would name the others."""
    plain = small.Plain(crowd.log)
    own: dict[str, list[Any]] = {}
    for time, user, item, _ in plain.events:
        own.setdefault(user, []).append((time, item))
    met_earlier = 0
    for row in shown:
        now = round(row["timestamp"].timestamp() * 1000)
        met = {item for time, item in own[row["user_id"]] if time < now}
        counts = plain.counts(now)
        for option in row["exposure"]:
            assert option["repeated"] is False
            assert option["asof_count"] == counts[option["item_id"]] - (option["item_id"] in met)
            met_earlier += option["item_id"] in met
    assert met_earlier > 0
