"""The generators of made-up feedback: they write where nothing else is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dataset_builders import sample

GENERATORS = sorted(path.stem for path in Path(sample.__file__).parent.glob("[a-z]*.py"))


def generate(name: str, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"dataset_builders.sample.{name}", str(out), "--users", "30", *options]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("name", GENERATORS)
def test_real_feedback_is_never_written_over(name: str, tmp_path: Path) -> None:
    """Faulty variant: a folder of a publisher's files, given by mistake, is replaced under the same names."""
    assert generate(name, tmp_path / "sample").returncode == 0
    again = tmp_path / "sample"
    assert generate(name, again, "--seed", "1").returncode == 0, "its own folder it may write again"
    real = tmp_path / "real"
    real.mkdir()
    for path in again.rglob("*"):
        if path.is_file() and not path.name.startswith("."):
            (real / path.relative_to(again)).parent.mkdir(parents=True, exist_ok=True)
            (real / path.relative_to(again)).write_text("a publisher's")
    before = {path: path.read_bytes() for path in real.rglob("*") if path.is_file()}
    refused = generate(name, real)
    assert refused.returncode == 1
    assert refused.stderr == (
        f"error: {real} holds what no generator of samples wrote; choose a new folder, or delete this one first\n"
    )
    assert {path: path.read_bytes() for path in real.rglob("*") if path.is_file()} == before
