"""One Hub per test module, and clients in processes of their own: they read HF_ENDPOINT when they are imported."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hf_mirror import PROJECT
from hf_mirror.hub import EmbeddedHub

CLIENTS = Path(__file__).parent / "clients"
LOCKED = Path(sys.executable).parent
LINES = {"1.33": LOCKED, "2.4": PROJECT / ".venv-hub2" / "bin"}  # of huggingface_hub; `make test` sets both up


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Uploads without xet by the newer line are what they are by the older one: they run with the long counts."""
    for item in items:
        if "2.4-lfs" in item.name:
            item.add_marker(pytest.mark.soak)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedHub]:
    with EmbeddedHub(tmp_path_factory.mktemp("hub") / "root") as running:
        yield running


@pytest.fixture(params=LINES)
def line(request: pytest.FixtureRequest) -> Path:
    """Where the programs of one line of the Hub's client are."""
    programs: Path = LINES[request.param]
    if not (programs / "hf").exists():
        pytest.skip(f"{programs.parent.name} is not set up; `make test` does it")
    return programs


@pytest.fixture(scope="session")
def environment_of() -> Callable[[str, Path], dict[str, str]]:
    """That of a client of the Hub at an address, with an HF_HOME of its own."""
    return lambda url, home: {
        **os.environ,
        "HF_ENDPOINT": url,
        "HF_HOME": str(home),
        "HF_TOKEN": "hf_any",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",
        "PYTHONPATH": str(PROJECT),
    }


@pytest.fixture
def environment(hub: EmbeddedHub, tmp_path: Path, environment_of: Callable[..., dict[str, str]]) -> dict[str, str]:
    """That of a client of the module's Hub, with a fresh HF_HOME."""
    return environment_of(hub.url, tmp_path / "hf_home")


@pytest.fixture
def client(environment: dict[str, str], tmp_path: Path) -> Callable[..., str]:
    """Runs tests/hub/clients/<name>.py against the Hub; its asserts are the test's."""

    def run(name: str, *arguments: str, programs: Path = LOCKED, **extra: str) -> str:
        command = [programs / "python", str(CLIENTS / f"{name}.py"), *arguments]
        done = subprocess.run(
            command, env={**environment, **extra}, cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"{name} failed:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run
