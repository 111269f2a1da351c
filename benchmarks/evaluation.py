"""What one forward pass per row saves: `benchmarks/evaluation.py [rows per K]`.

The same rows of about 1,200 tokens, K = 5 and 12, and the same model (the shape of recipes/small with random weights,
float32) through lighteval's pipeline twice: by its own transformers model, which makes a pass per option, and by
`evals/model.py`. Seconds are those of `Pipeline.evaluate`, loading left out, each in a process of its own; pairs take
turns.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

PAIRS, TOKENS = 3, 1200
SIDES = ("stock", "ours")


def rows(k: int, n: int) -> list[dict[str, Any]]:
    """Benchmark rows of made-up words: cyclic orders of scenes with K options."""
    rng = np.random.default_rng(k)
    words = [f"w{number}" for number in range(400)]
    found: list[dict[str, Any]] = []
    for scene in range(-(-n // k)):
        history = "\n".join("- " + " ".join(rng.choice(words, 8)) for _ in range(TOKENS // 19))
        titles = [" ".join(rng.choice(words, 4)) for _ in range(k)]
        for shift in range(k):
            order = np.roll(np.arange(k), -shift)
            options = "\n".join(f"{'ABCDEFGHIJKL'[slot]}. {titles[item]}" for slot, item in enumerate(order))
            found.append(
                {
                    "scene_id": f"s{scene}",
                    "variant_id": f"own-full-shift{shift}",
                    "domain": "made",
                    "regime": "uniform",
                    "user_cluster": f"u{scene}",
                    "variant": {"history": "own", "donor": None, "profile": "own", "text": "full",
                                "order": f"shift {shift}"},
                    "options": [{"item_key": str(item), "asof_count": 1, "source": "made"} for item in order],
                    "groups": {},
                    "gap_seconds": None,
                    "n_clicked": None,
                    "prompt": [{"role": "user", "content": f"{history}\n{options}"}],
                    "choices": list("ABCDEFGHIJKL"[:k]),
                    "gold_index": int(np.flatnonzero(order == 0)[0]),
                }
            )  # fmt: skip
    return found[:n]


def make_model(folder: Path, texts: list[str]) -> None:
    """The shape of recipes/small, random weights, and a tokenizer of the texts' words."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=2048, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    fast.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}<s>"
    fast.save_pretrained(folder)
    shape = json.loads((Path(__file__).parents[1] / "recipes" / "small" / "model.json").read_text())
    shape |= {"vocab_size": len(fast), "max_position_embeddings": 4096}
    torch.manual_seed(0)
    config = AutoConfig.for_model(shape.pop("model_type"), **shape)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)


def run(side: str, folder: Path) -> float:
    """Seconds of one evaluation; writes each row's probabilities."""
    os.environ |= {"MIRROR_BENCH": str(folder / "bench"), "HF_HUB_OFFLINE": "1", "GIT_PYTHON_REFRESH": "quiet"}
    from lighteval import pipeline
    from lighteval.logging.evaluation_tracker import EvaluationTracker
    from lighteval.models.custom.custom_model import CustomModelConfig
    from lighteval.models.transformers.transformers_model import TransformersModelConfig

    from evals.model import MirrorModel
    from evals.tasks import tasks_of

    pipeline.Registry.load_all_task_configs = staticmethod(  # type: ignore[assignment, method-assign]
        lambda custom_tasks, load_multilingual=False: {task.name: task for task in tasks_of(os.environ["MIRROR_BENCH"])}
    )
    os.chdir(folder)
    config: Any = TransformersModelConfig(
        model_name="model", max_length=4096, batch_size=16, add_special_tokens=False, dtype="float32",
        cache_dir=tempfile.mkdtemp(dir=folder),
    )  # fmt: skip
    manager, model = pipeline.ParallelismManager.ACCELERATE, None
    if side == "ours":
        manager = pipeline.ParallelismManager.CUSTOM
        model = MirrorModel(CustomModelConfig(model_name="model", model_definition_file_path="evals/model.py"))
    lighteval = pipeline.Pipeline(
        tasks="mirror:made|0",
        pipeline_parameters=pipeline.PipelineParameters(manager, custom_tasks_directory="evals.tasks"),
        evaluation_tracker=EvaluationTracker(output_dir=str(folder / "out"), save_details=False),
        model_config=None if model else config,
        model=model,
    )
    start = time.perf_counter()
    lighteval.evaluate()
    seconds = time.perf_counter() - start
    records = [detail.metric["mirror"] for details in lighteval.get_details().values() for detail in details]
    probs = {record["row"]["scene_id"] + record["row"]["variant_id"]: record["choice_probs"] for record in records}
    (folder / f"{side}.json").write_text(json.dumps({"seconds": seconds, "probs": probs}))
    return seconds


def compare(k: int, n: int) -> None:
    """Both sides in turns, and whether they say the same."""
    from hf_mirror.files import write_rows
    from hf_mirror.schema import BENCH

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = rows(k, n)
        write_rows(folder / "bench" / "made.parquet", made, BENCH)
        make_model(folder / "model", [row["prompt"][0]["content"] for row in made[:50]])
        seconds: dict[str, list[float]] = {side: [] for side in SIDES}
        probs: dict[str, dict[str, list[float]]] = {}
        for _ in range(PAIRS):
            for side in SIDES:
                command = [sys.executable, __file__, side, str(folder)]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                found = json.loads((folder / f"{side}.json").read_text())
                seconds[side].append(found["seconds"])
                probs[side] = found["probs"]
    off = max(float(np.abs(np.log(probs["stock"][key]) - np.log(probs["ours"][key])).max()) for key in probs["stock"])
    ratio = statistics.median(a / b for a, b in zip(*(seconds[side] for side in SIDES), strict=True))
    stock, ours = (statistics.median(seconds[side]) for side in SIDES)
    print(
        f"K={k}, {n} rows: stock {stock:.1f} s, one pass {ours:.1f} s, {ratio:.2f} times as fast (aim {k / 1.5:.2f}); "
        f"log-probabilities differ by at most {off:.1e}",
        flush=True,
    )


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in SIDES:
        run(sys.argv[1], Path(sys.argv[2]))
    else:
        for k in (5, 12):
            compare(k, int(sys.argv[1]) if sys.argv[1:] else 60)
