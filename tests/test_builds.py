"""Builds by executors: in shards, by category, on Slurm and Ray, and after failures, with the bytes of one build."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_mirror import PROJECT, builds, domains, rationales
from hf_mirror.build import build, one_build
from hf_mirror.build_settings import BuildSettings
from hf_mirror.builds import Job, build_all, by_category
from hf_mirror.errors import ConfigError, DataError, MirrorError
from hf_mirror.executors import Executor, Stage, execute
from hf_mirror.files import ROW_GROUP, read_json

Contents = Callable[[Path], dict[str, str]]
SETTINGS = BuildSettings(scenes=120)
BUILDERS = {
    "movielens": {"seed": 5, "users": 90, "films": 60, "ratings_per_user": 15},
    "mind": {"seed": 5, "users": 90, "news": 120},
    "amazon_reviews": {"seed": 5, "users": 90, "items": 60},
}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A raw folder of made-up feedback for each domain; of reviews, two categories."""
    folder = tmp_path_factory.mktemp("raw")
    for builder, sizes in BUILDERS.items():
        generate = domains.import_file(PROJECT / "dataset_builders" / "sample" / f"{builder}.py").generate
        generate(folder / builder, **sizes)
    generate(folder / "more", **{**BUILDERS["amazon_reviews"], "seed": 6})
    for path in (folder / "more").glob("*.jsonl"):
        prefix = "meta_" if path.name.startswith("meta_") else ""
        shutil.copy(path, folder / "amazon_reviews" / f"{prefix}Second_Category.jsonl")
    return {builder: folder / builder for builder in BUILDERS}


@pytest.fixture(scope="module")
def alone(raw: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, contents: Contents) -> dict[str, str]:
    """What every file holds when each domain is built in this process."""
    out = tmp_path_factory.mktemp("alone")
    for builder in BUILDERS:
        build(domains.load(builder), raw[builder], out, SETTINGS)
    return contents(out)


def jobs(raw: dict[str, Path], out: Path) -> list[Job]:
    return [Job(builder, raw[builder], out, SETTINGS, builder) for builder in BUILDERS]


def built(contents: Contents, out: Path) -> dict[str, str]:
    """What every file of the domains holds; nothing else but logs may lie beside them."""
    assert {path.name for path in out.iterdir()} <= {*BUILDERS, "logs"}
    return {name: value for name, value in contents(out).items() if not name.startswith("logs")}


def in_shards(work: list[Job], shards: int) -> None:
    """Every task, one after another, in this process."""
    for task in range(len(work) * shards):
        builds._build_task(tuple(work), shards, 1, task)
    for task in range(len(work)):
        builds._join_task(tuple(work), shards, task)


@pytest.mark.parametrize(
    ("shards", "executor"), [pytest.param(1, "local:workers=1", marks=pytest.mark.soak), (3, "local:workers=2")]
)
def test_executors_give_the_bytes_of_one_build(
    shards: int, executor: str, raw: dict[str, Path], alone: dict[str, str], tmp_path: Path, contents: Contents
) -> None:
    reports = build_all(jobs(raw, tmp_path), shards, Executor.parse(executor), tmp_path / "logs")
    assert built(contents, tmp_path) == alone
    assert reports == {name: read_json(tmp_path / name / "report.json") for name in BUILDERS}


def test_a_shard_may_have_no_scene_of_a_split(raw: dict[str, Path], tmp_path: Path, contents: Contents) -> None:
    settings = BuildSettings(scenes=10)
    build(domains.load("movielens"), raw["movielens"], tmp_path / "one", settings)
    in_shards([Job("movielens", raw["movielens"], tmp_path / "many", settings, "movielens")], 4)
    assert contents(tmp_path / "many") == contents(tmp_path / "one")


