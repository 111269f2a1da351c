"""The form of a pipeline file: a whole run in one strict YAML."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from hf_mirror.backends import Engine
from hf_mirror.errors import ConfigError


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
class Read:
    """Who reads, and what besides (rationales.ReadSettings)."""

    backend: str
    model: str
    revision: str | None = None
    ifd: bool = False
    masked: bool = False

    @property
    def engine(self) -> Engine:
        """The reader."""
        return Engine(self.backend, self.model, self.revision)


@dataclass(frozen=True)
class Distill:
    """The rule that selects pairs, how many it keeps, whose wrong decision is rejected, and whether scenes that the
    teacher never hits become direct rows (distill.distill)."""

    rule: str = "uncertainty_gap"
    size: int = 10_000
    rejected_role: str = "either"
    rescue: bool = False


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
    read: Read
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
