"""Results as a table in plain text: models and baselines side by side, every number with its interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

from hf_mirror.errors import DataError

Result = Mapping[str, Any]
HEADER = ("", "model", "accuracy", "95 % interval", "log-loss", "95 % interval", "coverage")
RIGHT = {2, 4, 6}  # columns of numbers


def table(results: Iterable[Result]) -> str:
    """One block per domain, regime, mode and benchmark revision, sorted by log-loss (lower is better).

    `results` are what `evaluate` writes. Baselines are marked `*` and shown once per block; they depend on the rows
    alone. Accuracy and coverage in per cent, log-loss in nats. Footnotes say what the intervals are, what chance and
    position mean, and where a block has too few users.
    """
    blocks: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        missing = [name for name in ("domain", "regime", "mode", "scores", "baselines") if name not in result]
        if missing:
            raise DataError(f"a result has no {missing[0]!r}; expected a file that `mirror evaluate` wrote")
        key = tuple(str(result[name]) for name in ("domain", "regime", "mode", "bench_revision"))
        blocks.setdefault(key, []).append(result)
    if not blocks:
        raise DataError("no results to show; run `mirror evaluate` first")
    titles = Counter(key[:3] for key in blocks)
    shown = [_block(blocks[key], named=titles[key[:3]] > 1) for key in sorted(blocks)]
    return "\n\n".join([*shown, _footnotes(blocks)]) + "\n"


def _block(results: list[Result], *, named: bool) -> str:
    """`named`: other rows have the same domain, regime and mode, so the title says which rows these are."""
    first = results[0]
    rows = [(_row(_name(result["model"]), result["scores"], result["coverage"])) for result in results]
    rows += [(_row(name.replace("_", "-"), scores, None)) for name, scores in first["baselines"].items()]
    rows.sort(key=lambda row: (row[0], row[1][1]))
    mark = " (underpowered)" if first["underpowered"] else ""
    title = (
        f"{first['domain']} · {first['regime']} · {first['mode']} · "
        f"{first['n_scenes']:,} scenes of {first['n_clusters']:,} users{mark}"
    )
    if named:
        title += f"\nrows of {first.get('bench') or 'a benchmark without a name'} ({first['bench_revision'][:17]})"
    return "\n".join([title, *_aligned([HEADER, *(cells for _, cells in rows)])])


def _name(model: str) -> str:
    """A Hub id as it is, a folder by its last part."""
    return model if model.count("/") == 1 and model[0] not in "/.~" else PurePath(model).name


def _row(name: str, scores: Mapping[str, Any], coverage: float | None) -> tuple[float, tuple[str, ...]]:
    """Sort key and cells; only baselines have no coverage."""
    accuracy, loss = scores["accuracy"], scores["log_loss"]
    cells = (
        "*" if coverage is None else "",
        name,
        f"{accuracy['value'] * 100:.1f}",
        _interval(accuracy, 100, 1),
        f"{loss['value']:.3f}",
        _interval(loss, 1, 3),
        "" if coverage is None else f"{coverage * 100:.1f}",
    )
    return loss["value"], cells


def _interval(score: Mapping[str, Any], factor: float, digits: int) -> str:
    if score["low"] is None:
        return "–"
    return f"{score['low'] * factor:.{digits}f} – {score['high'] * factor:.{digits}f}"


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = [
        "  ".join(
            cell.rjust(width) if column in RIGHT else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]


def _footnotes(blocks: Mapping[tuple[str, ...], list[Result]]) -> str:
    results = [result for block in blocks.values() for result in block]
    notes = [
        "Accuracy (%) and log-loss (nats) are averaged over the cyclic orders of a scene's options, then over scenes.",
        "Invalid and over-length rows count as wrong; coverage (%) is the share of rows that the model could answer.",
        "Intervals: 95 %, users drawn with replacement (below 100 users: cluster-robust t), or by users and true items",
        "  together where that is wider. A – means one user.",
        "* baseline. chance: uniform. popularity: interactions before the scene, +1. position-only: the truths' share",
        "  of each slot, which over all cyclic orders leaves chance.",
    ]
    if any(result["underpowered"] for result in results):
        widest = max((r.get("minimum_detectable_difference") or 0) for r in results if r["underpowered"])
        seen = (
            f"; two models closer than {widest * 100:.1f} points cannot be told apart (80 % power)"
            if widest > 5e-4
            else ""
        )
        notes.append(f"underpowered: fewer than 200 users{seen}.")
    for result in results:
        for reason, n_rows in sorted((result.get("failures") or {}).items()):
            where = f"{_name(result['model'])}, {result['domain']} · {result['regime']} · {result['mode']}"
            longer = " (the prompt is longer than the model's context)" if reason == "over_length" else ""
            notes.append(f"not answered: {where}: {n_rows:,} rows, {reason}{longer}")
    return "\n".join(notes)
