"""What a choice dataset gives away without its users: positions, popularity, age, and anything else an option shows.

A leak here makes every later number a lie, so that every build runs these checks, and `mirror audit` runs them on any
dataset of choices. Limits are set so that a fair dataset fails a check a few times in a thousand; a check of which the
data has nothing is `no data`, and one that the regime does not promise is `shown`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hf_mirror.audit.blind import eligibility, history_blind
from hf_mirror.audit.choices import CATEGORICAL, POPULARITY, Choices, varies
from hf_mirror.audit.positions import positions
from hf_mirror.audit.shares import extremes, gaps, popularity_histogram

__all__ = ["Choices", "audit"]

MATCHED, LOGGED = "popularity_matched", "logged"
TOO_FEW_SCENES = 100
TOO_FEW_USERS = 10
Z = 3.29  # two-sided 99.9 %: several checks are made
POPULARITY_POINTS = 0.01  # a share this near to chance is near enough, however many scenes there are
BLIND_POINTS = 0.02
Facts = dict[str, Any]


def audit(choices: Choices) -> Facts:
    """Every check on some scenes, ready for JSON. `checks` says passed, failed, shown or no data for each.

    `positions` must be right in any regime, and the answers of `eligibility` in any but the logged one, whose options
    are kept as they were shown. In the matched regime also: `popularity`, where the truth is the most, least and median
    popular option as often as chance (99.9 % interval, or one point); and `history_blind` and the inputs of
    `eligibility`, whose logit must not be more than two points above chance, unless it cannot be told from chance
    (99.9 % interval). `passed` is None where there is too little to judge.
    """
    users = len(np.unique(choices.cluster))
    found: Facts = {"scenes": len(choices.truth), "users": users, "regime": choices.regime}
    if found["scenes"] < TOO_FEW_SCENES or users < TOO_FEW_USERS:
        slots = positions(choices)["per_k"] if len(choices.truth) else {}
        return found | {"too_few": True, "passed": None, "failed": [], "positions": {"per_k": slots}}
    sample = choices.sample()
    found |= {
        "too_few": False,
        "chance": round(float(choices.chance.mean()), 4),
        "positions": positions(choices),
        "extremes": _extremes(choices, sample),
        "history_blind": history_blind(sample),
        "eligibility": eligibility(sample),
        "gaps": gaps(choices),
        "popularity_histogram": popularity_histogram(choices),
    }
    found["checks"] = _checks(found, choices.regime)
    found["failed"] = [name for name, verdict in found["checks"].items() if verdict == "failed"]
    found["passed"] = not found["failed"]
    return found


def _extremes(choices: Choices, sample: Choices) -> Facts:
    """Of popularity over all scenes; of other features, which are only shown, over a sample."""
    of = {name: choices if name == POPULARITY else sample for name in sorted(choices.features)}
    return {
        name: extremes(scenes, name)
        for name, scenes in of.items()
        if name not in CATEGORICAL and varies(scenes.feature(name))
    }


def _checks(found: Facts, regime: str) -> dict[str, str]:
    def verdict(good: bool | None, judged: bool = True) -> str:
        return "no data" if good is None else "shown" if not judged else "passed" if good else "failed"

    strict, fair = regime == MATCHED, found["eligibility"]
    return {
        "positions": verdict(found["positions"]["passed"]),
        "popularity": verdict(_at_chance(found["extremes"].get(POPULARITY)), strict),
        "history_blind": verdict(_blind(found["history_blind"]), strict),
        "eligibility": verdict(
            fair and _blind(fair["answers"]) and (not strict or _blind(fair["inputs"])), regime != LOGGED
        ),
    }


def _at_chance(shares: Facts | None) -> bool | None:
    if shares is None or "largest" not in shares:
        return None
    parts = [shares[name] for name in ("largest", "smallest", "median")]
    return all(
        abs(part["share"] - part["chance"]) <= max(POPULARITY_POINTS, _reach(part, shares["scenes"])) for part in parts
    )


def _blind(score: Facts | None) -> bool | None:
    return None if score is None else score["excess"] <= max(BLIND_POINTS, _reach(score, score["scenes"]))


def _reach(part: Facts, scenes: int) -> float:
    """Half the width of the 99.9 % interval; never less than scenes without any tie between them would give, because
    the standard error of a few users is itself uncertain."""
    independent = math.sqrt(part["chance"] * (1 - part["chance"]) / scenes)
    return Z * max(part["standard_error"], independent)
