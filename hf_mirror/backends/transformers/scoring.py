"""Reading log-probabilities: rows that begin alike, as all decisions about a scene do, share what they begin with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_mirror.backends.tokens import Question, in_common
from hf_mirror.backends.transformers.model import LanguageModel


@dataclass(frozen=True)
class Row:
    """One sequence to read: `reads` holds (position, next token, label) whose log-probability counts."""

    request: int
    ids: list[int]
    reads: list[tuple[int, int, int]]

    @classmethod
    def all_of(cls, request: int, question: Question) -> list[Row]:
        """What to read for one question: one row where one token tells the labels apart, else one per label."""
        context, tails = question.context, question.tails
        if question.one_token_each:
            return [cls(request, context, [(len(context) - 1, tail[0], k) for k, tail in enumerate(tails)])]
        return [
            cls(request, [*context, *tail[:-1]], [(len(context) - 1 + j, token, k) for j, token in enumerate(tail)])
            for k, tail in enumerate(tails)
        ]


@dataclass(frozen=True)
class Family:
    """Rows that begin with the same `shared` tokens; 0 where it is not worth it."""

    shared: int
    rows: list[Row]

    @classmethod
    def of(cls, rows: list[Row]) -> Family:
        """With as much shared as comes before anything that is read."""
        if len(rows) == 1:
            return cls(0, rows)
        first = min(position for row in rows for position, _, _ in row.reads)
        return cls(min(first, in_common([row.ids for row in rows])), rows)

    @property
    def width(self) -> int:
        """The tokens of the longest row."""
        return max(len(row.ids) for row in self.rows)

    def pieces(self, most: int) -> list[Family]:
        """Itself, or families of some rows each, so that none has more than `most` tokens if padded."""
        at_once = max(most // self.width, 1)
        return [Family(self.shared, self.rows[i : i + at_once]) for i in range(0, len(self.rows), at_once)]


def read(model: LanguageModel, families: Sequence[Family], scores: Sequence[np.ndarray], most: int) -> None:
    """Adds the log-probabilities that all rows read to their requests' `scores`, in batches of at most `most` tokens,
    padding included; a single longer row still runs, alone."""
    pieces = [piece for family in families for piece in family.pieces(most)]
    for alone in (True, False):
        for batch in _batches([piece for piece in pieces if (piece.shared == 0) == alone], most):
            _read(model, batch, scores)


def _batches(families: Sequence[Family], most: int) -> Iterator[list[Family]]:
    """From long to short, so that the widest batch comes first."""
    batch: list[Family] = []
    for family in sorted(families, key=lambda family: -family.width):
        if batch and sum(len(other.rows) for other in [*batch, family]) * batch[0].width > most:
            yield batch
            batch = []
        batch.append(family)
    if batch:
        yield batch


def _read(model: LanguageModel, families: Sequence[Family], scores: Sequence[np.ndarray]) -> None:
    """One batch. What a family's rows begin with is read once, then the rest of every row."""
    import torch

    rows = [(place, row) for place, family in enumerate(families) for row in family.rows]
    start = [families[place].shared for place, _ in rows]
    with torch.inference_mode():
        ids, mask = model.pad([row.ids[first:] for (_, row), first in zip(rows, start, strict=True)], left=False)
        more: dict[str, Any] = {"use_cache": False}
        if families[0].shared:
            beginnings = [family.rows[0].ids[: family.shared] for family in families]
            _, before, cache = model.begin(beginnings, [place for place, _ in rows])
            offset = torch.tensor(start, device=ids.device)[:, None]
            positions = offset + torch.arange(ids.shape[1], device=ids.device)
            more = {"use_cache": True, "past_key_values": cache, "position_ids": positions}
            mask = torch.cat([before, mask], dim=1)
        reads = [
            [(position - first, token, label) for position, token, label in row.reads]
            for (_, row), first in zip(rows, start, strict=True)
        ]
        wanted = sorted({position for here in reads for position, _, _ in here})
        logits, _ = model.forward(ids, mask, torch.tensor(wanted, device=ids.device), **more)
        column = {position: i for i, position in enumerate(wanted)}
        for index, (_, row) in enumerate(rows):
            at = torch.tensor([column[position] for position, _, _ in reads[index]], device=ids.device)
            tokens = torch.tensor([token for _, token, _ in reads[index]], device=ids.device)
            logprobs = torch.log_softmax(logits[index, at].double(), dim=-1)
            found = logprobs.gather(1, tokens[:, None])[:, 0].cpu().numpy()
            for (_, _, label), value in zip(reads[index], found, strict=True):
                scores[row.request][label] += value
