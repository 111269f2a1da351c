"""Every shipped YAML runs three steps on its student's architecture, shrunk to a toy with random weights."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoConfig, AutoModelForCausalLM

from recipes import dpo, scratch, sft
from tests.recipes.pairs import write_pairs
from tests.recipes.toy import ROOT, reported

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "head_dim": 8,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
LLAMA_3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}
ARCHITECTURES = {
    "smollm2-135m": {"model_type": "llama"},
    "qwen3-0.6b": {"model_type": "qwen3"},
    "qwen2.5-3b": {"model_type": "qwen2"},
    "llama-3.2-3b": {"model_type": "llama", "rope_parameters": LLAMA_3},
    "paper": {"model_type": "llama", "rope_parameters": LLAMA_3},
}
# What a laptop's CPU has not, and what makes three steps of it.
HERE = shlex.split("""
    --use_cpu true --bf16 false --dtype float32 --attn_implementation sdpa --use_liger_kernel false
    --optim adamw_torch --max_length 512 --max_steps 3 --save_strategy no --eval_strategy no --choice_scenes 8
    --per_device_train_batch_size 2 --per_device_eval_batch_size 8 --gradient_accumulation_steps 1
""")
RECIPES = sorted(path for name in ARCHITECTURES for path in (ROOT / "recipes" / name).glob("*.yaml"))


@pytest.fixture(scope="session")
def toys(student: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base model per architecture, with a tokenizer that has no chat template, as those of base models."""
    found = {}
    for name, settings in ARCHITECTURES.items():
        found[name] = tmp_path_factory.mktemp(name)
        for path in student.glob("tokenizer*"):
            shutil.copy(path, found[name])
        tokenizer = scratch.PreTrainedTokenizerFast.from_pretrained(student)
        tokenizer.chat_template = None
        tokenizer.add_special_tokens({"extra_special_tokens": ["<|finetune_right_pad_id|>"]})
        tokenizer.save_pretrained(found[name])
        torch.manual_seed(0)
        config = AutoConfig.for_model(**SMALL, **settings, vocab_size=len(tokenizer))
        AutoModelForCausalLM.from_config(config).save_pretrained(found[name])
    return found


@pytest.fixture(scope="session")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("few")
    write_pairs(folder, "books", 12, 4)
    return folder


def as_written(path: Path) -> list[str]:
    """What the README gives a recipe for this YAML, behind the script's name; of an adapter, with its YAML put in."""
    method = path.stem.partition("_")[0]
    text = (path.parent / "README.md").read_text().replace("\\\n", " ")
    [line] = [
        line for line in text.splitlines() if line.startswith("accelerate launch") and f"recipes/{method}.py" in line
    ]
    launch, script, given = line.partition(f"recipes/{method}.py")
    assert script and (ROOT / shlex.split(launch)[-1]).is_file(), line
    whole = f"recipes/{path.parent.name}/{method}.yaml"
    assert whole in given
    return shlex.split(given.replace(whole, f"recipes/{path.parent.name}/{path.name}"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_readmes_command_runs_three_steps(path: Path, few: Path, toys: dict[str, Path], tmp_path: Path) -> None:
    settings = yaml.safe_load(path.read_text())
    method, toy = path.stem.partition("_")[0], toys[path.parent.name]
    given = [part.replace("runs/", f"{tmp_path}/") for part in as_written(path)]
    given[given.index("DATA")] = str(few)
    if method == "sft":
        assert "model_name_or_path" in settings
        given += ["--model_name_or_path", str(toy)]
    else:
        base = Path(given[given.index("--model_name_or_path") + 1])
        shutil.copytree(toy, base)
        shutil.copy(ROOT / "recipes" / "chat_template.jinja", base / "chat_template.jinja")
    {"sft": sft, "dpo": dpo}[method].main([*given, *HERE])
    out = Path(given[given.index("--output_dir") + 1])
    report = reported(out)
    assert (report["method"], report["steps"]) == (method, 3)
    assert (out / "adapter_model.safetensors").exists() == bool(settings.get("use_peft")) == path.stem.endswith("_lora")
    assert report["settings"]["learning_rate"] == float(settings["learning_rate"])
    assert 0 <= report["evaluation"]["eval_choice_accuracy"] <= 1


def test_every_folder_of_recipes_is_tried() -> None:
    folders = {path.parent.name for path in (ROOT / "recipes").glob("*/*.yaml")} - {"accelerate_configs"}
    # tiny and small: test_arguments and the quickstart; students from scratch: test_scenes.
    assert folders - {"tiny", "small", "scratch-33m", "scratch-3m"} == set(ARCHITECTURES)
