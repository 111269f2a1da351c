"""What each rule keeps of one run, as a Markdown table.

RUN holds rationales of both roles, read with `mirror read --ifd`. Every rule meets the same quotas per domain and K, so
the rows differ by the rule alone; SIZE (default: a third of the scenes that have a pair) leaves it something to choose.
Works on a copy: the run's own pairs stay.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from hf_mirror.distill import distill
from hf_mirror.distill.selection import RULES
from hf_mirror.errors import DataError, MirrorError
from hf_mirror.files import read_rows
from hf_mirror.rationales import domain_folders

HEAD = (
    "rule", "pairs", "teacher hits, %", "gap of uncertainty", "direct entropy", "IFD", "rejected by the teacher, %",
    "truth is popular, %", "words of chosen", "shared with uncertainty_gap, %",
)  # fmt: skip


def main(run: Path, size: int | None) -> None:
    """Prints the table."""
    counts: dict[str, list[int]] = {
        row["scene_id"]: [option["asof_count"] for option in row["exposure"]][row["choice_index"] :][:1]
        for folder in domain_folders(run)
        for row in read_rows(folder / "scenes" / "train.parquet")
    }
    popular = float(np.quantile([count for (count,) in counts.values()], 2 / 3))
    everything = distill(run, rule="random", size=10**9)
    size = size or everything["pairs"]["train"] // 3
    rules = [*(rule for rule in RULES if rule != "uncertainty_gap"), "uncertainty_gap"]
    kept = {}
    for rule in rules:
        try:
            distill(run, rule=rule, size=size)
        except DataError as error:
            kept[rule] = str(error)
            continue
        kept[rule] = [
            row for folder in domain_folders(run) for row in read_rows(folder / "preferences" / "train.parquet")
        ]
    best = {row["scene_id"] for row in kept["uncertainty_gap"]}
    print(f"{everything['pairs']['train']:,} train scenes have a pair; each rule keeps up to {size:,}.\n")
    print(f"| {' | '.join(HEAD)} |\n|---|{'---:|' * (len(HEAD) - 1)}")
    for rule in rules[::-1]:
        if isinstance(kept[rule], str):
            print(f"| `{rule}` | {kept[rule]} |")
            continue
        rows: list[Any] = kept[rule]
        score = {name: np.array([row["scores"][name] for row in rows], float) for name in rows[0]["scores"]}
        figures = (
            f"{len(rows):,}",
            f"{100 * score['teacher_hit_rate'].mean():.1f}",
            f"{score['uncertainty_gap'].mean():+.3f}",
            f"{score['direct_entropy'].mean():.3f}",
            f"{np.nanmean(score['chosen_ifd']):.3f}" if not np.isnan(score["chosen_ifd"]).all() else "–",
            f"{100 * np.mean([row['rejected_role'] == 'teacher' for row in rows]):.1f}",
            f"{100 * np.mean([counts[row['scene_id']][0] > popular for row in rows]):.1f}",
            f"{np.mean([len(row['chosen'][0]['content'].split()) for row in rows]):.1f}",
            f"{100 * np.mean([row['scene_id'] in best for row in rows]):.1f}",
        )
        print(f"| `{rule}` | {' | '.join(figures)} |")


if __name__ == "__main__":
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("run", type=Path, metavar="RUN", help="a run folder")
    command.add_argument("size", type=int, nargs="?", metavar="SIZE", help="train pairs that every rule keeps")
    options = command.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            for domain in domain_folders(options.run):
                shutil.copytree(domain, Path(scratch) / domain.name, ignore=shutil.ignore_patterns("*.set-aside-*"))
            main(Path(scratch), options.size)
        except MirrorError as error:
            sys.exit(f"error: {error}")
