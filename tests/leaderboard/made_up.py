"""Made-up results, scored by the library, for a board."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hf_mirror.alignment import score
from hf_mirror.files import write_json

SHA = "0123456789abcdef0123456789abcdef01234567"


def rows(scenes: int, users: int, domain: str, regime: str, size: int = 5) -> list[dict[str, Any]]:
    """Benchmark rows of scenes with `size` options each: all cyclic shifts, and a random order."""
    made = []
    for scene in range(scenes):
        truth = scene % size
        for order in [*(f"shift {i}" for i in range(size)), "random"]:
            rng = np.random.default_rng(scene)
            items = rng.permutation(size) if order == "random" else np.roll(np.arange(size), int(order.split()[1]))
            counts = np.random.default_rng([scene, 3]).integers(0, 50, size)
            made.append(
                {
                    "scene_id": f"scene{scene:05}",
                    "variant_id": "own-full-" + order.replace(" ", ""),
                    "domain": domain,
                    "regime": regime,
                    "user_cluster": f"user{scene % users}",
                    "variant": {"history": "own", "donor": None, "profile": "own", "text": "full", "order": order},
                    "options": [
                        {"item_key": f"{scene}-{i}", "asof_count": int(counts[i]), "source": "made"} for i in items
                    ],
                    "gold_index": int(np.flatnonzero(items == truth)[0]),
                }
            )
    return made


def answers(of: list[dict[str, Any]], taste: float, habit: float, seed: int) -> list[list[float]]:
    """Probabilities of a model that likes the truth by `taste` and the first slot by `habit`."""
    rng = np.random.default_rng(seed)
    found = []
    for row in of:
        logits = rng.normal(size=len(row["options"]))
        logits[row["gold_index"]] += taste
        logits[0] += habit
        found.append((np.exp(logits) / np.exp(logits).sum()).tolist())
    return found


def result(model: str, of: list[dict[str, Any]], probs: list[Any], **more: Any) -> dict[str, Any]:
    """A results file as `mirror evaluate` writes it."""
    domain, regime = of[0]["domain"], of[0]["regime"]
    return {
        "model": model,
        "model_revision": SHA,
        "bench": "acme/mirror-bench@v1.0.0",
        "bench_revision": SHA[::-1],
        "subset": domain,
        "domain": domain,
        "mode": "direct",
        "backend": "transformers",
        "seed": 0,
        "code_version": "0.1.0",
        **score(of, probs, seed=0),
        "regime": regime,
        "failures": {},
        "predictions_sha256": "ab" * 32,
        **more,
    }


def with_newer_fields(found: dict[str, Any], seed: int) -> dict[str, Any]:
    """What newer versions of `score` add, made up."""
    rng = np.random.default_rng(seed)

    def around(value: float, by: float) -> dict[str, float]:
        return {"value": value, "low": value - by, "high": value + by}

    accuracy, loss = found["scores"]["accuracy"]["value"], found["scores"]["log_loss"]["value"]
    confidence = np.linspace(0.22, 0.85, 8).tolist()
    bins = [{"confidence": c, "accuracy": 0.1 + 0.6 * c + rng.normal() * 0.03, "scenes": 20 + 9 * i}
            for i, c in enumerate(confidence)]  # fmt: skip
    r2 = {"mcfadden_r2_uniform": around(0.031, 0.02), "mcfadden_r2_popularity": around(0.02, 0.02)}
    groups = {
        "gap": ("first", "<1h", "1h-1d", ">=1d"),
        "popularity": ("low", "middle", "high"),
        "profile.gender": ("F", "M"),
    }
    twins = ("none-full-random", "swapped:nearest-full-random", "swapped:random-full-random",
             "swapped:random+profile-full-random", "own-ids-random", "own-titles_masked-random")  # fmt: skip
    return found | {
        "dtype": "float32",
        "versions": {"python": "3.11.9", "torch": "2.13.0"},
        "hardware": {"device": "cpu", "cores": 2},
        "seconds": 812.4,
        "predictions_sha256": f"{seed:064x}",
        "failures": {"too_long": 12, "no_probabilities": 3},
        "scores": found["scores"] | r2,
        "position": found["position"] | {"ckld": {"5": 0.0123}},
        "calibration": {"5": {"ece_top_label": 0.083, "ece_class_wise": 0.041, "bins": bins}},
        "brier_decomposition": {"5": {"reliability": 0.012, "resolution": 0.034, "uncertainty": 0.8}},
        "groups": {
            dimension: {
                name: {"n_scenes": 40 + i, "n_clusters": 20 + i, "log_loss": around(loss, 0.1),
                       "accuracy": around(accuracy + rng.normal() * 0.03, 0.06)}
                for i, name in enumerate(names)
            }
            for dimension, names in groups.items()
        },
        "worst_group": {"gap": {"group": ">=1d", "accuracy": accuracy - 0.05, "gap": 0.08}},
        "twins": {
            name: {"n_scenes": 180, "accuracy": around(-0.01 * i, 0.03), "log_loss": around(0.02 * i, 0.03),
                   "p_value": 0.6 / 4**i}
            for i, name in enumerate(twins)
        },
    }  # fmt: skip


def write_results(folder: Path, scenes: int, users: int) -> Path:
    """A folder of results: two domains, one of them with two regimes, models and a baseline, both modes."""
    for domain, regime in (("films", "popularity_matched"), ("films", "uniform"), ("news", "logged")):
        of = rows(scenes, users, domain, regime)
        subset = domain if regime != "uniform" else f"{domain}-{regime}"
        models = (
            ("big", "acme/mirror-7b-dpo", answers(of, 1.1, 0.2, 1), {"model_parameters": 7_241_000_000}),
            ("small", "acme/tiny-mirror", answers(of, 0.3, 1.5, 2), {"model_parameters": 1_100_000}),
            ("plain", "other-lab/a-model-with-quite-a-long-name-0.5B-instruct", answers(of, 0.6, 0.0, 3),
             {"model_parameters": 494_000_000}),
            ("ease", "ease (full past)", answers(of, 0.9, 0.0, 4), {"baseline": {"name": "ease", "history": "full"}}),
        )  # fmt: skip
        for seed, (name, model, probs, more) in enumerate(models):
            found = result(model, of, probs, subset=subset, **more)
            newer = with_newer_fields(found, seed) if name in ("big", "small") else found
            write_json(folder / name / f"{subset}.json", newer)
            if name == "big" and regime != "uniform":
                thoughts = {"decisions": 1080, "valid": 0.97, "in_form": 0.93, "cut_off": 0.01, "stated_accuracy": 0.31,
                            "consistent": 0.88}  # fmt: skip
                write_json(folder / name / f"{subset}.rationale.json",
                           newer | {"mode": "rationale", "rationale": thoughts})  # fmt: skip
    return folder
