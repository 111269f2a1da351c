"""Scenes become rationales: a role writes n decisions per scene, then one fixed reader reads them all.

Both stages work in shards. A shard is a whole file or no file, so that a killed run goes on where it stopped and ends
with the same bytes: each sample has a seed of its own (build seed, scene, role, sample), whatever shard or batch it
is in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hf_mirror import identity
from hf_mirror.backends import Backend, Request, SceneView
from hf_mirror.errors import ConfigError, DataError
from hf_mirror.files import canonical_json, read_json, read_rows, sha256_file, write_json, write_rows
from hf_mirror.prompts import ANSWER_PREFIX, LABELS, Parsed, parse, prompt_sha256, rationale_messages
from hf_mirror.rendering import Renderer
from hf_mirror.schema import RATIONALE, READING

ROLES = ("teacher", "student")
SPLITS = ("train", "validation")
SHARD_SCENES = 256

Progress = Callable[[int], None]


@dataclass(frozen=True)
class WriteSettings:
    """How a role writes. `n` decisions per scene at `temperature` and `top_p`, each at most `max_tokens` long."""

    n: int = 10
    temperature: float = 1.0
    top_p: float = 0.9
    max_tokens: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        for name, fits, expected in (
            ("n", self.n >= 1, "1 or more"),
            ("temperature", self.temperature >= 0, "0 or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("max_tokens", self.max_tokens >= 1, "1 or more"),
        ):
            if not fits:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected {expected}")


def domain_folders(directory: Path) -> list[Path]:
    """The domain folders of a run, in order of name; none is a DataError."""
    folders = sorted(path.parent for path in directory.glob("*/report.json"))
    if not folders:
        raise DataError(f"{directory} holds no domain (a folder with report.json); run `mirror build` first")
    return folders


def write(directory: Path, role: str, backend: Backend, settings: WriteSettings, progress: Progress) -> dict[str, Any]:
    """Writes `DIR/<domain>/rationales/<role>/<split>-<shard>.parquet` for train and validation scenes.

    Returns counts per domain: scenes, decisions, parse errors by kind, cut generations.
    """
    if role not in ROLES:
        raise ConfigError(f"role {role!r} is not known; choose one of {', '.join(ROLES)}")
    counts = {}
    for folder in domain_folders(directory):
        out = folder / "rationales" / role
        renderer = Renderer.of_run(folder)
        _same_work(out, {**asdict(settings), "model": backend.model, "revision": backend.revision,
                         "scenes": _scene_digest(folder)})  # fmt: skip
        for name, scenes in _shards(folder):
            if not (out / name).exists():
                write_rows(out / name, _written(scenes, role, renderer, backend, settings), RATIONALE)
            progress(len(scenes))
        counts[folder.name] = _count(out)
    return counts


def read(directory: Path, backend: Backend, progress: Progress) -> dict[str, Any]:
    """Reads P(choice | scene, thought) for both roles with one reader: `DIR/<domain>/readings/<role>/*.parquet`.

    The reader sees the prompt, the thought without its answer line, and the beginning of the answer line. Decisions
    that do not parse are not read. Returns counts per domain and role: decisions read, unparsed, over-length.
    """
    counts: dict[str, Any] = {}
    for folder in domain_folders(directory):
        renderer = Renderer.of_run(folder)
        for role in ROLES:
            source, out = folder / "rationales" / role, folder / "readings" / role
            if not source.is_dir():
                raise DataError(f"{source} is missing; run `mirror rationales {directory} --role {role}` first")
            written = {path.name for path in source.glob("*.parquet")}
            _same_work(
                out,
                {
                    "model": backend.model,
                    "revision": backend.revision,
                    "written": read_json(_stamp(source)),
                    "shards": {p.name: sha256_file(p) for p in sorted(source.glob("*.parquet"))},
                },
            )
            totals: Counter[str] = Counter()
            for name, scenes in _shards(folder):
                if name not in written:
                    raise DataError(f"{source / name} is missing; run `mirror rationales` for the {role} to its end")
                rationales = read_rows(source / name)
                if not (out / name).exists():
                    write_rows(out / name, _read(scenes, rationales, renderer, backend), READING)
                readings = read_rows(out / name)
                totals["decisions"] += len(rationales)
                totals["read"] += len(readings)
                totals["over_length"] += sum(row["choice_probs"] is None for row in readings)
                progress(len(scenes))
            counts.setdefault(folder.name, {})[role] = dict(totals)
    return counts


def count_scenes(directory: Path) -> int:
    """How many scenes the stages of a run walk over, for a progress bar."""
    return sum(len(scenes) for folder in domain_folders(directory) for _, scenes in _shards(folder))


def _written(
    scenes: list[dict[str, Any]], role: str, renderer: Renderer, backend: Backend, settings: WriteSettings
) -> Iterator[dict[str, Any]]:
    by_id = {scene["scene_id"]: scene for scene in scenes}
    views = {scene_id: renderer.view(scene) for scene_id, scene in by_id.items()}
    requests = [
        Request(
            id=scene["scene_id"],
            messages=rationale_messages(scene["prompt"]),
            n=settings.n,
            seeds=tuple(identity.seed(settings.seed, scene["scene_id"], role, k) for k in range(settings.n)),
            temperature=settings.temperature,
            top_p=settings.top_p,
            max_tokens=settings.max_tokens,
            scene=views[scene["scene_id"]],
        )
        for scene in scenes
    ]
    for generation in backend.generate(requests):
        scene = by_id[generation.id]
        parsed = parse(generation.text, len(scene["exposure"]))
        cut = generation.finish_reason == "length"
        yield {
            "scene_id": scene["scene_id"],
            "domain": scene["domain"],
            "split": scene["split"],
            "role": role,
            "model": backend.model,
            "model_revision": backend.revision,
            "sample_index": generation.sample_index,
            "text": generation.text,
            "thought": parsed.thought,
            "stated_choice": parsed.stated_choice,
            "choice_named_in_thought": _named(views[generation.id], parsed),
            "finish_reason": generation.finish_reason,
            "parse_error": "cut_off" if cut and parsed.parse_error else parsed.parse_error,
        }


def _read(
    scenes: list[dict[str, Any]], rationales: list[dict[str, Any]], renderer: Renderer, backend: Backend
) -> Iterator[dict[str, Any]]:
    by_id = {scene["scene_id"]: scene for scene in scenes}
    parsed = [row for row in rationales if row["parse_error"] is None]
    strangers = {row["scene_id"] for row in parsed} - set(by_id)
    if strangers:
        raise DataError(f"rationales of scene {min(strangers)} do not belong to these scenes; write them again")
    views = {scene_id: renderer.view(scene) for scene_id, scene in by_id.items()}
    requests = [
        Request(
            id=f"{row['scene_id']}/{row['role']}/{row['sample_index']}",
            messages=rationale_messages(by_id[row["scene_id"]]["prompt"]),
            prefix=f"{row['thought']}\n{ANSWER_PREFIX}",
            scene=views[row["scene_id"]],
        )
        for row in parsed
    ]
    labels = [LABELS[: len(by_id[row["scene_id"]]["exposure"])] for row in parsed]
    for row, probs in zip(parsed, backend.choice_probs(requests, labels), strict=True):
        yield {
            "scene_id": row["scene_id"],
            "role": row["role"],
            "sample_index": row["sample_index"],
            "reader": backend.model,
            "reader_revision": backend.revision,
            "choice_probs": None if any(p != p for p in probs) else [float(p) for p in probs],
        }


def _named(view: SceneView, parsed: Parsed) -> bool:
    """Whether the thought gives its pick away, by title or by letter."""
    if parsed.stated_choice is None:
        return False
    title = str(view.options[parsed.stated_choice].attributes.get("title", ""))
    return bool(title and title in parsed.thought) or f"[{LABELS[parsed.stated_choice]}]" in parsed.thought


def _shards(folder: Path) -> Iterable[tuple[str, list[dict[str, Any]]]]:
    for split in SPLITS:
        scenes = read_rows(folder / "scenes" / f"{split}.parquet")
        for start in range(0, len(scenes), SHARD_SCENES):
            yield f"{split}-{start // SHARD_SCENES:05d}.parquet", scenes[start : start + SHARD_SCENES]


def instruction_digest() -> str:
    """What every rationale request begins with, as a digest: other words are other work."""
    return prompt_sha256(rationale_messages([{"role": "user", "content": ""}]))


def _scene_digest(folder: Path) -> str:
    scenes = (scene for _, shard in _shards(folder) for scene in shard)
    return identity.digest(instruction_digest(), *(scene["prompt_sha256"] + scene["scene_id"] for scene in scenes))


def _stamp(out: Path) -> Path:
    return out / "settings.json"


def _same_work(out: Path, settings: dict[str, Any]) -> None:
    """Shards made from other scenes or settings are set aside under another name: never mixed, never lost."""
    stamp = _stamp(out)
    if stamp.exists() and canonical_json(read_json(stamp)) != canonical_json(settings):
        aside = out.with_name(f"{out.name}.set-aside-{identity.digest(stamp.read_text())[:8]}")
        again = 1
        while aside.exists():
            again += 1
            aside = aside.with_name(f"{aside.name.partition('.again-')[0]}.again-{again}")
        out.rename(aside)
    write_json(stamp, settings)


def _count(out: Path) -> dict[str, Any]:
    rows = [row for path in sorted(out.glob("*.parquet")) for row in read_rows(path)]
    errors = Counter(row["parse_error"] for row in rows if row["parse_error"])
    return {
        "scenes": len({row["scene_id"] for row in rows}),
        "decisions": len(rows),
        "parse_errors": dict(sorted(errors.items())),
        "cut_off": sum(row["finish_reason"] == "length" for row in rows),
    }
