"""A pipeline file: a whole run in one strict YAML, and the Hub that every process of the run talks to.

This module stays light: the Hub's address must stand in the environment before any Hugging Face library is imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hf_mirror.errors import ConfigError
from hf_mirror.pipeline.form import Pipeline
from hf_mirror.progress import say


def run(pipeline: Pipeline, raw: dict[str, str], out: Path | None = None) -> dict[str, Any]:
    """Runs every stage of `pipeline` into `out` (default: its own); `raw` maps builders to raw folders."""
    folder = out or Path(pipeline.out)
    folders = pipeline.raw_folders(raw, folder)
    with _hub(pipeline, folder) as endpoint:
        from hf_mirror.pipeline.stages import Run

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
        for inherited in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_DATASETS_CACHE", "HF_XET_CACHE"):
            os.environ.pop(inherited, None)
        os.environ |= {
            "HF_ENDPOINT": hub.url,
            "HF_HUB_OFFLINE": "0",
            "HF_DATASETS_OFFLINE": "0",
            "NO_PROXY": ",".join(filter(None, (os.environ.get("NO_PROXY"), "127.0.0.1,localhost"))),
            "HF_HOME": str((folder / "cache").resolve()),
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        if not sys.stderr.isatty():  # plain lines elsewhere: their bars redraw themselves
            os.environ |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
        yield hub.url
