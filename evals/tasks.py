"""The lighteval suite: one task `mirror:<domain>` per domain of a benchmark, options scored by their log-probability.

    MIRROR_BENCH=<ns>/mirror-bench@v1.0.0 MIRROR_MAX_LENGTH=2048 \\
    lighteval accelerate \\
        "model_name=<ns>/<model>,max_length=2048,batch_size=64,add_special_tokens=False,dtype=float32" \\
        "mirror:<domain>|0" --custom-tasks evals.tasks --output-dir out --save-details

- `MIRROR_BENCH` names the benchmark: `<ns>/<repo>@<revision>`, a folder of `<domain>.parquet`, or a run's folder.
- `MIRROR_MAX_LENGTH` is the model's context in tokens. lighteval cuts longer inputs from the left and tells no metric;
  with the limit given, such rows count as failures. Without it, compare `longest_input` in the table with the context.
- `add_special_tokens=False` belongs to models with a chat template: the template writes them, lighteval would again.
- Local models go by a relative path, with a fresh `cache_dir=`: lighteval's sample cache ignores the weights, and an
  absolute path puts it inside the model's folder.
- Without internet lighteval stops before it gets here: one of its own tasks downloads a file on import. An empty file
  `lighteval/tasks/tasks/tinyBenchmarks.pkl` in the installed package lets it pass; only that task would read it.

`mirror evaluate` runs the same tasks through `python -m evals.tasks JOB.json`, which takes care of all of these.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
from functools import cache
from pathlib import Path
from typing import Any

import datasets
from lighteval.metrics.metrics_sample import SampleLevelComputation
from lighteval.metrics.utils.metric_utils import CorpusLevelMetric
from lighteval.models.model_output import ModelResponse
from lighteval.tasks.lighteval_task import LightevalTaskConfig
from lighteval.tasks.requests import Doc, SamplingMethod

from hf_mirror import metrics
from hf_mirror.alignment import SCORED_COLUMNS, score
from hf_mirror.errors import ConfigError
from hf_mirror.evaluation import Bench, open_bench
from hf_mirror.files import read_json, sha256_file, write_json
from hf_mirror.prompts import ANSWER_PREFIX

VERSION = 1
LOGIT_BYTES = 2**30  # what one batch of logits may take; lighteval holds them twice, before and after log_softmax


def direct_doc(row: dict[str, Any], task_name: str) -> Doc:
    """One benchmark row. The options share the prefix `Behavior: [`, which cancels in the softmax over them."""
    return Doc(
        query=row["prompt"][-1]["content"],
        choices=[f"{ANSWER_PREFIX}{letter}" for letter in row["choices"]],
        gold_index=row["gold_index"],
        task_name=task_name,
        specific={name: row[name] for name in SCORED_COLUMNS} | {"n_options": len(row["choices"])},
    )


class OptionProbabilities(SampleLevelComputation):
    """Per row: P(option) over exactly its K options, or why there is none."""

    def compute(self, doc: Doc, model_response: ModelResponse, **kwargs: Any) -> dict[str, Any]:
        """`choice_probs` [K] (empty for failures), `failure` (`over_length`, `not_finite` or empty), `n_tokens`."""
        log_probs = [math.nan if value is None else value for value in model_response.logprobs]
        continuation = max((sum(token >= 0 for token in tokens) for tokens in model_response.output_tokens), default=0)
        n_tokens = len(model_response.input_tokens) + continuation
        probs = metrics.softmax(log_probs)
        failure = ""
        if n_tokens > int(os.environ.get("MIRROR_MAX_LENGTH") or sys.maxsize):
            failure = "over_length"
        elif len(probs) != len(doc.choices) or not all(math.isfinite(value) for value in probs):
            failure = "not_finite"
        return {
            "row": doc.specific,
            "choice_probs": [] if failure else probs.tolist(),
            "failure": failure,
            "n_tokens": n_tokens,
        }


def table_of_scores(records: list[dict[str, Any]]) -> dict[str, float]:
    """The numbers of `hf_mirror.evaluation.score`, flat, as lighteval's table shows them."""
    found = score([record["row"] for record in records], [record["choice_probs"] for record in records], seed=0)
    flat: dict[str, float] = {}
    for prefix, scores in [("", found["scores"]), *((f"{name}_", of) for name, of in found["baselines"].items())]:
        for name, interval in scores.items():
            flat[prefix + name] = interval["value"]
            flat[f"{prefix}{name}_low"] = math.nan if interval["low"] is None else interval["low"]
            flat[f"{prefix}{name}_high"] = math.nan if interval["high"] is None else interval["high"]
    flat |= {name: float(found[name]) for name in ("coverage", "n_scenes", "n_clusters")}
    return flat | {"longest_input": float(max(record["n_tokens"] for record in records))}


