"""A trained model's folder becomes a model repo folder: weights, tokenizer, reports, scores and card.

Only files that a loader needs are copied: no pickles, optimizer states or checkpoints. A model trained from scratch on
a closed source stays at home, because its tokenizer's vocabulary is made of the publisher's words.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_mirror.errors import DataError
from hf_mirror.files import read_json, write_json
from hf_mirror.publish.cards import Lineage, described, model_card
from hf_mirror.publish.evaluations import COMMIT, Evaluation, baselines_of, of_run, stage
from hf_mirror.publish.licences import PERMISSIVE, check_model_name, hub_licence, terms
from hf_mirror.publish.scores import described_evaluation
from hf_mirror.publish.staging import MIXED, Run
from hf_mirror.weights import resolve

FILES = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "*.txt", "*.model")
NOT_FOR_LOADING = ("trainer_state.json", "all_results.json", "train_results.json", "eval_results.json")
METHODS = {"sft": "supervised fine-tuning (SFT)", "dpo": "direct preference optimisation (DPO)"}
PAIRS = "training pairs"  # how lineage calls the data of a model


class TrainedModel:
    """One folder of DIR/models, with what its reports say about its origin."""

    def __init__(self, run: Run, folder: Path):
        self.run, self.folder, self.name = run, folder, folder.name
        self.train: dict[str, Any] = read_json(folder / "train_report.json")
        missing = [key for key in ("method", "base_model", "from_scratch", "dataset") if key not in self.train]
        if missing:
            raise DataError(f"{folder / 'train_report.json'} lacks {', '.join(missing)}; train with recipes/ again")
        name = self.train["base_model"]
        sibling = run.directory / "models" / Path(name).name if name else None
        is_sibling = sibling is not None and (sibling / "train_report.json").is_file() and _is_local(self.train)
        self.parent = TrainedModel(run, sibling) if sibling is not None and is_sibling and sibling != folder else None

    @property
    def domains(self) -> list[str]:
        """The domains that it (or the model it starts from) was trained on."""
        data = self.train["dataset"]
        everything = list(self.run.reports)
        open_ones = [name for name in everything if not self.run.closed(name)] or everything
        pool = open_ones if "id" in data else everything
        named = list(data.get("mixture", [data["subset"]]))
        own = pool if MIXED in named else named
        unknown = sorted(set(own) - set(everything))
        if unknown:
            raise DataError(
                f"{self.folder} was trained on {unknown}, which this run does not hold; publish its own run"
            )
        return sorted({*own, *(self.parent.domains if self.parent else [])})

    @property
    def from_scratch(self) -> bool:
        """Whether its weights and vocabulary come from its training rows alone."""
        return bool(self.train["from_scratch"]) or (self.parent is not None and self.parent.from_scratch)

    @property
    def bases(self) -> list[str]:
        """The Hub models it descends from."""
        above = self.parent.bases if self.parent else []
        own = (
            []
            if self.parent or not self.train["base_model"]
            else [Path(self.train["base_model"]).name if _is_local(self.train) else self.train["base_model"]]
        )
        return [*own, *above]

    def withheld(self) -> str | None:
        """Why it may not be published, or None."""
        closed = [name for name in self.domains if self.run.closed(name)]
        if self.from_scratch and closed:
            return (
                f"trained from scratch on closed source {', '.join(closed)}: its vocabulary holds the publisher's words"
            )
        if closed and self.parent is None and self.train.get("base_model") and _is_local(self.train):
            return (
                f"trained on closed source {', '.join(closed)} from a folder outside this run: whether its vocabulary "
                "holds the publisher's words is not known"
            )
        return None

    def generators(self) -> list[dict[str, str]]:
        """Who wrote and read its training rows."""
        return [line for line in self.run.generators() if line["domain"] in self.domains]


def find_models(run: Run) -> list[TrainedModel]:
    """Every finished model of the run (a folder of DIR/models with train_report.json), bases before their children."""
    folders = sorted(path.parent for path in (run.directory / "models").glob("*/train_report.json"))
    models = [TrainedModel(run, folder) for folder in folders]
    return sorted(models, key=lambda model: (_depth(model), model.name))


def stage_model(model: TrainedModel, out: Path, *, namespace: str, tag: str, lineage: Lineage) -> Path:
    """Writes the repo folder `out/<name>` and returns it. Same run and lineage, same bytes."""
    check_model_name(model.name, [*model.bases, *(line["model"] for line in model.generators())])
    target = out / model.name
    if target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)
    for path in sorted({path for pattern in FILES for path in model.folder.glob(pattern)}):
        if path.name in NOT_FOR_LOADING:
            continue
        _copy(path, target / path.name, _renaming(model, namespace))
    if not any(target.glob("*.safetensors")):
        raise DataError(f"{model.folder} has no *.safetensors; save the model with its recipe again")
    evaluations = of_run(model.run, model.name)
    _check_version(model, evaluations)
    bench = f"{namespace}/mirror-bench"
    commit = next((step["revision"] for step in lineage if step["repo"] == bench), None)
    stage(evaluations, target, repo=f"{namespace}/{model.name}", bench=bench, bench_commit=commit)
    shown = [described_evaluation(each, model.name, baselines_of(model.run)) for each in evaluations]
    card = model_card(_facts(model, shown, namespace, tag, lineage))
    (target / "README.md").write_text(card, encoding="utf-8")
    return target


def _facts(
    model: TrainedModel, evaluations: list[dict[str, Any]], namespace: str, tag: str, lineage: Lineage
) -> dict[str, Any]:
    train, run = model.train, model.run
    data = train["dataset"]
    generators = described(model.generators())
    base = _base(model, namespace)
    relation = "adapter" if (model.folder / "adapter_config.json").exists() else "finetune"
    words = f"`{data['id']}`" if "id" in data else "preference pairs of the local run folder"
    kinds = {"open": any(not run.closed(d) for d in model.domains), "closed": any(run.closed(d) for d in model.domains)}
    return {
        "name": model.name,
        "repo": f"{namespace}/{model.name}",
        "tag": tag,
        "train": {**train, "from_scratch": bool(train["from_scratch"])},
        "scratch_chain": model.from_scratch,
        "method": METHODS.get(train["method"], train["method"]),
        "base_model": base,
        "base_revision": next((s["revision"] for s in lineage if s["repo"] == base), train["base_revision"]),
        "relation": relation if base else None,
        "generators": generators,
        "notices": sorted(
            {t.notice for t in map(terms, model.bases) if t.notice}
            | {g["notice"] for g in generators if g["notice"] and not g["weightless"]}
        ),
        "evaluations": evaluations,
        "bench": f"{namespace}/mirror-bench",
        "data": {"words": words, "revision": data.get("revision"), "subset": data["subset"]},
        "domains": {name: {"report": run.reports[name], "closed": run.closed(name)} for name in model.domains},
        "kinds": kinds,
        "licence_lines": _licence_lines(model),
        "lineage": lineage,
        "metadata": _metadata(model, base, relation, namespace, lineage),
    }


def _metadata(model: TrainedModel, base: str | None, relation: str, namespace: str, lineage: Lineage) -> dict[str, Any]:
    sets = [step["repo"] for step in lineage if step["what"].startswith(PAIRS)]
    metadata: dict[str, Any] = {
        **_licence(model),
        "language": ["en"],
        "library_name": "peft" if relation == "adapter" else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["hf-mirror", "recommendation", "user-simulation", model.train["method"]],
        "datasets": sets or None,
    }
    if base and "/" in base:
        metadata |= {"base_model": base, "base_model_relation": relation}
    return metadata


def _licence(model: TrainedModel) -> dict[str, str]:
    """The strictest that is known: the base's licence; from scratch, Apache-2.0 if every source is permissive."""
    if model.bases:
        return hub_licence(terms(model.bases[-1]).licence, f"https://huggingface.co/{model.bases[-1]}")
    licences = {model.run.reports[name]["source"]["licence"].lower() for name in model.domains}
    return {"license": "apache-2.0"} if licences <= PERMISSIVE else hub_licence("see training data", "README.md")


