"""Whole processes, by the operating system's own account of each."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

MIRROR = str(Path(sys.executable).with_name("mirror"))


def measure(command: list[str]) -> tuple[float, float]:
    """Wall seconds and peak resident MiB of one process (the largest, where it has children)."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return time.perf_counter() - begin, usage.ru_maxrss / 1024


def medians(command: list[str], runs: int) -> tuple[float, float]:
    """The median of each figure over some runs, after one that does not count where there are several."""
    if runs > 1:
        measure(command)
    seconds, memory = zip(*(measure(command) for _ in range(runs)), strict=True)
    return statistics.median(seconds), statistics.median(memory)
