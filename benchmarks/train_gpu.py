"""What training uses of one GPU: `benchmarks/train_gpu.py [--toy]`, and what preparing the rows costs on CPU cores.

SFT and DPO of a model of Llama-3.2-3B's shape with random weights, on made-up scenes of about 1,300 tokens, by TRL's
own trainers: with TRL's defaults, with the prior art's settings (a batch of one, four accumulated, checkpointing, no
packing), and with ours, as in recipes/llama-3.2-3b but for DPO's checkpointing, with the prompt read once; those also
with weights in bfloat16, which no recipe has. Each arm is a process of its own; steps before the clock starts
are not counted, nor is the one reading of the reference before them in our DPO, which the prior art's has in every
step. Tokens are those of rows as a plain trainer reads them, without padding: a prompt of a pair counts twice, also
where it is computed once. MFU is 6 x parameters x SFT tokens a second, over what a large bf16 matrix product reaches on
the same card.

The part on CPU cores always runs: tokens a second in tokenisation, packing, and collation. `--toy` runs every arm with
a small model on the CPU in a minute: to see that it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import TrainerCallback
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer, pack_dataset

from hf_mirror import prompts
from recipes import scratch
from recipes.shared_prompt import share_prompts

LLAMA_3B = {
    "model_type": "llama", "vocab_size": 128256, "hidden_size": 3072, "intermediate_size": 8192,
    "num_hidden_layers": 28, "num_attention_heads": 24, "num_key_value_heads": 8, "head_dim": 128,
    "max_position_embeddings": 32768, "rope_theta": 500000.0, "tie_word_embeddings": True,
}  # fmt: skip
TOY = LLAMA_3B | {
    "vocab_size": 2048, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "head_dim": 16,
}  # fmt: skip
PRIOR = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4, "gradient_checkpointing": True}
# As recipes/llama-3.2-3b/sft.yaml says.
OURS_SFT = {
    "per_device_train_batch_size": 1, "gradient_accumulation_steps": 1, "gradient_checkpointing": False,
    "packing": True, "max_length": 16384, "optim": "adamw_torch_fused",
}  # fmt: skip
OURS_DPO = {
    "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "gradient_checkpointing": False,
    "precompute_ref_log_probs": True, "precompute_ref_batch_size": 16, "optim": "adamw_torch_fused",
}  # fmt: skip
# name: trainer, its settings, parameters in bf16, attention
ARMS: dict[str, tuple[str, dict[str, Any], bool, str]] = {
    "SFT, TRL's defaults": ("sft", {}, False, "sdpa"),
    "SFT, prior art": ("sft", PRIOR, False, "sdpa"),
    "SFT, ours": ("sft", OURS_SFT, False, "flex_attention"),
    "SFT, ours, bfloat16 weights": ("sft", OURS_SFT, True, "flex_attention"),
    "DPO, prior art": ("dpo", PRIOR, False, "sdpa"),
    "DPO, ours": ("dpo", OURS_DPO, False, "sdpa"),
    "DPO, ours, bfloat16 weights": ("dpo", OURS_DPO, True, "sdpa"),
}
WARM, COUNTED = 4, 12  # steps
MEDIAN, SPREAD = 1300, 0.35  # tokens of a prompt: log-normal


def made_up(rows: int, scale: float = 1.0) -> Dataset:
    """Pairs whose prompts have as many tokens as scenes of the paper's domains, and decisions of about 150."""
    rng = np.random.default_rng(0)
    # Letters alone: a tokenizer would cut a digit off, and a word is to be a token.
    words = np.array(["".join(chr(97 + int(digit)) for digit in str(number)) for number in range(1500)])
    lengths = np.exp(rng.normal(np.log(MEDIAN * scale), SPREAD, rows)).astype(int) + 8

    def text(n: int) -> str:
        return " ".join(rng.choice(words, n))

    found = []
    for n in lengths.tolist():
        answers = [
            [{"role": "assistant", "content": f"{text(int(140 * scale) + 4)}\n{prompts.answer_line(i)}"}]
            for i in (0, 1)
        ]
        prompt = [{"role": "user", "content": text(n)}]
        found.append({"prompt": prompt, "completion": answers[0], "chosen": answers[0], "rejected": answers[1]})
    return Dataset.from_list(found)


class Clock(TrainerCallback):
    """The seconds of the steps after the first few."""

    seconds = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Starts after WARM steps and reads at every later one."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if state.global_step == WARM:
            self._start = time.perf_counter()
        elif state.global_step > WARM:
            self.seconds = time.perf_counter() - self._start


