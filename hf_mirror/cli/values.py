"""What words on the command line mean: folders, regimes, ranges, prices."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from hf_mirror.errors import ConfigError


def raw(given: Sequence[str], builders: Sequence[str]) -> dict[str, str]:
    """`NAME=PATH` pairs as a mapping; with one builder a bare path will do."""
    folders = {}
    for entry in given:
        name, found, path = entry.partition("=")
        if not found and len(builders) > 1:
            raise ConfigError(f"--raw {entry}: say whose folder it is: NAME={entry}")
        folders[name if found else builders[0]] = path if found else entry
    return folders


def regimes(given: Sequence[str], builders: Sequence[str]) -> dict[str, tuple[str, bool]]:
    """Each builder's regime, and whether it was named for this builder alone."""
    everywhere = [entry for entry in given if "=" not in entry]
    if len(everywhere) > 1:
        raise ConfigError(f"--regime names {' and '.join(everywhere)} for all builders; give one, or NAME=REGIME")
    found = dict.fromkeys(builders, (everywhere[0] if everywhere else "popularity_matched", False))
    for name, _, regime in (entry.partition("=") for entry in given if "=" in entry):
        if name not in found:
            raise ConfigError(f"--regime {name}={regime}: {name} is not built; expected one of {', '.join(builders)}")
        found[name] = (regime, True)
    return found


def bounds(text: str) -> tuple[int, int]:
    """`2-10` or `5` as two numbers, both included."""
    low, _, high = text.partition("-")
    if not (low.isdecimal() and (high or low).isdecimal()):
        raise ConfigError(f"found {text!r}; expected a number or a range of numbers such as 2-10")
    return int(low), int(high or low)


def price(text: str) -> float:
    """A number of 0 or more."""
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found < float("inf"):
        raise argparse.ArgumentTypeError(f"found {text!r}; expected a number of 0 or more")
    return found


def prices(text: str) -> tuple[float, float]:
    """`0.5,1.5`: of tokens in and out."""
    into, comma, out = text.partition(",")
    if not comma:
        raise argparse.ArgumentTypeError(f"found {text!r}; expected two numbers, of tokens in and out, such as 0.5,1.5")
    return price(into), price(out)
