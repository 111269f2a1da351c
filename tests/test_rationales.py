"""Writing and reading: every sample has its own seed, killed runs go on, and nobody is told the truth."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_mirror import PROJECT, backends, rationales
from hf_mirror.backends import Engine, Generation, Option, Request, SceneView, SeenItem
from hf_mirror.distill import distill
from hf_mirror.errors import ConfigError, DataError, MirrorError
from hf_mirror.executors import Executor
from hf_mirror.files import read_json, read_rows, write_rows
from hf_mirror.prompts import ANSWER_PREFIX, LABELS, parse, rationale_messages
from hf_mirror.publish.staging import Run, stage_datasets
from hf_mirror.rationales import Meter, ReadSettings, WriteSettings, read_by, write_by
from hf_mirror.rationales.naming import MASK, mask, named
from hf_mirror.rationales.notes import alone
from hf_mirror.rationales.shards import Part
from hf_mirror.rendering import Renderer
from hf_mirror.schema import SCENE
from hf_mirror.showing import show

FOUR = WriteSettings(n=4)
TEACHER, READER = backends.load("template", "teacher"), backends.load("template", "reader")


class Listener:
    """A backend that says the same each time and keeps what it was asked."""

    model, structured = "listener", True

    def __init__(self, text: str = "Because.\nBehavior: [A]", probability: float | None = None) -> None:
        self.text, self.probability, self.revision = text, probability, repr(text)
        self.requests: list[Request] = []

    def generate(self, requests: Sequence[Request]) -> Iterator[Generation]:
        for request in requests:
            self.requests.append(request)
            for sample in range(request.n):
                yield Generation(request.id, sample, self.text, "stop")

    def choice_probs(self, requests: Sequence[Request], labels: Sequence[Sequence[str]]) -> Iterator[np.ndarray]:
        for request, names in zip(requests, labels, strict=True):
            self.requests.append(request)
            yield np.full(len(names), self.probability or 1 / len(names))


@pytest.fixture
def run_folder(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rationales.shards, "SHARD_SCENES", 16)


def bare(run_folder: Path) -> Path:
    shutil.rmtree(run_folder / "movielens" / "rationales")
    shutil.rmtree(run_folder / "movielens" / "readings")
    return run_folder


def written(folder: Path, role: str = "teacher", room: str = "rationales") -> list[dict[str, Any]]:
    return [row for path in sorted((folder / "movielens" / room / role).glob("*.parquet")) for row in read_rows(path)]


def test_every_scene_has_n_decisions_of_each_role(built: Path) -> None:
    scenes = {
        row["scene_id"]: row
        for split in ("train", "validation")
        for row in read_rows(built / "movielens" / "scenes" / f"{split}.parquet")
    }
    for role in ("teacher", "student"):
        rows = written(built, role)
        assert {(row["scene_id"], row["sample_index"]) for row in rows} == {(s, k) for s in scenes for k in range(4)}
        assert len(rows) == 4 * len(scenes)
        for row in rows:
            assert (row["role"], row["model"], row["split"]) == (role, role, scenes[row["scene_id"]]["split"])
            parsed = parse(row["text"], len(scenes[row["scene_id"]]["exposure"]))
            assert (row["thought"], row["stated_choice"]) == (parsed.thought, parsed.stated_choice)
            assert ANSWER_PREFIX not in row["thought"]


def test_every_parsed_decision_is_read_by_one_reader(built: Path) -> None:
    sizes = {
        row["scene_id"]: len(row["exposure"])
        for split in ("train", "validation")
        for row in read_rows(built / "movielens" / "scenes" / f"{split}.parquet")
    }
    for role in ("teacher", "student"):
        rows = written(built, role, "readings")
        assert [(row["scene_id"], row["sample_index"]) for row in rows] == [
            (row["scene_id"], row["sample_index"]) for row in written(built, role) if row["parse_error"] is None
        ]
        assert {(row["reader"], row["role"]) for row in rows} == {("reader", role)}
        for row in rows:
            assert len(row["choice_probs"]) == sizes[row["scene_id"]]
            assert sum(row["choice_probs"]) == pytest.approx(1, abs=1e-5)


def test_a_second_run_writes_nothing(run_folder: Path, contents: Callable[[Path], dict[str, str]]) -> None:
    before = contents(run_folder)
    stamps = {path: path.stat().st_mtime_ns for path in run_folder.rglob("*.parquet")}
    rationales.write(run_folder, "teacher", TEACHER, FOUR)
    rationales.read(run_folder, READER)
    assert contents(run_folder) == before
    assert {path: path.stat().st_mtime_ns for path in run_folder.rglob("*.parquet")} == stamps


def test_a_lost_shard_comes_back_with_the_same_bytes(
    run_folder: Path, small_shards: None, contents: Callable[[Path], dict[str, str]]
) -> None:
    bare(run_folder)
    for role in rationales.ROLES:
        rationales.write(run_folder, role, backends.load("template", role), WriteSettings(n=2))
    rationales.read(run_folder, READER)
    whole = contents(run_folder)
    shards = sorted((run_folder / "movielens").glob("r*/*/*.parquet"))
    assert len(shards) == 5 * (160 // 16 + 2)
    for path in (shards[0], shards[5], shards[-1]):
        path.unlink()
    assert contents(run_folder) != whole
    for role in rationales.ROLES:
        rationales.write(run_folder, role, backends.load("template", role), WriteSettings(n=2))
    rationales.read(run_folder, READER)
    assert contents(run_folder) == whole


@pytest.mark.parametrize("wait", [0.0, 0.08])
def test_a_killed_run_goes_on_to_the_same_bytes(
    run_folder: Path, small_shards: None, wait: float, contents: Callable[[Path], dict[str, str]]
) -> None:
    folder, settings = bare(run_folder), WriteSettings(n=40)
    code = (
        "import sys, pathlib\nfrom hf_mirror import backends, rationales\nrationales.shards.SHARD_SCENES = 16\n"
        "rationales.write(pathlib.Path(sys.argv[1]), 'teacher', backends.load('template', 'teacher'), "
        "rationales.WriteSettings(n=40))\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, folder], env={**os.environ, "PYTHONPATH": str(PROJECT)})
    out, deadline = folder / "movielens" / "rationales" / "teacher", time.monotonic() + 60
    while not list(out.glob("*.parquet")):
        assert time.monotonic() < deadline and writer.poll() is None
        time.sleep(0.002)
    time.sleep(wait)
    writer.send_signal(signal.SIGKILL)
    writer.wait(60)
    survived = contents(out)
    assert "settings.json" in survived
    rationales.write(folder, "teacher", TEACHER, settings)
    finished = contents(out)
    # What the killed run had finished is kept as it is.
    assert {name for name, data in survived.items() if ".part" not in name and finished[name] != data} == set()
    shutil.rmtree(out)
    rationales.write(folder, "teacher", TEACHER, settings)
    uninterrupted = contents(out)
    assert {name: data for name, data in finished.items() if ".part" not in name} == uninterrupted
    assert len(uninterrupted) == 13


def test_shards_of_other_settings_are_set_aside(run_folder: Path) -> None:
    teacher = run_folder / "movielens" / "rationales" / "teacher"
    old = written(run_folder)
    rationales.write(run_folder, "teacher", TEACHER, WriteSettings(n=2))
    assert len(written(run_folder)) * 2 == len(old)
    aside = [path for path in teacher.parent.iterdir() if path.name.startswith("teacher.")]
    assert len(aside) == 1
    kept = [row for path in sorted(aside[0].glob("*.parquet")) for row in read_rows(path)]
    assert kept == old
    assert read_json(teacher / "settings.json")["n"] == 2


def test_rationales_of_other_instructions_are_set_aside(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rationales.notes, "instruction_digest", lambda: "other words")
    rationales.write(run_folder, "teacher", TEACHER, FOUR)
    teacher = run_folder / "movielens" / "rationales" / "teacher"
    assert [path for path in teacher.parent.iterdir() if path.name.startswith("teacher.")]


def test_settings_may_go_back_and_forth(run_folder: Path) -> None:
    """n = 4, 2, 4, 2, 4: nothing mixed, nothing in the way."""
    for n in (2, 4, 2, 4):
        rationales.write(run_folder, "teacher", TEACHER, WriteSettings(n=n))
        assert {row["sample_index"] for row in written(run_folder)} == set(range(n))


def test_rationales_of_other_scenes_are_set_aside(run_folder: Path) -> None:
    path = run_folder / "movielens" / "scenes" / "train.parquet"
    scenes = read_rows(path)
    write_rows(path, scenes[1:], SCENE)
    rationales.write(run_folder, "teacher", TEACHER, FOUR)
    assert scenes[0]["scene_id"] not in {row["scene_id"] for row in written(run_folder)}


def test_seeds_belong_to_samples(run_folder: Path) -> None:
    """More decisions, or fewer scenes, leave the others as they are; another seed or role changes them."""
    four = {(row["scene_id"], row["sample_index"]): row["text"] for row in written(run_folder)}
    rationales.write(run_folder, "teacher", TEACHER, WriteSettings(n=6))
    six = {(row["scene_id"], row["sample_index"]): row["text"] for row in written(run_folder)}
    assert four.items() <= six.items()
    listeners = [Listener() for _ in range(3)]
    for listener, role, seed in zip(listeners, ("teacher", "teacher", "student"), (0, 1, 0), strict=True):
        rationales.write(run_folder, role, listener, WriteSettings(n=4, seed=seed))
    seeds = [[seed for request in listener.requests for seed in request.seeds] for listener in listeners]
    assert all(len(set(one)) == len(one) == 4 * 180 for one in seeds)
    assert not set(seeds[0]) & set(seeds[1]) and not set(seeds[0]) & set(seeds[2])


def test_the_truth_is_in_nothing_that_a_writer_or_reader_sees(run_folder: Path) -> None:
    asked = []
    for shift in (0, 1):
        for split in ("train", "validation"):
            path = run_folder / "movielens" / "scenes" / f"{split}.parquet"
            moved = [{**s, "choice_index": (s["choice_index"] + shift) % len(s["exposure"])} for s in read_rows(path)]
            write_rows(path, moved, SCENE)
        listener = Listener()
        for role in rationales.ROLES:
            rationales.write(bare(run_folder) if role == "teacher" else run_folder, role, listener, FOUR)
        rationales.read(run_folder, listener)
        asked.append(listener.requests)
    assert asked[0] == asked[1]
    assert len(asked[0]) == 180 * (2 + 2 * 4 + 1)


def test_the_reader_sees_the_thought_without_its_answer(run_folder: Path) -> None:
    listener = Listener()
    rationales.read(run_folder, listener)
    thoughts = [row["thought"] for role in ("teacher", "student") for row in written(run_folder, role)]
    asked, direct = listener.requests[: len(thoughts)], listener.requests[len(thoughts) :]
    assert [request.prefix for request in asked] == [f"{t}\n{ANSWER_PREFIX}" for t in thoughts]
    assert all(request.prefix.count(ANSWER_PREFIX) == 1 for request in asked)
    assert [request.prefix for request in direct] == [ANSWER_PREFIX] * 180
    assert not any("Stimulus:" in request.messages[0]["content"] for request in direct)
    sent = {request.messages[0]["content"] for request in asked}
    assert len(sent) == 180 and all("Stimulus:" in text for text in sent)


def test_what_can_be_read_besides_is_read_where_asked(run_folder: Path) -> None:
    plain = written(run_folder, room="readings")
    assert {(row["ifd"], row["masked_choice_probs"]) for row in plain} == {(None, None)}
    rationales.read(run_folder, READER, ReadSettings(ifd=True, masked=True))
    teacher, student = (written(run_folder, role, "readings") for role in rationales.ROLES)
    assert [row["choice_probs"] for row in teacher] == [row["choice_probs"] for row in plain]
    assert {row["ifd"] for row in student} == {None}
    assert all(0 < row["ifd"] < 3 for row in teacher) and len({row["ifd"] for row in teacher}) > 100
    assert all(sum(row["masked_choice_probs"]) == pytest.approx(1, abs=1e-5) for row in teacher + student)
    assert any(row["masked_choice_probs"] != row["choice_probs"] for row in teacher)


def test_the_masked_thought_is_read_without_scene_title_or_letter(run_folder: Path) -> None:
    listener = Listener()
    scenes = {r["scene_id"]: r for r in read_rows(run_folder / "movielens" / "scenes" / "train.parquet")}
    rationales.read(run_folder, listener, ReadSettings(masked=True))
    masked = [one for one in listener.requests if MASK in one.prefix]
    assert len(masked) == 2 * 4 * 180
    renderer = Renderer.of_run(run_folder / "movielens")
    for one in masked:
        scene = scenes.get(one.id.partition("/")[0])
        if scene is None:
            continue
        view = renderer.view(scene)
        titles = [item.attributes["title"] for item in (*view.options, *view.history)]
        assert not any(title in one.prefix for title in titles)
        text = one.messages[0]["content"]
        assert all(option.attributes["title"] in text for option in view.options)
        others = {seen.attributes["title"] for seen in view.history} - {o.attributes["title"] for o in view.options}
        assert not any(title in text for title in others)
    view = SceneView((SeenItem({"title": "Up"}, {}, True),), (Option({"title": "Up North"}, 1), Option({}, 2)))
    assert mask("[A] Up North, not up; option b, (B). I am Upset.", view) == (
        f"{MASK} {MASK}, not {MASK}; {MASK}, {MASK}. I am Upset."
    )


def test_every_sample_may_be_held_to_the_four_parts(run_folder: Path) -> None:
    listener = Listener("Stimulus: a\nKnowledge: b\nEvaluation: c\nBehavior: [B]")
    rationales.write(run_folder, "teacher", listener, WriteSettings(n=1, structured=True))
    by_id = {
        row["scene_id"]: len(row["exposure"])
        for split in ("train", "validation")
        for row in read_rows(run_folder / "movielens" / "scenes" / f"{split}.parquet")
    }
    for request in listener.requests:
        assert request.pattern is not None
        assert re.fullmatch(request.pattern, listener.text)
        beyond = listener.text.replace("[B]", f"[{LABELS[by_id[request.id]]}]")
        assert not re.fullmatch(request.pattern, beyond)


def test_an_endpoint_without_an_answer_is_a_parse_error_of_its_own(run_folder: Path) -> None:
    class Silent(Listener):
        def generate(self, requests: Sequence[Request]) -> Iterator[Generation]:
            for one in super().generate(requests):
                yield one if one.sample_index else Generation(one.id, 0, "", "failed")

    rationales.write(run_folder, "teacher", Silent(), FOUR)
    counts = rationales.count_written(run_folder, "teacher")["movielens"]
    assert counts["parse_errors"] == {"no_answer": 180}
    assert counts["decisions"] == 720


def test_the_meter_knows_what_work_was_and_what_it_cost(run_folder: Path, small_shards: None) -> None:
    shown: list[tuple[int, int]] = []
    bare(run_folder)
    meter = Meter(lambda scenes, tokens: shown.append((scenes, tokens)), price_per_million=(2.0, 4.0))
    rationales.write(run_folder, "teacher", TEACHER, FOUR, meter)
    found = meter.summary()
    assert sum(scenes for scenes, _ in shown) == found["scenes"] == 180
    assert sum(tokens for _, tokens in shown) == found["tokens"] > 4 * 180 * 20
    words = sum(
        len(rationale_messages(row["prompt"])[-1]["content"].split())
        for split in ("train", "validation")
        for row in read_rows(run_folder / "movielens" / "scenes" / f"{split}.parquet")
    )
    assert meter.prompt_tokens == words, "what samples share is read once"
    cost = (2 * meter.prompt_tokens + 4 * meter.tokens) / 1e6 / 0.18
    assert found["cost_per_1000_scenes"] == pytest.approx(cost, abs=1e-3)
    (run_folder / "movielens" / "rationales" / "teacher" / "train-00003.parquet").unlink()
    again = Meter(lambda scenes, tokens: shown.append((scenes, tokens)), price_per_hour=3600.0)
    rationales.write(run_folder, "teacher", TEACHER, FOUR, again)
    assert sum(scenes for scenes, _ in shown) == 360, "what was there is progress"
    assert again.summary()["scenes"] == 16, "and no work"
    assert again.summary()["cost_per_1000_scenes"] > 0


@pytest.mark.parametrize("executor", ["local:workers=2", "ray:mem_per_cpu_gb=0.5"])
def test_tasks_write_and_read_the_bytes_of_one_process(
    executor: str, run_folder: Path, small_shards: None, contents: Callable[[Path], dict[str, str]], tmp_path: Path
) -> None:
    """Ray on a real cluster of two nodes. Shards of other work are set aside once, before the tasks."""
    whole = contents(run_folder)
    shutil.copytree(run_folder, tmp_path / "other")
    folder, engine = tmp_path / "other", Engine("template", "teacher")
    with executor_of(executor) as where:
        for settings in (WriteSettings(n=2), FOUR):
            assert write_by(where, 3, tmp_path / "logs", folder, "teacher", engine, settings)
        aside = [path.name for path in (folder / "movielens" / "rationales").iterdir() if "set-aside" in path.name]
        assert len(aside) == 1, "what was set aside has come back"
        shutil.rmtree(folder / "movielens" / "readings")
        assert read_by(where, 2, tmp_path / "logs", folder, Engine("template", "reader"), ReadSettings())
        with pytest.raises(ConfigError, match="tasks is 0"):
            write_by(where, 0, tmp_path / "logs", folder, "teacher", engine, FOUR)
        with pytest.raises(MirrorError, match=r"the template backend has no model 'oracle'"):
            write_by(where, 2, tmp_path / "logs", folder, "teacher", Engine("template", "oracle"), FOUR)
    found = {name: sha for name, sha in contents(folder).items() if "set-aside" not in name}
    assert found == whole


@contextmanager
def executor_of(text: str) -> Iterator[Executor]:
    if not text.startswith("ray"):
        yield Executor.parse(text)
        return
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    try:
        ray.init(address=cluster.address, log_to_driver=False)
        yield Executor.parse(text)
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_what_was_set_aside_comes_back_when_it_is_wanted_again(
    run_folder: Path, contents: Callable[[Path], dict[str, str]]
) -> None:
    whole = contents(run_folder / "movielens" / "rationales" / "teacher")
    rationales.write(run_folder, "teacher", TEACHER, WriteSettings(n=2))
    meter = Meter()
    rationales.write(run_folder, "teacher", TEACHER, FOUR, meter)
    assert meter.scenes == 0
    assert contents(run_folder / "movielens" / "rationales" / "teacher") == whole
    rationales.write(run_folder, "teacher", TEACHER, WriteSettings(n=2), meter)
    assert meter.scenes == 0


def test_other_engines_and_unknown_shards_are_other_work(run_folder: Path) -> None:
    """Faulty variants: a model's name is enough; shards without a note are of whatever comes next."""
    out = run_folder / "movielens" / "rationales" / "teacher"
    before = {row["text"] for row in written(run_folder)}
    (out / "validation-00000.parquet").unlink()
    rationales.write(run_folder, "teacher", backends.load("echo", "teacher"), FOUR)
    assert not before & {row["text"] for row in written(run_folder)}
    (out / "settings.json").unlink()
    rationales.write(run_folder, "teacher", TEACHER, WriteSettings(n=2))
    assert {row["sample_index"] for row in written(run_folder)} == {0, 1}


