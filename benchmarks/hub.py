"""The offline Hub with its real client over loopback: `benchmarks/hub.py [transfer] [dataset] [small] [many]`.

- transfer: a file of 500 MB up and down, through xet and without, beside `cp` of it; the server's peak memory.
- dataset: 100,000 rows as Parquet, published by `upload_file` and loaded by `load_dataset`.
- small: one small commit, and repo info, over and over.
- many: 10,000 files in one repo: commit, tree, info.

Clients are processes of their own that time the call, imports aside; every run has a new Hub, a new HF_HOME and medians
are of RUNS. Works below the folder for temporary files (TMPDIR): how fast its disk is shows in `cp`.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hf_mirror.hub import EmbeddedHub

RUNS, SIZE, ROWS, FILES, REPEATS = 3, 500_000_000, 100_000, 10_000, 200

TIMED = """
import statistics, sys, time
from huggingface_hub import CommitOperationAdd, HfApi
api = HfApi()
def timed(call, *arguments, **more):
    begin = time.perf_counter()
    found = call(*arguments, **more)
    print(time.perf_counter() - begin)
    return found
def repeated(call, times):
    seconds = []
    for number in range(times):
        begin = time.perf_counter()
        call(number)
        seconds.append(time.perf_counter() - begin)
    print(statistics.median(seconds))
"""
UP = """
api.create_repo("bench/repo", exist_ok=True)
timed(api.upload_file, path_or_fileobj=sys.argv[1], path_in_repo="data.bin", repo_id="bench/repo")
"""
DOWN = """timed(api.hf_hub_download, "bench/repo", "data.bin")"""
PUBLISH = """
api.create_repo("bench/rows", repo_type="dataset")
timed(api.upload_file, path_or_fileobj=sys.argv[1], path_in_repo="data/train.parquet", repo_id="bench/rows",
      repo_type="dataset")
"""
LOAD = """
from datasets import load_dataset
import pandas, pyarrow.dataset
assert timed(load_dataset, "bench/rows", split="train").num_rows == int(sys.argv[1])
"""
SMALL = """
api.create_repo("bench/small")
def commit(number):
    adds = [CommitOperationAdd("file.txt", str(number).encode())]
    api.create_commit("bench/small", adds, commit_message="small")
repeated(commit, int(sys.argv[1]))
repeated(lambda number: api.model_info("bench/small"), int(sys.argv[1]))
import httpx, json
web = httpx.Client(base_url=f"{api.endpoint}/api/models/bench/small")
def post(number):
    file = {"path": "file.txt", "content": f"again {number}", "encoding": "utf-8"}
    lines = [{"key": "header", "value": {"summary": "small"}}, {"key": "file", "value": file}]
    assert web.post("/commit/main", content=chr(10).join(map(json.dumps, lines))).status_code == 200
repeated(post, int(sys.argv[1]))
repeated(lambda number: web.get("/revision/main"), int(sys.argv[1]))
"""
MANY = """
files = int(sys.argv[1])
api.create_repo("bench/many")
adds = [CommitOperationAdd(f"{n % 100:02d}/{n:05d}.txt", b"%d" % n) for n in range(files)]
timed(api.create_commit, "bench/many", adds, commit_message="many")
assert len(timed(lambda: list(api.list_repo_tree("bench/many", recursive=True)))) == files + 101
assert len(timed(api.model_info, "bench/many", files_metadata=True).siblings) == files + 1
def one(number):
    api.upload_file(path_or_fileobj=b"%d" % number, path_in_repo="new.txt", repo_id="bench/many")
repeated(one, 20)
"""


def client(hub: EmbeddedHub, home: str, code: str, *arguments: object, xet: bool = True) -> list[float]:
    """What the client prints: seconds."""
    environment = os.environ | {
        "HF_ENDPOINT": hub.url, "HF_HOME": home, "HF_TOKEN": "any", "HF_HUB_DISABLE_XET": str(int(not xet)),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    }  # fmt: skip
    command = [sys.executable, "-c", TIMED + code, *map(str, arguments)]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return [float(line) for line in done.stdout.split()]


def peak(hub: EmbeddedHub) -> float:
    """Peak resident MiB of the server so far."""
    assert hub._process is not None
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{hub._process.pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def runs(scratch: Path, *clients: tuple, xet: bool = True) -> list[float]:
    """The median of every figure of some clients, one after the other on one Hub; last the server's peak."""
    rows = []
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory(dir=scratch) as folder, EmbeddedHub(Path(folder) / "root") as hub:
            row = [
                seconds for code, *given in clients for seconds in client(hub, f"{folder}/home", code, *given, xet=xet)
            ]
            rows.append([*row, peak(hub)])
    return [statistics.median(column) for column in zip(*rows, strict=True)]


def copying(path: Path) -> float:
    """Seconds of `cp` of a file to its own folder."""
    seconds = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        subprocess.run(["cp", path, f"{path}.copy"], check=True)
        seconds.append(time.perf_counter() - begin)
        Path(f"{path}.copy").unlink()
    return statistics.median(seconds)


def transfer(scratch: Path) -> None:
    """Megabytes a second, and how often as long as `cp` takes."""
    path = scratch / "data.bin"
    with path.open("wb") as file:
        for _ in range(SIZE // 1_000_000):
            file.write(os.urandom(1_000_000))
    alone = copying(path)
    print(f"cp: {alone:.2f} s, {SIZE / 1e6 / alone:.0f} MB/s")
    for name, xet in (("xet", True), ("LFS", False)):
        up, down, memory = runs(scratch, (UP, path), (DOWN,), xet=xet)
        for way, seconds in (("up", up), ("down", down)):
            print(f"{name} {way}: {seconds:.2f} s, {SIZE / 1e6 / seconds:.0f} MB/s, {seconds / alone:.1f} times cp")
        print(f"{name}: server's peak {memory:.0f} MiB")


def dataset(scratch: Path) -> None:
    """Seconds to publish and to load."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(0)
    words = np.array([f"word{n}" for n in range(5000)])
    text = [" ".join(row) for row in rng.choice(words, (ROWS, 20))]
    path = scratch / "train.parquet"
    frame = pl.DataFrame(
        {"id": range(ROWS), "text": text, "score": rng.random(ROWS), "group": rng.integers(0, 50, ROWS)}
    )
    frame.write_parquet(path)
    for name, xet in (("xet", True), ("LFS", False)):
        publish, load, _ = runs(scratch, (PUBLISH, path), (LOAD, ROWS), xet=xet)
        print(f"{ROWS:,} rows, {path.stat().st_size / 1e6:.0f} MB, {name}: up {publish:.2f} s, loaded {load:.2f} s")


def small(scratch: Path) -> None:
    """Medians of one call, with what the client adds and without."""
    commit, info, posted, got, _ = runs(scratch, (SMALL, REPEATS))
    print(f"create_commit of one small file: {1000 * commit:.1f} ms; its request alone: {1000 * posted:.1f} ms")
    print(f"model_info: {1000 * info:.1f} ms; its request alone: {1000 * got:.1f} ms (p50 of {REPEATS})")


def many(scratch: Path) -> None:
    """Seconds of a commit, a whole tree, and info, of many files; and of a commit beside them."""
    commit, tree, info, one, memory = runs(scratch, (MANY, FILES))
    print(f"{FILES:,} files: commit {commit:.2f} s, tree {tree:.2f} s, info {info:.2f} s, one more {1000 * one:.0f} ms")
    print(f"{FILES:,} files: server's peak {memory:.0f} MiB")


PARTS = {"transfer": transfer, "dataset": dataset, "small": small, "many": many}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            PARTS[part](Path(folder))
