"""A domain is a builder file and a prompt template of the same name, found by name or path. No registration."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

from hf_mirror import PROJECT
from hf_mirror.errors import ConfigError
from hf_mirror.schema import Tables


@dataclass(frozen=True)
class Source:
    """The source release a builder found in a raw folder. The licence belongs to the release; unknown means closed."""

    release: str
    licence: str
    redistributable: bool
    citation: str
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Download:
    """Where a publisher offers a release, and on which terms.

    `files` holds a URL and the checksum that the publisher names for it (`md5:…` or `sha256:…` in hex, else None).
    """

    licence: str
    licence_url: str
    files: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True)
class Domain:
    """A builder, loaded. `positive` states in words what counts as a choice; `downloads` has releases by name.

    `categories` finds what can be built apart in a raw folder: paths by name, each a raw input of its own.
    """

    name: str
    path: Path
    positive: str
    template: str
    detect: Callable[[Path], Source]
    load: Callable[[Path, Source], Tables]
    downloads: Mapping[str, Download] = field(default_factory=dict)
    categories: Callable[[Path], Mapping[str, Path]] | None = None


def load(name_or_path: str | Path) -> Domain:
    """The domain of `dataset_builders/<name>.py`, or of a builder file elsewhere, with the `.jinja` beside it."""
    path = Path(name_or_path)
    if path.suffix != ".py":
        path = PROJECT / "dataset_builders" / f"{name_or_path}.py"
    if not path.is_file():
        raise ConfigError(
            f"no builder {str(name_or_path)!r}{_nearest(str(name_or_path))}; or give a path to a .py file"
        )
    template = path.with_suffix(".jinja")
    if not template.is_file():
        raise ConfigError(
            f"{path} has no template beside it; write {template.name}, which gets profile, history, exposure and now"
        )
    module = import_file(path)
    missing = [name for name in ("NAME", "POSITIVE", "detect", "load") if not hasattr(module, name)]
    if missing:
        raise ConfigError(f"{path} lacks {', '.join(missing)}; a builder has NAME, POSITIVE, detect and load")
    text = template.read_text(encoding="utf-8")
    optional = getattr(module, "DOWNLOADS", {}), getattr(module, "categories", None)
    return Domain(module.NAME, path, module.POSITIVE, text, module.detect, module.load, *optional)


def available() -> list[str]:
    """The names of the builders that come with the project."""
    return sorted(path.stem for path in (PROJECT / "dataset_builders").glob("*.py") if path.stem != "__init__")


def import_file(path: Path) -> ModuleType:
    """Runs a Python file as a module of its own, without touching the import path."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _nearest(name: str) -> str:
    near = get_close_matches(name, available(), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(available())}"
