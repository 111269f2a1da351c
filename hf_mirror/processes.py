"""Work in several processes of this machine.

`spread` does many small things: the same results in the same order, however many processes there are. They are forked,
so that they have what was prepared before and nothing is sent to them. They must run plain Python only: threads of
compiled libraries do not survive a fork. `each_alone` does few large things, each in a fresh process.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from itertools import pairwise
from multiprocessing import connection
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any, TypeVar, cast

from hf_mirror.errors import ConfigError, cause

T = TypeVar("T")
Child = tuple[multiprocessing.process.BaseProcess, Connection]

LEAST = 500  # a process is worth its start from about this many


def cores() -> int:
    """How many processes this one may keep busy."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spread(
    work: Callable[[int], T], count: int, workers: int | None = None, progress: Callable[[int], None] = lambda n: None
) -> list[T]:
    """`[work(0), …, work(count - 1)]`, in `workers` processes (default: one a core, fewer where there is little to do).

    An exception of any part is raised here, and then nobody is waited for. Systems without fork do all of it in this
    process.
    """
    if workers is not None and workers < 1:
        raise ConfigError(f"workers is {workers}; expected 1 or more")
    parts = min(workers or min(cores(), 1 + count // (2 * LEAST)), max(count, 1))
    if "fork" not in multiprocessing.get_all_start_methods():
        parts = 1
    bounds = [count * part // parts for part in range(parts + 1)]
    children: list[Child] = []
    results: list[T] = []
    try:
        children += (_start(work, range(*pair)) for pair in pairwise(bounds[1:]))
        for index in range(bounds[1]):
            results.append(work(index))
            progress(1)
        for more in _received(children):
            results += more
            progress(len(more))
    finally:
        for child, _ in children:
            child.kill()  # where all went well, it has ended
            child.join()
    return results


def _start(work: Callable[[int], T], part: range) -> Child:
    ours, theirs = multiprocessing.Pipe(duplex=False)

    def run() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of us, and the parent answers for all
        ours.close()  # so that nobody writes for ever to a parent that was killed
        try:
            theirs.send([work(index) for index in part])
        except BrokenPipeError:
            pass
        except Exception as error:  # whatever it is, the parent raises it
            theirs.send(error)

    child = multiprocessing.get_context("fork").Process(target=run, daemon=True)
    child.start()
    theirs.close()
    return child, ours


def _received(children: list[Child]) -> Iterator[list[Any]]:
    for child, ours in children:
        part = _answer(child, ours)
        if isinstance(part, Exception):
            raise part
        yield part


def each_alone(work: Callable[[int], None], count: int, workers: int) -> dict[int, str]:
    """Runs `work(0)` … `work(count - 1)`, each in a process of its own, `workers` at once. Returns the causes of
    failures by number; one does not stop the others. `work` is a function of a module, or a partial of one."""
    waiting = list(range(count))
    running: dict[Connection, tuple[int, multiprocessing.process.BaseProcess]] = {}
    causes: dict[int, str] = {}
    context = multiprocessing.get_context("spawn")
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                ours, theirs = context.Pipe(duplex=False)
                started = context.Process(target=_alone, args=(work, waiting[0], theirs))
                # Ctrl-C is answered here: a child would say its own word while it is still importing.
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
                started.start()
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
                theirs.close()
                running[ours] = waiting.pop(0), started
            for ready in connection.wait(list(running)):
                ours = cast(Connection, ready)
                task, child = running.pop(ours)
                answer = _answer(child, ours)
                ours.close()
                if answer is not None:
                    causes[task] = answer if isinstance(answer, str) else f"task {task}: {answer}"
    finally:
        for _, child in running.values():
            child.kill()
            child.join()
    return dict(sorted(causes.items()))


def _alone(work: Callable[[int], None], task: int, theirs: Connection) -> None:
    Thread(target=_end_with_parent, daemon=True).start()
    found = None
    try:
        work(task)
    except Exception as error:
        found = cause(error)
    with contextlib.suppress(BrokenPipeError):
        theirs.send(found)


def _end_with_parent() -> None:
    """Nobody waits for a child whose parent is gone, and another attempt may begin."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _answer(child: multiprocessing.process.BaseProcess, ours: Connection) -> Any:
    """What a child has sent, or an error if it ended before its answer or in the middle of it."""
    try:
        answer = ours.recv()
    except (EOFError, OSError):
        child.join()
        return ChildProcessError(f"a worker process ended with {child.exitcode}; use fewer workers")
    child.join()
    return answer
