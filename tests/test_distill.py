"""Pairs against a slow oracle, quotas by hand and by property, and refusals of mixed input."""

from __future__ import annotations

import hashlib
import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from hf_mirror.distill import distill
from hf_mirror.distill.probe import probe
from hf_mirror.distill.selection import RULES, largest_remainder
from hf_mirror.errors import ConfigError, DataError
from hf_mirror.files import read_rows, write_json, write_rows
from hf_mirror.locking import only_one
from hf_mirror.prompts import answer_line, direct_messages, rationale_messages
from hf_mirror.schema import PAIR, RATIONALE, READING, SCENE
from recipes.arguments import DataArguments
from recipes.data import load_pairs

ROLES = ("teacher", "student")
MODELS = {"teacher": "made-up/big", "student": "made-up/small"}


def scene(domain: str, split: str, number: int, k: int, rng: np.random.Generator) -> dict[str, Any]:
    scene_id = hashlib.sha256(f"{domain}{split}{number}".encode()).hexdigest()[:32]
    text = f"Scene {number} of {domain}\n" + "\n".join(f"[{'ABCDEFGH'[j]}] item {j}" for j in range(k))
    return {
        "scene_id": scene_id,
        "domain": domain,
        "split": split,
        "regime": "uniform",
        "user_id": f"u{number % 7}",
        "truncated": False,
        "history": [],
        "exposure": [
            {"item_id": str(j), "source": "uniform", "asof_count": int(rng.integers(1, 50))} for j in range(k)
        ],
        "choice_index": int(rng.integers(k)),
        "prompt": [{"role": "user", "content": text}],
        "prompt_sha256": "0" * 64,
    }


def decision(scene: dict, role: str, sample: int, rng: np.random.Generator) -> tuple[dict, dict]:
    """Sometimes unparsed, sometimes unreadable, sometimes tied; the teacher is right more often."""
    k, truth = len(scene["exposure"]), scene["choice_index"]
    stated = truth if rng.random() < (0.5 if role == "teacher" else 0.3) else int(rng.integers(k))
    # few distinct distributions, so that equal entropies and tied argmaxes occur
    weights = np.ones(k) + rng.choice([0, 1, 4, 20]) * (np.arange(k) == (stated if rng.random() < 0.8 else 0))
    probs = (weights / weights.sum()).tolist()
    error = "no_answer_line" if rng.random() < 0.15 else None
    thought = f"{role} thought {sample} on {scene['scene_id'][:6]}."
    spelled = answer_line(stated) if rng.random() < 0.8 else f"Behaviour: [ {'abcdefgh'[stated]} ]"
    keys = {"scene_id": scene["scene_id"], "role": role, "sample_index": sample}
    written = keys | {
        "domain": scene["domain"],
        "split": scene["split"],
        "model": MODELS[role],
        "model_revision": "r1",
        "text": thought if error else f"  {thought}\n{spelled}\n",
        "thought": thought,
        "stated_choice": None if error else stated,
        "choice_named_in_thought": False,
        "finish_reason": "length" if error else "stop",
        "parse_error": error,
    }
    lost = rng.random()
    probs = [math.nan] * k if lost < 0.05 else None if lost < 0.1 else probs
    ifd = float(np.float32(rng.uniform(0.3, 1.2))) if role == "teacher" and probs else None
    return written, keys | {"reader": "made-up/reader", "reader_revision": "r2", "choice_probs": probs, "ifd": ifd}


