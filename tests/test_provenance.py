"""Whoever writes to a repo writes its provenance.json: whatever stands in it, one line, and nothing else happens."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hf_mirror.domains import import_file
from hf_mirror.errors import MirrorError
from hf_mirror.hub import EmbeddedHub
from hf_mirror.publish import publish
from hf_mirror.publish.lineage import trace
from hf_mirror.publish.provenance import Published
from hf_mirror.rehydrate import rehydrate

fixture = import_file(Path(__file__).parent / "run_folder.py")
Change = Callable[[dict[str, Any]], Any]


class Hostile:
    """A published dataset whose provenance somebody else writes."""

    def __init__(self, url: str, folder: Path) -> None:
        from huggingface_hub import HfApi

        self.url, self.folder, self.api = url, folder, HfApi(endpoint=url)
        self.honest = dict(Published.open("acme/mirror-scenes@v1.0.0", url).provenance)

    def say(self, change: Change) -> None:
        about = copy.deepcopy(self.honest)
        changed = change(about)
        self.write(json.dumps(about if changed is None else changed).encode())

    def write(self, data: bytes) -> None:
        settings: dict[str, Any] = {"repo_id": "acme/mirror-scenes", "repo_type": "dataset"}
        self.api.upload_file(path_or_fileobj=data, path_in_repo="provenance.json", **settings)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostile]:
    top = tmp_path_factory.mktemp("hostile")
    with EmbeddedHub(top / "hub") as hub:
        publish(fixture.make_run(top / "run", ("films",), models=False), "acme", "v1.0.0", endpoint=hub.url)
        yield Hostile(hub.url, top)


def rename(key: str, new: str) -> Change:
    """Calls the domain by another name, wherever `key` has it."""

    def change(about: dict[str, Any]) -> None:
        about[key][new] = about[key].pop("films")

    return change


ODD: dict[str, Change] = {
    "a path as a source": rename("sources", "../../evil"),
    "a file as a source": rename("sources", "/tmp/evil.py"),
    "a path as a subset": rename("rows", "../../evil"),
    "an absolute subset": rename("rows", "/tmp/evil"),
    "a path as a split": lambda about: about["rows"]["films"].update({"../x": 1}),
    "a path as a file": lambda about: about["files"].update({"../../x": "0" * 64}),
    "no hash": lambda about: about["files"].update({"x": 5}),
    "no rows": lambda about: about["rows"].clear() or about.pop("rows"),
    "rows that are none": lambda about: about["rows"]["films"].update(test="many"),
    "a source that is text": lambda about: about["sources"].update(films="x"),
    "raw files that are numbers": lambda about: about["sources"]["films"].update(raw_files=[1]),
    "settings that are a list": lambda about: about["sources"]["films"].update(settings=[]),
    "a step that is text": lambda about: about.update(made_from=["x"]),
    "a revision that is a list": lambda about: about.update(made_from=[{"what": "x", "repo": "a/b", "revision": []}]),
    "generators that are numbers": lambda about: about.update(generators=[1]),
    "a kind that is a list": lambda about: about.update(kind=[1]),
    "escapes for the terminal": lambda about: about.update(code_version="\x1b[2J"),
    "weights that miss a domain": lambda about: about["mixed"].update(weights={"other": 1.0}),
    "an unknown domain in mixed": lambda about: about["mixed"].update(domains=["other"]),
    "an empty tag": lambda about: about.update(tag=""),
    "a list": lambda about: [],
    "very many files": lambda about: about.update(files={f"f{i}": "0" * 64 for i in range(20_000)}),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_provenance_is_one_line(hostile: Hostile, tmp_path: Path, name: str) -> None:
    hostile.say(ODD[name])
    before = sorted(hostile.folder.rglob("*"))
    for call in (
        lambda: rehydrate("acme/mirror-scenes", {"": tmp_path}, tmp_path / "below" / "out", endpoint=hostile.url),
        lambda: trace("acme/mirror-scenes", hostile.url),
    ):
        with pytest.raises(MirrorError, match=r"provenance\.json of acme/mirror-scenes@\w{40} is not as") as caught:
            call()
        assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)
    assert not list(tmp_path.iterdir()) and sorted(hostile.folder.rglob("*")) == before


@pytest.mark.parametrize("data", [b"", b"{", b"[" * 100_000, b'{"a":' * 50_000, b"\xff\xfe"])
def test_what_is_no_json_is_one_line(hostile: Hostile, tmp_path: Path, data: bytes) -> None:
    hostile.write(data)
    with pytest.raises(MirrorError, match=r"provenance\.json"):
        trace("acme/mirror-scenes", hostile.url)


@pytest.mark.parametrize(
    "settings", [{"scenes": "60"}, {"history": "x"}, {"unknown": 1}, {"regime": "none"}, {"scenes": -1}]
)
def test_odd_settings_are_one_line(hostile: Hostile, tmp_path: Path, settings: dict[str, Any], raw: Path) -> None:
    from hf_mirror.domains import load
    from hf_mirror.identity import file_digests

    source = load("movielens").detect(raw)

    def change(about: dict[str, Any]) -> None:
        for key in ("sources", "rows"):
            about[key]["movielens"] = about[key].pop("films")
        about["rows"] = {"movielens": about["rows"]["movielens"]}
        del about["mixed"]
        files = [{"name": p.name, "sha256": file_digests(p)[0], "bytes": p.stat().st_size} for p in source.files]
        template = hashlib.sha256(load("movielens").template.encode()).hexdigest()
        about["sources"]["movielens"] |= {"raw_files": files, "settings": settings, "template_sha256": template}
        about["files"] |= {name.replace("films", "movielens"): sha for name, sha in about["files"].items()}

    hostile.say(change)
    with pytest.raises(MirrorError):
        rehydrate("acme/mirror-scenes", {"": raw}, tmp_path / "out", endpoint=hostile.url)
    assert not list(tmp_path.iterdir())


def test_a_content_model_is_loaded_only_if_asked_for(hostile: Hostile, tmp_path: Path) -> None:
    def change(about: dict[str, Any]) -> None:
        for key in ("sources", "rows"):
            about[key]["movielens"] = about[key].pop("films")
        about["mixed"]["domains"] = ["movielens"]
        about["sources"]["movielens"]["settings"]["content_model"] = "evil/model"

    hostile.say(change)
    with pytest.raises(MirrorError, match="built with content model 'evil/model'; pass --content-model"):
        rehydrate("acme/mirror-scenes", {"": tmp_path}, tmp_path / "out", endpoint=hostile.url)


def test_a_name_from_the_hub_is_no_builder(hostile: Hostile, tmp_path: Path) -> None:
    hostile.say(lambda about: None)
    with pytest.raises(MirrorError, match="no builder 'films' comes with hf_mirror; give its file with --builder"):
        rehydrate("acme/mirror-scenes@v1.0.0", {"": tmp_path}, tmp_path / "out", endpoint=hostile.url)


def test_a_chain_in_circles_ends(hostile: Hostile) -> None:
    step = {"what": "scenes", "repo": "acme/mirror-scenes", "revision": "main"}
    hostile.say(lambda about: about.update(made_from=[step] * 20))
    problems = trace("acme/mirror-scenes", hostile.url)["problems"]
    assert any("names it by main, which may move" in problem for problem in problems)


def test_where_child_and_parent_disagree_is_said(hostile: Hostile) -> None:
    hostile.say(lambda about: about["sources"]["films"].update(seed=7))
    head = hostile.api.dataset_info("acme/mirror-scenes").sha
    about = dict(Published.open("acme/mirror-preferences@v1.0.0", hostile.url).provenance)
    step = {"what": "rationales", "repo": "acme/mirror-scenes", "revision": head}
    hostile.api.upload_file(
        path_or_fileobj=json.dumps({**about, "made_from": [step]}).encode(), path_in_repo="provenance.json",
        repo_id="acme/mirror-preferences", repo_type="dataset",
    )  # fmt: skip
    said = " ".join(trace("acme/mirror-preferences", hostile.url)["problems"])
    assert "names no scenes that it was made from" in said
    assert "acme/mirror-preferences has it as rationales, it holds scenes" in said
    assert "acme/mirror-preferences was built from another films (seed)" in said
