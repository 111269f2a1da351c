"""How good written decisions are by themselves: form, grounding, consistency, length, repeats.

Nothing here knows the truth. Shares come with the numbers that they are shares of.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hf_mirror import uncertainty
from hf_mirror.errors import DataError
from hf_mirror.prompts import ANSWER_PREFIX, PARTS
from hf_mirror.rationales.shards import ROLES, SPLITS

SHORTEST_NAME = 4  # letters: shorter titles and values are words that stand in any text
LONGEST_NAME = 6  # words of an attribute; what is longer is a description
LONGEST_VALUES = 200_000  # titles and values that are looked for in texts

# What a part speaks of, by words that give it away. One part may speak of several things, or of none of them.
FACTORS: dict[str, dict[str, str]] = {
    "Stimulus": {
        "an option": r"\b(?:eye|eyes|notice|noticed|stop at|stops me|stands out|catches|attention)\b",
        "mood or moment": r"\b(?:mood|moment|tonight|today|evening|feel like|tired|bored|relax)\b",
        "popularity": r"\b(?:popular|everyone|people|hype|talk(?:ed|ing)? about|famous|well.known)\b",
        "novelty": r"\b(?:new|newest|latest|recent|never|curious|fresh)\b",
    },
    "Knowledge": {
        "a past item": r"\b(?:remember|watched|read|bought|before|earlier|last time|previous(?:ly)?)\b",
        "attributes": r"\b(?:about|genre|kind|type|brand|author|director|category|style|something of)\b",
        "ratings": r"\b(?:rated|rating|stars?|score|liked|loved|disliked|hated)\b",
        "popularity": r"\b(?:popular|everyone|people|reviews?)\b",
    },
    "Evaluation": {
        "comparison": r"\b(?:compared?|than|versus|rather|while|whereas|nearer|better|closer)\b",
        "elimination": r"\b(?:not for me|rule out|leaves?|eliminate|dismiss|instead)\b",
        "habit": r"\b(?:usual(?:ly)?|always|habit|again|as ever|typical(?:ly)?)\b",
        "feeling": r"\b(?:feel|feels|feeling|lean|gut|instinct|heart|drawn)\b",
        "popularity": r"\b(?:many people|popular|everyone|crowd)\b",
    },
}


def quality(folder: Path) -> dict[str, Any]:
    """Per role, over all decisions of a domain folder that were written:

    decisions, parsed · in_form: the four parts in order · grounding: of titles and attribute values that thoughts name
    (whole words, as the domain's tables spell them), how many stand in the prompt · consistency: among decisions whose
    thought was read alone and masked (`mirror read --masked`), how often the likeliest option is the stated one, and
    what chance would give; the mean entropy of those readings beside that of the same decisions' full readings, in
    shares of log2 K · names_choice: thoughts that name their pick · words: mean and quantiles of thoughts · repeats:
    thoughts that another decision of the same scene has word for word · factors: what the parts speak of.
    """
    scenes = pl.concat(
        [pl.read_parquet(folder / "scenes" / f"{split}.parquet", columns=["scene_id", "exposure", "prompt"])
         for split in SPLITS]
    )  # fmt: skip
    shown = scenes.select(
        "scene_id",
        pl.col("prompt").list.first().struct.field("content").alias("text"),
        pl.col("exposure").list.len().alias("n_options"),
    )
    names = _names(folder)
    return {role: _role(folder, role, shown, names) for role in ROLES}


def _role(folder: Path, role: str, scenes: pl.DataFrame, names: list[str]) -> dict[str, Any]:
    paths = sorted((folder / "rationales" / role).glob("*.parquet"))
    if not paths:
        raise DataError(f"{folder / 'rationales' / role} holds no rationales; run `mirror rationales --role {role}`")
    columns = ["scene_id", "sample_index", "text", "thought", "stated_choice", "choice_named_in_thought", "parse_error"]
    written = pl.read_parquet(paths, columns=columns)
    parsed = written.filter(pl.col("parse_error").is_null())
    found: dict[str, Any] = {"decisions": written.height, "parsed": parsed.height}
    if not parsed.height:
        return found
    thoughts = parsed["thought"].to_list()
    forms = [form for text in parsed["text"].to_list() if (form := parts_of(text))]
    words = np.array([len(thought.split()) for thought in thoughts])
    repeated = parsed.select(pl.len().over("scene_id", "thought") > 1).to_series().sum()
    quantiles = np.quantile(words, [0.1, 0.5, 0.9])
    return found | {
        "in_form": _share(len(forms), parsed.height),
        "grounding": _grounding(parsed, scenes, names),
        "consistency": _consistency(folder, role, parsed, scenes),
        "names_choice": _share(int(parsed["choice_named_in_thought"].sum()), parsed.height),
        "words": {"mean": round(float(words.mean()), 1)}
        | {f"p{p}": float(value) for p, value in zip((10, 50, 90), quantiles, strict=True)},
        "repeats": _share(int(repeated), parsed.height),
        "factors": _factors(forms),
    }


def parts_of(text: str) -> dict[str, str] | None:
    """The words of every part, where an answer consists of Stimulus, Knowledge, Evaluation and the answer line, in this
    order; else None."""
    heads: list[str] = []
    words: dict[str, list[str]] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        head, colon, rest = line.partition(":")
        if colon and head in (*PARTS, ANSWER_PREFIX.partition(":")[0]):
            heads.append(head)
            line = rest.strip()
        if not heads:
            return None
        words.setdefault(heads[-1], []).append(line)
    found = {head: " ".join(lines).strip() for head, lines in words.items()}
    return found if heads == [*PARTS, ANSWER_PREFIX.partition(":")[0]] and all(found.values()) else None


def _share(count: int, of: int) -> dict[str, Any]:
    return {"count": count, "of": of, "share": round(count / of, 4) if of else None}


def _names(folder: Path) -> list[str]:
    """Titles, and short values of other attributes, of all items of the domain."""
    found: Counter[str] = Counter()
    for text in pl.read_parquet(folder / "tables" / "items.parquet", columns=["attributes"])["attributes"]:
        found.update(_values(json.loads(text or "{}")))
    # Of names that begin at one place the first in the list is found: the longest.
    return sorted((name for name, _ in found.most_common(LONGEST_VALUES)), key=lambda name: (-len(name), name))


def _values(attributes: Mapping[str, Any]) -> set[str]:
    parts: list[str] = []
    for value in attributes.values():
        if value is None or isinstance(value, bool):
            continue
        parts += [str(part) for part in value] if isinstance(value, list) else [str(value)]
    return {part for part in parts if len(part) >= SHORTEST_NAME and len(part.split()) <= 2 * LONGEST_NAME}


def _grounding(parsed: pl.DataFrame, scenes: pl.DataFrame, names: list[str]) -> dict[str, Any]:
    """What thoughts name, once each, and whether the prompt has it."""
    prompts = dict(scenes.select("scene_id", "text").iter_rows())
    found = pl.col("thought").str.extract_many(names, leftmost=True).list.unique()
    named = grounded = 0
    for scene, thought, candidates in parsed.select("scene_id", "thought", found.alias("names")).iter_rows():
        here = [name for name in candidates if _whole(name, thought)]
        named += len(here)
        grounded += sum(_whole(name, prompts[scene]) for name in here)
    return _share(grounded, named)


def _whole(name: str, text: str) -> bool:
    """Whether the name stands in the text as words of its own."""
    at = text.find(name)
    while at >= 0:
        end = at + len(name)
        if not (at and text[at - 1].isalnum()) and not (end < len(text) and text[end].isalnum()):
            return True
        at = text.find(name, at + 1)
    return False


def _consistency(folder: Path, role: str, parsed: pl.DataFrame, scenes: pl.DataFrame) -> dict[str, Any] | None:
    paths = sorted((folder / "readings" / role).glob("*.parquet"))
    columns = ["scene_id", "sample_index", "choice_probs", "masked_choice_probs"]
    if not paths:
        return None
    read = pl.read_parquet(paths, columns=columns).drop_nulls(["choice_probs", "masked_choice_probs"])
    both = read.join(parsed, on=["scene_id", "sample_index"]).join(scenes, on="scene_id")
    if not both.height:
        return None
    same = both.select(pl.col("masked_choice_probs").list.arg_max() == pl.col("stated_choice")).to_series().sum()
    return {
        **_share(int(same), both.height),
        "chance": round(float(np.mean(1 / both["n_options"].to_numpy())), 4),
        "masked_entropy": _entropy(both, "masked_choice_probs"),
        "entropy": _entropy(both, "choice_probs"),
    }


def _entropy(rows: pl.DataFrame, column: str) -> float:
    """The mean over rows, each divided by its log2 K."""
    total = 0.0
    for (k,), part in rows.group_by("n_options", maintain_order=True):
        probs = part[column].list.to_array(int(str(k))).to_numpy()
        total += float(uncertainty.entropy(probs, normalise=True).sum())
    return round(total / rows.height, 4)


def _factors(forms: Iterable[Mapping[str, str]]) -> dict[str, dict[str, int]]:
    """How many decisions in form speak of what, part by part."""
    patterns = {part: {n: re.compile(p, re.IGNORECASE) for n, p in known.items()} for part, known in FACTORS.items()}
    counts = {part: dict.fromkeys([*known, "none of these"], 0) for part, known in FACTORS.items()}
    for match in forms:
        for part, known in patterns.items():
            spoken = [name for name, pattern in known.items() if pattern.search(match[part])] or ["none of these"]
            for name in spoken:
                counts[part][name] += 1
    return counts
