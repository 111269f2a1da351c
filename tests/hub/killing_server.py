"""A Hub that is killed at a chosen point: `python killing_server.py ROOT FUNCTION NUMBER before|after`.

It ends as by SIGKILL, before or after the given call of a function of `hf_mirror.hub.disk`, once a file `armed` lies
beside ROOT.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from hf_mirror.hub import disk, serve

root, function, number, when = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
real, calls = getattr(disk, function), 0


def cut(*arguments: Any) -> Any:
    global calls
    armed = (root.parent / "armed").exists()
    calls += armed
    if when == "after":
        real(*arguments)
    if armed and calls == number:
        os.kill(os.getpid(), signal.SIGKILL)
    if when == "before":
        real(*arguments)


setattr(disk, function, cut)
serve(root, until_stdin_closes=True)
