"""One holder of a folder at a time, also where it comes and goes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hf_mirror import PROJECT, locking
from hf_mirror.errors import DataError

RACER = """
import pathlib, sys, time
from hf_mirror.errors import DataError
from hf_mirror.locking import only_one
folder, inside = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
end, held = time.monotonic() + 1.5, 0
while time.monotonic() < end:
    try:
        with only_one(folder, "held"):
            inside.mkdir()  # fails where another is inside
            inside.rmdir()
            held += 1
    except DataError:
        pass
print(held)
"""


def test_who_comes_later_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    with locking.only_one(tmp_path / "a", "first"):
        with pytest.raises(DataError, match="second"), locking.only_one(tmp_path / "a", "second"):
            pass
        with pytest.raises(DataError, match="third"), locking.only_one(tmp_path / "a", "third"):
            pass
    assert not (tmp_path / "a").exists()


def test_who_opened_a_folder_that_is_gone_opens_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faulty variant: a handle of a removed folder is held, while somebody else holds the new one."""
    folder, opened = tmp_path / "a", os.open

    def late(path: Path, flags: int) -> int:
        handle = opened(path, flags)
        monkeypatch.setattr(os, "open", opened)
        path.rmdir()
        return handle

    monkeypatch.setattr(os, "open", late)
    with (
        locking.only_one(folder, "first"),
        pytest.raises(DataError, match="second"),
        locking.only_one(folder, "second"),
    ):
        pass


def test_never_two_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RACER, tmp_path / "lock", tmp_path / "inside"]
    racers = [
        subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(PROJECT)}, stdout=subprocess.PIPE) for _ in "abc"
    ]
    held = [int(racer.communicate(timeout=60)[0] or -1) for racer in racers]
    assert all(racer.returncode == 0 for racer in racers)
    assert sum(held) > 100
