"""Input that nobody would send by mistake, cards and results that no reader could bear, and what kills leave behind."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
from huggingface_hub import HfApi

from hf_mirror.hub import EmbeddedHub
from hf_mirror.hub.accounts import Accounts
from tests.hub.odd_input import CARDS, OID, VALUES

MODEL = "/api/models/ns/odd"


@pytest.fixture(scope="module")
def api(hub: EmbeddedHub) -> HfApi:
    return HfApi(endpoint=hub.url, token="hf_any")


@pytest.fixture(scope="module")
def web(hub: EmbeddedHub, api: HfApi) -> Iterator[httpx.Client]:
    api.create_repo("ns/odd")
    with httpx.Client(base_url=hub.url, timeout=60) as web:
        yield web


def put(api: HfApi, repo: str, path: str, text: str) -> None:
    """Without the client's own look at cards."""
    lines = [{"key": "header", "value": {}}, {"key": "file", "value": {"path": path, "content": text}}]
    answer = httpx.post(f"{api.endpoint}/api/models/{repo}/commit/main", content="\n".join(map(json.dumps, lines)))
    assert answer.status_code == 200, answer.text


def test_no_card_and_no_result_spoils_what_others_read(web: httpx.Client, api: HfApi) -> None:
    api.create_repo("odd/bench", repo_type="dataset")
    row = "- dataset: {id: odd/bench, task_id: t}\n  value: "
    api.create_repo("odd/good")
    put(api, "odd/good", ".eval_results/r.yaml", f"{row}0.5\n")
    for number, card in enumerate(CARDS):
        api.create_repo(f"odd/card-{number}")
        put(api, f"odd/card-{number}", "README.md", card)
    for number, value in enumerate([*VALUES, "1\n  source: [1]", "1\n  source: {name: n}", "1\n" + "- [" * 2000]):
        api.create_repo(f"odd/score-{number}")
        put(api, f"odd/score-{number}", ".eval_results/r.yaml", f"{row}{value}\n")
    fields = ["cardData", "evalResults", "tags"]
    listed = {model.id: model for model in api.list_models(author="odd", expand=fields)}
    assert len(listed) == len(list(api.list_models(author="odd", full=True))) == 4 + len(CARDS) + len(VALUES)
    assert listed["odd/card-0"].card_data.license == "mit"
    for name in listed:
        assert api.model_info(name).id == name
    board = api.get_dataset_leaderboard("odd/bench")
    assert [(entry.model_id, entry.value) for entry in board] == [("odd/good", 0.5), ("odd/score-0", 0.5)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("---\n" + "[" * 100_000 + "\n---\n", "deep"),
        (f"---\na: {'x' * 300_000}\n---\n", "longer"),
        (CARDS[-1], "aliases"),
        ("---\na: &a [*a]\n---\n", "alias"),
        ("---\na: !!binary aGk=\n---\n", "constructor"),
        ("---\nx: " + "1:" * 100_000 + "1\n---\n", ""),
    ],
)
def test_validation_is_bounded(web: httpx.Client, content: str, said: str) -> None:
    start = time.monotonic()
    answer = web.post("/api/validate-yaml", json={"content": content})
    assert time.monotonic() - start < 3
    assert answer.status_code == (400 if said else 200)
    assert not said or said in answer.json()["errors"][0]["message"]


def test_readers_have_little_to_say(tmp_path: object) -> None:
    root = tmp_path / "root"  # type: ignore[operator]
    root.mkdir()
    token = Accounts(root).add("ann", "write")
    body = json.dumps({"content": "x" * (5 << 20)})
    with EmbeddedHub(root) as hub:
        for headers, status in (({}, 413), ({"Authorization": f"Bearer {token}"}, 200)):
            assert httpx.post(f"{hub.url}/api/validate-yaml", content=body, headers=headers).status_code == status


@pytest.mark.parametrize(
    "name",
    ["git~1", "a/GIT~1/b", ".git ", ".git.", ".GIT", ".git::$INDEX_ALLOCATION", ".gitattributes/x", "a/.gitmodules/x"],
)
def test_names_that_git_refuses(web: httpx.Client, api: HfApi, name: str) -> None:
    before = api.model_info("ns/odd").sha
    lines = [{"key": "header", "value": {}}, {"key": "file", "value": {"path": name, "content": "x"}}]
    answer = web.post(f"{MODEL}/commit/main", content="\n".join(map(json.dumps, lines)))
    assert answer.status_code == 400 and api.model_info("ns/odd").sha == before


