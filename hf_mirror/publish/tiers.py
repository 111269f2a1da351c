"""Licence tiers: what of a row may leave when its source may not be redistributed (closed), and when it may (open).

Closed rows of scenes, rationales and the benchmark keep their scene_id, the number of options and masked thoughts (see
masking.py): no user or item ids, times, ratings, history, text or truth. What else is left out is left out because a
*join* of published rows, of one version or of two, told the truth:
- Of a preference pair nothing is published but its keyed hash. A pair exists only where the teacher hit, the thought
  that pairs of two rules share is the chosen one, and a scene that has no pair tells something, too.
- Rationales carry no role, model, sample index, stated choice or `choice_probs`. Who wrote them, and with which
  licence, is said per repo, on the card and in provenance.json.
- No hash of a prompt: whoever guesses all of a prompt could check the guess.
- How many truths stand in each slot is not said: with few scenes of a K that is the truth.
- Rows are ordered by scene_id, then by a keyed hash, so that their order says nothing about users or time.
`row_hmac`, of the row as it is in full, can be checked only with the raw files (sealing.py). What a rebuild cannot give
(the thoughts as they were written, by whom, and which was chosen) lies beside the rows as one sealed file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from hf_mirror.files import parquet, read_rows, read_table
from hf_mirror.publish.masking import Masker, SceneMask
from hf_mirror.schema import INDEX, TEXT, rows_of
from hf_mirror.sealing import Seal

Row = Mapping[str, Any]

# What of a row a rebuild gives, by its scene_id; `completion` is `chosen` again.
FROM_SCENE = ("domain", "split", "n_options", "prompt", "completion")
SEALED = ("rationales", "preferences")  # the kinds of rows that a rebuild does not give in full

KEY = {"scene_id": TEXT, "domain": TEXT, "split": TEXT, "n_options": INDEX}
MARK = {"row_hmac": TEXT}

CLOSED_SCENE = rows_of({**KEY, **MARK})
CLOSED_RATIONALE = rows_of({**KEY, "thought": TEXT, "finish_reason": TEXT, "parse_error": TEXT, **MARK})
CLOSED_PAIR = rows_of({"domain": TEXT, "split": TEXT, **MARK})
CLOSED_BENCH = rows_of({"scene_id": TEXT, "variant_id": TEXT, "n_options": INDEX, **MARK})


class ClosedDomain:
    """The closed rows of one domain folder, from rows in full. `withheld` counts the thoughts that could not be
    masked."""

    def __init__(self, folder: Path):
        items = {row["item_id"]: row["attributes"] or {} for row in read_rows(folder / "tables" / "items.parquet")}
        users = {row["user_id"]: row["profile"] or {} for row in read_rows(folder / "tables" / "users.parquet")}
        self._masker = Masker(items, users)
        self._seal = Seal.of(folder)
        columns = ["scene_id", "user_id", "split", "history", "exposure"]
        tables = [read_table(path).select(columns) for path in sorted((folder / "scenes").glob("*.parquet"))]
        self._scenes = {row["scene_id"]: row for table in tables for row in table.to_pylist()}
        self.withheld = 0
        self._at: str | None = None
        self._mask_of_scene: SceneMask

    def scenes(self, rows: pa.Table) -> list[dict[str, Any]]:
        """CLOSED_SCENE rows of SCENE rows."""
        return _ordered({**self._key(row), **self._mark(row)} for row in rows.to_pylist())

    def rationales(self, rows: pa.Table) -> list[dict[str, Any]]:
        """CLOSED_RATIONALE rows of READ_RATIONALE rows; a thought that cannot be masked is null and counted."""
        return _ordered(
            {
                **self._key(row),
                "thought": self._mask(row["thought"], row["scene_id"]),
                "finish_reason": row["finish_reason"],
                "parse_error": row["parse_error"],
                **self._mark(row),
            }
            for row in rows.sort_by("scene_id").to_pylist()
        )

    def preferences(self, rows: pa.Table) -> list[dict[str, Any]]:
        """CLOSED_PAIR rows of PAIR rows: that there are so many."""
        return _ordered({"domain": row["domain"], "split": row["split"], **self._mark(row)} for row in rows.to_pylist())

    def bench(self, rows: pa.Table) -> list[dict[str, Any]]:
        """CLOSED_BENCH rows of BENCH rows."""
        return _ordered(
            {
                "scene_id": row["scene_id"],
                "variant_id": row["variant_id"],
                "n_options": len(row["choices"]),
                **self._mark(row),
            }
            for row in rows.to_pylist()
        )

    def sealed(self, kind: str, split: str, rows: pa.Table) -> bytes:
        """What a rebuild cannot give of the rows, in their order: Parquet, encrypted."""
        written = rows.drop_columns([name for name in FROM_SCENE if name in rows.column_names])
        return self._seal.close(parquet(written), kind, split)

    def _key(self, row: Row) -> dict[str, Any]:
        scene = self._scenes[row["scene_id"]]
        return {
            "scene_id": row["scene_id"],
            "domain": row["domain"],
            "split": scene["split"],
            "n_options": len(scene["exposure"]),
        }

    def _mark(self, row: Row) -> dict[str, str]:
        return {"row_hmac": self._seal.mark(row)}

    def _mask(self, thought: str | None, scene_id: str) -> str | None:
        if thought is None:
            return None
        if scene_id != self._at:  # rows come scene by scene, and a scene's masks are made once
            self._at, self._mask_of_scene = scene_id, self._masker.scene(self._scenes[scene_id])
        masked = self._mask_of_scene.mask(thought)
        self.withheld += masked is None
        return masked


def _ordered(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """By scene, then by the keyed hash: the order in which rows were made tells nothing."""
    return sorted(rows, key=lambda row: (row.get("scene_id", ""), row["row_hmac"]))
