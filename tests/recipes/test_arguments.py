"""Every setting has one name; what is unknown or refused is one line that names it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from trl import DPOConfig, ModelConfig, SFTConfig

from hf_mirror.errors import ConfigError
from recipes.arguments import DataArguments, SFTArguments, StrictParser, run

TINY = Path(__file__).parents[2] / "recipes" / "tiny"


def parse(tmp_path: Path, settings: object, *flags: str) -> tuple:
    path = tmp_path / "sft.yaml"
    path.write_text(yaml.safe_dump(settings))
    quick = ["--use_cpu", "true", "--bf16", "false", "--output_dir", str(tmp_path)]
    return StrictParser(SFTArguments, SFTConfig, ModelConfig).parse(["--config", str(path), *quick, *flags])


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    script, training, _ = parse(tmp_path, {"dataset": "a/b", "seed": 3, "learning_rate": "1e-3"}, "--seed", "4")
    assert (script.dataset, script.subset, script.targets) == ("a/b", "mixed", ["rationale"])
    assert (training.seed, training.learning_rate) == (4, 0.001)


@pytest.mark.parametrize(
    ("settings", "flags", "said"),
    [
        ({"dataset": "x", "learning_rat": 1}, [], r"key 'learning_rat' is not known; did you mean 'learning_rate'\?"),
        ({"dataset": "x", "max_seq_length": 9}, [], r"did you mean 'max_length'\?"),
        ({"dataset": "x", "env": {"A": "b"}}, [], "key 'env' is not known"),
        ({"dataset": "x"}, ["--max_lenght", "9"], r"flag '--max_lenght' is not known; did you mean --max_length\?"),
        ({"dataset": "x"}, ["--learning", "9"], "flag '--learning' is not known"),
        ({}, [], "required: --dataset"),
        ({"dataset": "x", "max_length": "long"}, [], "invalid int value: 'long'"),
        ({"dataset": "x", "lr_scheduler_type": "sideways"}, [], "sideways"),
        ({"dataset": "x", "targets": ["direkt"]}, [], "targets has .*direkt"),
        ({"dataset": "x", "trust_remote_code": True}, [], "trust_remote_code is set, but no code"),
        ({"dataset": "x", "push_to_hub": True}, [], "push_to_hub is set, but `mirror publish` pushes"),
        (["dataset"], [], "holds a list"),
        ({"dataset": "x", "mixture": {"a": 1, "b": 0}}, [], "expected weights above 0"),
        ({"dataset": "x", "mixture": "a"}, [], "mixture 'a' is no JSON"),
        ({"dataset": "x", "mixture": {"a": 1}, "subset": "a"}, [], "both subset 'a' and a mixture"),
        ({"dataset": "x", "mixture": {"a": 1, "mixed": 1}}, [], "mixture has `mixed`, which holds the other subsets"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, settings: object, flags: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        parse(tmp_path, settings, *flags)
    assert "\n" not in str(caught.value)


def test_a_config_file_that_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    parser = StrictParser(SFTArguments, SFTConfig, ModelConfig)
    with pytest.raises(ConfigError, match=r"absent\.yaml does not exist"):
        parser.parse(["--config", str(tmp_path / "absent.yaml")])
    (tmp_path / "broken.yaml").write_text("a: [1")
    with pytest.raises(ConfigError, match="not YAML"):
        parser.parse([f"--config={tmp_path / 'broken.yaml'}"])


def test_shipped_recipes_parse(tmp_path: Path) -> None:
    rest = ["--dataset", "x", "--output_dir", str(tmp_path)]
    sft = StrictParser(SFTArguments, SFTConfig, ModelConfig).parse(["--config", str(TINY / "sft.yaml"), *rest])
    dpo = StrictParser(DataArguments, DPOConfig, ModelConfig).parse(["--config", str(TINY / "dpo.yaml"), *rest])
    for _, training, _ in (sft, dpo):
        assert training.use_cpu and not training.bf16 and training.save_strategy == "no" and training.max_length


@pytest.mark.parametrize(
    ("flags", "yaml", "cpu"),
    [
        (["--use_cpu", "true"], "", True),
        (["--use_cpu"], "", True),
        (["--use_cpu", "false", "--use-cpu=true"], "", True),
        (["--use_cpu=false"], "use_cpu: true", False),
        (["--use_cpu", "false"], "use_cpu: true", False),
        ([], "use_cpu: true", True),
        ([], "use_cpu: false", False),
    ],
)
def test_flags_say_before_the_yaml_whether_gpus_are_wanted(
    flags: list[str], yaml: str, cpu: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run.yaml").write_text(f"dataset: x\nbf16: false\n{yaml}\n")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "10000")
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    parser = StrictParser(SFTArguments, SFTConfig, ModelConfig)
    given = ["--config", str(tmp_path / "run.yaml"), "--output_dir", str(tmp_path), *flags]
    if cpu:
        parser.parse(given)
    else:
        with pytest.raises(ConfigError, match="10000 processes want a GPU each"):
            parser.parse(given)


def test_programs_take_numbers_next_to_zero_for_zero() -> None:
    found = []
    try:
        with pytest.raises(SystemExit):
            run(lambda _: found.append(float(torch.full((1,), 1e-39) * 0.5)))
    finally:
        torch.set_flush_denormal(False)
    assert found == [0.0] and float(torch.full((1,), 1e-39) * 0.5) > 0