BATCH = "/ns/odd.git/info/lfs/objects/batch"


@pytest.mark.parametrize(
    "size", ["NaN", "1e999", "-1", "1" + "0" * 400, "true", '"5"', "1.5", "[1]", "999999999999999"]
)
@pytest.mark.parametrize("operation", ["upload", "download"])
def test_sizes_that_are_none(web: httpx.Client, operation: str, size: str) -> None:
    body = f'{{"operation": "{operation}", "objects": [{{"oid": "{OID}", "size": {size}}}]}}'
    answer = web.post(BATCH, content=body)
    assert answer.status_code == (400 if size == "NaN" else 422), answer.text


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/api/repos/create", '{"name": "\\ud800"}', 400),
        ("POST", "/api/repos/create", '{"name": "x", "sdk": [1]}', 400),
        ("POST", "/api/repos/create", '{"name": "x", "type": ["model"]}', 400),
        ("POST", "/api/repos/create", '{"name": "x", "visibility": ["private"]}', 400),
        ("POST", f"{MODEL}/discussions", '{"title": "\\ud800", "description": "x"}', 400),
        ("POST", f"{MODEL}/discussions", '{"title": ["x"]}', 400),
        ("POST", f"{MODEL}/tag/main", '{"tag": "v1", "message": "\\udfff"}', 400),
        ("POST", f"{MODEL}/commit/main", '{"key": "header", "value": {"summary": "\\ud800"}}', 400),
        ("POST", f"{MODEL}/commit/main", '{"key": "header", "value": {"summary": 5}}', 400),
        ("POST", f"{MODEL}/commit/main", '{"key": "file", "value": {"path": "\\ud800", "content": "x"}}', 400),
        ("POST", f"{MODEL}/preupload/main", '{"files": [{"path": "a", "size": true, "sample": ""}]}', 400),
        ("POST", f"{MODEL}/preupload/main", '{"files": [{"path": "a", "size": 1, "sample": "é"}]}', 200),
        ("POST", f"{MODEL}/preupload/main", '{"files": [], "gitIgnore": 5}', 400),
        ("POST", f"{MODEL}/paths-info/main", '{"paths": 5}', 400),
        ("POST", f"{MODEL}/paths-info/main", '{"paths": "README.md"}', 400),
        ("POST", f"{MODEL}/paths-info/main", '{"paths": [5]}', 400),
        ("POST", "/api/validate-yaml", "[" * 100_000, 400),
        ("POST", "/api/validate-yaml", '{"content": NaN}', 400),
        ("PUT", f"{MODEL}/settings", '{"gated": 0}', 400),
        ("PUT", f"{MODEL}/settings", '{"gated": true}', 400),
        ("PUT", f"{MODEL}/settings", '{"gated": {}}', 400),
        ("PUT", f"{MODEL}/settings", '{"private": "no"}', 400),
        ("PUT", f"{MODEL}/settings", '{"visibility": []}', 400),
        ("GET", f"{MODEL}/revision/{'r' * 3000}", "", 404),
        ("GET", f"{MODEL}/revision/{'r%2F' * 1000}r", "", 404),
        ("GET", f"{MODEL}/revision/.git%20", "", 404),
        ("GET", f"{MODEL}/revision/{'%F0%9F%90%A7' * 60}{('%2F' + '%F0%9F%90%A7' * 60) * 15}", "", 404),
        ("POST", f"{MODEL}/branch/{'r' * 3000}", "{}", 400),
        ("POST", f"{MODEL}/branch/{'r' * 251}", "{}", 400),
        ("DELETE", f"{MODEL}/tag/{'r' * 3000}", "", 404),
    ],
)
def test_odd_requests_are_refused(web: httpx.Client, method: str, path: str, body: str, status: int) -> None:
    headers = {"Content-Type": "application/json"}
    answer = web.request(method, path, content=body, headers=headers)
    assert answer.status_code == status and (status == 200 or answer.json()["error"]), answer.text
    assert web.get(MODEL).json()["gated"] is False


