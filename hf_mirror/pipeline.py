"""A pipeline file: a whole run in one strict YAML, and the Hub that every process of the run talks to.

This module stays light: the Hub's address must stand in the environment before any Hugging Face library is imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_mirror.errors import ConfigError
from hf_mirror.progress import say


@dataclass(frozen=True)
class Engine:
    """An engine and its model."""

    backend: str
    model: str
    revision: str | None = None


@dataclass(frozen=True)
class Write:
    """Who writes, and how (rationales.WriteSettings)."""

    teacher: Engine
    student: Engine
    n: int = 10
    temperature: float = 1.0
    top_p: float = 0.9
    max_tokens: int = 512


@dataclass(frozen=True)
class Distill:
    """The rule that selects pairs, and how many it keeps."""

    rule: str = "uncertainty_gap"
    size: int = 10_000


@dataclass(frozen=True)
class Train:
    """The student (a folder of recipes/), and the accelerate configuration it is launched with."""

    student: str
    accelerate: str = "cpu"


@dataclass(frozen=True)
class Pipeline:
    """A pipeline file. `raw` maps builders to raw folders, `sample` maps them to arguments of a made-up one."""

    out: str
    builders: tuple[str, ...]
    write: Write
    read: Engine
    train: Train
    scenes: int = 1000
    regime: str = "popularity_matched"
    seed: int = 0
    raw: dict[str, str] = field(default_factory=dict)
    sample: dict[str, dict[str, int]] = field(default_factory=dict)
    distill: Distill = field(default_factory=Distill)
    hub: str = "embedded"
    namespace: str = "mirror"
    tag: str = "v0.1.0"

    def __post_init__(self) -> None:
        if self.hub not in ("embedded", "remote"):
            raise ConfigError(f"hub is {self.hub!r}; expected `embedded` (a Hub of this run) or `remote` (HF_ENDPOINT)")

    def raw_folders(self, given: dict[str, str], out: Path) -> dict[str, Path]:
        """Every builder's raw folder: as given, else as the file says, else where its made-up sample will be."""
        raw = {name: Path(path) for name, path in {**self.raw, **given}.items()}
        for name in self.sample:
            raw.setdefault(name, out / "raw" / name)
        for name in raw:
            if name not in self.builders:
                raise ConfigError(f"raw folder for {name!r}, but the pipeline builds {', '.join(self.builders)}")
        missing = [name for name in self.builders if name not in raw]
        if missing:
            raise ConfigError(f"no raw folder for {', '.join(missing)}; give --raw {missing[0]}=DIR or set MIRROR_RAW")
        return raw


def run(pipeline: Pipeline, raw: dict[str, str], out: Path | None = None) -> dict[str, Any]:
    """Runs every stage of `pipeline` into `out` (default: its own); `raw` maps builders to raw folders."""
    folder = out or Path(pipeline.out)
    folders = pipeline.raw_folders(raw, folder)
    with _hub(pipeline, folder) as endpoint:
        from hf_mirror.run import Run

        return Run(pipeline, folders, folder, endpoint).everything()


@contextmanager
def _hub(pipeline: Pipeline, folder: Path) -> Iterator[str]:
    """The Hub of this run, named in the environment for this process and those it starts."""
    if pipeline.hub == "remote":
        yield os.environ.get("HF_ENDPOINT", "https://huggingface.co")
        return
    if "huggingface_hub" in sys.modules:
        raise ConfigError("an embedded Hub must start before huggingface_hub is imported; run it as `mirror run`")
    from hf_mirror.hub import EmbeddedHub

    with EmbeddedHub(folder / "hub") as hub:
        say(f"Offline Hub at {hub.url}, kept in {folder / 'hub'}")
        # A cache of its own: what is cached under these names on this machine may come from another Hub.
        os.environ |= {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str((folder / "cache").resolve()),
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        if not sys.stderr.isatty():  # plain lines elsewhere: their bars redraw themselves
            os.environ |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
        yield hub.url
