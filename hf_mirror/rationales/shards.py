"""Where rationales and readings lie, in which shards, and what keeps those of different work apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from hf_mirror.errors import DataError
from hf_mirror.files import count_rows, read_batches, rows_of
from hf_mirror.schema import SCENE

ROLES = ("teacher", "student")
SPLITS = ("train", "validation")
SHARD_SCENES = 256

Row = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """Of the shards of a run those that one task does: the k-th of `of` parts."""

    k: int = 0
    of: int = 1

    @property
    def alone(self) -> bool:
        """Whether it is everything, so that nobody else works in the same folders."""
        return self.of == 1


def domain_folders(directory: Path) -> list[Path]:
    """The domain folders of a run, in order of name; none is a DataError."""
    folders = sorted(path.parent for path in directory.glob("*/report.json"))
    if not folders:
        raise DataError(f"{directory} holds no domain (a folder with report.json); run `mirror build` first")
    return folders


@dataclass(frozen=True)
class Shard:
    """Scenes that are worked on together, and the name of the file for what comes of them."""

    name: str
    table: pa.RecordBatch

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def scenes(self) -> list[Row]:
        """Its scenes as Python rows, which takes longer than all else about a shard that is there already."""
        return rows_of(self.table)


def shards(folder: Path, part: Part | None = None) -> Iterator[Shard]:
    """Every shard of a domain, or those in a part, one after the other."""
    number = 0
    for split in SPLITS:
        for i, table in enumerate(read_batches(folder / "scenes" / f"{split}.parquet", SHARD_SCENES, SCENE.names)):
            if part is None or number % part.of == part.k:
                yield Shard(_name(split, i), table)
            number += 1


def shard_names(folder: Path) -> list[str]:
    """The names of all shards of a domain."""
    rows = {split: count_rows(folder / "scenes" / f"{split}.parquet") for split in SPLITS}
    return [_name(split, i) for split, count in rows.items() for i in range(-(-count // SHARD_SCENES))]


def _name(split: str, number: int) -> str:
    return f"{split}-{number:05d}.parquet"


def count_scenes(directory: Path) -> int:
    """How many scenes the stages of a run walk over, for a progress bar."""
    folders = domain_folders(directory)
    return sum(count_rows(folder / "scenes" / f"{split}.parquet") for folder in folders for split in SPLITS)
