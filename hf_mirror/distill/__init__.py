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

import shutil
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hf_mirror.distill.decisions import Model, counts
from hf_mirror.distill.page import page
from hf_mirror.distill.probe import gives_away, probe, thoughts
from hf_mirror.distill.report import points, split_report
from hf_mirror.distill.rows import pairs, rescued
from hf_mirror.distill.scoring import KEPT, Domain, score_domain
from hf_mirror.distill.selection import NEEDS, RULES, select
from hf_mirror.errors import ConfigError, DataError
from hf_mirror.files import read_json, write_json, write_rows
from hf_mirror.locking import only_one
from hf_mirror.rationales.shards import ROLES, SPLITS, domain_folders
from hf_mirror.schema import PAIR, RESCUED

Tables = dict[Path, dict[str, pa.Table]]  # by domain folder and split

REPORT, PAGE = "preferences.json", "preferences.html"
UNFINISHED = ".distilling"
VALIDATION_SHARE = 0.1
WARNING = (
    "chosen and rejected thoughts are told apart without the scene in {:.0f} % of pairs: what is learned from them may "
    "be whose writing it is; compare with --rejected-role teacher"
)


def distill(
    directory: Path,
    *,
    rule: str = "uncertainty_gap",
    size: int = 10_000,
    seed: int = 0,
    rejected_role: str = "either",
    rescue: bool = False,
) -> dict[str, Any]:
    """Writes `<domain>/preferences/{train,validation}.parquet` (schema.PAIR), `preferences.json`, which it returns, and
    `preferences.html`, which shows it.

    `size` train pairs are picked over all domains together, by quotas per (domain, K) proportional to the scenes that
    have decisions of both roles, so that every rule meets the same domain × K mix. What a short group cannot give goes
    to the others. Validation takes up to a tenth of `size` more, by the same quotas. Nothing is written on an error.

    `rejected_role` says whose wrong decisions may be rejected: `either` role's, the `teacher`'s (then both sides of a
    pair are written alike) or the `student`'s. With `rescue`, scenes that the teacher never hits are kept as direct
    rows for SFT, in `<domain>/rescued/` (schema.RESCUED): without them a student learns from the plausible alone.

    Raises DataError where rationales are missing or belong to other scenes, readings are missing or contradict their
    rationales, the roles were read by different readers, or no scene gives a pair; ConfigError for settings.
    """
    _check(rule, rejected_role, size)
    with only_one(directory / UNFINISHED, f"another distillation is at work in {directory}; wait until that is done"):
        return _distill(directory, rule, size, seed, rejected_role, rescue)


def _distill(directory: Path, rule: str, size: int, seed: int, rejected_role: str, rescue: bool) -> dict[str, Any]:
    domains = [score_domain(folder, rejected_role) for folder in domain_folders(directory)]
    readers = _models({reader for d in domains for reader in d.readers})
    if len(readers) > 1:
        raise DataError(
            f"{directory} was read by different readers {readers}; run `mirror read` with one for all roles"
        )
    for domain in domains:
        score, command = NEEDS.get(rule, ("n_options", ""))
        if np.isnan(domain.scores[score]).all() and (domain.outcome == KEPT).any():
            raise DataError(f"{domain.folder / 'readings'} holds nothing for rule {rule!r}; run `{command}` again")
    sizes = {"train": size, "validation": round(size * VALIDATION_SHARE)}
    quotas = [quota for split in SPLITS for quota in select(domains, split, sizes[split], rule, seed)]
    if not any(row["quota"] for row in quotas if row["split"] == "train"):
        lost = counts(np.concatenate([d.outcome[d.scenes["split"] == "train"] for d in domains]))
        raise DataError(f"no train scene in {directory} gives a pair under rule {rule!r}: {lost}; write more decisions")
    rows = {d.folder: pairs(d, rule) for d in domains}
    others = {d.folder: {split: rescued(d, split) for split in SPLITS} for d in domains} if rescue else {}
    report = {
        "rule": rule,
        "size": size,
        "validation_size": sizes["validation"],
        "seed": seed,
        "rejected_role": rejected_role,
        "entropy_unit": "share of log2 K",
        "reader": readers[0],
        **_report(domains, quotas, rows, others),
    }
    _write(directory, report, page(report, {d.folder.name: points(d) for d in domains}), rows, others)
    return report


def _check(rule: str, rejected_role: str, size: int) -> None:
    for name, value, known in (("rule", rule, RULES), ("rejected_role", rejected_role, ("either", *ROLES))):
        if value not in known:
            near = get_close_matches(value, known, n=1, cutoff=0.0)
            raise ConfigError(f"{name} {value!r} is not known; did you mean {near[0]!r}? Known: {', '.join(known)}")
    if size < 1:
        raise ConfigError(f"size is {size}; expected at least 1 pair")


def _report(domains: list[Domain], quotas: list[dict[str, Any]], rows: Tables, others: Tables) -> dict[str, Any]:
    """What became of all scenes of all domains."""
    found = {}
    for domain in domains:
        splits = {split: split_report(domain, split) for split in SPLITS}
        for split, part in splits.items():
            part["rescued"] = others[domain.folder][split].num_rows if others else 0
        found[domain.folder.name] = splits | domain.report
        quality = domain.folder / "quality.json"
        if quality.is_file():
            found[domain.folder.name]["quality"] = read_json(quality)
    told = probe([thoughts(rows[d.folder]["train"]) for d in domains])
    return {
        "generators": {role: _models({d.writers[role] for d in domains}) for role in ROLES},
        "pairs": {split: sum(row["quota"] for row in quotas if row["split"] == split) for split in SPLITS},
        "domains": found,
        "quotas": quotas,
        "scene_blind_probe": told,
        "warnings": [WARNING.format(100 * told["accuracy"])] if gives_away(told) else [],
    }


def _write(directory: Path, report: dict[str, Any], shown: str, rows: Tables, others: Tables) -> None:
    """All files or none: they are written elsewhere first, and the report, which says what they are, goes first and
    comes last."""
    aside = directory / UNFINISHED / "files"
    shutil.rmtree(aside, ignore_errors=True)
    files = [f"{folder.name}/preferences/{split}.parquet" for folder in rows for split in SPLITS]
    files += [f"{folder.name}/rescued/{split}.parquet" for folder in others for split in SPLITS]
    try:
        for room, tables, schema in (("preferences", rows, PAIR), ("rescued", others, RESCUED)):
            for folder, by_split in tables.items():
                for split, table in by_split.items():
                    write_rows(aside / folder.name / room / f"{split}.parquet", table, schema)
        (aside / PAGE).write_text(shown, encoding="utf-8")
        (directory / REPORT).unlink(missing_ok=True)
        if not others:
            for folder in rows:
                shutil.rmtree(folder / "rescued", ignore_errors=True)
        for file in (*files, PAGE):
            (directory / file).parent.mkdir(exist_ok=True)
            (aside / file).replace(directory / file)
        write_json(directory / REPORT, report)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _models(found: set[Model]) -> list[dict[str, str]]:
    return [{"model": model, "revision": revision} for model, revision in sorted(found)]
