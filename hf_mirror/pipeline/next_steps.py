"""The last words of a run: where everything is, what it proves, and what to try next."""

from __future__ import annotations

from typing import Any


def closing(summary: dict[str, Any]) -> str:
    """Plain text from a run's summary (run.json and its results)."""
    namespace, tag, out = summary["namespace"], summary["tag"], summary["out"]
    embedded = summary["hub"] != summary["endpoint"]
    lines = [f"Everything is in {out}."]
    if embedded:
        port = summary["endpoint"].rsplit(":", 1)[-1]
        lines += [
            f"Its Hub is in {summary['hub']}; it ran at {summary['endpoint']} and has stopped.",
            "Start it again, in a shell with the environment active (`source .venv/bin/activate`):",
            f"  mirror hub serve --root {summary['hub']} --port {port}",
            "and use it from another terminal, as you would use huggingface.co:",
            f"  HF_ENDPOINT={summary['endpoint']} python -c "
            f"'from datasets import load_dataset; "
            f'print(load_dataset("{namespace}/mirror-preferences", "mixed", revision="{tag}"))\'',
        ]
    if summary["made_up"]:
        lines += [
            "",
            "The people, items and decisions of this run are made up, and its student is tiny and from scratch:",
            "it proves that every stage works, not that rationales help.",
        ]
    lines += [
        "",
        "Next: your own feedback    mirror run PIPELINE.yaml --raw NAME=DIR, with a file like those in pipelines/",
        "      one stage at a time  mirror build --help",
        "      a new domain         CONTRIBUTING.md",
    ]
    return "\n".join(lines)
