"""What a results file may say. Strangers write them: only what is known passes, in its type, range and size.

A field that is missing is left out, since results of older versions lack some; one that is there and wrong is a
DataError, because a number that cannot be right says that the file is not what it seems.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from hf_mirror.errors import DataError
from hf_mirror.results import RESULT_BYTES

Check = Callable[[Any], Any]
Result = dict[str, Any]

LARGEST = RESULT_BYTES
SHOWN = 200_000  # characters of what a board shows of one result
MOST = 200  # entries of any list or map
LONGEST = 300  # characters of any text
REQUIRED = ("model", "domain", "regime", "mode", "bench_revision", "n_scenes", "n_clusters", "coverage", "scores",
            "baselines", "underpowered")  # fmt: skip
MODES = ("direct", "rationale")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def check(data: bytes) -> Result:
    """The fields of a results file that a board shows. DataError, in one line, says what is wrong with it."""
    if len(data) > LARGEST:
        raise DataError(f"{len(data):,} bytes, more than {LARGEST:,}")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):  # bytes that are no UTF-8 are a ValueError as well
        raise DataError("not JSON, or cut in half") from None
    if not isinstance(found, dict):
        raise DataError("not a JSON object")
    missing = [name for name in REQUIRED if found.get(name) is None]
    if missing:
        raise DataError(f"lacks {', '.join(missing)}")
    result: Result = _shaped(found, RESULT, "")
    if result["mode"] not in MODES:
        raise DataError(f"mode is {result['mode']!r}, expected one of {', '.join(MODES)}")
    if not 1 <= result["n_clusters"] <= result["n_scenes"]:
        raise DataError(f"{result['n_scenes']} scenes of {result['n_clusters']} users cannot be")
    for name, metrics in (("scores", result["scores"]), *result["baselines"].items()):
        _complete(metrics, name)
    if "chance" not in result["baselines"]:
        raise DataError("baselines lack chance")
    if (size := len(json.dumps(result))) > SHOWN:
        raise DataError(f"{size:,} characters to show, more than {SHOWN:,}")
    return {"subset": result["domain"]} | result


def _complete(metrics: Mapping[str, Any], name: str) -> None:
    for metric in ("accuracy", "log_loss"):
        if metric not in metrics:
            raise DataError(f"{name} lack {metric}")
    if not 0 <= metrics["accuracy"]["value"] <= 1:
        raise DataError(f"{name}.accuracy is {metrics['accuracy']['value']:g}, not a share")
    if metrics["log_loss"]["value"] < 0:
        raise DataError(f"{name}.log_loss is {metrics['log_loss']['value']:g}, below 0")


def _shaped(value: Any, shape: Any, where: str) -> Any:
    """`value` with only what `shape` has: a dict of fields, a list of one shape, or a check of one value."""
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            raise DataError(f"{where} is not an object")
        present = {name: value[name] for name in shape if value.get(name) is not None}
        return {name: _shaped(inner, shape[name], f"{where}.{name}".lstrip(".")) for name, inner in present.items()}
    if isinstance(shape, list):
        if not isinstance(value, list) or len(value) > MOST:
            raise DataError(f"{where} is not a list of at most {MOST}")
        return [_shaped(inner, shape[0], where) for inner in value]
    try:
        return shape(value) if not isinstance(shape, _Each) else shape.of(value, where)
    except ValueError as problem:
        raise DataError(f"{where} is {problem}") from None


class _Each:
    """An object with any names, all values of one shape. Values that are null are left out."""

    def __init__(self, shape: Any):
        self.shape = shape

    def of(self, value: Any, where: str) -> dict[str, Any]:
        """The object with every name and value checked."""
        if not isinstance(value, dict) or len(value) > MOST:
            raise ValueError(f"not an object of at most {MOST} names")
        pairs = [(text(name), inner) for name, inner in value.items() if inner is not None]
        return {name: _shaped(inner, self.shape, f"{where}.{name}") for name, inner in pairs}


def text(value: Any) -> str:
    """A line that is short, and in which nothing changes the direction of reading."""
    if not isinstance(value, str) or len(value) > LONGEST:
        raise ValueError(f"not a text of at most {LONGEST} characters")
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", value).encode("utf-8", "replace").decode()


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
    if not isinstance(value, dict) or "value" not in value:
        raise ValueError("not {value, low, high}")
    middle, low, high = number(value["value"]), value.get("low"), value.get("high")
    if low is None or high is None:
        return {"value": middle, "low": None, "high": None}
    if not math.isfinite(middle) or not number(low) <= number(high):
        raise ValueError("an interval whose ends are the wrong way round")
    return {"value": middle, "low": low, "high": high}


METRICS = _Each(score)
BIN = {"confidence": share, "accuracy": share, "scenes": number}
RESULT: dict[str, Any] = {
    "model": text,
    "model_revision": text,
    "model_parameters": count,
    "baseline": {"name": text, "history": text, "columns": [text]},
    "bench": text,
    "bench_revision": text,
    "subset": text,
    "domain": text,
    "regime": text,
    "mode": text,
    "backend": text,
    "seed": number,
    "dtype": text,
    "versions": _Each(text),
    "hardware": {"device": text, "cores": count},
    "code_version": text,
    "seconds": number,
    "predictions_sha256": text,
    "failures": _Each(count),
    "n_scenes": count,
    "n_clusters": count,
    "coverage": share,
    "underpowered": flag,
    "design_effect": number,
    "minimum_detectable_difference": number,
    "scores": METRICS,
    "baselines": _Each(METRICS),
    "position": {
        "choice_share": _Each([share]),
        "truth_share": _Each([share]),
        "slot_accuracy": share,
        "flip_rate": share,
        "ckld": _Each(number),
    },
    "calibration": _Each({"ece_top_label": number, "ece_class_wise": number, "bins": [BIN]}),
    "brier_decomposition": _Each({"reliability": number, "resolution": number, "uncertainty": number}),
    "popularity_lift": score,
    "divergence": _Each({"jsd": number, "ks": number}),
    "groups": _Each(_Each({"n_scenes": count, "n_clusters": count, "accuracy": score, "log_loss": score})),
    "worst_group": _Each({"group": text, "accuracy": number, "gap": number}),
    "twins": _Each({"n_scenes": count, "accuracy": score, "log_loss": score, "p_value": share}),
    "rationale": {
        "decisions": number,
        "valid": share,
        "in_form": share,
        "cut_off": share,
        "stated_accuracy": share,
        "consistent": share,
        "grounded": share,
    },
}
