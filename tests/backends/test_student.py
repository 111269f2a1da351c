"""What comes out of training, in vLLM: an adapter, merged, is read there as transformers reads it with the adapter on.

Runs in `make test-vllm`. TRL is not in that environment: training and merging run in the project's own.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hf_mirror import backends, files
from hf_mirror.backends import Request
from hf_mirror.prompts import ANSWER_PREFIX, LABELS
from tests.backends.conftest import HAS_VLLM
from tests.recipes.pairs import write_pairs
from tests.recipes.toy import ROOT, SHAPE, STUDENT, flags


@pytest.mark.skipif(not HAS_VLLM, reason="vLLM lives in an environment of its own: make test-vllm")
def test_a_merged_student_is_read_as_its_adapter_is(tmp_path: Path) -> None:
    write_pairs(tmp_path / "run", "books", train=32, validation=4)
    # vLLM's attention on CPUs wants heads of 32.
    files.write_json(tmp_path / "model.json", SHAPE | {"hidden_size": 64, "head_dim": 32, "initializer_range": 0.2})
    full, adapter, merged = (tmp_path / name for name in ("full", "adapter", "merged"))
    common = {**STUDENT, "save_strategy": "no"}
    recipe("sft.py", *flags("sft", tmp_path / "run", full, from_scratch=tmp_path / "model.json", **common))
    lora = {"model_name_or_path": full, "use_peft": True, "lora_target_modules": "all-linear", "learning_rate": 5e-3}
    recipe("dpo.py", *flags("dpo", tmp_path / "run", adapter, **common, **lora))
    recipe("merge.py", str(adapter), str(merged))

    options = ["A. Amber Dawn [Crime]", "B. Cedar Grove [Poetry]", "C. Iris Lantern [Travel]"]
    asked = [
        Request(str(k), [{"role": "user", "content": "\n".join(["Options:", *options[:k]])}], prefix=ANSWER_PREFIX)
        for k in (2, 3)
    ]
    labels = [LABELS[:2], LABELS[:3]]
    expected = list(backends.load("transformers", str(adapter)).choice_probs(asked, labels))
    before = list(backends.load("transformers", str(full)).choice_probs(asked, labels))
    found = list(backends.load("vllm", str(merged)).choice_probs(asked, labels))
    assert all(one == pytest.approx(two, abs=1e-4) for one, two in zip(found, expected, strict=True))
    assert any(one != pytest.approx(two, abs=1e-3) for one, two in zip(before, expected, strict=True))


def recipe(script: str, *arguments: str) -> None:
    command = [str(ROOT / ".venv" / "bin" / "python"), str(ROOT / "recipes" / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
