"""What each regime promises, against probabilities worked out by hand and by enumeration on small logs."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import stats

from hf_mirror import exposure, scenes
from hf_mirror.domains import import_file
from hf_mirror.exposure import NOTHING, REGIMES, SOURCES, proposals
from hf_mirror.exposure import batch as batches
from hf_mirror.world import World

small = import_file(Path(__file__).parent / "small_logs.py")
Plain = small.Plain

SECRET = b"s" * 32
DRAWS = 15_000
UNLIKELY = 1e-4
WithFault = Callable[[ModuleType, str, str], ModuleType]
Shares = dict[Any, float]
Check = Callable[[], float]

VOCABULARY = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "haze")


def town(seed: int = 3) -> tuple[World, Any]:
    """Ten people and twelve films, with many events at one time; two people have met films before the log began."""
    rng = random.Random(seed)
    pairs = rng.sample(list(itertools.product([f"u{n}" for n in range(10)], [f"i{n:02}" for n in range(12)])), 62)
    events = [(user, item, rng.randrange(40), rng.choice([2, 4, 5])) for user, item in pairs]
    items = {f"i{n:02}": {"title": " ".join(rng.sample(VOCABULARY, 3)), "year": n} for n in range(12)}
    items["i11"] = {"title": "", "year": 5}
    histories = {"u1": ["i00", "i03", "i00"], "u4": ["i05", "unheard of"]}
    log = small.prepared(events, items=items, available={"i07": 25}, histories=histories)
    return small.world_of(log), Plain(log)


@pytest.fixture(scope="module")
def world() -> World:
    return town()[0]


@pytest.fixture(scope="module")
def plain() -> Any:
    return town()[1]


@pytest.fixture(scope="module")
def choices(plain: Any) -> list[int]:
    """Three events with some memory and five possible others at least, one of somebody with an untimed past."""
    fit = [
        event for event, (time, user, _, _) in enumerate(plain.events)
        if len(plain.memory(user, time)) >= 3 and len(plain.allowed(event)) >= 5
    ]  # fmt: skip
    found = [fit[0], fit[-1], next(event for event in fit if plain.events[event][1] in ("u1", "u4"))]
    assert len(set(found)) == 3
    return found


# Probabilities of the first option, before what may not be offered is taken out.


def uniform(plain: Any, event: int) -> Shares:
    return dict.fromkeys(plain.allowed(event), 1)


def popularity(plain: Any, event: int) -> Shares:
    return dict(plain.counts(plain.events[event][0]))


def collaborative(plain: Any, event: int) -> Shares:
    time, user, _, _ = plain.events[event]
    shares: Shares = Counter()
    memory, before = plain.memory(user, time), plain.before(time)
    for start, _ in memory:
        holders = [who for _, who, item, _ in before if item == start]
        for person in holders:
            theirs = [item for _, who, item, _ in before if who == person]
            for item in theirs:
                if person != user:
                    shares[item] += 1 / len(memory) / len(holders) / len(theirs)
    return shares


def content(plain: Any, event: int) -> Shares:
    time, user, _, _ = plain.events[event]
    offered = plain.offered(time)
    holders = {
        word: [i for i in offered if word in plain.words(i)] for i in plain.attributes for word in plain.words(i)
    }
    shares: Shares = Counter()
    memory = plain.memory(user, time)
    for start, _ in memory:
        weights = {word: math.log2(len(offered) / len(holders[word])) for word in plain.words(start)
                   if len(holders[word]) > 1}  # fmt: skip
        for word, weight in small.normalised(weights).items():
            for item in holders[word]:
                shares[item] += weight / len(holders[word]) / len(memory)
    return shares


def mixed(plain: Any, event: int) -> Shares:
    parts = [expected(plain, event, source) for source in (uniform, collaborative, content)]
    return {item: sum(part.get(item, 0) for part in parts) for item in plain.attributes}


BY_HAND: dict[str, Callable[[Any, int], Shares]] = {
    "uniform": uniform, "popularity": popularity, "collaborative": collaborative, "content": content, "mixed": mixed,
}  # fmt: skip


def expected(plain: Any, event: int, weights: Callable[[Any, int], Shares]) -> Shares:
    allowed = plain.allowed(event)
    return small.normalised({item: weight for item, weight in weights(plain, event).items() if item in allowed})


def p_value(found: Mapping[Any, int], shares: Shares) -> float:
    """Of a chi-square; 0 where something was drawn that cannot be."""
    if set(found) - set(shares):
        return 0.0
    total = sum(found.values())
    observed = np.array([found.get(key, 0) for key in shares], float)
    chances = np.array(list(shares.values()))
    rare = chances * total < 5  # pooled
    parts = [(observed[~rare], chances[~rare] * total)]
    if rare.any():
        parts.append((observed[rare].sum(keepdims=True), chances[rare].sum(keepdims=True) * total))
    seen, wanted = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return float(stats.chisquare(seen, wanted * seen.sum() / wanted.sum()).pvalue) if len(seen) > 1 else 1.0


def fit(world: World, plain: Any, event: int, regime: str) -> float:
    """How well many draws of one scene's only negative agree with the probabilities worked out for it."""
    drawn = REGIMES[regime](small.batch(world, event, DRAWS)).items[:, 0]
    assert (drawn != NOTHING).mean() > 0.99
    found = Counter(world.items[item] for item in drawn[drawn != NOTHING].tolist())
    return p_value(found, expected(plain, event, BY_HAND[regime]))


