"""What a model card says of one evaluation: scores beside baselines, and what is behind them, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hf_mirror.publish.evaluations import Evaluation, interval, without_counts

Facts = dict[str, Any]

# Twins of a scene by variant_id, as a card says what was changed.
TWINS = {
    "none-full-random": "no history",
    "swapped:random-full-random": "another user's history, drawn at random",
    "swapped:nearest-full-random": "the most similar history of another user",
    "swapped:random+profile-full-random": "another user's history and profile",
    "own-titles_masked-random": "titles left out",
    "own-ids-random": "ids instead of texts",
}


def described_evaluation(evaluation: Evaluation, name: str, baselines: Sequence[Evaluation]) -> Facts:
    """Facts of one table of the card. `baselines` are the run's; those of the same rows stand beside the model."""
    result = without_counts(evaluation.result) if evaluation.closed else evaluation.result
    others = {who.replace("_", "-"): scores for who, scores in result["baselines"].items()}
    others |= {
        each.result["model"]: each.result["scores"]
        for each in baselines
        if each.result["subset"] == result["subset"] and each.result["n_scenes"] == result["n_scenes"]
    }
    ranked = sorted(others.items(), key=lambda pair: (pair[1]["log_loss"]["value"], pair[0]))
    own, chance = result["scores"], result["baselines"]["chance"]["accuracy"]["value"]
    low = own["accuracy"]["low"]
    return {
        "result": result,
        "closed": evaluation.closed,
        "lines": [_line(f"**{name}**", own), *(_line(who, scores) for who, scores in ranked)],
        "beats_chance": low is not None and low > chance,
        "better": [who for who, scores in ranked if scores["log_loss"]["value"] < own["log_loss"]["value"]],
        "underpowered": result["n_clusters"] < 200,
        "facts": list(filter(None, [_answered(result), _gaps(result), _calibration(result), _flips(result),
                                    _groups(result), _thoughts(result)])),
        "twins": [_twin(name, found) for name, found in sorted((result.get("twins") or {}).items())],
        **_shares(result.get("position") or {}),
    }  # fmt: skip


def _line(who: str, scores: Mapping[str, Any]) -> Facts:
    return {"who": who, **{key: interval(scores[key]) for key in ("accuracy", "log_loss")}}


def _answered(result: Facts) -> str:
    failed = ", ".join(f"{n:,} {reason.replace('_', ' ')}" for reason, n in sorted(result["failures"].items()))
    return f"It answered {100 * result['coverage']:.1f} % of what it was asked; the rest counts as wrong" + (
        f" ({failed})." if failed else "."
    )


def _gaps(result: Facts) -> str | None:
    found = result.get("minimum_detectable_difference") or 0.0
    return (
        f"Two models on these scenes differ visibly from {100 * found:.1f} points of accuracy (80 % power)."
        if found > 5e-4  # a model that always answers alike has none, up to rounding
        else None
    )


def _calibration(result: Facts) -> str | None:
    found = result.get("calibration") or {}
    parts = [
        f"{100 * of['ece_top_label']:.1f} points with {k} options"
        for k, of in sorted(found.items(), key=lambda pair: int(pair[0]))
        if of.get("ece_top_label") is not None
    ]
    return f"Calibration error (ECE of the likeliest option, 0 is best): {', '.join(parts)}." if parts else None


def _flips(result: Facts) -> str | None:
    rate = (result.get("position") or {}).get("flip_rate")
    return (
        f"Another order of the same options changes its choice in {100 * rate:.1f} % of cases."
        if rate is not None
        else None
    )


def _groups(result: Facts) -> str | None:
    parts = [
        f"{found['group']} of {dimension} ({100 * found['gap']:.1f} points below the best)"
        for dimension, found in sorted((result.get("worst_group") or {}).items())
        if found and found.get("gap")
    ]
    return f"Lowest accuracy by group: {', '.join(parts)}." if parts else None


def _thoughts(result: Facts) -> str | None:
    found = result.get("rationale", {})
    if "valid" not in found:
        return None
    said = f"Of {found['decisions']:,} thoughts {100 * found['valid']:.1f} % end in a valid option"
    if "consistent" in found:
        said += f", and {100 * found['consistent']:.1f} % of those lead a reader to the option that they state"
    if "grounded" in found:
        said += f"; of the titles that they name {100 * found['grounded']:.1f} % stand in the prompt"
    return f"{said}."


def _twin(name: str, found: Mapping[str, Any]) -> Facts:
    return {
        "what": TWINS.get(name, name),
        "scenes": found["n_scenes"],
        "accuracy": interval(found["accuracy"], "+"),
        "log_loss": interval(found["log_loss"], "+"),
    }


def _shares(position: Mapping[str, Any]) -> Facts:
    """Per K two lines, of choices and of truths; shorter ones end in blanks."""
    chosen, true = (position.get(f"{whose}_share") or {} for whose in ("choice", "truth"))
    widest = max(map(int, chosen), default=0)
    lines = [
        {"k": k, "whose": whose, "shares": [*(f"{100 * share:.1f} %" for share in of[k]), *[""] * (widest - int(k))]}
        for k in sorted(chosen, key=int)
        for whose, of in (("choices", chosen), ("truths", true))
        if k in of
    ]
    return {"slots": list(range(1, widest + 1)), "shares": lines}
