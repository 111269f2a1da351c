"""Tokens, roles, private and gated repos, with the real client."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

from hf_mirror.errors import ConfigError
from hf_mirror.hub import EmbeddedHub
from hf_mirror.hub.accounts import Accounts
from hf_mirror.hub.server import check_host

LARGE = bytes(range(256)) * 4000


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedHub]:
    root = tmp_path_factory.mktemp("hub") / "root"
    root.mkdir()
    accounts = Accounts(root)
    tokens = {name: accounts.add(name, role) for name, role in (("ann", "write"), ("bob", "read"))}
    with EmbeddedHub(root) as running:
        running.tokens = tokens  # type: ignore[attr-defined]
        yield running


def api(hub: Any, who: str | None) -> HfApi:
    return HfApi(endpoint=hub.url, token=hub.tokens[who] if who else False)


@pytest.fixture(scope="module")
def repos(hub: EmbeddedHub) -> EmbeddedHub:
    ann = api(hub, "ann")
    for name, private in (("ann/open", False), ("ann/secret", True), ("ann/gate", False), ("ann/manual", False)):
        ann.create_repo(name, private=private)
        ann.upload_file(path_or_fileobj=b"hello", path_in_repo="small.txt", repo_id=name)
        ann.upload_file(path_or_fileobj=LARGE, path_in_repo="large.bin", repo_id=name)
    ann.update_repo_settings("ann/gate", gated="auto")
    ann.update_repo_settings("ann/manual", gated="manual")
    return hub


def grant(hub: Any, who: str | None, repo: str, user: str) -> None:
    """As `HfApi.grant_access`, which asks the HF_ENDPOINT of its process, whatever endpoint it was made for."""
    headers = {"Authorization": f"Bearer {hub.tokens[who]}"} if who else {}
    answer = httpx.post(f"{hub.url}/api/models/{repo}/user-access-request/grant", json={"user": user}, headers=headers)
    if answer.is_error:
        raise HfHubHTTPError(answer.text, response=answer)


def read(api: HfApi, repo: str, path: str, cache: Path) -> bytes:
    return Path(api.hf_hub_download(repo, path, cache_dir=cache)).read_bytes()


def test_an_account_is_who_its_token_says(hub: EmbeddedHub) -> None:
    for who, role in (("ann", "write"), ("bob", "read")):
        found = api(hub, who).whoami()
        assert (found["name"], found["auth"]["accessToken"]["role"]) == (who, role)
    wrong = HfApi(endpoint=hub.url, token="hf_made_up")
    for ask in (wrong.whoami, lambda: wrong.model_info("ann/open"), lambda: wrong.create_repo("ann/x")):
        with pytest.raises(HfHubHTTPError) as error:
            ask()
        assert error.value.response.status_code == 401 and "hf_made_up" not in str(error.value)
    assert httpx.get(f"{hub.url}/api/whoami-v2").status_code == 401


@pytest.mark.parametrize(("who", "status"), [("bob", 403), (None, 401)])
def test_only_writers_write(repos: EmbeddedHub, who: str | None, status: int) -> None:
    other = api(repos, who)
    before = api(repos, "ann").model_info("ann/open").sha
    attempts = (
        lambda: other.create_repo("bob/x"),
        lambda: other.delete_repo("ann/open"),
        lambda: other.move_repo("ann/open", "bob/open"),
        lambda: other.create_tag("ann/open", tag="v1"),
        lambda: other.create_branch("ann/open", branch="b"),
        lambda: other.super_squash_history("ann/open"),
        lambda: other.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id="ann/open"),
        lambda: other.update_repo_settings("ann/open", private=True),
        lambda: grant(repos, who, "ann/manual", "bob"),
    )
    for attempt in attempts:
        with pytest.raises(HfHubHTTPError) as error:
            attempt()
        assert error.value.response.status_code == status
    assert api(repos, "ann").model_info("ann/open").sha == before


def test_large_files_and_chunks_are_taken_from_writers_alone(repos: EmbeddedHub) -> None:
    """Without a token at the addresses that the API sends a writer to."""
    oid = "0" * 64
    with httpx.Client(base_url=repos.url) as web:
        for ask in (
            lambda: web.put(f"/lfs/{oid}", content=b"x"),
            lambda: web.put(f"/lfs/{oid}?word=99999999999.{oid}", content=b"x"),
            lambda: web.post(f"/lfs/{oid}/verify", json={}),
            lambda: web.get(f"/lfs/{oid}"),
            lambda: web.get("/api/models/ann/open/xet-write-token/main"),
            lambda: web.post("/ann/open.git/info/lfs/objects/batch", json={"operation": "upload", "objects": []}),
        ):
            assert ask().status_code == 401
        bearer = {"Authorization": f"Bearer {repos.tokens['ann']}"}  # type: ignore[attr-defined]
        address = web.get("/api/models/ann/open/xet-write-token/main", headers=bearer).json()["casUrl"]
        assert httpx.post(f"{address}/v1/shards", content=b"x").status_code == 401


def test_a_private_repo_is_nobodys_business(repos: EmbeddedHub, tmp_path: Path) -> None:
    for who in ("ann", "bob"):
        assert read(api(repos, who), "ann/secret", "large.bin", tmp_path / who) == LARGE
    nobody = api(repos, None)
    for ask in (
        lambda: nobody.model_info("ann/secret"),
        lambda: nobody.list_repo_files("ann/secret"),
        lambda: read(nobody, "ann/secret", "small.txt", tmp_path / "nobody"),
        lambda: nobody.model_info("ann/not-there"),  # which looks the same
    ):
        with pytest.raises(RepositoryNotFoundError):
            ask()
    assert {model.id for model in nobody.list_models()} == {"ann/open", "ann/gate", "ann/manual"}
    assert len(list(api(repos, "bob").list_models())) == 4
    assert read(nobody, "ann/open", "large.bin", tmp_path / "nobody") == LARGE


def test_a_gate_opens_for_accounts_or_for_who_was_let_in(repos: EmbeddedHub, tmp_path: Path) -> None:
    nobody, bob, ann = (api(repos, who) for who in (None, "bob", "ann"))
    assert nobody.model_info("ann/gate").gated == "auto"
    assert read(bob, "ann/gate", "large.bin", tmp_path / "gate") == LARGE
    for who, repo in ((nobody, "ann/gate"), (nobody, "ann/manual"), (bob, "ann/manual")):
        with pytest.raises(GatedRepoError):
            read(who, repo, "small.txt", tmp_path / "none")
        with pytest.raises(HfHubHTTPError):
            who.auth_check(repo)
    assert read(ann, "ann/manual", "small.txt", tmp_path / "ann") == b"hello"
    grant(repos, "ann", "ann/manual", "bob")
    assert read(bob, "ann/manual", "small.txt", tmp_path / "bob") == b"hello"


def test_tokens_are_made_and_forgotten_by_the_command_line(tmp_path: Path) -> None:
    def mirror(*arguments: object) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-c", "from hf_mirror.cli import main; main()", "hub", *map(str, arguments)]
        return subprocess.run(program, capture_output=True, text=True)

    root = tmp_path / "root"
    made = json.loads(mirror("token", "--root", root, "--name", "ann", "--json").stdout)
    file = root / "tokens.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert made["token"].startswith("hf_") and made["token"] not in file.read_text()
    with EmbeddedHub(root) as hub:
        ann = HfApi(endpoint=hub.url, token=made["token"])
        ann.create_repo("ann/x")
        assert json.loads(mirror("token", "--root", root, "--name", "ann", "--revoke", "--json").stdout)["revoked"] == 1
        with pytest.raises(HfHubHTTPError):  # while it is served, and with no token left
            ann.create_repo("ann/y")
    wrong = mirror("token", "--root", root, "--name", "a/b")
    assert wrong.returncode == 2 and wrong.stderr.startswith("error: Invalid repo name") and wrong.stdout == ""
    assert mirror("token", "--root", root, "--name", "ann", "--revoke").returncode == 2


def test_other_machines_may_come_where_there_are_tokens(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="asks nobody for a token"):
        check_host("0.0.0.0", Accounts(tmp_path))
    Accounts(tmp_path).add("ann", "write")
    check_host("0.0.0.0", Accounts(tmp_path))


def test_a_repo_hands_out_its_own_files_alone(repos: EmbeddedHub) -> None:
    """Faulty variant: any repo's batch gives any file of the Hub, and a diff those of a gated one."""
    ann = api(repos, "ann")
    for name in ("ann/secret", "ann/gate"):
        ann.upload_file(path_or_fileobj=LARGE + name.encode(), path_in_repo="own.bin", repo_id=name)
        entry = next(f for f in ann.list_repo_tree(name) if f.path == "own.bin")
        wanted = {"operation": "download", "objects": [{"oid": entry.lfs.sha256}]}
        answer = httpx.post(f"{repos.url}/ann/open.git/info/lfs/objects/batch", json=wanted).json()["objects"][0]
        assert answer["error"]["code"] == 404 and answer["size"] == 0 and "actions" not in answer
    ann.upload_file(path_or_fileobj=b"new", path_in_repo="small.txt", repo_id="ann/gate", create_pr=True)
    address = f"{repos.url}/api/models/ann/gate/discussions/1"
    assert httpx.get(address).status_code == 200 and httpx.get(f"{address}?diff=1").status_code == 401


