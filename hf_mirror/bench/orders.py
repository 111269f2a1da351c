"""In which orders a scene's options are asked.

Source: permutation over option orders as in Zheng et al., https://arxiv.org/abs/2309.03882.
"""

from __future__ import annotations

from hf_mirror.identity import Draws, digest

ALL_SHIFTS_UP_TO = 12
SHIFTS_ABOVE = 5
RANDOM = "random"


def orders(scene_id: str, n_options: int, seed: int) -> dict[str, list[int]]:
    """Name → order of a scene's options: `shift n` puts old slot (j + n) mod K at slot j, `shift 0` changes nothing.

    For K ≤ 12 all shifts, above five of them drawn without replacement; then `random`. Draws depend on the seed and
    the scene_id, which holds no truth.
    """
    key = bytes.fromhex(digest("bench", seed, scene_id))
    shifts = list(range(n_options))
    if n_options > ALL_SHIFTS_UP_TO:
        shifts = sorted(Draws(key, "shifts").shuffled(shifts)[:SHIFTS_ABOVE])
    named = {f"shift {n}": [(j + n) % n_options for j in range(n_options)] for n in shifts}
    return named | {RANDOM: Draws(key, "order").shuffled(range(n_options))}
