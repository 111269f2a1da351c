"""What the thoughts of an evaluation in `rationale` mode are worth by themselves."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import polars as pl

from hf_mirror.alignment import Row
from hf_mirror.alignment.table import is_headline
from hf_mirror.rationales.quality import SHORTEST_NAME, named_in, parts_of, stands_in

OPTION = re.compile(r"^[A-Z]\. (.+?)(?= \[|$)", re.MULTILINE)


def thoughts(rows: Sequence[Row], decisions: Sequence[Sequence[Row]]) -> dict[str, Any]:
    """Over all decisions about rows with their own history and full text:

    decisions · valid: those that state one option that is there · in_form: those with the four parts in order ·
    cut_off: those that ended at the longest length · grounded: of the names that thoughts mention (what option lines of
    any row begin with), the share that stands in the row's own prompt · stated_accuracy: those that state the truth
    (what is not valid counts as wrong), what a benchmark that generates and parses would measure · consistent: of those
    that were read again without their answer line, the share whose likeliest option is the stated one. None where
    there is nothing to count.
    """
    own = [(row, each) for row, of_row in zip(rows, decisions, strict=True) if is_headline(row) for each in of_row]
    valid = [(row, each) for row, each in own if each["stated_choice"] is not None]
    read = [each for _, each in valid if each["choice_probs"]]
    names = _names(row for row in rows if is_headline(row))
    said = named_in(pl.Series([each["text"] for _, each in own], dtype=pl.String), names) if names else []
    grounded = [
        stands_in(name, row["prompt"][-1]["content"])
        for (row, _), here in zip(own, said, strict=bool(names))
        for name in here
    ]
    return {
        "decisions": len(own),
        "valid": _share(len(valid), len(own)),
        "in_form": _share(sum(parts_of(each["text"]) is not None for _, each in own), len(own)),
        "cut_off": _share(sum(each["finish_reason"] == "length" for _, each in own), len(own)),
        "grounded": _share(sum(grounded), len(grounded)),
        "stated_accuracy": _share(sum(each["stated_choice"] == row["gold_index"] for row, each in valid), len(own)),
        "consistent": _share(
            sum(int(np.argmax(each["choice_probs"])) == each["stated_choice"] for each in read), len(read)
        ),
    }


def _names(rows: Iterable[Row]) -> list[str]:
    """What option lines begin with, up to an open bracket: titles. The longest first."""
    found = {name for row in rows for name in OPTION.findall(row["prompt"][-1]["content"])}
    return sorted((name for name in found if len(name) >= SHORTEST_NAME), key=lambda name: (-len(name), name))


def _share(count: int, of: int) -> float | None:
    return count / of if of else None
