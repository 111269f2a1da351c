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
from hf_mirror.identity import Draws, Streams

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


def test_the_secret_depends_on_contents_and_seed_alone(tmp_path: Path) -> None:
    contents = private_digests(tmp_path, b"ratings", b"films")
    secret = identity.build_secret(contents, 0)
    assert len(secret) == 32
    assert identity.build_secret(contents[::-1], 0) == secret
    assert identity.build_secret(contents, 1) != secret
    assert identity.build_secret([*private_digests(tmp_path, b"ratings."), contents[1]], 0) != secret
    assert identity.build_secret([contents[0] + contents[1]], 0) != secret


def test_the_secret_is_not_made_of_what_is_published(tmp_path: Path) -> None:
    published = hashlib.sha256(b"ratings").hexdigest()
    private = private_digests(tmp_path, b"ratings")
    assert private != [published]
    assert identity.build_secret([published], 0) != identity.build_secret(private, 0)


@pytest.mark.parametrize("size", [0, 5, 1 << 20, (1 << 20) + 1, (3 << 20) - 7])
def test_a_file_has_a_public_and_a_private_digest(tmp_path: Path, size: int) -> None:
    data = np.random.default_rng(size).bytes(size)
    (tmp_path / "file").write_bytes(data)
    assert identity.file_digests(tmp_path / "file") == (
        hashlib.sha256(data).hexdigest(),
        hashlib.sha256(b"hf_mirror raw content\0" + data).hexdigest(),
    )


def private_digests(folder: Path, *files: bytes) -> list[str]:
    (folder / "private").mkdir(exist_ok=True)
    paths = [folder / "private" / str(number) for number in range(len(files))]
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)
    return [identity.file_digests(path)[1] for path in paths]


def netstrings(*parts: object) -> bytes:
    """Every part after its length in characters."""
    return "".join(f"{len(str(part))}:{part}" for part in parts).encode("utf-8", "surrogatepass")


@given(st.lists(texts | st.integers(), max_size=4))
def test_parts_are_framed_as_netstrings(parts: list[str | int]) -> None:
    assert identity.digest(*parts) == hashlib.sha256(netstrings(*parts)).hexdigest()


def test_a_digest_by_hand() -> None:
    assert identity.digest("ab", "", 12) == hashlib.sha256(b"2:ab0:2:12").hexdigest()
    assert identity.digest("1:a") != identity.digest("1", "a") != identity.digest("1a")


def test_text_that_is_no_unicode_has_a_digest_too() -> None:
    """Half of a surrogate pair: JSON may hold it, UTF-8 may not."""
    halves, whole = ("\ud83e", "\uddd8"), "\U0001f9d8"
    assert len({identity.digest(halves[0]), identity.digest(*halves), identity.digest("".join(halves)),
                identity.digest(whole)}) == 4  # fmt: skip


@given(st.binary(min_size=32, max_size=32), odd_ids, odd_ids, st.integers(-(2**63), 2**63 - 1), st.integers(0, 9))
def test_an_event_key_is_a_keyed_blake2b(secret: bytes, user: str, item: str, time: int, ordinal: int) -> None:
    key = identity.event_key(secret, "films", user, item, time, ordinal)
    message = netstrings("films", user, item, time, ordinal)
    assert key == hashlib.blake2b(message, key=secret, digest_size=32).digest()
    assert key != hashlib.blake2b(message, digest_size=32).digest()


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
        believed = [identity.event_key(secret, scene["domain"], scene["user_id"], item, time, 0) for item in options]
        streams = Streams(np.frombuffer(b"".join(believed), np.uint8).reshape(-1, 32))
        sizes, slots = 2 + streams.below("options", 11), streams.below("position", len(options))
        likely = [slot for slot in range(len(options)) if slots[slot] == slot and sizes[slot] == len(options)]
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
    private = [identity.file_digests(raw / file["name"])[1] for file in report["source"]["files"]]
    hits, expected = guesses(scenes, identity.build_secret(private, report["seed"]))
    assert hits > expected + spread
    assert hits > 0.9 * len(scenes)


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


# Lots and streams: many events at once, against the same arithmetic on one of Python's integers at a time

WORD = 2**64 - 1
words = st.integers(0, WORD)


