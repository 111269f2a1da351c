"""Requests and labels as tokens: what engines that hold a tokenizer share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from hf_mirror.backends import Request
from hf_mirror.errors import ConfigError, DataError

# Some chat templates write today's date into the prompt: the same request would be another one tomorrow. This day is
# what Llama's own take where there is no clock.
ONE_DAY = (
    "{%- macro strftime_now(format) -%}{{ format | replace('%d', '26') | replace('%b', 'Jul') | replace('%B', 'July')"
    " | replace('%m', '07') | replace('%Y', '2024') | replace('%y', '24') | replace('%A', 'Friday')"
    " | replace('%H', '00') | replace('%M', '00') | replace('%S', '00') }}{%- endmacro -%}"
)
CLOSING = "]"  # what follows a label after an open bracket, as in `Behavior: [A]`


def in_common(rows: Sequence[Sequence[int] | np.ndarray]) -> int:
    """How many leading tokens all rows share."""
    agree = [len(set(column)) == 1 for column in zip(*rows, strict=False)]
    return agree.index(False) if False in agree else len(agree)


def continuations(rows: Sequence[Sequence[int]]) -> tuple[int, list[tuple[int, ...]]]:
    """Where tokenisations of one context with different labels part, and what then tells the labels apart.

    `rows`: the K token lists of context + label + closing. Returns the number of leading tokens they share and K
    tails. Trailing tokens that all tails share are left out as long as no tail becomes the beginning of another:
    the tails stay disjoint events, and in the usual case (one letter, then the bracket) each is a single token.
    """
    shared = in_common(rows)
    tails = [tuple(row[shared:]) for row in rows]
    while len({tail[-1:] for tail in tails}) == 1 and _prefix_free(shorter := [tail[:-1] for tail in tails]):
        tails = shorter
    return shared, tails


def _prefix_free(tails: Sequence[tuple[int, ...]]) -> bool:
    ordered = sorted(tails)
    return all(tails) and all(b[: len(a)] != a for a, b in pairwise(ordered))


@dataclass(frozen=True)
class Question:
    """What is read for one request: after `context` comes one of the `tails`, one per label; `longest` counts the
    tokens of the longest label with its context and what closes it."""

    context: list[int]
    tails: list[tuple[int, ...]]
    longest: int

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> Question:
        """From the K token lists of context + label + closing."""
        shared, tails = continuations(rows)
        return cls(list(rows[0][:shared]), tails, max(map(len, rows)))

    @property
    def one_token_each(self) -> bool:
        """Whether one forward pass over the context tells all labels apart."""
        return all(len(tail) == 1 for tail in self.tails)


def check_labels(request: Request, labels: Sequence[str]) -> None:
    """Labels are one or more, all different; else a ConfigError."""
    if len(set(labels)) != len(labels) or not labels:
        raise ConfigError(f"request {request.id} has labels {list(labels)}; expected one or more, all different")


def closing(request: Request) -> str:
    """What closes a label of this request."""
    return CLOSING if request.prefix.endswith("[") else ""


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities of log-scores, float64, shape [K]."""
    check_numbers(scores)
    exponentials = np.exp(scores - scores.max())
    return exponentials / exponentials.sum()


def check_numbers(logprobs: np.ndarray | float) -> None:
    """DataError for what a broken model, or one in too low a precision, gives instead of numbers."""
    if not np.isfinite(np.max(logprobs)):
        raise DataError("the model gives log-probabilities that are no numbers (NaN); load weights of full precision")


class Chat:
    """A model's tokenizer and its chat template.

    A model without one is refused (ConfigError): a format made up here would be one that the model was not trained
    on, and would give other numbers than its own without a word.
    """

    def __init__(self, folder: str | Path, model: str) -> None:
        from transformers import AutoTokenizer

        self._model = model
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{model} has no tokenizer that loads: {str(error).strip().splitlines()[0]}") from None
        if not self.tokenizer.chat_template:
            raise ConfigError(f"{model} has no chat template; choose an instruction-tuned or a trained mirror model")
        if "strftime_now" in str(self.tokenizer.chat_template):
            self.tokenizer.chat_template = ONE_DAY + str(self.tokenizer.get_chat_template())

    def render(self, request: Request) -> str:
        """The request as text, up to the beginning of the answer."""
        from jinja2 import TemplateError

        try:
            chat: str = self.tokenizer.apply_chat_template(request.messages, tokenize=False, add_generation_prompt=True)
        except (TemplateError, TypeError, ValueError) as error:
            raise DataError(
                f"the chat template of {self._model} refuses a prompt: {' '.join(str(error).split())}"
            ) from None
        return chat + request.prefix

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Token ids. The template has written the special tokens already."""
        if not texts:
            return []
        return self.tokenizer(texts, add_special_tokens=False)["input_ids"]

    def decode(self, tokens: Sequence[int]) -> str:
        """Text, without special tokens."""
        return self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def question(self, request: Request, labels: Sequence[str]) -> Question:
        """Context + label + `]` tokenised as a whole for every label: the tokens that really follow."""
        check_labels(request, labels)
        context = self.render(request)
        return Question.of(self.encode([context + label + closing(request) for label in labels]))

    def answer(self, request: Request) -> tuple[list[int], int]:
        """The tokens of messages + prefix, and how many of them come before what is scored. Without messages, that is
        the token that begins a text; where the model has none, the prefix's own first token."""
        if not request.messages:
            begin = self.tokenizer.bos_token_id
            return [*([] if begin is None else [begin]), *self.encode([request.prefix])[0]], 1
        context, whole = self.encode([self.render(replace(request, prefix="")), self.render(request)])
        return whole, in_common([context, whole])
