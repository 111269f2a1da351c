"""A role writes: n decisions per scene, taken apart into thought and choice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hf_mirror import identity
from hf_mirror.backends import Backend, Request
from hf_mirror.errors import ConfigError
from hf_mirror.files import read_table, write_rows
from hf_mirror.prompts import Parsed, answer_pattern, parse, rationale_messages
from hf_mirror.rationales.meter import Meter
from hf_mirror.rationales.naming import named
from hf_mirror.rationales.notes import alone, engine_of, same_work, scene_digest, still_same
from hf_mirror.rationales.shards import ROLES, Part, Row, domain_folders, shards
from hf_mirror.rendering import Renderer
from hf_mirror.schema import RATIONALE

# How a generation ended tells more about an answer that does not parse than what is missing in it.
ENDED = {"length": "cut_off", "context": "prompt_too_long", "failed": "no_answer"}


MANY = 0.2  # of all decisions
MENDS = {
    "cut_off": "raise --max-tokens",
    "prompt_too_long": "write with a model of a longer context, or build with a shorter --history",
    "no_answer": "see the server's log",
}
FORM = "write with an instruction-tuned model, or --structured where the engine has it"


@dataclass(frozen=True)
class WriteSettings:
    """How a role writes. `n` decisions per scene at `temperature` and `top_p`, each at most `max_tokens` long;
    `structured` answers can only be the four parts with a letter that is there, where the engine has it."""

    n: int = 10
    temperature: float = 1.0
    top_p: float = 0.9
    max_tokens: int = 512
    seed: int = 0
    structured: bool = False

    def __post_init__(self) -> None:
        for name, fits, expected in (
            ("n", self.n >= 1, "1 or more"),
            ("temperature", 0 <= self.temperature < float("inf"), "0 or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("max_tokens", self.max_tokens >= 1, "1 or more"),
        ):
            if not fits:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected {expected}")


def write(
    directory: Path,
    role: str,
    backend: Backend,
    settings: WriteSettings,
    meter: Meter | None = None,
    part: Part | None = None,
) -> None:
    """Writes `DIR/<domain>/rationales/<role>/<split>-<shard>.parquet` for train and validation scenes, or `part`."""
    meter, part = meter or Meter(), part or Part()
    with alone(directory, role, part):
        works = prepare_write(directory, role, backend, settings, part)
        for folder, work in works.items():
            _write(folder, role, backend, settings, meter, part, work)


def _write(
    folder: Path, role: str, backend: Backend, settings: WriteSettings, meter: Meter, part: Part, work: Row
) -> None:
    out, renderer = folder / "rationales" / role, None
    for shard in shards(folder, part):
        if (out / shard.name).exists():
            meter.found(len(shard))
            continue
        renderer = renderer or Renderer.of_run(folder)
        rows = _written(shard.scenes(), role, renderer, backend, settings, meter)
        write_rows(out / shard.name, still_same(rows, out, work), RATIONALE)


def prepare_write(directory: Path, role: str, backend: Backend, settings: WriteSettings, part: Part) -> dict[Path, Row]:
    """Makes sure that the shards that are there are of this work; returns what that is, by domain folder."""
    if role not in ROLES:
        raise ConfigError(f"role {role!r} is not known; choose one of {', '.join(ROLES)}")
    if settings.structured and not backend.structured:
        raise ConfigError(f"{type(backend).__name__} has no structured output; leave --structured out")
    works = {
        folder: {**asdict(settings), **engine_of(backend), "scenes": scene_digest(folder)}
        for folder in domain_folders(directory)
    }
    for folder, work in works.items():
        same_work(folder / "rationales" / role, work, part.alone)
    return works


def count_written(directory: Path, role: str) -> dict[str, Any]:
    """Per domain: scenes, decisions, parse errors by kind, cut generations, and a warning where many do not parse."""
    return {folder.name: _count(folder / "rationales" / role) for folder in domain_folders(directory)}


def _written(
    scenes: list[Row], role: str, renderer: Renderer, backend: Backend, settings: WriteSettings, meter: Meter
) -> Iterator[Row]:
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
            pattern=answer_pattern(len(scene["exposure"])) if settings.structured else None,
            scene=views[scene["scene_id"]],
        )
        for scene in scenes
    ]
    for generation in backend.generate(requests):
        scene = by_id[generation.id]
        parsed = parse(generation.text, len(scene["exposure"]))
        if parsed.stated_choice is not None and not parsed.thought:
            parsed = Parsed("", None, "no_thought")  # a choice, but no decision process
        error = parsed.parse_error and ENDED.get(generation.finish_reason, parsed.parse_error)
        last = generation.sample_index == settings.n - 1
        meter.made(int(last), generation.tokens, generation.prompt_tokens)
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
            "choice_named_in_thought": parsed.stated_choice is not None
            and named(parsed.thought, views[generation.id], parsed.stated_choice),
            "finish_reason": generation.finish_reason,
            "parse_error": error,
        }


def _count(out: Path) -> dict[str, Any]:
    columns = ["scene_id", "parse_error", "finish_reason"]
    found: dict[str, list[Any]] = {name: [] for name in columns}
    for path in sorted(out.glob("*.parquet")):
        table = read_table(path, columns)
        for name in columns:
            found[name] += table[name].to_pylist()
    errors = Counter(error for error in found["parse_error"] if error)
    lost, decisions = errors.total(), len(found["scene_id"])
    counted = {
        "scenes": len(set(found["scene_id"])),
        "decisions": decisions,
        "parse_errors": dict(sorted(errors.items())),
        "cut_off": found["finish_reason"].count("length"),
    }
    if lost <= MANY * decisions:
        return counted
    most = errors.most_common(1)[0][0]
    share = f"{100 * lost / decisions:.0f} % of decisions do not parse, most for {most}"
    return counted | {"warning": f"{share}: {MENDS.get(most, FORM)}"}