def test_shards_of_many_scenes_end_in_the_same_pages(tmp_path: Path, contents: Contents) -> None:
    """Faulty variant: parts written one after another as they came, each with pages of its own."""
    settings = BuildSettings(scenes=16_000, train_options=(2, 2), history=(1, 1))
    domains.import_file(PROJECT / "dataset_builders" / "sample" / "movielens.py").generate(
        tmp_path / "raw", seed=5, users=1500, films=80, ratings_per_user=24
    )
    report = build(domains.load("movielens"), tmp_path / "raw", tmp_path / "one", settings)
    assert report["scenes"]["train"]["kept"] > ROW_GROUP
    in_shards([Job("movielens", tmp_path / "raw", tmp_path / "many", settings, "movielens")], 2)
    assert contents(tmp_path / "many") == contents(tmp_path / "one")
    parts = pq.ParquetFile(tmp_path / "one" / "movielens" / "scenes" / "train.parquet")
    faulty = [parts.read_row_group(0)[:700], parts.read_row_group(0)[700:], parts.read_row_group(1)]
    pq.write_table(pa.concat_tables(faulty), tmp_path / "faulty", compression="zstd", row_group_size=ROW_GROUP)
    assert (tmp_path / "faulty").read_bytes() != (
        tmp_path / "one" / "movielens" / "scenes" / "train.parquet"
    ).read_bytes()


