"""Takes a publisher's data out of a thought, or withholds the thought.

The strict rule, for text written about a closed source: what stays is only the writer's own words. Masked are
1. names of the scene's items (title, also without its year, with its article in front, and its parts around a colon
   or dash), longest first, as `{{item:3}}` (the index in the exposure) or `{{history:2}}`;
2. option letters (`[C]`, `option C`), as the same `{{item:2}}`;
3. other attribute values of those items (`{{attribute}}`), the user's profile (`{{profile}}`) and ids (`{{id}}`);
4. every word with a digit in it, number words, month and weekday names (`{{number}}`, `{{time}}`), because years,
   ratings, counts and dates are the publisher's.
The line that states the answer is removed. After step 3 the text is searched again, without regard to case and
punctuation. If a name of the scene's items, two words of one in a row, a capitalised word of one, any other name of the
catalogue, or five words in a row of an attribute is left, the thought is withheld. Characters without a shape of their
own are taken out first, and names in scripts without spaces are looked for inside words.

What a mask cannot remove is paraphrase ("the film about the sinking ship", "at my age"): cards state this as a limit.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

from hf_mirror.prompts import LABELS, PARTS

NAME_KEYS = ("title", "name")
SHORTEST_NAME = 4  # a shorter name is as likely a plain word: never masked, and its presence withholds the thought
QUOTED_WORDS = 5

_ANSWER = re.compile(r"(?im)^\W*behaviou?r\b.*$|behaviou?r\s*:\s*\[[^\]\n]*\]")
_OPTION = re.compile(r"\[\s*([A-Za-z])\s*\]|\b[Oo]ption\s+([A-Z])\b")
_DIGITS = re.compile(r"[$€£#]?[\w'’-]*\d[\w'’-]*(?:[.,:/-]\w*\d\w*)*[%+]?")
_NUMBER_WORDS = re.compile(
    r"(?i)\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|dozen|hundreds?|thousands?|millions?"
    r"|(?:eigh|nine|seven|six|fif|four|thir)teen|(?:twen|thir|for|fif|six|seven|eigh|nine)ty(?:-\w+)?"
    r"|(?:twen|thir|for|fif|six|seven|eigh|nine)ties|half|one(?=[\s-]+(?:stars?|points?|out)\b))\b"
    r"|\b(?-i:II|III|IV|VI{0,3}|IX|XI{0,2})\b|[〇一二三四五六七八九十百千万两★☆⭐]+"
)
_TIMES = re.compile(
    r"(?i)\b(?:January|February|March|April|(?-i:May)|June|July|August|September|October|November|December"
    r"|(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)days?|(?-i:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\b\.?)(?!\w)"
)
_PLACEHOLDER = re.compile(r"\{\{[a-z]+(?::\d+)?\}\}")
_CAPITAL = re.compile(r"(?<![\w'’])[A-Z][\w'’]+")
_INNER_CAPITAL = re.compile(r"(?<=[a-z,;] )[\"'“‘*_]*([A-Z][\w'’]+)")
_PART = re.compile(rf"(?m)^\W*(?:{'|'.join(PARTS)})\b")
# Letters of scripts that put no spaces between words: Thai, Lao, Burmese, Khmer, kana, Han.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")
_WORD = re.compile(r"[^\W_]+")
_STOPWORDS = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be but by for from go he her his i in is it its me my no not of on one or our part she so"
        " that the their them they this to up us vs was we what when who will with you your",
    )
)


def aliases(name: str) -> list[str]:
    """How people spell an item's name, longest first: `Stone, The: A Tale (1999)` is also `The Stone: A Tale`,
    `Stone, The: A Tale`, `The Stone`, `A Tale`, `Stone`, …"""
    base = re.sub(r"\s*\(\d{4}[^)]*\)\s*$", "", name).strip()
    forms = {name.strip(), base, re.sub(r"\s*\([^)]*\)", "", base).strip()}
    forms |= {match.strip() for match in re.findall(r"\(([^)]*[A-Za-z][^)]*)\)", base)}
    parts = {part for form in forms for part in re.split(r":\s+|\s+[-–—/]\s+", form) if len(part) >= SHORTEST_NAME}
    forms |= parts | {
        re.sub(r"^(.*?),\s+(The|A|An|L[aeo]s?|Les|El|Il|Die|Der|Das)\b", r"\2 \1", f) for f in forms | parts
    }
    forms |= {re.sub(r"^(?:The|A|An)\s+|,\s+(?:The|A|An)$", "", form) for form in forms}
    return sorted((form for form in forms if normal(form)), key=lambda form: (-len(form), form))


def normal(text: str) -> str:
    """Lower case, no accents, no punctuation, one space around every word: what two spellings have in common."""
    plain = unicodedata.normalize("NFKD", text.casefold()).replace("'", "").replace("’", "")
    if not plain.isascii():
        plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return f" {' '.join(_WORD.findall(plain))} "


class Masker:
    """Masks thoughts about the scenes of one domain.

    `items` maps item ids to their attributes; an attribute called `title` or `name` names the item. `profiles` maps
    user ids to their profiles.
    """

    def __init__(self, items: Mapping[str, Mapping[str, Any]], profiles: Mapping[str, Mapping[str, Any]]):
        self._items, self._profiles = items, profiles
        self._names = {
            id: [a for name in _names(attributes) for a in aliases(name)] for id, attributes in items.items()
        }
        catalogue = {normal(alias).strip() for names in self._names.values() for alias in names}
        self._phrases: dict[tuple[str, str], list[list[str]]] = {}  # by their first two words
        for phrase in map(str.split, catalogue):
            if len(phrase) > 1 and set(phrase) - _STOPWORDS:
                self._phrases.setdefault((phrase[0], phrase[1]), []).append(phrase)
        self._unspaced = [name for name in catalogue if len(_UNSPACED.findall(name)) > 1]
        self._words = {name for name in catalogue if " " not in name and len(name) >= SHORTEST_NAME}

    def mask(self, thought: str, scene: Mapping[str, Any]) -> str | None:
        """One thought; for several of a scene, prepare `scene` once."""
        return self.scene(scene).mask(thought)

    def scene(self, scene: Mapping[str, Any]) -> SceneMask:
        """What to mask in thoughts about `scene`, which has `user_id`, `history` and `exposure` with `item_id`."""
        options = [option["item_id"] for option in scene["exposure"]]
        past = [entry["item_id"] for entry in scene["history"]]
        ids = sorted({*options, *past})
        names: dict[str, str] = {}
        for kind, shown in (("item", options), ("history", past)):
            for index, id in enumerate(shown):
                for name in self._names.get(id, []):
                    if len(name) >= SHORTEST_NAME:
                        names.setdefault(name, f"{{{{{kind}:{index}}}}}")
        flat = {normal(alias) for id in ids for alias in self._names.get(id, [])}
        pairs = {f" {pair} " for name in flat for pair in _grams(name.split(), 2) if _telling(pair)}
        texts = [normal(text) for id in ids for text in _strings(self._items.get(id, {}))]
        quotes = {f" {quote} " for text in texts for quote in _grams(text.split(), QUOTED_WORDS)}
        words = {word for name in flat for word in name.split() if len(word) >= SHORTEST_NAME} - _STOPWORDS
        return SceneMask(
            len(options),
            _Marks(names),
            _Marks(self._values(scene["user_id"], ids), re.IGNORECASE),
            flat | pairs | quotes,
            words,
            words | self._words,
            self._unspaced,
            self._in_catalogue,
        )

    def _in_catalogue(self, words: list[str]) -> bool:
        """Whether any name of several words stands in a text."""
        return any(
            words[at : at + len(phrase)] == phrase
            for at, pair in enumerate(pairwise(words))
            for phrase in self._phrases.get(pair, ())
        )

    def _values(self, user: str, ids: list[str]) -> dict[str, str]:
        marks = dict.fromkeys((*ids, user), "{{id}}")
        for value in _strings(self._profiles.get(user, {})):
            marks.setdefault(value, "{{profile}}")
        for id in ids:
            for value in _strings({k: v for k, v in self._items.get(id, {}).items() if k not in NAME_KEYS}):
                marks.setdefault(value, "{{attribute}}")
        return {value.casefold(): mark for value, mark in marks.items() if len(value) > 2}


@dataclass(frozen=True)
class SceneMask:
    """The masks of one scene. What may not be left: `tells` are spellings; `words` capitalised words anywhere, and
    `capitals` inside a sentence; `unspaced` names may stand inside a word."""

    n_options: int
    names: _Marks
    values: _Marks
    tells: set[str]
    words: set[str]
    capitals: set[str]
    unspaced: list[str]
    in_catalogue: Callable[[list[str]], bool]

    def mask(self, thought: str) -> str | None:
        """`thought` without the publisher's data (module docstring), or None if something may be left in it."""
        if not thought.isascii():
            thought = "".join(letter for letter in thought if unicodedata.category(letter) != "Cf")
        text = _ANSWER.sub("", _PLACEHOLDER.sub("", thought)).strip()
        for change in (self.names, self._letters, self.values):
            text = _outside(text, change)
        if self._leaks(_PLACEHOLDER.sub(" | ", text)):  # before numbers go, because names hold numbers too
            return None
        text = _outside(text, _number_signs)
        for pattern, mark in ((_DIGITS, "{{number}}"), (_NUMBER_WORDS, "{{number}}"), (_TIMES, "{{time}}")):
            text = _outside(text, partial(pattern.sub, mark))
        return text

    def _letters(self, text: str) -> str:
        return _OPTION.sub(lambda match: _letter(match, self.n_options), text)

    def _leaks(self, text: str) -> bool:
        flat = normal(text)
        inner = {normal(word).strip() for word in _INNER_CAPITAL.findall(text)}
        anywhere = {normal(word).strip() for word in _CAPITAL.findall(_PART.sub("", text))}
        return (
            bool(inner & self.capitals)
            or bool(anywhere & self.words)
            or any(tell in flat for tell in self.tells)
            or any(name in flat for name in self.unspaced)
            or self.in_catalogue(flat.split())
        )