def arm(name: str, toy: bool) -> dict[str, Any]:
    """Trains one arm; tokens a second, peak memory in GiB, parameters."""
    kind, settings, halves, attention = ARMS[name]
    settings = dict(settings)
    if toy:
        settings |= {"use_cpu": True, "bf16": False, "max_length": 512 if settings.get("packing") else 1024}
        attention, halves = ("sdpa" if attention != "sdpa" else attention), False
    else:
        settings |= {"bf16": True, "use_liger_kernel": ", ours" in name}
    settings.setdefault("max_length", 8192)
    batch = settings.get("per_device_train_batch_size", 8) * settings.get("gradient_accumulation_steps", 1)
    data = made_up((WARM + COUNTED) * batch * (14 if settings.get("packing") else 1), 0.1 if toy else 1.0)
    shape = TOY if toy else LLAMA_3B
    texts = [message["content"] for row in data.select(range(min(64, len(data)))) for message in row["prompt"]]
    tokenizer = scratch.train_tokenizer(texts, 2048, shape["max_position_embeddings"])
    model = _model(shape, attention, halves)
    arguments: dict[str, Any] = {
        "max_steps": WARM + COUNTED, "save_strategy": "no", "report_to": "none", "logging_steps": 100,
        "disable_tqdm": True, "output_dir": tempfile.mkdtemp(), "eos_token": None, **settings,
    }  # fmt: skip
    if kind == "sft":
        trainer: Any = SFTTrainer(
            model=model, args=SFTConfig(**arguments), processing_class=tokenizer,
            train_dataset=data.select_columns(["prompt", "completion"]),
        )  # fmt: skip
    else:
        arguments.pop("eos_token")
        reference = None if settings.get("precompute_ref_log_probs") else _model(shape, attention, halves)
        trainer = DPOTrainer(
            model=model, ref_model=reference, args=DPOConfig(**arguments), processing_class=tokenizer,
            train_dataset=data.select_columns(["prompt", "chosen", "rejected"]),
        )  # fmt: skip
        if ", ours" in name:
            share_prompts(trainer.model)
    clock = Clock()
    trainer.add_callback(clock)
    lengths = _lengths(data, tokenizer, kind)
    trainer.train()
    if settings.get("packing"):
        read = sum(len(row) for row in trainer.train_dataset["input_ids"]) / len(trainer.train_dataset) * batch
    else:
        read = float(np.mean(lengths)) * batch
    peak = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() and not toy else None
    return {
        "tokens_per_second": read * COUNTED / clock.seconds,
        "peak_gib": peak,
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def _model(shape: dict[str, Any], attention: str, halves: bool) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(**shape)
    made = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    return made.to(torch.bfloat16) if halves else made


def _lengths(data: Dataset, tokenizer: Any, kind: str) -> list[int]:
    answers = ("completion",) if kind == "sft" else ("chosen", "rejected")
    chats = [[row["prompt"] + row[answer] for answer in answers] for row in data]
    texts = [tokenizer.apply_chat_template(chat, tokenize=False) for chat in chats]
    return [sum(map(len, tokenizer(text, add_special_tokens=False)["input_ids"])) for text in texts]


def ceiling() -> float:
    """FLOP/s of a product of two bf16 matrices of 8192 x 8192: what the card reaches at best."""
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    for _ in range(5):
        a @ a
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(50):
        a @ a
    torch.cuda.synchronize()
    return 50 * 2 * 8192**3 / (time.perf_counter() - begin)


def on_cpu() -> None:
    """Tokens a second on one core: tokenisation, packing, collation. Each is done once, before training."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
    data = made_up(600)
    tokenizer = scratch.train_tokenizer([row["prompt"][0]["content"] for row in data.select(range(100))], 2048, 32768)
    texts = [tokenizer.apply_chat_template(row["prompt"] + row["completion"], tokenize=False) for row in data]
    begin = time.perf_counter()
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    tokens, seconds = sum(map(len, ids)), time.perf_counter() - begin
    print(f"tokenisation: {tokens / seconds:,.0f} tokens/s")
    rows = Dataset.from_dict({"input_ids": ids, "labels": ids})
    begin = time.perf_counter()
    packed = pack_dataset(rows, 16384, "bfd")
    print(f"packing: {tokens / (time.perf_counter() - begin):,.0f} tokens/s, {len(packed)} rows of 16,384")
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    collator = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    begin = time.perf_counter()
    for start in range(0, len(packed), 2):
        collator([packed[i] for i in range(start, min(start + 2, len(packed)))])
    print(f"collation: {tokens / (time.perf_counter() - begin):,.0f} tokens/s")


def main() -> None:
    """Runs all arms and prints the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--toy", action="store_true", help="every arm with a small model on the CPU")
    parser.add_argument("--arm", choices=list(ARMS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        print("RESULT", json.dumps(arm(options.arm, options.toy)))
        return
    on_cpu()
    if not torch.cuda.is_available() and not options.toy:
        print("no GPU here: the arms of SFT and DPO were not measured")
        return
    best = ceiling() if torch.cuda.is_available() and not options.toy else None
    if best:
        print(f"{torch.cuda.get_device_name()}: {best / 1e12:.0f} TFLOP/s in bf16")
    print("| arm | tokens/s | MFU | peak, GiB |\n|---|---:|---:|---:|")
    for name in ARMS:
        print(_line(name, best, options.toy), flush=True)


def _line(name: str, best: float | None, toy: bool) -> str:
    command = [sys.executable, __file__, "--arm", name, *(["--toy"] if toy else [])]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    )
    said = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not said:
        return f"| {name} | did not finish: {(done.stderr.strip().splitlines() or ['no word'])[-1][:200]} | | |"
    found = json.loads(said[0].removeprefix("RESULT "))
    rate = found["tokens_per_second"]
    share = f"{6 * found['parameters'] * rate / best:.0%}" if best and name.startswith("SFT") else ""
    peak = f"{found['peak_gib']:.1f}" if found["peak_gib"] else ""
    return f"| {name} | {rate:,.0f} | {share} | {peak} |"


if __name__ == "__main__":
    main()
