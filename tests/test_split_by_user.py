"""A build whose users are split by lot goes the whole way: page, card, benchmark and baselines say and obey it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataset_builders.sample import movielens as sample
from hf_mirror import baselines as room
from hf_mirror import domains
from hf_mirror.baselines.feedback import Log, first_cut
from hf_mirror.bench import bench
from hf_mirror.build import build
from hf_mirror.build_settings import BuildSettings
from hf_mirror.files import read_rows
from hf_mirror.publish.cards import dataset_card
from hf_mirror.publish.staging import Run, stage_datasets
from hf_mirror.splits import NEVER


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("by_user")
    sample.generate(top / "raw", users=60, films=50, ratings_per_user=20)
    settings = BuildSettings(
        400, "popularity", history=(4, 4), train_options=(4, 4), evaluation_options=(4, 4), split_by="user",
        also_test=("uniform",),
    )  # fmt: skip
    build(domains.load("movielens"), top / "raw", top / "run", settings, workers=1)
    bench(top / "run")
    return top / "run"


def test_page_and_card_say_that_no_time_parts_train_from_test(run: Path, tmp_path: Path) -> None:
    assert "without a cut in time" in (run / "movielens" / "report.html").read_text()
    [scenes] = [repo for repo in stage_datasets(Run.open(run), tmp_path) if repo.kind == "scenes"]
    card = dataset_card(scenes, Run.open(run), namespace="acme", tag="v1.2.3", lineage=[], reports={})
    assert "**Split by lot**: disjoint users, but no cut in time" in card and "Cuts at" not in card


def test_baselines_learn_of_train_users_at_any_time_and_of_no_other(run: Path) -> None:
    folder = run / "movielens"
    assert first_cut(folder) == NEVER
    log = Log.of(folder)
    learned_of = log.train_users(NEVER)
    shown = {
        split: {log.users[row["user_id"]] for row in read_rows(folder / "scenes" / f"{split}.parquet", ["user_id"])}
        for split in ("train", "validation", "test")
    }
    assert shown["train"] <= learned_of and not learned_of & (shown["validation"] | shown["test"])
    results = room.baselines(run)
    assert {result["subset"] for result in results} == {"movielens", "movielens-uniform"}
    assert all(result["coverage"] == 1 for result in results)
