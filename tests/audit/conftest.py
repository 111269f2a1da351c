"""Made-up choices: a fair world in which nothing of an option tells, and faults put into it one at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hf_mirror.audit.choices import Choices


@pytest.fixture(scope="session")
def made() -> Callable[..., Choices]:
    """`made(seed, scenes, users, k, regime, choose)`: K from `k[0]` to `k[1]`. `choose(features, inside, rng)` gives
    every option's chance to be the truth, shape [scenes, K]; without it all are alike."""

    def build(
        seed: int = 0, scenes: int = 1000, users: int = 250, k: tuple[int, int] = (5, 5),
        regime: str = "popularity_matched", choose: Callable[..., np.ndarray] | None = None,
    ) -> Choices:  # fmt: skip
        rng = np.random.default_rng(seed)
        sizes = rng.integers(k[0], k[1] + 1, scenes)
        shape = (scenes, k[1])
        inside = np.arange(k[1]) < sizes[:, None]
        features: dict[str, Any] = {
            "asof_count": rng.geometric(0.02, shape).astype(float),
            "positive_share": rng.beta(5, 3, shape),
            "first_seen_days": 1 + rng.exponential(300, shape),
            "available_days": rng.exponential(500, shape),
            "described": np.ones(shape),
            "title_length": rng.integers(5, 60, shape).astype(float),
            "source": rng.integers(0, 3, shape).astype(float),
        }
        chances = np.ones(shape) if choose is None else choose(features, inside, rng)
        chances = np.cumsum(np.where(inside, chances, 0), axis=1)
        truth = (rng.random((scenes, 1)) * chances[:, -1:] >= chances).sum(axis=1)
        gaps = rng.integers(-1, 200_000, scenes)
        return Choices(sizes, truth, rng.integers(0, users, scenes), features, gaps, regime)

    return build
