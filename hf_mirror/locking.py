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
    folder.mkdir(parents=True, exist_ok=True)
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        raise DataError(refusal) from None
    except OSError:
        pass
    try:
        yield
    finally:
        os.close(held)
        with suppress(OSError):
            folder.rmdir()
