"""The rows that stages hand to each other: the Hub schema is the API.

Ids are strings, times are UTC milliseconds, indices are int32 and open maps are `Json`, so that rows of different
domains concatenate into `mixed`. Nothing is joined by row position: `scene_id` (with `role` and `sample_index`, or
`variant_id`) is the key everywhere.

Each is an Arrow schema that carries the metadata by which `datasets` knows its features, so that Parquet written here
loads there as it is. They are spelled in Arrow because importing `datasets` takes longer than building most domains;
`Features.from_arrow_schema(SCENE)` gives the features.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    import polars as pl

TIME = pa.timestamp("ms", "UTC")
TEXT = pa.string()
FLAG = pa.bool_()
INDEX = pa.int32()
SECONDS = pa.int64()
SCORE = pa.float32()
MAP = pa.json_()


def rows_of(columns: dict[str, Any]) -> pa.Schema:
    """Columns as a schema. A type is an Arrow type, a dict (struct) or a list of one type (list)."""
    schema = pa.schema([(name, _arrow(kind)) for name, kind in columns.items()])
    features = {name: _feature(kind) for name, kind in columns.items()}
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def _arrow(kind: Any) -> pa.DataType:
    if isinstance(kind, dict):
        return pa.struct([(name, _arrow(inner)) for name, inner in kind.items()])
    return pa.list_(_arrow(kind[0])) if isinstance(kind, list) else kind


def _feature(kind: Any) -> dict[str, Any]:
    """The type as `datasets` spells it (https://huggingface.co/docs/datasets/about_dataset_features)."""
    if isinstance(kind, dict):
        return {name: _feature(inner) for name, inner in kind.items()}
    if isinstance(kind, list):
        return {"feature": _feature(kind[0]), "_type": "List"}
    if kind == MAP:
        return {"_type": "Json"}
    return {"dtype": {"float": "float32", "double": "float64"}.get(str(kind), str(kind)), "_type": "Value"}


# A chat in the form trainers expect.
MESSAGES = [{"role": TEXT, "content": TEXT}]

# `history`: what the publisher says the user did before the log began, oldest first, without times.
USERS = rows_of({"user_id": TEXT, "profile": MAP, "history": [TEXT]})
ITEMS = rows_of({"item_id": TEXT, "attributes": MAP, "available_from": TIME})
EVENTS = rows_of(
    {
        "user_id": TEXT,
        "item_id": TEXT,
        "timestamp": TIME,
        "signal": MAP,
        "positive": FLAG,
        "impression_id": TEXT,
        "impression": [TEXT],
    }
)


@dataclass(frozen=True)
class Tables:
    """What a builder returns: Polars frames with the columns of USERS, ITEMS and EVENTS; open maps as structs or as
    JSON text, ids as text or integers. `history`, `impression_id` and `impression` are left out where there are none.

    `read` is the number of raw event rows and `dropped` counts those that did not become events, by reason:
    `read == events.height + sum(dropped.values())`. `remarks` has a column `row` and fields of the signal that are too
    large to hold for every event (texts, say): they are read only for the events that scenes show, whose `row` the
    events then name. `warnings` are for the person who builds, a line each.
    """

    users: pl.DataFrame
    items: pl.DataFrame
    events: pl.DataFrame
    read: int
    dropped: dict[str, int]
    remarks: pl.LazyFrame | None = None
    warnings: tuple[str, ...] = ()


SCENE = rows_of(
    {
        "scene_id": TEXT,
        "domain": TEXT,
        "split": TEXT,
        "regime": TEXT,
        "user_id": TEXT,
        "timestamp": TIME,
        "gap_seconds": SECONDS,
        "session_id": TEXT,
        "impression_id": TEXT,
        "n_clicked": INDEX,
        "truncated": FLAG,
        "history": [{"item_id": TEXT, "timestamp": TIME, "signal": MAP, "positive": FLAG}],
        "exposure": [{"item_id": TEXT, "source": TEXT, "asof_count": INDEX, "repeated": FLAG}],
        "choice_index": INDEX,
        "prompt": MESSAGES,
        "prompt_sha256": TEXT,
    }
)

_WRITTEN = {
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
    "choice_named_in_thought": FLAG,
    "finish_reason": TEXT,
    "parse_error": TEXT,
}

_READ = {
    "scene_id": TEXT,
    "role": TEXT,
    "sample_index": INDEX,
    "reader": TEXT,
    "reader_revision": TEXT,
    "choice_probs": [SCORE],
}

RATIONALE = rows_of(_WRITTEN)
# `ifd` and `masked_choice_probs` only where they were asked for. Of role `direct`: a reading without any thought.
READING = rows_of({**_READ, "ifd": SCORE, "masked_choice_probs": [SCORE]})
# A rationale as the Hub holds it: what was written, and how the one fixed reader read it.
READ_RATIONALE = rows_of({**_WRITTEN, **_READ})

SCORES = (
    "teacher_total_entropy",
    "teacher_within_decision_entropy",
    "teacher_between_decision_information",
    "student_total_entropy",
    "student_within_decision_entropy",
    "student_between_decision_information",
    "uncertainty_gap",
    "direct_entropy",
    "teacher_hit_rate",
    "student_hit_rate",
    "chosen_entropy",
    "rejected_entropy",
    "chosen_ifd",
)

PAIR = rows_of(
    {
        "scene_id": TEXT,
        "domain": TEXT,
        "split": TEXT,
        "n_options": INDEX,
        "prompt": MESSAGES,
        "completion": MESSAGES,
        "chosen": MESSAGES,
        "rejected": MESSAGES,
        "chosen_role": TEXT,
        "rejected_role": TEXT,
        "rule": TEXT,
        "scores": dict.fromkeys(SCORES, SCORE),
    }
)

# What the rules cannot use, kept for SFT: the scene, and the answer line of its truth.
RESCUED = rows_of(
    {"scene_id": TEXT, "domain": TEXT, "split": TEXT, "n_options": INDEX, "prompt": MESSAGES, "completion": MESSAGES}
)

PREDICTION = rows_of({"scene_id": TEXT, "variant_id": TEXT, "choice_probs": [pa.float64()], "failure": TEXT})

# What a model wrote in `rationale` mode, and what it read after each thought.
DECISION = rows_of(
    {
        "scene_id": TEXT,
        "variant_id": TEXT,
        "sample_index": INDEX,
        "text": TEXT,
        "stated_choice": INDEX,
        "parse_error": TEXT,
        "finish_reason": TEXT,
        "choice_probs": [pa.float64()],
    }
)

BENCH = rows_of(
    {
        "scene_id": TEXT,
        "variant_id": TEXT,
        "domain": TEXT,
        "regime": TEXT,
        "user_cluster": TEXT,
        "variant": {"history": TEXT, "donor": TEXT, "profile": TEXT, "text": TEXT, "order": TEXT},
        "options": [
            {"item_key": TEXT, "asof_count": INDEX, "source": TEXT, "category": TEXT, "asof_percentile": SCORE}
        ],
        "groups": MAP,
        "gap_seconds": SECONDS,
        "n_clicked": INDEX,
        "prompt": MESSAGES,
        "choices": [TEXT],
        "gold_index": INDEX,
    }
)
