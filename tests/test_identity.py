"""Keys, scene ids and draws: in range, uniform, exact, and silent about the truth."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from hf_mirror import identity
from hf_mirror.files import read_json, read_rows
from hf_mirror.identity import Draws

SECRET = bytes(range(32))
texts = st.text(max_size=5)
# Ids may hold anything, the separator of a careless join included.
odd_ids = st.text(st.sampled_from("ab\0\x1f|:é"), max_size=4)


@given(st.lists(texts, max_size=4), st.lists(texts, max_size=4))
def test_digest_keeps_lists_of_parts_apart(one: list[str], two: list[str]) -> None:
    assert (identity.digest(*one) == identity.digest(*two)) == (one == two)


@given(st.lists(texts))
def test_seed_fits_31_bits(parts: list[str]) -> None:
    assert 0 <= identity.seed(*parts) < 2**31


def test_the_secret_depends_on_contents_and_seed_alone() -> None:
    contents = [identity.content_digest(data) for data in (b"ratings", b"films")]
    secret = identity.build_secret(contents, 0)
    assert len(secret) == 32
    assert identity.build_secret(contents[::-1], 0) == secret
    assert identity.build_secret(contents, 1) != secret
    assert identity.build_secret([identity.content_digest(b"ratings."), contents[1]], 0) != secret


def test_the_secret_is_not_made_of_what_is_published() -> None:
    published = hashlib.sha256(b"ratings").hexdigest()
    assert identity.content_digest(b"ratings") != published
    assert identity.build_secret([published], 0) != identity.build_secret([identity.content_digest(b"ratings")], 0)


def test_every_part_changes_the_event_key() -> None:
    base = {"secret": SECRET, "domain": "films", "user": "u", "item": "i", "timestamp_ms": 1, "ordinal": 0}
    other = {"secret": bytes(32), "domain": "books", "user": "v", "item": "j", "timestamp_ms": 2, "ordinal": 1}
    keys = {identity.event_key(**base)} | {identity.event_key(**{**base, name: other[name]}) for name in base}
    assert len(keys) == 7
    assert {len(key) for key in keys} == {32}


@example(("a\0b", "c"), ("a", "b\0c"))
@given(st.tuples(odd_ids, odd_ids), st.tuples(odd_ids, odd_ids))
def test_two_events_never_share_a_key(one: tuple[str, str], two: tuple[str, str]) -> None:
    keys = [identity.event_key(SECRET, "films", user, item, 1, 0) for user, item in (one, two)]
    assert (keys[0] == keys[1]) == (one == two)


def test_changing_which_option_is_true_leaves_the_scene_id() -> None:
    exposure = ["7", "12", "3", "40"]
    base = identity.scene_id("films", "u", 5, 0, exposure)
    for truth in range(4):
        truth_first = [exposure[truth], *(item for item in exposure if item != exposure[truth])]
        assert identity.scene_id("films", "u", 5, 0, truth_first) == base
    assert len(base) == 32 and int(base, 16) >= 0


def test_every_public_part_changes_the_scene_id() -> None:
    ids = {
        identity.scene_id("films", "u", 5, 0, ["1", "2"]), identity.scene_id("books", "u", 5, 0, ["1", "2"]),
        identity.scene_id("films", "v", 5, 0, ["1", "2"]), identity.scene_id("films", "u", 6, 0, ["1", "2"]),
        identity.scene_id("films", "u", 5, 1, ["1", "2"]), identity.scene_id("films", "u", 5, 0, ["1", "3"]),
    }  # fmt: skip
    assert len(ids) == 6


def guesses(scenes: list[dict], secret: bytes) -> tuple[float, float]:
    """(hits, hits expected by chance) of an attacker who knows every public field and believes in `secret`.

    The attacker asks, for each option, what the key would be if it were the truth, and keeps the options whose key
    draws the slot where they stand and the number of options that the scene has.
    """
    hits = expected = 0.0
    for scene in scenes:
        options = [option["item_id"] for option in scene["exposure"]]
        time = round(scene["timestamp"].timestamp() * 1000)
        likely = []
        for slot, item in enumerate(options):
            key = identity.event_key(secret, scene["domain"], scene["user_id"], item, time, 0)
            size = 2 + Draws(key, "options").below(11)
            if Draws(key, "position").below(len(options)) == slot and size == len(options):
                likely.append(slot)
        likely = likely or list(range(len(options)))
        hits += (scene["choice_index"] in likely) / len(likely)
        expected += 1 / len(options)
    return hits, expected


def test_the_truth_cannot_be_guessed_from_event_keys_over_all_options(built: Path, raw: Path) -> None:
    scenes = read_rows(built / "movielens" / "scenes" / "train.parquet")
    report = read_json(built / "movielens" / "report.json")
    published = [file["sha256"] for file in report["source"]["files"]]
    spread = 3 * np.sqrt(len(scenes)) / 2
    for believed in (
        identity.build_secret(published, report["seed"]),
        identity.build_secret([], report["seed"]),
        bytes.fromhex(published[0]),
    ):
        hits, expected = guesses(scenes, believed)
        assert abs(hits - expected) < spread
    # The same attack with what a rebuild knows finds the truth: the check can fail.
    names = [file["name"] for file in report["source"]["files"]]
    known = identity.build_secret([identity.content_digest((raw / n).read_bytes()) for n in names], report["seed"])
    hits, expected = guesses(scenes, known)
    assert hits > expected + spread


def id_guesses(scenes: list[dict], scene_id: Callable[..., str]) -> float:
    """The share of scenes whose id comes out when the true option is hashed as the truth, and no other."""
    hits = 0
    for scene in scenes:
        options = [option["item_id"] for option in scene["exposure"]]
        time = round(scene["timestamp"].timestamp() * 1000)
        published = scene_id(options, scene["choice_index"], scene["user_id"], time)
        fits = [slot for slot in range(len(options)) if scene_id(options, slot, scene["user_id"], time) == published]
        hits += fits == [scene["choice_index"]]
    return hits / len(scenes)


def test_the_truth_cannot_be_guessed_from_scene_ids_over_all_options(built: Path) -> None:
    scenes = read_rows(built / "movielens" / "scenes" / "train.parquet")

    def truth_first(options: list[str], truth: int) -> list[str]:
        return [options[truth], *(item for slot, item in enumerate(options) if slot != truth)]

    def ours(options: list[str], truth: int, user: str, time: int) -> str:
        return identity.scene_id("movielens", user, time, 0, truth_first(options, truth))

    def with_truth_inside(options: list[str], truth: int, user: str, time: int) -> str:
        return identity.digest("movielens", user, time, *truth_first(options, truth))

    assert id_guesses(scenes, ours) == 0
    assert id_guesses(scenes, with_truth_inside) == 1
    for scene in scenes[:20]:
        options, time = [o["item_id"] for o in scene["exposure"]], round(scene["timestamp"].timestamp() * 1000)
        assert scene["scene_id"] == ours(options, 0, scene["user_id"], time)


@given(st.integers(1, 2**63), st.binary(min_size=1, max_size=8))
def test_below_is_in_range_and_repeats(n: int, key: bytes) -> None:
    first = [Draws(key, "x").below(n) for _ in range(2)]
    assert first[0] == first[1]
    assert 0 <= first[0] < n


@pytest.mark.parametrize("n", [2, 3, 7, 12])
def test_below_is_uniform_within_a_stream_and_across_keys(n: int) -> None:
    stream = Draws(b"key", "uniform")
    within = np.bincount([stream.below(n) for _ in range(6000)], minlength=n)
    across = np.bincount([Draws(i.to_bytes(4, "big"), "uniform").below(n) for i in range(6000)], minlength=n)
    assert stats.chisquare(within).pvalue > 1e-4
    assert stats.chisquare(across).pvalue > 1e-4


def test_purposes_are_streams_of_their_own_and_blocks_do_not_repeat() -> None:
    one, two = Draws(b"key", "position"), Draws(b"key", "order")
    numbers = [one.below(2**60) for _ in range(100)]
    assert len(set(numbers)) == 100
    assert not set(numbers) & {two.below(2**60) for _ in range(100)}


def test_shuffled_gives_every_order_alike() -> None:
    orders = Counter(tuple(Draws(i.to_bytes(4, "big"), "o").shuffled([5, 6, 7])) for i in range(6000))
    assert set(orders) == set(itertools.permutations([5, 6, 7]))
    assert stats.chisquare(list(orders.values())).pvalue > 1e-4


@given(st.lists(st.integers(0, 2**50), min_size=1, max_size=12), st.data())
def test_weighted_draws_are_distinct_and_positive(weights: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(weights)))
    chosen = Draws(b"key", str(weights)).weighted(np.array(weights, np.int64), count)
    if count > sum(weight > 0 for weight in weights):
        assert chosen is None
    else:
        assert len(set(chosen)) == len(chosen) == count
        assert all(weights[position] > 0 for position in chosen)


def test_weighted_draws_are_proportional_one_after_the_other() -> None:
    weights = np.array([6, 3, 1, 0])
    n = 20_000
    pairs = Counter(tuple(Draws(i.to_bytes(4, "big"), "w").weighted(weights, 2)) for i in range(n))
    both = itertools.permutations(range(3), 2)
    expected = {(i, j): n * weights[i] / 10 * weights[j] / (10 - weights[i]) for i, j in both}
    assert set(pairs) == set(expected)
    assert stats.chisquare([pairs[p] for p in expected], list(expected.values())).pvalue > 1e-4


def test_weighted_draws_end_when_what_is_left_is_tiny() -> None:
    chosen = Draws(b"key", "w").weighted(np.array([10**17, 1, 0, 1]), 3)
    assert sorted(chosen) == [0, 1, 3]


@pytest.mark.parametrize("huge", [2**53, 2**60])
def test_weights_too_big_for_floats_are_exact(huge: int) -> None:
    """huge + 1 is huge in float64: there the last item could never be drawn."""

    class Chosen(Draws):
        def __init__(self, number: int) -> None:
            self.number = number

        def below(self, n: int) -> int:
            assert n == huge + 1
            return self.number

    weights = np.array([huge, 1], np.int64)
    assert Chosen(huge - 1).weighted(weights, 1) == [0]
    assert Chosen(huge).weighted(weights, 1) == [1]