def test_what_cannot_be_asked_for_sets_nothing_aside(
    run_folder: Path, contents: Callable[[Path], dict[str, str]], mirror: Callable[..., Any]
) -> None:
    whole = contents(run_folder)
    refused = mirror(
        "rationales", run_folder, "--role", "teacher", "--backend", "template", "--model", "teacher", "--structured"
    )
    assert (refused.code, refused.err.count("\n")) == (2, 1) and "no structured output" in refused.err
    with pytest.raises(ConfigError, match="temperature is inf"):
        WriteSettings(temperature=float("inf"))
    assert contents(run_folder) == whole
    (run_folder / "movielens" / "rationales" / "student" / "train-00000.parquet").unlink()
    before = contents(run_folder)
    with pytest.raises(DataError, match=r"train-00000\.parquet is missing"):
        rationales.read(run_folder, READER)
    assert contents(run_folder) == before


def test_a_command_does_not_do_what_another_is_doing(run_folder: Path) -> None:
    """Faulty variant: the same command twice pays every answer twice."""

    class Twice(Listener):
        def generate(self, requests: Sequence[Request]) -> Iterator[Generation]:
            with pytest.raises(DataError, match=r"the teacher is at work in .* already"):
                rationales.write(run_folder, "teacher", Listener(), FOUR)
            rationales.write(run_folder, "student", Listener(), FOUR)  # another role may be written at once
            yield from super().generate(requests)

    rationales.write(run_folder, "teacher", Twice(), FOUR)
    assert not list((run_folder / "movielens").glob(".*at-work"))


