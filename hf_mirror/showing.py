"""`mirror show`: scenes as a person reads them, ids replaced by titles and times by distances, and what was decided."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from hf_mirror.errors import ConfigError, DataError
from hf_mirror.files import read_table
from hf_mirror.prompts import LABELS, Parsed, parse
from hf_mirror.rationales.notes import check_notes
from hf_mirror.rationales.shards import ROLES, domain_folders
from hf_mirror.rendering import ago
from hf_mirror.splits import SPLITS

FACTS = (
    "scene_id", "domain", "split", "regime", "user_id", "gap_seconds", "session_id", "impression_id", "n_clicked",
    "truncated",
)  # fmt: skip


def show(
    directory: Path,
    domain: str | None = None,
    split: str | None = None,
    n: int = 3,
    scene: str | None = None,
    decisions: bool = False,
) -> dict[str, Any]:
    """The first `n` scenes of a split (default: train) of each domain, or those whose id begins with `scene`.

    Returns `{"scenes": [...]}`: the facts of each, its user's profile, its memory (title, `ago`, signal) and its
    options, the real choice marked; with `decisions`, what both roles wrote, how it was read, and which became the
    chosen and the rejected one of a pair. Raises DataError for a domain or scene that is not there.
    """
    if n < 1:
        raise ConfigError(f"n is {n}; expected 1 or more")
    folders = {folder.name: folder for folder in domain_folders(directory)}
    if domain is not None and domain not in folders:
        raise DataError(f"{directory} has no domain {domain!r}; it has {', '.join(folders)}")
    if split is not None and split not in SPLITS:
        raise ConfigError(f"split {split!r} is not known; choose one of {', '.join(SPLITS)}")
    splits = [split] if split else list(SPLITS) if scene else ["train"]
    found = []
    for name in [domain] if domain else folders:
        rows = [row for part in splits for row in _rows(folders[name] / "scenes" / f"{part}.parquet", scene, n)][:n]
        readable = _readable(folders[name], rows)
        if decisions:
            decided = _decided(folders[name], [row["scene_id"] for row in rows])
            readable = [row | {"decisions": decided[row["scene_id"]]} for row in readable]
        found += readable
    if not found:
        where = f"{directory}{'' if domain is None else f', domain {domain}'}, {' and '.join(splits)}"
        raise DataError(
            f"{where}: found no scene{f' whose id begins with {scene}' if scene else ''}; try another split"
        )
    return {"scenes": found}


def _rows(path: Path, scene: str | None, n: int) -> list[dict[str, Any]]:
    table = read_table(path)
    if scene:
        table = table.filter(pc.starts_with(table["scene_id"], scene))
    return table.slice(0, n).to_pylist()


def _readable(folder: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    items = {entry["item_id"] for row in rows for entry in (*row["history"], *row["exposure"])}
    attributes = _maps(folder / "tables" / "items.parquet", "item_id", "attributes", items)
    profiles = _maps(folder / "tables" / "users.parquet", "user_id", "profile", {row["user_id"] for row in rows})
    return [
        {name: row[name] for name in FACTS}
        | {"time": f"{row['timestamp']:%Y-%m-%d %H:%M} UTC", "profile": profiles[row["user_id"]]}
        | {"previous_event": None if row["gap_seconds"] is None else ago(row["gap_seconds"])}
        | {"memory": [_remembered(row, entry, attributes) for entry in row["history"]]}
        | {"options": [_option(row, slot, attributes) for slot in range(len(row["exposure"]))]}
        for row in rows
    ]


def _remembered(row: Mapping[str, Any], entry: Mapping[str, Any], attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "title": attributes[entry["item_id"]].get("title"),
        "ago": ago(int((row["timestamp"] - entry["timestamp"]).total_seconds())) if entry["timestamp"] else None,
        "positive": entry["positive"],
        "signal": json.loads(entry["signal"] or "null"),
    }


def _option(row: Mapping[str, Any], slot: int, attributes: Mapping[str, Any]) -> dict[str, Any]:
    shown = row["exposure"][slot]
    return {
        "label": LABELS[slot] if slot < len(LABELS) else str(slot + 1),
        "title": attributes[shown["item_id"]].get("title"),
        **{name: value for name, value in shown.items() if name != "item_id"},
        "chosen": slot == row["choice_index"],
    }


def _decided(folder: Path, ids: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Per scene the decisions of both roles and, without a thought, of the reader."""
    check_notes(folder)
    pairs = {row["scene_id"]: row for row in _some(folder, "preferences", ids)}
    found: dict[str, list[dict[str, Any]]] = {scene: [] for scene in ids}
    for row in _some(folder, "readings/direct", ids):
        found[row["scene_id"]].append({"role": "direct", "sample": 0, "probabilities": row["choice_probs"],
                                       "reader": row["reader"]})  # fmt: skip
    for role in ROLES:
        readings = {(row["scene_id"], row["sample_index"]): row for row in _some(folder, f"readings/{role}", ids)}
        taken: set[tuple[str, str]] = set()  # of equal decisions the first stands in the pair
        for row in sorted(_some(folder, f"rationales/{role}", ids), key=lambda row: row["sample_index"]):
            scene, reading = row["scene_id"], readings.get((row["scene_id"], row["sample_index"]), {})
            became = [
                side
                for side in ("chosen", "rejected")
                if (pair := pairs.get(scene)) and pair[f"{side}_role"] == role and (scene, side) not in taken
                and row["stated_choice"] is not None
                and parse(pair[side][0]["content"], len(LABELS)) == Parsed(row["thought"], row["stated_choice"], None)
            ]  # fmt: skip
            taken.update((scene, side) for side in became)
            found[scene].append({
                "role": role, "sample": row["sample_index"], "model": row["model"], "thought": row["thought"],
                "states": None if row["stated_choice"] is None else LABELS[row["stated_choice"]],
                "parse_error": row["parse_error"], "reader": reading.get("reader"),
                "probabilities": reading.get("choice_probs"), "became": became[0] if became else None,
            })  # fmt: skip
    return found


def _some(folder: Path, what: str, ids: list[str]) -> list[dict[str, Any]]:
    rows = [
        read_table(path).filter(pc.field("scene_id").isin(pa.array(ids, pa.string())))
        for path in sorted((folder / what).glob("*.parquet"))
    ]
    return [row for table in rows for row in table.to_pylist()]


def _maps(path: Path, key: str, column: str, wanted: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The open maps of some ids, of a table that may hold millions."""
    try:
        found = pl.scan_parquet(path, glob=False).filter(pl.col(key).is_in(list(wanted))).select(key, column).collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} does not read as Parquet ({reason}); run `mirror build` again") from None
    return {name: json.loads(text or "{}") for name, text in found.iter_rows()}
