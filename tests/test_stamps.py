"""A stage runs when its settings, inputs or outputs changed, and only then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hf_mirror.pipeline.stamps import Stamps


class Workshop:
    """Doubles the number in `in.txt` into `out.txt`, as a stage; counts how often it did."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.runs = folder, 0
        (folder / "in.txt").write_text("21")

    def run(self, settings: Any = None, name: str = "double", fail: bool = False) -> bool:
        def work() -> None:
            self.runs += 1
            if fail:
                raise RuntimeError("no")
            (self.folder / "out.txt").write_text(str(2 * int((self.folder / "in.txt").read_text())))

        inputs, outputs = [self.folder / "in.txt"], [self.folder / "out.txt"]
        return Stamps(self.folder).run(name, settings, inputs, lambda: outputs, work)


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def test_a_stage_runs_once(workshop: Workshop) -> None:
    assert workshop.run({"b": 1, "a": 2})
    assert not workshop.run({"a": 2, "b": 1})
    assert workshop.runs == 1
    assert (workshop.folder / "out.txt").read_text() == "42"


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "in.txt").write_text("5"),
        lambda folder: (folder / "out.txt").write_text("tampered"),
        lambda folder: (folder / "out.txt").unlink(),
        lambda folder: (folder / ".stages" / "double.json").unlink(),
    ],
    ids=["input changed", "output changed", "output gone", "stamp gone"],
)
def test_a_change_makes_it_run_again(workshop: Workshop, change: Callable[[Path], Any]) -> None:
    workshop.run()
    change(workshop.folder)
    assert workshop.run()
    assert not workshop.run()
    assert workshop.runs == 2
    assert int((workshop.folder / "out.txt").read_text()) == 2 * int((workshop.folder / "in.txt").read_text())


def test_other_settings_and_names_are_other_work(workshop: Workshop) -> None:
    assert workshop.run({"n": 1}) and workshop.run({"n": 2}) and workshop.run({"n": 1})
    assert workshop.run({"n": 1}, name="other")
    assert not workshop.run({"n": 1})


def test_a_stage_that_failed_is_not_done(workshop: Workshop) -> None:
    workshop.run()
    with pytest.raises(RuntimeError):
        workshop.run({"new": True}, fail=True)
    assert workshop.run(), "the stamp of the run before the failure must be gone"


def test_missing_inputs_are_not_an_error_here(workshop: Workshop) -> None:
    (workshop.folder / "in.txt").unlink()
    with pytest.raises(FileNotFoundError):
        workshop.run()


def test_seconds_are_kept(tmp_path: Path) -> None:
    stages = Stamps(tmp_path)
    stages.run("x", {}, [], lambda: [], lambda: None)
    assert stages.seconds["x"] >= 0
