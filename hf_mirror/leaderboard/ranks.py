"""Which ranks a model may hold, given what the tests leave open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations

from hf_mirror import metrics
from hf_mirror.alignment import Row
from hf_mirror.comparison import SIGNIFICANT, Answers, pairwise

Score = Mapping[str, float | None]


def rank_sets(
    losses: Mapping[int, Score], rows: Sequence[Row], answers: Mapping[int, Answers], *, seed: int = 0
) -> dict[int, tuple[int, int]]:
    """The best and worst rank by log-loss `{value, low, high}`, lower is better, of each place.

    Two places with `answers` to the benchmark's `rows` are compared on the same scenes, as `mirror compare` does:
    paired, user-clustered, Holm-corrected. Where either has none, one is better only if the intervals do not overlap,
    which is conservative; without an interval (one user) nothing is told apart.
    """
    better = {
        (str(one), str(other))
        for one, other in permutations(losses, 2)
        if not (one in answers and other in answers) and _below(losses[one], losses[other])
    }
    if len(answers) > 1:
        for pair in pairwise(rows, {str(place): of for place, of in answers.items()}, seed=seed)["pairs"]:
            loss = pair["full"]["log_loss"]
            if loss["p_holm"] < SIGNIFICANT:
                better.add((pair["a"], pair["b"]) if loss["value"] < 0 else (pair["b"], pair["a"]))
    found = metrics.rank_sets([str(place) for place in losses], better)
    return {int(place): rank for place, rank in found.items()}


def _below(one: Score, other: Score) -> bool:
    high, low = one["high"], other["low"]
    return high is not None and low is not None and high < low