def mixed(x: int) -> int:
    """SplitMix64's finaliser, as published (nextSplitMix64 without the step)."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & WORD
    return x ^ (x >> 31)


def slow_below(key: bytes, purpose: str, bound: int, at: int = 0) -> int:
    """Number `at` of one event's stream: SplitMix64 from a state of the key's first word and the purpose, mixed once
    more with the second word, and scaled exactly."""
    first, second = (int.from_bytes(key[i : i + 8], "little") for i in (0, 8))
    purposeful = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little")
    state = (mixed(first ^ purposeful) + 0x9E3779B97F4A7C15 * (at + 1)) & WORD
    return mixed(state ^ second) * bound >> 64


def keys_of(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 32), np.uint8)


def test_the_mixer_is_splitmix64() -> None:
    """The first numbers of SplitMix64 from seed 1234567, as its authors' C gives them."""
    states = [(1234567 + step * 0x9E3779B97F4A7C15) & WORD for step in range(1, 6)]
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert [mixed(state) for state in states] == expected
    assert identity._mix(np.array(states, np.uint64)).tolist() == expected


@given(st.lists(words, max_size=20))
def test_the_fast_mixer_is_the_slow_one(numbers: list[int]) -> None:
    assert identity._mix(np.array(numbers, np.uint64)).tolist() == [mixed(number) for number in numbers]


six = {"min_size": 6, "max_size": 6}


@example([bytes([255] * 32)] * 6, "p", [2**32 - 1] * 6, [2**31] * 6)
@given(
    st.lists(st.binary(min_size=32, max_size=32), **six), st.text(max_size=9),
    st.lists(st.integers(1, 2**32 - 1), **six), st.lists(st.integers(0, 2**31), **six),
)  # fmt: skip
def test_streams_are_what_the_slow_oracle_says(
    keys: list[bytes], purpose: str, bounds: list[int], at: list[int]
) -> None:
    streams = Streams(np.frombuffer(b"".join(keys), np.uint8).reshape(6, 32))
    drawn = streams.below(purpose, np.array(bounds), at=np.array(at))
    assert drawn.dtype == np.int64
    assert drawn.tolist() == [slow_below(*row) for row in zip(keys, [purpose] * 6, bounds, at, strict=True)]
    assert streams.below(purpose, bounds[0]).tolist() == [slow_below(key, purpose, bounds[0]) for key in keys]
    rows = [5, 0, 5]
    drawn = streams.below(purpose, bounds[0], np.array(rows), at[0])
    assert drawn.tolist() == [slow_below(keys[row], purpose, bounds[0], at[0]) for row in rows]
    drawn = streams.below(purpose, np.array(bounds[:3]), np.array(rows), np.array(at[:3]))
    assert drawn.tolist() == [slow_below(keys[row], purpose, bounds[i], at[i]) for i, row in enumerate(rows)]


def test_an_event_draws_the_same_whoever_stands_beside_it() -> None:
    """So that a scene does not change with the batch that it is drawn in."""
    keys = keys_of(50)
    whole = Streams(keys).below("p", 10**9, at=3)
    order = np.random.default_rng(1).permutation(50)
    assert np.array_equal(Streams(keys[order]).below("p", 10**9, at=3), whole[order])
    assert [int(Streams(keys[i : i + 1]).below("p", 10**9, at=3)[0]) for i in range(50)] == whole.tolist()
    assert Streams(keys[:0]).below("p", 5).shape == (0,)
    assert Streams(np.asfortranarray(keys)).below("p", 10**9, at=3).tolist() == whole.tolist()


@pytest.mark.parametrize("number", [0, 1, 2**31, 2**32 - 1, 2**32, 2**63, WORD - 1, WORD])
@pytest.mark.parametrize("bound", [1, 2, 3, 12, 2**31, 2**32 - 1])
def test_numbers_are_scaled_exactly(monkeypatch: pytest.MonkeyPatch, number: int, bound: int) -> None:
    monkeypatch.setattr(identity, "_mix", lambda state: np.full(state.shape, number, np.uint64))
    assert Streams(keys_of(1)).below("p", bound).tolist() == [number * bound >> 64]


def spread(*numbers: np.ndarray) -> float:
    """The p-value of equal shares over all combinations of numbers below 8."""
    code = sum(drawn * 8**place for place, drawn in enumerate(numbers))
    return float(stats.chisquare(np.bincount(code, minlength=8 ** len(numbers))).pvalue)


@pytest.mark.parametrize("bound", [2, 3, 5, 12, 1000])
def test_streams_are_uniform_over_rows_and_along_a_row(bound: int) -> None:
    n = 40 * max(bound, 500)
    streams, one = Streams(keys_of(n)), Streams(keys_of(1))
    across, along = streams.below("p", bound), one.below("p", bound, np.zeros(n, np.int64), np.arange(n))
    for drawn in (across, along):
        assert drawn.min() >= 0 and drawn.max() < bound
        assert stats.chisquare(np.bincount(drawn, minlength=bound)).pvalue > 1e-4


