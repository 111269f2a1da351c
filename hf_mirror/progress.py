"""How long work shows itself: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LINE_EVERY_SECONDS = 10.0


@contextmanager
def progress(total: int, what: str, unit: str = "scene") -> Iterator[Callable[[int], None]]:
    """Yields `advance(n)`. Writes to standard error, so that `--json` keeps standard output clean."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(total=total, desc=what, unit=unit) as bar:
            yield lambda n: bar.update(n) and None
        return
    done, begin, last = 0, time.monotonic(), time.monotonic()

    def advance(n: int) -> None:
        nonlocal done, last
        done += n
        now = time.monotonic()
        if now - last >= LINE_EVERY_SECONDS:
            last = now
            rate = done / (now - begin)
            left = f", about {(total - done) / rate:.0f} s left" if rate and total > done else ""
            say(f"{what}: {done} of {total} {unit}s, {rate:.1f}/s{left}")

    yield advance
    say(f"{what}: {done} {unit}s in {time.monotonic() - begin:.1f} s")


def say(line: str) -> None:
    """One line to the person watching."""
    print(line, file=sys.stderr, flush=True)
