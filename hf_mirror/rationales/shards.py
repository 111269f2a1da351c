"""Where rationales and readings lie, in which shards, and what keeps those of different work apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_mirror import identity
from hf_mirror.errors import DataError
from hf_mirror.files import canonical_json, read_json, read_rows, write_json
from hf_mirror.prompts import prompt_sha256, rationale_messages

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


def shards(folder: Path, part: Part | None = None) -> Iterator[tuple[str, list[Row]]]:
    """The name and scenes of every shard of a domain, or of those in a part."""
    number = 0
    for split in SPLITS:
        scenes = read_rows(folder / "scenes" / f"{split}.parquet")
        for start in range(0, len(scenes), SHARD_SCENES):
            if part is None or number % part.of == part.k:
                yield f"{split}-{start // SHARD_SCENES:05d}.parquet", scenes[start : start + SHARD_SCENES]
            number += 1


def count_scenes(directory: Path) -> int:
    """How many scenes the stages of a run walk over, for a progress bar."""
    return sum(len(scenes) for folder in domain_folders(directory) for _, scenes in shards(folder))


def instruction_digest() -> str:
    """What every rationale request begins with, as a digest: other words are other work."""
    return prompt_sha256(rationale_messages([{"role": "user", "content": ""}]))


def scene_digest(folder: Path) -> str:
    """What a domain's scenes ask, as a digest."""
    scenes = (scene for _, shard in shards(folder) for scene in shard)
    return identity.digest(instruction_digest(), *(scene["prompt_sha256"] + scene["scene_id"] for scene in scenes))


def stamp(out: Path) -> Path:
    """What a folder of shards was made from and with."""
    return out / "settings.json"


def same_work(out: Path, settings: Row, alone: bool) -> None:
    """Shards made from other scenes or settings are set aside under another name: never mixed, never lost.

    A task among others (not `alone`) sets nothing aside, since others may be writing there: that was done before it.
    """
    path = stamp(out)
    same = path.exists() and canonical_json(read_json(path)) == canonical_json(settings)
    if same:
        return
    if not alone:
        raise DataError(f"{out} holds what was made from other scenes or settings; run the same command again")
    if path.exists():
        aside = out.with_name(f"{out.name}.set-aside-{identity.digest(path.read_text())[:8]}")
        again = 1
        while aside.exists():
            again += 1
            aside = aside.with_name(f"{aside.name.partition('.again-')[0]}.again-{again}")
        out.rename(aside)
    write_json(path, settings)
