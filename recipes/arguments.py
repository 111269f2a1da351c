"""The settings of a recipe: YAML key = dataclass field = command-line flag; whatever is unknown fails.

Training settings are TRL's own (`SFTConfig`, `DPOConfig`, `ModelConfig`); here stand the few that are ours.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

import torch
import yaml
from accelerate.utils import str_to_bool
from trl import TrlParser

from hf_mirror.errors import ConfigError, MirrorError

TARGETS = ("rationale", "direct")
MIXTURE = '{"movielens": 0.5, "amazon_reviews": 0.5}'

REFUSED = {
    "trust_remote_code": "no code from a repo is run",
    "push_to_hub": "`mirror publish` pushes, with card and lineage",
    "load_in_8bit": "quantised training is not supported",
    "load_in_4bit": "quantised training is not supported",
}


@dataclass
class DataArguments:
    """Which preference pairs to train on."""

    dataset: str = field(metadata={"help": "Hub id, or a folder with <domain>/preferences/{train,validation}.parquet"})
    subset: str = field(default="mixed", metadata={"help": "a domain, or `mixed` for all of them"})
    mixture: dict[str, float] | str | None = field(
        default=None, metadata={"help": "in place of `subset`: {subset: weight}, as shares of the train rows"}
    )
    revision: str | None = field(default=None, metadata={"help": "branch, tag or commit of a Hub dataset"})
    choice_scenes: int = field(
        default=200, metadata={"help": "validation scenes whose choices are read at each evaluation; 0 for none"}
    )

    def __post_init__(self) -> None:
        if isinstance(self.mixture, str):
            try:
                self.mixture = json.loads(self.mixture)
            except json.JSONDecodeError:
                raise ConfigError(f"mixture {self.mixture!r} is no JSON; expected {MIXTURE}") from None
        if self.mixture is None:
            return
        weights = self.mixture.values() if isinstance(self.mixture, dict) else []
        if not weights or not all(isinstance(w, int | float) and math.isfinite(w) and w > 0 for w in weights):
            raise ConfigError(f"mixture is {self.mixture}; expected weights above 0, such as {MIXTURE}")
        if self.subset != "mixed":
            raise ConfigError(f"both subset {self.subset!r} and a mixture are set; leave one out")
        if "mixed" in self.mixture and len(self.mixture) > 1:
            raise ConfigError("mixture has `mixed`, which holds the other subsets' rows too; name domains alone")


@dataclass
class SFTArguments(DataArguments):
    """What SFT takes beside the data."""

    targets: list[str] = field(
        default_factory=lambda: ["rationale"],
        metadata={"help": "`rationale`: the chosen decision as written; `direct`: its answer line alone; or both"},
    )
    from_scratch: str | None = field(
        default=None,
        metadata={"help": "JSON model configuration: train this model and its tokenizer from random weights"},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        unknown = [target for target in self.targets if target not in TARGETS]
        if unknown or not self.targets:
            raise ConfigError(f"targets has {unknown or 'nothing in it'}; expected one or both of {list(TARGETS)}")


class StrictParser(TrlParser):
    """`TrlParser` whose complaints are one line, with the nearest known name."""

    def __init__(self, *kinds: Any) -> None:
        super().__init__(kinds, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Argparse would print the usage of some two hundred flags first."""
        raise ConfigError(message)

    def parse(self, args: Sequence[str]) -> tuple[Any, ...]:
        """The dataclasses, filled from `--config FILE` and the flags, which win. ConfigError names what is wrong."""
        args = [part for arg in args for part in (arg.split("=", 1) if arg.startswith("--config=") else [arg])]
        known = [name.name for kind in self.dataclass_types for name in fields(kind) if name.init]
        settings = self._read(args[args.index("--config") + 1], known) if "--config" in args[:-1] else {}
        if not _on_cpu(args, settings):
            check_gpus(int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.accelerator.device_count())
        try:
            *filled, rest = self.parse_args_and_config(args, return_remaining_strings=True)
        except (ValueError, TypeError) as error:
            if "bf16" in str(error):
                raise ConfigError(
                    "bf16 is on (TRL's default) and no GPU here computes in it; set bf16: false, or use_cpu: true"
                ) from None
            raise ConfigError(f"{' '.join(args)}: {str(error).splitlines()[0]}") from None
        if rest:
            name = rest[0].lstrip("-").partition("=")[0].replace("-", "_")
            raise ConfigError(f"flag {rest[0]!r} is not known; did you mean --{_nearest(name, known)}?")
        for name, reason in REFUSED.items():
            if any(getattr(part, name, False) for part in filled):
                raise ConfigError(f"{name} is set, but {reason}; remove it")
        return tuple(filled)

    def _read(self, path: str, known: list[str]) -> dict[str, Any]:
        try:
            settings = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(f"config file {path} does not exist") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"config file {path} is not YAML: {' '.join(str(error).split())}") from None
        if not isinstance(settings, dict):
            raise ConfigError(f"config file {path} holds a {type(settings).__name__}; expected `key: value` lines")
        for key in settings:
            if key not in known:
                raise ConfigError(f"{path}: key {key!r} is not known; did you mean {_nearest(str(key), known)!r}?")
        return settings


def find_file(path: str) -> Path:
    """A file beside the working folder's or the checkout's, so that a recipe runs from any folder."""
    for found in (Path(path), Path(__file__).parent.parent / path):
        if found.is_file():
            return found
    raise ConfigError(f"the file {path} does not exist")


def _on_cpu(args: Sequence[str], settings: dict[str, Any]) -> bool:
    """Whether the flags keep the run on the CPU, or else the YAML or accelerate's environment."""
    for at, arg in reversed(list(enumerate(args))):
        name, _, value = arg.partition("=")
        if name in ("--use_cpu", "--use-cpu"):
            value = value or next(iter(args[at + 1 : at + 2]), "")
            return value.lower() not in ("false", "f", "no", "n", "0")
    return bool(settings.get("use_cpu")) or bool(str_to_bool(os.environ.get("ACCELERATE_USE_CPU", "0")))


def check_gpus(processes: int, gpus: int) -> None:
    """ConfigError where processes would share a GPU, or have none."""
    if processes > max(gpus, 1):
        raise ConfigError(
            f"{processes} processes want a GPU each and this machine has {gpus}; set num_processes of the accelerate "
            "config to that number, or use_cpu: true"
        )


def _nearest(name: str, known: list[str]) -> str:
    return get_close_matches(name, known, n=1, cutoff=0.0)[0]


def run(main: Callable[[Sequence[str]], None]) -> NoReturn:
    """Runs a recipe as a program: an error of ours is one line on stderr and its exit code, without a traceback.

    Numbers next to zero count as zero: they cost a step on a CPU its eighth part. The setting is of a thread and of
    those it starts later, so it is made before any other, and for programs alone: whoever calls `main` keeps theirs.
    """
    torch.set_flush_denormal(True)
    try:
        main(sys.argv[1:])
    except MirrorError as error:
        print("error:", *str(error).split(), file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    raise SystemExit(0)