def make_run(
    directory: Path, *, scenes: int = 60, n: int = 5, seed: int = 0, shards: int = 3, flip: bool = False
) -> Path:
    """Two domains with decisions of both roles; some scenes lack a role, or both. `flip` reverses every row order."""
    rng = np.random.default_rng(seed)
    for domain, top in (("books", 7), ("films", 4)):
        folder = directory / domain
        write_json(folder / "report.json", {"domain": domain})
        everything = []
        for split, count in (("train", scenes), ("validation", scenes // 4), ("test", 5)):
            rows = [scene(domain, split, i, int(rng.integers(2, top)), rng) for i in range(count)]
            write_rows(folder / "scenes" / f"{split}.parquet", rows[::-1] if flip else rows, SCENE)
            everything += rows if split != "test" else []
        lacking = {role: set(rng.choice(len(everything), 4).tolist()) for role in ROLES}
        for role in ROLES:
            both = [
                decision(row, role, sample, rng)
                for i, row in enumerate(everything)
                for sample in range(n)
                if i not in lacking[role] and i != 11
            ]
            both = both[::-1] if flip else both
            for shard in range(shards):
                name = f"{(shards - shard if flip else shard):05d}.parquet"
                write_rows(folder / "rationales" / role / name, [w for w, _ in both[shard::shards]], RATIONALE)
            write_rows(folder / "readings" / role / "0.parquet", [r for _, r in both], READING)
        direct = [
            {"scene_id": row["scene_id"], "role": "direct", "sample_index": 0, "reader": "made-up/reader",
             "reader_revision": "r2", "choice_probs": rng.dirichlet(np.ones(len(row["exposure"]))).tolist()}
            for row in everything
        ]  # fmt: skip
        write_rows(folder / "readings" / "direct" / "0.parquet", direct[::-1] if flip else direct, READING)
    return directory


# --- the oracle: rows and loops, nothing shared with the stage -----------------------------------------------------


def bits(p: list[float]) -> float:
    return -sum(x * math.log2(x) for x in p if x > 0)


def oracle_scene(scene: dict, decisions: list[dict], direct: list[float], rejected_role: str) -> dict[str, Any]:
    """One scene's pair with its scores, or the reason why there is none."""
    k, truth = len(scene["exposure"]), scene["choice_index"]
    seen = {role: [d for d in decisions if d["role"] == role] for role in ROLES}
    usable = {
        role: [
            d for d in seen[role]
            if d["parse_error"] is None and d["choice_probs"] and not any(math.isnan(x) for x in d["choice_probs"])
        ]
        for role in ROLES
    }  # fmt: skip
    hit = any(d["stated_choice"] == truth for d in usable["teacher"])
    rescued = {"rescued": bool(usable["teacher"]) and not hit}
    if not decisions:
        return {"reason": "no_rationales"}
    for role in ROLES:
        if not seen[role]:
            return {"reason": f"no_{role}_decisions", **rescued}
    compared = min(len(u) for u in usable.values())
    if compared < 2:
        return {"reason": "too_few_usable", "both": True, **rescued}

    def rank(d: dict) -> tuple:
        return (round(bits(d["choice_probs"]) / math.log2(k), 9), ROLES.index(d["role"]), d["sample_index"])

    def correct(d: dict) -> bool:
        p = d["choice_probs"]
        return d["stated_choice"] == truth and all(p[truth] > x for j, x in enumerate(p) if j != truth)

    chosen = sorted((d for d in usable["teacher"] if correct(d)), key=rank)
    wrong = sorted((d for role in ROLES for d in usable[role]
                    if d["stated_choice"] != truth and rejected_role in (role, "either")), key=rank)  # fmt: skip
    if not chosen:
        return {"reason": "no_correct_teacher_decision", "both": True, **rescued}
    if not wrong:
        return {"reason": "no_wrong_decision", "both": True}
    scores = {"chosen_entropy": rank(chosen[0])[0], "rejected_entropy": rank(wrong[0])[0]}
    scores |= {"direct_entropy": bits(direct) / math.log2(k), "chosen_ifd": chosen[0]["ifd"]}
    for role in ROLES:
        in_order = sorted(usable[role], key=lambda d: d["sample_index"])
        probs = [d["choice_probs"] for d in in_order[:compared]]
        mean = [sum(p[j] for p in probs) / len(probs) for j in range(k)]
        within = sum(bits(p) for p in probs) / len(probs)
        hits = sum(d["stated_choice"] == truth for d in usable[role])
        scores[f"{role}_total_entropy"] = bits(mean) / math.log2(k)
        scores[f"{role}_within_decision_entropy"] = within / math.log2(k)
        scores[f"{role}_between_decision_information"] = (bits(mean) - within) / math.log2(k)
        scores[f"{role}_hit_rate"] = hits / len(usable[role])
        scores[f"{role}_p"] = float(binom.sf(hits - 1, len(usable[role]), 1 / k))
    scores["uncertainty_gap"] = scores["student_within_decision_entropy"] - scores["teacher_within_decision_entropy"]
    return {"chosen": chosen[0], "rejected": wrong[0], "scores": scores, "both": True}


def preference(rule: str, scores: dict) -> float | None:
    table = {
        "uncertainty_gap": scores["uncertainty_gap"],
        "random": 0.0,
        "high_accuracy": scores["teacher_hit_rate"],
        "low_accuracy": -scores["teacher_hit_rate"],
        "hit_above_chance": 0.0 if scores["teacher_p"] < 0.05 else None,
        "ifd": scores["chosen_ifd"] if scores["chosen_ifd"] is not None and scores["chosen_ifd"] < 1 else None,
        "direct": scores["direct_entropy"],
    }
    return table[rule]


def oracle_quotas(weights: list[int], total: int, caps: list[int]) -> list[int]:
    """Fix every group whose exact share reaches its capacity, start over with the others, then round."""
    fixed: dict[int, int] = {}
    while True:
        free = [i for i in range(len(caps)) if i not in fixed and caps[i]]
        rest = min(total, sum(caps)) - sum(fixed.values())
        if not free:
            break
        share = {i: Fraction(rest * weights[i], sum(weights[j] for j in free)) for i in free}
        full = {i: caps[i] for i in free if share[i] >= caps[i]}
        if not full:
            down = {i: math.floor(share[i]) for i in free}
            up = sorted(free, key=lambda i: (-(share[i] - down[i]), i))[: rest - sum(down.values())]
            fixed |= {i: down[i] + (i in up) for i in free}
            break
        fixed |= full
    return [fixed.get(i, 0) for i in range(len(caps))]


def oracle(
    directory: Path, rule: str, size: int, seed: int, rejected_role: str = "either"
) -> dict[tuple[str, str], dict[str, dict]]:
    """(domain, split) → scene_id → the scene's result, `kept` set where it is selected."""
    results: dict[tuple[str, str], dict[str, dict]] = {}
    for domain in ("books", "films"):
        decisions: dict[str, list] = {}
        for role in ROLES:
            read = {
                (r["scene_id"], r["sample_index"]): {"choice_probs": r["choice_probs"], "ifd": r["ifd"]}
                for r in read_rows(directory / domain / "readings" / role / "0.parquet")
            }
            for path in sorted((directory / domain / "rationales" / role).iterdir()):
                for row in read_rows(path):
                    found = read[row["scene_id"], row["sample_index"]]
                    decisions.setdefault(row["scene_id"], []).append(row | found)
        direct = {
            r["scene_id"]: r["choice_probs"]
            for r in read_rows(directory / domain / "readings" / "direct" / "0.parquet")
        }
        for split in ("train", "validation"):
            rows = read_rows(directory / domain / "scenes" / f"{split}.parquet")
            results[domain, split] = {
                row["scene_id"]: oracle_scene(
                    row, decisions.get(row["scene_id"], []), direct[row["scene_id"]], rejected_role
                )
                | {"scene": row}
                for row in rows
            }
    for split, wanted in (("train", size), ("validation", round(size * 0.1))):
        keys = sorted(
            {(d, len(r["scene"]["exposure"])) for (d, s), rs in results.items() if s == split for r in rs.values()}
        )
        groups = []
        for domain, k in keys:
            here = {i: r for i, r in results[domain, split].items() if len(r["scene"]["exposure"]) == k}
            ranked = []
            for scene_id, result in here.items():
                if "scores" not in result:
                    continue
                value = preference(rule, result["scores"])
                if value is None:
                    result["reason"] = "refused_by_rule"
                    continue
                draw = hashlib.sha256(f"{seed}|{scene_id}".encode()).hexdigest()
                ranked.append((-round(value, 9), draw, scene_id))
            groups.append((domain, sum("both" in r for r in here.values()), [i for _, _, i in sorted(ranked)]))
        quotas = oracle_quotas([g[1] for g in groups], wanted, [len(g[2]) for g in groups])
        for (domain, _, ranked_ids), quota in zip(groups, quotas, strict=True):
            for place, scene_id in enumerate(ranked_ids):
                results[domain, split][scene_id]["kept"] = place < quota
                if place >= quota:
                    results[domain, split][scene_id]["reason"] = "not_selected"
    return results


@pytest.mark.parametrize(
    ("rule", "rejected_role"), [*((rule, "either") for rule in RULES), ("random", "teacher"), ("random", "student")]
)
@pytest.mark.parametrize("size", [30, 1000])
def test_the_slow_oracle_gives_the_same_pairs(tmp_path, rule, size, rejected_role):
    make_run(tmp_path, scenes=80, n=6, seed=size)
    report = distill(tmp_path, rule=rule, size=size, seed=3, rejected_role=rejected_role)
    for (domain, split), expected in oracle(tmp_path, rule, size, 3, rejected_role).items():
        pairs = read_rows(tmp_path / domain / "preferences" / f"{split}.parquet")
        kept = {scene_id: result for scene_id, result in expected.items() if result.get("kept")}
        assert [pair["scene_id"] for pair in pairs] == sorted(kept)
        assert kept or split == "validation", "the case must not be empty"
        for pair in pairs:
            result = kept[pair["scene_id"]]
            for side in ("chosen", "rejected"):
                row = result[side]
                line = answer_line(row["stated_choice"])
                text = row["text"].strip() if line in row["text"] else row["thought"] + "\n" + line
                assert pair[side] == [{"role": "assistant", "content": text}]
                assert pair[f"{side}_role"] == row["role"]
            assert result["chosen"]["stated_choice"] != result["rejected"]["stated_choice"]
            assert pair["completion"] == pair["chosen"]
            assert pair["prompt"] == rationale_messages(result["scene"]["prompt"])
            assert (pair["n_options"], pair["rule"]) == (len(result["scene"]["exposure"]), rule)
            for name, value in pair["scores"].items():
                wanted = result["scores"][name]
                assert value is None if wanted is None else value == pytest.approx(wanted, abs=1e-6), name
        reasons: dict[str, int] = {}
        for result in expected.values():
            if not result.get("kept"):
                reasons[result["reason"]] = reasons.get(result["reason"], 0) + 1
        assert report["domains"][domain][split]["dropped"] == reasons


def test_the_report_accounts_for_everything(tmp_path):
    make_run(tmp_path)
    report = distill(tmp_path, size=40)
    assert json.loads((tmp_path / "preferences.json").read_text()) == report
    assert report["reader"] == {"model": "made-up/reader", "revision": "r2"}
    assert report["generators"]["student"] == [{"model": "made-up/small", "revision": "r1"}]
    assert report["pairs"]["train"] == 40 and report["pairs"]["validation"] == 4
    for domain, part in report["domains"].items():
        for split in ("train", "validation"):
            counts = part[split]
            assert counts["scenes"] == counts["kept"] + sum(counts["dropped"].values())
            assert counts["kept"] == len(read_rows(tmp_path / domain / "preferences" / f"{split}.parquet"))
            assert counts["kept"] == sum(counts["rejected_role"].values())
            rows = [q for q in report["quotas"] if (q["domain"], q["split"]) == (domain, split)]
            assert counts["kept"] == sum(q["quota"] for q in rows)
            assert counts["with_both_roles"] == sum(q["scenes"] for q in rows)
            assert all(q["quota"] <= q["available"] <= q["scenes"] for q in rows)
            for levels in counts["kept_against_dropped"].values():
                assert sum(level["kept"] for level in levels.values()) == counts["kept"]
                assert sum(level["kept"] + level["dropped"] for level in levels.values()) == counts["scenes"]
        for losses in part["decisions"].values():
            assert losses["written"] == losses["usable"] + losses["unread"] + sum(losses["parse_errors"].values())
            assert losses["unread"] > 0 and losses["parse_errors"]["no_answer_line"] == losses["cut_by_length"] > 0


def test_scenes_that_the_teacher_never_hits_can_be_rescued(tmp_path):
    make_run(tmp_path, scenes=80, n=3)
    report = distill(tmp_path, rescue=True)
    for (domain, split), expected in oracle(tmp_path, "uncertainty_gap", 10_000, 0).items():
        rescued = read_rows(tmp_path / domain / "rescued" / f"{split}.parquet")
        assert {row["scene_id"]: row["completion"][0]["content"] for row in rescued} == {
            scene_id: answer_line(result["scene"]["choice_index"])
            for scene_id, result in expected.items()
            if result.get("rescued")
        }
        assert all(row["prompt"] == direct_messages(expected[row["scene_id"]]["scene"]["prompt"]) for row in rescued)
        assert report["domains"][domain][split]["rescued"] == len(rescued)
        assert rescued or split == "validation", "the case must not be empty"


def test_what_cannot_be_written_whole_leaves_what_was_there(tmp_path, monkeypatch):
    """Faulty variant: a disk fills up between the splits, and train and validation are of two rules."""
    from hf_mirror import distill as room

    make_run(tmp_path)
    distill(tmp_path, rescue=True)
    before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    left = [2]

    def full(path, *others):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device", str(path))
        return write_rows(path, *others)

    monkeypatch.setattr(room, "write_rows", full)
    with pytest.raises(OSError, match="No space left"):
        distill(tmp_path, rule="high_accuracy", rescue=True)
    assert {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()} == before


def test_pairs_of_a_stopped_distillation_are_not_used(tmp_path):
    """Faulty variant: killed between two files, train is of one rule and validation of another."""
    make_run(tmp_path)
    distill(tmp_path)
    (tmp_path / "preferences.json").unlink()
    arguments = DataArguments(dataset=str(tmp_path), subset="books")
    with pytest.raises(DataError, match="of a distillation that was stopped; run `mirror distill"):
        load_pairs(arguments, ("prompt", "chosen", "rejected"))
    distill(tmp_path)
    assert len(load_pairs(arguments, ("prompt", "chosen", "rejected"))[0]["train"])


def test_one_distillation_at_a_time(tmp_path):
    make_run(tmp_path)
    with only_one(tmp_path / ".distilling", "held"), pytest.raises(DataError, match="another distillation is at work"):
        distill(tmp_path)
    distill(tmp_path)
    assert not (tmp_path / ".distilling").exists()


def test_what_is_not_rescued_any_more_is_not_left_lying(tmp_path):
    make_run(tmp_path)
    distill(tmp_path, rescue=True)
    assert len(list(tmp_path.glob("*/rescued/*.parquet"))) == 4
    distill(tmp_path)
    assert not list(tmp_path.glob("*/rescued/*.parquet"))


def test_kept_and_dropped_by_what_the_log_says_of_users(tmp_path):
    make_run(tmp_path)
    events = [{"user_id": f"u{i % 7}"} for i in range(100) if i % 7 < 3 or i < 30]
    pq.write_table(pa.Table.from_pylist(events), tmp_path / "events.parquet")
    (tmp_path / "books" / "tables").mkdir()
    (tmp_path / "events.parquet").rename(tmp_path / "books" / "tables" / "events.parquet")
    report = distill(tmp_path, size=20)
    found = report["domains"]["books"]["train"]["kept_against_dropped"]["user_events"]
    assert list(found) == ["low (to 4)", "middle (to 14)", "high (above 14)"]
    by_user = {f"u{i}": sum(event["user_id"] == f"u{i}" for event in events) for i in range(7)}
    scenes = read_rows(tmp_path / "books" / "scenes" / "train.parquet")
    assert sum(found["low (to 4)"].values()) == sum(by_user[row["user_id"]] <= 4 for row in scenes) > 0


def test_a_rule_needs_what_it_ranks_by(tmp_path):
    make_run(tmp_path)
    path = tmp_path / "books/readings/teacher/0.parquet"
    edit(path, READING, lambda rows: [row.update(ifd=None) for row in rows] and rows)
    with pytest.raises(DataError, match="holds nothing for rule 'ifd'; run `mirror read --ifd` again"):
        distill(tmp_path, rule="ifd")
    for path in tmp_path.glob("*/readings/direct/*"):
        path.unlink()
    with pytest.raises(DataError, match="holds nothing for rule 'direct'; run `mirror read` again"):
        distill(tmp_path, rule="direct")
    distill(tmp_path)
    with pytest.raises(ConfigError, match="rejected_role 'teachers' is not known; did you mean 'teacher'"):
        distill(tmp_path, rejected_role="teachers")


def test_writers_that_give_themselves_away_are_noticed(tmp_path):
    """All thoughts of one role have a word that the other never uses: no scene is needed to tell them apart."""
    make_run(tmp_path, scenes=120)
    told = distill(tmp_path, rejected_role="student")
    assert told["scene_blind_probe"]["accuracy"] > 0.9
    assert "told apart without the scene" in told["warnings"][0]
    alike = distill(tmp_path, rejected_role="teacher")
    assert alike["scene_blind_probe"]["accuracy"] < 0.6 and alike["warnings"] == []
    assert probe([[("a", "b")] * 9]) == {"pairs": 9, "accuracy": 0.5}


def test_the_page_shows_what_the_report_says(tmp_path):
    make_run(tmp_path)
    report = distill(tmp_path, size=40, rescue=True)
    page = (tmp_path / "preferences.html").read_text()
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")
    for domain, part in report["domains"].items():
        assert f"{domain}, train" in page
        for reason in part["train"]["dropped"]:
            assert reason.replace("_", " ") in page
    scenes = sum(part["train"]["scenes"] for part in report["domains"].values())
    assert 0 < page.count("<circle") <= scenes
    assert page.count('class="one dot"') == report["pairs"]["train"]


def test_same_input_same_bytes_in_any_row_order(tmp_path):
    first, second = make_run(tmp_path / "a"), make_run(tmp_path / "b", flip=True, shards=2)
    for directory in (first, second):
        distill(directory, size=30, rule="random", seed=1)
    for name in ("books/preferences/train.parquet", "films/preferences/validation.parquet"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    reports = [json.loads((directory / "preferences.json").read_text()) for directory in (first, second)]
    for report in reports:
        for domain in report["domains"].values():
            assert domain.pop("made_of")  # of the bytes of the shards, whose rows are in another order
    assert reports[0] == reports[1]
    before = (first / "books/preferences/train.parquet").read_bytes()
    distill(first, size=30, rule="random", seed=2)
    assert (first / "books/preferences/train.parquet").read_bytes() != before


def test_pairs_load_with_the_features_of_the_schema(tmp_path):
    import datasets

    make_run(tmp_path)
    distill(tmp_path, size=20)
    loaded = datasets.Dataset.from_parquet(
        str(tmp_path / "books/preferences/train.parquet"), cache_dir=str(tmp_path / "cache")
    )
    assert loaded.features == datasets.Features.from_arrow_schema(PAIR)
    assert len(loaded) > 0


# --- refusals ------------------------------------------------------------------------------------------------------


def edit(path: Path, features: Any, change: Any) -> None:
    rows = read_rows(path)
    write_rows(path, change(rows) or rows, features)


REFUSALS = {
    "another reader": (
        "readings/student/0.parquet",
        READING,
        lambda rows: rows[3].update(reader="x"),
        "different readers",
    ),
    "another revision": (
        "readings/student/0.parquet",
        READING,
        lambda rows: [row.update(reader_revision="r9") for row in rows] and rows,
        "different readers",
    ),
    "other scenes": (
        "rationales/teacher/00001.parquet",
        RATIONALE,
        lambda rows: rows[0].update(scene_id="f" * 32),
        "not in train or validation",
    ),
    "missing readings": ("readings/teacher/0.parquet", READING, lambda rows: rows[5:], "mirror read"),
    "a decision twice": ("rationales/teacher/00000.parquet", RATIONALE, lambda rows: [*rows, rows[0]], "twice"),
    "another writer": (
        "rationales/teacher/00000.parquet",
        RATIONALE,
        lambda rows: rows[0].update(model="y"),
        "one model",
    ),
    "another role": (
        "rationales/teacher/00000.parquet",
        RATIONALE,
        lambda rows: rows[0].update(role="student"),
        "role",
    ),
    "too many options": (
        "readings/teacher/0.parquet",
        READING,
        lambda rows: [row.update(choice_probs=[0.1] * 10) for row in rows] and rows,
        "10 probabilities",
    ),
    "no distribution": (
        "readings/teacher/0.parquet",
        READING,
        lambda rows: [row.update(choice_probs=[1.0] * len(row["choice_probs"] or [])) for row in rows] and rows,
        "of sum",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_mixed_input_is_refused_in_one_line_and_nothing_is_written(tmp_path, case):
    name, features, change, message = REFUSALS[case]
    make_run(tmp_path, scenes=12)
    edit(tmp_path / "films" / name, features, change)
    with pytest.raises(DataError, match=message) as error:
        distill(tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("*/preferences")) and not (tmp_path / "preferences.json").exists()


def test_missing_and_broken_files_name_themselves(tmp_path):
    with pytest.raises(DataError, match="mirror build"):
        distill(tmp_path)
    make_run(tmp_path, scenes=12)
    shard = tmp_path / "films/rationales/teacher/00000.parquet"
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(DataError, match=r"teacher/00000\.parquet is not a whole Parquet file"):
        distill(tmp_path)
    for path in (tmp_path / "films/rationales/teacher").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="mirror rationales --role teacher"):
        distill(tmp_path)
    (tmp_path / "books/readings/student/0.parquet").unlink()
    with pytest.raises(DataError, match="mirror read"):
        distill(tmp_path)


def test_settings_are_checked_and_no_pair_at_all_is_said(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'uncertainty_gap'"):
        distill(tmp_path, rule="uncertainty")
    with pytest.raises(ConfigError, match="at least 1"):
        distill(tmp_path, size=0)
    make_run(tmp_path, scenes=12, n=1)
    with pytest.raises(DataError, match="too_few_usable"):
        distill(tmp_path)


# --- quotas --------------------------------------------------------------------------------------------------------


def test_quotas_by_hand():
    assert largest_remainder([50, 30, 20], 10, [50, 30, 20]) == [5, 3, 2]
    assert largest_remainder([1, 1, 1], 10, [9, 9, 9]) == [4, 3, 3]
    assert largest_remainder([41, 39, 20], 3, [9, 9, 9]) == [1, 1, 1]
    assert largest_remainder([1, 1, 1], 9, [1, 9, 9]) == [1, 4, 4], "a short group's rest goes to the others"
    assert largest_remainder([5, 5], 100, [3, 4]) == [3, 4]
    assert largest_remainder([0, 5], 6, [4, 4]) == [2, 4], "a group without weight takes only what nobody else can"
    assert largest_remainder([], 5, []) == []


def test_ceilings_first_would_starve_the_last_group():
    # shares 10.1 ten times and 10.0 once: ceilings first would give 11 ten times and leave the last group 1
    assert largest_remainder([101] * 10 + [100], 111, [1000] * 11) == [11] + [10] * 10


@given(st.data())
def test_quotas_add_up_stay_within_capacity_and_near_their_share(data):
    n = data.draw(st.integers(1, 12))
    weights = data.draw(st.lists(st.integers(0, 50), min_size=n, max_size=n))
    caps = data.draw(st.lists(st.integers(0, 40), min_size=n, max_size=n))
    total = data.draw(st.integers(0, 300))
    quotas = largest_remainder(weights, total, caps)
    assert sum(quotas) == min(total, sum(caps))
    assert all(0 <= q <= cap for q, cap in zip(quotas, caps, strict=True))
    whole = sum(weights)
    if whole:
        for quota, weight, cap in zip(quotas, weights, caps, strict=True):
            assert quota >= min(cap, total * weight // whole), "nobody gets less than the whole part of his share"
    if all(w for w, cap in zip(weights, caps, strict=True) if cap):
        assert quotas == oracle_quotas(weights, total, caps)
