"""A small made-up run folder, as the stages leave it: an open domain `shop` and a closed domain `films`."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from hf_mirror import prompts
from hf_mirror.alignment import score
from hf_mirror.audit import Choices, audit
from hf_mirror.files import read_json, read_rows, sha256_file, write_json, write_rows
from hf_mirror.schema import BENCH, EVENTS, ITEMS, PAIR, PREDICTION, RATIONALE, READING, SCENE, SCORES, USERS
from hf_mirror.sealing import KEY_FILE
from hf_mirror.weights import resolve

TITLES = [
    "Gull Island, The (1951)", "Paper Lanterns (1962)", "Quiet Harbour: Second Winter (1973)", "Tin Violin, A (1984)",
    "Brass Orchard (1995)", "Velvet Compass (1990)", "Midnight Ferryman, The (1987)", "Ochre Mountain (1999)",
    "Salt & Sparrow (1978)", "Cité des mouettes, La (1969)", "Nine Lost Umbrellas (1992)", "Zephyr (1958)",
]  # fmt: skip
GENRES = ["Noirish", "Western-like", "Melodrama"]
SPLITS = {"train": 6, "validation": 2, "test": 2}
START = datetime(2001, 3, 4, 5, 6, 7, tzinfo=UTC)
ROLES = ("teacher", "student")


def make_run(directory: Path, domains: tuple[str, ...] = ("films", "shop"), models: bool = True) -> Path:
    """Writes the folder and returns it. Same arguments, same bytes."""
    quotas: dict[str, Any] = {}
    for name in domains:
        scenes = [_scene(name, split, i) for split, n in SPLITS.items() for i in range(n)]
        _tables(directory / name)
        (directory / name / KEY_FILE).write_text(2 * digest("key", name))
        for split in SPLITS:
            write_rows(
                directory / name / "scenes" / f"{split}.parquet", [s for s in scenes if s["split"] == split], SCENE
            )
        write_json(directory / name / "report.json", _report(name))
        decisions = [d for scene in scenes if scene["split"] != "test" for d in _decisions(scene)]
        for role in ROLES:
            mine = [d for d in decisions if d["role"] == role]
            write_rows(directory / name / "rationales" / role / "train-000.parquet", mine, RATIONALE)
            write_rows(
                directory / name / "readings" / role / "train-000.parquet", list(map(_reading, reversed(mine))), READING
            )
        for split in ("train", "validation"):
            pairs = [_pair(scene, decisions) for scene in scenes if scene["split"] == split]
            write_rows(directory / name / "preferences" / f"{split}.parquet", pairs, PAIR)
            quotas.setdefault(name, {})[split] = {
                "scenes": SPLITS[split],
                "kept": len(pairs),
                "dropped": {"not_selected": 0},
            }
        rows = [row for scene in scenes if scene["split"] == "test" for row in _bench(scene)]
        write_rows(directory / "bench" / f"{name}.parquet", rows, BENCH)
    write_json(directory / "preferences.json", {"rule": "uncertainty_gap", "size": 12, "seed": 0, "domains": quotas})
    counts = {
        name: {
            "domain": name, "scenes": 2, "rows": 10, "users": 2, "underpowered": True, "dropped": {}, "twins": {},
            "regimes": {"popularity_matched": 2}, "donors_found_by_relaxing": {"nobody": 2},
            "minimum_detectable_difference": {"at_chance": 0.9, "at_half": 0.9},
        }
        for name in domains
    }  # fmt: skip
    write_json(directory / "bench.json", {"subsets": counts, "seed": 0, "assumed_design_effect": 2.0})
    if models:
        add_model(directory, "tiny-mirror-sft", None, domains[-1])
        add_model(directory, "tiny-mirror-dpo", "tiny-mirror-sft", domains[-1])
    return directory


def add_model(directory: Path, name: str, base: str | None, subset: str, base_id: str | None = None) -> Path:
    """A model folder with a weight, a tokenizer, a report, an evaluation, and files that must not be published."""
    from safetensors.numpy import save_file

    folder = directory / "models" / name
    folder.mkdir(parents=True)
    save_file({"weight": np.arange(8, dtype=np.float32)}, str(folder / "model.safetensors"))
    local = str(directory / "models" / base) if base else None
    write_json(folder / "config.json", {"model_type": "llama", "_name_or_path": local or str(folder)})
    write_json(folder / "tokenizer.json", {"model": {"vocab": {}}})
    (folder / "training_args.bin").write_bytes(b"a pickle")
    (folder / "checkpoint-1").mkdir()
    (folder / "checkpoint-1" / "model.safetensors").write_bytes(b"x")
    report = {
        "method": "dpo" if base else "sft",
        "base_model": base_id or local,
        "base_revision": "a" * 40 if base_id else "sha256:12" if base else None,
        "from_scratch": None if base or base_id else {"hidden_size": 8},
        "dataset": {"folder": str(directory), "files": [], "subset": subset},
        "rows": {"train": 6, "validation": 2},
        "tokens": {"train": {"total": 1234, "longest": 90}},
        "steps": 3, "train_loss": 1.25, "eval_loss": 1.5, "seconds": 2.5, "seed": 0,
        "parameters": {"total": 1000, "trained": 1000},
        "versions": {"trl": "1.16.0"},
    }  # fmt: skip
    write_json(folder / "train_report.json", report | ({} if base else {"targets": ["rationale"]}))
    add_results(directory / "evaluations" / name, directory / "bench", subset, str(folder),
                model_revision=resolve(str(folder))[1])  # fmt: skip
    return folder


def add_results(out: Path, bench: Path, subset: str, model: str, **about: Any) -> Path:
    """Results and predictions as `mirror evaluate` leaves them, of a model that likes the second option."""
    rows = read_rows(bench / f"{subset}.parquet")
    probs = [[0.1, 0.7, 0.1, 0.1] for _ in rows]
    stem = subset if about.get("mode", "direct") == "direct" else f"{subset}.{about['mode']}"
    keys = [{name: row[name] for name in ("scene_id", "variant_id")} for row in rows]
    predictions = out / f"{stem}.predictions.parquet"
    write_rows(predictions, [k | {"choice_probs": p, "failure": None} for k, p in zip(keys, probs, strict=True)],
               PREDICTION)  # fmt: skip
    result = {
        "model": model, "model_revision": "sha256:" + digest(model), "model_parameters": 1000,
        "bench": str(bench), "mode": "direct", "backend": "transformers", "seed": 0, "dtype": "float32",
        "versions": {"python": "3.11.9"}, "hardware": {"device": "cpu", "cores": 2}, "code_version": "0.1.0",
        "seconds": 1.5, "bench_revision": f"sha256:{sha256_file(bench / f'{subset}.parquet')}", "subset": subset,
        "domain": rows[0]["domain"], **score(rows, probs, seed=0), "failures": {},
        "predictions_sha256": sha256_file(predictions),
    }  # fmt: skip
    write_json(out / f"{stem}.json", result | about)
    return out / f"{stem}.json"


def add_baseline(directory: Path, name: str, subset: str) -> Path:
    """Scores of a baseline as `mirror baselines` leaves them."""
    path = add_results(directory / "baselines" / name, directory / "bench", subset, name)
    result = read_json(path)
    for key in ("backend", "dtype", "versions", "hardware", "seconds"):
        del result[key]
    write_json(path, result | {"model_revision": None, "baseline": {"name": name, "history": None}})
    return path


def secrets(directory: Path, name: str = "films") -> set[str]:
    """Every title, id and time of a domain, in the spellings in which they could slip out."""
    found = {*TITLES, *(title[: title.rindex(" (")] for title in TITLES), *GENRES, "lighthouse keeper"}
    found |= {f"item-{i}x" for i in range(len(TITLES))} | {f"user-{i}x" for i in range(8)}
    times = [START + timedelta(hours=h) for h in range(200)]
    found |= {spelled for t in times for spelled in (t.isoformat(), t.isoformat(" ")[:19], str(int(t.timestamp())))}
    return found


def digest(*parts: object) -> str:
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()


def _tables(folder: Path) -> None:
    users = [{"user_id": f"user-{i}x", "profile": {"occupation": "lighthouse keeper", "age": 30 + i}} for i in range(8)]
    items = [
        {"item_id": f"item-{i}x", "attributes": {"title": title, "genres": [GENRES[i % 3]]}, "available_from": START}
        for i, title in enumerate(TITLES)
    ]
    event = {"user_id": "user-0x", "item_id": "item-0x", "timestamp": START, "signal": {"rating": 5}, "positive": True}
    write_rows(folder / "tables" / "users.parquet", users, USERS)
    write_rows(folder / "tables" / "items.parquet", items, ITEMS)
    write_rows(folder / "tables" / "events.parquet", [event], EVENTS)


def _scene(domain: str, split: str, number: int) -> dict[str, Any]:
    key = digest(domain, split, number)
    order = sorted(range(len(TITLES)), key=lambda i: digest(key, i))
    options, past = order[:4], order[4:6]
    when = START + timedelta(hours=int(key[:2], 16) % 200)
    lines = [f"[{prompts.LABELS[i]}] {TITLES[item]}" for i, item in enumerate(options)]
    prompt = [{"role": "user", "content": "You are a lighthouse keeper.\nOptions:\n" + "\n".join(lines)}]
    return {
        "scene_id": key[:16],
        "domain": domain,
        "split": split,
        "regime": "popularity_matched",
        "user_id": f"user-{int(key[2], 16) % 8}x",
        "timestamp": when,
        "gap_seconds": 60,
        "session_id": key[16:24],
        "impression_id": None,
        "n_clicked": None,
        "truncated": False,
        "history": [
            {"item_id": f"item-{i}x", "timestamp": START, "signal": {"rating": 5}, "positive": True} for i in past
        ],
        "exposure": [{"item_id": f"item-{i}x", "source": "popularity_matched", "asof_count": i} for i in options],
        "choice_index": int(key[3], 16) % 4,
        "prompt": prompt,
        "prompt_sha256": prompts.prompt_sha256(prompt),
    }


def _title(item_id: str) -> str:
    return TITLES[int(item_id[5:-1])]


def _decisions(scene: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for role in ROLES:
        for sample in range(2):
            choice = (scene["choice_index"] + sample + (role == "student")) % 4
            pick, past = _title(scene["exposure"][choice]["item_id"]), _title(scene["history"][0]["item_id"])
            thought = (
                f"Stimulus: {pick} is before me, shown at {scene['timestamp'].isoformat()}.\n"
                f"Knowledge: I rated {past} 5 on {START:%Y-%m-%d}; as a lighthouse keeper I like Noirish things.\n"
                f"Evaluation: {pick[: pick.rindex(' (')]} wins."
            )
            rows.append(
                {
                    "scene_id": scene["scene_id"], "domain": scene["domain"], "split": scene["split"], "role": role,
                    "model": role, "model_revision": "1", "sample_index": sample,
                    "text": f"{thought}\n{prompts.answer_line(choice)}", "thought": thought, "stated_choice": choice,
                    "choice_named_in_thought": True, "finish_reason": "stop", "parse_error": None,
                }
            )  # fmt: skip
    return rows


def _reading(row: dict[str, Any]) -> dict[str, Any]:
    probs = [0.1] * 4
    probs[row["stated_choice"]] = 0.7
    key = {name: row[name] for name in ("scene_id", "role", "sample_index")}
    return {**key, "reader": "reader", "reader_revision": "1", "choice_probs": probs}


def _pair(scene: dict[str, Any], decisions: list[dict[str, Any]]) -> dict[str, Any]:
    mine = [d for d in decisions if d["scene_id"] == scene["scene_id"]]
    chosen, rejected = ([{"role": "assistant", "content": mine[i]["text"]}] for i in (0, 2))
    return {
        "scene_id": scene["scene_id"],
        "domain": scene["domain"],
        "split": scene["split"],
        "n_options": 4,
        "prompt": prompts.rationale_messages(scene["prompt"]),
        "completion": chosen,
        "chosen": chosen,
        "rejected": rejected,
        "chosen_role": "teacher",
        "rejected_role": "student",
        "rule": "uncertainty_gap",
        "scores": dict.fromkeys(SCORES, 0.5),
    }


def _bench(scene: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "scene_id": scene["scene_id"],
            "variant_id": f"own-full-{order.replace(' ', '')}",
            "domain": scene["domain"],
            "regime": scene["regime"],
            "user_cluster": digest(scene["user_id"])[:12],
            "variant": {"history": "own", "donor": None, "profile": "own", "text": "full", "order": order},
            "options": [
                {"item_key": digest(o["item_id"])[:12], "asof_count": o["asof_count"], "source": o["source"],
                 "category": None, "asof_percentile": None}
                for o in scene["exposure"]
            ],
            "groups": {"activity": "high"},
            "gap_seconds": scene["gap_seconds"],
            "n_clicked": None,
            "prompt": prompts.direct_messages(scene["prompt"]),
            "choices": list("ABCD"),
            "gold_index": (scene["choice_index"] + shift) % 4,
        }
        for shift, order in enumerate(("shift 0", "shift 1", "shift 2", "shift 3", "random"))
    ]  # fmt: skip


def _choices() -> Choices:
    """Two hundred scenes of forty users, in which nothing tells."""
    rng, n = np.random.default_rng(0), 200
    features = {"asof_count": rng.integers(1, 99, (n, 5)).astype(float), "first_seen_days": 100 * rng.random((n, 5))}
    truth = rng.integers(5, size=n)
    return Choices(np.full(n, 5), truth, np.arange(n) % 40, features, np.full(n, 50), "popularity_matched")


def _report(name: str) -> dict[str, Any]:
    closed = name == "films"
    part = {"regime": "popularity_matched", "candidates": 10, "dropped": {"not_needed": 4}}
    return {
        "domain": name,
        "positive": "a rating of four or more",
        "seed": 0,
        "settings": {"scenes": 10, "regime": "popularity_matched", "seed": 0},
        "code_version": "0.1.0",
        "source": {
            "release": f"made-up {name}",
            "licence": "research use only, may not redistribute the data" if closed else "CC0-1.0",
            "redistributable": not closed,
            "citation": "@misc{films, title={Made-up films}}" if closed else "A made-up sample.",
            "files": [{"name": "ratings.dat", "sha256": digest(name), "bytes": 1234}],
        },
        "template_sha256": digest("template", name),
        "tables": {
            "read": 12,
            "kept": 10,
            "dropped": {"repeated": 2},
            "users": 8,
            "items": 12,
            "events": 10,
            "positives": 6,
        },
        "splits": {
            "cut_1": (START + timedelta(hours=3)).isoformat(),
            "cut_2": (START + timedelta(hours=5)).isoformat(),
            "users": {"train": 5, "validation": 1, "test": 2},
            "events": {"train": 6, "validation": 2, "test": 2},
            "lost": {"at_a_cut": {"users": 1, "events": 2, "positives": 1}},
            "underpowered": True,
        },
        "scenes": {s: {**part, "kept": n, "truth_positions": {"4": [n, 0, 0, 0]}} for s, n in SPLITS.items()},
        "audits": dict.fromkeys(SPLITS, audit(_choices())),
    }


def texts(value: Any) -> str:
    """Anything decoded, as one searchable text."""
    return json.dumps(value, ensure_ascii=False, default=str)
