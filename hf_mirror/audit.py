"""What the options alone give away: how often the truth is an extreme of something that needs no user."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hf_mirror.scenes import Draft
from hf_mirror.world import World


def option_audit(world: World, drafts: Sequence[Draft]) -> dict[str, Any]:
    """The share of scenes in which the truth is the most, least or median popular option, or the newest or oldest.

    Popularity is the as-of count, age the time since the item's first event; ties share their hit. Each entry has the
    share and its standard error over users (a user's scenes are one cluster), to be held against `chance`, the mean
    of 1/K. In the matched regime the three of popularity should lie within two standard errors of chance; age is not
    matched (docs/decisions.md).
    """
    if not drafts:
        return {"scenes": 0}
    hits: dict[str, list[float]] = {}
    for draft in drafts:
        counts = np.array(draft.counts)
        seen = world.first_seen[list(draft.options)]
        middle = np.sort(counts)[(len(counts) - 1) // 2]
        marked = {
            "most_popular": counts == counts.max(),
            "least_popular": counts == counts.min(),
            "median_popular": counts == middle,
            "newest": seen == seen.max(),
            "oldest": seen == seen.min(),
        }
        for name, tied in marked.items():
            hits.setdefault(name, []).append(float(tied[draft.choice_index] / tied.sum()))
    chance = np.array([1 / len(draft.options) for draft in drafts])
    users = np.unique([world.user[draft.event] for draft in drafts], return_inverse=True)[1]
    audit: dict[str, Any] = {"scenes": len(drafts), "chance": round(float(chance.mean()), 4)}
    for name, values in hits.items():
        excess = np.bincount(users, np.array(values) - chance)
        error = float(np.sqrt((excess**2).sum())) / len(drafts)
        audit[name] = {"share": round(float(np.mean(values)), 4), "standard_error": round(error, 4)}
    return audit
