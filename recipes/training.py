"""What SFT and DPO share: the model to train, where it runs, how it is saved, and the report of the run."""

from __future__ import annotations

import ctypes
import math
import os
import platform
import resource
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import AutoTokenizer
from trl import ModelConfig, get_peft_config

from hf_mirror import files
from hf_mirror.errors import ConfigError, DataError
from hf_mirror.progress import say
from hf_mirror.weights import causal_lm_config, load_causal_lm, resolve, resolve_base
from recipes import checkpoints
from recipes.arguments import find_file
from recipes.data import SPLITS
from recipes.watch import check_weights

PACKAGES = ("hf-mirror", "torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers")
CURVE = ("loss", "eval_loss", "eval_choice_accuracy", "eval_choice_log_loss")
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # of mallopt(3)
ADAPTER = {
    "lora_r": "r", "lora_alpha": "lora_alpha", "lora_dropout": "lora_dropout", "lora_target_modules": "target_modules",
}  # fmt: skip
SETTINGS = (
    "learning_rate", "lr_scheduler_type", "warmup_steps", "num_train_epochs", "max_steps", "optim", "weight_decay",
    "lr_scheduler_kwargs", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm", "per_device_train_batch_size",
    "gradient_accumulation_steps", "world_size", "max_length", "packing", "packing_strategy", "train_sampling_strategy",
    "data_seed", "completion_only_loss", "beta", "loss_type", "loss_weights", "label_smoothing",
    "precompute_ref_log_probs", "bf16", "fp16", "gradient_checkpointing", "attn_implementation", "use_liger_kernel",
    "use_peft", "lora_r", "lora_alpha", "lora_dropout", "lora_target_modules", "dtype",
)  # fmt: skip


@dataclass
class Base:
    """The model that training starts from: where it lies, its exact version, and how it is loaded."""

    folder: Path
    facts: dict[str, Any]
    arguments: ModelConfig
    init: dict[str, Any]

    @property
    def continues_adapter(self) -> bool:
        """An adapter trained further as an adapter; for full training it is merged into its base instead."""
        return bool(self.arguments.use_peft) and (self.folder / "adapter_config.json").exists()

    def context(self) -> int | None:
        """The longest input, in tokens; DataError if this is no causal LM. Reads no weights."""
        adapter = (self.folder / "adapter_config.json").exists()
        config = causal_lm_config(resolve_base(self.folder)[0] if adapter else self.folder, self.facts["base_model"])
        return getattr(config.get_text_config(), "max_position_embeddings", None)

    def tokenizer(self, template: str | None, pad_token: str | None) -> Any:
        """The model's tokenizer; `template` is a Jinja file for one that has no chat template of its own.

        One without a pad token pads with its end token. Nothing is lost by that: losses and masks go by position.
        """
        name = self.facts["base_model"]
        try:
            tokenizer: Any = AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False)
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{name} has no tokenizer that loads: {str(error).strip().splitlines()[0]}") from None
        if template is not None:
            tokenizer.chat_template = find_file(template).read_text(encoding="utf-8")
        if not tokenizer.chat_template:
            raise ConfigError(f"{name} has no chat template; set chat_template_path to a .jinja file")
        if pad_token is not None and pad_token not in tokenizer.get_vocab():
            raise ConfigError(f"pad_token {pad_token!r} is not in the vocabulary of {name}; name a token that is")
        if pad_token is None and tokenizer.pad_token is None:
            if tokenizer.eos_token is None:
                raise ConfigError(f"{name} has neither a pad token nor an end token; set pad_token to one it knows")
            pad_token = tokenizer.eos_token
            say(f"{name} has no pad token; its end token {pad_token} pads, which no loss counts")
        if pad_token is not None:
            tokenizer.pad_token = pad_token
        return tokenizer

    def model(self) -> Any:
        """The weights, ready to train."""
        name = str(self.facts["base_model"])
        if not self.continues_adapter:
            return load_causal_lm(self.folder, name, **self.init)
        from peft import PeftModel

        below = load_causal_lm(resolve_base(self.folder)[0], name, **self.init)
        return PeftModel.from_pretrained(below, str(self.folder), is_trainable=True)

    def peft_config(self) -> Any:
        """A new adapter's configuration, or None."""
        return None if self.continues_adapter else get_peft_config(self.arguments)


def find_base(arguments: ModelConfig, training: Any) -> Base:
    """Resolves `model_name_or_path` at `model_revision`. ConfigError if no model is named."""
    name = arguments.model_name_or_path
    if not name:
        raise ConfigError("no model is named; set model_name_or_path to a folder or a Hub id")
    if Path(name).is_dir() and Path(name).resolve() == Path(training.output_dir).resolve():
        raise ConfigError(f"output_dir {training.output_dir} is the model to start from; choose another")
    revision = None if arguments.model_revision == "main" else arguments.model_revision
    folder, exact = resolve(name, revision)
    init = {**(training.model_init_kwargs or {}), "attn_implementation": arguments.attn_implementation}
    init["dtype"] = arguments.dtype if arguments.dtype in ("auto", None) else getattr(torch, arguments.dtype)
    training.model_init_kwargs = None
    base = Base(folder, {"base_model": name, "base_revision": exact, "from_scratch": None}, arguments, init)
    if base.continues_adapter:  # its shape is what it has, whatever the settings say of new ones
        adapter = files.read_json(folder / "adapter_config.json")
        for setting, key in ADAPTER.items():
            setattr(arguments, setting, adapter.get(key))
    return base