def test_full_names_come_before_branches_of_that_name(hub: EmbeddedHub, api: HfApi) -> None:
    """Faulty variant: whoever makes a branch `refs/pr/1` with git gets to be read for the pull request."""
    repo = "ns/alike"
    api.create_repo(repo)
    main = api.model_info(repo).sha
    api.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id=repo, create_pr=True)
    pull = api.model_info(repo, revision="refs/pr/1").sha
    assert pull != main
    for name, target in (("refs/pr/1", main), ("refs/heads/main", pull)):
        command = ["git", "update-ref", f"refs/heads/{name}", target]
        subprocess.run(command, cwd=hub.root / "models" / f"{repo}.git", check=True)
    assert api.model_info(repo, revision="refs/pr/1").sha == pull
    assert api.model_info(repo, revision="refs/heads/main").sha == api.model_info(repo).sha == main


def test_what_a_kill_leaves_blocks_nobody(hub: EmbeddedHub, api: HfApi) -> None:
    repo = "ns/left"
    api.create_repo(repo)
    git = hub.root / "models" / f"{repo}.git"
    for path in ("refs/heads/a/b", "refs/tags/v1", "refs/pr/1"):  # made, and never filled
        (git / path).mkdir(parents=True)
        (git / path / "x.lock").write_text("half")
    api.create_branch(repo, branch="a")
    api.create_tag(repo, tag="v1")
    api.create_pull_request(repo, "Title")
    api.create_branch(repo, branch="gone")
    subprocess.run(["git", "pack-refs", "--all"], cwd=git, check=True)
    for name in ("refs/heads/gone.lock", "refs/tags/v1.lock", "packed-refs.lock"):
        (git / name).parent.mkdir(parents=True, exist_ok=True)
        (git / name).write_text("half")
    hour_ago = time.time() - 3600
    os.utime(git / "packed-refs.lock", (hour_ago, hour_ago))
    api.delete_branch(repo, branch="gone")
    api.delete_tag(repo, tag="v1")
    refs = api.list_repo_refs(repo)
    assert ([branch.name for branch in refs.branches], refs.tags) == (["a", "main"], [])


def test_a_move_that_was_killed_leads_nowhere(hub: EmbeddedHub, api: HfApi) -> None:
    """Faulty variant: what was to be moved and was deleted instead is found under a name that somebody else took."""
    for name in ("ns/stayed", "ns/other"):
        api.create_repo(name)
    (hub.root / "models/ns/stayed.moved").write_text('{"to": "ns/other"}')
    assert api.model_info("ns/stayed").id == "ns/stayed"
    api.delete_repo("ns/stayed")
    assert not api.repo_exists("ns/stayed") and api.repo_exists("ns/other")


def test_git_at_work_is_waited_for_and_left_alone(hub: EmbeddedHub, web: httpx.Client, api: HfApi) -> None:
    repo = "ns/working"
    api.create_repo(repo)
    api.create_branch(repo, branch="gone")
    lock = hub.root / "models" / f"{repo}.git" / "packed-refs.lock"
    lock.touch()
    threading.Timer(0.5, lock.unlink).start()
    api.delete_branch(repo, branch="gone")
    lock.touch()
    api.create_branch(repo, branch="gone")
    assert web.delete(f"/api/models/{repo}/branch/gone").status_code == 409 and lock.exists()


def test_reads_of_a_repo_that_is_being_deleted(web: httpx.Client, api: HfApi) -> None:
    """Faulty variant: whoever reads at the wrong moment makes the Hub fail, and so do lists."""
    base = "/api/models/ns/brief"
    paths = [base, f"{base}/tree/main?recursive=1&expand=1", f"{base}/commits/main", f"{base}/refs",
             f"{base}/discussions/1?diff=1", "/ns/brief/resolve/main/.gitattributes", "/api/models?full=1"]  # fmt: skip
    seen, stop = set[tuple[str, int]](), threading.Event()

    def read(path: str) -> None:
        with httpx.Client(base_url=web.base_url, timeout=60) as own:
            while not stop.is_set():
                seen.add((path, own.get(path).status_code))

    readers = [threading.Thread(target=read, args=(path,)) for path in paths]
    for reader in readers:
        reader.start()
    until = time.monotonic() + 5
    while time.monotonic() < until:
        api.create_repo("ns/brief")
        api.create_pull_request("ns/brief", "Title")
        api.delete_repo("ns/brief")
    stop.set()
    for reader in readers:
        reader.join()
    assert {status for _, status in seen} == {200, 404}, seen
    assert {status for path, status in seen if path == "/api/models?full=1"} == {200}