def _licence_lines(model: TrainedModel) -> list[str]:
    lines = [f"Base `{base}`: {terms(base).licence}; {terms(base).use}." for base in model.bases]
    lines += ["Weights trained from scratch with this project's recipes (Apache-2.0)."] if not model.bases else []
    return lines + [
        f"Training source `{name}`: {model.run.reports[name]['source']['licence']}." for name in model.domains
    ]


def _base(model: TrainedModel, namespace: str) -> str | None:
    if model.parent:
        return f"{namespace}/{model.parent.name}"
    return model.bases[0] if model.bases else None


def _check_version(model: TrainedModel, evaluations: Sequence[Evaluation]) -> None:
    """Scores must be those of the weights that are published with them."""
    if (model.folder / "adapter_config.json").exists() or not evaluations:
        return  # the version of an adapter depends on its base, which need not be at hand
    version = resolve(str(model.folder))[1]
    for each in evaluations:
        said = each.result["model_revision"]
        if said.startswith("sha256:") and said != version:
            raise DataError(
                f"{each.path} has scores of another version of {model.name} ({said[:19]}, now {version[:19]}); "
                "run `mirror evaluate` again"
            )


def _renaming(model: TrainedModel, namespace: str) -> Callable[[str], str]:
    """Local paths in configuration files become the names they have on the Hub, or at least leave no folder names."""
    base = model.train["base_model"]

    def rename(text: str) -> str:
        if base and text == base and _is_local(model.train):
            return _base(model, namespace) or Path(text).name
        return Path(text).name if text.startswith(("/", "~", "./", "../")) and "\n" not in text else text

    return rename


def _copy(source: Path, target: Path, rename: Callable[[str], str]) -> None:
    if source.name in ("config.json", "adapter_config.json", "tokenizer_config.json", "train_report.json"):
        write_json(target, _strings(json.loads(source.read_text(encoding="utf-8")), rename))
    else:
        shutil.copyfile(source, target)


def _strings(value: Any, rename: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {key: _strings(inner, rename) for key, inner in value.items()}
    if isinstance(value, list):
        return [_strings(inner, rename) for inner in value]
    return rename(value) if isinstance(value, str) else value


def _is_local(train: Mapping[str, Any]) -> bool:
    """A base with a commit came from the Hub; one with a file digest lies in a folder."""
    return not COMMIT.fullmatch(str(train.get("base_revision") or ""))


def _depth(model: TrainedModel) -> int:
    return 1 + _depth(model.parent) if model.parent else 0