def test_work_that_others_began_meanwhile_is_not_mixed_with(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faulty variant: a task that was left behind puts its shard where another command writes now."""
    monkeypatch.setattr(rationales.writing, "alone", lambda *_: nullcontext())  # on machines that share no locks

    class Interrupted(Listener):
        def generate(self, requests: Sequence[Request]) -> Iterator[Generation]:
            yield from super().generate(requests)
            rationales.write(run_folder, "teacher", TEACHER, WriteSettings(n=3))

    with pytest.raises(DataError, match="other scenes or settings"):
        rationales.write(run_folder, "teacher", Interrupted(), FOUR)
    assert {row["model"] for row in written(run_folder)} == {"teacher"}


def test_distilling_refuses_what_was_made_of_something_else(run_folder: Path) -> None:
    rationales.write(run_folder, "teacher", TEACHER, WriteSettings(n=4, seed=7))
    with pytest.raises(DataError, match=r"readings/teacher is of other rationales .* run `mirror read` again"):
        distill(run_folder, size=50)
    rationales.read(run_folder, READER)
    distill(run_folder, size=50)
    other_words(run_folder)
    with pytest.raises(DataError, match="belongs to other scenes or instructions; run `mirror rationales"):
        distill(run_folder, size=50)


def test_rationales_of_other_words_are_not_read(run_folder: Path) -> None:
    """Faulty variant: ids agree, so a reader goes on with prompts that nobody wrote about."""
    before = contents_of(run_folder / "movielens" / "readings")
    other_words(run_folder)
    with pytest.raises(DataError, match=r"teacher belongs to other scenes or instructions; run `mirror rationales"):
        rationales.read(run_folder, READER)
    assert contents_of(run_folder / "movielens" / "readings") == before
    for role in ("teacher", "student"):
        rationales.write(run_folder, role, backends.load("template", role), FOUR)
    with pytest.raises(DataError, match=r"readings/teacher belongs to other scenes .* run `mirror read` again"):
        distill(run_folder, size=50)


def test_thoughts_that_change_under_a_reader_are_not_read(run_folder: Path, small_shards: None) -> None:
    """Faulty variant: a role is written anew while it is read, and its old note stands beside readings of new words."""

    class Changed(Listener):
        def choice_probs(self, requests: Sequence[Request], labels: Sequence[Sequence[str]]) -> Iterator[np.ndarray]:
            yield from super().choice_probs(requests, labels)
            rationales.write(run_folder, "teacher", backends.load("template", "student"), WriteSettings(n=4, seed=7))

    for role in rationales.ROLES:
        rationales.write(run_folder, role, backends.load("template", role), WriteSettings(n=4, seed=1))
    with pytest.raises(DataError, match=r"teacher/train-00001.parquet (was written anew|is missing)"):
        rationales.read(run_folder, Changed())


def test_a_role_that_is_written_is_not_set_aside_by_tasks(run_folder: Path, tmp_path: Path) -> None:
    before = contents_of(run_folder / "movielens" / "rationales")
    where = Executor.parse("local:workers=1")
    with (
        alone(run_folder, "teacher", Part()),
        pytest.raises(MirrorError, match=r"the teacher is at work in .* already"),
    ):
        write_by(where, 2, tmp_path / "logs", run_folder, "teacher", Engine("template", "teacher"), WriteSettings(n=2))
    assert contents_of(run_folder / "movielens" / "rationales") == before


def test_direct_readings_that_are_not_whole_are_not_distilled(run_folder: Path) -> None:
    (run_folder / "movielens" / "readings" / "direct" / "validation-00000.parquet").unlink()
    with pytest.raises(DataError, match=r"readings/direct lacks \d+ of 180 scenes; run `mirror read` to the end"):
        distill(run_folder, size=50)


def test_what_is_read_of_other_thoughts_is_neither_shown_nor_published(run_folder: Path, tmp_path: Path) -> None:
    """Faulty variant: readings, pairs and thoughts are joined by id and number, whoever wrote them."""
    distill(run_folder, size=50)
    run = Run.open(run_folder)
    assert show(run_folder, None, "train", 1, None, True)["scenes"][0]["decisions"]
    assert stage_datasets(run, tmp_path / "staged")
    rationales.write(run_folder, "teacher", backends.load("template", "student"), WriteSettings(n=4, seed=7))
    for use in (lambda: show(run_folder, None, "train", 1, None, True), lambda: stage_datasets(run, tmp_path / "no")):
        with pytest.raises(DataError, match=r"readings/teacher is of other rationales .* run `mirror read` again"):
            use()
    rationales.read(run_folder, READER)
    with pytest.raises(DataError, match=r"preferences is of other decisions; run `mirror distill` again"):
        stage_datasets(run, tmp_path / "no")
    distill(run_folder, size=50)
    assert stage_datasets(run, tmp_path / "again")


def other_words(run_folder: Path) -> None:
    path = run_folder / "movielens" / "scenes" / "train.parquet"
    rows = read_rows(path)
    rows[0]["prompt"][0]["content"] += "."
    write_rows(path, rows, SCENE)


def contents_of(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_role_without_any_reading_is_one_line(run_folder: Path) -> None:
    rationales.write(run_folder, "teacher", Listener("Hm."), FOUR)
    rationales.read(run_folder, READER)
    with pytest.raises(DataError, match="too_few_usable"):
        distill(run_folder, size=50)


def test_a_task_mixes_nothing(run_folder: Path) -> None:
    """Faulty variant: each task sets aside what others are writing."""
    with pytest.raises(DataError, match="made from other scenes or settings"):
        rationales.write(run_folder, "teacher", TEACHER, WriteSettings(n=2), part=Part(1, 2))
    assert [p.name for p in (run_folder / "movielens" / "rationales").iterdir() if "aside" in p.name] == []


def test_slurm_writes_by_the_script_that_is_submitted(
    run_folder: Path, slurm: Path, tmp_path: Path, contents: Callable[[Path], dict[str, str]]
) -> None:
    whole = contents(run_folder)
    shutil.rmtree(run_folder / "movielens" / "rationales" / "teacher")
    executor = Executor.parse("slurm:partition=gpu,time=04:00:00,gpus_per_task=1")
    assert not write_by(executor, 2, tmp_path / "logs", run_folder, "teacher", Engine("template", "teacher"), FOUR)
    text = slurm.read_text()
    for line in ("--array=0-1", "--gpus=1", "--partition=gpu", "--job-name=mirror-write", "--dependency=afterany:7"):
        assert line in text, line
    assert contents(run_folder) == whole


def test_what_does_not_parse_is_counted_and_not_read(run_folder: Path) -> None:
    rationales.write(run_folder, "teacher", Listener("I cannot say."), FOUR)
    counts = rationales.count_written(run_folder, "teacher")
    assert counts["movielens"]["parse_errors"] == {"no_answer_line": 720}
    assert counts["movielens"]["warning"].startswith("100 % of decisions do not parse, most for no_answer_line: write")
    assert "warning" not in rationales.count_written(run_folder, "student")["movielens"]
    assert counts["movielens"]["decisions"] == 720
    rationales.read(run_folder, READER)
    read = rationales.count_read(run_folder)["movielens"]
    assert (read["teacher"]["decisions"], read["teacher"]["read"]) == (720, 0)
    assert read["student"]["read"] == 720


def test_a_bare_choice_is_no_decision(run_folder: Path) -> None:
    rationales.write(run_folder, "teacher", Listener("\n Behavior: [A] The Best Film"), FOUR)
    assert rationales.count_written(run_folder, "teacher")["movielens"]["parse_errors"] == {"no_thought": 720}
    assert {row["stated_choice"] for row in written(run_folder)} == {None}


def test_echo_is_wrong_in_ways_that_are_counted(run_folder: Path) -> None:
    settings = WriteSettings(n=3, max_tokens=60)
    rationales.write(run_folder, "student", backends.load("echo", "echo"), settings)
    counted = rationales.count_written(run_folder, "student")["movielens"]
    rows = written(run_folder, "student")
    assert sum(counted["parse_errors"].values()) == sum(row["parse_error"] is not None for row in rows) > 0
    assert "cut_off" in counted["parse_errors"]
    assert counted["cut_off"] == sum(row["finish_reason"] == "length" for row in rows)


def test_over_length_readings_are_nothing_not_a_guess(run_folder: Path) -> None:
    rationales.read(run_folder, Listener(probability=float("nan")))
    counts = rationales.count_read(run_folder)["movielens"]
    assert counts["teacher"] == {"decisions": 720, "read": 0, "over_length": 720}
    assert counts["direct"] == {"decisions": 180, "read": 0, "over_length": 180}
    rationales.read(run_folder, Listener(probability=float("nan")), ReadSettings(masked=True))
    assert rationales.count_read(run_folder)["movielens"]["teacher"]["masked_over_length"] == 720
    assert {row["choice_probs"] for row in written(run_folder, room="readings")} == {None}


def test_naming_the_pick_is_noticed(run_folder: Path) -> None:
    scenes = {r["scene_id"]: r for r in read_rows(run_folder / "movielens" / "scenes" / "train.parquet")}
    rows = [row for row in written(run_folder) if row["scene_id"] in scenes]
    assert all(row["choice_named_in_thought"] for row in rows)  # the template always names its pick
    rationales.write(run_folder, "teacher", Listener(), FOUR)
    assert not any(row["choice_named_in_thought"] for row in written(run_folder))
    for thought in ("[A] it is.", "I take option a.", "(A), then."):
        rationales.write(run_folder, "teacher", Listener(f"{thought}\nBehavior: [A]"), FOUR)
        assert all(row["choice_named_in_thought"] for row in written(run_folder)), thought
    view = SceneView((), (Option({"title": "Up"}, 1), Option({"title": None}, 1)))
    known = {
        "I am Upset.": False, "Look up!": True, "B or [B].": False, "None.": False, "The film(a).": False,
        "It is a choice a friend makes.": False, "I take option a.": True, "My choice: option A": True,
        "Option A is near.": True,
    }  # fmt: skip
    assert {thought: named(thought, view, 0) for thought in known} == known
    nine = SceneView((), tuple(Option({"title": None}, 1) for _ in range(9)))
    assert not named("The option I like; the choice I made.", nine, 8) and named("I take option I.", nine, 8)
    assert named("B or [B].", view, 1) and not named("None.", view, 1)


def test_one_step_after_the_other(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="role 'critic'"):
        rationales.write(run_folder, "critic", TEACHER, FOUR)
    with pytest.raises(DataError, match="holds no domain"):
        rationales.write(tmp_path / "nowhere", "teacher", TEACHER, FOUR)
    shards = sorted((run_folder / "movielens" / "rationales" / "teacher").glob("*.parquet"))
    shards[0].unlink()
    with pytest.raises(DataError, match=r"train-00000\.parquet is missing"):
        rationales.read(run_folder, READER)
    with pytest.raises(DataError, match="mirror rationales"):
        rationales.read(bare(run_folder), READER)


@pytest.mark.parametrize("wrong", [{"n": 0}, {"n": -1}, {"temperature": -1.0}, {"top_p": 0.0}, {"max_tokens": 0}])
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        WriteSettings(**wrong)
