"""How long work shows itself: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

LINE_EVERY_SECONDS = 10.0


class Advance(Protocol):
    """Tells of work done: so many units, and tokens that were written for them."""

    def __call__(self, n: int, tokens: int = 0) -> None:
        """More is done."""


@contextmanager
def progress(total: int, what: str, unit: str = "scene") -> Iterator[Advance]:
    """Yields `advance(n, tokens)`. Writes to standard error, so that `--json` keeps standard output clean."""
    written, done, begin, last = 0, 0, time.monotonic(), time.monotonic()
    if sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(total=total, desc=what, unit=unit) as bar:

            def advance_bar(n: int, tokens: int = 0) -> None:
                nonlocal written
                written += tokens
                if written:
                    bar.set_postfix_str(f"{written / (time.monotonic() - begin):.0f} tokens/s", refresh=False)
                bar.update(n)

            yield advance_bar
        return

    def advance(n: int, tokens: int = 0) -> None:
        nonlocal written, done, last
        written += tokens
        done += n
        now = time.monotonic()
        if now - last >= LINE_EVERY_SECONDS:
            last = now
            rate = done / (now - begin)
            left = f", about {(total - done) / rate:.0f} s left" if rate and total > done else ""
            speed = f", {written / (now - begin):.0f} tokens/s" if written else ""
            say(f"{what}: {done} of {total} {unit}s, {rate:.1f}/s{speed}{left}")

    yield advance
    say(f"{what}: {done} {unit}s in {time.monotonic() - begin:.1f} s")


def say(line: str) -> None:
    """One line to the person watching."""
    print(line, file=sys.stderr, flush=True)
