"""One process at a time in a folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hf_mirror.errors import DataError


@contextmanager
def only_one(folder: Path, refusal: str) -> Iterator[None]:
    """Holds a folder on this machine, which is made if it is not there; a DataError with `refusal` where another
    process holds it. What is empty afterwards is removed.

    File systems that cannot lock a folder (some that are shared) go unguarded.
    """
    held = _hold(folder, refusal)
    try:
        yield
    finally:
        with suppress(OSError):
            folder.rmdir()  # while it is held: who opened it before sees that it is gone
        os.close(held)


def _hold(folder: Path, refusal: str) -> int:
    """A handle that holds the folder which has this name now."""
    while True:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):  # unlike exist_ok, also where it goes away again at once
            folder.mkdir()
        try:
            held = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue  # removed by who held it before
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(held)
            raise DataError(refusal) from None
        except OSError:
            pass
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(held), folder.stat()):
                return held
        os.close(held)
