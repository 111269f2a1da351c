"""The study of the README: `benchmarks/study.py RUN [RESULTS…]`.

RUN is a run folder with `bench/` and `baselines/`; RESULTS are further folders of results (`mirror evaluate --out`).
Prints, as Markdown, a table of everybody per subset, what other histories do, and what "never last" is worth: to a
model that has learned that the truth never stands last, on options in the order in which the prior art puts them (the
truth is put into a place before the last) and in the benchmark's orders.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from hf_mirror import metrics
from hf_mirror.files import read_json, read_rows

LAST = 1e-3  # what a model that has learned "never last" leaves for the last slot


def results_of(folders: list[Path]) -> list[dict[str, Any]]:
    """All results files of the folders."""
    found = [read_json(path) for folder in folders for path in sorted(folder.rglob("*.json"))]
    return [result for result in found if isinstance(result, dict) and "baselines" in result]


def board(results: list[dict[str, Any]]) -> None:
    """Everybody on every subset, the best log-loss first."""
    for subset in sorted({result["subset"] for result in results}):
        here = [result for result in results if result["subset"] == subset]
        first = here[0]
        lines = [(result["model"], result["scores"]) for result in here]
        lines += [(name.replace("_", "-"), scores) for name, scores in first["baselines"].items()]
        print(f"\n`{subset}`: {first['n_scenes']} scenes of {first['n_clusters']} users, `{first['regime']}`\n")
        print("| | accuracy, % | 95 % | log-loss, nats | 95 % |\n|---|---:|---|---:|---|")
        for name, scores in sorted(lines, key=lambda line: line[1]["log_loss"]["value"]):
            print(f"| {Path(name).name} | {shown(scores['accuracy'], 100, 1)} | {shown(scores['log_loss'], 1, 3)} |")


def twins(results: list[dict[str, Any]], subset: str) -> None:
    """What changes with another history, in points and nats."""
    print("\n| | twin | accuracy, points | 95 % | log-loss, nats | 95 % |\n|---|---|---:|---|---:|---|")
    for result in results:
        for name, delta in (result.get("twins") or {}).items() if result["subset"] == subset else ():
            accuracy, loss = shown(delta["accuracy"], 100, 1), shown(delta["log_loss"], 1, 3)
            print(f"| {Path(result['model']).name} | {name} | {accuracy} | {loss} |")


def shown(score: dict[str, Any], factor: float, digits: int) -> str:
    """The value and its interval, as two cells."""
    value = f"{score['value'] * factor:.{digits}f}"
    if score["low"] is None or score["low"] == score["high"]:
        return f"{value} | "
    return f"{value} | {score['low'] * factor:.{digits}f} – {score['high'] * factor:.{digits}f}"


def never_last(run: Path, subset: str) -> None:
    """Two knowers of slots, alone and on top of a conditional logit, on both orders."""
    rows = read_rows(run / "bench" / f"{subset}.parquet")
    rows = [row for row in rows if row["variant_id"].startswith("own-full-shift")]
    logit = {
        (row["scene_id"], row["variant_id"]): row["choice_probs"]
        for row in read_rows(run / "baselines" / "conditional-logit-(shown)" / f"{subset}.predictions.parquet")
    }
    rng = np.random.default_rng(0)
    _, user = np.unique([row["user_cluster"] for row in rows], return_inverse=True)
    ids, scene = np.unique([row["scene_id"] for row in rows], return_inverse=True)
    print("\n| a model that knows | in the prior art's order, % | 95 % | in the benchmark's orders, % | 95 % |")
    print("|---|---:|---|---:|---|")
    for name, base in (("nothing but never last", None), ("the conditional logit", logit), ("both", logit)):
        cells = []
        for prior_art in (True, False):
            values = np.zeros(len(rows))
            for index, row in enumerate(rows):
                k, gold = len(row["choices"]), row["gold_index"]
                probs = np.full(k, 1 / k) if base is None else np.array(base[row["scene_id"], row["variant_id"]])
                if prior_art:  # the truth moves to a place before the last, the others keep their order
                    others = [slot for slot in range(k) if slot != gold]
                    place = int(rng.integers(k - 1))
                    probs, gold = probs[[*others[:place], gold, *others[place:]]], place
                if name != "the conditional logit":
                    probs = probs * np.where(np.arange(k) == k - 1, LAST, 1)
                values[index] = metrics.accuracy((probs / probs.sum())[None], np.array([gold]))[0]
            by_scene = metrics.per_scene(values, scene, len(ids))
            of_scene = np.zeros(len(ids), dtype=np.int64)
            of_scene[scene] = user
            found = metrics.interval(by_scene, of_scene, seed=0)
            cells.append(shown({"value": found.value, "low": found.low, "high": found.high}, 100, 1))
        print(f"| {name} | {cells[0]} | {cells[1]} |")


if __name__ == "__main__":
    run = Path(sys.argv[1])
    everybody = results_of([run / "baselines", *map(Path, sys.argv[2:])])
    board(everybody)
    headline = sorted({result["domain"] for result in everybody})[0]
    twins(everybody, headline)
    never_last(run, headline)
