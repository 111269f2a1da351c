"""What a folder of shards was made of: a note beside them, which keeps what is of different work apart.

Ids would not do: a scene keeps its id when its prompt is rendered from another history, and a decision keeps its number
when another model writes it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hf_mirror import identity
from hf_mirror.backends import Backend
from hf_mirror.errors import DataError
from hf_mirror.files import canonical_json, read_json, sha256_file, write_json
from hf_mirror.locking import only_one
from hf_mirror.progress import say
from hf_mirror.prompts import ANSWER_LINE, prompt_sha256, rationale_messages
from hf_mirror.rationales.shards import ROLES, SPLITS, Part, Row, domain_folders


def engine_of(backend: Backend) -> Row:
    """What answers, exactly: two engines may give one model's name and other answers."""
    return {"engine": type(backend).__name__, "model": backend.model, "revision": backend.revision}


def instruction_digest() -> str:
    """What every rationale request begins with and how answers are taken apart, as a digest: others are other work."""
    return identity.digest(prompt_sha256(rationale_messages([{"role": "user", "content": ""}])), ANSWER_LINE.pattern)


def scene_digest(folder: Path) -> str:
    """What a domain's scenes ask, as a digest."""
    files = (folder / "scenes" / f"{split}.parquet" for split in SPLITS)
    return identity.digest(instruction_digest(), *(sha256_file(path) for path in files))


def check_scenes(made: Path, digest: str, command: str) -> None:
    """DataError where a folder's note says that it was made of other scenes: ids tell nothing of a scene's words."""
    if stamp(made).exists() and read_json(stamp(made)).get("scenes") != digest:
        raise DataError(f"{made} belongs to other scenes or instructions; run `{command}` again")


def check_notes(folder: Path) -> None:
    """DataError unless a domain's rationales and readings are of its scenes, and its readings of these rationales."""
    scenes = scene_digest(folder)
    for role in ROLES:
        written, read = folder / "rationales" / role, folder / "readings" / role
        check_scenes(written, scenes, f"mirror rationales --role {role}")
        check_scenes(read, scenes, "mirror read")
        if stamp(read).exists() and read_json(stamp(read))["shards"] != shard_digests(written):
            raise DataError(f"{read} is of other rationales than {written} holds; run `mirror read` again")
    check_scenes(folder / "readings" / "direct", scenes, "mirror read")


def decisions_digest(folder: Path) -> str:
    """All that a domain's pairs are distilled from, as a digest."""
    rooms = [folder / room / role for room in ("rationales", "readings") for role in (*ROLES, "direct")]
    shas = {
        f"{room.parent.name}/{room.name}/{name}": sha for room in rooms for name, sha in shard_digests(room).items()
    }
    return identity.digest(*(f"{name}:{sha}" for name, sha in shas.items()))


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
        found = read_json(stamp(out)) if stamp(out).exists() else {}
        made_of = stamp(out).read_text() if stamp(out).exists() else str(shard_digests(out))
        aside = out.with_name(f"{out.name}.set-aside-{identity.digest(made_of)[:8]}")
        again = 1
        while aside.exists():
            again += 1
            aside = aside.with_name(f"{aside.name.partition('.again-')[0]}.again-{again}")
        out.rename(aside)
        say(
            f"{out} {_difference(found, settings)}: it is {aside.name} now, and comes back when that is asked for again"
        )
    (out.parent.parent / "quality.json").unlink(missing_ok=True)  # of what is not there any more
    for aside in sorted(out.parent.glob(f"{out.name}.set-aside-*")):
        if _is_of(aside, settings):
            if out.exists():
                shutil.rmtree(out)  # without any shard
            aside.rename(out)
            return
    write_json(stamp(out), settings)


@contextmanager
def alone(directory: Path, who: str, part: Part) -> Iterator[None]:
    """Keeps a second command from doing the same in a run folder; tasks that share one work are not kept apart."""
    with ExitStack() as held:
        if part.alone:
            for folder in domain_folders(directory):
                refusal = f"the {who} is at work in {folder} already; wait until that is done"
                held.enter_context(only_one(folder / f".{who}-at-work", refusal))
        yield


def still_same(rows: Iterator[Row], out: Path, settings: Row) -> Iterator[Row]:
    """The rows; but an error instead of their end where other work has begun in `out` meanwhile."""
    yield from rows
    if not _is_of(out, settings):
        raise _other_work(out)


def _is_of(out: Path, settings: Row) -> bool:
    return stamp(out).exists() and canonical_json(read_json(stamp(out))) == canonical_json(settings)


def _difference(found: Row, wanted: Row) -> str:
    """What is another in the note that was found, in a few words."""
    if not found:
        return "has no note of what it was made of"
    others = [name for name in wanted if found.get(name) != wanted[name]]
    short = [f"{name} {found.get(name)} instead of {wanted[name]}" for name in others if _is_short(found.get(name))]
    return "was made with " + (", ".join(short) or f"other {' and '.join(others) or 'settings'}")


def _is_short(value: object) -> bool:
    return not isinstance(value, dict) and len(str(value)) < 60


def _other_work(out: Path) -> DataError:
    return DataError(f"{out} holds what was made from other scenes or settings; run the same command again")
