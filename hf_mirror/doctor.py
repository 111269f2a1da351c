"""`mirror doctor`: what this machine has, and which Hub its commands talk to."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "huggingface-hub", "lighteval", "polars", "pygit2")


def examine() -> dict[str, Any]:
    """Versions, devices and the Hub's answer, as facts; a missing package is `missing`, a silent Hub says why."""
    return {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "packages": {name: _version(name) for name in PACKAGES},
        "gpu": _gpu(),
        "hub": _hub(),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _gpu() -> str:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"


def _hub() -> dict[str, str]:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api = HfApi()
    try:
        who = api.whoami()["name"]
    except LocalTokenNotFoundError:
        who = "nobody: no token; `hf auth login` stores one"
    except (HfHubHTTPError, OSError) as error:
        who = f"unknown: {' '.join(str(error).split())[:120]}"
    return {"endpoint": api.endpoint, "signed in as": who}
