"""Work in several processes: the same answers however many there are, and every way to fail is one error, soon."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from hf_mirror import PROJECT, build, processes
from hf_mirror.domains import Domain
from hf_mirror.errors import ConfigError
from hf_mirror.processes import LEAST, spread

LONG = 60
MUCH = b"x" * 5_000_000  # more than a pipe holds
needs_fork = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="there is no fork here")


@contextmanager
def soon(seconds: float = 20) -> Iterator[None]:
    """Fails where a block takes long."""

    def give_up(*_: object) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def nobody_stays_behind() -> Iterator[None]:
    """Whatever happened, no child is left when `spread` returns or raises."""
    yield
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [None, 1, 2, 3, 7, 100])
@pytest.mark.parametrize("count", [0, 1, 2, 5, 17])
def test_the_results_are_the_same_however_many_processes_there_are(workers: int | None, count: int) -> None:
    done: list[int] = []
    with soon():
        found = spread(lambda index: (index, f"{index}²"), count, workers, done.append)
    assert found == [(index, f"{index}²") for index in range(count)]
    assert sum(done) == count


@needs_fork
@pytest.mark.parametrize(("workers", "count", "expected"), [(1, 5, 1), (2, 5, 2), (4, 9, 4), (9, 4, 4), (3, 0, 0)])
def test_there_are_as_many_processes_as_wanted_and_each_has_one_part(workers: int, count: int, expected: int) -> None:
    pids = spread(lambda index: os.getpid(), count, workers)
    assert len(set(pids)) == expected
    assert count == 0 or pids[0] == os.getpid()
    assert sum(one != other for one, other in itertools.pairwise(pids)) == max(expected - 1, 0)
    parts = [pids.count(pid) for pid in set(pids)]
    assert not parts or max(parts) - min(parts) <= 1


def test_little_work_is_not_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "cores", lambda: 3)
    for count, expected in ((1, 1), (2 * LEAST - 1, 1), (2 * LEAST, 2), (4 * LEAST, 3), (40 * LEAST, 3)):
        assert len(set(spread(lambda index: os.getpid(), count))) == expected
    monkeypatch.setattr(processes, "cores", lambda: 1)
    assert set(spread(lambda index: os.getpid(), 40 * LEAST)) == {os.getpid()}


@pytest.mark.parametrize("workers", [0, -1])
def test_no_workers_do_no_work(workers: int) -> None:
    with pytest.raises(ConfigError, match=f"workers is {workers}; expected 1 or more"):
        spread(lambda index: index, 5, workers)


def test_there_is_a_core() -> None:
    assert 1 <= processes.cores() <= (os.cpu_count() or 1)


def test_without_fork_everything_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    assert set(spread(lambda index: os.getpid(), 9, 4)) == {os.getpid()}


def test_results_may_be_larger_than_a_pipe_holds() -> None:
    with soon():
        assert spread(lambda index: MUCH, 4, 4) == [MUCH] * 4


@pytest.mark.parametrize(
    "error", [ValueError("a", 1), ConfigError("the template fails; mend it"), MemoryError()], ids=repr
)
@pytest.mark.parametrize("at", range(6))
def test_an_exception_of_any_part_reaches_the_parent(at: int, error: Exception) -> None:
    def work(index: int) -> int:
        if index == at:
            raise error
        return index

    with pytest.raises(type(error)) as caught, soon():
        spread(work, 6, 3)
    assert caught.value.args == error.args


def test_of_several_exceptions_the_first_is_raised() -> None:
    def work(index: int) -> int:
        if index >= 2:
            time.sleep(0.2 if index == 2 else 0)
            raise ValueError(index)
        return index

    with pytest.raises(ValueError, match="2"), soon():
        spread(work, 6, 3)


@needs_fork
@pytest.mark.parametrize("at", [0, 2])
def test_nobody_is_waited_for_after_an_exception(at: int) -> None:
    """Neither the children whose answers were to come, nor those before the one that failed; none stays behind."""

    def work(index: int) -> bytes:
        if index == at:
            raise ValueError("stop")
        if index > at:
            time.sleep(LONG)
        return MUCH

    start = time.monotonic()
    with pytest.raises(ValueError, match="stop"):
        spread(work, 6, 6)
    assert time.monotonic() - start < LONG / 4


@needs_fork
@pytest.mark.parametrize(
    "how", [lambda: os.kill(os.getpid(), signal.SIGKILL), lambda: os._exit(3)], ids=["killed", "gone"]
)
def test_a_child_that_is_killed_is_one_clear_error(how: Callable[[], None]) -> None:
    parent = os.getpid()

    def work(index: int) -> int:
        if os.getpid() != parent and index == 4:
            how()
        return index

    with pytest.raises(ChildProcessError, match=r"^a worker process ended with -?\d+; use fewer workers$"), soon():
        spread(work, 6, 3)


@needs_fork
def test_a_child_that_is_killed_in_the_middle_of_its_answer_is_one_clear_error() -> None:
    """The out-of-memory killer strikes when the answer is pickled and half of it is sent."""
    parent = os.getpid()

    def work(index: int) -> bytes:
        if os.getpid() == parent:
            time.sleep(1)  # by then the child has filled its pipe
            for child in multiprocessing.active_children():
                child.kill()
        return MUCH

    with pytest.raises(ChildProcessError, match="a worker process ended with -9"), soon():
        spread(work, 2, 2)


@needs_fork
def test_an_answer_that_cannot_be_sent_is_an_error_and_no_hang() -> None:
    with pytest.raises((AttributeError, TypeError), match="pickle"), soon():
        spread(lambda index: lambda: index, 4, 2)


# What a person sees who stops a build, or whose build is killed


SCRIPT = """
import os, sys, time
from hf_mirror.processes import spread
parent = os.getpid()
print("before", end=" ")

