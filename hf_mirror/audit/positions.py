"""Where the truth stands: every slot should have its share, whatever the number of options."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hf_mirror.audit.choices import Choices
from hf_mirror.metrics import Bools

# One fair dataset in a thousand fails, all of its tests together (Bonferroni).
ALPHA = 0.001
# Below this many scenes per slot the chi-square distribution is a poor guide, and the slots of that K are only shown.
EXPECTED_PER_SLOT = 5


def positions(choices: Choices) -> dict[str, Any]:
    """Truths per slot for every K with Pearson's chi-square against uniform, and the first and the last slot over all
    K: sum(hit - 1/K) / sqrt(sum(1/K (1 - 1/K))) as a normal deviate `z`.

    `never_last`: no truth is last, though by chance, prod(1 - 1/K), at most one dataset in a thousand has none: the
    sign of a position drawn before the truth was inserted. `passed` is None where there is nothing to judge.
    """
    per_k: dict[str, Any] = {}
    p_values = []
    for k in np.unique(choices.n_options[choices.n_options > 1]).tolist():
        slots = np.bincount(choices.truth[choices.n_options == k], minlength=k)
        expected = slots.sum() / k
        statistic = float(((slots - expected) ** 2 / expected).sum())
        p_value, judged = chi_square_tail(statistic, k - 1), bool(expected >= EXPECTED_PER_SLOT)
        per_k[str(k)] = {
            "slots": slots.tolist(), "chi_square": round(statistic, 4), "p_value": round(p_value, 4), "judged": judged,
        }  # fmt: skip
        p_values += [p_value] if judged else []
    ends = {"first": choices.truth == 0, "last": choices.truth == choices.n_options - 1}
    shares = {name: _share(hits, choices) for name, hits in ends.items()}
    p_values += [math.erfc(abs(part["z"]) / math.sqrt(2)) for part in shares.values() if part["z"] is not None]
    none_by_chance = float(np.log1p(-choices.chance[choices.n_options > 1]).sum())
    never_last = not ends["last"].any() and none_by_chance < math.log(ALPHA)
    passed = not never_last and min(p_values) * len(p_values) >= ALPHA if p_values else None
    return {"per_k": per_k, **shares, "never_last": never_last, "passed": passed}


def _share(hits: Bools, choices: Choices) -> dict[str, float | None]:
    chance = choices.chance
    deviation = math.sqrt(float((chance * (1 - chance)).sum()))
    return {
        "share": round(float(hits.mean()), 4),
        "chance": round(float(chance.mean()), 4),
        "z": round(float((hits - chance).sum()) / deviation, 4) if deviation else None,
    }


def chi_square_tail(statistic: float, freedom: int) -> float:
    """P(chi-square with `freedom` degrees > statistic), by its finite series (Abramowitz & Stegun 26.4.4 and 26.4.5).

    With h = statistic / 2: even degrees give exp(-h) sum_{i < freedom/2} h^i / i!; odd ones erfc(sqrt(h)) +
    exp(-h) sum_{i=1..(freedom-1)/2} h^(i-1/2) / Gamma(i + 1/2). SciPy has it too, and takes as long to import as a
    small domain takes to build.
    """
    half = statistic / 2
    if half <= 0:
        return 1.0
    start = 0.0 if freedom % 2 == 0 else 0.5
    powers = [i + start for i in range(freedom // 2)]
    series = sum(math.exp(power * math.log(half) - half - math.lgamma(power + 1)) for power in powers)
    return min(1.0, series + (math.erfc(math.sqrt(half)) if freedom % 2 else 0.0))
