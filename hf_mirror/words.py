"""The words of items' attributes, as the content walk needs them: by item, and by word in order of appearance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from hf_mirror.grouped import Grouped

# What JSON writes between words: escapes, and values that are none.
NOT_WORDS = r'\\u[0-9a-fA-F]{4}|\\.|"\s*:\s*(?:null|true|false)\b'


@dataclass(frozen=True)
class Words:
    """`of_item[start[i] : start[i + 1]]` are the words of item i.

    `holders` groups items by word, at their places in the order of appearance: how many of the first n items to be
    offered hold a word is its document frequency at that time.
    """

    of_item: np.ndarray
    start: np.ndarray
    holders: Grouped

    @classmethod
    def of(cls, attributes: pl.Series, order: np.ndarray) -> Words:
        """Words of two letters or more, lower case, of all values (keys occur everywhere and so weigh nothing).

        attributes: JSON text per item; order: items in order of appearance. The vocabulary is exact, not hashed: a walk
        needs a dictionary of words, never a matrix, so hashing would save nothing.
        """
        pairs = (
            pl.DataFrame({"item": np.arange(len(attributes), dtype=np.int32), "word": attributes})
            .with_columns(pl.col("word").str.replace_all(NOT_WORDS, " ").str.to_lowercase())
            .with_columns(pl.col("word").str.extract_all(r"\w{2,}").list.unique())
            .explode("word").drop_nulls()
            .with_columns(word=pl.col("word").rank("dense").cast(pl.Int32) - 1)
            .sort("item", "word")
        )  # fmt: skip
        item, word = pairs["item"].to_numpy(), pairs["word"].to_numpy()
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        n_words = int(word.max(initial=-1)) + 1
        start = np.searchsorted(item, np.arange(len(attributes) + 1))
        return cls(word, start, Grouped.by(word, n_words, rank[item], len(order)))
