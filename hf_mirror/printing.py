"""What a command's result looks like to the person who ran it; `--json` prints the result itself."""

from __future__ import annotations

from typing import Any

Result = dict[str, Any]


def build(reports: Result) -> str:
    """What became of the rows, per domain."""
    lines = []
    for name, report in reports.items():
        tables, splits, scenes = report["tables"], report["splits"], report["scenes"]
        lines.append(f"{name} ({report['source']['release']}): {tables['read']} rows read, {tables['kept']} kept")
        for split, part in scenes.items():
            lines.append(f"  {split}: {part['kept']} scenes of {splits['users'][split]} users, {part['regime']}")
        if splits["underpowered"]:
            lines.append(f"  underpowered: {splits['users']['test']} test users; results from fewer than 200 are shaky")
    return "\n".join(lines)


def counts(result: Result, depth: int = 0) -> str:
    """Nested facts, one line each."""
    lines = []
    for key, value in result.items():
        if isinstance(value, dict) and value:
            lines.append(f"{'  ' * depth}{key}:")
            lines.append(counts(value, depth + 1))
        else:
            lines.append(f"{'  ' * depth}{key}: {value}")
    return "\n".join(lines)


def publication(result: Result) -> str:
    """What is where now, a line per repo."""
    lines = [f"{'would publish' if result['dry_run'] else 'published'} {result['tag']} at {result['endpoint']}"]
    for repo in result["repos"]:
        changes = ", ".join(f"{len(repo[kind])} {kind}" for kind in ("added", "changed", "deleted") if repo[kind])
        lines.append(f"  {repo['kind']} {repo['repo']} {repo['sha'] or ''}: {changes or 'unchanged'}")
    return "\n".join(lines + [f"  withheld {name}: {reason}" for name, reason in result["withheld"].items()])


def board(result: Result) -> str:
    """Results as one table."""
    from hf_mirror.leaderboard import table

    return table(result["results"])


def run(summary: Result) -> str:
    """The table of a run, and its last words."""
    from hf_mirror.pipeline.next_steps import closing

    return f"{board(summary)}\n\n{closing(summary)}"
