"""Cards hold what the reports hold, fail where a fact is missing, and read well."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pytest
import yaml

from hf_mirror import schema
from hf_mirror.domains import import_file
from hf_mirror.errors import DataError
from hf_mirror.files import read_json, read_table, write_json, write_rows
from hf_mirror.publish import tiers
from hf_mirror.publish.cards import TEMPLATES, benchmark_card, check, dataset_card, licence_file, render
from hf_mirror.publish.model_repos import find_models, stage_model
from hf_mirror.publish.staging import Run, Staged, stage_datasets

fixture = import_file(Path(__file__).parent / "run_folder.py")

LINEAGE = [{"what": "scenes", "repo": "acme/mirror-scenes", "revision": "c" * 40}]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fixture.make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def staged(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Staged]:
    return {repo.kind: repo for repo in stage_datasets(Run.open(run), tmp_path_factory.mktemp("out"))}


def card(staged: Staged, run: Path, **changes: Any) -> str:
    """One dataset or benchmark card; `changes` replace reports."""
    reports = {"preferences": read_json(run / "preferences.json"), "bench": read_json(run / "bench.json"), **changes}
    write = benchmark_card if staged.kind == "bench" else dataset_card
    lineage = [] if staged.kind == "scenes" else LINEAGE
    return write(staged, Run.open(run), namespace="acme", tag="v1.2.3", lineage=lineage, reports=reports)


def header(text: str) -> dict[str, Any]:
    return yaml.safe_load(text.split("---\n")[1])


@pytest.fixture(scope="module", params=["scenes", "rationales", "preferences", "bench", "sft", "dpo"])
def any_card(
    request: pytest.FixtureRequest, run: Path, staged: dict[str, Staged], tmp_path_factory: pytest.TempPathFactory
) -> str:
    if request.param in staged:
        return card(staged[request.param], run)
    model = next(model for model in find_models(Run.open(run)) if model.name.endswith(request.param))
    out = tmp_path_factory.mktemp("models")
    folder = stage_model(model, out, namespace="acme", tag="v1.2.3", lineage=LINEAGE)
    return (folder / "README.md").read_text()


def test_every_table_is_a_table_and_nothing_is_left_to_fill(any_card: str) -> None:
    body = any_card.split("\n---\n", 1)[1]
    prose = re.sub(r"```.*?```", "", body, flags=re.DOTALL)
    for block in re.findall(r"(?:^\|.*\n)+", prose, re.MULTILINE):
        lines = block.splitlines()
        assert re.fullmatch(r"\|(:?-+:?\|)+", lines[1]), block
        assert len({line.count("|") for line in lines}) == 1 and len(lines) > 2, block
    outside = prose.replace("{{item:3}}", "").replace("{{history:2}}", "")
    outside = re.sub(r"\{\{(attribute|profile|number|time)\}\}", "", outside)
    assert not re.search(r"\{\{|\}\}|\{%|%\}|Undefined|None", outside)
    assert "\n\n\n" not in body and not re.search(r"[^\n]\n#", prose) and not re.search(r"\n +\S", prose)


def test_every_header_is_accepted_by_the_card_classes(any_card: str) -> None:
    check(any_card, "model" if "pipeline_tag" in header(any_card) else "dataset")
    assert {"license", "language", "tags"} <= set(header(any_card))
    with pytest.raises(DataError, match="not valid"):
        check("---\nlicense: [\n---\n", "dataset")


def test_every_card_says_what_wrote_it_where_it_is_from_and_how_to_cite_it(any_card: str) -> None:
    assert "2508.18142" in any_card and "A made-up sample." in any_card
    assert fixture.digest("shop") in any_card  # the raw file's hash
    assert 'revision="v1.2.3"' in any_card
    if "made from | repo" in any_card:
        assert "c" * 40 in any_card


def test_dataset_headers_find_every_split_by_path(run: Path, staged: dict[str, Staged]) -> None:
    for repo in staged.values():
        fields = header(card(repo, run))
        found = {c["config_name"]: {f["split"]: f["path"] for f in c["data_files"]} for c in fields["configs"]}
        assert found == {s: {split: f"{s}/{split}.parquet" for split in counts} for s, counts in repo.rows.items()}
        assert all((repo.folder / path).is_file() for splits in found.values() for path in splits.values())
        assert fields["license"] == "other" and fields["license_link"] == "LICENSE.md" and fields["license_name"]
        assert fields["annotations_creators"] == ["machine-generated"] and fields["size_categories"] == ["n<1K"]


def test_one_open_source_gives_its_own_licence(tmp_path: Path) -> None:
    run = fixture.make_run(tmp_path / "run", ("shop",))
    scenes = stage_datasets(Run.open(run), tmp_path / "out")[0]
    text = card(scenes, run)
    assert header(text)["license"] == "cc0-1.0" and "license_name" not in header(text)
    assert "losed tier" not in text and any(title in text for title in fixture.TITLES)


def test_numbers_come_from_the_reports(run: Path, staged: dict[str, Staged]) -> None:
    scenes, bench = card(staged["scenes"], run), card(staged["bench"], run)
    assert "| `shop` | train | popularity_matched | 10 | 6 | 4 not needed |" in scenes
    assert "`shop` read 12, kept 10, dropped 2 repeated" in scenes
    assert "**Underpowered**" in scenes and "at a cut: users 1, events 2" in scenes
    assert "- `shop`, K = 4: 10, 0, 0, 0" in scenes and "0.2 ± 0.0248" in scenes
    assert "| `shop` | `shop` | popularity_matched | 2 | 10 | none | 2 **(underpowered)** | 90.0 to 90.0 p" in bench
    changed = read_json(run / "preferences.json")
    changed["domains"]["shop"]["train"]["dropped"] = {"no_wrong_decision": 1234}
    assert "1,234 no wrong decision" in card(staged["preferences"], run, preferences=changed)


def test_the_quality_of_decisions_stands_on_their_card(tmp_path: Path) -> None:
    run = fixture.make_run(tmp_path / "run")
    rationales = next(r for r in stage_datasets(Run.open(run), tmp_path / "out") if r.kind == "rationales")
    assert "How good the decisions are" not in card(rationales, run)
    half, nothing = {"count": 1, "of": 2, "share": 0.5}, {"count": 0, "of": 0, "share": None}
    good = {"decisions": 1234, "parsed": 1200, "in_form": half, "grounding": nothing, "names_choice": half,
            "consistency": {**half, "chance": 0.25}, "words": {"mean": 48.5}, "repeats": half}  # fmt: skip
    none = {"decisions": 3, "parsed": 0}
    write_json(run / "shop" / "quality.json", {"teacher": good, "student": none})
    text = card(rationales, run)
    assert "| `shop`, teacher | 1,234 | 1,200 | 50.0 % | – | 50.0 % (25.0 %) | 50.0 % | 48.5 | 50.0 % |" in text
    assert "| `shop`, student | 3 | 0 |" in text
    told = {**read_json(run / "preferences.json"), "scene_blind_probe": {"accuracy": 0.71, "pairs": 12},
            "warnings": ["x"], "rejected_role": "teacher"}  # fmt: skip
    preferences = next(r for r in stage_datasets(Run.open(run), tmp_path / "more") if r.kind == "preferences")
    text = card(preferences, run, preferences=told)
    assert "71.0 % of 12 train pairs" in text and "(of the teacher alone)" in text


def test_a_closed_domain_shows_no_cuts_and_no_real_row(run: Path, staged: dict[str, Staged], tmp_path: Path) -> None:
    both = card(staged["scenes"], run)
    assert both.count("Cuts at") == 1 and "- `shop`: 5 train" in both and "**Closed tier** for `films`" in both
    alone = fixture.make_run(tmp_path / "run", ("films",))
    for repo in stage_datasets(Run.open(alone), tmp_path / "out"):
        text = card(repo, alone)
        assert "Cuts at" not in text and "A made-up row" in text
        assert not [secret for secret in fixture.secrets(alone) if secret in text]


def test_the_template_backend_is_said_to_prove_plumbing(run: Path, staged: dict[str, Staged]) -> None:
    assert "Proves plumbing, not claims" in card(staged["preferences"], run)
    assert "Proves plumbing" not in card(staged["scenes"], run)
    assert "`template` backend (teacher)" in card(staged["rationales"], run)


def test_a_missing_fact_is_an_error_that_names_it(run: Path, staged: dict[str, Staged], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset\.md\.jinja needs a fact .*'rule'"):
        card(staged["preferences"], run, preferences={"size": 1, "seed": 0})
    films = read_json(run / "bench.json")["subsets"]["films"]
    with pytest.raises(DataError, match=r"benchmark\.md\.jinja needs a fact .*'shop'"):
        card(staged["bench"], run, bench={"seed": 0, "subsets": {"films": films}})
    with pytest.raises(DataError, match="needs a fact"):
        render("model.md.jinja", {})
    broken = fixture.make_run(tmp_path / "run", ("shop",))
    result = broken / "evaluations" / "tiny-mirror-sft" / "shop.json"
    write_json(result, {**read_json(result), "baselines": {}})
    model = next(model for model in find_models(Run.open(broken)) if model.name == "tiny-mirror-sft")
    with pytest.raises(DataError, match=r"shop\.json is no results file: baselines lacks chance"):
        stage_model(model, tmp_path / "out", namespace="acme", tag="v1.0.0", lineage=[])


def test_plots_are_pictures_that_the_card_shows(run: Path, tmp_path: Path) -> None:
    shown = {
        "scenes": {"positions", "options", "prompts"}, "rationales": {"words"},
        "preferences": {"uncertainty", "options", "words"}, "bench": {"positions", "options", "prompts"},
    }  # fmt: skip
    for repo in stage_datasets(Run.open(run), tmp_path / "out"):
        slots = {name: {"random_order_gold_slots": {"4": [1, 0, 1, 0]}} for name in ("films", "shop")}
        report = read_json(run / "bench.json")
        for name, found in slots.items():
            report["subsets"][name] |= found
        text = card(repo, run, bench=report)
        pictures = re.findall(r"^!\[.+\]\((plots/.+\.svg)\)$", text, re.MULTILINE)
        assert {name for name in pictures if name.startswith("plots/shop-")} == {
            f"plots/shop-{name}.svg" for name in shown[repo.kind]
        }
        assert set(pictures) == {path.relative_to(repo.folder).as_posix() for path in repo.folder.rglob("*.svg")}
        for name in pictures:
            root = ElementTree.fromstring((repo.folder / name).read_text())
            assert root.tag.endswith("}svg") and len(root.findall(".//{*}rect")) > 1, name
        assert not (repo.folder / "plots" / "films-prompts.svg").exists()  # closed rows have no prompts to measure


def test_every_column_has_a_meaning() -> None:
    shown = (schema.SCENE, schema.READ_RATIONALE, schema.PAIR, schema.BENCH, tiers.CLOSED_RATIONALE, tiers.CLOSED_PAIR)
    meanings = (TEMPLATES / "columns.jinja").read_text()
    assert [name for features in shown for name in features.names if f'\n  "{name}": "' not in meanings] == []


def test_a_column_without_a_meaning_stops_the_card(run: Path, tmp_path: Path) -> None:
    scenes = stage_datasets(Run.open(run), tmp_path / "out")[0]
    rows = read_table(scenes.path("shop", "train"))
    odd = rows.append_column("oddity", pa.array(["x"] * len(rows)))
    write_rows(scenes.path("shop", "train"), odd, odd.schema)
    with pytest.raises(DataError, match="oddity"):
        card(scenes, run)


def test_model_cards_name_a_base_only_where_there_is_one(run: Path, tmp_path: Path) -> None:
    fixture_run = fixture.make_run(tmp_path / "run", ("shop",))
    fixture.add_model(fixture_run, "tuned", None, "shop", base_id="HuggingFaceTB/SmolLM2-135M")
    cards = {}
    for model in find_models(Run.open(fixture_run)):
        folder = stage_model(model, tmp_path / "out", namespace="acme", tag="v1.0.0", lineage=[])
        cards[model.name] = (folder / "README.md").read_text()
    assert "base_model" not in header(cards["tiny-mirror-sft"])
    assert header(cards["tiny-mirror-dpo"])["base_model"] == "acme/tiny-mirror-sft"
    tuned = header(cards["tuned"])
    assert tuned["base_model"] == "HuggingFaceTB/SmolLM2-135M" and tuned["base_model_relation"] == "finetune"
    assert tuned["license"] == "apache-2.0" and "a" * 40 in cards["tuned"]
    assert "| **tuned** | 0.250 (0.250 to 0.250) | 1.816 (1.816 to 1.816) |" in cards["tuned"]
    assert "| chance | 0.250" in cards["tuned"] and "**Not better than chance**" in cards["tuned"]
    assert "trained from scratch on few rows" in cards["tiny-mirror-dpo"]
    assert "trained from scratch" not in cards["tuned"]


def test_the_licence_file_has_each_source_with_its_citation(run: Path) -> None:
    text = licence_file(Run.open(run), ["films", "shop"])
    assert "may not redistribute" in text and "Made-up films" in text and "CC0-1.0" in text


def test_a_model_of_a_mixture_comes_from_each_of_its_domains(tmp_path: Path) -> None:
    run = fixture.make_run(tmp_path / "run")
    path = run / "models" / "tiny-mirror-sft" / "train_report.json"
    report = read_json(path)
    shares = {name: {"share": 0.5, "rows": 3, "of": 6} for name in ("films", "shop")}
    write_json(path, {**report, "dataset": {**report["dataset"], "subset": "films + shop", "mixture": shares}})
    model = next(model for model in find_models(Run.open(run)) if model.name == "tiny-mirror-sft")
    assert model.domains == ["films", "shop"]


def test_a_model_card_says_what_was_left_out_of_training(tmp_path: Path) -> None:
    run = fixture.make_run(tmp_path / "run", ("shop",))
    path = run / "models" / "tiny-mirror-sft" / "train_report.json"
    write_json(path, {**read_json(path), "dropped": {"train": {"over_length": 1234}, "validation": {}}})
    model = next(model for model in find_models(Run.open(run)) if model.name == "tiny-mirror-sft")
    text = (stage_model(model, tmp_path / "out", namespace="acme", tag="v1.0.0", lineage=[]) / "README.md").read_text()
    assert "- Left out of train: 1,234 over length.\n- " in text and "Left out of validation" not in text
