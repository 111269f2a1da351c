"""Generators of made-up, openly licensed feedback in publishers' formats, so that everything runs without real data."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from hf_mirror.errors import DataError, MirrorError

MARK = ".made-up"


def claim(out: Path) -> None:
    """Marks a new or empty folder as a generator's; DataError for one with files that no generator wrote, which would
    be lost under the same names."""
    if out.is_dir() and any(out.iterdir()) and not (out / MARK).exists():
        raise DataError(
            f"{out} holds what no generator of samples wrote; choose a new folder, or delete this one first"
        )
    out.mkdir(parents=True, exist_ok=True)
    (out / MARK).touch()


def run(command: argparse.ArgumentParser, generate: Callable[..., None]) -> None:
    """A generator as a program: DIR, --seed, and its other arguments as options."""
    command.add_argument("out", type=Path, metavar="DIR", help="a new folder, or one of an earlier sample")
    command.add_argument("--seed", type=int, default=0, help="the same seed gives the same bytes (0)")
    try:
        generate(**vars(command.parse_args()))
    except MirrorError as error:
        command.exit(error.exit_code, f"error: {error}\n")
    except OSError as error:
        command.exit(1, f"error: {error.strerror or error} ({error.filename})\n")
