"""How good written decisions are by themselves: form, grounding, consistency, length, repeats.

Nothing here knows the truth. Shares come with the numbers that they are shares of.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hf_mirror import uncertainty
from hf_mirror.errors import DataError
from hf_mirror.files import read_table
from hf_mirror.prompts import ANSWER_PREFIX, PARTS
from hf_mirror.rationales.shards import ROLES, shards

SHORTEST_NAME = 4  # letters: shorter titles and values are words that stand in any text
LONGEST_NAME = 6  # words of an attribute; what is longer is a description
LONGEST_VALUES = 200_000  # titles and values that are looked for in texts

WRITTEN = ["scene_id", "sample_index", "text", "thought", "stated_choice", "choice_named_in_thought", "parse_error"]
READ = ["scene_id", "sample_index", "choice_probs", "masked_choice_probs"]

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


_PATTERNS = {part: {n: re.compile(p, re.IGNORECASE) for n, p in known.items()} for part, known in FACTORS.items()}
NONE = "none of these"


def quality(folder: Path) -> dict[str, Any]:
    """Per role, over all decisions of a domain folder that were written:

    decisions, parsed · in_form: the four parts in order · grounding: of titles and attribute values that thoughts name
    (whole words, as the domain's tables spell them), how many stand in the prompt · consistency: among decisions whose
    thought was read alone and masked (`mirror read --masked`), how often the likeliest option is the stated one, and
    what chance would give; the mean entropy of those readings beside that of the same decisions' full readings, in
    shares of log2 K · names_choice: thoughts that name their pick · words: mean and quantiles of thoughts · repeats:
    thoughts that another decision of the same scene has word for word · factors: what the parts speak of.
    """
    names = _names(folder)
    found = {role: _Tally() for role in ROLES}
    for role in ROLES:
        if not any((folder / "rationales" / role).glob("*.parquet")):
            raise DataError(
                f"{folder / 'rationales' / role} holds no rationales; run `mirror rationales --role {role}`"
            )
    for shard in shards(folder):
        scenes = pl.DataFrame(shard.table.select(["scene_id", "exposure", "prompt"])).select(
            "scene_id",
            pl.col("prompt").list.first().struct.field("content").alias("text"),
            pl.col("exposure").list.len().alias("n_options"),
        )
        for role, tally in found.items():
            written = pl.DataFrame(read_table(folder / "rationales" / role / shard.name, WRITTEN))
            tally.add(written, scenes, names)
            readings = folder / "readings" / role / shard.name
            if readings.is_file():
                tally.add_readings(pl.DataFrame(read_table(readings, READ)), written, scenes)
    return {role: tally.figures() for role, tally in found.items()}


@dataclass
class _Tally:
    """Counts over the decisions of one role, shard after shard."""

    decisions: int = 0
    parsed: int = 0
    in_form: int = 0
    named: int = 0
    grounded: int = 0
    names_choice: int = 0
    repeated: int = 0
    words: Counter[int] = field(default_factory=Counter)  # how many thoughts have that many
    factors: dict[str, Counter[str]] = field(default_factory=lambda: {part: Counter() for part in FACTORS})
    masked: int = 0
    same: int = 0
    chance: float = 0.0
    entropy: float = 0.0
    masked_entropy: float = 0.0

    def add(self, written: pl.DataFrame, scenes: pl.DataFrame, names: list[str]) -> None:
        """Counts a shard's decisions."""
        parsed = written.filter(pl.col("parse_error").is_null())
        self.decisions += written.height
        self.parsed += parsed.height
        self.names_choice += int(parsed["choice_named_in_thought"].sum())
        self.repeated += int(parsed.select(pl.len().over("scene_id", "thought") > 1).to_series().sum())
        self.words.update(len(thought.split()) for thought in parsed["thought"])
        for text in parsed["text"]:
            if form := parts_of(text):
                self._count_form(form)
        self._count_names(parsed, scenes, names)

    def _count_form(self, form: Mapping[str, str]) -> None:
        self.in_form += 1
        for part, known in _PATTERNS.items():
            spoken = [name for name, pattern in known.items() if pattern.search(form[part])]
            self.factors[part].update(spoken or [NONE])

    def _count_names(self, parsed: pl.DataFrame, scenes: pl.DataFrame, names: list[str]) -> None:
        """What thoughts name, once each, and whether the prompt has it."""
        if not names:
            return
        prompts = dict(scenes.select("scene_id", "text").iter_rows())
        for scene, here in zip(parsed["scene_id"], named_in(parsed["thought"], names), strict=True):
            self.named += len(here)
            self.grounded += sum(stands_in(name, prompts[scene]) for name in here)

    def add_readings(self, readings: pl.DataFrame, written: pl.DataFrame, scenes: pl.DataFrame) -> None:
        """Counts a shard's readings of thoughts alone, where there are any."""
        read = readings.drop_nulls(["choice_probs", "masked_choice_probs"])
        both = read.join(written, on=["scene_id", "sample_index"]).join(scenes, on="scene_id")
        self.masked += both.height
        self.same += int((both["masked_choice_probs"].list.arg_max() == both["stated_choice"]).sum())
        self.chance += float((1 / both["n_options"]).sum())
        for (k,), part in both.group_by("n_options", maintain_order=True):
            for column in ("entropy", "masked_entropy"):
                probs = part[column.replace("entropy", "choice_probs")].list.to_array(int(str(k))).to_numpy()
                total = float(uncertainty.entropy(probs, normalise=True).sum())
                setattr(self, column, getattr(self, column) + total)

    def figures(self) -> dict[str, Any]:
        """What `quality` says of one role."""
        found: dict[str, Any] = {"decisions": self.decisions, "parsed": self.parsed}
        if not self.parsed:
            return found
        lengths = np.repeat(list(self.words), list(self.words.values()))
        quantiles = np.quantile(lengths, [0.1, 0.5, 0.9])
        return found | {
            "in_form": _share(self.in_form, self.parsed),
            "grounding": _share(self.grounded, self.named),
            "consistency": self._consistency(),
            "names_choice": _share(self.names_choice, self.parsed),
            "words": {"mean": round(float(lengths.mean()), 1)}
            | {f"p{p}": float(value) for p, value in zip((10, 50, 90), quantiles, strict=True)},
            "repeats": _share(self.repeated, self.parsed),
            "factors": {part: {n: self.factors[part][n] for n in (*known, NONE)} for part, known in FACTORS.items()},
        }

    def _consistency(self) -> dict[str, Any] | None:
        if not self.masked:
            return None
        return {
            **_share(self.same, self.masked),
            "chance": round(self.chance / self.masked, 4),
            "masked_entropy": round(self.masked_entropy / self.masked, 4),
            "entropy": round(self.entropy / self.masked, 4),
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


def named_in(texts: pl.Series, names: list[str]) -> list[list[str]]:
    """Which of `names`, the longest first, stand in each text."""
    found = texts.str.extract_many(names, leftmost=True).list.unique(maintain_order=True).to_list()
    return [[name for name in each if stands_in(name, text)] for each, text in zip(found, texts, strict=True)]


def stands_in(name: str, text: str) -> bool:
    """Whether the name stands in the text as words of its own."""
    at = text.find(name)
    while at >= 0:
        end = at + len(name)
        if not (at and text[at - 1].isalnum()) and not (end < len(text) and text[end].isalnum()):
            return True
        at = text.find(name, at + 1)
    return False
