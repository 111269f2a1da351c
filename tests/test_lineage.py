"""The chain above a published repo, and what it says when somebody changed the Hub."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hf_mirror.domains import import_file
from hf_mirror.errors import ConfigError, HubError
from hf_mirror.hub import EmbeddedHub
from hf_mirror.publish import publish
from hf_mirror.publish.lineage import trace

fixture = import_file(Path(__file__).parent / "run_folder.py")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    top = tmp_path_factory.mktemp("lineage")
    with EmbeddedHub(top / "hub") as hub:
        publish(fixture.make_run(top / "run"), "acme", "v1.0.0", endpoint=hub.url)
        yield hub.url


def chain(node: dict[str, Any]) -> set[str]:
    return {node["repo"], *(repo for parent in node.get("made_from", ()) for repo in chain(parent))}


def test_a_model_leads_back_to_raw_files_and_generators(url: str) -> None:
    found = trace("acme/tiny-mirror-dpo@v1.0.0", url)
    assert found["problems"] == []
    assert chain(found["tree"]) == {
        f"acme/{name}"
        for name in (
            "tiny-mirror-dpo", "tiny-mirror-sft", "mirror-preferences", "mirror-rationales", "mirror-scenes",
            "mirror-bench",
        )
    }  # fmt: skip
    assert found["tree"]["kind"] == "model" and found["tree"]["tag"] == "v1.0.0"
    assert found["tree"]["sources"]["shop"]["raw_files"][0]["name"] == "ratings.dat"
    preferences = found["tree"]["made_from"][0]
    assert {(g["role"], g["licence"]) for g in preferences["generators"]} >= {("teacher", "apache-2.0")}


def test_the_command_draws_the_tree(url: str, mirror: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", url)
    done = mirror("lineage", "acme/mirror-preferences@v1.0.0")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].startswith("acme/mirror-preferences v1.0.0 @ ")
    assert "  scenes: acme/mirror-scenes v1.0.0 @ " in done.out and "ratings.dat sha256:" in done.out
    assert "scenes: acme/mirror-scenes @ " in done.out and "(see above)" in done.out
    assert lines[-1] == "every commit, tag and file is as its provenance says"


def test_what_was_changed_on_the_hub_is_found(tmp_path: Path, mirror: Callable[..., Any]) -> None:
    from huggingface_hub import HfApi

    with EmbeddedHub(tmp_path / "hub") as hub:
        publish(fixture.make_run(tmp_path / "run"), "acme", "v1.0.0", endpoint=hub.url, only=("datasets",))
        api = HfApi(endpoint=hub.url)
        settings: dict[str, Any] = {"repo_id": "acme/mirror-scenes", "repo_type": "dataset"}
        api.upload_file(path_or_fileobj=b"other", path_in_repo="LICENSE.md", **settings)
        api.upload_file(path_or_fileobj=b"new", path_in_repo="extra.txt", **settings)
        api.delete_file("shop/test.parquet", **settings)
        problems = trace("acme/mirror-scenes", hub.url)["problems"]
        assert [problem.partition(": ")[2] for problem in problems][1:] == [
            "LICENSE.md has other bytes than provenance.json names", "shop/test.parquet is not there",
            "extra.txt is not named in provenance.json",
        ]  # fmt: skip
        assert "tag v1.0.0 points to" in problems[0]
        assert trace("acme/mirror-scenes@v1.0.0", hub.url)["problems"] == []
        api.delete_repo("acme/mirror-rationales", repo_type="dataset")
        (problem,) = trace("acme/mirror-preferences@v1.0.0", hub.url)["problems"]
        assert "acme/mirror-rationales" in problem and "is not on" in problem


def test_what_is_no_published_repo_is_said(url: str) -> None:
    from huggingface_hub import HfApi

    api = HfApi(endpoint=url)
    api.create_repo("acme/other", repo_type="dataset", exist_ok=True)
    with pytest.raises(
        HubError, match=r"acme/other@\w{40} has no provenance.json; it was not made by `mirror publish`"
    ):
        trace("acme/other", url)
    with pytest.raises(HubError, match="dataset or model acme/none@v9 is not on"):
        trace("acme/none@v9", url)
    with pytest.raises(ConfigError, match="expected NAMESPACE/REPO@REVISION"):
        trace("nothing", url)
