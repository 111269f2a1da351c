"""The stages of one run, in order: what `mirror run` does.

Datasets are published before training, so that recipes read an open source back from the Hub as anyone would; closed
sources train and are evaluated from the run folder.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from hf_mirror import PROJECT, rationales
from hf_mirror.backends import Engine
from hf_mirror.build import build
from hf_mirror.build_settings import BuildSettings
from hf_mirror.domains import Domain, import_file
from hf_mirror.domains import load as load_domain
from hf_mirror.errors import ConfigError
from hf_mirror.files import read_json, write_json
from hf_mirror.pipeline.form import Pipeline
from hf_mirror.pipeline.stamps import Stamps
from hf_mirror.pipeline.training import train
from hf_mirror.progress import progress, say
from hf_mirror.rationales import Meter


class Run:
    """One run of a pipeline: its raw folders, its own folder, and the Hub it talks to."""

    def __init__(self, pipeline: Pipeline, raw: dict[str, Path], out: Path, endpoint: str) -> None:
        self.pipeline, self.raw, self.out, self.endpoint = pipeline, raw, out, endpoint
        self.stamps = Stamps(out)

    def everything(self) -> dict[str, Any]:
        """Runs every stage; returns what a reader wants to know: folders, repos, scores, seconds per stage."""
        self.make_samples()
        self.make_scenes()
        self._refuse_other_domains()
        self.make_rationales()
        self.make_pairs()
        datasets = self.publish("datasets")
        self.load_back()
        self.train()
        self.evaluate()
        models = self.publish("models")
        return self._summary({"datasets": datasets, "models": models})

    def make_samples(self) -> None:
        """Made-up raw folders, where the pipeline asks for them and no other was given."""
        for name, arguments in self.pipeline.sample.items():
            target = self.out / "raw" / name
            if self.raw[name] != target:
                continue
            generator = PROJECT / "dataset_builders" / "sample" / f"{name}.py"
            settings = {**arguments, "seed": self.pipeline.seed}
            generate = partial(import_file(generator).generate, target, **settings)
            self.stamps.run(f"sample-{name}", settings, [generator], target.iterdir, generate)

    def make_scenes(self) -> None:
        """One build per domain."""
        settings = BuildSettings(self.pipeline.scenes, self.pipeline.regime, seed=self.pipeline.seed)
        for name in self.pipeline.builders:
            domain = load_domain(name)
            source = domain.detect(self.raw[name])
            written = (
                f"{domain.name}/report.json",
                f"{domain.name}/scenes/*",
                f"{domain.name}/tables/*",
                f"{domain.name}/*.jinja",
                f"{domain.name}/*.key",
            )
            self.stamps.run(
                f"build-{domain.name}",
                {**asdict(settings), "template": domain.template, "licence": [source.licence, source.redistributable]},
                [*source.files, domain.path],
                partial(self._files, *written),
                partial(self._build, domain, self.raw[name], settings),
            )

    def make_rationales(self) -> None:
        """Teacher and student write, one reader reads."""
        write = self.pipeline.write
        settings = rationales.WriteSettings(
            write.n, write.temperature, write.top_p, write.max_tokens, self.pipeline.seed
        )
        for role, engine in (("teacher", write.teacher), ("student", write.student)):
            self.stamps.run(
                f"write-{role}",
                {**asdict(settings), **asdict(engine), "instruction": rationales.instruction_digest()},
                self._files("*/scenes/*"),
                partial(self._files, f"*/rationales/{role}/*.parquet"),
                partial(self._write, role, engine, settings),
            )
        self.stamps.run(
            "read",
            asdict(self.pipeline.read),
            self._files("*/scenes/*", "*/rationales/*/*.parquet"),
            lambda: self._files("*/readings/*/*.parquet", "*/quality.json"),
            self._read,
        )

    def make_pairs(self) -> None:
        """Preference pairs and benchmark rows."""
        from hf_mirror.bench import bench
        from hf_mirror.distill import distill

        chosen = self.pipeline.distill
        self.stamps.run(
            "distill",
            {**asdict(chosen), "seed": self.pipeline.seed},
            self._files("*/scenes/*", "*/rationales/*/*.parquet", "*/readings/*/*.parquet", "*/quality.json"),
            lambda: self._files("preferences.json", "preferences.html", "*/preferences/*", "*/rescued/*"),
            lambda: distill(self.out, **asdict(chosen), seed=self.pipeline.seed),
        )
        self.stamps.run(
            "bench",
            {"seed": self.pipeline.seed},
            self._files("*/scenes/test*.parquet", "*/tables/*", "*/template.jinja"),
            lambda: self._files("bench.json", "bench/*"),
            lambda: bench(self.out, seed=self.pipeline.seed),
        )

    def publish(self, kind: str) -> dict[str, Any]:
        """Publishes `datasets` or `models`: per repo one commit and one tag, or nothing where it is there already."""
        from hf_mirror.publish import publish

        say(f"- publish {kind} at {self.pipeline.tag}")
        return publish(self.out, self.pipeline.namespace, self.pipeline.tag, endpoint=self.endpoint, only=(kind,))

    def load_back(self) -> None:
        """Reads the published pairs as anyone would, with `load_dataset`."""
        from datasets import load_dataset

        repo = f"{self.pipeline.namespace}/mirror-preferences"
        for subset in (*self.domains(), "mixed"):
            loaded = load_dataset(repo, subset, revision=self.pipeline.tag)
            rows = ", ".join(f"{part.num_rows} {name}" for name, part in loaded.items())
            say(f'  load_dataset("{repo}", "{subset}", revision="{self.pipeline.tag}"): {rows} rows')

    def train(self) -> None:
        """SFT, then DPO from it, each a process of `accelerate launch`."""
        sft = self._model("sft")
        self._train("sft", self._data())
        self._train("dpo", [*self._data(), "--model_name_or_path", str(sft)], sft)

    def evaluate(self) -> None:
        """Both students on every domain of the benchmark."""
        from hf_mirror.evaluation import evaluate

        for method in ("sft", "dpo"):
            model = self._model(method)
            out = self.out / "evaluations" / model.name
            self.stamps.run(
                f"evaluate-{method}",
                {"seed": self.pipeline.seed},
                [*self._files("bench/*"), *model.glob("*.safetensors"), PROJECT / "evals" / "tasks.py"],
                partial(out.glob, "*.json"),
                partial(evaluate, str(model), None, self._bench(), None, out, seed=self.pipeline.seed),
            )

    def _refuse_other_domains(self) -> None:
        """A domain that another run left here would be published with this one."""
        wanted = {load_domain(name).name for name in self.pipeline.builders}
        others = sorted(set(self.domains()) - wanted)
        if others:
            raise ConfigError(f"{self.out} also holds {', '.join(others)}, which this pipeline does not build; "
                              "use another out, or delete it")  # fmt: skip

    def _build(self, domain: Domain, raw: Path, settings: BuildSettings) -> None:
        with progress(settings.scenes, f"  scenes of {domain.name}") as advance:
            report = build(domain, raw, self.out, settings, advance)
        for warning in report["warnings"]:
            say(f"  {domain.name}: {warning}")

    def _write(self, role: str, engine: Engine, settings: rationales.WriteSettings) -> None:
        with progress(rationales.count_scenes(self.out), f"  {role} writes") as advance:
            rationales.write(self.out, role, engine.load(), settings, Meter(advance))

    def _read(self) -> None:
        chosen = self.pipeline.read
        settings = rationales.ReadSettings(chosen.ifd, chosen.masked)
        with progress(3 * rationales.count_scenes(self.out), "  reader reads") as advance:
            rationales.read(self.out, chosen.engine.load(), settings, Meter(advance))
        rationales.count_read(self.out)

    def _train(self, method: str, arguments: list[str], base: Path | None = None) -> None:
        student, output = self.pipeline.train.student, self._model(method)
        config = PROJECT / "recipes" / student / f"{method}.yaml"
        recipes = PROJECT / "recipes"
        launcher = recipes / "accelerate_configs" / f"{self.pipeline.train.accelerate}.yaml"
        parts = [*recipes.glob("*.py"), *(recipes / student).glob("*.json"), config, launcher]
        if base:
            parts += [path for kind in ("safetensors", "json", "jinja") for path in base.glob(f"*.{kind}")]
            parts.remove(base / "train_report.json")  # it holds times of day
        self.stamps.run(
            method,
            {"arguments": arguments, "accelerate": self.pipeline.train.accelerate},
            [*parts, *self._files("*/preferences/*", "*/rescued/*")],
            lambda: (path for path in output.iterdir() if path.is_file()),
            lambda: train(
                method, config, self.pipeline.train.accelerate, output, arguments, self.out / f"{method}.log"
            ),
        )

    def _data(self) -> list[str]:
        """Where recipes find the pairs: the Hub where every source is open, else the run folder."""
        if self._closed():
            return ["--dataset", str(self.out)]
        return [
            *("--dataset", f"{self.pipeline.namespace}/mirror-preferences"),
            *("--subset", "mixed", "--revision", self.pipeline.tag),
        ]

    def _bench(self) -> str:
        if self._closed():
            return str(self.out / "bench")
        return f"{self.pipeline.namespace}/mirror-bench@{self.pipeline.tag}"

    def _closed(self) -> bool:
        reports = [read_json(self.out / name / "report.json") for name in self.domains()]
        return not all(report["source"]["redistributable"] for report in reports)

    def domains(self) -> list[str]:
        """The domains that have been built."""
        return [folder.name for folder in rationales.domain_folders(self.out)]

    def _model(self, method: str) -> Path:
        return self.out / "models" / f"{self.pipeline.train.student}-mirror-{method}"

    def _files(self, *patterns: str) -> list[Path]:
        return [path for pattern in patterns for path in self.out.glob(pattern) if path.is_file()]

    def _summary(self, repos: dict[str, Any]) -> dict[str, Any]:
        results = [read_json(path) for path in self._files("evaluations/*/*.json")]
        summary = {
            "out": str(self.out),
            "endpoint": self.endpoint,
            "hub": str(self.out / "hub") if self.pipeline.hub == "embedded" else self.endpoint,
            "namespace": self.pipeline.namespace,
            "tag": self.pipeline.tag,
            "repos": repos,
            "results": results,
            "made_up": set(self.pipeline.sample) & {n for n, p in self.raw.items() if p.is_relative_to(self.out)}
            != set(),
            "seconds": self.stamps.seconds,
        }
        write_json(self.out / "run.json", {key: value for key, value in summary.items() if key != "results"})
        return summary
