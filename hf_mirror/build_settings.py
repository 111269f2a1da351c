"""What a build depends on besides the raw files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hf_mirror.errors import ConfigError
from hf_mirror.exposure import REGIMES
from hf_mirror.splits import KINDS

HELD_OUT = 0.1  # of all scenes, for validation and for test
MATCHED, LOGGED = "popularity_matched", "logged"


@dataclass(frozen=True)
class BuildSettings:
    """What a build depends on besides the raw files. `scenes` is the number wanted per domain, over all splits.

    Where the source logs impressions every scene is `logged`. Elsewhere test scenes are `popularity_matched`, and
    `regime` is that of the others; with `instead_of_logged` it is so where impressions are logged, too. `history`,
    `train_options` and `evaluation_options` are bounds, both included. `content_model` is a sentence-transformers
    model for content options (default: words by TF-IDF). `also_test` names regimes in which the choices of the test
    scenes are asked once more, where they are eligible. `split_by` is `arrival`, or `user` for disjoint users without a
    cut in time (splits.py).
    """

    scenes: int = 1000
    regime: str = MATCHED
    instead_of_logged: bool = False
    seed: int = 0
    history: tuple[int, int] = (2, 10)
    train_options: tuple[int, int] = (2, 12)
    evaluation_options: tuple[int, int] = (5, 5)
    content_model: str | None = None
    also_test: tuple[str, ...] = ()
    split_by: str = "arrival"

    def __post_init__(self) -> None:
        for regime in (self.regime, *self.also_test):
            if regime not in REGIMES:
                raise ConfigError(f"regime {regime!r} is not known; choose one of {', '.join(REGIMES)}")
        if self.split_by not in KINDS:
            raise ConfigError(f"split_by is {self.split_by!r}; choose one of {', '.join(KINDS)}")
        if len(set(self.also_test)) < len(self.also_test):
            raise ConfigError(f"also_test names a regime twice: {', '.join(self.also_test)}")
        if self.scenes < 10:
            raise ConfigError(f"scenes is {self.scenes}; a build needs at least 10")
        for name, least, most in (("history", 1, 1000), ("train_options", 2, 26), ("evaluation_options", 2, 26)):
            low, high = getattr(self, name)
            if not least <= low <= high <= most:
                raise ConfigError(f"{name} is {low}-{high}; expected two numbers from {least} to {most}, in order")

    @staticmethod
    def of(recorded: Mapping[str, Any]) -> BuildSettings:
        """The settings that a report holds."""
        given: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in recorded.items()}
        return BuildSettings(**given)

    def shares(self) -> dict[str, int]:
        """How many scenes are wanted of each split: `scenes` in all."""
        held_out = round(HELD_OUT * self.scenes)
        return {"train": self.scenes - 2 * held_out, "validation": held_out, "test": held_out}

    def regime_of(self, split: str, logs_impressions: bool) -> str:
        """The regime of a split's scenes."""
        if logs_impressions and (split == "test" or not self.instead_of_logged):
            return LOGGED
        return MATCHED if split == "test" else self.regime
