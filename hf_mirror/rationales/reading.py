"""One fixed reader reads P(choice | scene, thought) for both roles, and P(choice | scene) without any thought."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hf_mirror.backends import Backend, Request, SceneView
from hf_mirror.errors import DataError
from hf_mirror.files import count_rows, read_json, read_rows, read_table, sha256_file, write_json, write_rows
from hf_mirror.prompts import ANSWER_PREFIX, LABELS, Messages, answer_line, direct_messages, rationale_messages
from hf_mirror.rationales.meter import Meter
from hf_mirror.rationales.naming import mask
from hf_mirror.rationales.notes import (
    alone,
    check_scenes,
    engine_of,
    same_work,
    scene_digest,
    shard_digests,
    stamp,
    still_same,
)
from hf_mirror.rationales.shards import ROLES, Part, Row, domain_folders, shard_names, shards
from hf_mirror.rendering import Renderer
from hf_mirror.schema import READING

TO_READ = ["scene_id", "role", "sample_index", "thought", "stated_choice", "parse_error"]
DIRECT = "direct"  # what stands for a role where nobody thought
TEACHER = ROLES[0]
NOTHING: Messages = []  # no prompt at all


@dataclass(frozen=True)
class ReadSettings:
    """What is read besides. `ifd`: the instruction-following difficulty of the teacher's decisions, for rule `ifd`.
    `masked`: the choice from the thought alone, without profile and history and with titles and letters masked, for
    the consistency of thought and choice. Each is a second reading of what it reads."""

    ifd: bool = False
    masked: bool = False


def read(
    directory: Path,
    backend: Backend,
    settings: ReadSettings | None = None,
    meter: Meter | None = None,
    part: Part | None = None,
) -> None:
    """Reads both roles with one reader: `DIR/<domain>/readings/{teacher,student,direct}/*.parquet`, or `part` of it.

    The reader sees the prompt, the thought without its answer line, and the beginning of the answer line. Decisions
    that do not parse are not read.
    """
    settings, meter, part = settings or ReadSettings(), meter or Meter(), part or Part()
    with alone(directory, "reader", part):
        works = prepare_read(directory, backend, settings, part)
        for (folder, role), work in works.items():
            _read_role(folder, role, backend, settings, meter, part, work)


def _read_role(
    folder: Path, role: str, backend: Backend, settings: ReadSettings, meter: Meter, part: Part, work: Row
) -> None:
    source, out, renderer = folder / "rationales" / role, folder / "readings" / role, None
    for shard in shards(folder, part):
        if (out / shard.name).exists():
            meter.found(len(shard))
            continue
        renderer = renderer or Renderer.of_run(folder)
        if role == DIRECT:
            rows = _read_direct(shard.scenes(), renderer, backend)
        else:
            written = _as_noted(source / shard.name, work["shards"][shard.name])
            rows = _read(shard.scenes(), written, renderer, backend, settings)
        write_rows(out / shard.name, still_same(rows, out, work), READING)
        meter.made(len(shard))


def _as_noted(path: Path, sha: str) -> list[Row]:
    """The rows of a shard that has not been written anew since the note of what is read was made."""
    rows = read_rows(path, TO_READ) if sha256_file(path) == sha else None
    if rows is None or sha256_file(path) != sha:
        raise DataError(f"{path} was written anew meanwhile; run `mirror read` again")
    return rows


def prepare_read(directory: Path, backend: Backend, settings: ReadSettings, part: Part) -> dict[tuple[Path, str], Row]:
    """Makes sure that the readings that are there are of what is written now, by this reader; returns what that is."""
    works: dict[tuple[Path, str], Row] = {}
    for folder in domain_folders(directory):
        scenes = scene_digest(folder)
        for role in ROLES:
            source = folder / "rationales" / role
            if not source.is_dir():
                raise DataError(f"{source} is missing; run `mirror rationales {directory} --role {role}` first")
            found = shard_digests(source)
            for name in shard_names(folder):
                if name not in found:
                    raise DataError(f"{source / name} is missing; run `mirror rationales` for the {role} to its end")
            check_scenes(source, scenes, f"mirror rationales --role {role}")
            made_of = {"scenes": scenes, "written": read_json(stamp(source)), "shards": found}
            works[folder, role] = {**engine_of(backend), **asdict(settings), **made_of}
        works[folder, DIRECT] = {**engine_of(backend), "scenes": scenes}
    for (folder, role), work in works.items():
        same_work(folder / "readings" / role, work, part.alone)
    return works


def count_read(directory: Path) -> dict[str, Any]:
    """Per domain, of either role's decisions and of scenes without a thought (`direct`): how many, how many were read,
    and how many are over-length; with `masked`, how many of the masked ones are. Writes `<domain>/quality.json`
    (quality.quality)."""
    from hf_mirror.rationales.quality import quality  # with Polars, which distillation does without

    found: dict[str, Any] = {}
    for folder in domain_folders(directory):
        for role in (*ROLES, DIRECT):
            totals: Counter[str] = Counter()
            note = stamp(folder / "readings" / role)
            masked = note.exists() and read_json(note).get("masked", False)
            for path in sorted((folder / "readings" / role).glob("*.parquet")):
                table = read_table(path, ["choice_probs", "masked_choice_probs"])
                over_length = table["choice_probs"].null_count
                source = path if role == DIRECT else folder / "rationales" / role / path.name
                totals["decisions"] += count_rows(source)
                totals["read"] += len(table) - over_length
                totals["over_length"] += over_length
                if masked:
                    totals["masked_over_length"] += table["masked_choice_probs"].null_count
            found.setdefault(folder.name, {})[role] = dict(totals)
        write_json(folder / "quality.json", quality(folder))
    return found


def _read(
    scenes: list[Row], rationales: list[Row], renderer: Renderer, backend: Backend, settings: ReadSettings
) -> Iterator[Row]:
    by_id = {scene["scene_id"]: scene for scene in scenes}
    parsed = [row for row in rationales if row["parse_error"] is None]
    strangers = {row["scene_id"] for row in parsed} - set(by_id)
    if strangers:
        raise DataError(f"rationales of scene {min(strangers)} do not belong to these scenes; write them again")
    views = {scene_id: renderer.view(scene) for scene_id, scene in by_id.items()}
    prompts = {scene_id: rationale_messages(scene["prompt"]) for scene_id, scene in by_id.items()}
    labels = [LABELS[: len(by_id[row["scene_id"]]["exposure"])] for row in parsed]

    def requests(messages: dict[str, Any], thoughts: Sequence[str], views: Mapping[str, SceneView]) -> list[Request]:
        return [
            Request(
                id=f"{row['scene_id']}/{row['role']}/{row['sample_index']}",
                messages=messages[row["scene_id"]],
                prefix=f"{thought}\n{ANSWER_PREFIX}",
                scene=views[row["scene_id"]],
            )
            for row, thought in zip(parsed, thoughts, strict=True)
        ]

    given = requests(prompts, [row["thought"] for row in parsed], views)
    probs = backend.choice_probs(given, labels)
    masked: Iterator[np.ndarray | None] = iter([None] * len(parsed))
    if settings.masked:
        bare = {scene_id: rationale_messages(renderer.options_only(scene)) for scene_id, scene in by_id.items()}
        hidden = [mask(row["thought"], views[row["scene_id"]]) for row in parsed]
        alone = {scene_id: replace(view, history=()) for scene_id, view in views.items()}
        masked = iter(backend.choice_probs(requests(bare, hidden, alone), labels))
    ifd = _ifd(parsed, prompts, views, backend) if settings.ifd else iter([None] * len(parsed))
    for row, found, without, difficulty in zip(parsed, probs, masked, ifd, strict=True):
        yield {
            **_reading(row["scene_id"], row["role"], row["sample_index"], backend, found),
            "masked_choice_probs": None if without is None else _floats(without),
            "ifd": difficulty,
        }


def _read_direct(scenes: list[Row], renderer: Renderer, backend: Backend) -> Iterator[Row]:
    requests = [
        Request(
            id=f"{scene['scene_id']}/{DIRECT}",
            messages=direct_messages(scene["prompt"]),
            prefix=ANSWER_PREFIX,
            scene=renderer.view(scene),
        )
        for scene in scenes
    ]
    labels = [LABELS[: len(scene["exposure"])] for scene in scenes]
    for scene, probs in zip(scenes, backend.choice_probs(requests, labels), strict=True):
        yield {**_reading(scene["scene_id"], DIRECT, 0, backend, probs), "masked_choice_probs": None, "ifd": None}


def _ifd(
    rows: list[Row], prompts: dict[str, Any], views: dict[str, SceneView], backend: Backend
) -> Iterator[float | None]:
    """The reader's loss on a teacher's answer given the prompt, divided by its loss on the answer alone: 1 where the
    prompt does not help at all (Li et al., From Quantity to Quality, https://arxiv.org/abs/2308.12032). None for the
    student's, which are never chosen."""
    answers = [f"{row['thought']}\n{answer_line(row['stated_choice'])}" for row in rows]
    asked = [
        Request(
            id=f"{row['scene_id']}/{row['role']}/{row['sample_index']}",
            messages=messages,
            prefix=answer,
            scene=views[row["scene_id"]],
        )
        for row, answer in zip(rows, answers, strict=True)
        if row["role"] == TEACHER
        for messages in (prompts[row["scene_id"]], NOTHING)
    ]
    logprobs = iter(backend.answer_logprobs(asked))
    for row in rows:
        if row["role"] != TEACHER:
            yield None
            continue
        given, alone = next(logprobs), next(logprobs)
        yield given / alone if alone < 0 and given == given else None


def _reading(scene_id: str, role: str, sample: int, backend: Backend, probs: np.ndarray) -> Row:
    return {
        "scene_id": scene_id,
        "role": role,
        "sample_index": sample,
        "reader": backend.model,
        "reader_revision": backend.revision,
        "choice_probs": _floats(probs),
    }


def _floats(probs: np.ndarray) -> list[float] | None:
    return None if np.isnan(probs).any() else [float(p) for p in probs]
