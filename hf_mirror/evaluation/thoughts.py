"""What the thoughts of an evaluation in `rationale` mode are worth by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hf_mirror.alignment import Row
from hf_mirror.alignment.table import is_headline
from hf_mirror.rationales.quality import parts_of


def thoughts(rows: Sequence[Row], decisions: Sequence[Sequence[Row]]) -> dict[str, Any]:
    """Over all decisions about rows with their own history and full text:

    decisions · valid: those that state one option that is there · in_form: those with the four parts in order ·
    cut_off: those that ended at the longest length · stated_accuracy: those that state the truth (what is not valid
    counts as wrong), what a benchmark that generates and parses would measure · consistent: of those that were read
    again without their answer line, the share whose likeliest option is the stated one. None where
    there is nothing to count.
    """
    own = [(row, each) for row, of_row in zip(rows, decisions, strict=True) if is_headline(row) for each in of_row]
    valid = [(row, each) for row, each in own if each["stated_choice"] is not None]
    read = [each for _, each in valid if each["choice_probs"]]
    return {
        "decisions": len(own),
        "valid": _share(len(valid), len(own)),
        "in_form": _share(sum(parts_of(each["text"]) is not None for _, each in own), len(own)),
        "cut_off": _share(sum(each["finish_reason"] == "length" for _, each in own), len(own)),
        "stated_accuracy": _share(sum(each["stated_choice"] == row["gold_index"] for row, each in valid), len(own)),
        "consistent": _share(
            sum(int(np.argmax(each["choice_probs"])) == each["stated_choice"] for each in read), len(read)
        ),
    }


def _share(count: int, of: int) -> float | None:
    return count / of if of else None