MIRROR = CorpusLevelMetric(
    metric_name="mirror",
    higher_is_better=True,
    category=SamplingMethod.LOGPROBS,
    sample_level_fn=OptionProbabilities(),
    corpus_level_fn=table_of_scores,
)


@cache
def tasks_of(reference: str) -> list[LightevalTaskConfig]:
    """One task per domain of the benchmark `reference`."""
    bench = open_bench(reference)
    return [_task(bench, domain) for domain in bench.domains]


def _task(bench: Bench, domain: str) -> LightevalTaskConfig:
    repo, subset, revision = bench.repo, domain, bench.revision
    if repo is None:
        repo, subset, revision = str(_as_dataset(bench.files[domain])), "default", None
    return LightevalTaskConfig(
        name=f"mirror:{domain}",
        prompt_function=direct_doc,
        hf_repo=repo,
        hf_subset=subset,
        hf_revision=revision,
        hf_avail_splits=["test"],
        evaluation_splits=["test"],
        metrics=[MIRROR],
        version=VERSION,
    )


def _as_dataset(file: Path) -> Path:
    """A folder that `load_dataset` reads as the split `test` of one domain, in the datasets cache, named by content.

    Given the bench folder itself, `load_dataset` would guess splits from file names: a domain `my-test` hides others.
    """
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "mirror-bench" / sha256_file(file)[:16]
    if not (folder / "test.parquet").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / "test.parquet")
    return folder


def __getattr__(name: str) -> Any:
    """TASKS_TABLE, where lighteval looks for tasks: built when asked for, so that importing needs no benchmark."""
    if name != "TASKS_TABLE":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    reference = os.environ.get("MIRROR_BENCH")
    if not reference:
        raise ConfigError(
            "MIRROR_BENCH is not set; expected <ns>/mirror-bench@<revision> or a folder that holds <domain>.parquet"
        )
    return tasks_of(reference)


def run(job: dict[str, Any]) -> None:
    """Runs the lighteval pipeline on a pinned model and bench, and writes the predictions to `job["predictions"]`."""
    import torch
    from lighteval import pipeline
    from lighteval.logging.evaluation_tracker import EvaluationTracker
    from lighteval.models.transformers.transformers_model import TransformersModelConfig
    from transformers import AutoTokenizer

    # lighteval imports all of its own tasks first, and one of them downloads a pickle on import.
    pipeline.Registry.load_all_task_configs = staticmethod(  # type: ignore[assignment, method-assign]
        lambda custom_tasks, load_multilingual=False: {task.name: task for task in tasks_of(os.environ["MIRROR_BENCH"])}
    )
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    model_config = TransformersModelConfig(
        model_name=job["model"],
        max_length=job["max_length"],
        batch_size=job["batch_size"] or _batch_size(tokenizer, job["longest_prompts"], job["max_length"]),
        add_special_tokens=False,  # the chat template has written them
        dtype=job["dtype"],
        cache_dir=job["cache_dir"],
    )
    parameters = pipeline.PipelineParameters(pipeline.ParallelismManager.ACCELERATE, custom_tasks_directory=__name__)
    lighteval = pipeline.Pipeline(
        tasks=",".join(f"mirror:{domain}|0" for domain in job["domains"]),
        pipeline_parameters=parameters,
        evaluation_tracker=EvaluationTracker(output_dir=job["cache_dir"], save_details=False),
        model_config=model_config,
    )
    lighteval.evaluate()
    records = [detail.metric["mirror"] for details in lighteval.get_details().values() for detail in details]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    write_json(Path(job["predictions"]), {"device": device, "records": records})


def _batch_size(tokenizer: Any, longest_prompts: list[str], max_length: int) -> int:
    """As many sequences as keep a batch's float32 logits within LOGIT_BYTES, at most 64."""
    longest = min(max(len(tokenizer(prompt)["input_ids"]) for prompt in longest_prompts) + 64, max_length)
    return max(1, min(64, LOGIT_BYTES // (longest * len(tokenizer) * 4)))


if __name__ == "__main__":
    run(read_json(Path(sys.argv[1])))
