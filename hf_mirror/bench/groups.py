"""What a scene is like, for scores by group: when it came, how popular its truth is, how active its user, and who.

Also the category of an item. Builders have no such notion, so that it is derived: see `category_of`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

GAPS = ("first", "<1h", "1h-1d", ">=1d")
POPULARITY = ("low", "middle", "high")
ACTIVITY = ("few", "middle", "many")
MOST_VALUES, LONGEST_VALUE = 10, 30  # of a profile entry that makes groups
MOST_CATEGORIES, LONGEST_CATEGORY = 64, 40
LEAST_SHARE = 0.5  # of the items that must have a category
TITLE = "title"


def gap_stratum(gap_seconds: int | None) -> str:
    """How long after the user's previous event: `<1h`, `1h-1d`, `>=1d`; `first` where there is none known."""
    if gap_seconds is None:
        return GAPS[0]
    return GAPS[1 + (gap_seconds >= 3_600) + (gap_seconds >= 86_400)]


def terciles(values: Sequence[float], names: Sequence[str]) -> list[str]:
    """The name of each value's third, by the 1/3 and 2/3 quantiles; equal values share one, so thirds may differ."""
    if not len(values):
        return []
    cuts = np.quantile(values, [1 / 3, 2 / 3])
    return [names[place] for place in np.searchsorted(cuts, values)]


def coarse_keys(profiles: Iterable[Mapping[str, Any]]) -> list[str]:
    """The entries of profiles that make groups: short texts, of two to ten values over the domain."""
    values: dict[str, set[Any]] = {}
    for profile in profiles:
        for key, value in profile.items():
            if value is not None and len(found := values.setdefault(key, set())) <= MOST_VALUES:
                found.add(value if isinstance(value, str) and len(value) <= LONGEST_VALUE else None)
    return sorted(key for key, found in values.items() if 2 <= len(found) <= MOST_VALUES and None not in found)


def groups_of(scenes: Sequence[Mapping[str, Any]], events: Sequence[int], profiles: Mapping[str, Any]) -> list[Any]:
    """Per scene `{gap, popularity, activity, profile.<key>…}`: popularity is that of the truth, as of the scene, among
    the subset's scenes; activity is the user's number of past events (`events`)."""
    truths = [scene["exposure"][scene["choice_index"]]["asof_count"] or 0 for scene in scenes]
    keys = coarse_keys(profiles.values())
    return [
        {"gap": gap_stratum(scene["gap_seconds"]), "popularity": popular, "activity": active}
        | {f"profile.{key}": value for key in keys if (value := profiles[scene["user_id"]].get(key)) is not None}
        for scene, popular, active in zip(scenes, terciles(truths, POPULARITY), terciles(events, ACTIVITY), strict=True)
    ]


def category_source(attributes: Iterable[Mapping[str, Any]]) -> tuple[str, int | None] | None:
    """Which attribute tells an item's category, and which entry of it where it is a list.

    Of all lists of texts (each of their first three entries) and all texts but the title: those that are short, take
    2 to 64 values, no more than half as many as there are items with one, and describe at least half of all items. A
    list goes before a text (a film's genres before its studio), then what describes more items, then the name. None
    where nothing fits.
    """
    values: dict[tuple[bool, str, int], Counter[str]] = {}
    total = 0
    for described in attributes:
        total += 1
        for key, value in described.items():
            listed = isinstance(value, list)
            for place, text in enumerate(value[:3] if isinstance(value, list) else [value]):
                if key != TITLE and isinstance(text, str) and text:
                    found = values.setdefault((not listed, key, place), Counter())
                    # A few more than would do: what has too many need not be counted out.
                    if text in found or len(found) <= MOST_CATEGORIES:
                        found[text] += 1
    fits = [
        (plain, -found.total(), key, place)
        for (plain, key, place), found in values.items()
        if 2 <= len(found) <= min(MOST_CATEGORIES, found.total() / 2)
        and found.total() >= LEAST_SHARE * total
        and max(map(len, found)) <= LONGEST_CATEGORY
    ]
    if not fits:
        return None
    plain, _, key, place = min(fits)
    return key, None if plain else place


def category_of(attributes: Mapping[str, Any], source: tuple[str, int | None] | None) -> str | None:
    """An item's category by `category_source`; None where it has none."""
    if source is None:
        return None
    key, place = source
    value = attributes.get(key)
    if place is not None:
        value = value[place] if isinstance(value, list) and len(value) > place else None
    return value if isinstance(value, str) and value else None
