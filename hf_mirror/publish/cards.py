"""Cards of dataset, benchmark and model repos: Jinja templates in model_cards/, filled only from reports.

A fact that a report lacks is a DataError that names it, never a blank. The YAML header is made with huggingface_hub's
own card data and read back by its card class; the Hub's validate-yaml endpoint sees it at the commit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from hf_mirror import PROJECT
from hf_mirror.errors import DataError
from hf_mirror.files import read_json, read_rows
from hf_mirror.publish.figures import draw
from hf_mirror.publish.licences import hub_licence, terms
from hf_mirror.publish.staging import MIXED, STAGES, Run, Staged

if TYPE_CHECKING:
    from jinja2 import Environment

Lineage = list[dict[str, str]]
Facts = dict[str, Any]

TEMPLATES = PROJECT / "model_cards"
SHORTEN = 160  # characters kept at either end of a long text in an example row
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10**7, "1M<n<10M"))

TITLES = {
    "scenes": ("Mirror scenes: real choices with their history and options", ["multiple-choice"]),
    "rationales": ("Mirror rationales: thoughts before a choice, and how they were read", ["text-generation"]),
    "preferences": ("Mirror preferences: chosen and rejected decisions", ["text-generation"]),
    "bench": ("Mirror bench: which option did the user choose?", ["multiple-choice"]),
}

_KEY = {"scene_id": "5f1c0e…", "domain": "made_up", "split": "train", "n_options": 3}
_MARK = {"row_hmac": "9b74c9…"}
_THOUGHT = (
    "Stimulus: {{item:1}} catches my attention.\nKnowledge: I liked {{history:0}}, a {{attribute}}.\nEvaluation: …"
)
MADE_UP = {
    "scenes": {**_KEY, **_MARK},
    "rationales": {**_KEY, "thought": _THOUGHT, "finish_reason": "stop", "parse_error": None, **_MARK},
    "preferences": {"domain": "made_up", "split": "train", **_MARK},
    "bench": {"scene_id": "5f1c0e…", "variant_id": "own-full-shift0", "n_options": 5, **_MARK},
}


def dataset_card(staged: Staged, run: Run, *, namespace: str, tag: str, lineage: Lineage, reports: Facts) -> str:
    """The card of a dataset repo other than the benchmark, whose plots are written beside it. `reports` holds
    preferences.json where the kind needs it.

    `lineage` has `{what, repo, revision}` per repo that this one was made from.
    """
    facts = _dataset_facts(staged, run, namespace, tag, lineage)
    slots = facts["positions"] if staged.kind == "scenes" else {}
    figures = {"figures": draw(staged, slots)}
    return _header(staged, run, namespace, lineage) + render("dataset.md.jinja", {**facts, **figures, **reports})


def benchmark_card(staged: Staged, run: Run, *, namespace: str, tag: str, lineage: Lineage, reports: Facts) -> str:
    """The card of the benchmark repo; `reports["bench"]` is bench.json."""
    facts = _dataset_facts(staged, run, namespace, tag, lineage)
    counted = reports["bench"]["subsets"]
    shown = [name for name in staged.rows if staged.tiers[name] == "open"]
    slots = {name: counted.get(name, {}).get("random_order_gold_slots", {}) for name in shown}
    figures = {"figures": draw(staged, slots)}
    return _header(staged, run, namespace, lineage) + render("benchmark.md.jinja", {**facts, **figures, **reports})


def model_card(facts: Facts) -> str:
    """The card of a model repo. `facts` is what publish.model_repos gathers from reports;
    its `metadata` becomes the YAML header."""
    from huggingface_hub import ModelCardData

    return f"---\n{ModelCardData(**facts['metadata']).to_yaml()}\n---\n\n" + render("model.md.jinja", facts)


def licence_file(run: Run, domains: Iterable[str]) -> str:
    """LICENSE.md: each source's licence and citation as its builder found them."""
    parts = ["# Licences\n", "Instructions, templates and code of hf_mirror: Apache-2.0.\n"]
    for name in domains:
        source = run.reports[name]["source"]
        closed = " The raw data may not be redistributed and are not in this repo." if run.closed(name) else ""
        parts.append(f"## {name}\n\nSource: {source['release']}\n\nLicence: {source['licence']}.{closed}\n")
        parts += [f"{source[key].strip()}\n" for key in ("attribution", "citation") if source.get(key)]
    return "\n".join(parts)


