"""The rows that stages hand to each other, as `datasets.Features`: the Hub schema is the API.

Ids are strings, times are UTC milliseconds, indices are int32 and open maps are `Json`, so that rows of different
domains concatenate into `mixed`. Nothing is joined by row position: `scene_id` (with `role` and `sample_index`, or
`variant_id`) is the key everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from datasets import Features, Json, List, Value

if TYPE_CHECKING:
    import polars as pl

TIME = Value("timestamp[ms, tz=UTC]")
TEXT = Value("string")
INDEX = Value("int32")
SCORE = Value("float32")


def messages() -> List:
    """A chat in the form trainers expect: a list of `{role, content}`."""
    return List({"role": TEXT, "content": TEXT})


USERS = Features({"user_id": TEXT, "profile": Json()})
ITEMS = Features({"item_id": TEXT, "attributes": Json(), "available_from": TIME})
EVENTS = Features(
    {
        "user_id": TEXT,
        "item_id": TEXT,
        "timestamp": TIME,
        "signal": Json(),
        "positive": Value("bool"),
        "impression_id": TEXT,
        "impression": List(TEXT),
    }
)


@dataclass(frozen=True)
class Tables:
    """What a builder returns: three Polars frames with the columns of USERS, ITEMS and EVENTS, open maps as JSON text.

    `dropped` counts the raw rows that did not become events, by reason; `read` is the number of raw event rows, so
    that `read == events.height + sum(dropped.values())`.
    """

    users: pl.DataFrame
    items: pl.DataFrame
    events: pl.DataFrame
    read: int
    dropped: dict[str, int]


SCENE = Features(
    {
        "scene_id": TEXT,
        "domain": TEXT,
        "split": TEXT,
        "regime": TEXT,
        "user_id": TEXT,
        "timestamp": TIME,
        "gap_seconds": Value("int64"),
        "session_id": TEXT,
        "impression_id": TEXT,
        "n_clicked": INDEX,
        "truncated": Value("bool"),
        "history": List({"item_id": TEXT, "timestamp": TIME, "signal": Json(), "positive": Value("bool")}),
        "exposure": List({"item_id": TEXT, "source": TEXT, "asof_count": INDEX}),
        "choice_index": INDEX,
        "prompt": messages(),
        "prompt_sha256": TEXT,
    }
)

RATIONALE = Features(
    {
        "scene_id": TEXT,
        "domain": TEXT,
        "split": TEXT,
        "role": TEXT,
        "model": TEXT,
        "model_revision": TEXT,
        "sample_index": INDEX,
        "text": TEXT,
        "thought": TEXT,
        "stated_choice": INDEX,
        "choice_named_in_thought": Value("bool"),
        "finish_reason": TEXT,
        "parse_error": TEXT,
    }
)

READING = Features(
    {
        "scene_id": TEXT,
        "role": TEXT,
        "sample_index": INDEX,
        "reader": TEXT,
        "reader_revision": TEXT,
        "choice_probs": List(SCORE),
    }
)

# A rationale as the Hub holds it: what was written, and how the one fixed reader read it.
READ_RATIONALE = Features({**RATIONALE, **READING})

SCORES = (
    "teacher_total_entropy",
    "teacher_within_decision_entropy",
    "teacher_between_decision_information",
    "student_total_entropy",
    "student_within_decision_entropy",
    "student_between_decision_information",
    "uncertainty_gap",
    "teacher_hit_rate",
    "student_hit_rate",
    "chosen_entropy",
    "rejected_entropy",
)

PAIR = Features(
    {
        "scene_id": TEXT,
        "domain": TEXT,
        "split": TEXT,
        "n_options": INDEX,
        "prompt": messages(),
        "completion": messages(),
        "chosen": messages(),
        "rejected": messages(),
        "chosen_role": TEXT,
        "rejected_role": TEXT,
        "rule": TEXT,
        "scores": dict.fromkeys(SCORES, SCORE),
    }
)

BENCH = Features(
    {
        "scene_id": TEXT,
        "variant_id": TEXT,
        "domain": TEXT,
        "regime": TEXT,
        "user_cluster": TEXT,
        "variant": {"history": TEXT, "donor": TEXT, "profile": TEXT, "text": TEXT, "order": TEXT},
        "options": List({"item_key": TEXT, "asof_count": INDEX, "source": TEXT}),
        "groups": Json(),
        "gap_seconds": Value("int64"),
        "n_clicked": INDEX,
        "prompt": messages(),
        "choices": List(TEXT),
        "gold_index": INDEX,
    }
)
