"""Whole processes, raw files to benchmark rows: `make bench`. Median of runs; wall seconds and peak memory of each.

Reads the real MovieLens slice where MIRROR_REAL_DATA names a folder with ml-1m, else the made-up sample.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import MIRROR, measure

RUNS = 3
SCENES = 5000


def main() -> None:
    """Prints one line per stage."""
    real = os.environ.get("MIRROR_REAL_DATA")
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(real) / "ml-1m" if real else Path(folder) / "raw"
        if not real:
            print("MIRROR_REAL_DATA is not set: measuring the made-up sample")
            sample = [sys.executable, "-m", "dataset_builders.sample.movielens", str(raw), "--users", "2000"]
            subprocess.run(sample, check=True)
        run = str(Path(folder) / "run")
        engine = ["--backend", "template", "--model"]
        stages = {
            "build": ["build", "movielens", "--raw", str(raw), "--out", run, "--scenes", str(SCENES)],
            "teacher writes": ["rationales", run, "--role", "teacher", *engine, "teacher"],
            "student writes": ["rationales", run, "--role", "student", *engine, "student"],
            "reader reads": ["read", run, *engine, "reader"],
            "distill": ["distill", run],
            "bench": ["bench", run],
        }
        print(f"{'stage':<16} {'seconds':>8} {'peak MiB':>9}   {SCENES} scenes, median of {RUNS} runs")
        for name, arguments in stages.items():
            figures = []
            for _ in range(RUNS):
                if name in ("teacher writes", "student writes", "reader reads"):
                    kind = "readings" if name == "reader reads" else f"rationales/{name.split()[0]}"
                    subprocess.run(["rm", "-rf", f"{run}/movielens/{kind}"], check=True)
                figures.append(measure([MIRROR, *arguments]))
            seconds, memory = (statistics.median(column) for column in zip(*figures, strict=True))
            print(f"{name:<16} {seconds:>8.2f} {memory:>9.0f}")


if __name__ == "__main__":
    main()
