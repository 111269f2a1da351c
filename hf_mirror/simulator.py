"""A mirrored user: what would this person choose from this list?

from hf_mirror.simulator import UserSimulator
user = UserSimulator.from_pretrained("your-name/tiny-mirror-dpo", revision="v0.1.0")
print(user.choose({"history": [{"title": "Star Night", "signal": "5 of 5"}]}, ["Moon Day", "Blue Tea"]).probs)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_mirror.backends import Backend, Request, load
from hf_mirror.errors import DataError
from hf_mirror.prompts import ANSWER_PREFIX, LABELS, Messages, direct_messages, parse, rationale_messages

Memory = Mapping[str, Any] | str
Item = Mapping[str, Any] | str


@dataclass(frozen=True)
class Choice:
    """`probs`: P(option), float64, shape [K], sum 1; `index`: the likeliest; `thought`: what was thought, if asked."""

    probs: np.ndarray
    index: int
    thought: str | None


class UserSimulator:
    """Reads choices from one model. Any `Backend` works; `from_pretrained` takes a trained mirror model."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    @classmethod
    def from_pretrained(cls, repo: str, revision: str | None = None) -> UserSimulator:
        """`repo`: a Hub id, at a branch, tag or commit `revision`, or a local folder."""
        return cls(load("transformers", repo, revision))

    def choose(
        self,
        memory: Memory = "",
        exposure: Sequence[Item] = (),
        think: bool = False,
        *,
        prompt: Messages | None = None,
        seed: int = 0,
        max_tokens: int = 512,
    ) -> Choice:
        """The user with `memory` in front of `exposure`.

        `memory`: `{"profile": {...} or text, "history": [{"title": ..., "signal": ...}, ...]}`, oldest first, or plain
        text. `exposure`: 1 to 26 options, each a text or a mapping with `title` and further attributes. With `think`,
        a thought is sampled first (`seed`, at most `max_tokens`) and the options are read after it. With `prompt`, the
        stored messages of a benchmark row are used as they are, and `exposure` (its `choices`) only says how many
        options there are. Raises DataError for another number of options or a scene longer than the model's context.
        """
        if not 1 <= len(exposure) <= len(LABELS):
            raise DataError(f"exposure has {len(exposure)} options; expected 1 to {len(LABELS)}")
        scene = prompt or [{"role": "user", "content": scene_text(memory, exposure)}]
        thought, prefix, messages = None, ANSWER_PREFIX, direct_messages(scene)
        if think:
            messages = rationale_messages(scene)
            request = Request("scene", messages, seeds=(seed,), max_tokens=max_tokens)
            [written] = self.backend.generate([request])
            thought = parse(written.text, len(exposure)).thought
            prefix = f"{thought}\n{ANSWER_PREFIX}"
        [probs] = self.backend.choice_probs([Request("scene", messages, prefix)], [list(LABELS[: len(exposure)])])
        if np.isnan(probs).any():
            raise DataError(f"the scene is longer than {self.backend.model} can read; shorten the history")
        return Choice(probs, int(probs.argmax()), thought)


def scene_text(memory: Memory, exposure: Sequence[Item]) -> str:
    """The scene in the general shape of the domains' templates: who, what before, and the lettered options."""
    options = "\n".join(f"{label}. {_item(item)}" for label, item in zip(LABELS, exposure, strict=False))
    parts = [memory.strip()] if isinstance(memory, str) else [_profile(memory), _history(memory)]
    return "\n\n".join([*filter(None, parts), f"What you could take now:\n{options}"])


def _profile(memory: Mapping[str, Any]) -> str:
    unknown = set(memory) - {"profile", "history"}
    if unknown:
        raise DataError(f"memory has the keys {sorted(unknown)}; expected `profile` and `history`")
    profile = memory.get("profile") or ""
    if not isinstance(profile, Mapping):
        return str(profile)
    return f"You are: {', '.join(f'{name} {_text(value)}' for name, value in profile.items())}." if profile else ""


def _history(memory: Mapping[str, Any]) -> str:
    lines = []
    for past in memory.get("history") or []:
        seen = dict(past) if isinstance(past, Mapping) else {"title": past}
        signal = seen.pop("signal", None)
        lines.append(f"- {_item(seen)}" + (f": {_text(signal)}" if signal is not None else ""))
    return "\n".join(["What you took before, oldest first:", *lines]) if lines else ""


def _item(item: Item) -> str:
    """`Star Night [Drama, Romance]`: the title, and each further attribute in brackets."""
    if isinstance(item, str):
        return item
    if "title" not in item:
        raise DataError(f"an item has the keys {sorted(item)}; expected a text or a mapping with `title`")
    rest = [f"[{_text(value)}]" for name, value in item.items() if name != "title" and value is not None]
    return " ".join([str(item["title"]), *rest])


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(inner)}" for name, inner in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_text, value))
    return str(value)
