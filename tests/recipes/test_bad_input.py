"""What a machine, a model or a dataset lacks is one line, before any weight is loaded."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from hf_mirror.errors import ConfigError, DataError, HubError
from recipes import dpo, sft
from recipes.arguments import check_gpus
from tests.recipes.toy import ROOT, flags


@pytest.fixture
def base(student: Path, tmp_path: Path) -> Path:
    """A model whose weights are cut short: whatever loads them fails in other words."""
    folder = tmp_path / "base"
    shutil.copytree(student, folder)
    (folder / "model.safetensors").write_bytes(b"cut short")
    return folder


def refused(base: Path, run: Path, said: str, error: type[Exception] = ConfigError, **changes: object) -> None:
    with pytest.raises(error, match=said) as caught:
        dpo.main(flags("dpo", run, base.parent / "out", model_name_or_path=base, **changes))
    assert "\n" not in str(caught.value)
    assert not (base.parent / "out").exists()


def test_a_tokenizer_without_template_or_tokens(base: Path, run_folder: Path, capsys: pytest.CaptureFixture) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    refused(base, run_folder, r"pad_token '<\|none\|>' is not in the vocabulary", pad_token="<|none|>")
    tokenizer.pad_token = None
    tokenizer.save_pretrained(base)
    with pytest.raises(DataError, match="could not be loaded"):
        dpo.main(flags("dpo", run_folder, base.parent / "started", model_name_or_path=base))
    assert "has no pad token; its end token <|end|> pads, which no loss counts" in capsys.readouterr().err
    tokenizer.eos_token = None
    tokenizer.save_pretrained(base)
    refused(base, run_folder, "neither a pad token nor an end token; set pad_token")
    (base / "chat_template.jinja").unlink()
    refused(base, run_folder, "has no chat template; set chat_template_path to a .jinja file")
    (base / "tokenizer.json").write_text("{}")
    refused(base, run_folder, "has no tokenizer that loads", DataError)


def test_revisions_that_do_not_exist(base: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    refused(base, run_folder, "is a folder and has no revision 'v9'", model_revision="v9")
    refused(
        base,
        run_folder,
        "'some/pairs' at revision 'v9' could not be read",
        HubError,
        dataset="some/pairs",
        revision="v9",
    )


def test_settings_that_this_machine_cannot_run(base: Path, run_folder: Path) -> None:
    if find_spec("liger_kernel") is None:
        refused(base, run_folder, "liger-kernel is not installed: pip install liger-kernel", use_liger_kernel="true")
    refused(base, run_folder, "bf16 is on .* set bf16: false, or use_cpu: true", use_cpu="false", bf16="true")
    check_gpus(1, 0)
    check_gpus(4, 4)
    with pytest.raises(ConfigError, match="4 processes want a GPU each and this machine has 1; set num_processes"):
        check_gpus(4, 1)


def test_more_processes_than_gpus(
    base: Path, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "64")
    (tmp_path / "dpo.yaml").write_text(f"dataset: {run_folder}\nmodel_name_or_path: {base}\n")
    with pytest.raises(ConfigError, match="64 processes want a GPU each"):
        dpo.main(["--config", str(tmp_path / "dpo.yaml")])


def test_packing_that_would_cut(run_folder: Path, shape: Path, tmp_path: Path) -> None:
    packed = flags("sft", run_folder, tmp_path, from_scratch=shape, packing=True, packing_strategy="wrapped")
    with pytest.raises(ConfigError, match="a packing_strategy that cuts no row: bfd, not wrapped"):
        sft.main(packed)


def test_accelerate_configs_are_read() -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    found = {
        path.stem: load_config_from_file(str(path)) for path in (ROOT / "recipes" / "accelerate_configs").glob("*.yaml")
    }
    assert set(found) == {"cpu", "cpu_ddp", "single_gpu", "ddp", "fsdp2"}
    assert found["fsdp2"].fsdp_config["fsdp_version"] == 2
