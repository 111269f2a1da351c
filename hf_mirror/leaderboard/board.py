"""Results in blocks that may be compared: what the page shows, as one JSON value. Same results, same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hf_mirror.leaderboard.gather import Entry, Gathered
from hf_mirror.leaderboard.ranks import rank_sets

Facts = dict[str, Any]
BLOCK = ("domain", "regime", "mode", "subset", "bench", "rows")
OF_BLOCK = ("n_scenes", "n_clusters", "underpowered")
MOST_REJECTED = 500  # lines
LEAST = "minimum_detectable_difference"
ELSEWHERE = {*BLOCK, *OF_BLOCK, LEAST, "bench_revision", "baselines", "baseline", "model", "versions", "hardware"}


def board(gathered: Gathered) -> Facts:
    """`{endpoint, blocks: [{domain, regime, mode, subset, …, entries: [{name, kind, rank, scores, …}]}], rejected:
    [{where, reason}], n_rejected}`.

    A block holds what was scored on the very same rows in the same mode, the lowest log-loss first. Baselines stand in
    every block of their rows, whatever its mode; chance, popularity and position-only are taken from any result.
    """
    blocks: dict[tuple[str, ...], list[Entry]] = {}
    for entry in (entry for entry in gathered.entries if not entry.is_baseline):
        blocks.setdefault(_key(entry), []).append(entry)
    for entry in (entry for entry in gathered.entries if entry.is_baseline):
        mine = [key for key in blocks if _rows(key) == _rows(_key(entry))]
        for key in mine or [_key(entry)]:
            blocks.setdefault(key, []).append(entry)
    made = [_block(key, blocks[key], gathered) for key in sorted(blocks)]
    return {
        "endpoint": gathered.endpoint,
        "blocks": made,
        "rejected": sorted(gathered.rejected, key=lambda line: (line["where"], line["reason"]))[:MOST_REJECTED],
        "n_rejected": len(gathered.rejected),
    }


def _key(entry: Entry) -> tuple[str, ...]:
    return (*(entry.result[name] for name in BLOCK[:4]), entry.bench, entry.rows)


def _rows(key: tuple[str, ...]) -> tuple[str, ...]:
    """What is scored, whatever the mode. Local baselines name their benchmark's folder in another way than models do:
    its hash will do."""
    domain, regime, _, subset, _, rows = key
    return domain, regime, subset, rows


def _block(key: tuple[str, ...], entries: Sequence[Entry], gathered: Gathered) -> Facts:
    entries = sorted(entries, key=lambda entry: (not entry.is_baseline, entry.name, entry.where))
    first = entries[0].result
    shown = [_shown(entry) for entry in entries]
    for entry in shown:
        entry["memorised"] = gathered.probes.get((entry["name"], first["domain"]))
    named = {entry["name"] for entry in shown}
    for name, scores in first["baselines"].items():
        if (name := name.replace("_", "-")) not in named:
            shown.append({"name": name, "kind": "baseline", "scores": scores})
    rows, answers = gathered.answers(entries)
    losses = {place: entry["scores"]["log_loss"] for place, entry in enumerate(shown)}
    for place, rank in rank_sets(losses, rows, answers).items():
        shown[place] |= {"rank": list(rank), "paired": place in answers and len(answers) > 1}
    shown.sort(key=lambda entry: (entry["scores"]["log_loss"]["value"], entry["name"]))
    return {
        **dict(zip(BLOCK, key, strict=True)),
        "versions": sorted({entry.version for entry in entries if entry.version}),
        "chance": {name: score["value"] for name, score in first["baselines"]["chance"].items()},
        **{name: first[name] for name in OF_BLOCK},
        LEAST: max((entry.result[LEAST] for entry in entries if LEAST in entry.result), default=None),
        "entries": shown,
    }


def _shown(entry: Entry) -> Facts:
    return {
        "name": entry.name,
        "kind": "baseline" if entry.is_baseline else "model",
        "status": entry.status,
        "where": entry.where,
        "origin": entry.origin,
        **{name: value for name, value in entry.result.items() if name not in ELSEWHERE},
    }
