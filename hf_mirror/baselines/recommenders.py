"""Recommenders that say how well an option fits a history: each learns from sequences and returns a function that gives
the options of scenes scores [n, W], larger is better. They know items alone, no users: a new user needs only a history.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from hf_mirror.baselines.feedback import Asked, Sequences
from hf_mirror.metrics import Floats, Ints

MOST_ITEMS = 8_000  # of EASE, whose matrix is dense: the most frequent ones
RIDGE = 250.0
SHRINK = 10.0

Scores = Callable[[Asked], Floats]
Recommender = Callable[[Sequences, Sequence[Any]], Scores]


def item_knn(known: Sequences, attributes: Sequence[Any]) -> Scores:
    """Item-based neighbours (Deshpande and Karypis 2004, doi:10.1145/963770.963776): the sum over the history of
    cosine similarities, c_ij / (sqrt(n_i n_j) + 10), as a logarithm."""
    together = (known.matrix.T @ known.matrix).tocsr()
    count = np.asarray(known.matrix.sum(axis=0)).ravel()
    norm = np.sqrt(count)
    together.setdiag(0)
    together.eliminate_zeros()
    rows = np.repeat(np.arange(known.n_items), np.diff(together.indptr))
    together.data /= norm[rows] * norm[together.indices] + SHRINK
    similar = together

    def of(history: list[int], options: Ints) -> Floats:
        return np.asarray(similar[np.unique(history)].sum(axis=0)).ravel()[options]

    return lambda asked: _logarithm(_each(asked, of))


def ease(known: Sequences, attributes: Sequence[Any]) -> Scores:
    """EASE^R (Steck 2019, https://arxiv.org/abs/1905.03375): B = I - P diag(1/P), P = (X'X + 250 I)^-1; a new user
    folds in as history @ B. Items beyond the 8,000 most frequent score 0."""
    count = np.asarray(known.matrix.sum(axis=0)).ravel()
    kept = np.sort(np.argsort(-count, kind="stable")[:MOST_ITEMS])
    kept = kept[count[kept] > 0]
    place = np.full(known.n_items + 1, -1)  # the last stands for no item at all
    place[kept] = np.arange(len(kept))
    used = known.matrix[:, kept]
    gram = (used.T @ used).toarray().astype(np.float64)
    gram[np.diag_indices_from(gram)] += RIDGE
    inverse = np.linalg.inv(gram)
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)

    def of(history: list[int], options: Ints) -> Floats:
        past, wanted = place[np.unique(history)], place[options]
        return np.where(wanted >= 0, weights[np.ix_(past[past >= 0], wanted)].sum(axis=0), 0)

    return partial(_each, of=of)


def markov(known: Sequences, attributes: Sequence[Any]) -> Scores:
    """A first-order Markov chain: how often the option came next after the last item of the history, smoothed by how
    often it came at all, as a logarithm of lift: ln (c_ij + 1 * p_j) / ((c_i + 1) * p_j) with p_j its share."""
    pairs = [pair for items in known.items for pair in pairwise(items)]
    size = known.n_items
    before, after = np.array(pairs or [(0, 0)]).T
    moves = csr_matrix((np.ones(len(before)), (before, after)), (size, size))
    out = np.asarray(moves.sum(axis=1)).ravel()
    share = (np.bincount(after, minlength=size) + 1) / (len(after) + size)

    def of(history: list[int], options: Ints) -> Floats:
        came = moves[history[-1], options].toarray().ravel()
        return np.log((came + share[options]) / ((out[history[-1]] + 1) * share[options]))

    return partial(_each, of=of)


def content(known: Sequences, attributes: Sequence[Any]) -> Scores:
    """Content neighbours: cosine of TF-IDF vectors of words and list entries in the attributes (genres, say), option
    against the mean of the history. Learns from no choices."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = [" ".join(_words(value)) for value in attributes]
    if not any(texts):
        return lambda asked: np.zeros(asked.options.shape)
    vectors = TfidfVectorizer(token_pattern=r"\S+", sublinear_tf=True, dtype=np.float32).fit_transform(texts)

    def of(history: list[int], options: Ints) -> Floats:
        return vectors[options] @ np.asarray(vectors[history].mean(axis=0)).ravel()

    return partial(_each, of=of)


def _each(asked: Asked, of: Callable[[list[int], Ints], Floats]) -> Floats:
    """The scores of every scene by `of(history, options)`; zeros where there is no history."""
    scores = np.zeros(asked.options.shape)
    for row, (history, options) in enumerate(zip(asked.history, asked.options, strict=True)):
        if history:
            inside = options[options >= 0]
            scores[row, : len(inside)] = of(history, inside)
    return scores


def _logarithm(scores: Floats) -> Floats:
    """ln(1 + s / m) with m the mean of what is above zero: similarities are spread over orders of magnitude."""
    above = scores[scores > 0]
    return np.log1p(scores / above.mean()) if len(above) else scores


def _words(value: Any) -> list[str]:
    """Words of texts, lower case; entries of lists also whole."""
    if isinstance(value, str):
        return value.lower().split()
    if isinstance(value, dict):
        return [word for inner in value.values() for word in _words(inner)]
    if isinstance(value, list):
        whole = ["_".join(entry.lower().split()) for entry in value if isinstance(entry, str)]
        return [*whole, *(word for entry in value for word in _words(entry))]
    return []
