"""Rights that are taken away while a client still holds what it was given under them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

from hf_mirror.hub import EmbeddedHub
from hf_mirror.hub.accounts import Accounts

LARGE = bytes(range(256)) * 4000
OID = hashlib.sha256(LARGE).hexdigest()


class Lab:
    """A Hub with tokens for ann (write) and bob (read), and repos with a large file."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        self.root, self.accounts = root, Accounts(root)
        self.tokens: dict[str | None, str] = {}
        self.give("ann", "write")
        self.give("bob", "read")
        self.url = ""

    def give(self, name: str, role: str) -> None:
        self.tokens[name] = self.accounts.add(name, role)

    def api(self, who: str | None) -> HfApi:
        return HfApi(endpoint=self.url, token=self.tokens[who] if who else False)

    def web(self, who: str | None) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.tokens[who]}"} if who else {}
        return httpx.Client(base_url=self.url, headers=headers)

    def make(self, repo: str, **files: bytes) -> None:
        self.api("ann").create_repo(repo)
        for path, content in {"large.bin": LARGE, **files}.items():
            self.api("ann").upload_file(path_or_fileobj=content, path_in_repo=path, repo_id=repo)

    def address(self, who: str | None, repo: str) -> str:
        """Where the batch sends a client for the large file."""
        wanted = {"operation": "download", "objects": [{"oid": OID, "size": len(LARGE)}]}
        answer = self.web(who).post(f"/{repo}.git/info/lfs/objects/batch", json=wanted).json()["objects"][0]
        return answer["actions"]["download"]["href"]


@contextmanager
def serving(root: Path) -> Iterator[Lab]:
    lab = Lab(root)
    with EmbeddedHub(root) as hub:
        lab.url = hub.url
        yield lab


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with serving(tmp_path_factory.mktemp("hub") / "root") as lab:
        yield lab


@pytest.mark.parametrize("settings", [{"private": True}, {"gated": "auto"}, {"gated": "manual"}])
def test_an_address_ends_with_the_openness_of_its_repo(lab: Lab, settings: dict) -> None:
    repo = f"ann/{'-'.join(map(str, *settings.items()))}".lower()
    lab.make(repo)
    addresses = {who: lab.address(who, repo) for who in (None, "bob", "ann")}
    assert all(httpx.get(address).content == LARGE for address in addresses.values())
    lab.api("ann").update_repo_settings(repo, **settings)
    assert httpx.get(addresses[None]).status_code == 401
    assert httpx.get(addresses["bob"]).status_code == (403 if settings == {"gated": "manual"} else 200)
    assert httpx.get(addresses["ann"]).content == LARGE


def test_an_address_is_good_for_its_repo_alone(lab: Lab) -> None:
    for name in ("ann/one", "ann/two"):
        lab.make(name)
    address = lab.address(None, "ann/one")
    assert httpx.get(address).status_code == 200
    for other in (address.replace("ann/one", "ann/two"), address.replace("models/", "datasets/"),
                  address.replace("repo=", "r="), address.replace("repo=models", "repo=")):  # fmt: skip
        assert httpx.get(other).status_code == 401
    lab.api("ann").move_repo("ann/one", "ann/three")
    assert httpx.get(address).content == LARGE
    lab.api("ann").delete_repo("ann/three")
    assert httpx.get(address).status_code == 401
    lab.api("ann").create_repo("ann/one")  # which does not hold the file
    assert httpx.get(address).status_code == 404


def test_an_address_ends_with_the_token(lab: Lab) -> None:
    lab.make("ann/secret")
    lab.api("ann").update_repo_settings("ann/secret", private=True)
    for name, role in (("eve", "read"), ("max", "write")):
        lab.give(name, role)
    download, web, fresh = lab.address("eve", "ann/secret"), lab.web("max"), b"fresh" * 1000
    oid = hashlib.sha256(fresh).hexdigest()
    wanted = {"operation": "upload", "objects": [{"oid": oid, "size": len(fresh)}]}
    actions = web.post("/ann/secret.git/info/lfs/objects/batch", json=wanted).json()["objects"][0]["actions"]
    chunks = web.get("/api/models/ann/secret/xet-write-token/main").json()
    shards, bearer = f"{chunks['casUrl']}/v1/shards", {"Authorization": f"Bearer {chunks['accessToken']}"}
    assert httpx.get(download).content == LARGE
    assert httpx.post(shards, content=b"x", headers=bearer).status_code == 400  # let in: it is just no shard
    for name in ("eve", "max"):
        lab.accounts.revoke(name)
    for asked in (
        httpx.get(download),
        httpx.put(actions["upload"]["href"], content=fresh),
        httpx.post(actions["verify"]["href"], json={}),
        httpx.post(shards, content=b"x", headers=bearer),
    ):
        assert asked.status_code == 401, asked.url
    for name, role in (("eve", "read"), ("max", "read")):  # the same names, other tokens
        lab.give(name, role)
    assert httpx.get(download).status_code == httpx.put(actions["upload"]["href"], content=fresh).status_code == 401
    assert not (lab.root / "objects" / oid[:2] / oid[2:4] / oid).exists()