def test_what_was_done_is_not_done_again(
    raw: dict[str, Path], tmp_path: Path, contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that broke off leaves nothing that is taken for a shard, and its like do not count for other scenes."""
    work, made = (jobs(raw, tmp_path)[0],), []
    whole = builds.build_shard

    def counted(*arguments: Any, **more: Any) -> list[Path]:
        made.append(arguments[4].k)
        written = whole(*arguments, **more)
        if len(made) == 2:
            raise OSError("no space left")
        return written

    monkeypatch.setattr(builds, "build_shard", counted)
    builds._build_task(work, 3, 1, 0)
    with pytest.raises(OSError, match="no space left"):
        builds._build_task(work, 3, 1, 1)
    with pytest.raises(DataError, match=r"00001 is not there or not whole; run the same command again"):
        builds._join_task(work, 3, 0)
    assert not (tmp_path / "movielens").exists()
    in_shards(list(work), 3)
    assert made == [0, 1, 1, 2]
    build(domains.load("movielens"), raw["movielens"], tmp_path / "one", SETTINGS)
    assert contents(tmp_path / "movielens") == contents(tmp_path / "one" / "movielens")
    folders = {
        builds._shard_folders(other, shards)[0].parent
        for other, shards in (
            (work[0], 3), (work[0], 4), (replace(work[0], settings=BuildSettings(scenes=121)), 3)
        )
    }  # fmt: skip
    assert len(folders) == 3


@pytest.mark.parametrize("moment", range(1, 12))
def test_a_join_that_breaks_off_is_done_again(
    moment: int, raw: dict[str, Path], alone: dict[str, str], tmp_path: Path, contents: Contents,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """At any file: an earlier build's report never stands beside other scenes, and the next attempt mends all."""
    work, steps = (jobs(raw, tmp_path)[0],), []
    build(domains.load("movielens"), raw["movielens"], tmp_path, replace(SETTINGS, seed=1))
    earlier = contents(tmp_path)
    for task in range(3):
        builds._build_task(work, 3, 1, task)

    def breaking(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **more: Any) -> Any:
            steps.append(call)
            if len(steps) == moment:
                raise OSError("killed")
            return call(*arguments, **more)

        return counted

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", breaking(Path.replace))
        patch.setattr(builds, "discard", breaking(builds.discard))
        with pytest.raises(OSError, match="killed"):
            builds._join_task(work, 3, 0)
    now = {name: value for name, value in contents(tmp_path).items() if not name.startswith(".unfinished")}
    assert now == earlier or "movielens/report.json" not in now or contents_of(alone, "movielens") == now
    builds._join_task(work, 3, 0)
    assert built(contents, tmp_path) == contents_of(alone, "movielens")


def test_what_a_shard_was_made_of_names_it(raw: dict[str, Path], tmp_path: Path) -> None:
    """Its builder's code and the source's terms, too: they stand in the report, or decide what does."""
    for file in (PROJECT / "dataset_builders" / "movielens.py", PROJECT / "dataset_builders" / "movielens.jinja"):
        shutil.copy(file, tmp_path / file.name)
    shutil.copytree(raw["movielens"], tmp_path / "raw")
    job = Job(str(tmp_path / "movielens.py"), tmp_path / "raw", tmp_path / "out", SETTINGS, "movielens")
    folders = [builds._shard_folders(job, 2)[0]]
    for file in ("movielens.py", "movielens.jinja"):
        with (tmp_path / file).open("a") as opened:
            opened.write("\n")
        folders.append(builds._shard_folders(job, 2)[0])
    terms = (tmp_path / "raw" / "README").read_text()
    (tmp_path / "raw" / "README").write_text("Nothing is said here.")
    assert terms
    folders.append(builds._shard_folders(job, 2)[0])
    assert len(set(folders)) == 4


def test_two_may_run_the_same_command_at_once(
    raw: dict[str, Path], alone: dict[str, str], tmp_path: Path, contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, whole = (jobs(raw, tmp_path)[0],), builds.build_shard

    def beside(*arguments: Any, **more: Any) -> list[Path]:
        """While a shard is made here, another process makes it, too."""
        monkeypatch.setattr(builds, "build_shard", whole)
        builds._build_task(work, 2, 1, 0)
        return whole(*arguments, **more)

    monkeypatch.setattr(builds, "build_shard", beside)
    in_shards(list(work), 2)
    assert built(contents, tmp_path) == contents_of(alone, "movielens")


def test_half_a_shard_is_none(
    raw: dict[str, Path], alone: dict[str, str], tmp_path: Path, contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faulty variant: a folder that is there is taken for whole, whatever a stopped deletion has left in it."""
    work, whole = (jobs(raw, tmp_path)[0],), builds.build_shard
    for task in range(2):
        builds._build_task(work, 2, 1, task)
    for lost in ("tables/events.parquet", "scenes/train.parquet", "contents.json"):
        (builds._shard_folders(work[0], 2)[0] / lost).unlink()
        with pytest.raises(DataError, match="00000 is not there or not whole"):
            builds._join_task(work, 2, 0)
        builds._build_task(work, 2, 1, 0)

    def robbed(*arguments: Any, **more: Any) -> list[Path]:
        """Another command has ended meanwhile, and cleared up."""
        written = whole(*arguments, **more)
        shutil.rmtree(tmp_path / ".unfinished")
        arguments[2].mkdir(parents=True)
        return written

    monkeypatch.setattr(builds, "build_shard", robbed)
    shutil.rmtree(builds._shard_folders(work[0], 2)[1])
    with pytest.raises(DataError, match="was taken away while it was written"):
        builds._build_task(work, 2, 1, 1)
    monkeypatch.undo()
    in_shards(list(work), 2)
    assert built(contents, tmp_path) == contents_of(alone, "movielens")


def test_a_domain_is_built_by_one_at_a_time(raw: dict[str, Path], tmp_path: Path) -> None:
    job = jobs(raw, tmp_path)[0]
    with one_build(tmp_path / "movielens"):
        for start in (
            lambda: build(domains.load("movielens"), raw["movielens"], tmp_path, SETTINGS),
            lambda: build_all([job], 2, Executor(), tmp_path / "logs"),
        ):
            with pytest.raises(DataError, match=r"another build of .*movielens is running"):
                start()
    assert list(tmp_path.iterdir()) == []


def test_workers_end_with_who_started_them(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\nfrom functools import partial\nfrom pathlib import Path\n"
        "from hf_mirror.processes import each_alone\nimport waits\n"
        "if __name__ == '__main__': each_alone(partial(waits.waits, Path(sys.argv[1])), 2, 2)\n"
    )
    (tmp_path / "waits.py").write_text(
        "import os, time\ndef waits(folder, task):\n"
        "    (folder / f'{task}.pid').write_text(str(os.getpid()))\n    time.sleep(600)\n"
    )
    (tmp_path / "main.py").write_text(code)
    main = subprocess.Popen([sys.executable, tmp_path / "main.py", tmp_path], env={**os.environ, "PYTHONPATH": PROJECT})
    deadline = time.monotonic() + 60
    while len(pids := [int(p.read_text() or 0) for p in tmp_path.glob("*.pid")]) < 2 or 0 in pids:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    main.kill()
    main.wait()
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and Path("/proc").exists():
        assert time.monotonic() < deadline, "a worker goes on without its parent"
        time.sleep(0.05)


def test_what_a_killed_build_leaves_is_no_domain(raw: dict[str, Path], tmp_path: Path, mirror: Any) -> None:
    build(domains.load("movielens"), raw["movielens"], tmp_path, SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["movielens"]
    builds._build_task((jobs(raw, tmp_path)[0],), 2, 1, 0)
    shutil.copytree(tmp_path / "movielens", tmp_path / ".unfinished" / "movielens" / "tmp")
    assert list(rationales.domain_folders(tmp_path)) == [tmp_path / "movielens"]
    shutil.rmtree(tmp_path / "movielens")
    refused = mirror("audit", tmp_path)
    assert refused.code == 1 and "holds no" in refused.err
    build(domains.load("movielens"), raw["movielens"], tmp_path, SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["movielens"], "the next build clears up"


def contents_of(alone: dict[str, str], domain: str) -> dict[str, str]:
    return {name: value for name, value in alone.items() if name.startswith(domain)}


def test_each_category_is_built_as_if_it_were_alone(raw: dict[str, Path], tmp_path: Path, contents: Contents) -> None:
    parts = by_category(replace(jobs(raw, tmp_path / "apart")[2], settings=SETTINGS))
    names = ["Second_Category/amazon_reviews", "Toy_Corner/amazon_reviews"]
    assert sorted(part.name for part in parts) == names
    reports = build_all(parts, 2, Executor.parse("local:workers=2"), tmp_path / "apart" / "logs")
    assert sorted(reports) == names
    for part in parts:
        name = part.out.name
        folder = tmp_path / "raw" / name
        folder.mkdir(parents=True)
        for file in ("README", f"{name}.jsonl", f"meta_{name}.jsonl"):
            shutil.copy(raw["amazon_reviews"] / file, folder / file)
        build(domains.load("amazon_reviews"), folder, tmp_path / "copied" / name, SETTINGS)
        assert contents(part.out) == contents(tmp_path / "copied" / name)
        assert len(read_json(part.out / "amazon_reviews" / "report.json")["source"]["files"]) == 2
    with pytest.raises(ConfigError, match="movielens has no categories"):
        by_category(jobs(raw, tmp_path)[0])
    (raw["amazon_reviews"] / "notes.txt").write_text("")
    with pytest.raises(DataError, match=r"notes\.txt is no Amazon Reviews"):
        domains.load("amazon_reviews").detect(raw["amazon_reviews"] / "notes.txt")


def test_slurm_runs_the_script_that_is_written(
    raw: dict[str, Path], alone: dict[str, str], tmp_path: Path, contents: Contents, slurm: Path
) -> None:
    out = tmp_path / "out"
    executor = Executor.parse("slurm:partition=cpu,time=04:00:00,mem_per_cpu_gb=8,sbatch_args.account=lab")
    assert build_all(jobs(raw, out)[:1], 2, executor, out / "logs") == {}
    text = slurm.read_text()
    for line in ("--array=0-1", "--partition=cpu", "--time=04:00:00", "--mem-per-cpu=8G", "--account=lab",
                 "--job-name=mirror-build", "--job-name=mirror-join", "--dependency=afterany:7"):  # fmt: skip
        assert line in text, line
    assert f"source {Path(sys.prefix) / 'bin' / 'activate'}" in text
    assert built(contents, out) == contents_of(alone, "movielens")
    build_all(jobs(raw, out)[:1], 2, executor, out / "logs")
    assert len(list((out / "logs").iterdir())) == 2, "what runs already keeps its own script"
    assert built(contents, out) == contents_of(alone, "movielens")
    with pytest.raises(ConfigError, match="has a space in it"):
        build_all(jobs(raw, out)[:1], 2, executor, tmp_path / "the logs")
    for words, error in (("exit 3", "sbatch refused with exit code 3"), ("exit 0", "sbatch said nothing")):
        (slurm.parent / "sbatch").write_text(f"#!/bin/bash\n{words}\n")
        with pytest.raises(MirrorError, match=error):
            build_all(jobs(raw, out)[:1], 2, executor, out / "logs")


def test_without_slurm_one_line_says_so(raw: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="no sbatch on this machine"):
        build_all(jobs(raw, tmp_path)[:1], 1, Executor.parse("slurm:partition=cpu,time=1:00"), tmp_path / "logs")


def test_ray_gives_the_bytes_of_one_build(
    raw: dict[str, Path], alone: dict[str, str], tmp_path: Path, contents: Contents
) -> None:
    """On a cluster of two nodes."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    try:
        ray.init(address=cluster.address, log_to_driver=False)
        build_all(jobs(raw, tmp_path)[:1], 3, Executor.parse("ray:mem_per_cpu_gb=0.5"), tmp_path / "logs")
        with pytest.raises(MirrorError, match="1 of 2 tasks of break failed: task 1 of this test"):
            execute([Stage("break", 2, fails)], Executor.parse("ray:mem_per_cpu_gb=0.5"), tmp_path / "logs")
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert built(contents, tmp_path) == contents_of(alone, "movielens")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cloud", "executor 'cloud' is not known; choose one of local, slurm, ray"),
        ("local:worker=2", "did you mean workers?"),
        ("local:workers", "expected OPTION=VALUE"),
        ("local:workers=two", "found workers=two, expected a number above 0"),
        ("local:workers=0", "found workers=0, expected a number above 0"),
        ("ray:mem_per_cpu_gb=-1", "found mem_per_cpu_gb=-1, expected a number above 0"),
        ("slurm:sbatch_args=x", "expected sbatch_args.KEY=VALUE"),
        ("slurm:sbatch_args.=x", "expected sbatch_args.KEY=VALUE"),
        ("slurm:partition.x=y", "expected partition=VALUE"),
        ("slurm:partition=cpu", "executor slurm needs time; give --executor slurm:time=…"),
        ("slurm:requeue_signals=x", "found 'requeue_signals=x'"),
        ("local:tasks=3", "found 'tasks=3'"),
        ("", "executor '' is not known"),
    ],
)
def test_odd_executors_are_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match="executor") as error:
        Executor.parse(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_options_have_the_types_that_datatrove_wants() -> None:
    parsed = Executor.parse("slurm:partition=7,time=1:00,cpus_per_task=4,sbatch_args.gres=gpu:1,sbatch_args.x=1")
    assert parsed == Executor("slurm", {"partition": "7", "time": "1:00", "cpus_per_task": 4,
                                        "sbatch_args": {"gres": "gpu:1", "x": "1"}})  # fmt: skip


@pytest.mark.parametrize("executor", ["local:workers=1", "local:workers=2"])
def test_a_task_that_fails_is_an_error_once_all_were_tried(executor: str, tmp_path: Path) -> None:
    with pytest.raises(
        MirrorError, match=r"2 of 4 tasks of break failed: task 1 .*; task 2: a worker process ended with -9"
    ):
        execute([Stage("break", 4, partial(fails_or_leaves, tmp_path))], Executor.parse(executor), tmp_path / "logs")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "3"]