@pytest.mark.parametrize("regime", BY_HAND)
def test_options_have_the_probabilities_that_enumeration_gives(
    world: World, plain: Any, choices: list[int], regime: str
) -> None:
    for event in choices:
        shares = expected(plain, event, BY_HAND[regime])
        assert len(shares) >= 3
        assert fit(world, plain, event, regime) > UNLIKELY, (event, regime)


@pytest.mark.parametrize(
    ("regime", "right", "wrong"),
    [
        ("uniform", "order[np.minimum(place, len(order) - 1)]", "order[np.minimum(place // 2, len(order) - 1)]"),
        ("popularity", "batch.world.item[event], NOTHING)", "uniform(batch, rows, attempt), NOTHING)"),
        ("popularity", '"negatives", batch.edge[rows], rows', '"negatives", batch.edge[rows] // 2, rows'),
        ("collaborative", '"walk from memory", batch.shown[rows]', '"walk from memory", batch.shown[rows] * 0 + 1'),
        ("collaborative", "world.by_user.before(person, edge)", "np.minimum(world.by_user.before(person, edge), 3)"),
        ("content", "np.rint(idf).astype(np.int64)", "np.rint(idf).astype(np.int64) * 0 + 1"),
        ("content", "holders.before(word, known[:, None])", "holders.before(word, known[:, None] * 0 + 12)"),
    ],
)  # fmt: skip
def test_enumeration_rejects_other_probabilities(
    world: World, plain: Any, choices: list[int], regime: str, right: str, wrong: str,
    with_fault: WithFault, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    faulty = with_fault(proposals, right, wrong)
    monkeypatch.setattr(exposure, "fill", faulty.fill)
    assert min(fit(world, plain, event, regime) for event in choices) < UNLIKELY


# More than one option.


def pairs(world: World, event: int, regime: str) -> Counter[frozenset[str]]:
    items = REGIMES[regime](small.batch(world, event, DRAWS, wanted=2)).items
    assert (items != NOTHING).all(axis=1).mean() > 0.99
    whole = items[(items != NOTHING).all(axis=1)]
    return Counter(frozenset(world.items[item] for item in pair) for pair in whole.tolist())


def without_replacement(shares: Shares) -> Shares:
    """One after the other, each in proportion to what is left."""
    both: Shares = Counter()
    for one, two in itertools.permutations(shares, 2):
        both[frozenset((one, two))] += shares[one] * shares[two] / (1 - shares[one])
    return both


@pytest.mark.parametrize("regime", ["uniform", "popularity", "collaborative", "content"])
def test_options_are_drawn_without_replacement(world: World, plain: Any, choices: list[int], regime: str) -> None:
    event = choices[1]
    found = pairs(world, event, regime)
    assert {len(pair) for pair in found} == {2}
    assert p_value(found, without_replacement(expected(plain, event, BY_HAND[regime]))) > UNLIKELY


# Sources.


def test_every_option_names_its_source_and_the_truths_is_drawn_as_the_others(
    crowd: Any, with_fault: WithFault, monkeypatch: pytest.MonkeyPatch
) -> None:
    for regime in set(BY_HAND) - {"mixed"}:
        drafts, report = scenes.draw(crowd.world, "test", 40, regime, SECRET)
        there = drafts.options != NOTHING
        assert set(drafts.sources[there].tolist()) == {SOURCES.index(regime)}
        assert report.sources == {regime: int(there.sum())}
    assert source_p_values(crowd.world)[0] > UNLIKELY < source_p_values(crowd.world)[1]
    # As the prior art has it: the truth comes from a source of its own.
    faulty = with_fault(exposure, "for column in range(sources.shape[1]):", "for column in range(1, sources.shape[1]):")
    monkeypatch.setitem(exposure.REGIMES, "mixed", faulty.mixed)
    assert source_p_values(crowd.world)[0] < UNLIKELY


def source_p_values(world: World) -> tuple[float, float]:
    """Whether truths, and negatives, come from the three sources a third each."""
    drafts, report = scenes.draw(world, "train", 3000, "mixed", SECRET)
    rows = np.arange(len(drafts))
    truth = drafts.sources[rows, drafts.choice_index]
    others = (drafts.options != NOTHING) & (np.arange(drafts.options.shape[1]) != drafts.choice_index[:, None])
    counted = [np.bincount(part, minlength=len(SOURCES)) for part in (truth, drafts.sources[others])]
    assert dict(zip(SOURCES, sum(counted).tolist(), strict=True)) == {**dict.fromkeys(SOURCES, 0), **report.sources}
    mix = [SOURCES.index(name) for name in exposure.MIXED]
    assert all(part.sum() == part[mix].sum() for part in counted)
    one, two = (float(stats.chisquare(part[mix]).pvalue) for part in counted)
    return one, two


def test_a_source_that_has_nothing_to_offer_does_not_name_the_truth(
    with_fault: WithFault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else has met what these people remember: no walk leads anywhere, and `collaborative` offers nothing."""
    lonely = [(f"v{n}", f"i{n}", n, 5) for n in range(30)]
    lonely += [(f"u{n}", f"{what}{n}", 100 + n, 5) for n in range(300) for what in ("a", "b")]
    lonely += [(f"u{n}", f"i{n % 30}", 1000 + n, 5) for n in range(300)]
    world = small.world_of(small.prepared(lonely, items={row[1]: {"title": "Film"} for row in lonely}))

    def sources_of_truths() -> set[str]:
        drafts, report = scenes.draw(world, "train", 1000, "mixed", SECRET)
        assert report.candidates == report.kept + sum(report.dropped.values())
        assert len(drafts) > 3
        return {SOURCES[code] for code in drafts.sources[np.arange(len(drafts)), drafts.choice_index].tolist()}

    assert "collaborative" not in sources_of_truths()
    faulty = with_fault(exposure, "asked[rows, batch.wanted + 1] = sources[:, 0]", "asked[rows, batch.wanted + 1] = 0")
    monkeypatch.setitem(exposure.REGIMES, "mixed", faulty.mixed)
    assert "collaborative" in sources_of_truths()


# One scene does not depend on the others.


@pytest.mark.parametrize("regime", [*BY_HAND, "popularity_matched", "observed"])
def test_a_scene_is_the_same_alone_and_in_company(crowd: Any, regime: str) -> None:
    together, _ = scenes.draw(crowd.world, "train", 60, regime, SECRET)
    for row in range(0, 60, 15):
        event = together.event[row : row + 1]
        alone = scenes._drafts(crowd.world, event, "train", regime, SECRET, scenes.Sizes())
        size = int(together.n_options[row])
        assert alone.options[0, :size].tolist() == together.options[row, :size].tolist()
        assert alone.sources[0, :size].tolist() == together.sources[row, :size].tolist()
        assert (alone.choice_index[0], alone.shown[0]) == (together.choice_index[row], together.shown[row])


def test_a_scene_without_enough_others_is_given_up(world: World, plain: Any, choices: list[int]) -> None:
    allowed = len(plain.allowed(choices[0]))
    for regime in BY_HAND:
        assert not REGIMES[regime](small.batch(world, choices[0], 20, wanted=allowed + 1)).complete.any()
    assert REGIMES["uniform"](small.batch(world, choices[0], 20, wanted=allowed)).complete.all()


def test_what_may_not_be_offered_is_offered_by_no_regime(
    world: World, plain: Any, with_fault: WithFault, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = [event for event in range(12, len(plain.events), 6) if plain.memory(*plain.events[event][1::-1])]

    def only_allowed(regimes: Iterable[str]) -> bool:
        for event, regime in itertools.product(events, regimes):
            items = REGIMES[regime](small.batch(world, event, 60)).items
            if not {world.items[item] for item in items[items != NOTHING].tolist()} <= plain.allowed(event):
                return False
        return True

    assert len(events) > 5
    assert only_allowed([*BY_HAND, "popularity_matched"])
    for right, wrong in (
        ("met = world.touched(self.user[rows], items, time)", "met = np.zeros(len(items), bool)"),
        ("world.described[items], time)", "world.described[items] | True, time)"),
        ("world.available_from[items], met", "world.available_from[items] - 100, met"),
    ):
        faulty = with_fault(batches, right, wrong)
        with monkeypatch.context() as patch:
            patch.setattr(small, "Batch", faulty.Batch)
            assert not only_allowed(["popularity"]), wrong


def test_the_world_is_not_changed_by_asking(crowd: Any) -> None:
    before = {name: getattr(crowd.world, name).copy() for name in ("time", "user", "item", "positive", "first_seen")}
    scenes.draw(replace(crowd.world), "test", 50, "mixed", SECRET)
    assert all((getattr(crowd.world, name) == values).all() for name, values in before.items())