def prepare(training: Any) -> None:
    """Sets what depends on the place: CPU threads, and progress bars on a terminal or plain lines elsewhere.

    ConfigError for kernels that are not installed.
    """
    if training.use_liger_kernel and find_spec("liger_kernel") is None:
        raise ConfigError("use_liger_kernel is set and liger-kernel is not installed: pip install liger-kernel")
    if training.device.type == "cpu":
        # accelerate counts physical cores and leaves one thread where two share a core; both help here.
        torch.set_num_threads(max(1, _cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
        _keep_memory()
    if not sys.stderr.isatty():
        training.disable_tqdm = True
        datasets.disable_progress_bars()


def finish(trainer: Any, base: Base | None, report: dict[str, Any], checkpoint: str | None, started: float) -> None:
    """Trains on from `checkpoint`, if there is one, evaluates, saves model and tokenizer into `output_dir`, writes
    `train_report.json`, and last removes the checkpoints, which nobody needs any more."""
    # Read now: the trainer removes old checkpoints.
    resumed_at = checkpoints.step(checkpoint) if checkpoint else None
    result = trainer.train(resume_from_checkpoint=checkpoint)
    if not math.isfinite(result.training_loss):
        raise DataError(f"the loss became {result.training_loss}; nothing was saved; lower learning_rate")
    check_weights(trainer.model)
    evaluation = trainer.evaluate() if trainer.eval_dataset is not None else {}
    # What is NaN or infinite has no place in JSON.
    evaluation = {name: value for name, value in evaluation.items() if math.isfinite(value)}
    out = Path(trainer.args.output_dir)
    _save(trainer, base, out)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    parameters = list(trainer.model.parameters())
    report |= {
        "steps": trainer.state.global_step,
        "epochs": trainer.state.epoch,
        "train_loss": losses[-1] if losses else result.training_loss,
        # The trainer knows of no loss before the checkpoint that it went on from.
        "mean_train_loss": None if checkpoint else result.training_loss,
        "resumed_at_step": resumed_at,
        "eval_loss": evaluation.get("eval_loss"),
        "curve": [
            {name: entry[name] for name in ("step", *CURVE) if name in entry and math.isfinite(entry[name])}
            for entry in trainer.state.log_history
            if any(name in entry for name in CURVE)
        ],
        "evaluation": evaluation,
        "seconds": round(result.metrics["train_runtime"], 1),
        "total_seconds": round(time.monotonic() - started, 1),
        "parameters": {
            "total": sum(p.numel() for p in parameters),
            "trained": sum(p.numel() for p in parameters if p.requires_grad),
        },
        "hardware": _hardware(trainer.args),
        "versions": _versions(),
    }
    if trainer.is_world_process_zero():
        files.write_json(out / "train_report.json", report)
        checkpoints.drop_all(out)
        print(f"saved to {out}: train loss {report['train_loss']:.4f}, eval loss {report['eval_loss']}", flush=True)


def describe(
    method: str, base: dict[str, Any], data: dict[str, Any], rows: Any, lengths: Any, *arguments: Any
) -> dict[str, Any]:
    """The part of the report that is known before training. `lengths`: tokens per row and split, [answers, rows]."""
    return {
        "method": method,
        **base,
        "dataset": data,
        "rows": {split: len(rows[split]) for split in SPLITS if split in rows},
        "tokens": {split: {"total": int(found.sum()), "longest": int(found.max())} for split, found in lengths.items()},
        "settings": settings_of(*arguments),
        "seed": arguments[0].seed,
    }


def settings_of(*parts: Any) -> dict[str, Any]:
    """The hyper-parameters that matter, from the training and model arguments."""
    found = {name: getattr(part, name) for part in parts for name in SETTINGS if hasattr(part, name)}
    return {name: getattr(value, "value", value) for name, value in found.items()}


def _save(trainer: Any, base: Base | None, out: Path) -> None:
    model = trainer.accelerator.unwrap_model(trainer.model)
    adapters = getattr(model, "peft_config", {})
    if "ref" in adapters:
        model.delete_adapter("ref")  # DPO's frozen copy of the adapter it started from
    if base is not None and adapters and not base.continues_adapter:
        adapters["default"].base_model_name_or_path = base.facts["base_model"]
        is_commit = not base.facts["base_revision"].startswith("sha256:")
        adapters["default"].revision = base.facts["base_revision"] if is_commit else None
    if trainer.is_world_process_zero():
        # What an earlier run left must not mix with this one; the report comes back last, when all else is there.
        for old in [out / "train_report.json", out / "adapter_config.json", *out.glob("*.safetensors")]:
            old.unlink(missing_ok=True)
    trainer.accelerator.wait_for_everyone()
    trainer.save_model(str(out))
    if trainer.is_world_process_zero():
        (out / "training_args.bin").unlink(missing_ok=True)  # a pickle


def _keep_memory() -> None:
    """Tells glibc to keep what tensors leave free instead of giving it back to the system and asking again: where page
    faults are dear, as in small virtual machines, a step takes half the time (docs/decisions.md)."""
    with suppress(AttributeError, OSError):  # another libc
        keep = ctypes.CDLL(None).mallopt
        for setting, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 1 << 26)):
            keep(setting, value)


def _cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _hardware(training: Any) -> dict[str, Any]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found = {"device": training.device.type, "processes": training.world_size, "machine": platform.machine()}
    found |= {"cpu_cores": _cores(), "peak_memory_bytes": peak}
    if training.device.type == "cuda":
        found |= {
            "gpu": torch.cuda.get_device_name(),
            "peak_gpu_memory_bytes": torch.cuda.max_memory_allocated(),
        }
    return found


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
