"""The one predicate that truth and negatives alike must satisfy (SCIENCE: eligibility).

A truth filtered by other rules than its negatives can be told from them without knowing the user.
"""

from __future__ import annotations

import numpy as np

REASONS = ("not_known_from_another_user", "not_available", "touched_before", "without_attributes")


def failed_rules(
    first_seen: np.ndarray,
    available_from: np.ndarray,
    touched: np.ndarray,
    described: np.ndarray,
    time: np.ndarray | int,
) -> tuple[np.ndarray, ...]:
    """One boolean array per reason in REASONS, true where the rule fails. All inputs share one shape.

    first_seen: the item's first event by anyone, ms (an item that this user has not touched before was then known
    from another user). available_from: ms. touched: whether this user met the item before `time`. described: whether
    its attributes are present. time: the scene's time, ms.
    """
    return (~(first_seen < time) & ~touched, ~(available_from <= time), touched, ~described)


def eligible(
    first_seen: np.ndarray,
    available_from: np.ndarray,
    touched: np.ndarray,
    described: np.ndarray,
    time: np.ndarray | int,
) -> np.ndarray:
    """True where every rule of `failed_rules` holds."""
    failed = failed_rules(first_seen, available_from, touched, described, time)
    return ~(failed[0] | failed[1] | failed[2] | failed[3])
