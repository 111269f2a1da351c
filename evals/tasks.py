"""The lighteval suite: per subset of a benchmark, tasks `mirror:<subset>` (P(option) without a thought) and
`mirror:<subset>:rationale` (think, then choose).

    MIRROR_BENCH=<ns>/mirror-bench@v1.0.0 MIRROR_MAX_LENGTH=2048 \\
    lighteval accelerate \\
        "model_name=<ns>/<model>,max_length=2048,batch_size=64,add_special_tokens=False,dtype=float32" \\
        "mirror:<subset>|0" --custom-tasks evals.tasks --output-dir out --save-details

- `MIRROR_BENCH` names the benchmark: `<ns>/<repo>@<revision>`, a folder of `<subset>.parquet`, or a run's folder.
- `MIRROR_MAX_LENGTH` is the model's context in tokens. lighteval cuts longer inputs from the left; it says so to
  metrics where it generates, but not where it scores. With the limit given, such rows count as failures. Without it,
  compare `longest_input` in the table with the context.
- `add_special_tokens=False` belongs to models with a chat template: the template writes them, lighteval would again.
- Local models go by a relative path, with a fresh `cache_dir=`: lighteval's sample cache ignores the weights, and an
  absolute path puts it inside the model's folder.
- Without internet lighteval stops before it gets here: one of its own tasks downloads a file on import. An empty file
  `lighteval/tasks/tasks/tinyBenchmarks.pkl` in the installed package lets it pass; only that task would read it.
- `lighteval custom MODEL evals/model.py TASKS …` runs them through hf_mirror's engines, several times as fast.

`mirror evaluate` runs the same tasks through `python -m evals.tasks JOB.json`, which takes care of all of these.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from lighteval.metrics.metrics_sample import SampleLevelComputation, SamplingMetric
from lighteval.metrics.utils.metric_utils import CorpusLevelMetric
from lighteval.models.model_output import ModelResponse
from lighteval.tasks.lighteval_task import LightevalTaskConfig
from lighteval.tasks.requests import Doc, SamplingMethod

from hf_mirror import metrics
from hf_mirror.alignment import SCORED_COLUMNS, score
from hf_mirror.backends import Backend, load
from hf_mirror.errors import ConfigError, MirrorError
from hf_mirror.evaluation.answers import DECISIONS, MAX_TOKENS, NO_ANSWER, OVER_LENGTH, Decision
from hf_mirror.evaluation.benchmark import Bench, open_bench
from hf_mirror.files import read_json, sha256_file, write_json
from hf_mirror.prompts import ANSWER_PREFIX, parse, rationale_messages

VERSION = 2  # of the tasks: what is asked, how many decisions, how answers become numbers


def direct_doc(row: dict[str, Any], task_name: str) -> Doc:
    """One benchmark row. The options share the prefix `Behavior: [`, which cancels in the softmax over them."""
    return Doc(
        query=row["prompt"][-1]["content"],
        choices=[f"{ANSWER_PREFIX}{letter}" for letter in row["choices"]],
        gold_index=row["gold_index"],
        task_name=task_name,
        specific={name: row.get(name) for name in SCORED_COLUMNS} | {"n_options": len(row["choices"])},
    )


def rationale_doc(row: dict[str, Any], task_name: str) -> Doc:
    """The same scene, asked for the decision process that leads to the choice."""
    doc = direct_doc(row, task_name)
    doc.query = rationale_messages(row["prompt"])[-1]["content"]
    return doc


class OptionProbabilities(SampleLevelComputation):
    """Per row: P(option) over exactly its K options, or why there is none."""

    def compute(self, doc: Doc, model_response: ModelResponse, **kwargs: Any) -> dict[str, Any]:
        """`choice_probs` [K] (empty for failures), `failure` (`over_length`, `not_finite` or empty), `n_tokens`."""
        log_probs = [math.nan if value is None else value for value in model_response.logprobs]
        continuation = max((sum(token >= 0 for token in tokens) for tokens in model_response.output_tokens), default=0)
        n_tokens = len(model_response.input_tokens or ()) + continuation
        probs = metrics.softmax(log_probs)
        failure = ""
        cut = model_response.truncated_tokens_count > 0
        if cut or n_tokens > int(os.environ.get("MIRROR_MAX_LENGTH") or sys.maxsize):
            failure = OVER_LENGTH
        elif len(probs) != len(doc.choices) or not all(math.isfinite(value) for value in probs):
            failure = "not_finite"
        return {
            "row": doc.specific,
            "choice_probs": [] if failure else probs.tolist(),
            "failure": failure,
            "n_tokens": n_tokens,
        }


class Thoughtful(ModelResponse):
    """A response that also says how each decision ended, and what was read after its thought."""

    def __init__(self, decisions: list[Decision], **given: Any) -> None:
        super().__init__(**given)
        self.decisions = decisions


class DecisionProbabilities(SamplingMetric, SampleLevelComputation):
    """Per row: P(option) as the mean of what the model reads from each of its thoughts (hf_mirror's engines). Of
    engines that only write, the share of decisions that state an option, (votes + 1/K) / (decisions + 1)."""

    def num_samples(self) -> int:
        """How many decisions lighteval asks its own engines for."""
        return DECISIONS

    def compute(self, doc: Doc, model_response: ModelResponse, **kwargs: Any) -> dict[str, Any]:
        """As OptionProbabilities; besides, the row's decisions: text, stated choice, and what was read after it."""
        k = len(doc.choices)
        parsed = [parse(text, k) for text in model_response.text]
        told = getattr(model_response, "decisions", None) or [Decision(text, "") for text in model_response.text]
        decisions = [
            asdict(each) | {name: getattr(found, name) for name in ("stated_choice", "parse_error")}
            for each, found in zip(told, parsed, strict=True)
        ]
        stated = [found.stated_choice for found in parsed if found.stated_choice is not None]
        if len(model_response.logprobs) == k:
            probs = metrics.softmax(model_response.logprobs)
        elif stated:
            probs = (np.bincount(stated, minlength=k) + 1 / k) / (len(stated) + 1)
        else:
            probs = np.full(k, np.nan)
        failure = ""
        if not np.isfinite(probs).all():
            failure = OVER_LENGTH if model_response.truncated_tokens_count > 0 else NO_ANSWER
        return {
            "row": doc.specific,
            "choice_probs": [] if failure else probs.tolist(),
            "failure": failure,
            "n_tokens": len(model_response.input_tokens or ()),
            "decisions": decisions,
        }


def table_of_scores(records: list[dict[str, Any]]) -> dict[str, float]:
    """The numbers of `hf_mirror.alignment.score`, flat, as lighteval's table shows them."""
    found = score([record["row"] for record in records], [record["choice_probs"] for record in records], seed=0)
    flat: dict[str, float] = {}
    for prefix, scores in [("", found["scores"]), *((f"{name}_", of) for name, of in found["baselines"].items())]:
        for name, interval in scores.items():
            flat[prefix + name] = interval["value"]
            flat[f"{prefix}{name}_low"] = math.nan if interval["low"] is None else interval["low"]
            flat[f"{prefix}{name}_high"] = math.nan if interval["high"] is None else interval["high"]
    flat |= {name: float(found[name]) for name in ("coverage", "n_scenes", "n_clusters")}
    return flat | {"longest_input": float(max(record["n_tokens"] for record in records))}


def _metric(category: SamplingMethod, of_row: SampleLevelComputation) -> CorpusLevelMetric:
    return CorpusLevelMetric(
        metric_name="mirror",
        higher_is_better=True,
        category=category,
        sample_level_fn=of_row,
        corpus_level_fn=table_of_scores,
    )


MODES = {
    "direct": (direct_doc, _metric(SamplingMethod.LOGPROBS, OptionProbabilities())),
    "rationale": (rationale_doc, _metric(SamplingMethod.GENERATIVE, DecisionProbabilities())),
}


def task_name(subset: str, mode: str) -> str:
    """`mirror:<subset>`, and `mirror:<subset>:rationale`."""
    return f"mirror:{subset}" if mode == "direct" else f"mirror:{subset}:{mode}"


@cache
def tasks_of(reference: str) -> list[LightevalTaskConfig]:
    """A task per subset of the benchmark `reference` and mode."""
    bench = open_bench(reference)
    return [_task(bench, subset, mode) for subset in bench.subsets for mode in MODES]


def _task(bench: Bench, subset: str, mode: str) -> LightevalTaskConfig:
    repo, config, revision = bench.repo, subset, bench.revision
    if repo is None:
        repo, config, revision = str(_as_dataset(bench.files[subset])), "default", None
    to_doc, metric = MODES[mode]
    return LightevalTaskConfig(
        name=task_name(subset, mode),
        prompt_function=to_doc,
        hf_repo=repo,
        hf_subset=config,
        hf_revision=revision,
        hf_avail_splits=["test"],
        evaluation_splits=["test"],
        metrics=[metric],
        generation_size=MAX_TOKENS,
        stop_sequence=[],
        version=VERSION,
    )


def _as_dataset(file: Path) -> Path:
    """A folder that `load_dataset` reads as the split `test` of one subset, in the datasets cache, named by content.

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
            "MIRROR_BENCH is not set; expected <ns>/mirror-bench@<revision> or a folder that holds <subset>.parquet"
        )
    return tasks_of(reference)


def run(job: dict[str, Any]) -> None:
    """Runs the lighteval pipeline on a pinned model and bench, and writes the answers to `job["answers"]`."""
    from lighteval import pipeline
    from lighteval.logging.evaluation_tracker import EvaluationTracker
    from lighteval.models.custom.custom_model import CustomModelConfig

    from evals.model import MirrorModel

    # lighteval imports all of its own tasks first, and one of them downloads a pickle on import.
    pipeline.Registry.load_all_task_configs = staticmethod(  # type: ignore[assignment, method-assign]
        lambda custom_tasks, load_multilingual=False: {task.name: task for task in tasks_of(os.environ["MIRROR_BENCH"])}
    )
    backend = _backend(job)
    about = CustomModelConfig(
        model_name=job["name"], model_definition_file_path=str(Path(__file__).parent / "model.py")
    )
    lighteval = pipeline.Pipeline(
        tasks=",".join(f"{task_name(subset, job['mode'])}|0" for subset in job["subsets"]),
        pipeline_parameters=pipeline.PipelineParameters(
            pipeline.ParallelismManager.CUSTOM, custom_tasks_directory=__name__
        ),
        evaluation_tracker=EvaluationTracker(output_dir=job["scratch"], save_details=False),
        model=MirrorModel(about, backend, Path(job["journal"]), _tell),
    )
    lighteval.evaluate()
    records = [detail.metric["mirror"] for details in lighteval.get_details().values() for detail in details]
    write_json(Path(job["answers"]), {"device": _device(backend), "revision": backend.revision, "records": records})


def _backend(job: dict[str, Any]) -> Backend:
    if job["backend"] == "transformers":
        from hf_mirror.backends.transformers import TransformersBackend

        return TransformersBackend(job["model"], job["revision"], dtype=job["dtype"])
    return load(job["backend"], job["model"], job["revision"])


def _device(backend: Backend) -> str:
    import torch

    if type(backend).__name__ == "OpenAIBackend":
        return "a server"
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def _tell(done: int, total: int) -> None:
    """What `mirror evaluate` makes a progress bar of."""
    print(f"mirror: {done} of {total} rows", flush=True)


if __name__ == "__main__":
    job = read_json(Path(sys.argv[1]))
    try:
        run(job)
    except MirrorError as error:
        write_json(Path(job["error"]), {"kind": type(error).__name__, "message": str(error)})
        sys.exit(1)