def work(index):
    with open("pids", "a") as file:
        file.write(f"{os.getpid()}\\n")
    try:
        while os.getpid() == parent or WAITS:
            time.sleep(0.05)
    finally:
        if os.getpid() == parent:
            time.sleep(0.5)  # time enough for children to say something
    return b"x" * 5_000_000

try:
    spread(work, 3, 3)
except KeyboardInterrupt:
    print("stopped")
"""


def gone(pid: int) -> bool:
    """Whether a process has ended: it is not there, or nobody has read its exit code yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def eventually(true: Callable[[], bool], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.05)
    return true()


@needs_fork
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc here")
@pytest.mark.parametrize(
    ("how", "waits"), [(signal.SIGINT, True), (signal.SIGINT, False), (signal.SIGKILL, False)],
    ids=["stopped while all work", "stopped while the children send", "killed while the children send"],
)  # fmt: skip
def test_no_child_outlives_its_parent(tmp_path: Path, how: signal.Signals, waits: bool) -> None:
    """Stopped by Ctrl-C, which goes to the children too, there is not a word from them. A killed parent cannot end its
    children: they end when they are done, and are not stuck with an answer that nobody takes."""
    running = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.replace("WAITS", str(waits))], cwd=tmp_path, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        pids = tmp_path / "pids"
        assert eventually(lambda: pids.exists() and pids.read_text().count("\n") == 3)
        time.sleep(0.5)
        children = [int(pid) for pid in pids.read_text().split() if int(pid) != running.pid]
        assert len(children) == 2 and not any(map(gone, children))
        if how == signal.SIGINT:
            os.killpg(running.pid, how)
        else:
            running.send_signal(how)
        out, err = running.communicate(timeout=20)
        assert eventually(lambda: all(map(gone, children)))
        assert err == ""
        assert out == ("before stopped\n" if how == signal.SIGINT else "before ")
    finally:
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)


# What it is for


def test_a_build_gives_the_same_bytes_for_any_number_of_workers(
    tmp_path: Path, raw: Path, movielens: Domain, contents: Callable[[Path], dict[str, str]]
) -> None:
    for workers in (1, 2, 5):
        settings = build.BuildSettings(scenes=60, regime="uniform")
        build.build(movielens, raw, tmp_path / str(workers), settings, workers=workers)
    one, two, five = (contents(tmp_path / str(workers)) for workers in (1, 2, 5))
    assert one == two == five
    assert any(name.endswith("train.parquet") for name in one)


def test_a_template_that_fails_in_a_child_is_the_same_error(tmp_path: Path, raw: Path, movielens: Domain) -> None:
    faulty = replace(movielens, template="{{ nobody.knows }}")
    messages = []
    for workers in (1, 3):
        with pytest.raises(ConfigError) as caught, soon(60):
            build.build(faulty, raw, tmp_path, build.BuildSettings(scenes=60, regime="uniform"), workers=workers)
        messages.append(str(caught.value))
    assert messages[0] == messages[1] and "nobody" in messages[0]
    assert not list(tmp_path.rglob("*.parquet"))