def test_an_address_ends_with_the_role(lab: Lab) -> None:
    """tokens.json may be edited while the Hub is served."""
    lab.give("ivy", "write")
    lab.api("ivy").create_repo("ivy/x")
    fresh = b"of ivy" * 1000
    wanted = {"operation": "upload", "objects": [{"oid": hashlib.sha256(fresh).hexdigest(), "size": len(fresh)}]}
    batch = lab.web("ivy").post("/ivy/x.git/info/lfs/objects/batch", json=wanted).json()["objects"][0]
    file = lab.root / "tokens.json"
    known = json.loads(file.read_text())
    for entry in known["tokens"].values():
        entry["role"] = "read" if entry["name"] == "ivy" else entry["role"]
    file.write_text(json.dumps(known))
    assert httpx.put(batch["actions"]["upload"]["href"], content=fresh).status_code == 403


def test_a_name_that_is_given_again_is_somebody_else(lab: Lab, tmp_path: Path) -> None:
    lab.make("ann/gate")
    lab.api("ann").update_repo_settings("ann/gate", gated="manual")
    lab.give("kim", "read")
    grant = "/api/models/ann/gate/user-access-request/grant"
    assert lab.web("ann").post(grant, json={"user": "nobody"}).status_code == 404
    assert lab.web("ann").post(grant, json={"user": "kim"}).status_code == 200
    lab.give("kim", "read")  # a second token of one account
    lab.api("kim").hf_hub_download("ann/gate", "large.bin", cache_dir=tmp_path / "kim")
    lab.accounts.revoke("kim")
    lab.give("kim", "read")
    with pytest.raises(GatedRepoError):
        lab.api("kim").hf_hub_download("ann/gate", "large.bin", cache_dir=tmp_path / "other")


def scores(dataset: str, value: float) -> bytes:
    return json.dumps([{"dataset": {"id": dataset, "task_id": "t"}, "value": value}]).encode()


def test_results_are_shown_to_readers_alone(lab: Lab) -> None:
    ann = lab.api("ann")
    ann.create_repo("eval/bench", repo_type="dataset")
    for name, value, settings in (
        ("eval/open", 0.1, {}), ("eval/private", 0.2, {"private": True}),
        ("eval/auto", 0.3, {"gated": "auto"}), ("eval/manual", 0.4, {"gated": "manual"}),
    ):  # fmt: skip
        lab.make(name, **{".eval_results/r.yaml": scores("eval/bench", value)})
        if settings:
            ann.update_repo_settings(name, **settings)
    for who, seen in (
        (None, {"eval/open"}), ("bob", {"eval/open", "eval/private", "eval/auto"}),
        ("ann", {"eval/open", "eval/private", "eval/auto", "eval/manual"}),
    ):  # fmt: skip
        api = lab.api(who)
        assert {row.model_id for row in api.get_dataset_leaderboard("eval/bench")} == seen
        listed = {model.id: model.eval_results for model in api.list_models(author="eval", expand=["evalResults"])}
        assert {name for name, rows in listed.items() if rows} == seen
        assert "eval/manual" in listed
        assert bool(api.model_info("eval/manual").eval_results) == (who == "ann")


def test_results_follow_a_dataset_that_moves(lab: Lab) -> None:
    ann = lab.api("ann")
    ann.create_repo("old/bench", repo_type="dataset")
    lab.make("score/before", **{".eval_results/r.yaml": scores("old/bench", 0.2)})
    ann.move_repo("old/bench", "new/bench", repo_type="dataset")
    lab.make("score/after", **{".eval_results/r.yaml": scores("new/bench", 0.3)})
    for name in ("old/bench", "new/bench"):
        assert [row.model_id for row in ann.get_dataset_leaderboard(name)] == ["score/after", "score/before"]
    ann.create_repo("old/bench", repo_type="dataset")  # from now on another one
    assert [row.model_id for row in ann.get_dataset_leaderboard("new/bench")] == ["score/after"]


def test_a_hub_that_asked_once_goes_on_asking(hub: EmbeddedHub) -> None:
    with httpx.Client(base_url=hub.url) as web:
        assert web.post("/api/repos/create", json={"name": "x"}).status_code == 200
        Accounts(hub.root).add("ann", "write")
        assert web.get("/api/whoami-v2").status_code == 401
        (hub.root / "tokens.json").unlink()
        assert web.post("/api/repos/create", json={"name": "y"}).status_code == 401


@pytest.mark.parametrize("content", [None, "{}", "[1]", "", '{"secret": "", "tokens": {}}', '{"tokens": {"a": 1}}'])
def test_lost_tokens_let_nobody_in(tmp_path: Path, content: str | None) -> None:
    with serving(tmp_path / "root") as lab:
        lab.make("ann/open")
        address = lab.address(None, "ann/open")
        file = lab.root / "tokens.json"
        kept = file.read_text()
        file.unlink() if content is None else file.write_text(content)
        for who in (None, "ann"):
            for path in ("/api/whoami-v2", "/api/models/ann/open", "/api/models", "/ann/open/resolve/main/large.bin"):
                answer = lab.web(who).get(path)
                assert answer.status_code == 401 and "token" in answer.json()["error"], path
            made = lab.web(who).post("/api/repos/create", json={"organization": "eve", "name": "x"})
            assert made.status_code == 401
        assert httpx.get(address).status_code == 401
        file.write_text(kept)
        assert lab.api("ann").model_info("ann/open").id == "ann/open"
        with pytest.raises(HfHubHTTPError):
            lab.api(None).create_repo("eve/x")
