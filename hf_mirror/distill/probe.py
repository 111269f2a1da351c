"""A reader that sees no scene: can it tell which thought of a pair was chosen? Then pairs teach a manner of writing.

A linear score of word counts, fitted by ridge regression on the differences chosen - rejected and judged on pairs that
it has not seen. It knows words and pairs of neighbouring words by a hash, no order, no scene, no options.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa

from hf_mirror.prompts import LABELS, parse

PROBED = 2000  # pairs of a domain
TOLD_APART = 0.6
COLUMNS = 512
FOLDS = 5
PENALTY = 10.0

_WORD = re.compile(r"[\w'-]+")


def probe(domains: list[list[tuple[str, str]]]) -> dict[str, Any]:
    """Of (chosen, rejected) thoughts: how many pairs, and the share in which held-out scores order the two rightly
    (equal scores count half). Fewer than ten pairs tell nothing: accuracy 0.5."""
    pairs = [pair for domain in domains for pair in domain]
    if len(pairs) < 2 * FOLDS:
        return {"pairs": len(pairs), "accuracy": 0.5}
    x = np.array([_counts(chosen) - _counts(rejected) for chosen, rejected in pairs])
    x /= np.maximum(np.sqrt((x**2).mean(axis=0)), 1e-3)
    fold = np.arange(len(x)) % FOLDS
    grams = [x[fold == f].T @ x[fold == f] for f in range(FOLDS)]
    sums = [x[fold == f].sum(axis=0) for f in range(FOLDS)]
    right = 0.0
    for f in range(FOLDS):
        gram, target = sum(grams) - grams[f], sum(sums) - sums[f]
        weights = np.linalg.solve(gram + PENALTY * np.eye(COLUMNS), target)
        scores = (x[fold == f] @ weights).round(9)
        right += float((scores > 0).sum() + 0.5 * (scores == 0).sum())
    return {"pairs": len(pairs), "accuracy": round(right / len(pairs), 4)}


def gives_away(told: dict[str, Any]) -> bool:
    """Whether more than 60 % are told apart, and not by chance: two standard errors of a coin's share above a half."""
    return told["accuracy"] > max(TOLD_APART, 0.5 + 2 * np.sqrt(0.25 / max(told["pairs"], 1)))


def thoughts(pairs: pa.Table) -> list[tuple[str, str]]:
    """The thoughts, chosen and rejected, of some pairs (schema.PAIR)."""
    some = pairs.slice(0, PROBED).select(["chosen", "rejected"]).to_pylist()
    both = [[parse(row[side][0]["content"], len(LABELS)).thought for row in some] for side in ("chosen", "rejected")]
    return list(zip(*both, strict=True))


def _counts(text: str) -> np.ndarray:
    """Square roots of how often words and pairs of words occur, [COLUMNS]."""
    words = _WORD.findall(text.lower())
    places = [_place(word) for word in words]
    places += [(31 * one + other) % COLUMNS for one, other in pairwise(places)]
    return np.sqrt(np.bincount(places, minlength=COLUMNS))


@lru_cache(maxsize=65_536)
def _place(word: str) -> int:
    return crc32(word.encode()) % COLUMNS
