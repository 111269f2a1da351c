"""What a result was made from, as lines that a person reads, with links to the Hub where it is the Hub's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hf_mirror.result_schema import Result

REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")
MOST = 20  # datasets that a model names

Origin = list[dict[str, str]]  # {what, text, href?}


def origin_of(result: Result, endpoint: str) -> Origin:
    """Model, benchmark and the settings of the run, as a results file states them."""
    lines = [
        _named("model", result["model"], result.get("model_revision"), endpoint, ""),
        _named("benchmark", result.get("bench", "").partition("@")[0], result["bench_revision"], endpoint, "datasets/"),
    ]
    versions = [f"{name} {version}" for name, version in result.get("versions", {}).items()]
    hardware = result.get("hardware", {})
    settings = {
        "backend": " ".join(str(result[name]) for name in ("backend", "dtype") if name in result),
        "hardware": ", ".join(
            [hardware[name] if name == "device" else f"{hardware[name]} cores" for name in ("device", "cores")
             if name in hardware]
        ),
        "took": f"{result['seconds']:,.0f} s" if "seconds" in result else "",
        "bootstrap seed": f"{result['seed']}" if "seed" in result else "",
        "code": f"hf_mirror {result['code_version']}" if "code_version" in result else "",
        "versions": ", ".join(versions),
        "predictions": result.get("predictions_sha256", ""),
    }  # fmt: skip
    return [line for line in lines if line["text"]] + [
        {"what": what, "text": text} for what, text in settings.items() if text
    ]


def repo_lines(
    repo: str, commit: str, name: str, endpoint: str, provenance: Any, card: Mapping[str, Any] | None
) -> Origin:
    """The repo and file that a result was read from, and what the model was trained on: as provenance.json says, or
    else the card."""
    href = f"{endpoint}/{repo}/blob/{commit}/{name}"
    lines = [{"what": "results", "text": f"{repo}@{commit[:12]} {name}", "href": href}]
    steps = provenance.get("made_from") if isinstance(provenance, dict) else None
    if isinstance(steps, list):
        wanted = [step for step in steps[:MOST] if isinstance(step, dict) and step.get("what") != "benchmark"]
        parts = [tuple(step.get(key) for key in ("what", "repo", "revision")) for step in wanted]
        return lines + [
            _named(what[:80], of, revision, endpoint, "" if what == "base model" else "datasets/")
            for what, of, revision in parts
            if isinstance(what, str) and isinstance(of, str) and REPO.fullmatch(of)
        ]
    for key, what, kind in (("base_model", "base model", ""), ("datasets", "training data", "datasets/")):
        named = (card or {}).get(key)
        names = [named] if isinstance(named, str) else named if isinstance(named, list) else []
        lines += [
            _named(f"{what}, by its card", of, None, endpoint, kind)
            for of in names[:MOST]
            if isinstance(of, str) and REPO.fullmatch(of)
        ]
    return lines


def _named(what: str, repo: str, revision: Any, endpoint: str, kind: str) -> dict[str, str]:
    """A line with a link, where the repo could be the Hub's."""
    revision = revision if isinstance(revision, str) else ""
    short = revision[:12] if COMMIT.fullmatch(revision) else revision[:19]  # of sha256:… as many digits
    line = {"what": what, "text": f"{repo}@{short}" if short else repo}
    if REPO.fullmatch(repo):
        line["href"] = f"{endpoint}/{kind}{repo}" + (f"/tree/{revision}" if COMMIT.fullmatch(revision) else "")
    return line
