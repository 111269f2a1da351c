"""The commands that READMEs show, run in order and as they stand but for sizes: fenced blocks marked `bash run`."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
READMES = sorted(
    path
    for path in [PROJECT / "README.md", *PROJECT.glob("docs/*.md"), *PROJECT.glob("recipes/*/README.md")]
    if "```bash run" in path.read_text(encoding="utf-8")
)
# What takes long at the size that a page shows, and proves as much at this one.
SMALLER = {"--scenes 200": "--scenes 60", "--num_train_epochs 1": "--max_steps 2"}


@pytest.mark.parametrize("readme", READMES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_blocks_run(readme: Path, tmp_path: Path) -> None:
    blocks = re.findall(r"```bash run\n(.*?)```", readme.read_text(encoding="utf-8"), flags=re.S)
    with socket.create_server(("127.0.0.1", 0)) as free:  # somebody may be using the port that the page names
        port = str(free.getsockname()[1])
    for entry in ("recipes", "evals", "dataset_builders", "pipelines", "hf_mirror", "model_cards"):
        (tmp_path / entry).symlink_to(PROJECT / entry)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "MIRROR_"))},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HF_HOME": str(tmp_path / "hf"),
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    }
    # A server that a block started in the background ends with the shell.
    script = "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n"
    script += "\n".join(blocks).replace("8907", port)
    for shown, smaller in SMALLER.items():
        assert shown in script, f"{readme} shows {shown} no more; mend SMALLER"
        script = script.replace(shown, smaller)
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def test_the_readme_shows_commands_that_run() -> None:
    assert PROJECT / "README.md" in READMES