class _Marks:
    """Replaces whole words and phrases, the longest first."""

    def __init__(self, marks: Mapping[str, str], flags: int = 0):
        self._marks, self._fold = marks, str.casefold if flags & re.IGNORECASE else str
        found = "|".join(re.escape(name) for name in sorted(marks, key=lambda name: (-len(name), name)))
        self._pattern = re.compile(rf"(?<!\w)(?:{found})(?!\w)", flags) if marks else None

    def __call__(self, text: str) -> str:
        if self._pattern is None:
            return text
        # Case folding is not one to one (ß, İ): a match that folds to another spelling is still somebody's value.
        return self._pattern.sub(lambda match: self._marks.get(self._fold(match[0]), "{{attribute}}"), text)


def _number_signs(text: str) -> str:
    """Circled, superscript and other signs that are numbers, but no digits."""
    if text.isascii():
        return text
    return "".join("{{number}}" if unicodedata.category(letter) in ("No", "Nl") else letter for letter in text)


def _names(attributes: Mapping[str, Any]) -> list[str]:
    return [attributes[key] for key in NAME_KEYS if isinstance(attributes.get(key), str)]


def _strings(value: Any) -> Iterator[str]:
    """Every text in an open map, whole and cut at the separators that publishers use in lists."""
    if isinstance(value, str):
        yield value
        yield from (part.strip() for part in re.split(r"[|,;/]", value) if part.strip() not in ("", value))
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, Iterable):
        for inner in value:
            yield from _strings(inner)


def _outside(text: str, change: Callable[[str], str]) -> str:
    """Applies `change` between the placeholders, so that a mask is never masked again."""
    parts = re.split(f"({_PLACEHOLDER.pattern})", text)
    return "".join(part if index % 2 else change(part) for index, part in enumerate(parts))


def _letter(match: re.Match[str], n_options: int) -> str:
    index = LABELS.index((match[1] or match[2]).upper())
    return f"{{{{item:{index}}}}}" if index < n_options else match[0]


def _grams(words: list[str], size: int) -> Iterator[str]:
    for start in range(len(words) - size + 1):
        yield " ".join(words[start : start + size])


def _telling(pair: str) -> bool:
    return all(len(word) > 2 and word not in _STOPWORDS for word in pair.split())