def described(generators: Iterable[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Generators (hf_mirror.publish.staging.Run.generators) with the terms of their licences."""
    lines = []
    for generator in generators:
        known = terms(generator["model"])
        name = Path(generator["model"]).name if Path(generator["model"]).is_absolute() else generator["model"]
        about = {"licence": known.licence, "notice": known.notice, "use": known.use, "weightless": known.weightless}
        lines.append(
            {**generator, "model": f"`template` backend ({name})" if known.weightless else f"`{name}`", **about}
        )
    return lines


def render(template: str, facts: Facts) -> str:
    """Fills one template; a fact that is missing is a DataError."""
    from jinja2 import UndefinedError

    try:
        text = _templates().get_template(template).render(**facts)
    except UndefinedError as error:
        raise DataError(
            f"card {template} needs a fact that the reports lack ({error.message}); run the stage that writes it again"
        ) from None
    return _squeeze(text)


@cache
def _templates() -> Environment:
    """Kept, for it keeps the templates that it compiled, which takes longer than filling them."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(str(TEMPLATES))
    return Environment(
        loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )


def check(card: str, kind: str) -> None:
    """Reads a card back with huggingface_hub's card class; metadata that it refuses are a DataError."""
    import yaml
    from huggingface_hub import DatasetCard, ModelCard

    try:
        (ModelCard if kind == "model" else DatasetCard)(card)
    except (ValueError, TypeError, yaml.YAMLError) as problem:
        error = " ".join(str(problem).split())
        raise DataError(
            f"the card's YAML header is not valid ({error}); check licence and names in the reports"
        ) from None


def _dataset_facts(staged: Staged, run: Run, namespace: str, tag: str, lineage: Lineage) -> Facts:
    domains: dict[str, Facts] = {
        name: {"report": run.reports[name], "closed": run.closed(name)} for name in run.reports if name in staged.rows
    }
    first = MIXED if MIXED in staged.rows else min(staged.rows, key=lambda name: (staged.tiers[name] != "open", name))
    kinds = {tier: any(d["closed"] == (tier == "closed") for d in domains.values()) for tier in ("open", "closed")}
    pool = [name for name, d in domains.items() if not d["closed"]] or list(domains)
    generators = described(run.generators()) if staged.kind in ("rationales", "preferences") else []
    return {
        "kind": staged.kind,
        "repo": f"{namespace}/{staged.name}",
        "tag": tag,
        "pretty_name": TITLES[staged.kind][0],
        "domains": domains,
        "kinds": kinds,
        "mixed_domains": pool,
        "rows": staged.rows,
        "tiers": staged.tiers,
        "domain_of": staged.domains,
        "splits": STAGES[staged.kind].splits,
        "first_subset": first,
        "first_split": next(iter(staged.rows[first])),
        "weights": staged.weights,
        "seed": staged.seed,
        "withheld": staged.withheld,
        "unread": staged.unread,
        "quality": _quality(run, domains) if staged.kind == "rationales" else {},
        "positions": {name: _positions(d["report"]) for name, d in domains.items() if not d["closed"]},
        "generators": generators,
        "schemas": _schemas(staged),
        "example": _example(staged, first),
        "example_made_up": staged.tiers[first] == "closed",
        "lineage": lineage,
    }


def _quality(run: Run, domains: Iterable[str]) -> dict[str, Facts]:
    """What `mirror read` found out about decisions, by domain; nothing where they were not read."""
    paths = {name: run.directory / name / "quality.json" for name in domains}
    return {name: read_json(path) for name, path in paths.items() if path.is_file()}


def _header(staged: Staged, run: Run, namespace: str, lineage: Lineage) -> str:
    from huggingface_hub import DatasetCardData

    licences = sorted({run.reports[name]["source"]["licence"] for name in run.reports if name in staged.rows})
    title, tasks = TITLES[staged.kind]
    total = sum(sum(counts.values()) for subset, counts in staged.rows.items() if subset != MIXED)
    made_from = [step["repo"] for step in lineage if step["repo"].startswith(f"{namespace}/")]
    licence: Facts = hub_licence(licences[0] if len(licences) == 1 else "several: see the licence file")
    data = DatasetCardData(
        pretty_name=title,
        language=["en"],
        **licence,
        tags=["hf-mirror", "recommendation", "user-simulation", *sorted({f"{t}-tier" for t in staged.tiers.values()})],
        size_categories=[next((name for limit, name in SIZES if total < limit), "n>10M")],
        source_datasets=made_from or ["original"],
        annotations_creators=["machine-generated"],
        task_categories=tasks,
        configs=configs(staged.rows),
    )
    return f"---\n{data.to_yaml()}\n---\n\n"


def configs(rows: Mapping[str, Mapping[str, int]]) -> list[Facts]:
    """What lets plain `load_dataset` find every subset and split."""
    return [
        {
            "config_name": subset,
            "data_files": [{"split": split, "path": f"{subset}/{split}.parquet"} for split in counts],
            **({"default": True} if subset == MIXED else {}),
        }
        for subset, counts in rows.items()
    ]


def _schemas(staged: Staged) -> dict[str, dict[str, str]]:
    """Column → type, per tier, as the published files have them."""
    schemas: dict[str, dict[str, str]] = {}
    for subset, counts in staged.rows.items():
        if subset != MIXED:
            schema = pq.read_schema(staged.path(subset, next(iter(counts))))
            schemas.setdefault(staged.tiers[subset], {field.name: _type(field.type) for field in schema})
    return schemas


def _type(kind: Any) -> str:
    """An Arrow type as a reader wants it: `list of {role, content}` instead of its full spelling."""
    if isinstance(kind, pa.BaseExtensionType):
        return "JSON"
    if pa.types.is_list(kind):
        return f"list of {_type(kind.value_type)}"
    if pa.types.is_struct(kind):
        return "{" + ", ".join(field.name for field in kind) + "}"
    return "timestamp (ms, UTC)" if pa.types.is_timestamp(kind) else str(kind)


def _positions(report: Mapping[str, Any]) -> dict[str, list[int]]:
    """Scenes per position of the truth, by K, over all splits."""
    total: dict[str, list[int]] = {}
    for part in report["scenes"].values():
        for k, slots in part["truth_positions"].items():
            total[k] = [a + b for a, b in zip(total.get(k, [0] * len(slots)), slots, strict=True)]
    return dict(sorted(total.items(), key=lambda pair: int(pair[0])))


def _example(staged: Staged, subset: str) -> str:
    if staged.tiers[subset] == "closed":
        row: Any = MADE_UP[staged.kind]
    else:
        row = read_rows(staged.path(subset, next(iter(staged.rows[subset]))))[0]
    return json.dumps(_shorten(row), indent=2, ensure_ascii=False, default=str)


def _shorten(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= 2 * SHORTEN else f"{value[:SHORTEN].rstrip()} … {value[-SHORTEN:].lstrip()}"
    if isinstance(value, dict):
        return {key: _shorten(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_shorten(inner) for inner in value[:3]] + (["…"] if len(value) > 3 else [])
    return round(value, 4) if isinstance(value, float) else value


def _squeeze(text: str) -> str:
    """No blank line at the start, none doubled, none inside a table or list that a loop opened."""
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
