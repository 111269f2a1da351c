"""Can the truth be told without the user? From everything an option shows, and from what eligibility looks at."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from hf_mirror.audit.choices import ELIGIBILITY, Choices
from hf_mirror.audit.logit import crossfit


def history_blind(choices: Choices) -> dict[str, Any] | None:
    """A logit on every option-side feature and the slot. None without any feature."""
    return crossfit(choices, sorted(choices.features), slot=True) if choices.features else None


def eligibility(choices: Choices) -> dict[str, Any] | None:
    """Whether the truth met other rules than its negatives. None without the predicate's inputs.

    `answers` is a logit on what the predicate says of each input (known before, out by then, described): were truth
    and negatives filtered alike, all options of a scene agree and it is exactly at chance in any regime. `inputs` is
    one on the numbers themselves, which are at chance only where age is matched: people choose new things.
    """
    inputs = [name for name in ELIGIBILITY if name in choices.features]
    if not inputs:
        return None
    answers = {name: _answer(name, choices.features[name]) for name in inputs}
    return {
        "answers": crossfit(replace(choices, features=answers), inputs),
        "inputs": crossfit(choices, inputs),
    }


def _answer(name: str, values: np.ndarray) -> np.ndarray:
    """1 where the rule holds, 0 where it fails. What has no date is available; an unknown first event is a failure."""
    if name == "available_days":
        return (~(values < 0)).astype(float)
    return (values > 0).astype(float)
