"""What `mirror hub gc` removes and keeps, and repos that move."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from hf_mirror.errors import ConfigError, DataError
from hf_mirror.hub import EmbeddedHub
from hf_mirror.hub.garbage import collect

SIZE = 200_000


def content(number: int) -> bytes:
    return bytes([number]) * SIZE


def upload(api: HfApi, repo: str, path: str, number: int) -> None:
    """Over plain LFS or xet, whichever the client takes."""
    api.upload_file(path_or_fileobj=content(number), path_in_repo=path, repo_id=repo)


def test_only_what_nothing_leads_to_is_removed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    with EmbeddedHub(root) as hub:
        api = HfApi(endpoint=hub.url, token="hf_any")
        for repo in ("ns/a", "ns/b", "ns/gone"):
            api.create_repo(repo)
        upload(api, "ns/a", "one.bin", 1)
        upload(api, "ns/b", "one.bin", 1)  # one copy for both
        upload(api, "ns/a", "two.bin", 2)
        api.create_tag("ns/a", tag="v1.0.0")
        api.delete_file("two.bin", "ns/a")  # still at the tag, and in the history
        upload(api, "ns/b", "three.bin", 3)
        api.delete_file("three.bin", "ns/b")
        api.super_squash_history("ns/b")  # and now nowhere
        upload(api, "ns/gone", "four.bin", 4)
        api.delete_repo("ns/gone")
        with pytest.raises(ConfigError, match="already being served"):
            collect(root)
    objects = root / "objects"
    before = sorted(path.name for path in objects.rglob("*") if path.is_file())
    assert len(before) == 4
    assert collect(root, dry_run=True) == {"kept": 2, "removed": 2, "freed_bytes": 2 * SIZE}
    assert sorted(path.name for path in objects.rglob("*") if path.is_file()) == before
    assert collect(root) == {"kept": 2, "removed": 2, "freed_bytes": 2 * SIZE}
    assert collect(root) == {"kept": 2, "removed": 0, "freed_bytes": 0}
    for folder in root.glob("models/ns/*.git"):
        subprocess.run(["git", "fsck", "--strict"], cwd=folder, check=True, capture_output=True)
    with EmbeddedHub(root) as hub:
        api = HfApi(endpoint=hub.url, token="hf_any")
        for repo, path, revision, number in (("ns/a", "one.bin", "main", 1), ("ns/a", "two.bin", "v1.0.0", 2)):
            found = api.hf_hub_download(repo, path, revision=revision, cache_dir=tmp_path / "cache")
            assert Path(found).read_bytes() == content(number)
        # A client that remembers what the store held before sends it again.
        upload(api, "ns/b", "three.bin", 3)
        found = api.hf_hub_download("ns/b", "three.bin", cache_dir=tmp_path / "cache")
        assert Path(found).read_bytes() == content(3)


def test_a_folder_without_a_hub_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no Hub"):
        collect(tmp_path)
    assert not list(tmp_path.iterdir())
    answer = subprocess.run(
        [sys.executable, "-c", "from hf_mirror.cli import main; main()", "hub", "gc", "--root", tmp_path, "--json"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert (answer.returncode, answer.stdout) == (1, "") and answer.stderr.startswith("error: ")


def test_a_repo_is_found_under_its_old_and_its_new_name(hub: EmbeddedHub, tmp_path: Path) -> None:
    api = HfApi(endpoint=hub.url, token="hf_any")
    for repo in ("ns/old", "ns/taken"):
        api.create_repo(repo)
    upload(api, "ns/old", "one.bin", 1)
    head = api.model_info("ns/old").sha
    with pytest.raises(HfHubHTTPError, match="already exists"):
        api.move_repo("ns/old", "ns/taken")
    api.move_repo("ns/old", "team/new")
    api.move_repo("team/new", "team/newer")
    for name in ("ns/old", "team/new", "team/newer"):
        info = api.model_info(name)
        assert (info.id, info.sha) == ("team/newer", head)
        found = api.hf_hub_download(name, "one.bin", cache_dir=tmp_path / name.replace("/", "-"))
        assert Path(found).read_bytes() == content(1)
    api.move_repo("team/newer", "ns/old")  # back again
    assert api.model_info("team/new").id == "ns/old"
    with pytest.raises(RepositoryNotFoundError):
        api.delete_repo("team/new")  # a name that only points to it
    api.delete_repo("ns/old")
    for name in ("ns/old", "team/new", "team/newer"):
        with pytest.raises(RepositoryNotFoundError):
            api.model_info(name)
    api.create_repo("team/new")  # a new one under an old name
    assert api.model_info("team/new").id == "team/new"
    for wrong in ("ns/..", "api/x"):
        with pytest.raises(HfHubHTTPError):
            api.move_repo("ns/taken", wrong)
    assert {model.id for model in api.list_models()} == {"team/new", "ns/taken"}
