"""A board of what is on a Hub: which results count, and the Space that shows them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, SpaceCard

from hf_mirror.domains import import_file
from hf_mirror.errors import HubError
from hf_mirror.files import sha256_file, write_json, write_rows
from hf_mirror.hub import EmbeddedHub
from hf_mirror.leaderboard import Statuses, board, from_hub, publish_space
from hf_mirror.publish import publish
from hf_mirror.schema import BENCH, PREDICTION

RANKED = b"- dataset: {id: acme/mirror-bench, task_id: films}\n  value: 0.5\n"


class Lab:
    """A Hub with a benchmark of one subset, a baseline in it, and whoever uploads results."""

    def __init__(self, url: str, work: Path, made_up: ModuleType):
        self.url, self.work, self.made_up, self.api = url, work, made_up, HfApi(endpoint=url, token="hf_any")
        self.rows = made_up.rows(20, 10, "films", "popularity_matched")
        rest = {"groups": {}, "prompt": [], "choices": list("ABCDE")}
        write_rows(work / "test.parquet", [row | rest for row in self.rows], BENCH)
        self.predictions_sha256 = ""
        self.local = f"sha256:{sha256_file(work / 'test.parquet')}"
        ease, predictions = self.predicted(
            "ease (full past)", 0.9, bench_revision=self.local, baseline={"name": "ease"}
        )
        files = {
            "films/test.parquet": work / "test.parquet",
            "baselines/ease-(full-past)/films.json": ease,
            "baselines/ease-(full-past)/films.predictions.parquet": predictions,
        }
        self.bench = self.upload("acme/mirror-bench", files, kind="dataset")
        self.api.create_tag("acme/mirror-bench", tag="v1.0.0", revision=self.bench, repo_type="dataset")

    def result(self, model: str, taste: float = 0.9, **more: Any) -> dict[str, Any]:
        return self.made_up.result(model, self.rows, self.made_up.answers(self.rows, taste, 0.0, 4)) | more

    def predicted(self, model: str, taste: float, **more: Any) -> tuple[dict[str, Any], Path]:
        """Results, and the predictions that they are of."""
        probs = self.made_up.answers(self.rows, taste, 0.0, 4)
        path = self.work / f"{model.replace('/', '-')}.parquet"
        keys = [{name: row[name] for name in ("scene_id", "variant_id")} for row in self.rows]
        write_rows(path, [key | {"choice_probs": of} for key, of in zip(keys, probs, strict=True)], PREDICTION)
        return self.result(model, taste, predictions_sha256=sha256_file(path), **more), path

    def upload(self, repo: str, files: dict[str, Any], kind: str = "model") -> str:
        self.api.create_repo(repo, repo_type=kind, exist_ok=True)
        content = {
            name: value if isinstance(value, Path | bytes) else json.dumps(value).encode()
            for name, value in files.items()
        }
        operations = [CommitOperationAdd(name, value) for name, value in content.items()]
        return self.api.create_commit(repo, operations, commit_message="results", repo_type=kind).oid


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, made_up: ModuleType) -> Iterator[Lab]:
    top = tmp_path_factory.mktemp("lab")
    with EmbeddedHub(top / "hub") as hub:
        lab = Lab(hub.url, top, made_up)
        card = b"---\nbase_model: big-lab/base\ndatasets:\n- acme/mirror-preferences\n---\n# A model\n"
        own = lab.result("runs/first/models/tiny", 0.5, bench_revision=lab.local)
        lab.upload("acme/tiny", {"README.md": card, "evaluations/films.direct.json": own})
        strong, predictions = lab.predicted("other-lab/strong", 1.5, bench_revision=lab.bench)
        lab.predictions_sha256 = strong["predictions_sha256"]
        made_from = [{"what": "training pairs", "repo": "acme/mirror-preferences", "revision": "c" * 40}]
        lab.upload(
            "other-lab/strong",
            {
                "evaluations/films.direct.json": strong,
                "evaluations/films.direct.predictions.parquet": predictions,
                ".eval_results/mirror-bench.yaml": RANKED,
                "provenance.json": {"made_from": made_from},
            },
        )
        too_good = {"value": 2, "low": None, "high": None}
        bad = {
            "cut": json.dumps(strong).encode()[:500],
            "unknown-revision": lab.result("acme/unknown-revision", bench_revision="d" * 40),
            "own-rows": lab.result("acme/own-rows", bench_revision=f"sha256:{'e' * 64}"),
            "anothers": lab.result("other-lab/strong", bench_revision=lab.bench),
            "other-scenes": lab.result("acme/other-scenes", bench_revision=lab.bench) | {"n_scenes": 19},
            "other-subset": lab.result("acme/other-subset", bench_revision=lab.bench, subset="news"),
            "not-a-number": json.dumps(lab.result("acme/not-a-number", seconds=float("nan"))).encode(),
            "too-good": lab.result("acme/too-good") | {"scores": dict.fromkeys(("accuracy", "log_loss"), too_good)},
            "huge": b" " * 4_194_305,
        }
        for name, content in bad.items():
            lab.upload(f"acme/{name}", {"evaluations/films.direct.json": content})
        easier = lab.result("acme/easier", bench_revision=lab.bench)
        easier["baselines"]["chance"]["accuracy"]["value"] = 0.5
        lab.upload("acme/easier", {"evaluations/films.direct.json": easier})
        lab.upload("acme/secret", {"evaluations/films.direct.json": b"not for all"})
        lab.api.update_repo_settings("acme/secret", private=True)
        lab.upload("acme/no-results", {"README.md": b"# A model\n"})
        yield lab


def test_results_count_where_they_are_of_the_benchmarks_rows(lab: Lab) -> None:
    shown = board(from_hub("acme", lab.url))
    (block,) = shown["blocks"]
    assert (block["subset"], block["bench"], block["rows"], block["versions"]) == (
        "films", "acme/mirror-bench", lab.local, ["v1.0.0"],
    )  # fmt: skip
    names = [entry["name"] for entry in block["entries"]]
    assert set(names) == {"other-lab/strong", "acme/tiny", "ease (full past)", "chance", "popularity", "position-only"}
    entries = {entry["name"]: entry for entry in block["entries"]}
    assert {name for name, entry in entries.items() if entry["paired"]} == {"other-lab/strong", "ease (full past)"}
    assert names[0] == "other-lab/strong" and entries["other-lab/strong"]["rank"] == [1, 1]
    assert entries["ease (full past)"]["rank"][0] == 2
    losses = [entry["scores"]["log_loss"]["value"] for entry in block["entries"]]
    assert losses == sorted(losses)
    assert {entry["status"] for entry in block["entries"] if entry["kind"] == "model"} == {"self-reported"}


def test_what_is_rejected_has_its_reason(lab: Lab) -> None:
    reasons = {line["where"].split("/")[1]: line["reason"] for line in from_hub("acme", lab.url).rejected}
    assert reasons == {
        "cut": "not JSON, or cut in half",
        "unknown-revision": f"bench_revision {'d' * 40} is not in acme/mirror-bench",
        "own-rows": f"bench_revision sha256:{'e' * 64} is neither a commit nor rows of acme/mirror-bench",
        "anothers": "is of model other-lab/strong, not of this repo's",
        "other-scenes": "n_scenes is 19, the benchmark's baselines have 20",
        "other-subset": "is of subset news in mode direct",
        "not-a-number": "seconds is not a finite number",
        "too-good": "scores.accuracy is 2, not a share",
        "huge": "4,194,305 bytes, more than 4,194,304",
        "easier": "its chance accuracy is not that of the benchmark's rows: other scenes were scored",
    }


def test_rows_lead_back_to_model_benchmark_and_data(lab: Lab) -> None:
    entries = {entry["name"]: entry for entry in board(from_hub("acme", lab.url))["blocks"][0]["entries"]}
    lines = {line["what"]: line for line in entries["other-lab/strong"]["origin"]}
    assert lines["benchmark"]["href"] == f"{lab.url}/datasets/acme/mirror-bench/tree/{lab.bench}"
    assert lines["training pairs"]["text"] == "acme/mirror-preferences@cccccccccccc"
    assert lines["results"]["href"].startswith(f"{lab.url}/other-lab/strong/blob/")
    by_card = {line["what"]: line["text"] for line in entries["acme/tiny"]["origin"]}
    assert by_card["base model, by its card"] == "big-lab/base"
    assert by_card["training data, by its card"] == "acme/mirror-preferences"


def test_predictions_that_are_none_are_counted_and_not_compared(lab: Lab, tmp_path: Path) -> None:
    gathered = from_hub("acme", lab.url)
    strong = next(place for place, entry in enumerate(gathered.entries) if entry.name == "other-lab/strong")
    (tmp_path / "other.parquet").write_bytes(b"PAR1 no more")
    entry = replace(gathered.entries[strong], predictions=tmp_path / "other.parquet")
    gathered.entries[strong] = entry
    shown = board(gathered)
    assert [line["reason"] for line in shown["rejected"] if "predictions" in line["where"]] == [
        "predictions are not the file that the results were made of: its SHA-256 is another; intervals are compared "
        "instead"
    ]
    assert not any(entry.get("paired") for entry in shown["blocks"][0]["entries"])


def test_a_new_card_is_no_new_benchmark(lab: Lab) -> None:
    lab.upload("acme/mirror-bench", {"README.md": b"# Better words\n"}, kind="dataset")
    (block,) = board(from_hub("acme", lab.url))["blocks"]
    assert {"other-lab/strong", "acme/tiny"} <= {entry["name"] for entry in block["entries"]}


def test_the_command_publishes_a_static_space_once(
    lab: Lab, tmp_path: Path, mirror_process: Callable[..., Any]
) -> None:
    write_json(
        tmp_path / "verified" / "strong.json",
        [{"model": "other-lab/strong", "subset": "films", "mode": "direct", "status": "verified",
          "predictions_sha256": lab.predictions_sha256, "commit": lab.api.model_info("other-lab/strong").sha}],
    )  # fmt: skip
    arguments = ("leaderboard", "--namespace", "acme", "--publish", "--tag", "v1.0.0", "--out", tmp_path / "site",
                 "--verifications", tmp_path / "verified", "--json")  # fmt: skip
    home = {"HF_ENDPOINT": lab.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "hf_any"}
    ran = mirror_process(*arguments, **home)
    assert ran.code == 0, ran.err
    done = json.loads(ran.out)
    assert done["space"]["new_commit"] and len(done["rejected"]) == 10
    again = board(from_hub("acme", lab.url, Statuses.read(tmp_path / "verified")))
    unchanged = publish_space(again, "acme", tag="v1.0.0", endpoint=lab.url)
    assert unchanged == {"repo": "acme/mirror-leaderboard", "sha": done["space"]["sha"], "new_commit": False}

    info = lab.api.space_info("acme/mirror-leaderboard", revision="v1.0.0")
    assert info.sdk == "static" and info.sha == done["space"]["sha"]
    page = (tmp_path / "site" / "board.json").read_bytes()
    assert (
        Path(lab.api.hf_hub_download("acme/mirror-leaderboard", "board.json", repo_type="space")).read_bytes() == page
    )
    strong = json.loads(page)["blocks"][0]["entries"][0]
    assert strong["status"] == "verified"
    card = SpaceCard(
        Path(lab.api.hf_hub_download("acme/mirror-leaderboard", "README.md", repo_type="space")).read_text()
    )
    assert card.data.sdk == "static" and card.data.models == ["acme/tiny", "other-lab/strong"]
    assert "mirror leaderboard --namespace acme --publish" in card.text


def test_what_a_run_publishes_is_shown(tmp_path: Path) -> None:
    run = import_file(Path(__file__).parents[1] / "run_folder.py").make_run(tmp_path / "run")
    with EmbeddedHub(tmp_path / "hub") as hub:
        publish(run, "acme", "v1.0.0", endpoint=hub.url)
        shown = board(from_hub("acme", hub.url))
    assert shown["rejected"] == []
    models = {
        entry["name"]: {line["what"]: line["text"] for line in entry["origin"]}
        for block in shown["blocks"]
        for entry in block["entries"]
        if entry["kind"] == "model"
    }
    assert set(models) == {"acme/tiny-mirror-dpo", "acme/tiny-mirror-sft"}
    assert models["acme/tiny-mirror-dpo"]["base model"].startswith("acme/tiny-mirror-sft@")
    assert all(block["versions"] == ["v1.0.0"] for block in shown["blocks"])


def test_a_tag_is_never_moved(lab: Lab) -> None:
    shown = board(from_hub("acme", lab.url))
    publish_space(shown, "acme", tag="v2.0.0", endpoint=lab.url)
    with pytest.raises(HubError, match=r"already has v2\.0\.0 with another board"):
        publish_space(shown | {"rejected": []}, "acme", tag="v2.0.0", endpoint=lab.url)


def test_one_line_where_there_is_no_benchmark(lab: Lab) -> None:
    with pytest.raises(HubError, match="dataset nobody/mirror-bench is not on http"):
        from_hub("nobody", lab.url)
    lab.api.create_repo("shy/mirror-bench", repo_type="dataset", private=True)
    with pytest.raises(HubError, match="shy/mirror-bench is private"):
        from_hub("shy", lab.url)
    with pytest.raises(HubError, match=r"the Hub at http://127\.0\.0\.1:9 cannot be reached"):
        from_hub("acme", "http://127.0.0.1:9")
