"""What every builder in dataset_builders/ offers. A new one is tested by being there."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hf_mirror import PROJECT, domains, tables
from hf_mirror.errors import DataError
from hf_mirror.files import read_json, read_rows
from hf_mirror.prompts import LABELS
from hf_mirror.splits import SPLITS

BUILDERS = sorted(path for path in (PROJECT / "dataset_builders").glob("*.py") if path.stem != "__init__")
FIXTURES = PROJECT / "tests" / "fixtures"


def layouts(name: str) -> list[Path]:
    """The raw folders of made-up rows of a builder: tests/fixtures/<name>/, or each folder in it."""
    folder = FIXTURES / name
    return sorted(path for path in folder.iterdir() if path.is_dir()) or [folder]


CASES = [(path.stem, folder) for path in BUILDERS if (FIXTURES / path.stem).is_dir() for folder in layouts(path.stem)]
builder = pytest.mark.parametrize("path", BUILDERS, ids=lambda path: path.stem)
fixture = pytest.mark.parametrize(("name", "raw_rows"), CASES, ids=lambda value: getattr(value, "name", value))


@builder
def test_it_is_found_by_its_name(path: Path) -> None:
    domain = domains.load(path.stem)
    assert domain.name == path.stem
    assert domain.name in domains.available()
    assert domain.positive and callable(domain.detect) and callable(domain.load)
    assert domain.template == path.with_suffix(".jinja").read_text(encoding="utf-8")


@builder
def test_its_docstring_has_the_source_and_a_literal_row(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert re.search(r"https?://\S+", docstring)
    assert "row" in docstring and re.search(r"`[^`]{6,}`|\n    \S+", docstring)


@builder
def test_it_has_made_up_rows(path: Path) -> None:
    folder = FIXTURES / path.stem
    assert folder.is_dir(), f"put a few made-up rows into tests/fixtures/{path.stem}/"
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 100_000


@builder
def test_it_refuses_a_folder_that_is_not_its_own(path: Path, tmp_path: Path) -> None:
    (tmp_path / "something.txt").write_text("else")
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError) as caught:
            domains.load(path.stem).detect(folder)
        assert str(folder) in str(caught.value)


@fixture
def test_detect_names_a_release_and_its_files(name: str, raw_rows: Path) -> None:
    source = domains.load(name).detect(raw_rows)
    assert source.release and source.licence and isinstance(source.redistributable, bool)
    assert source.files and all(file.is_file() and raw_rows in file.parents for file in source.files)
    names = [file.relative_to(raw_rows).as_posix() for file in source.files]
    assert len(set(names)) == len(names), "a report names files by their paths below the raw folder"
    assert not any(".." in name for name in names)


@fixture
def test_its_tables_account_for_every_row(name: str, raw_rows: Path) -> None:
    domain = domains.load(name)
    source = domain.detect(raw_rows)
    loaded = domain.load(raw_rows, source)
    assert loaded.read == loaded.events.height + sum(loaded.dropped.values()) > 0
    log = tables.prepare(domain, raw_rows, source)
    assert log.read == loaded.read == log.events.height + sum(log.dropped.values())
    signal = log.events.select(tables.as_json(log.events, "signal")).to_series()
    for column in (log.items["attributes"], log.users["profile"], signal):
        assert column.len() and all(isinstance(json.loads(text), dict) for text in column)
    assert all("title" in json.loads(text) for text in log.items["attributes"])
    # To call every event a choice is right only where all of them say the same, as in a log of clicks.
    positives = log.events["positive"].sum()
    assert 0 < positives <= log.events.height
    assert (positives == log.events.height) == (signal.n_unique() == 1)


@fixture
def test_its_remarks_are_fields_of_the_signal_by_row(name: str, raw_rows: Path) -> None:
    domain = domains.load(name)
    loaded = domain.load(raw_rows, domain.detect(raw_rows))
    assert (loaded.remarks is not None) == ("row" in loaded.events.columns)
    if loaded.remarks is None:
        return
    remarks = loaded.remarks.collect()
    assert loaded.events["row"].is_unique().all() and remarks["row"].is_unique().all()
    assert loaded.events["row"].is_in(remarks["row"].implode()).all()
    assert not set(remarks.columns) & {field.name for field in loaded.events.schema["signal"].fields}


@fixture
def test_its_fixture_builds(name: str, raw_rows: Path, mirror: Callable[..., Any], tmp_path: Path) -> None:
    given = ("--raw", raw_rows, "--out", tmp_path, "--scenes", 20, "--regime", "uniform")
    answer = mirror("build", name, *given, "--json")
    assert answer.code == 0, answer.err
    report = json.loads(answer.out)[name]
    assert report == read_json(tmp_path / name / "report.json")
    assert report["tables"]["read"] == report["tables"]["kept"] + sum(report["tables"]["dropped"].values())
    assert report["scenes"]["train"]["kept"] > 0
    for split in SPLITS:
        part = report["scenes"][split]
        assert part["candidates"] == part["kept"] + sum(part["dropped"].values())
        rows = read_rows(tmp_path / name / "scenes" / f"{split}.parquet")
        assert len(rows) == part["kept"]
        for row in rows:
            text = row["prompt"][0]["content"]
            assert text == text.strip()
            assert "None" not in text and "undefined" not in text.lower()
            letters = [line[0] for line in text.splitlines() if re.match(r"[A-Z]\. ", line)]
            assert letters == list(LABELS[: len(row["exposure"])])
