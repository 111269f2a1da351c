"""Runs that are killed, diverge, or meet the limits of their machine: nothing good is lost, and one line says why."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from trl import SFTConfig

from hf_mirror.errors import ConfigError, DataError, MirrorError
from recipes import checkpoints, dpo, sft
from recipes.arguments import DataArguments
from recipes.data import load_pairs
from recipes.watch import one_line_failures
from tests.recipes.toy import ROOT, STUDENT, flags, reported

SAVING = {"save_strategy": "steps", "save_steps": 4}


def wait_for(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not done():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.005)


def test_a_killed_run_goes_on_to_the_same_weights(run_folder: Path, shape: Path, student: Path, tmp_path: Path) -> None:
    arguments = flags("sft", run_folder, tmp_path, from_scratch=shape, resume_from_checkpoint=True, **SAVING, **STUDENT)
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "recipes" / "sft.py"), *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: len(checkpoints.whole(tmp_path)) >= 2 or process.poll() is not None)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    last = checkpoints.whole(tmp_path)[-1]
    # Killed while it was saving: weights are there, and half of the state.
    cut = tmp_path / f"checkpoint-{int(last.name.removeprefix('checkpoint-')) + 1}"
    shutil.copytree(last, cut)
    (cut / "trainer_state.json").write_text((last / "trainer_state.json").read_text()[:100])
    (cut / "model.safetensors").write_bytes(b"")
    assert checkpoints.whole(tmp_path)[-1] == last
    with pytest.raises(ConfigError, match=f"{last.name} of a run that did not end; set resume_from_checkpoint: true"):
        sft.main(flags("sft", run_folder, tmp_path, from_scratch=shape, **SAVING, **STUDENT))
    for changed in (["--learning_rate", "1e-4"], ["--train_sampling_strategy", "group_by_length"]):
        with pytest.raises(ConfigError, match="another run, which differs in settings; resume with the same"):
            sft.main([*arguments, *changed])
    assert checkpoints.step(str(shutil.copytree(last, tmp_path / "kept"))) == int(last.name.removeprefix("checkpoint-"))
    shutil.rmtree(tmp_path / "kept")
    with pytest.raises(DataError, match="no whole checkpoint"):
        sft.main([*arguments, "--resume_from_checkpoint", str(cut)])
    sft.main(arguments)
    assert (tmp_path / "model.safetensors").read_bytes() == (student / "model.safetensors").read_bytes()
    report, undisturbed = reported(tmp_path), reported(student)
    assert f"checkpoint-{report['resumed_at_step']}" == last.name
    for name in ("train_loss", "eval_loss", "steps", "rows", "tokens"):
        assert report[name] == undisturbed[name]
    assert not [path.name for path in tmp_path.rglob("*") if path.suffix in (".pt", ".pth", ".bin", ".pkl")]
    with pytest.raises(ConfigError, match="holds a finished run"):
        sft.main(arguments)


@pytest.mark.parametrize("packing", [False, True])
def test_a_loss_that_is_no_number_names_its_rows(run_folder: Path, shape: Path, tmp_path: Path, packing: bool) -> None:
    wild = {"learning_rate": "1e30", "warmup_steps": 0, "targets": "rationale", "packing": packing}
    with pytest.raises(
        DataError, match=r"the loss became (nan|inf) in step \d, on rows .*; lower learning_rate"
    ) as caught:
        sft.main(flags("sft", run_folder, tmp_path, from_scratch=shape, **wild))
    named = re.search("on rows (.*?);", str(caught.value)).group(1).split(", ")
    known = load_pairs(DataArguments(str(run_folder)), ("prompt", "completion"))[0]["train"]["scene_id"]
    assert set(named) <= set(known) and len(named) >= 4
    assert not (tmp_path / "model.safetensors").exists()


def test_preferences_that_diverge_name_their_rows(run_folder: Path, student: Path, tmp_path: Path) -> None:
    wild = {"learning_rate": "1e30", "warmup_steps": 0}
    with pytest.raises(DataError, match=r"in step \d, on rows (more_)?books-train-\d+, "):
        dpo.main(flags("dpo", run_folder, tmp_path, model_name_or_path=student, **wild))
    assert not (tmp_path / "model.safetensors").exists()


def test_weights_that_are_no_numbers_are_not_saved(run_folder: Path, shape: Path, tmp_path: Path) -> None:
    wild = {"learning_rate": "1e39", "warmup_steps": 0, "save_strategy": "steps", "save_steps": 1}
    with pytest.raises(DataError, match="became NaN or infinite; nothing of it was saved"):
        sft.main(flags("sft", run_folder, tmp_path, from_scratch=shape, **wild))
    assert not checkpoints.whole(tmp_path) and not (tmp_path / "model.safetensors").exists()


def test_a_full_disk_keeps_the_last_good_checkpoint(run_folder: Path, shape: Path, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill() -> None:
        wait_for(lambda: bool(checkpoints.whole(tmp_path)))
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))

    filling = threading.Thread(target=fill)
    filling.start()
    try:
        said = r"disk is full .*; checkpoint-\d+ is whole; make room and set resume_from_checkpoint: true"
        with pytest.raises(MirrorError, match=said):
            sft.main(flags("sft", run_folder, tmp_path, from_scratch=shape, **SAVING, **STUDENT))
    finally:
        filling.join()
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    left = list(tmp_path.glob("checkpoint-*"))
    assert left and sorted(left) == sorted(checkpoints.whole(tmp_path))


def test_out_of_memory_names_the_knobs(tmp_path: Path) -> None:
    training = SFTConfig(str(tmp_path), use_cpu=True, bf16=False, per_device_train_batch_size=3, max_length=77)
    said = "batch_size 3, per_device_eval_batch_size 8 and max_length 77; lower one .* gradient_checkpointing: true"
    with pytest.raises(ConfigError, match=said), one_line_failures(training):
        torch.empty(1 << 60)
    with pytest.raises(ConfigError, match=said), one_line_failures(training):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(RuntimeError, match="shape"), one_line_failures(training):
        torch.zeros(2).view(3)
