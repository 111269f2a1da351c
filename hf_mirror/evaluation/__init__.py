"""`mirror evaluate`: a model on a benchmark, one results file per subset out.

The model runs inside lighteval, in a process of its own: lighteval turns gradients off, seeds global generators and
sets up logging at import. What is evaluated is pinned first (model files and benchmark rows, both as folders), so
that the run itself needs no network, and what lighteval leaves lies in a folder that goes away with it. Answers are
journalled beside the results until these are there, so that a run that was killed goes on where it was.
"""

from __future__ import annotations

import os
import platform
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hf_mirror import __version__, weights
from hf_mirror.alignment import Row, score
from hf_mirror.backends.tokens import Chat
from hf_mirror.errors import ConfigError
from hf_mirror.evaluation.answers import MODES
from hf_mirror.evaluation.benchmark import KEY, Bench, open_bench
from hf_mirror.evaluation.running import Job, ask
from hf_mirror.files import sha256_file, write_json, write_rows
from hf_mirror.identity import digest
from hf_mirror.schema import DECISION, PREDICTION

__all__ = ["Bench", "evaluate", "open_bench"]

PACKAGES = ("lighteval", "transformers", "torch", "datasets", "numpy")
ENGINES = ("transformers", "vllm", "openai")


@dataclass(frozen=True)
class Pinned:
    """A model and the exact version of it that answers. `parameters` is None where a server does not say."""

    name: str
    where: str
    revision: str | None
    parameters: int | None

    @classmethod
    def of(cls, model: str, revision: str | None, backend: str) -> Pinned:
        """`model` is a folder or a Hub id, `@revision` allowed; for `openai`, what the server calls it."""
        if backend == "openai":
            return cls(model, model, revision, None)
        if not Path(model).is_dir() and revision is None:
            model, _, written = model.partition("@")
            revision = written or None
        folder, revision = weights.resolve(model, revision)
        adapter = (folder / "adapter_config.json").is_file()
        weights.causal_lm_config(weights.resolve_base(folder)[0] if adapter else folder, model)
        Chat(folder, model)  # what it would refuse, it refuses here, before lighteval starts
        return cls(model, str(folder), revision, weights.parameters(folder))


def evaluate(
    model: str,
    revision: str | None,
    bench: str,
    subset: str | None,
    out: Path,
    *,
    mode: str = "direct",
    backend: str = "transformers",
    seed: int = 0,
    dtype: str = "float32",
) -> list[dict[str, Any]]:
    """Scores `model` (folder or Hub id, `@revision` allowed) on a subset of `bench`, or on all of them.

    Writes `out/<subset>.json`, which is also returned, `out/<subset>.predictions.parquet` and `out/lighteval.log`; in
    `rationale` mode `out/<subset>.rationale.json` and so on, and the decisions beside. `seed` is the bootstrap's.
    Float32 by default, because bfloat16 keeps three digits. Raises DataError or HubError for a model that is no causal
    language model, a bench or revision that is not there, and empty subsets.
    """
    if backend not in ENGINES:
        raise ConfigError(f"backend {backend!r} cannot be evaluated; choose one of {', '.join(ENGINES)}")
    if mode not in MODES:
        raise ConfigError(f"mode {mode!r} is not known; choose one of {', '.join(MODES)}")
    opened = open_bench(bench)
    parts = {name: opened.rows(name) for name in ([subset] if subset else opened.subsets)}
    pinned = Pinned.of(model, revision, backend)
    out.mkdir(parents=True, exist_ok=True)
    job = Job(pinned.where, pinned.name, pinned.revision if backend == "openai" else None, backend, mode, dtype)
    work = digest(pinned.revision, backend, mode, dtype, *(revision for _, revision in parts.values()))
    journal = out / ".unfinished" / f"{work[:16]}.jsonl"
    started = time.monotonic()
    found = ask(job, {name: rows for name, (rows, _) in parts.items()}, out / "lighteval.log", journal)
    about = {
        "model": pinned.name,
        "model_revision": pinned.revision or found["revision"],
        "model_parameters": pinned.parameters,
        "bench": bench,
        "mode": mode,
        "backend": backend,
        "seed": seed,
        "dtype": dtype if backend == "transformers" else None,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "hardware": {"device": found["device"], "cores": os.cpu_count()},
        "code_version": __version__,
        "seconds": round(time.monotonic() - started, 1),
    }
    by_key = {_key(record["row"]): record for record in found["records"]}
    results = []
    for name, (rows, bench_revision) in parts.items():
        records = [by_key[_key(row)] for row in rows]
        results.append(_write(out, name, rows, records, about | {"bench_revision": bench_revision}))
    journal.unlink(missing_ok=True)
    return results


def _key(row: Row) -> tuple[str, ...]:
    return tuple(row[name] for name in (*KEY, "regime"))


def _write(out: Path, subset: str, rows: Sequence[Row], records: Sequence[Row], about: Row) -> Row:
    """Predictions, decisions and the results that are made of them; the results come last, so that they are whole."""
    stem = subset if about["mode"] == "direct" else f"{subset}.{about['mode']}"
    keys = [{name: row[name] for name in ("scene_id", "variant_id")} for row in rows]
    predictions = out / f"{stem}.predictions.parquet"
    shown = [{"choice_probs": record["choice_probs"], "failure": record["failure"] or None} for record in records]
    write_rows(predictions, [key | each for key, each in zip(keys, shown, strict=True)], PREDICTION)
    if about["mode"] == "rationale":
        decisions = [
            {**key, "sample_index": index, **decision}
            for key, record in zip(keys, records, strict=True)
            for index, decision in enumerate(record["decisions"])
        ]
        write_rows(out / f"{stem}.decisions.parquet", decisions, DECISION)
    result = {
        **about,
        "subset": subset,
        "domain": rows[0]["domain"],
        **score(rows, [record["choice_probs"] for record in records], seed=about["seed"]),
        "failures": dict(Counter(record["failure"] for record in records if record["failure"])),
        "predictions_sha256": sha256_file(predictions),
    }
    if about["mode"] == "rationale":
        from hf_mirror.evaluation.thoughts import thoughts

        result["rationale"] = thoughts(rows, [record["decisions"] for record in records])
    write_json(out / f"{stem}.json", result)
    return result