def test_tokens_that_are_made_at_once_are_all_known(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(lambda i: Accounts(tmp_path).add(f"a{i}", "read"), range(24)))
    assert [Accounts(tmp_path).find(f"Bearer {token}").name for token in tokens] == [f"a{i}" for i in range(24)]


def test_odd_words_and_numbers_are_no_failures(repos: EmbeddedHub) -> None:
    """Faulty variant: whoever asks makes the server fail."""
    digits, oid = "9" * 5000, "0" * 64
    with httpx.Client(base_url=repos.url) as web:
        for word in (f"{digits}.aa", "9999999999.%C3%A9", "9999999999", ".", "%00"):
            assert web.get(f"/lfs/{oid}?word={word}").status_code == 401
        api = "/api/models/ann/open"
        for path, status in (
            (f"{api}/discussions/{digits}", 400), (f"{api}/discussions?p={digits}", 200),
            (f"{api}/tree/main?cursor={digits}", 400), (f"{api}/tree/main?cursor={digits}&expand=1", 400),
            (f"/api/models?limit={digits}", 200),
        ):  # fmt: skip
            assert web.get(path).status_code == status, path[:60]
        whole = web.get("/ann/open/resolve/main/small.txt", headers={"Range": f"bytes={digits}-"})
        assert (whole.status_code, whole.content) == (200, b"hello")
