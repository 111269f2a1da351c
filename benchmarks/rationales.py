"""What the stages of rationales cost beside their engines: `benchmarks/rationales.py [distill] [overhead] [joining]`.

- distill: `mirror distill` of 16,384 scenes with 20 decisions each, the whole process (the prior art: 27.9 s, 1.16 GB).
- overhead: `mirror rationales` against its bare engine on the same requests, in one process, with the shape of
  recipes/small and random weights. ENGINE names it (transformers; vllm in its own environment).
- joining: the engine `transformers` with continuous batching against batch after batch, on answers that end at random
  (after 63 of 96 tokens in the mean).

Scenes are those of the full-scale file in MIRROR_REAL_DATA, or of a made-up sample.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from measure import MIRROR, medians

if TYPE_CHECKING:
    from hf_mirror.backends import Request

SCENES = 18_205  # of which nine tenths have decisions: 16,384 and one
OVERHEAD_SCENES, SAMPLES, TOKENS, RUNS = 100, 4, 96, 3


def mirror(*arguments: object) -> None:
    """A command, to its end."""
    subprocess.run([MIRROR, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def build(scratch: Path, scenes: int) -> Path:
    """A run folder with scenes."""
    real = os.environ.get("MIRROR_REAL_DATA")
    if real:
        with tarfile.open(Path(real) / "ml-1m-fullscale-SYNTHETIC.tar.gz") as archive:
            archive.extractall(scratch / "raw", filter="data")
        raw = next((scratch / "raw").rglob("ratings.dat")).parent
    else:
        raw = scratch / "raw"
        sample = [sys.executable, "-m", "dataset_builders.sample.movielens", str(raw), "--users", "6000"]
        subprocess.run(sample, check=True)
    mirror("build", "movielens", "--raw", raw, "--out", scratch / "run", "--scenes", scenes, "--regime", "mixed")
    return scratch / "run"


def distill(scratch: Path) -> None:
    """The whole process, with what it imports."""
    run = build(scratch, SCENES)
    for role in ("teacher", "student"):
        mirror("rationales", run, "--role", role, "--backend", "template", "--model", role)
    mirror("read", run, "--backend", "template", "--model", "reader")
    seconds, memory = medians([MIRROR, "distill", str(run)], 5)
    print(f"distill, 327,700 decisions: {seconds:.2f} s, {memory:.0f} MiB, median of 5", flush=True)


def overhead(scratch: Path) -> None:
    """Seconds of the bare engine, and of the stage around it."""
    from hf_mirror import backends, rationales

    engine = os.environ.get("ENGINE", "transformers")
    run = build(scratch, OVERHEAD_SCENES)
    settings = rationales.WriteSettings(n=SAMPLES, max_tokens=TOKENS)
    requests, folder = requests_and_model(scratch, run)
    backend = backends.load(engine, folder)
    list(backend.generate(requests[:8]))  # what is compiled or allocated once
    bare, staged = [], []
    for turn in range(RUNS):
        begin = time.perf_counter()
        tokens = sum(answer.tokens for answer in backend.generate(requests))
        bare.append(time.perf_counter() - begin)
        subprocess.run(["rm", "-rf", str(run / "movielens" / "rationales")], check=True)
        begin = time.perf_counter()
        rationales.write(run, "teacher", backend, settings)
        staged.append(time.perf_counter() - begin)
        print(f"  run {turn + 1}: engine {bare[-1]:.2f} s, stage {staged[-1]:.2f} s", flush=True)
    alone, whole = statistics.median(bare), statistics.median(staged)
    ratio = statistics.median(stage / engine for stage, engine in zip(staged, bare, strict=True))
    print(
        f"{engine}: {len(requests)} scenes, {tokens:,} tokens: engine {alone:.2f} s ({tokens / alone:,.0f} tokens/s), "
        f"stage {whole:.2f} s, overhead {100 * (ratio - 1):+.1f} %, the median of {RUNS} pairs of runs"
    )


def joining(scratch: Path) -> None:
    """Seconds with waiting samples taking the places of those that ended, and without."""
    from hf_mirror.backends.transformers import TransformersBackend

    requests, folder = requests_and_model(scratch, build(scratch, OVERHEAD_SCENES))
    backend = TransformersBackend(folder)
    backend._stop |= set(range(0, len(backend._chat.tokenizer), 100))
    list(backend.generate(requests[:8]))
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(2 * RUNS):
        joins = turn % 2 == 0
        backend._continuous = joins
        begin = time.perf_counter()
        tokens = sum(answer.tokens for answer in backend.generate(requests))
        seconds[joins].append(time.perf_counter() - begin)
    one, other = (statistics.median(seconds[joins]) for joins in (True, False))
    print(
        f"joining: {len(requests)} prompts, {tokens:,} tokens: {one:.2f} s continuous ({tokens / one:,.0f} tokens/s), "
        f"{other:.2f} s batch after batch, {other / one:.2f} times, median of {RUNS}"
    )


def requests_and_model(scratch: Path, run: Path) -> tuple[list[Request], str]:
    """What the stage would ask about the scenes of a run, and a model that knows their words."""
    from hf_mirror import identity, rationales
    from hf_mirror.backends import Request
    from hf_mirror.prompts import rationale_messages
    from hf_mirror.rationales.shards import shards

    requests = [
        Request(
            scene["scene_id"], rationale_messages(scene["prompt"]), n=SAMPLES, max_tokens=TOKENS,
            seeds=tuple(identity.seed(0, scene["scene_id"], "teacher", k) for k in range(SAMPLES)),
        )
        for folder in rationales.domain_folders(run)
        for shard in shards(folder)
        for scene in shard.scenes()
    ]  # fmt: skip
    return requests, str(model(scratch, [request.messages[-1]["content"] for request in requests]))


def model(scratch: Path, texts: list[str]) -> Path:
    """A causal LM of the shape of recipes/small, with random weights, a tokenizer of these texts, a chat template."""
    from hf_mirror.files import read_json
    from recipes import scratch as recipe

    shape = read_json(Path(recipe.__file__).parent / "small" / "model.json") | {"initializer_range": 0.2}
    tokenizer = recipe.train_tokenizer(texts, shape["vocab_size"], shape["max_position_embeddings"])
    recipe.random_model(shape, tokenizer, seed=1).save_pretrained(scratch / "model")
    tokenizer.save_pretrained(scratch / "model")
    return scratch / "model"


PARTS = {"distill": distill, "overhead": overhead, "joining": joining}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            PARTS[part](Path(folder))
