"""One Hub per test module, and clients in processes of their own: they read HF_ENDPOINT when they are imported."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hf_mirror.hub import EmbeddedHub

CLIENTS = Path(__file__).parent / "clients"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedHub]:
    with EmbeddedHub(tmp_path_factory.mktemp("hub") / "root") as running:
        yield running


@pytest.fixture
def client(hub: EmbeddedHub, tmp_path: Path) -> Callable[..., str]:
    """Runs tests/hub/clients/<name>.py against the Hub with a fresh HF_HOME; its asserts are the test's."""

    def run(name: str, *arguments: str, **extra: str) -> str:
        environment = {
            **os.environ,
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "hf_home"),
            "HF_TOKEN": "hf_any",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            **extra,
        }
        command = [sys.executable, str(CLIENTS / f"{name}.py"), *arguments]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{name} failed:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run