def fails(task: int) -> None:
    """What a task does that finds bad input."""
    if task == 1:
        raise DataError("task 1 of this test")


def fails_or_leaves(folder: Path, task: int) -> None:
    """Finds bad input, is killed, or leaves a file."""
    fails(task)
    if task == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / str(task)).touch()


@pytest.mark.parametrize("lost", ["Second_Category.jsonl", "meta_Second_Category.jsonl"])
def test_a_category_that_fails_stops_no_other(raw: dict[str, Path], tmp_path: Path, lost: str) -> None:
    """Damaged, or with half of its files away."""
    shutil.copytree(raw["amazon_reviews"], tmp_path / "raw")
    (tmp_path / "raw" / lost).write_text("{}\n")
    if lost.startswith("meta"):
        (tmp_path / "raw" / lost).unlink()
    job = replace(jobs(raw, tmp_path / "out")[2], raw=tmp_path / "raw")
    with pytest.raises(MirrorError, match=r"^2 of 4 tasks of build failed: Second_Category/amazon_reviews: "):
        build_all(by_category(job), 2, Executor.parse("local:workers=2"), tmp_path / "logs")
    assert [path.parent.parent.name for path in (tmp_path / "out").glob("*/*/report.json")] == ["Toy_Corner"]


def test_links_to_raw_files_are_read_where_they_lie(raw: dict[str, Path], tmp_path: Path) -> None:
    """Faulty variant: a link is followed first, and what lies beside its target is read."""
    (tmp_path / "raw").mkdir()
    (tmp_path / "store").mkdir()
    for number, file in enumerate(sorted(raw["amazon_reviews"].iterdir())):
        shutil.copy(file, tmp_path / "store" / str(number))
        (tmp_path / "raw" / file.name).symlink_to(tmp_path / "store" / str(number))
    job = replace(jobs(raw, tmp_path / "out")[2], raw=tmp_path / "raw")
    reports = build_all(by_category(job), 1, Executor.parse("local:workers=2"), tmp_path / "logs")
    assert {file["name"] for file in reports["Toy_Corner/amazon_reviews"]["source"]["files"]} == {
        "Toy_Corner.jsonl", "meta_Toy_Corner.jsonl"
    }  # fmt: skip


