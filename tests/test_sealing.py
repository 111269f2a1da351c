"""What is sealed opens with its own key, in its own place, unaltered: and tells nothing otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_mirror.errors import DataError
from hf_mirror.identity import build_secret, seal_key
from hf_mirror.sealing import KEY_FILE, PADDED_TO, Seal

KEY = seal_key(build_secret(["a" * 64], 0))
SEAL = Seal(KEY)


@given(st.binary())
def test_what_was_sealed_comes_back_and_twice_gives_the_same_bytes(data: bytes) -> None:
    sealed = SEAL.close(data, "pairs", "train")
    assert SEAL.open(sealed, "pairs", "train") == data
    assert sealed == Seal(KEY).close(data, "pairs", "train") and (len(sealed) - 16) % PADDED_TO == 0
    assert len(data) < 4 or data not in sealed


@pytest.mark.parametrize("other", [build_secret(["b" * 64], 0), build_secret(["a" * 64], 1)])
def test_other_raw_files_or_another_seed_open_nothing(other: bytes) -> None:
    with pytest.raises(ValueError, match="with another key"):
        Seal(seal_key(other)).open(SEAL.close(b"a", "x"), "x")


def test_it_opens_in_its_own_place_alone() -> None:
    sealed = SEAL.close(b"a", "pairs", "scene")
    for place in (("pairs", "other"), ("pair", "sscene"), ("pairsscene",), ()):
        with pytest.raises(ValueError, match="or for another place"):
            SEAL.open(sealed, *place)


def test_no_byte_can_be_changed_and_none_cut_off() -> None:
    sealed = SEAL.close(b"Stimulus", "pairs")
    for i in (*range(300), *range(300, len(sealed), 997), len(sealed) - 1):
        with pytest.raises(ValueError):
            SEAL.open(sealed[:i] + bytes([sealed[i] ^ 1]) + sealed[i + 1 :], "pairs")
    for end in (0, 1, 15, 16, len(sealed) - 1):
        with pytest.raises(ValueError):
            SEAL.open(sealed[:end], "pairs")


def test_marks_differ_by_row_and_by_key() -> None:
    other = Seal(seal_key(build_secret(["b" * 64], 0)))
    assert len({SEAL.mark({"a": 1}), SEAL.mark({"a": 2}), other.mark({"a": 1})}) == 3
    assert SEAL.mark({"a": 1, "b": 2}) == SEAL.mark({"b": 2, "a": 1})


@pytest.mark.parametrize("text", ["", "12", "x" * 128, "ab" * 63])
def test_a_broken_key_file_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match=r"seal\.key is missing; run `mirror build` again"):
        Seal.of(tmp_path)
    (tmp_path / KEY_FILE).write_text(text)
    with pytest.raises(DataError, match=r"seal\.key is not 128 hex digits; run `mirror build` again"):
        Seal.of(tmp_path)
