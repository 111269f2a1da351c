"""Rationales to preference pairs: one chosen and one rejected decision per scene, for the scenes a rule prefers.

A decision is usable when its answer was parsed and its reading has probabilities. With the one reader of both roles:

    correct(D)   the stated choice is the truth, and so is the reader's argmax (a tie is not an argmax)
    chosen       the correct teacher decision of lowest entropy H(Y|X,D)
    rejected     the decision of lowest entropy, of either role, that states another option than the truth

Equal entropies (to 1e-9) go to the teacher, then to the smaller `sample_index`; scenes that a rule scores alike are
drawn by a seeded hash of their id. Every scene without a pair is counted with its reason, and never guessed into one.
All entropies here are divided by log2 K, because scenes of different K are pooled.

Source: Mirroring Users (https://arxiv.org/abs/2508.18142). Keeping only scenes that the
teacher hits favours plausible average choices and lucky guesses: the report therefore sets kept against dropped by K,
popularity of the truth and teacher hit rate, and fidelity is measured on unfiltered scenes.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hf_mirror.distill.decisions import Ints, Model, counts, role_files, take
from hf_mirror.distill.scoring import KEPT, Domain, score_domain
from hf_mirror.distill.selection import RULES, select
from hf_mirror.errors import ConfigError, DataError
from hf_mirror.files import write_json, write_rows
from hf_mirror.prompts import answer_line, rationale_messages
from hf_mirror.rationales import ROLES, SPLITS, domain_folders

VALIDATION_SHARE = 0.1


def distill(directory: Path, *, rule: str = "uncertainty_gap", size: int = 10_000, seed: int = 0) -> dict[str, Any]:
    """Writes `<domain>/preferences/{train,validation}.parquet` (schema.PAIR) and `preferences.json`, which it returns.

    `size` train pairs are picked over all domains together, by quotas per (domain, K) proportional to the scenes that
    have decisions of both roles, so that every rule meets the same domain × K mix. What a short group cannot give goes
    to the others. Validation takes up to a tenth of `size` more, by the same quotas. Nothing is written on an error.

    Raises DataError where rationales are missing or belong to other scenes, readings are missing or contradict their
    rationales, the roles were read by different readers, or no scene gives a pair; ConfigError for settings.
    """
    if rule not in RULES:
        near = get_close_matches(rule, RULES, n=1, cutoff=0.0)
        raise ConfigError(f"rule {rule!r} is not known; did you mean {near[0]!r}? Known: {', '.join(RULES)}")
    if size < 1:
        raise ConfigError(f"size is {size}; expected at least 1 pair")
    domains = [score_domain(folder) for folder in domain_folders(directory)]
    readers = _models({reader for d in domains for reader in d.readers})
    if len(readers) > 1:
        raise DataError(
            f"{directory} was read by different readers {readers}; run `mirror read` with one for all roles"
        )
    sizes = {"train": size, "validation": round(size * VALIDATION_SHARE)}
    quotas = [quota for split in SPLITS for quota in select(domains, split, sizes[split], rule, seed)]
    pairs = {split: sum(row["quota"] for row in quotas if row["split"] == split) for split in SPLITS}
    if not pairs["train"]:
        lost = counts(np.concatenate([d.outcome[d.scenes["split"] == "train"] for d in domains]))
        raise DataError(f"no train scene in {directory} gives a pair under rule {rule!r}: {lost}; write more decisions")
    report = {
        "rule": rule,
        "size": size,
        "validation_size": sizes["validation"],
        "seed": seed,
        "entropy_unit": "share of log2 K",
        "reader": readers[0],
        "generators": {role: _models({d.writers[role] for d in domains}) for role in ROLES},
        "pairs": pairs,
        "domains": {d.folder.name: {split: _split_report(d, split) for split in SPLITS} | d.report for d in domains},
        "quotas": quotas,
    }
    for domain in domains:
        for split in SPLITS:
            _write_pairs(domain, split, rule)
    write_json(directory / "preferences.json", report)
    return report


def _write_pairs(domain: Domain, split: str, rule: str) -> None:
    from hf_mirror.schema import PAIR, SCORES

    kept = np.flatnonzero((domain.outcome == KEPT) & (domain.scenes["split"] == split))
    kept = kept[np.argsort(domain.scenes["scene_id"][kept])]
    prompts = take([domain.folder / "scenes" / f"{s}.parquet" for s in SPLITS], ["prompt"], domain.scenes["row"][kept])
    sides = {side: domain.scores[side][kept] for side in ("chosen", "rejected")}
    chosen, rejected = (_answers(domain, decisions) for decisions in sides.values())
    roles = {f"{side}_role": np.array(ROLES)[domain.decisions["role"][d]] for side, d in sides.items()}
    columns = {
        "scene_id": domain.scenes["scene_id"][kept],
        "domain": [domain.folder.name] * len(kept),
        "split": [split] * len(kept),
        "n_options": domain.scenes["n_options"][kept].astype(np.int32),
        "prompt": _chats("user", [rationale_messages(p)[0]["content"] for p in prompts["prompt"].to_pylist()]),
        "completion": chosen,
        "chosen": chosen,
        "rejected": rejected,
        **roles,
        "rule": [rule] * len(kept),
        "scores": pa.StructArray.from_arrays(
            [pa.array(domain.scores[name][kept].astype(np.float32)) for name in SCORES], list(SCORES)
        ),
    }
    write_rows(domain.folder / "preferences" / f"{split}.parquet", pa.table(columns), PAIR)


def _answers(domain: Domain, decisions: Ints) -> pa.ListArray:
    """What the models wrote for these decisions, as assistant messages."""
    texts = np.full(len(decisions), "", dtype=object)
    for code, role in enumerate(ROLES):
        mine = np.flatnonzero(domain.decisions["role"][decisions] == code)
        rows = domain.decisions["row"][decisions[mine]]
        paths = role_files(domain.folder, "rationales", role)
        texts[mine] = [text.strip() for text in take(paths, ["text"], rows)["text"].to_pylist()]
        # Where the model spelled the answer line another way: its thought, and the line as we define it.
        lines = [answer_line(choice) for choice in domain.decisions["stated"][decisions[mine]]]
        odd = np.array([line not in text for line, text in zip(lines, texts[mine], strict=True)], dtype=bool)
        thoughts = take(paths, ["thought"], rows[odd])["thought"].to_pylist()
        texts[mine[odd]] = [f"{t}\n{lines[i]}".lstrip() for t, i in zip(thoughts, np.flatnonzero(odd), strict=True)]
    return _chats("assistant", texts.tolist())


def _chats(role: str, contents: list[str]) -> pa.ListArray:
    """One-message chats as Arrow, without a Python dict per row."""
    n = len(contents)
    message = pa.StructArray.from_arrays(
        [pa.array([role] * n, pa.string()), pa.array(contents, pa.string())], ["role", "content"]
    )
    return pa.ListArray.from_arrays(pa.array(range(n + 1), pa.int32()), message)


def _split_report(domain: Domain, split: str) -> dict[str, Any]:
    here = domain.scenes["split"] == split
    scores = domain.scores
    both = here & (scores["teacher_written"] > 0) & (scores["student_written"] > 0)
    dropped = counts(domain.outcome[here])
    kept = dropped.pop(KEPT, 0)
    rejected = domain.decisions["role"][scores["rejected"][here & (domain.outcome == KEPT)]]
    return {
        "scenes": int(here.sum()),
        "with_both_roles": int(both.sum()),
        "kept": kept,
        "dropped": dropped,
        "rejected_role": {role: int((rejected == code).sum()) for code, role in enumerate(ROLES)},
        "kept_against_dropped": _kept_against_dropped(domain, here),
    }


def _kept_against_dropped(domain: Domain, here: np.ndarray) -> dict[str, dict[str, dict[str, int]]]:
    """Kept and dropped scenes of one split by K, as-of count of the truth (terciles of the split) and hit rate."""
    kept = domain.outcome == KEPT
    popularity, rate = domain.scenes["popularity"], domain.scores["teacher_hit_rate"]
    low, high = np.quantile(popularity[here], [1 / 3, 2 / 3]) if here.any() else (0.0, 0.0)
    k = domain.scenes["n_options"]
    factors = {
        "n_options": {str(n): k == n for n in np.unique(k[here])},
        "truth_asof_count": {
            f"low (to {low:g})": popularity <= low,
            f"middle (to {high:g})": (popularity > low) & (popularity <= high),
            f"high (above {high:g})": popularity > high,
        },
        "teacher_hit_rate": {
            "0": rate == 0,
            "above 0 to 1/3": (rate > 0) & (rate <= 1 / 3),
            "above 1/3 to 2/3": (rate > 1 / 3) & (rate <= 2 / 3),
            "above 2/3": rate > 2 / 3,
            "no decision": np.isnan(rate),
        },
    }
    return {
        factor: {
            level: {"kept": int((here & at & kept).sum()), "dropped": int((here & at & ~kept).sum())}
            for level, at in levels.items()
        }
        for factor, levels in factors.items()
    }


def _models(found: set[Model]) -> list[dict[str, str]]:
    return [{"model": model, "revision": revision} for model, revision in sorted(found)]
