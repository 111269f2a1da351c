"""A toy student and what it is trained on, once for all tests of the recipes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hf_mirror import files
from recipes import sft
from tests.recipes.pairs import write_pairs
from tests.recipes.toy import SHAPE, STUDENT, flags


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_pairs(folder, "books", 48, 8)
    write_pairs(folder, "more_books", 16, 0)
    return folder


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads on tensors this small mostly wait for each other."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recipes.training._cores", lambda: 1)
        torch.set_num_threads(1)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def shape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shape") / "model.json"
    files.write_json(path, SHAPE)
    return path


@pytest.fixture(scope="session")
def student(run_folder: Path, shape: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "sft"
    sft.main(flags("sft", run_folder, out, from_scratch=shape, **STUDENT))
    return out
