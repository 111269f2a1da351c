"""What a results file may say. Strangers write them: only what is known passes, in its form, range and size.

A field that is there and wrong is a DataError, because a number that cannot be right says that the file is not what it
seems, and so is one that is missing and needed. What is unknown, and what is null, is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hf_mirror.errors import DataError

Result = dict[str, Any]
Check = Callable[[Any], Any]

RESULT_BYTES = 4 * 2**20
CHARACTERS = 200_000  # of what is known in a file: a board holds many
MOST = 200  # entries of any list or map

# Neither control characters nor what changes the direction of reading nor halves of a character.
LINE = r"[^\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]{1,300}"
NAME = r"(?!\.)[A-Za-z0-9._-]{1,96}"  # becomes a part of file names
REVISION = r"[0-9a-f]{40}|sha256:[0-9a-f]{64}"
FAILURE = r"[a-z_]{1,40}"
K = "[1-9][0-9]?"  # options of a scene


def read(data: bytes) -> Result:
    """The known fields of a results file, of a model or a baseline. DataError, in one line, says what is wrong."""
    if len(data) > RESULT_BYTES:
        raise DataError(f"{len(data):,} bytes, more than {RESULT_BYTES:,}")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):  # bytes that are no UTF-8 are a ValueError as well
        raise DataError("not JSON, or cut in half") from None
    if not isinstance(found, dict):
        raise DataError("not a JSON object")
    result: Result = _shaped(found, RESULT, "")
    if "baseline" not in result and (missing := [name for name in OF_MODELS if name not in result]):
        raise DataError(f"lacks {', '.join(missing)}, which only a baseline's results may")
    if result["n_clusters"] > result["n_scenes"]:
        raise DataError(f"{result['n_scenes']} scenes of {result['n_clusters']} users cannot be")
    for name, metrics in (("scores", result["scores"]), *result["baselines"].items()):
        if not 0 <= metrics["accuracy"]["value"] <= 1:
            raise DataError(f"{name}.accuracy is {metrics['accuracy']['value']:g}, not a share")
        if metrics["log_loss"]["value"] < 0:
            raise DataError(f"{name}.log_loss is {metrics['log_loss']['value']:g}, below 0")
    if (size := len(json.dumps(result))) > CHARACTERS:
        raise DataError(f"{size:,} characters, more than {CHARACTERS:,}")
    return result


def text(pattern: str = LINE) -> Check:
    """A text of a form."""

    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError("not a text")
        if not re.fullmatch(pattern, value):
            raise ValueError(repr(value)[:60])
        return value

    return check


def number(value: Any) -> float:
    """A finite number of a size that can be shown."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e15:
        raise ValueError("not a finite number")
    return value


