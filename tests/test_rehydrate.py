"""Closed rows come back byte for byte with one's own raw files, and not without them: real builds, a real Hub."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hf_mirror import PROJECT, backends, bench, build, distill, domains, rationales
from hf_mirror.files import read_json, read_rows, read_table, sha256_file, write_json
from hf_mirror.hub import EmbeddedHub
from hf_mirror.publish import publish
from hf_mirror.publish.staging import STAGES, Run, stage_datasets
from hf_mirror.rehydrate import rehydrate

KINDS = list(STAGES)
SAMPLES: dict[str, dict[str, Any]] = {
    "movielens": {"seed": 1, "users": 150, "films": 120, "ratings_per_user": 25},
    "mind": {"seed": 2},
}


@dataclass(frozen=True)
class World:
    """Raw folders of closed sources, the run made from them, and the Hub that it was published to."""

    raw: dict[str, Path]
    run: Path
    url: str

    def open_tier(self, out: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
        """What would have been published if nothing were closed: folders by kind."""
        monkeypatch.setattr(Run, "closed", lambda self, domain: False)
        return {repo.kind: repo.folder for repo in stage_datasets(Run.open(self.run), out)}


def without_licence(name: str, folder: Path) -> Path:
    """A made-up sample whose licence nobody states, and which is closed for it."""
    domains.import_file(PROJECT / "dataset_builders" / "sample" / f"{name}.py").generate(folder, **SAMPLES[name])
    for path in folder.rglob("README*"):
        path.unlink()
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    top = tmp_path_factory.mktemp("closed")
    run, raw = top / "run", {name: without_licence(name, top / "raw" / name) for name in SAMPLES}
    for name, folder in raw.items():
        report = build.build(domains.load(name), folder, run, build.BuildSettings(scenes=60, seed=3, history=(2, 6)))
        assert not report["source"]["redistributable"]
    for role in rationales.ROLES:
        rationales.write(run, role, backends.load("template", role), rationales.WriteSettings(n=4))
    rationales.read(run, backends.load("template", "reader"))
    distill.distill(run, size=30)
    bench.bench(run, seed=5)
    with EmbeddedHub(top / "hub") as hub:
        publish(run, "acme", "v1.0.0", endpoint=hub.url)
        yield World(raw, run, hub.url)


def test_every_file_is_as_before_publication(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in KINDS:
        reference = f"acme/mirror-{kind}@v1.0.0"
        found = rehydrate(reference, world.raw, tmp_path / kind, endpoint=world.url)
        assert found["rehydrated"] == ["mind", "movielens"] and found["open"] == []
    expected = world.open_tier(tmp_path / "open", monkeypatch)
    assert list(expected) == KINDS
    for kind in KINDS:
        files = sorted(path.relative_to(expected[kind]) for path in expected[kind].rglob("*.parquet"))
        assert files == sorted(path.relative_to(tmp_path / kind) for path in (tmp_path / kind).rglob("*.parquet"))
        assert len(files) > 1 and read_table(expected[kind] / files[0]).num_rows > 0
        for name in files:
            assert sha256_file(tmp_path / kind / name) == sha256_file(expected[kind] / name), (kind, name)
