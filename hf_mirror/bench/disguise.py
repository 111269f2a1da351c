"""The same scene with less said of its items: titles hidden, or nothing but opaque ids.

A model that has memorised a public data set knows items by their titles. With titles hidden it has the other attributes
(genres, say); with ids alone it has what co-occurrence in the prompt tells, which for a model that was not trained on
these ids is nothing.

Attributes are changed, not the template: each value keeps its type, so that any domain's template works unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hf_mirror.bench.groups import TITLE
from hf_mirror.identity import digest

HIDDEN = "(title hidden)"
SHORTEST_MENTION = 3  # letters: a shorter title is not looked for in texts, where it is a word like any other
BESIDE_TITLE = re.compile(r"\s*\([^()]*\)\s*$")  # the year of a film, the edition of a book

Attributes = Mapping[str, Any]
Disguise = Callable[[Mapping[str, Any], Mapping[str, Attributes]], tuple[dict[str, Any], dict[str, Any]]]


def titles_masked(
    scene: Mapping[str, Any], attributes: Mapping[str, Attributes]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The scene and its items' attributes with one placeholder for every title, so that not even an item that is twice
    in the scene is known again. Other texts (a review, say) stay, but for the titles of the scene's items in them."""
    mention = _mention([str(of.get(TITLE) or "") for of in attributes.values()])

    def without_titles(value: Any) -> Any:
        return _texts(value, lambda text: mention.sub(HIDDEN, text) if mention else text)

    hidden = {
        item: {key: HIDDEN if key == TITLE else without_titles(value) for key, value in of.items()}
        for item, of in attributes.items()
    }
    return _with_signals(scene, without_titles), hidden


def ids_alone(numbers: Mapping[str, int]) -> Disguise:
    """A disguise that leaves an item's number, `item 4821` (`numbered`), where its title was, and empties all else:
    texts and lists of items, texts of signals. Ratings stay: they are the user's, not the item's."""

    def disguise(
        scene: Mapping[str, Any], attributes: Mapping[str, Attributes]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        opaque = {
            item: {key: f"item {numbers[item]}" if key == TITLE else _emptied(value) for key, value in of.items()}
            for item, of in attributes.items()
        }
        return _with_signals(scene, lambda signal: _texts(signal, lambda text: "")), opaque

    return disguise


def numbered(domain: str, items: Sequence[str]) -> dict[str, int]:
    """A number from 1 for every item of a domain, in the order of a hash: the same in all scenes, and no item's number
    says anything of it."""
    ranked = sorted(items, key=lambda item: digest("item number", domain, item))
    return {item: number for number, item in enumerate(ranked, 1)}


def _mention(titles: Sequence[str]) -> re.Pattern[str] | None:
    """Finds the titles in a text as whole words, with and without what stands in parentheses at their ends."""
    spelled = {spelling.strip() for title in titles for spelling in (title, BESIDE_TITLE.sub("", title))}
    found = sorted((one for one in spelled if len(one) >= SHORTEST_MENTION), key=lambda one: (-len(one), one))
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, found))})(?!\w)", re.IGNORECASE) if found else None


def _with_signals(scene: Mapping[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    return {**scene, "history": [past | {"signal": change(past["signal"])} for past in scene["history"]]}


def _texts(value: Any, change: Callable[[str], str]) -> Any:
    """A value with every text in it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _texts(inner, change) for key, inner in value.items()}
    return [_texts(inner, change) for inner in value] if isinstance(value, list) else value


def _emptied(value: Any) -> Any:
    """A value of the same type that says nothing: "", 0, False, [], and so inside of maps."""
    if isinstance(value, dict):
        return {key: _emptied(inner) for key, inner in value.items()}
    return None if value is None else type(value)()
