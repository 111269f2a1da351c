"""What a subset holds, and how small a difference between two models it can show."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from hf_mirror.bench.groups import gap_stratum
from hf_mirror.bench.orders import RANDOM

POWERED_USERS = 200
DESIGN_EFFECT = 2.0  # about what was measured: scenes of one user are alike
DETECTION = 1.959964 + 0.841621  # two-sided 5 % test, 80 % power


def minimum_detectable_difference(accuracy: float, n_scenes: int, design_effect: float = DESIGN_EFFECT) -> float | None:
    """The smallest difference of accuracy between two models that a two-sided 5 % test sees with 80 % power, as planned
    before any model has answered: (1.960 + 0.842) * sqrt(2 * design_effect * p (1 - p) / n).

    Both models hit about a share p of the scenes and are compared without pairing; averaging over orders and pairing
    only lower it (arXiv 2411.00640 section 5). None without scenes.
    """
    return DETECTION * math.sqrt(2 * design_effect * accuracy * (1 - accuracy) / n_scenes) if n_scenes else None


class Counts:
    """Counts rows as they are made. `random_order_gold_slots` counts the truth per slot, by K: it should be even."""

    def __init__(self, scenes: Sequence[Mapping[str, Any]]) -> None:
        self._scenes = scenes
        self._n_options = Counter(len(scene["exposure"]) for scene in scenes)
        self._slots = {str(k): [0] * k for k in sorted(self._n_options)}
        self._orders: Counter[str] = Counter()
        self._twins: Counter[str] = Counter()

    def add(self, row: Mapping[str, Any], own: bool) -> None:
        """Counts one row: of the scene itself (`own`), or of a twin."""
        if not own:
            self._twins[row["variant_id"]] += 1
            return
        self._orders[row["variant"]["order"]] += 1
        if row["variant"]["order"] == RANDOM:
            self._slots[str(len(row["choices"]))][row["gold_index"]] += 1

    def report(self, relaxed: Sequence[str]) -> dict[str, Any]:
        """Everything, ready for JSON; `relaxed` says per scene what was relaxed to find its donors."""
        scenes = self._scenes
        users = len({scene["user_id"] for scene in scenes})
        chance = sum(n / k for k, n in self._n_options.items()) / len(scenes) if scenes else None
        return {
            "scenes": len(scenes),
            "rows": self._orders.total() + self._twins.total(),
            "users": users,
            "underpowered": users < POWERED_USERS,
            "chance_accuracy": None if chance is None else round(chance, 6),
            "minimum_detectable_difference": _rounded(
                {"at_chance": None if chance is None else minimum_detectable_difference(chance, len(scenes)),
                 "at_half": minimum_detectable_difference(0.5, len(scenes))}
            ),
            "regimes": dict(sorted(Counter(scene["regime"] for scene in scenes).items())),
            "n_options": {str(k): n for k, n in sorted(self._n_options.items())},
            "gap": dict(sorted(Counter(gap_stratum(scene["gap_seconds"]) for scene in scenes).items())),
            "orders": dict(self._orders),
            "twins": dict(sorted(self._twins.items())),
            "donors_found_by_relaxing": dict(sorted(Counter(relaxed).items())),
            "random_order_gold_slots": self._slots,
        }  # fmt: skip


def _rounded(values: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None else round(value, 4) for name, value in values.items()}