def count(value: Any) -> int:
    """A whole number, 0 or more."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 10**15:
        raise ValueError("not a count")
    return value


def some(value: Any) -> int:
    """A whole number, 1 or more."""
    if count(value) == 0:
        raise ValueError("0")
    return count(value)


def share(value: Any) -> float:
    """A number from 0 to 1."""
    if not -1e-9 <= number(value) <= 1 + 1e-9:
        raise ValueError(f"{value:g}, not a share")
    return value


def flag(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError("neither true nor false")
    return value


def score(value: Any) -> dict[str, float | None]:
    """`{value, low, high}`, in this order; both bounds are null where there is one user."""
    if not isinstance(value, dict) or value.keys() != {"value", "low", "high"}:
        raise ValueError("not {value, low, high}")
    middle, low, high = number(value["value"]), value["low"], value["high"]
    if not (low is None and high is None) and not number(low) <= number(high):
        raise ValueError("an interval whose ends are the wrong way round")
    return {"value": middle, "low": low, "high": high}


@dataclass(frozen=True)
class Needed:
    """A field of an object that must be there."""

    shape: Any


@dataclass(frozen=True)
class Each:
    """An object with any names of a form, all values of one shape. Some names may be needed."""

    shape: Any
    name: str = LINE
    needed: tuple[str, ...] = ()


def _shaped(value: Any, shape: Any, where: str) -> Any:
    """`value` with only what `shape` has: a dict of fields, a list of one shape, or a check of one value."""
    if isinstance(shape, Needed):
        return _shaped(value, shape.shape, where)
    if isinstance(shape, dict | Each):
        if not isinstance(value, dict):
            raise DataError(f"{where} is not an object")
        fields = shape if isinstance(shape, dict) else _fields(value, shape, where)
        present = {name: inner for name, inner in value.items() if name in fields and inner is not None}
        if missing := [name for name, of in fields.items() if isinstance(of, Needed) and name not in present]:
            raise DataError(f"{where} lacks {', '.join(missing)}".lstrip())
        return {name: _shaped(inner, fields[name], f"{where}.{name}".lstrip(".")) for name, inner in present.items()}
    if isinstance(shape, list):
        if not isinstance(value, list) or len(value) > MOST:
            raise DataError(f"{where} is not a list of at most {MOST}")
        return [_shaped(inner, shape[0], where) for inner in value]
    try:
        return shape(value)
    except ValueError as problem:
        raise DataError(f"{where} is {problem}") from None


def _fields(value: dict[str, Any], shape: Each, where: str) -> dict[str, Any]:
    """The shapes of an object whose names are its own."""
    if len(value) > MOST:
        raise DataError(f"{where} has {len(value):,} names, more than {MOST}")
    if odd := [name for name in value if not re.fullmatch(shape.name, name)]:
        raise DataError(f"{where} has the name {odd[0][:60]!r}")
    return dict.fromkeys(value, shape.shape) | dict.fromkeys(shape.needed, Needed(shape.shape))


METRICS = Each(score, name=r"[a-z0-9_]{1,60}", needed=("accuracy", "log_loss"))
PART = {"n_scenes": Needed(some), "accuracy": Needed(score), "log_loss": Needed(score)}
OF_MODELS = ("model_revision", "backend", "failures", "predictions_sha256")
RESULT: dict[str, Any] = {
    "model": Needed(text()),
    "model_revision": text(),
    "model_parameters": count,
    "baseline": {"name": Needed(text()), "history": text(), "columns": [text()]},
    "bench": Needed(text()),
    "bench_revision": Needed(text(REVISION)),
    "subset": Needed(text(NAME)),
    "domain": Needed(text(NAME)),
    "regime": Needed(text(r"[a-z_]{1,40}(, [a-z_]{1,40}){0,9}")),
    "mode": Needed(text("direct|rationale")),
    "backend": text(NAME),
    "seed": Needed(count),
    "dtype": text("float32|bfloat16|float16"),
    "versions": Each(text()),
    "hardware": {"device": text(), "cores": count},
    "code_version": Needed(text(r"[A-Za-z0-9_.+-]{1,40}")),
    "seconds": number,
    "predictions_sha256": text("[0-9a-f]{64}"),
    "failures": Each(some, name=FAILURE),
    "n_scenes": Needed(some),
    "n_clusters": Needed(some),
    "coverage": Needed(share),
    "underpowered": Needed(flag),
    "design_effect": number,
    "minimum_detectable_difference": number,
    "scores": Needed(METRICS),
    "baselines": Needed(Each(METRICS, name=METRICS.name, needed=("chance",))),
    "position": {
        "choice_share": Each([share], name=K),
        "truth_share": Each([share], name=K),
        "slot_accuracy": share,
        "flip_rate": share,
        "ckld": Each(number, name=K),
    },
    "calibration": Each(
        {
            "ece_top_label": number,
            "ece_class_wise": number,
            "bins": Needed([{"confidence": Needed(share), "accuracy": Needed(share), "scenes": Needed(some)}]),
        },
        name=K,
    ),
    "brier_decomposition": Each(
        {"reliability": Needed(number), "resolution": Needed(number), "uncertainty": Needed(number)}, name=K
    ),
    "popularity_lift": score,
    "divergence": Each({"jsd": number, "ks": number}),
    "groups": Each(Each(PART | {"n_clusters": Needed(some)})),
    "worst_group": Each({"group": Needed(text()), "accuracy": Needed(number), "gap": Needed(number)}),
    "twins": Each(PART | {"p_value": Needed(share)}),
    "rationale": {
        "decisions": count,
        "valid": share,
        "in_form": share,
        "cut_off": share,
        "grounded": share,
        "stated_accuracy": share,
        "consistent": share,
    },
}