def test_the_command_line_builds_each_category_in_shards(mirror: Callable[..., Any], tmp_path: Path) -> None:
    generate = domains.import_file(PROJECT / "dataset_builders" / "sample" / "amazon_reviews.py").generate
    generate(tmp_path / "raw", **BUILDERS["amazon_reviews"])
    out = tmp_path / "out"
    arguments = ("build", "amazon_reviews", "--raw", str(tmp_path / "raw"), "--scenes", "60", "--json")
    whole = mirror(*arguments, "--out", str(tmp_path / "whole"))
    apart = mirror(*arguments, "--out", str(out), "--each-category", "--shards", "2", "--executor", "local:workers=1")
    assert (whole.code, apart.code) == (0, 0)
    found = json.loads(apart.out)
    assert list(json.loads(whole.out).values()) == list(found.values())
    assert list(found) == ["Toy_Corner/amazon_reviews"]
    refused = mirror(*arguments, "--out", str(out), "--executor", "cloud")
    assert refused.code == 2
    assert refused.err == "error: executor 'cloud' is not known; choose one of local, slurm, ray\n"
    refused = mirror(*arguments, "--out", str(out), "--executor", "local", "--shards", "0")
    assert (refused.code, refused.err) == (2, "error: shards is 0; expected 1 or more\n")
    refused = mirror(*arguments, "--out", str(out), "--shards", "2", "--workers", "0")
    assert (refused.code, refused.err) == (2, "error: workers is 0; expected 1 or more\n")
    copied = tmp_path / "other.py"
    shutil.copy(PROJECT / "dataset_builders" / "amazon_reviews.py", copied)
    shutil.copy(PROJECT / "dataset_builders" / "amazon_reviews.jinja", tmp_path / "other.jinja")
    both = ("--raw", f"amazon_reviews={tmp_path / 'raw'}", f"other={tmp_path / 'raw'}", "--out", str(out))
    refused = mirror("build", "amazon_reviews", str(copied), *both)
    assert (refused.code, "two builders are named amazon_reviews" in refused.err) == (2, True)
    twice = mirror("build", "mind", "mind", "--raw", "mind=x", "--out", str(out))
    assert (twice.code, twice.err) == (2, "error: builder mind is given 2 times; give it once\n")
