"""Two processes learn what one learns in twice the steps of accumulation, and packing changes no loss."""

from __future__ import annotations

from pathlib import Path

import pytest

from hf_mirror import files
from recipes import dpo, sft
from tests.recipes.toy import ROOT, flags, in_two_processes, reported

# Both runs in one start, which is what takes the time.
TWICE = """
import json, sys
from recipes import sft
for arguments in json.loads(sys.argv[1]):
    sft.main(arguments)
"""


def test_two_processes_learn_what_one_does(run_folder: Path, shape: Path, tmp_path: Path) -> None:
    def arguments(processes: int, packing: bool) -> list[str]:
        out = tmp_path / f"{processes}-{packing}"
        steps = {"max_steps": 4, "logging_steps": 1, "warmup_steps": 1, "targets": "direct", "packing": packing}
        size = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2 // processes}
        return flags("sft", run_folder, out, from_scratch=shape, choice_scenes=0, **steps, **size)

    (tmp_path / "twice.py").write_text(TWICE)
    in_two_processes(tmp_path / "twice.py", files.canonical_json([arguments(2, False), arguments(2, True)]))
    for packing in (False, True):
        sft.main(arguments(1, packing))
        two, one = (reported(tmp_path / f"{processes}-{packing}") for processes in (2, 1))
        assert (two["hardware"]["processes"], one["hardware"]["processes"]) == (2, 1)
        curves = [[point["loss"] for point in run["curve"] if "loss" in point] for run in (two, one)]
        assert len(curves[0]) == 4 and curves[0] == pytest.approx(curves[1], abs=1e-5)
        assert curves[0][-1] < curves[0][0] - 0.1


def test_two_processes_share_what_the_reference_says(run_folder: Path, student: Path, tmp_path: Path) -> None:
    def arguments(processes: int) -> list[str]:
        steps = {"max_steps": 2, "logging_steps": 1, "choice_scenes": 0, "precompute_ref_log_probs": True}
        size = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2 // processes}
        return flags("dpo", run_folder, tmp_path / str(processes), model_name_or_path=student, **steps, **size)

    in_two_processes(ROOT / "recipes" / "dpo.py", *arguments(2))
    dpo.main(arguments(1))
    two, one = (reported(tmp_path / str(processes)) for processes in (2, 1))
    curves = [[point["loss"] for point in run["curve"] if "loss" in point] for run in (two, one)]
    assert len(curves[0]) == 2 and curves[0] == pytest.approx(curves[1], abs=1e-4)
    assert not list((tmp_path / "2").glob("reference-*"))


def test_packed_rows_do_not_see_each_other(run_folder: Path, student: Path, tmp_path: Path) -> None:
    losses = []
    for packing in (False, True):
        config, out = tmp_path / "sft.yaml", tmp_path / str(packing)
        config.write_text(
            f"dataset: {run_folder}\nmodel_name_or_path: {student}\noutput_dir: {out}\npacking: {packing}\n"
            "targets: [direct]\nlearning_rate: 0.0\nmax_steps: 1\nmax_length: 512\nper_device_eval_batch_size: 32\n"
            "use_cpu: true\nbf16: false\nsave_strategy: 'no'\n"
        )
        sft.main(["--config", str(config)])
        losses.append(reported(out)["eval_loss"])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