def test_draws_of_other_purposes_places_and_rows_are_independent() -> None:
    """Three at a time, over real event keys, which differ in little."""
    keys = b"".join(identity.event_key(SECRET, "films", "u", str(i), 1, 0) for i in range(60_000))
    streams = Streams(np.frombuffer(keys, np.uint8).reshape(-1, 32))
    drawn = streams.below("order", 8)
    assert spread(drawn, streams.below("position", 8), streams.below("options", 8)) > 1e-4
    assert spread(drawn, streams.below("order", 8, at=1), streams.below("order", 8, at=2)) > 1e-4
    assert spread(drawn[:-2], drawn[1:-1], drawn[2:]) > 1e-4
    assert spread(drawn, drawn) < 1e-4, "this check can fail"


@pytest.mark.parametrize("bit", [0, 1, 31, 32, 62, 63, 64, 95, 127])
def test_one_bit_of_a_key_changes_half_of_the_bits_drawn(bit: int) -> None:
    keys = keys_of(4000)
    changed = keys.copy()
    changed[:, bit // 8] ^= np.uint8(1 << bit % 8)
    one, two = (Streams(some).below("p", 2**30).astype(np.uint64) for some in (keys, changed))
    shares = [(((one ^ two) >> np.uint64(place)) & np.uint64(1)).mean() for place in range(30)]
    assert max(abs(share - 0.5) for share in shares) < 5 * 0.5 / np.sqrt(4000)


def test_streams_do_not_repeat() -> None:
    streams = Streams(keys_of(2))
    along = streams.below("p", 2**32 - 1, np.zeros(2000, np.int64), np.arange(2000)).tolist()
    other = streams.below("p", 2**32 - 1, np.ones(2000, np.int64), np.arange(2000)).tolist()
    elsewhere = streams.below("q", 2**32 - 1, np.zeros(2000, np.int64), np.arange(2000)).tolist()
    assert len({*along, *other, *elsewhere}) > 5990


def slow_lot(secret: bytes, *parts: int) -> int:
    start = hashlib.sha256(secret + b"lots").digest()
    state = int.from_bytes(start[:8], "little")
    for part in parts:
        state = mixed(state ^ (part & WORD))
    return mixed(state ^ int.from_bytes(start[8:16], "little"))


rows = st.lists(st.tuples(words, st.integers(-(2**63), 2**63 - 1), st.integers(0, 5)), max_size=8)


@given(st.binary(min_size=32, max_size=32), rows)
def test_lots_are_what_the_slow_oracle_says(secret: bytes, rows: list[tuple[int, int, int]]) -> None:
    one, two, three = ([row[i] for row in rows] for i in range(3))
    drawn = identity.lots(secret, np.array(one, np.uint64), np.array(two, np.int64), np.array(three, np.int32))
    assert drawn.dtype == np.uint64
    assert drawn.tolist() == [slow_lot(secret, *row) for row in rows]


def test_lots_are_uniform_and_every_part_and_the_secret_change_them() -> None:
    n = 20_000
    parts = [np.arange(n), np.full(n, 7), np.zeros(n, np.int64)]
    base = identity.lots(SECRET, *parts)
    assert len(set(base.tolist())) == n
    eighths = [(base >> np.uint64(shift) & np.uint64(7)).astype(np.int64) for shift in (61, 30, 0)]
    assert spread(*eighths) > 1e-4
    others = [identity.lots(bytes(32), *parts)]
    others += [identity.lots(SECRET, *parts[:i], parts[i] + 1, *parts[i + 1 :]) for i in range(3)]
    others += [identity.lots(SECRET, parts[1], parts[0], parts[2])]
    assert all((other != base).mean() > 0.999 for other in others)
    # Nor do they sort as before.
    for other in others[:1] + others[2:]:
        assert abs(stats.spearmanr(other.astype(float), base.astype(float)).statistic) < 5 / np.sqrt(n)


def test_hashes_of_ids_depend_on_the_id_alone() -> None:
    ids = ["", "a", "1", "10", "é", "用户", "\N{PERSON IN LOTUS POSITION}"]
    hashes = identity.id_hashes(ids)
    assert hashes.shape == (7,) and hashes.dtype == np.uint64 and len(set(hashes.tolist())) == 7
    assert identity.id_hashes(ids[::-1]).tolist() == hashes[::-1].tolist()
    assert [identity.id_hashes([one])[0] for one in ids] == hashes.tolist()
    by_hand = [int.from_bytes(hashlib.blake2b(one.encode(), digest_size=8).digest(), "little") for one in ids]
    assert hashes.tolist() == by_hand
    assert identity.id_hashes([]).shape == (0,)


# One stream for one event


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
