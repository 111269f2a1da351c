"""Made-up results, once."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from hf_mirror.domains import import_file


@pytest.fixture(scope="session")
def made_up() -> ModuleType:
    return import_file(Path(__file__).parent / "made_up.py")


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory, made_up: ModuleType) -> Path:
    """Results files of two domains, two regimes and both modes. Shared: copy it before changing it."""
    return made_up.write_results(tmp_path_factory.mktemp("results"), scenes=40, users=20)
