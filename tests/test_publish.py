"""A run folder becomes Hub repos: against the real embedded Hub, with the real clients."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hf_mirror.domains import import_file
from hf_mirror.errors import ConfigError, DataError, HubError
from hf_mirror.files import read_json, read_rows, sha256_file, write_json, write_rows
from hf_mirror.hub import EmbeddedHub
from hf_mirror.publish import publish, release
from hf_mirror.publish.mixed import mix, quotas
from hf_mirror.publish.model_repos import find_models, stage_model
from hf_mirror.publish.release import Snapshot, difference, git_blob_id
from hf_mirror.publish.staging import MIXED, Run, stage_datasets
from hf_mirror.schema import PAIR, SCENE

fixture = import_file(Path(__file__).parent / "run_folder.py")
faults = import_file(Path(__file__).parent / "faults.py")

DATASETS = ["mirror-scenes", "mirror-rationales", "mirror-preferences", "mirror-bench"]
MODELS = ["tiny-mirror-sft", "tiny-mirror-dpo"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return fixture.make_run(tmp_path / "run")


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[EmbeddedHub]:
    with EmbeddedHub(tmp_path / "hub") as running:
        yield running


def state(url: str, namespace: str = "acme") -> dict[str, Any]:
    """Commits and tags of every repo: what must not change when nothing is published."""
    from huggingface_hub import HfApi

    api = HfApi(endpoint=url)
    found = {}
    for kind, infos in (("dataset", api.list_datasets(author=namespace)), ("model", api.list_models(author=namespace))):
        for info in infos:
            commits = [c.commit_id for c in api.list_repo_commits(info.id, repo_type=kind)]
            tags = {tag.name: tag.target_commit for tag in api.list_repo_refs(info.id, repo_type=kind).tags}
            found[info.id] = {"commits": commits, "tags": tags}
    return found


# --- staging, without a network -----------------------------------------------------------------------------------


def test_the_same_run_gives_the_same_bytes(run: Path, tmp_path: Path) -> None:
    again = fixture.make_run(tmp_path / "again")
    for source, out in ((run, tmp_path / "a"), (again, tmp_path / "b")):
        stage_datasets(Run.open(source), out)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.parquet"))
    assert len(files) == 9 + 6 + 6 + 2 + 1  # the headline rows of the open one
    assert all(sha256_file(tmp_path / "a" / f) == sha256_file(tmp_path / "b" / f) for f in files)


def test_open_rows_are_published_as_they_are(run: Path, tmp_path: Path) -> None:
    scenes, _, preferences, _ = stage_datasets(Run.open(run), tmp_path / "out")
    assert read_rows(scenes.path("shop", "test")) == read_rows(run / "shop" / "scenes" / "test.parquet")
    assert read_rows(preferences.path("shop", "train")) == read_rows(run / "shop" / "preferences" / "train.parquet")


def test_rationales_meet_their_readings_by_key_and_only_outside_test(run: Path, tmp_path: Path) -> None:
    rationales = stage_datasets(Run.open(run), tmp_path / "out")[1]
    assert list(rationales.rows["shop"]) == ["train", "validation"]
    rows = [row for split in rationales.rows["shop"] for row in read_rows(rationales.path("shop", split))]
    assert len(rows) == 32
    for row in rows:
        assert row["choice_probs"][row["stated_choice"]] == pytest.approx(0.7)
    test_ids = {row["scene_id"] for row in read_rows(run / "shop" / "scenes" / "test.parquet")}
    assert not test_ids & {row["scene_id"] for row in rows}


def test_a_decision_without_a_reading_stays_and_is_counted(run: Path, tmp_path: Path) -> None:
    path = run / "shop" / "readings" / "teacher" / "train-000.parquet"
    rows = read_rows(path)
    from hf_mirror.schema import READING

    write_rows(path, rows[1:], READING)
    rationales = stage_datasets(Run.open(run), tmp_path / "out")[1]
    published = [row for split in ("train", "validation") for row in read_rows(rationales.path("shop", split))]
    assert len(published) == 32 and rationales.unread == {"films": 0, "shop": 1}
    assert sum(row["choice_probs"] is None for row in published) == 1


def test_repeated_keys_are_refused(run: Path, tmp_path: Path) -> None:
    from hf_mirror.schema import READING

    path = run / "shop" / "readings" / "teacher" / "train-000.parquet"
    write_rows(path.with_name("train-001.parquet"), read_rows(path)[:1], READING)
    with pytest.raises(DataError, match=r"shop/readings/teacher holds rows with the same scene_id"):
        stage_datasets(Run.open(run), tmp_path / "out")


@pytest.mark.parametrize(("split", "kind"), [("train", "rationales|preferences"), ("test", "bench")])
def test_rows_of_an_earlier_build_are_refused(run: Path, tmp_path: Path, split: str, kind: str) -> None:
    path = run / "shop" / "scenes" / f"{split}.parquet"
    write_rows(path, read_rows(path)[1:], SCENE)
    with pytest.raises(DataError, match=rf"({kind}) rows of {split} scenes that this build does not have"):
        stage_datasets(Run.open(run), tmp_path / "staged")


def test_a_split_without_rows_has_no_file(run: Path, tmp_path: Path) -> None:
    write_rows(run / "shop" / "preferences" / "validation.parquet", [], PAIR)
    preferences = stage_datasets(Run.open(run), tmp_path / "out")[2]
    assert preferences.rows["shop"] == {"train": 6} and not preferences.path("shop", "validation").exists()


@given(
    st.dictionaries(st.sampled_from("abcd"), st.tuples(st.integers(0, 50), st.floats(0.1, 10)), min_size=1),
)
def test_quotas_never_ask_for_more_than_there_is(table: dict[str, tuple[int, float]]) -> None:
    sizes = {name: size for name, (size, _) in table.items()}
    weights = {name: weight for name, (_, weight) in table.items()}
    drawn = quotas(sizes, weights)
    assert all(0 <= drawn[name] <= sizes[name] for name in sizes)
    assert quotas(sizes, None) == sizes
    filled = [name for name in sizes if sizes[name]]
    assert not filled or any(drawn[name] >= sizes[name] - 1 for name in filled)  # as large as it can be


def test_quotas_by_hand() -> None:
    assert quotas({"a": 100, "b": 30}, {"a": 1, "b": 1}) == {"a": 30, "b": 30}
    assert quotas({"a": 100, "b": 30}, {"a": 3, "b": 1}) == {"a": 90, "b": 30}
    assert quotas({"a": 5, "b": 0}, {"a": 1, "b": 9}) == {"a": 5, "b": 0}


def test_mixed_is_a_seeded_draw_of_whole_scenes() -> None:
    tables = {d: pa.table({"scene_id": [f"{d}{i // 2}" for i in range(2 * n)]}) for d, n in (("a", 40), ("b", 10))}
    first, same, other = (mix(tables, {"a": 1, "b": 1}, seed).column(0).to_pylist() for seed in (0, 0, 1))
    assert first == same != other
    assert sorted(id[0] for id in first) == ["a"] * 20 + ["b"] * 20
    assert all(first[i] == first[i + 1] for i in range(0, 40, 2))
    assert first != sorted(first)
    assert mix({"a": tables["a"]}, None, 0).equals(tables["a"])


def test_two_open_domains_share_mixed(tmp_path: Path) -> None:
    run = fixture.make_run(tmp_path / "run", ("shop", "store"), models=False)
    preferences = stage_datasets(Run.open(run), tmp_path / "out", weights={"shop": 1, "store": 1})[2]
    rows = read_rows(preferences.path(MIXED, "train"))
    assert sorted(row["domain"] for row in rows) == ["shop"] * 6 + ["store"] * 6
    with pytest.raises(ConfigError, match="one weight for each of"):
        stage_datasets(Run.open(run), tmp_path / "other", weights={"shop": 1})


def test_a_model_repo_holds_what_loads_it_and_no_local_path(run: Path, tmp_path: Path) -> None:
    lineage = [{"what": "base model", "repo": "acme/tiny-mirror-sft", "revision": "d" * 40},
               {"what": "benchmark", "repo": "acme/mirror-bench", "revision": "b" * 40}]  # fmt: skip
    sft, dpo = find_models(Run.open(run))
    assert [sft.name, dpo.name] == MODELS and dpo.from_scratch and dpo.withheld() is None
    folder = stage_model(dpo, tmp_path / "out", namespace="acme", tag="v1.0.0", lineage=lineage)
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {
        "README.md", "config.json", "model.safetensors", "tokenizer.json", "train_report.json",
        ".eval_results/mirror-bench.yaml", "evaluations/shop.direct.json",
        "evaluations/shop.direct.predictions.parquet",
    }  # fmt: skip
    for path in folder.rglob("*"):
        assert not path.is_file() or str(tmp_path).encode() not in path.read_bytes(), path
    assert read_json(folder / "config.json")["_name_or_path"] == "acme/tiny-mirror-sft"
    [entry] = yaml.safe_load((folder / ".eval_results" / "mirror-bench.yaml").read_text())
    assert entry["dataset"] == {"id": "acme/mirror-bench", "task_id": "shop", "revision": "b" * 40}
    result = read_json(folder / "evaluations" / "shop.direct.json")
    assert entry["value"] == round(result["scores"]["accuracy"]["value"], 6)
    assert (result["model"], result["bench"]) == ("acme/tiny-mirror-dpo", "acme/mirror-bench")
    predictions = folder / "evaluations" / "shop.direct.predictions.parquet"
    assert sha256_file(predictions) == result["predictions_sha256"]


def test_a_model_from_scratch_on_a_closed_source_stays_at_home(tmp_path: Path) -> None:
    run = fixture.make_run(tmp_path / "run", ("films",))
    fixture.add_model(run, "tuned", None, "films", base_id="HuggingFaceTB/SmolLM2-135M")
    reasons = {model.name: model.withheld() for model in find_models(Run.open(run))}
    assert reasons["tuned"] is None and "closed source films" in reasons["tiny-mirror-dpo"]


def test_a_licence_that_rules_names_is_enforced(run: Path, tmp_path: Path) -> None:
    fixture.add_model(run, "tuned", None, "shop", base_id="meta-llama/Llama-3.2-1B")
    tuned = next(model for model in find_models(Run.open(run)) if model.name == "tuned")
    with pytest.raises(ConfigError, match="rename its folder to Llama-tuned"):
        stage_model(tuned, tmp_path / "out", namespace="acme", tag="v1.0.0", lineage=[])


def test_git_blob_ids_are_gits(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"hello\n")
    assert git_blob_id(tmp_path / "a") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_difference_names_what_to_add_change_and_delete(tmp_path: Path) -> None:
    for name in ("same", "changed", "new"):
        (tmp_path / name).write_text(name)
    there = Snapshot(
        "sha",
        {
            "same": ("sha256", sha256_file(tmp_path / "same")),
            "changed": ("git", "0" * 40),
            "stale": ("git", "0" * 40),
        },
    )
    changes = difference(tmp_path, there)
    assert (changes.added, changes.changed, changes.deleted) == (["new"], ["changed"], ["stale"])


@pytest.mark.parametrize("tag", ["1.0.0", "v1.0", "latest", "v01.0.0", "v1.0.0\n", ""])
def test_a_tag_must_be_a_semantic_version(run: Path, tag: str) -> None:
    with pytest.raises(ConfigError, match=r"expected vX\.Y\.Z"):
        publish(run, "acme", tag, endpoint="http://127.0.0.1:9")


@pytest.mark.parametrize("namespace", ["", "a/b", "..", "-a", "a--b"])
def test_a_namespace_must_be_a_hub_name(run: Path, namespace: str) -> None:
    with pytest.raises(ConfigError, match="is not a Hub user"):
        publish(run, namespace, "v1.0.0", endpoint="http://127.0.0.1:9")


def test_an_unreachable_hub_is_one_line_that_names_it(run: Path) -> None:
    with pytest.raises(HubError, match=r"the Hub at http://127\.0\.0\.1:9 cannot be reached") as caught:
        publish(run, "acme", "v1.0.0", endpoint="http://127.0.0.1:9")
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no built domain"):
        publish(tmp_path, "acme", "v1.0.0", endpoint="http://127.0.0.1:9")


# --- on a Hub -----------------------------------------------------------------------------------------------------


def test_publishing_twice_makes_one_commit_and_one_tag(run: Path, hub: EmbeddedHub) -> None:
    first = publish(run, "acme", "v0.1.0", endpoint=hub.url, only=("datasets",))
    assert [entry["repo"] for entry in first["repos"]] == [f"acme/{name}" for name in DATASETS]
    before = state(hub.url)
    shas = {entry["repo"]: entry["sha"] for entry in first["repos"]}
    assert {name: found["tags"] for name, found in before.items()} == {n: {"v0.1.0": s} for n, s in shas.items()}

    whole = publish(run, "acme", "v0.1.0", endpoint=hub.url)
    assert [entry["repo"] for entry in whole["repos"]] == [f"acme/{name}" for name in DATASETS + MODELS]
    assert [entry["new_commit"] for entry in whole["repos"]] == [False] * 4 + [True] * 2
    after = state(hub.url)
    assert {name: after[name] for name in before} == before

    again = publish(run, "acme", "v0.1.0", endpoint=hub.url)
    assert not any(entry["new_commit"] or entry["new_tag"] for entry in again["repos"])
    assert state(hub.url) == after


def test_what_is_at_the_tag_is_what_was_staged_and_names_its_origin(
    run: Path, hub: EmbeddedHub, tmp_path: Path
) -> None:
    from huggingface_hub import snapshot_download

    fixture.add_baseline(run, "ease-(shown)", "shop")
    result = publish(run, "acme", "v0.1.0", endpoint=hub.url)
    shas = {entry["repo"]: entry["sha"] for entry in result["repos"]}
    for entry in result["repos"]:
        folder = tmp_path / "down" / entry["repo"]
        snapshot_download(entry["repo"], repo_type=entry["kind"], revision="v0.1.0", endpoint=hub.url, local_dir=folder)
        provenance = read_json(folder / "provenance.json")
        assert {name: sha256_file(folder / name) for name in provenance["files"]} == provenance["files"]
        for step in provenance["made_from"]:
            assert shas[step["repo"]] == step["revision"]
            assert step["revision"] in (folder / "README.md").read_text()
    assert (tmp_path / "down/acme/mirror-bench/baselines/ease-(shown)/shop.predictions.parquet").is_file()
    steps = read_json(tmp_path / "down" / "acme" / "tiny-mirror-dpo" / "provenance.json")["made_from"]
    assert [step["repo"] for step in steps] == ["acme/mirror-preferences", "acme/tiny-mirror-sft", "acme/mirror-bench"]


def test_other_bytes_under_the_same_tag_change_nothing_anywhere(run: Path, hub: EmbeddedHub) -> None:
    publish(run, "acme", "v0.1.0", endpoint=hub.url, only=("datasets",))
    before = state(hub.url)
    path = run / "bench.json"
    write_json(path, {**read_json(path), "seed": 7})
    with pytest.raises(
        HubError, match=r"acme/mirror-bench already has v0\.1\.0 with other bytes \(README\.md"
    ) as caught:
        publish(run, "acme", "v0.1.0", endpoint=hub.url)
    assert "\n" not in str(caught.value) and state(hub.url) == before


def test_a_conflict_upstream_is_found_before_a_new_repo_is_made(run: Path, hub: EmbeddedHub) -> None:
    publish(run, "acme", "v0.1.0", endpoint=hub.url, only=("datasets",))
    before = state(hub.url)
    rows = read_rows(run / "shop" / "scenes" / "train.parquet")
    rows[0]["session_id"] = "another"
    write_rows(run / "shop" / "scenes" / "train.parquet", rows, SCENE)
    with pytest.raises(HubError, match="mirror-scenes already has"):
        publish(run, "acme", "v0.1.0", endpoint=hub.url)
    assert state(hub.url) == before


def test_a_new_version_is_one_commit_that_deletes_what_is_stale(run: Path, hub: EmbeddedHub) -> None:
    from huggingface_hub import HfApi

    publish(run, "acme", "v0.1.0", endpoint=hub.url, only=("datasets",))
    write_rows(run / "shop" / "preferences" / "validation.parquet", [], PAIR)
    publish(run, "acme", "v0.2.0", endpoint=hub.url, only=("datasets",))
    api = HfApi(endpoint=hub.url)
    files = {
        tag: set(api.list_repo_files("acme/mirror-preferences", repo_type="dataset", revision=tag))
        for tag in ("v0.1.0", "v0.2.0")
    }
    assert files["v0.1.0"] - files["v0.2.0"] == {"shop/validation.parquet", "mixed/validation.parquet"}
    found = state(hub.url)["acme/mirror-preferences"]
    first, second = found["tags"]["v0.1.0"], found["tags"]["v0.2.0"]
    assert found["commits"][:2] == [second, first]


def test_an_interrupted_publication_goes_on_where_it_stopped(
    run: Path, hub: EmbeddedHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit of the second repo is made, and its tag is not: the next call tags that very commit."""
    from huggingface_hub import HfApi

    create_tag = HfApi.create_tag

    def cut(self: HfApi, repo_id: str, **settings: Any) -> None:
        if repo_id == "acme/mirror-rationales":
            raise ConnectionError("cut")
        create_tag(self, repo_id, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(HfApi, "create_tag", cut)
        patch.setattr(release, "FIRST_WAIT", 0.01)
        with pytest.raises(HubError, match="cannot be reached"):
            publish(run, "acme", "v0.1.0", endpoint=hub.url)
    half = state(hub.url)
    assert set(half) == {"acme/mirror-scenes", "acme/mirror-rationales"} and not half["acme/mirror-rationales"]["tags"]
    publish(run, "acme", "v0.1.0", endpoint=hub.url)
    after = state(hub.url)
    assert after["acme/mirror-rationales"]["commits"] == half["acme/mirror-rationales"]["commits"]
    assert after["acme/mirror-scenes"] == half["acme/mirror-scenes"] and len(after) == 6


def test_a_lost_answer_does_not_make_a_second_commit(
    run: Path, hub: EmbeddedHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import HfApi

    create_commit = HfApi.create_commit

    def lose(self: HfApi, *args: Any, **settings: Any) -> None:
        create_commit(self, *args, **settings)
        raise ConnectionError("the answer was lost")

    with monkeypatch.context() as patch:
        patch.setattr(HfApi, "create_commit", lose)
        publish(run, "acme", "v0.1.0", endpoint=hub.url, only=("datasets",))
    before = state(hub.url)
    publish(run, "acme", "v0.1.0", endpoint=hub.url, only=("datasets",))
    assert state(hub.url) == before


def test_a_dry_run_writes_nothing(run: Path, hub: EmbeddedHub) -> None:
    plan = publish(run, "acme", "v0.1.0", endpoint=hub.url, dry_run=True)
    assert [entry["sha"] for entry in plan["repos"]] == [None] * 6 and state(hub.url) == {}
    assert "shop/train.parquet" in plan["repos"][0]["added"]
    publish(run, "acme", "v0.1.0", endpoint=hub.url)
    assert not any(e["new_commit"] for e in publish(run, "acme", "v0.1.0", endpoint=hub.url, dry_run=True)["repos"])


def test_pull_requests_are_made_once_and_tagged_after_their_merge(run: Path, hub: EmbeddedHub) -> None:
    from huggingface_hub import HfApi

    api, datasets = HfApi(endpoint=hub.url), [f"acme/{name}" for name in DATASETS]
    proposed = publish(run, "acme", "v0.1.0", endpoint=hub.url, only=("datasets",), create_pr=True)["repos"]
    assert all("/discussions/1" in entry["pull_request"] and not entry["new_tag"] for entry in proposed)
    again = publish(run, "acme", "v0.1.0", endpoint=hub.url, only=("datasets",), create_pr=True)["repos"]
    assert [entry["pull_request"] for entry in again] == [entry["pull_request"] for entry in proposed]
    for repo in datasets:
        assert not api.list_repo_refs(repo, repo_type="dataset").tags
        assert api.list_repo_files(repo, repo_type="dataset") == [".gitattributes"]
        api.merge_pull_request(repo, 1, repo_type="dataset")
    merged = publish(run, "acme", "v0.1.0", endpoint=hub.url, only=("datasets",))["repos"]
    assert all(entry["new_tag"] and entry["pull_request"] is None for entry in merged)
    assert not merged[0]["new_commit"]  # the scenes, whose card names no commit
    assert [len(list(api.get_repo_discussions(repo, repo_type="dataset"))) for repo in datasets] == [1] * 4


def test_an_open_pull_request_is_brought_up_to_date(run: Path, hub: EmbeddedHub) -> None:
    from huggingface_hub import HfApi

    api = HfApi(endpoint=hub.url)
    publish(run, "acme", "v0.1.0", endpoint=hub.url, only=("datasets",), create_pr=True)
    write_rows(run / "shop" / "preferences" / "validation.parquet", [], PAIR)
    publish(run, "acme", "v0.1.0", endpoint=hub.url, only=("datasets",), create_pr=True)
    (request,) = api.get_repo_discussions("acme/mirror-preferences", repo_type="dataset")
    files = api.list_repo_files("acme/mirror-preferences", repo_type="dataset", revision=f"refs/pr/{request.num}")
    assert "shop/train.parquet" in files and "shop/validation.parquet" not in files


def test_repos_are_private_and_gated_when_asked_and_stay_so(run: Path, hub: EmbeddedHub) -> None:
    from huggingface_hub import HfApi

    api = HfApi(endpoint=hub.url)
    publish(run, "acme", "v0.1.0", endpoint=hub.url, only=("datasets",))
    write_rows(run / "shop" / "preferences" / "validation.parquet", [], PAIR)
    publish(run, "acme", "v0.2.0", endpoint=hub.url, only=("datasets",), private=True, gated="manual")
    changed = api.dataset_info("acme/mirror-preferences")
    assert (changed.private, changed.gated) == (True, "manual")
    publish(run, "acme", "v0.2.0", endpoint=hub.url, only=("datasets",))
    assert api.dataset_info("acme/mirror-preferences").private
    publish(run, "open", "v0.1.0", endpoint=hub.url, only=("datasets",))
    publish(run, "open", "v0.1.0", endpoint=hub.url, only=("datasets",), private=True)  # where nothing else is to do
    assert api.dataset_info("open/mirror-scenes").private


def test_a_name_and_password_in_the_endpoint_are_never_shown(run: Path) -> None:
    with pytest.raises(HubError, match="cannot be reached") as caught:
        publish(run, "acme", "v0.1.0", endpoint="http://user:secret@127.0.0.1:9")
    assert "secret" not in str(caught.value) and "127.0.0.1:9" in str(caught.value)


def test_models_alone_need_their_datasets(run: Path, hub: EmbeddedHub) -> None:
    with pytest.raises(HubError, match="publish the datasets first"):
        publish(run, "acme", "v0.1.0", endpoint=hub.url, only=("models",))
    assert state(hub.url) == {}
    publish(run, "acme", "v0.1.0", endpoint=hub.url, only=("datasets",))
    result = publish(run, "acme", "v0.1.0", endpoint=hub.url, only=("models",))
    assert [entry["repo"] for entry in result["repos"]] == [f"acme/{name}" for name in MODELS]


LOADER = """
import json, re
from datasets import Features, load_dataset, get_dataset_config_names
from huggingface_hub import DatasetCard
from hf_mirror import schema
kinds = {
    "scenes": schema.SCENE, "rationales": schema.READ_RATIONALE, "preferences": schema.PAIR, "bench": schema.BENCH
}
out = {}
for kind, rows_schema in kinds.items():
    features = Features.from_arrow_schema(rows_schema)
    repo = f"acme/mirror-{kind}"
    for subset in get_dataset_config_names(repo, revision="v0.1.0"):
        rows = load_dataset(repo, subset, revision="v0.1.0")
        stream = load_dataset(repo, subset, revision="v0.1.0", streaming=True)
        same = all(next(iter(stream[split])) == rows[split][0] for split in rows)
        sizes = {split: len(part) for split, part in rows.items()}
        out[f"{kind}/{subset}"] = [sizes, all(part.features == features for part in rows.values()), same]
    shown = {}
    exec(re.search(r"```python\\n(.*?)```", DatasetCard.load(repo).text, re.DOTALL)[1], shown)  # the card's own lines
    assert next(iter(shown["stream"])) == next(iter(shown["rows"].values()))[0]
print(json.dumps(out))
"""


def test_plain_load_dataset_finds_every_subset_and_split(run: Path, hub: EmbeddedHub, tmp_path: Path) -> None:
    publish(run, "acme", "v0.1.0", endpoint=hub.url, only=("datasets",))
    environment = os.environ | {
        "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_UPDATE_DOWNLOAD_COUNTS": "0", "TZ": "Asia/Tokyo",
    }  # fmt: skip
    done = subprocess.run([sys.executable, "-c", LOADER], env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    three, two = {"train": 6, "validation": 2, "test": 2}, {"train": 24, "validation": 8}
    assert found == {
        "scenes/films": [three, False, True], "scenes/mixed": [three, True, True], "scenes/shop": [three, True, True],
        "rationales/films": [two, False, True], "rationales/mixed": [two, True, True],
        "rationales/shop": [two, True, True],
        "preferences/films": [{"train": 6, "validation": 2}, False, True],
        "preferences/mixed": [{"train": 6, "validation": 2}, True, True],
        "preferences/shop": [{"train": 6, "validation": 2}, True, True],
        "bench/films": [{"test": 10}, False, True], "bench/shop": [{"test": 10, "headline": 2}, True, True],
    }  # fmt: skip


# --- faults on the way --------------------------------------------------------------------------------------------


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain LFS, whose requests pass through the proxy one by one, and no long waits."""
    from huggingface_hub import constants
    from huggingface_hub.utils import _http

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(release, "FIRST_WAIT", 0.01)
    sleep = _http.time.sleep
    monkeypatch.setattr(_http.time, "sleep", lambda seconds: sleep(min(seconds, 0.01)))


def check_faults(seeds: range, tmp_path: Path, share: float = 0.15) -> None:
    """Published through a Hub that breaks a share of all requests: one commit a repo, its tag, the very bytes."""
    run = fixture.make_run(tmp_path / "run", models=False)
    injected: Counter[str] = Counter()
    with EmbeddedHub(tmp_path / "hub") as hub:
        publish(run, "calm", "v0.1.0", endpoint=hub.url)
        for seed in seeds:
            with faults.FaultyHub(hub.url, seed, share) as faulty:
                for _ in range(20):  # a publication that gave up is started again
                    try:
                        publish(run, f"n{seed}", "v0.1.0", endpoint=faulty.url)
                        break
                    except HubError as error:
                        assert "\n" not in str(error)
                injected += faulty.injected
            found, calm = state(hub.url, f"n{seed}"), state(hub.url, "calm")
            assert {name.partition("/")[2] for name in found} == {name.partition("/")[2] for name in calm}
            for name, repo in found.items():
                assert len(repo["commits"]) == 2, (seed, name)  # the repo's first, and one
                assert repo["tags"] == {"v0.1.0": repo["commits"][0]}
            assert publish(run, f"n{seed}", "v0.1.0", endpoint=hub.url)["repos"][0]["new_commit"] is False
        for folder in (tmp_path / "hub").glob("datasets/*/*.git"):
            subprocess.run(["git", "fsck", "--strict"], cwd=folder, check=True, capture_output=True)
    assert injected.total() > 3 * len(seeds) and (len(seeds) < 20 or set(injected) >= set(faults.FAULTS)), injected


def test_a_few_publications_through_faults(patient: None, tmp_path: Path) -> None:
    check_faults(range(3), tmp_path)


@pytest.mark.soak
def test_many_publications_through_faults(patient: None, tmp_path: Path) -> None:
    check_faults(range(100, 300), tmp_path)
