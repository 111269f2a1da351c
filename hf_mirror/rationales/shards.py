"""Where rationales and readings lie, in which shards, and what keeps those of different work apart."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from hf_mirror import identity
from hf_mirror.backends import Backend
from hf_mirror.errors import DataError
from hf_mirror.files import canonical_json, count_rows, read_batches, read_json, rows_of, sha256_file, write_json
from hf_mirror.progress import say
from hf_mirror.prompts import prompt_sha256, rationale_messages
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


def engine_of(backend: Backend) -> Row:
    """What answers, exactly: two engines may give one model's name and other answers."""
    return {"engine": type(backend).__name__, "model": backend.model, "revision": backend.revision}


def instruction_digest() -> str:
    """What every rationale request begins with, as a digest: other words are other work."""
    return prompt_sha256(rationale_messages([{"role": "user", "content": ""}]))


def scene_digest(folder: Path) -> str:
    """What a domain's scenes ask, as a digest."""
    files = (folder / "scenes" / f"{split}.parquet" for split in SPLITS)
    return identity.digest(instruction_digest(), *(sha256_file(path) for path in files))


def check_scenes(made: Path, digest: str, command: str) -> None:
    """DataError where a folder's note says that it was made of other scenes: ids tell nothing of a scene's words."""
    if stamp(made).exists() and read_json(stamp(made)).get("scenes") != digest:
        raise DataError(f"{made} belongs to other scenes or instructions; run `{command}` again")


def shard_digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of every shard in a folder, by name."""
    return {path.name: sha256_file(path) for path in sorted(folder.glob("*.parquet"))}


def stamp(out: Path) -> Path:
    """What a folder of shards was made from and with."""
    return out / "settings.json"


def same_work(out: Path, settings: Row, alone: bool) -> None:
    """Shards made from other scenes or settings are set aside under another name: never mixed, never lost. Those that
    were set aside and are wanted again come back.

    A task among others (not `alone`) sets nothing aside, since others may be writing there: that was done before it.
    """
    if _is_of(out, settings):
        return
    if not alone:
        raise _other_work(out)
    if stamp(out).exists() or shard_digests(out):  # shards that nothing is known of are of other work, too
        made_of = stamp(out).read_text() if stamp(out).exists() else str(shard_digests(out))
        aside = out.with_name(f"{out.name}.set-aside-{identity.digest(made_of)[:8]}")
        again = 1
        while aside.exists():
            again += 1
            aside = aside.with_name(f"{aside.name.partition('.again-')[0]}.again-{again}")
        out.rename(aside)
        say(
            f"{out} was made from other scenes or settings: it is {aside.name} now, and comes back when asked for again"
        )
    (out.parent.parent / "quality.json").unlink(missing_ok=True)  # of what is not there any more
    for aside in sorted(out.parent.glob(f"{out.name}.set-aside-*")):
        if _is_of(aside, settings):
            if out.exists():
                shutil.rmtree(out)  # without any shard
            aside.rename(out)
            return
    write_json(stamp(out), settings)


def still_same(rows: Iterator[Row], out: Path, settings: Row) -> Iterator[Row]:
    """The rows; but an error instead of their end where other work has begun in `out` meanwhile."""
    yield from rows
    if not _is_of(out, settings):
        raise _other_work(out)


def _is_of(out: Path, settings: Row) -> bool:
    return stamp(out).exists() and canonical_json(read_json(stamp(out))) == canonical_json(settings)


def _other_work(out: Path) -> DataError:
    return DataError(f"{out} holds what was made from other scenes or settings; run the same command again")
