"""Licence tiers: what of a row may leave when its source may not be redistributed (closed), and when it may (open).

Closed rows keep their scene_id, the number of options, the prompt's hash and masked thoughts (see masking.py):
no user or item ids, times, ratings, history, text or truth. Further decisions, each because a *join* of published
rows would otherwise tell the truth:
- Chosen and rejected are an unordered pair, in the order of a hash of their masked text. No column says which is
  which: no `chosen_entropy`, `rejected_entropy`, roles or rule.
- Rationales carry no role, model, sample index, stated choice or `choice_probs`. Chosen thoughts come from the
  teacher, so a role beside the same thought would order the pair; a stated choice or an argmax beside it would name
  the chosen option. Who wrote them, and with which licence, is said per repo, on the card and in provenance.json.
- `teacher_hit_rate` and `student_hit_rate` are left out: counted against the thoughts that name an option, they
  single out the true one. Entropies do not depend on the truth and stay.
- Rows are ordered by scene_id, then by a keyed hash, so that their order says nothing about users or time.
- `row_hmac`, of the row as it is in full, can be checked only with the raw files (sealing.py). What a rebuild cannot
  give (the thoughts as they were written, by whom, and which was chosen) lies beside the rows as one sealed file.
What remains is that a pair narrows the truth to the two options its thoughts lean to, as an index into an exposure
that is not published.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from hf_mirror.files import parquet, read_rows, read_table
from hf_mirror.prompts import parse, prompt_sha256
from hf_mirror.publish.masking import Masker, SceneMask
from hf_mirror.schema import INDEX, SCORE, SCORES, TEXT, rows_of
from hf_mirror.sealing import Seal

Row = Mapping[str, Any]

FROM_SCENE = ("domain", "split", "n_options", "prompt")  # what a rebuild gives of any row, by its scene_id
SEALED = ("rationales", "preferences")  # the kinds of rows that a rebuild does not give in full

KEY = {"scene_id": TEXT, "domain": TEXT, "split": TEXT, "n_options": INDEX, "prompt_sha256": TEXT}
TELLING_SCORES = frozenset({"teacher_hit_rate", "student_hit_rate", "chosen_entropy", "rejected_entropy", "chosen_ifd"})
CLOSED_SCORES = tuple(name for name in SCORES if name not in TELLING_SCORES)

MARK = {"row_hmac": TEXT}

CLOSED_SCENE = rows_of({**KEY, **MARK})
CLOSED_RATIONALE = rows_of({**KEY, "thought": TEXT, "finish_reason": TEXT, "parse_error": TEXT, **MARK})
CLOSED_PAIR = rows_of({**KEY, "thoughts": [TEXT], "scores": dict.fromkeys(CLOSED_SCORES, SCORE), **MARK})
CLOSED_BENCH = rows_of({"scene_id": TEXT, "variant_id": TEXT, "prompt_sha256": TEXT, "n_options": INDEX, **MARK})


class ClosedDomain:
    """The closed rows of one domain folder, from rows in full. `withheld` counts the thoughts that could not be masked,
    by kind."""

    def __init__(self, folder: Path):
        items = {row["item_id"]: row["attributes"] or {} for row in read_rows(folder / "tables" / "items.parquet")}
        users = {row["user_id"]: row["profile"] or {} for row in read_rows(folder / "tables" / "users.parquet")}
        self._masker = Masker(items, users)
        self._seal = Seal.of(folder)
        columns = ["scene_id", "user_id", "split", "prompt_sha256", "history", "exposure"]
        tables = [read_table(path).select(columns) for path in sorted((folder / "scenes").glob("*.parquet"))]
        self._scenes = {row["scene_id"]: row for table in tables for row in table.to_pylist()}
        self.withheld = {"rationales": 0, "preferences": 0}
        self._at: str | None = None
        self._mask_of_scene: SceneMask

    def scenes(self, rows: pa.Table) -> list[dict[str, Any]]:
        """CLOSED_SCENE rows of SCENE rows."""
        return _ordered({**self._key(row), "row_hmac": self._seal.mark(row)} for row in rows.to_pylist())

    def rationales(self, rows: pa.Table) -> list[dict[str, Any]]:
        """CLOSED_RATIONALE rows of READ_RATIONALE rows; a thought that cannot be masked is null and counted."""
        return _ordered(
            {
                **self._key(row),
                "thought": self._mask(row["thought"], row["scene_id"], "rationales"),
                "finish_reason": row["finish_reason"],
                "parse_error": row["parse_error"],
                "row_hmac": self._seal.mark(row),
            }
            for row in rows.sort_by("scene_id").to_pylist()
        )

    def preferences(self, rows: pa.Table) -> list[dict[str, Any]]:
        """CLOSED_PAIR rows of PAIR rows: both thoughts in the order of a hash, whichever of them was chosen."""
        return _ordered(
            {**self._pair(row), "row_hmac": self._seal.mark(row)} for row in rows.sort_by("scene_id").to_pylist()
        )

    def bench(self, rows: pa.Table) -> list[dict[str, Any]]:
        """CLOSED_BENCH rows of BENCH rows; the hash is that of the row's own prompt, so that every variant can be
        checked."""
        return _ordered(
            {
                "scene_id": row["scene_id"],
                "variant_id": row["variant_id"],
                "prompt_sha256": prompt_sha256(row["prompt"]),
                "n_options": len(row["choices"]),
                "row_hmac": self._seal.mark(row),
            }
            for row in rows.to_pylist()
        )

    def sealed(self, kind: str, split: str, rows: pa.Table) -> bytes:
        """What a rebuild cannot give of the rows, in their order: Parquet, encrypted."""
        written = rows.drop_columns([name for name in FROM_SCENE if name in rows.column_names])
        return self._seal.close(parquet(written), kind, split)

    def _pair(self, row: Row) -> dict[str, Any]:
        key = self._key(row)
        texts = (parse(row[side][-1]["content"], key["n_options"]).thought for side in ("chosen", "rejected"))
        thoughts = [self._mask(text, row["scene_id"], "preferences") for text in texts]
        scores = {name: row["scores"][name] for name in CLOSED_SCORES}
        return {**key, "thoughts": sorted(thoughts, key=lambda t: _hash(row["scene_id"], t)), "scores": scores}

    def _key(self, row: Row) -> dict[str, Any]:
        scene = self._scenes[row["scene_id"]]
        return {
            "scene_id": row["scene_id"],
            "domain": row["domain"],
            "split": scene["split"],
            "n_options": len(scene["exposure"]),
            "prompt_sha256": scene["prompt_sha256"],
        }

    def _mask(self, thought: str | None, scene_id: str, kind: str) -> str | None:
        if thought is None:
            return None
        if scene_id != self._at:  # rows come scene by scene, and a scene's masks are made once
            self._at, self._mask_of_scene = scene_id, self._masker.scene(self._scenes[scene_id])
        masked = self._mask_of_scene.mask(thought)
        self.withheld[kind] += masked is None
        return masked


def _hash(*values: str | None) -> str:
    return hashlib.sha256("\0".join(value or "" for value in values).encode()).hexdigest()


def _ordered(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """By scene, then by the keyed hash: the order in which rows were made tells nothing."""
    return sorted(rows, key=lambda row: (row["scene_id"], row["row_hmac"]))
