"""What a stage of writing or reading costs: scenes, tokens, hours, money."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Meter:
    """Counts what is done from now on; `show(scenes, tokens)` is told of every bit of it. What was there already from
    an earlier attempt counts as progress, not as work.

    Prices are of one's own: of an hour of the machine, and of a million tokens in and out.
    """

    show: Callable[[int, int], None] = lambda scenes, tokens: None
    price_per_hour: float | None = None
    price_per_million: tuple[float, float] | None = None
    rounds: int = 1  # how often a scene is gone over until it is done
    scenes: int = 0
    prompt_tokens: int = 0
    tokens: int = 0
    begin: float = field(default_factory=time.monotonic)

    def found(self, scenes: int) -> None:
        """Scenes that an earlier attempt has done."""
        self.show(scenes, 0)

    def made(self, scenes: int, tokens: int = 0, prompt_tokens: int = 0) -> None:
        """Scenes that are done, tokens that were written and read for them."""
        self.scenes += scenes
        self.tokens += tokens
        self.prompt_tokens += prompt_tokens
        self.show(scenes, tokens)

    def summary(self) -> dict[str, Any]:
        """Seconds, rates, and cost per 1,000 scenes: in hours of this machine, and in money where a price is known."""
        seconds = time.monotonic() - self.begin
        scenes = self.scenes / self.rounds
        found: dict[str, Any] = {
            "scenes": int(scenes) if scenes.is_integer() else round(scenes, 1),
            "seconds": round(seconds, 1),
        }
        if self.tokens:
            found |= {"tokens": self.tokens, "prompt_tokens": self.prompt_tokens}
            found["tokens_per_second"] = round(self.tokens / seconds, 1)
        if scenes:
            thousands = scenes / 1000
            found["hours_per_1000_scenes"] = round(seconds / 3600 / thousands, 4)
            if self.price_per_hour is not None:
                found["cost_per_1000_scenes"] = round(self.price_per_hour * seconds / 3600 / thousands, 4)
            elif self.price_per_million is not None:
                into, out = self.price_per_million
                cost = (into * self.prompt_tokens + out * self.tokens) / 1e6
                found["cost_per_1000_scenes"] = round(cost / thousands, 4)
        return found
