"""Scores a model on a benchmark: predictions of lighteval in, one results file per domain out.

The model runs inside lighteval, in a process of its own: lighteval turns gradients off, seeds global generators and
sets up logging at import. What is evaluated is pinned first (model files and benchmark rows, both as folders), so
that the run itself needs no network, and every cache of the run lies in a folder that goes away with it: lighteval's
sample cache is keyed by the model's path and not by its weights.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hf_mirror import PROJECT, __version__, weights
from hf_mirror.alignment import SCORED_COLUMNS, Row, score
from hf_mirror.errors import ConfigError, DataError, HubError
from hf_mirror.files import read_json, read_rows, sha256_file, write_json, write_rows
from hf_mirror.progress import progress
from hf_mirror.schema import BENCH, PREDICTION
from hf_mirror.sealing import NOTE

KEY = ("domain", "scene_id", "variant_id")
PACKAGES = ("lighteval", "transformers", "torch", "datasets", "numpy")
SCORING_BAR = re.compile(r"[\s\x1b\[A]*\d+%\|[^|]*\| (\d+)/(\d+) \[")  # the others begin with a title
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


# What is scored


@dataclass(frozen=True)
class Bench:
    """A benchmark at one revision: a Hub dataset with one subset per domain, or a folder of `<domain>.parquet`."""

    name: str
    domains: tuple[str, ...]
    repo: str | None = None
    revision: str | None = None
    files: dict[str, Path] = field(default_factory=dict)

    def rows(self, domain: str) -> tuple[list[Row], str]:
        """The rows of one domain, and the revision that names them (commit, or SHA-256 of the file)."""
        if domain not in self.domains:
            raise DataError(f"{self.name} has no domain {domain!r}; it has {', '.join(self.domains)}")
        if self.repo is None:
            rows, revision = read_rows(self.files[domain]), f"sha256:{sha256_file(self.files[domain])}"
        else:
            from datasets import load_dataset

            with _hub_errors(f"dataset {self.name}, subset {domain}"):
                rows = list(load_dataset(self.repo, domain, revision=self.revision, split="test"))
            revision = str(self.revision)
        if not rows:
            raise DataError(f"{self.name} has no rows for {domain}; expected benchmark rows; run `mirror bench` again")
        missing = [name for name in (*SCORED_COLUMNS, "prompt", "choices") if name not in rows[0]]
        if "row_hmac" in rows[0]:
            raise DataError(
                f"{self.name} ({domain}) is closed-tier and holds no text; run `mirror rehydrate` with your own raw "
                "files and give --bench its folder"
            )
        if missing:
            raise DataError(f"{self.name} ({domain}) has no column {missing[0]!r}; expected rows of `mirror bench`")
        repeated = [key for key, n in Counter(tuple(row[column] for column in KEY) for row in rows).items() if n > 1]
        if repeated:
            raise DataError(f"{self.name} has {'/'.join(repeated[0])} more than once; expected one row per variant")
        return rows, revision


def open_bench(reference: str) -> Bench:
    """The benchmark `<ns>/<repo>[@revision]`, a folder of `<domain>.parquet`, a run's folder that holds `bench/`, or
    what `mirror rehydrate` made."""
    folder = Path(reference)
    if folder.is_dir():
        folder = folder / "bench" if (folder / "bench").is_dir() else folder
        if (folder / NOTE).is_file():
            files = {path.parent.name: path for path in sorted(folder.glob("*/test.parquet"))}
        else:
            files = {path.stem: path for path in sorted(folder.glob("*.parquet"))}
        if not files:
            raise DataError(f"{folder} holds no <domain>.parquet; run `mirror bench` on its run folder first")
        return Bench(reference, tuple(files), files=files)
    repo, _, revision = reference.partition("@")
    if not HUB_ID.fullmatch(repo):
        raise DataError(f"bench {reference!r} is neither a folder nor a Hub dataset; expected <ns>/<repo>@<revision>")
    from datasets import get_dataset_config_names
    from huggingface_hub import HfApi

    with _hub_errors(f"dataset {reference}"):
        commit = HfApi().dataset_info(repo, revision=revision or None).sha
        domains = get_dataset_config_names(repo, revision=commit)
    return Bench(reference, tuple(domains), repo=repo, revision=commit)


@contextmanager
def _hub_errors(what: str) -> Iterator[None]:
    from huggingface_hub.utils import httpx  # the client's own: httpx2 from 2.0 on

    try:
        yield
    except (OSError, ValueError, httpx.HTTPError) as error:
        endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise HubError(
            f"{what} could not be read from {endpoint} ({reason}); check the name and the revision"
        ) from None


# The run


def evaluate(
    model: str,
    revision: str | None,
    bench: str,
    domain: str | None,
    out: Path,
    *,
    batch_size: int | None = None,
    seed: int = 0,
    dtype: str = "float32",
) -> list[dict[str, Any]]:
    """Scores `model` (folder or Hub id, `@revision` allowed) on a domain of `bench`, or on all of them.

    Writes `out/<domain>.json`, which is also returned, `out/<domain>.predictions.parquet` and `out/lighteval.log`.
    `batch_size` counts sequences (None: as memory allows), `seed` is the bootstrap's. Float32 by default, because
    lighteval takes the log-softmax in the model's own type and bfloat16 keeps three digits. Raises DataError or
    HubError for a model that is no causal language model, a bench or revision that is not there, and empty domains.
    """
    opened = open_bench(bench)
    parts = {name: opened.rows(name) for name in ([domain] if domain else opened.domains)}
    if not Path(model).is_dir() and revision is None:
        model, _, written = model.partition("@")
        revision = written or None
    folder, model_revision = weights.resolve(model, revision)
    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    predictions = _predict(model, folder, {name: rows for name, (rows, _) in parts.items()}, out, batch_size, dtype)
    seconds = round(time.monotonic() - started, 1)
    about = {
        "seed": seed,
        "dtype": dtype,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "hardware": {"device": predictions["device"], "cores": os.cpu_count()},
        "code_version": __version__,
        "seconds": seconds,
    }
    by_key = {tuple(record["row"][column] for column in KEY): record for record in predictions["records"]}
    results = []
    for name, (rows, bench_revision) in parts.items():
        found = [by_key[tuple(row[column] for column in KEY)] for row in rows]
        result = {
            "model": model,
            "model_revision": model_revision,
            "bench": bench,
            "bench_revision": bench_revision,
            "domain": name,
            "mode": "direct",
            **score(rows, [record["choice_probs"] for record in found], seed=seed),
            "failures": dict(Counter(record["failure"] for record in found if record["failure"])),
            **about,
        }
        _write(out, result, rows, found)
        results.append(result)
    return results


def _predict(
    model: str, folder: Path, parts: dict[str, list[Row]], out: Path, batch_size: int | None, dtype: str
) -> dict[str, Any]:
    """Runs `evals/tasks.py` in a process of its own; returns its device and one record per row."""
    if not (PROJECT / "evals" / "tasks.py").is_file():
        raise ConfigError(f"{PROJECT}/evals/tasks.py is missing; install hf_mirror from a checkout (pip install -e .)")
    with tempfile.TemporaryDirectory(prefix="mirror-evaluate-") as name:
        scratch = Path(name)
        max_length = _stage(folder, model, scratch / "model")
        for domain, rows in parts.items():
            write_rows(scratch / "bench" / f"{domain}.parquet", rows, BENCH)
        prompts = [row["prompt"][-1]["content"] for rows in parts.values() for row in rows]
        job = {
            "model": "model",  # relative: an absolute path would put lighteval's cache into the model's folder
            "domains": list(parts),
            "max_length": max_length,
            "batch_size": batch_size,
            "longest_prompts": sorted(prompts, key=len)[-8:],
            "dtype": dtype,
            "cache_dir": str(scratch / "cache"),
            "predictions": str(scratch / "predictions.json"),
        }
        write_json(scratch / "job.json", job)
        environment = os.environ | {
            "MIRROR_BENCH": str(scratch / "bench"),
            "MIRROR_MAX_LENGTH": str(max_length),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")])),
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_CACHE": str(scratch / "datasets"),
            "GIT_PYTHON_REFRESH": "quiet",
        }
        command = [sys.executable, "-m", "evals.tasks", str(scratch / "job.json")]
        status, last = _follow(command, scratch, environment, out / "lighteval.log", len(prompts))
        if status:
            raise DataError(f"lighteval stopped on {model}: {last}; the whole log is {out / 'lighteval.log'}")
        return dict(read_json(scratch / "predictions.json"))


def _stage(folder: Path, model: str, target: Path) -> int:
    """Puts the model in `folder` at `target`, an adapter merged into its base. Returns its context in tokens.

    DataError where it is no causal language model, or has no tokenizer with a chat template.
    """
    from transformers import AutoTokenizer

    adapter = (folder / "adapter_config.json").is_file()
    config = weights.causal_lm_config(weights.resolve_base(folder)[0] if adapter else folder, model)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise DataError(f"{model} has no tokenizer ({str(error).splitlines()[0]}); save one beside the model") from None
    if not tokenizer.chat_template:
        raise DataError(f"{model} has no chat template; choose an instruction-tuned or a trained mirror model")
    if adapter:
        weights.load_causal_lm(folder, model).save_pretrained(target)
        tokenizer.save_pretrained(target)
    else:
        target.symlink_to(folder.resolve(), target_is_directory=True)
    return getattr(config.get_text_config(), "max_position_embeddings", None) or sys.maxsize


def _follow(command: list[str], cwd: Path, environment: dict[str, str], log: Path, rows: int) -> tuple[int, str]:
    """Runs a command, keeps its output in `log` and shows its progress bars. Returns its status and its last line."""
    last, shown = "", 0
    with (
        log.open("w", encoding="utf-8") as file,
        progress(rows, "  lighteval", "row") as advance,
        subprocess.Popen(
            command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
        ) as process,
    ):
        try:
            for line in process.stdout or ():  # universal newlines: the \r of a progress bar ends a line too
                file.write(line)
                last = line.strip() or last
                if step := SCORING_BAR.match(line):
                    done = rows * int(step[1]) // int(step[2])
                    advance(max(0, done - shown))
                    shown = max(shown, done)
        except BaseException:
            process.kill()
            raise
    return process.returncode, last


def _write(out: Path, result: dict[str, Any], rows: Sequence[Row], found: Sequence[Row]) -> None:
    write_json(out / f"{result['domain']}.json", result)
    write_rows(
        out / f"{result['domain']}.predictions.parquet",
        [
            {"scene_id": row["scene_id"], "variant_id": row["variant_id"]}
            | {"choice_probs": record["choice_probs"], "failure": record["failure"] or None}
            for row, record in zip(rows, found, strict=True)
        ],
        PREDICTION,
    )
