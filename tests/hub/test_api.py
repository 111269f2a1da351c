"""The HTTP API, asked directly."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from huggingface_hub import EvalResultEntry, HfApi, eval_result_entries_to_yaml
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

from hf_mirror.hub import EmbeddedHub

LARGE = bytes(range(256)) * 8000


@pytest.fixture(scope="module")
def api(hub: EmbeddedHub) -> HfApi:
    return HfApi(endpoint=hub.url, token="hf_any")


@pytest.fixture(scope="module")
def web(hub: EmbeddedHub, api: HfApi) -> Iterator[httpx.Client]:
    """A repo `ns/repo` with a small and a large file, uploaded over plain LFS."""
    with httpx.Client(base_url=hub.url) as web:
        api.create_repo("ns/repo")
        oid = put_large(web, "ns/repo", LARGE)
        answer = commit(web, "ns/repo", file("small.txt", "0123456789"), large("large.bin", oid))
        assert answer.status_code == 200, answer.text
        yield web


def put_large(web: httpx.Client, repo: str, data: bytes) -> str:
    oid = hashlib.sha256(data).hexdigest()
    wanted = {"operation": "upload", "transfers": ["basic"], "objects": [{"oid": oid, "size": len(data)}]}
    actions = web.post(f"/{repo}.git/info/lfs/objects/batch", json=wanted).json()["objects"][0]["actions"]
    assert web.put(actions["upload"]["href"], content=data).headers["ETag"] == f'"{oid}"'
    assert web.post(actions["verify"]["href"], json={"oid": oid, "size": len(data)}).status_code == 200
    assert "actions" not in web.post(f"/{repo}.git/info/lfs/objects/batch", json=wanted).json()["objects"][0]
    return oid


def file(path: str, text: str) -> dict:
    return {"key": "file", "value": {"path": path, "content": text, "encoding": "utf-8"}}


def large(path: str, oid: str) -> dict:
    return {"key": "lfsFile", "value": {"path": path, "algo": "sha256", "oid": oid}}


def commit(web: httpx.Client, repo: str, *operations: dict, parent: str | None = None, branch: str = "main"):
    header = {"key": "header", "value": {"summary": "test", "parentCommit": parent}}
    lines = "\n".join(json.dumps(line) for line in (header, *operations))
    return web.post(f"/api/models/{repo}/commit/{branch}", content=lines)


@pytest.mark.parametrize(("path", "whole"), [("small.txt", b"0123456789"), ("large.bin", LARGE)])
def test_ranges(web: httpx.Client, path: str, whole: bytes) -> None:
    url, size = f"/ns/repo/resolve/main/{path}", len(whole)
    for wanted, part, told in [
        ("bytes=2-5", whole[2:6], f"bytes 2-5/{size}"),
        ("bytes=7-", whole[7:], f"bytes 7-{size - 1}/{size}"),
        ("bytes=-3", whole[-3:], f"bytes {size - 3}-{size - 1}/{size}"),
        (f"bytes=4-{size * 2}", whole[4:], f"bytes 4-{size - 1}/{size}"),
    ]:
        answer = web.get(url, headers={"Range": wanted})
        assert (answer.status_code, answer.content, answer.headers["Content-Range"]) == (206, part, told)
    beyond = web.get(url, headers={"Range": f"bytes={size}-"})
    assert beyond.status_code == 416 and beyond.headers["Content-Range"] == f"bytes */{size}"
    for whole_anyway in ("bytes=0-1,4-5", "lines=1-2", "bytes=5-2"):
        answer = web.get(url, headers={"Range": whole_anyway})
        assert (answer.status_code, answer.content) == (200, whole)
    head = web.head(url)
    assert head.headers["Content-Length"] == str(size) and head.headers["Accept-Ranges"] == "bytes"


def test_resolve_headers(web: httpx.Client, api: HfApi) -> None:
    sha = api.model_info("ns/repo").sha
    small, big = web.head("/ns/repo/resolve/main/small.txt"), web.head("/ns/repo/resolve/main/large.bin")
    blob = hashlib.sha1(b"blob 10\x000123456789").hexdigest()
    assert small.headers["ETag"] == f'"{blob}"' and "X-Linked-Etag" not in small.headers
    oid = hashlib.sha256(LARGE).hexdigest()
    assert big.headers["ETag"] == big.headers["X-Linked-Etag"] == f'"{oid}"'
    assert big.headers["X-Linked-Size"] == str(len(LARGE))
    for answer in (small, big):
        assert answer.headers["X-Repo-Commit"] == sha and "X-Xet-Hash" not in answer.headers


def test_what_is_not_there(web: httpx.Client, api: HfApi) -> None:
    for url, code in [
        ("/api/models/ns/none", "RepoNotFound"),
        ("/api/models/none", "RepoNotFound"),
        ("/api/datasets/ns/repo", "RepoNotFound"),
        ("/none/resolve/main/config.json", "RepoNotFound"),
        ("/api/models/ns/repo/revision/none", "RevisionNotFound"),
        (f"/api/models/ns/repo/revision/{'0' * 40}", "RevisionNotFound"),
        ("/ns/repo/resolve/main/none.txt", "EntryNotFound"),
        ("/ns/repo/resolve/none/small.txt", "RevisionNotFound"),
        ("/api/models/ns/repo/tree/main/none", "EntryNotFound"),
    ]:
        answer = web.get(url)
        assert (answer.status_code, answer.headers["X-Error-Code"]) == (404, code), url
        assert answer.json()["error"] == answer.headers["X-Error-Message"]
    assert web.get("/ns/repo/resolve/main/none.txt").headers["X-Repo-Commit"] == api.model_info("ns/repo").sha
    assert "not offered" in web.get("/api/models/ns/repo/likers").json()["error"]
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("ns/none")
    with pytest.raises(RevisionNotFoundError):
        api.create_tag("ns/repo", tag="v1", revision="none")
    with pytest.raises(EntryNotFoundError):
        api.delete_file("none.txt", "ns/repo")


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "a/../../x",
        "/etc/x",
        "a//b",
        ".",
        "",
        ".git/config",
        "a/.GIT/hooks/x",
        "a\0b",
        "a\\b",
        "a\nb",
        "x" * 256,
        "a/",
    ],
)
def test_paths_that_would_leave_the_repo(web: httpx.Client, api: HfApi, path: str) -> None:
    before = api.model_info("ns/repo").sha
    assert commit(web, "ns/repo", file("ok.txt", "x"), file(path, "x")).status_code == 400
    assert commit(web, "ns/repo", large(path, hashlib.sha256(LARGE).hexdigest())).status_code == 400
    assert api.model_info("ns/repo").sha == before
    asked = {"files": [{"path": path, "sample": "", "size": 1}]}
    assert web.post("/api/models/ns/repo/preupload/main", json=asked).status_code == 400


@pytest.mark.parametrize(
    "path", ["..%2f..%2fhub.json", "%2e%2e/%2e%2e/hub.json", "a%00b", "%2fetc/passwd", ".git/config"]
)
def test_downloads_stay_in_the_repo(web: httpx.Client, path: str) -> None:
    assert web.get(f"/ns/repo/resolve/main/{path}").status_code == 400
    assert web.get(f"/api/models/ns/repo/tree/main/x/{path}").status_code == 400


_BAD_NAMES = ["ns/..", "../x", "ns/a.git", "ns/a/b", "api/x", "ns/", "ns/é", "ns/a--b", "ns/x\0"]


@pytest.mark.parametrize("repo", _BAD_NAMES)
def test_repo_names(web: httpx.Client, repo: str) -> None:
    namespace, _, name = repo.partition("/")
    for method, path in (("POST", "/api/repos/create"), ("DELETE", "/api/repos/delete")):
        answer = web.request(method, path, json={"organization": namespace, "name": name})
        assert answer.status_code == (400 if method == "POST" else 404)
    assert web.get(f"/api/models/{namespace}/%2e%2e").status_code == 404


def test_writers_wait_for_each_other(web: httpx.Client, api: HfApi) -> None:
    api.create_repo("ns/busy")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: commit(web, "ns/busy", file(f"{i}.txt", str(i))), range(16)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(api.list_repo_commits("ns/busy")) == 17
    assert set(api.list_repo_files("ns/busy")) == {".gitattributes", *(f"{i}.txt" for i in range(16))}


def test_commits_that_are_refused_change_nothing(web: httpx.Client, api: HfApi) -> None:
    before = api.model_info("ns/repo").sha
    absent = hashlib.sha256(b"never uploaded").hexdigest()
    for status, operations, extra in [
        (412, [file("x", "x")], {"parent": "0" * 40}),
        (400, [large("x.bin", absent)], {}),
        (404, [{"key": "deletedFile", "value": {"path": "none"}}], {}),
        (404, [{"key": "deletedFolder", "value": {"path": "none"}}], {}),
        (400, [{"key": "rename", "value": {"path": "a"}}], {}),
        (400, [{"key": "file", "value": {"content": "x"}}], {}),
        (400, [{"key": "file", "value": {"path": "x", "content": "?", "encoding": "base64"}}], {}),
        (404, [file("x", "x")], {"branch": "none"}),
        (404, [file("x", "x")], {"branch": before}),
        (404, [file("x", "x")], {"branch": "nowhere?create_pr=1"}),
    ]:
        answer = commit(web, "ns/repo", *operations, **extra)
        assert answer.status_code == status, answer.text
    assert web.post("/api/models/ns/repo/commit/main", content=b"not json").status_code == 400
    assert web.put(f"/lfs/{absent}", content=b"something else").status_code == 400
    assert web.get(f"/lfs/{absent}").status_code == 404
    assert api.model_info("ns/repo").sha == before
    unchanged = commit(web, "ns/repo", file("small.txt", "0123456789"), large("large.bin", put_twice()), parent=before)
    assert unchanged.json()["commitOid"] == before


def put_twice() -> str:
    return hashlib.sha256(LARGE).hexdigest()


def test_branches_and_tags(web: httpx.Client, api: HfApi) -> None:
    head = api.model_info("ns/repo").sha
    api.create_branch("ns/repo", branch="work/one")
    assert commit(web, "ns/repo", file("w.txt", "w"), branch="work%2Fone").status_code == 200
    assert api.model_info("ns/repo", revision="work/one").sha != head == api.model_info("ns/repo").sha
    assert web.get("/ns/repo/resolve/refs%2Fheads%2Fwork%2Fone/w.txt").content == b"w"
    for taken in ("work/one", "work", "work/one/more"):
        assert web.post(f"/api/models/ns/repo/branch/{taken.replace('/', '%2F')}", json={}).status_code == 409
    for bad in ("a..b", "-x", "a b", "x.lock", "0" * 40):
        assert web.post("/api/models/ns/repo/tag/main", json={"tag": bad}).status_code == 400
    api.create_tag("ns/repo", tag="t", tag_message="two\nlines")
    api.delete_tag("ns/repo", tag="t")
    api.delete_branch("ns/repo", branch="work/one")
    assert [branch.name for branch in api.list_repo_refs("ns/repo").branches] == ["main"]
    assert web.delete("/api/models/ns/repo/branch/main").status_code == 400


def test_trees(web: httpx.Client, api: HfApi) -> None:
    api.create_repo("ns/tree", repo_type="model")
    names = [f"folder/{i:04d}.txt" for i in range(1100)]
    assert commit(web, "ns/tree", *(file(name, name) for name in names)).status_code == 200
    assert commit(web, "ns/tree", file(names[7], "changed")).status_code == 200
    first = web.get("/api/models/ns/tree/tree/main/folder")
    assert len(first.json()) == 1000 and 'rel="next"' in first.headers["Link"]
    listed = list(api.list_repo_tree("ns/tree", recursive=True))
    assert [entry.path for entry in listed] == [".gitattributes", "folder", *names]
    dated = {entry.path: entry.last_commit for entry in api.list_repo_tree("ns/tree", "folder", expand=True)}
    commits = api.list_repo_commits("ns/tree")
    assert dated[names[7]].oid == commits[0].commit_id and dated[names[8]].oid == commits[1].commit_id
    found = api.get_paths_info("ns/tree", [names[0], "none", "folder"])
    assert {(entry.path, type(entry).__name__) for entry in found} == {(names[0], "RepoFile"), ("folder", "RepoFolder")}
    api.super_squash_history("ns/tree")
    assert len(api.list_repo_commits("ns/tree")) == 1 and len(api.list_repo_files("ns/tree")) == 1101


def test_listing_settings_and_deletion(web: httpx.Client, api: HfApi) -> None:
    for name, tags in (("many/alpha", "[sentiment, x]"), ("many/beta", "[x]")):
        api.create_repo(name, repo_type="dataset")
        card = f"---\ntags: {tags}\nlicense: mit\nwhen: 2024-01-02\n---\n"
        lines = "\n".join(map(json.dumps, [{"key": "header", "value": {}}, file("README.md", card)]))
        assert web.post(f"/api/datasets/{name}/commit/main", content=lines).status_code == 200
    assert {info.id for info in api.list_datasets(author="many")} == {"many/alpha", "many/beta"}
    assert [info.id for info in api.list_datasets(search="BET")] == ["many/beta"]
    assert [info.id for info in api.list_datasets(filter=["x", "sentiment"])] == ["many/alpha"]
    pages = api.list_datasets(author="many", limit=2)
    assert len(list(pages)) == 2 and len(web.get("/api/datasets?author=many&limit=1").json()) == 1
    api.update_repo_settings("many/alpha", private=True, gated="auto", repo_type="dataset")
    info = api.dataset_info("many/alpha")
    assert (info.private, info.gated) == (True, "auto")
    assert web.put("/api/datasets/many/alpha/settings", json={"gated": "sometimes"}).status_code == 400
    assert web.get("/api/datasets/many/alpha?expand=tags").json().keys() == {"_id", "id", "tags"}
    api.auth_check("many/alpha", repo_type="dataset")
    api.delete_repo("many/alpha", repo_type="dataset")
    assert not api.repo_exists("many/alpha", repo_type="dataset")
    api.create_repo("many/alpha", repo_type="dataset")  # the name is free again
    api.create_repo("many/board", repo_type="space", space_sdk="static")
    assert api.space_info("many/board").sdk == "static"


def test_scores_reach_the_leaderboard(web: httpx.Client, api: HfApi) -> None:
    api.create_repo("eval/bench", repo_type="dataset")
    for name, value in (("eval/low", 0.2), ("eval/high", 0.7)):
        api.create_repo(name)
        rows = eval_result_entries_to_yaml([EvalResultEntry(dataset_id="eval/bench", task_id="t", value=value)])
        assert commit(web, name, file(".eval_results/bench.yaml", json.dumps(rows))).status_code == 200
    assert commit(web, "eval/low", file(".eval_results/broken.yaml", "- [")).status_code == 200
    board = api.get_dataset_leaderboard("eval/bench")
    assert [(row.rank, row.model_id, row.value) for row in board] == [(1, "eval/high", 0.7), (2, "eval/low", 0.2)]
    assert api.model_info("eval/high").eval_results[0].value == 0.7
    assert commit(web, "eval/high", file("README.md", "---\nbase_model: eval/low\n---\n")).status_code == 200
    assert [row.model_id for row in api.get_dataset_leaderboard("eval/bench")] == ["eval/low"]
    assert len(api.get_dataset_leaderboard("eval/bench", base_model_only=False)) == 2


def test_cards_are_validated(web: httpx.Client) -> None:
    good = web.post("/api/validate-yaml", json={"content": "---\nlicense: mit\n---\n", "repoType": "model"})
    assert good.status_code == 200 and good.json() == {"errors": [], "warnings": []}
    bad = web.post("/api/validate-yaml", json={"content": "---\na: [\n---\n", "repoType": "model"})
    assert bad.status_code == 400 and "not YAML" in bad.json()["errors"][0]["message"]


def test_preupload_tells_how_and_what_is_held(web: httpx.Client) -> None:
    wanted = [("small.txt", b"text", 4), ("x.parquet", b"text", 4), ("x.txt", b"text", 11 << 20), ("x.dat", b"\0\1", 2),
              ("large.bin", b"", 9), ("cut.txt", "é".encode()[:1], 2)]  # fmt: skip
    files = [{"path": p, "sample": base64.b64encode(s).decode(), "size": n} for p, s, n in wanted]
    answer = web.post("/api/models/ns/repo/preupload/main", json={"files": files, "gitIgnore": "*.dat\n"}).json()
    modes = {row["path"]: (row["uploadMode"], row["shouldIgnore"], row["oid"]) for row in answer["files"]}
    blob = hashlib.sha1(b"blob 10\x000123456789").hexdigest()
    assert modes["small.txt"] == ("regular", False, blob)
    assert modes["x.parquet"] == modes["x.txt"] == ("lfs", False, None)
    assert modes["x.dat"] == ("lfs", True, None)
    assert modes["large.bin"] == ("lfs", False, hashlib.sha256(LARGE).hexdigest())
    assert modes["cut.txt"][0] == "regular"


@pytest.mark.parametrize(
    "revision", ["a%20b", "%2e%2e", "%2e%2e%2fx", "refs%2Ftags%2Ft", "x%00y", "refs%2F", "@%7B1%7D", "HEAD"]
)
def test_odd_revisions_are_just_not_there(web: httpx.Client, revision: str) -> None:
    base = "/api/models/ns/repo"
    for method, url in [
        ("GET", f"{base}/revision/{revision}"),
        ("POST", f"{base}/commit/{revision}"),
        ("DELETE", f"{base}/tag/{revision}"),
        ("DELETE", f"{base}/branch/{revision}"),
        ("POST", f"{base}/super-squash/{revision}"),
    ]:
        assert web.request(method, url).status_code == 404, (method, url)


def test_requests_of_another_shape_are_refused(web: httpx.Client) -> None:
    for url, body in [
        ("/api/models/ns/repo/preupload/main", {"files": ["x"]}),
        ("/api/models/ns/repo/preupload/main", {"files": [{"path": "x", "size": "1", "sample": ""}]}),
        ("/ns/repo.git/info/lfs/objects/batch", {"operation": "upload"}),
        ("/api/repos/create", ["x"]),
        ("/api/repos/create", {"name": "x", "type": "bucket"}),
        ("/api/validate-yaml", {}),
    ]:
        assert web.post(url, json=body).status_code == 400, url


def test_names_that_end_early_name_nothing(web: httpx.Client, api: HfApi) -> None:
    """Faulty variant: the library below reads `main` where a NUL follows, and the branch is gone."""
    api.create_repo("ns/nul")
    base = "/api/models/ns/nul"
    assert web.delete(f"{base}/branch/main%00x").status_code == 404
    assert web.get(f"{base}/tree/main%00x").status_code == 404
    for name in ("main%00x", "refs%2Fpr%2F2", "refs%2Fheads%2Fmain"):
        assert web.post(f"{base}/branch/{name}", json={}).status_code == 400
    assert api.model_info("ns/nul").sha and "ns/nul" in {model.id for model in api.list_models()}
