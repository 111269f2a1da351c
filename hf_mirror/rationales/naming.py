"""What in a thought names an option: its title as whole words, in any case, or its letter."""

from __future__ import annotations

import re

from hf_mirror.backends import SceneView
from hf_mirror.prompts import LABELS

MASK = "…"
# `a` and `I` are words as well: after "option" they name one where no word follows.
_LETTER = re.compile(
    r"\[([A-Za-z])\]|(?<!\w)\(([A-Za-z])\)|"
    r"\b(?i:option|choice|letter) (?:([AB-HJ-Zb-hj-z])\b|([Iai])(?=\s*(?:[^\w\s]|$)))"
)


def named(thought: str, view: SceneView, option: int) -> bool:
    """Whether the thought names this option."""
    title = str(view.options[option].attributes.get("title") or "")
    letters = {letter.upper() for found in _LETTER.findall(thought) for letter in found if letter}
    return LABELS[option] in letters or bool(title and _title(title).search(thought))


def mask(thought: str, view: SceneView) -> str:
    """The thought without the titles of all items that its prompt shows, and without letters that name options."""
    attributes = [option.attributes for option in view.options] + [seen.attributes for seen in view.history]
    shown = {str(found.get("title") or "") for found in attributes} - {""}
    for title in sorted(shown, key=lambda title: (-len(title), title)):
        thought = _title(title).sub(MASK, thought)
    return _LETTER.sub(MASK, thought)


def _title(title: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(title)}(?!\w)", re.IGNORECASE)
