"""Whole runs on a toy model: what is saved and reported, what DPO starts from, and how failures look."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, T5Config, T5ForConditionalGeneration

from hf_mirror.backends import Request, load
from hf_mirror.errors import ConfigError, DataError
from hf_mirror.prompts import ANSWER_PREFIX, direct_messages, parse
from hf_mirror.simulator import UserSimulator
from recipes import dpo, merge, sft
from recipes.arguments import DataArguments
from recipes.choices import Choices
from recipes.data import load_pairs
from tests.recipes.pairs import pair
from tests.recipes.toy import ROOT, SHAPE, STUDENT, flags, reported


def test_sft_from_scratch_saves_model_tokenizer_and_report(run_folder: Path, student: Path) -> None:
    names = {path.name for path in student.iterdir()}
    assert {"model.safetensors", "tokenizer.json", "config.json", "train_report.json"} <= names
    assert not [name for name in names if name.endswith(".bin") or name.startswith("checkpoint")]
    report = reported(student)
    assert report["method"] == "sft" and report["base_model"] is None and report["from_scratch"] == SHAPE
    assert report["rows"] == {"train": 2 * 64, "validation": 2 * 8} and report["dropped"]["train"] == {}
    assert report["steps"] == 3 * 2 * 64 // 8 and report["epochs"] == 3
    assert report["tokens"]["train"]["longest"] <= 512 and report["dataset"]["folder"] == str(run_folder)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(student), AutoTokenizer.from_pretrained(student)
    assert report["parameters"]["total"] == sum(p.numel() for p in model.parameters())
    assert tokenizer.pad_token != tokenizer.eos_token == "<|end|>" and "{%- generation -%}" in tokenizer.chat_template
    # Better than the uniform loss that random weights begin with: something was learnt.
    assert report["train_loss"] < 0.8 * torch.log(torch.tensor(len(tokenizer))).item()
    assert report["eval_loss"] == pytest.approx(report["evaluation"]["eval_loss"])
    assert not (student / "training_plan.json").exists()


def test_the_same_seed_gives_the_same_weights(run_folder: Path, shape: Path, student: Path, tmp_path: Path) -> None:
    sft.main(flags("sft", run_folder, tmp_path, from_scratch=shape, **STUDENT))
    for name in ("model.safetensors", "tokenizer.json"):
        assert (tmp_path / name).read_bytes() == (student / name).read_bytes()


def test_the_trained_student_is_read_by_the_backend(student: Path) -> None:
    backend = load("transformers", str(student))
    request = Request("x", [{"role": "user", "content": "Options:\nA. Iris\nB. Dawn"}], ANSWER_PREFIX)
    [probs] = backend.choice_probs([request], [["A", "B"]])
    assert probs.sum() == pytest.approx(1)
    assert UserSimulator.from_pretrained(str(student)).choose("", ["Iris", "Dawn"]).probs.sum() == pytest.approx(1)


def test_choices_in_training_are_those_that_the_backend_reads(run_folder: Path, student: Path) -> None:
    rows = load_pairs(DataArguments(str(run_folder), subset="books"), ("prompt", "chosen"))[0]["validation"]
    truths = [parse(row["chosen"][-1]["content"], 5).stated_choice for row in rows]
    requests = [Request(str(i), direct_messages(row["prompt"]), ANSWER_PREFIX) for i, row in enumerate(rows)]
    probs = list(load("transformers", str(student)).choice_probs(requests, [list("ABCDE")] * len(rows)))
    told, curve = reported(student)["evaluation"], reported(student)["curve"]
    assert told["eval_choice_accuracy"] == np.mean(
        [p.argmax() == truth for p, truth in zip(probs, truths, strict=True)]
    )
    losses = [-np.log(p[truth]) for p, truth in zip(probs, truths, strict=True)]
    assert told["eval_choice_log_loss"] == pytest.approx(np.mean(losses), abs=1e-5)
    assert curve[-1]["eval_choice_accuracy"] == told["eval_choice_accuracy"]


def test_choices_are_read_of_every_domain(student: Path) -> None:
    rows = [pair(i, domain, "validation", 6, options) for domain, options in (("a", 3), ("b", 5)) for i in range(40)]
    columns = ("prompt", "chosen", "n_options")
    found = Choices.of(
        Dataset.from_list([{name: row[name] for name in columns} for row in rows]), "chosen",
        AutoTokenizer.from_pretrained(student), 10, None,
    )  # fmt: skip
    assert found is not None and len(found.questions) == 10
    assert {len(question.tails) for question in found.questions} == {3, 5}


def test_only_the_completion_counts(
    run_folder: Path, shape: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {}

    def stop(trainer: object, *_: object) -> None:
        row = trainer.train_dataset[0]
        seen["text"] = trainer.processing_class.decode([i for i in row["labels"] if i != -100])
        raise DataError("seen enough")

    monkeypatch.setattr(sft, "finish", stop)
    with pytest.raises(DataError, match="seen enough"):
        sft.main(flags("sft", run_folder, tmp_path, from_scratch=shape, targets="direct"))
    assert seen["text"].startswith("Behavior: [") and seen["text"].endswith("]<|end|>")


def test_dpo_starts_from_the_sft_output(run_folder: Path, student: Path, tmp_path: Path) -> None:
    before = (student / "model.safetensors").read_bytes()
    dpo.main(flags("dpo", run_folder, tmp_path, model_name_or_path=student, learning_rate=1e-3))
    report = reported(tmp_path)
    assert report["method"] == "dpo" and report["base_model"] == str(student)
    assert report["base_revision"] == load("transformers", str(student)).revision
    assert report["rows"] == {"train": 64, "validation": 8}
    assert report["evaluation"]["eval_rewards/accuracies"] >= 0
    assert before == (student / "model.safetensors").read_bytes() != (tmp_path / "model.safetensors").read_bytes()


def test_adapters_from_sft_to_dpo(run_folder: Path, student: Path, tmp_path: Path) -> None:
    (tmp_path / "sft.yaml").write_text(
        f"dataset: {run_folder}\nuse_peft: true\nlora_r: 4\nlora_target_modules: all-linear\n"
    )
    common = ["--use_cpu", "true", "--bf16", "false", "--max_steps", "2", "--save_strategy", "no"]
    one, two = tmp_path / "one", tmp_path / "two"
    sft.main(
        [
            "--config",
            str(tmp_path / "sft.yaml"),
            *common,
            "--model_name_or_path",
            str(student),
            "--output_dir",
            str(one),
        ]
    )
    assert (one / "adapter_model.safetensors").exists() and not (one / "model.safetensors").exists()
    assert reported(one)["parameters"]["trained"] < reported(one)["parameters"]["total"]
    assert json.loads((one / "adapter_config.json").read_text())["base_model_name_or_path"] == str(student)
    on = ["--config", str(tmp_path / "sft.yaml"), *common, "--model_name_or_path", str(one), "--output_dir", str(two)]
    dpo.main([*on, "--lora_r", "64"])
    assert reported(two)["settings"]["lora_r"] == 4  # the adapter's own
    assert not (two / "ref").exists()
    assert (two / "adapter_model.safetensors").read_bytes() != (one / "adapter_model.safetensors").read_bytes()
    told = UserSimulator.from_pretrained(str(two)).choose("You like Iris.", ["Iris", "Dawn"]).probs
    assert told.sum() == pytest.approx(1)
    merge.main([str(two), str(tmp_path / "merged")])
    assert not (tmp_path / "merged" / "adapter_config.json").exists()
    whole = UserSimulator.from_pretrained(str(tmp_path / "merged")).choose("You like Iris.", ["Iris", "Dawn"]).probs
    assert whole == pytest.approx(told, abs=1e-6) and reported(tmp_path / "merged")["merged_adapter"]
    without = UserSimulator.from_pretrained(str(student)).choose("You like Iris.", ["Iris", "Dawn"]).probs
    assert without != pytest.approx(told, abs=1e-9)
    with pytest.raises(DataError, match="only an adapter can be merged"):
        merge.main([str(student), str(tmp_path / "x")])
    with pytest.raises(ConfigError, match="is not empty"):
        merge.main([str(two), str(tmp_path / "merged")])


def test_long_rows_are_dropped_and_too_many_stop_both_recipes(
    run_folder: Path, shape: Path, student: Path, tmp_path: Path
) -> None:
    longest = reported(student)["tokens"]["train"]["longest"]
    short = {"max_length": longest - 1, "max_steps": 1}
    sft.main(flags("sft", run_folder, tmp_path / "sft", from_scratch=shape, **short))
    dropped = reported(tmp_path / "sft")["dropped"]["train"]["over_length"]
    assert dropped > 0 and reported(tmp_path / "sft")["rows"]["train"] == 2 * 64 - dropped
    dpo.main(flags("dpo", run_folder, tmp_path / "dpo", model_name_or_path=student, **short))
    dropped = reported(tmp_path / "dpo")["dropped"]["train"]["over_length"]
    assert dropped > 0 and reported(tmp_path / "dpo")["rows"]["train"] == 64 - dropped
    with pytest.raises(DataError, match=r"128 of 128 train rows .* max_length, 50 tokens; .* set max_length: "):
        sft.main(flags("sft", run_folder, tmp_path / "x", from_scratch=shape, max_length=50))
    with pytest.raises(DataError, match="64 of 64 train rows"):
        dpo.main(flags("dpo", run_folder, tmp_path / "x", model_name_or_path=student, max_length=50))
    assert not (tmp_path / "x").exists()


def test_models_that_cannot_be_trained_are_named(run_folder: Path, shape: Path, student: Path, tmp_path: Path) -> None:
    t5 = T5Config(vocab_size=40, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    T5ForConditionalGeneration(t5).save_pretrained(tmp_path / "t5")
    both = flags("sft", run_folder, tmp_path / "x", from_scratch=shape, model_name_or_path=student)
    with pytest.raises(ConfigError, match="either from_scratch"):
        sft.main(both)
    with pytest.raises(ConfigError, match="use_peft is set, but a model from random weights"):
        sft.main(flags("sft", run_folder, tmp_path / "x", from_scratch=shape, use_peft=True))
    for named, error, said in [
        (tmp_path / "t5", DataError, "not a causal LM"),
        (tmp_path / "absent", DataError, "does not exist"),
    ]:
        with pytest.raises(error, match=said):
            dpo.main(flags("dpo", run_folder, tmp_path / "x", model_name_or_path=named))
    with pytest.raises(ConfigError, match="choose another"):
        dpo.main(flags("dpo", run_folder, student, model_name_or_path=student))
    with pytest.raises(ConfigError, match="no model is named"):
        dpo.main(flags("dpo", run_folder, tmp_path / "x"))


def test_accelerate_launch_ends_in_one_line_for_a_wrong_key(tmp_path: Path) -> None:
    (tmp_path / "sft.yaml").write_text("dataset: x\nlearning_rat: 1\n")
    config = ROOT / "recipes" / "accelerate_configs" / "cpu.yaml"
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--quiet", "--config_file", str(config)]
    script = [str(ROOT / "recipes" / "sft.py"), "--config", str(tmp_path / "sft.yaml")]
    done = subprocess.run([*launch, *script], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and "did you mean 'learning_rate'?" in last
