"""The board as a static page: a folder that works from a file, and as a Space of the Hub."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from hf_mirror import PROJECT
from hf_mirror.errors import HubError
from hf_mirror.files import replacing
from hf_mirror.publish.cards import render
from hf_mirror.publish.release import Remote, difference

SPACE = "mirror-leaderboard"
PAGE = PROJECT / "evals" / "leaderboard"
FILES = ("index.html", "board.css", "board.js", "panel.js", "drawing.js")


def write_site(board: dict[str, Any], out: Path) -> None:
    """Writes the page and its data: `board.json` for programs, `board-data.js` for the page, since a page that is
    opened from a file may read no other. Same board, same bytes; other files of `out` are left alone."""
    text = json.dumps(board, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    quoted = json.dumps(text).replace("<", "\\u003c")  # ASCII, so no line separator ends the text either
    written = {name: (PAGE / name).read_text(encoding="utf-8") for name in FILES}
    written |= {"board.json": text + "\n", "board-data.js": f"window.BOARD_JSON = {quoted};\n"}
    for name, content in written.items():
        with replacing(out / name) as temporary:
            temporary.write_text(content, encoding="utf-8", newline="\n")


def publish_space(
    board: dict[str, Any], namespace: str, *, tag: str | None = None, endpoint: str | None = None
) -> dict[str, Any]:
    """Brings `<namespace>/mirror-leaderboard` to this board: one commit, or none if it holds these bytes already.

    A `tag` marks the commit, and is never moved. Returns `{repo, sha, new_commit}`.
    """
    remote = Remote(endpoint or os.environ.get("HF_ENDPOINT"), f"{namespace}/{SPACE}", "space")
    with tempfile.TemporaryDirectory(prefix="mirror-leaderboard-") as work:
        folder = Path(work)
        write_site(board, folder)
        (folder / "README.md").write_text(_card(board, namespace), encoding="utf-8")
        tagged = remote.snapshot(tag) if tag else None
        if tagged and tagged.sha and difference(folder, tagged):
            raise HubError(f"{remote.repo} already has {tag} with another board; tags are never moved: take a new one")
        remote.create(False, None)
        head = remote.snapshot(None)
        changes = difference(folder, head)
        sha = head.sha
        if changes or sha is None:
            sha = remote.commit(folder, changes, sha, f"Leaderboard of {namespace}/mirror-bench")
        if tag and not (tagged and tagged.sha):
            remote.tag(tag, sha, f"{remote.repo} {tag}")
    return {"repo": remote.repo, "sha": sha, "new_commit": bool(changes)}


def _card(board: dict[str, Any], namespace: str) -> str:
    import yaml

    names = {entry["name"] for block in board["blocks"] for entry in block["entries"] if entry["kind"] == "model"}
    metadata = {
        "title": "Mirror leaderboard",
        "emoji": "🪞",
        "colorFrom": "blue",
        "colorTo": "gray",
        "sdk": "static",
        "app_file": "index.html",
        "pinned": False,
        "license": "apache-2.0",
        "tags": ["leaderboard", "hf-mirror", "recommendation", "user-simulation"],
        "datasets": [f"{namespace}/mirror-bench"],
        "models": sorted(names),
    }
    counts = {"results": sum(len(block["entries"]) for block in board["blocks"]), "rejected": board["n_rejected"]}
    header = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)
    return f"---\n{header}---\n\n" + render(
        "leaderboard.md.jinja",
        {"bench": f"{namespace}/mirror-bench", "space": f"{namespace}/{SPACE}", "models": sorted(names), **counts},
    )
