"""Any dataset of choices is read: whatever its columns are called, its options are, and its answers say."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_mirror import PROJECT
from hf_mirror.audit import audit
from hf_mirror.audit.columns import choices_of
from hf_mirror.audit.reading import read
from hf_mirror.errors import DataError
from hf_mirror.files import write_rows
from hf_mirror.hub import EmbeddedHub
from hf_mirror.schema import BENCH, EVENTS, ITEMS, SCENE

Rows = list[dict[str, Any]]
NOW = datetime(2001, 2, 3, tzinfo=UTC)


def questions(n: int, position: Callable[[random.Random, int], int], seed: int = 0) -> Rows:
    """Made-up multiple-choice questions: options are invented words, the truth stands where `position` says."""
    rng = random.Random(seed)
    rows = []
    for number in range(n):
        options = [f"{rng.choice('bdfgk')}{rng.choice('aeiou') * rng.randint(1, 4)}{slot}" for slot in range(4)]
        rows.append(
            {"question": f"Which {number}?", "choices": options, "answer": position(rng, 4), "user": f"u{number % 50}"}
        )
    return rows


def fair(rng: random.Random, k: int) -> int:
    return rng.randrange(k)


def before_insertion(rng: random.Random, k: int) -> int:
    """The prior art's fault: the truth's position is drawn among the negatives."""
    return rng.randrange(k - 1)


def write(path: Path, rows: Rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".csv":
        flat = [{name: json.dumps(v) if isinstance(v, list) else v for name, v in row.items()} for row in rows]
        pl.DataFrame(flat).write_csv(path)
    else:
        pl.DataFrame(rows).write_parquet(path)
    return path.parent


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_the_never_last_fault_is_found_in_a_dataset_built_with_it(tmp_path: Path, mirror: Any, kind: str) -> None:
    write(tmp_path / "fair" / f"train.{kind}", questions(500, fair))
    write(tmp_path / "faulty" / f"train.{kind}", questions(500, before_insertion))
    good, bad = (mirror("audit", tmp_path / name) for name in ("fair", "faulty"))
    assert (good.code, bad.code) == (0, 0)  # an audit that finds something has done its work
    assert "FAILED" not in good.out and "chance 25.0 %: passed" in good.out
    assert "FAILED positions" in bad.out and "the truth is never the last option" in bad.out
    told = json.loads(mirror("audit", tmp_path / "faulty", "--json").out)["train"]
    assert told["positions"]["never_last"] and told["failed"] == ["positions"]
    assert (told["scenes"], told["users"]) == (500, 50)


TEXTS = [["red", "green"], ["one", "two", "three"], ["yes", "no"]]
TRUTH = [1, 2, 0]


@pytest.mark.parametrize("option", ["choices", "options", "candidates", "endings", "exposure"])
@pytest.mark.parametrize("answer", ["gold_index", "choice_index", "answer", "label", "answer_index", "answerKey"])
def test_columns_are_known_by_their_names(option: str, answer: str) -> None:
    found = choices_of(pl.DataFrame({option: TEXTS, answer: TRUTH}), "here")
    assert found.n_options.tolist() == [2, 3, 2] and found.truth.tolist() == TRUTH
    assert found.features["text_length"][1].tolist() == [3, 3, 5]
    assert found.cluster.tolist() == [0, 1, 2] and found.gap_seconds is None and found.regime == "unknown"


LABELLED = [{"text": texts, "label": [str(i + 1) for i in range(len(texts))]} for texts in TEXTS]


@pytest.mark.parametrize(
    ("options", "answers"),
    [
        (TEXTS, TRUTH),
        (TEXTS, ["B", "C", "A"]),
        (TEXTS, [" B", "C ", "A"]),
        (TEXTS, ["1", "2", "0"]),
        (TEXTS, ["green", "three", "yes"]),
        (TEXTS, [1, 2, 0]),
        (LABELLED, ["2", "3", "1"]),  # labels are read before digits
        (LABELLED, ["green", "three", "yes"]),
        ([json.dumps(texts) for texts in TEXTS], ["B", "C", "A"]),
        ([[{"title": text, "price": 2.5} for text in texts] for texts in TEXTS], TRUTH),
        ([["A", "B"], ["A", "B", "C"], ["A", "B"]], ["B", "C", "A"]),
    ],
)
def test_options_and_answers_in_many_forms(options: Any, answers: Any) -> None:
    found = choices_of(pl.DataFrame({"choices": options, "answer": answers}), "here")
    assert found.truth.tolist() == TRUTH and found.n_options.tolist() == [2, 3, 2]


@given(st.lists(st.lists(st.text(max_size=4), min_size=1, max_size=5, unique=True), min_size=1, max_size=8), st.data())
def test_answers_by_text_are_answers_by_slot(options: list[list[str]], data: st.DataObject) -> None:
    truth = [data.draw(st.integers(0, len(texts) - 1)) for texts in options]
    by_text = [texts[slot] for texts, slot in zip(options, truth, strict=True)]
    schema = {"choices": pl.List(pl.String)}
    one = choices_of(pl.DataFrame({"choices": options, "answer": truth}, schema_overrides=schema), "here")
    two = choices_of(pl.DataFrame({"choices": options, "answer": by_text}, schema_overrides=schema), "here")
    assert one.truth.tolist() == two.truth.tolist() == truth


def test_numbers_of_options_are_features_and_their_ids_are_not() -> None:
    options = [
        [{"item_id": 7, "asof_count": 3, "source": "uniform", "repeated": True, "title": "abc", "sold": None},
         {"item_id": 8, "asof_count": 5, "source": "content", "repeated": False, "title": "d", "sold": 2.0}],
    ]  # fmt: skip
    found = choices_of(pl.DataFrame({"options": options, "label": [1]}), "here")
    assert set(found.features) == {"asof_count", "source", "title_length", "sold"}
    assert found.features["asof_count"].tolist() == [[3, 5]] and found.features["title_length"].tolist() == [[3, 1]]
    assert found.features["sold"][0][1] == 2 and found.features["sold"][0][0] != found.features["sold"][0][0]
    assert len(set(found.features["source"][0].tolist())) == 2


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        ({"text": ["a"], "target": [0]}, ["text, target", "choices", "gold_index"]),
        ({"choices": [["a", "b"]], "target": [0]}, ["choices, target", "answer"]),
        ({"choices": [["a", "b"], ["c"]], "answer": [0, 1]}, ["row 2", "1 in answer, 1 options"]),
        ({"choices": [["a", "b"]], "answer": [-1]}, ["row 1", "-1"]),
        ({"choices": [["a", "b"], ["a", "b"]], "answer": [0, None]}, ["row 2", "None"]),
        ({"choices": [["a", "b"]], "answer": ["c"]}, ["row 1", "'c'"]),
        ({"choices": [["a", "b"], []], "answer": [0, 0]}, ["row 2", "no options"]),
        ({"choices": ["a or b"], "answer": [0]}, ["JSON"]),
        ({"choices": [3], "answer": [0]}, ["Int64", "list"]),
        ({"choices": [["a", "b"]], "answer": [0.5]}, ["Float64", "slot"]),
    ],
)
def test_what_does_not_read_is_one_error_that_says_where(
    tmp_path: Path, mirror: Any, frame: Any, said: list[str]
) -> None:
    pl.DataFrame(frame).write_parquet(tmp_path / "rows.parquet")
    answer = mirror("audit", tmp_path)
    assert answer.code == 1 and answer.out == ""
    assert answer.err.count("\n") == 1
    assert all(word in answer.err for word in said), answer.err


def test_files_that_do_not_read_are_named(tmp_path: Path) -> None:
    for name, data in (("a.parquet", b"PAR1 not really"), ("b.jsonl", b'{"choices": [}'), ("c.csv", b'"a\n')):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=name):
            read(str(tmp_path / name))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds no .parquet or .jsonl or .csv file"):
        read(str(tmp_path / "empty"))
    for name in ("nowhere", "no/such/folder"):
        with pytest.raises(DataError, match="neither a folder nor a Hub dataset"):
            read(name)


def test_parts_are_named_by_folder_and_file_and_chosen_by_subset_and_split(tmp_path: Path) -> None:
    rows = questions(30, fair)
    for name in ("one/train-00000-of-00002", "one/train-00001-of-00002", "one/test", "t[w]o*/test"):
        write(tmp_path / f"{name}.parquet", rows)
    write(tmp_path / "one" / "notes.jsonl", [{"about": "nothing to choose"}])
    parts = read(str(tmp_path))
    assert {name: len(part.truth) for name, part in parts.items()} == {
        "one/train": 60,
        "one/test": 30,
        "t[w]o*/test": 30,
    }
    assert set(read(str(tmp_path), split="test")) == {"one/test", "t[w]o*/test"}
    assert set(read(str(tmp_path), subset="one", split="train")) == {"one/train"}
    with pytest.raises(DataError, match="subset three"):
        read(str(tmp_path), subset="three")


def scene(number: int, **changes: Any) -> dict[str, Any]:
    """A row of schema.SCENE; item i3 has no title, and came out after it was first seen."""
    exposure = [{"item_id": f"i{j}", "source": "uniform", "asof_count": j, "repeated": False} for j in range(4)]
    return {
        "scene_id": f"{number:032x}", "domain": "plays", "split": "test", "regime": "uniform",
        "user_id": f"u{number % 7}", "timestamp": NOW + timedelta(days=10), "gap_seconds": None,
        "truncated": False, "history": [], "exposure": exposure, "choice_index": number % 4, "prompt": [],
    } | changes  # fmt: skip


def run_folder(folder: Path, rows: Rows) -> Path:
    items = [
        {"item_id": f"i{j}", "attributes": {"title": "" if j == 3 else "x" * j, "genre": None if j == 1 else "g"},
         "available_from": NOW + timedelta(days=j)} for j in range(5)
    ]  # fmt: skip
    events = [
        {"user_id": "u", "item_id": f"i{j}", "timestamp": NOW + timedelta(days=day), "signal": {}, "positive": day == 4}
        for j in range(4) for day in (2, 4, 10)
    ]  # fmt: skip
    write_rows(folder / "plays" / "tables" / "items.parquet", items, ITEMS)
    write_rows(folder / "plays" / "tables" / "events.parquet", events, EVENTS)
    write_rows(folder / "plays" / "scenes" / "test.parquet", rows, SCENE)
    return folder


def test_a_run_folder_is_audited_with_what_its_tables_say(tmp_path: Path) -> None:
    run = run_folder(tmp_path, [scene(n) for n in range(6)])
    for part in (read(str(run))["plays/test"], read(str(run / "plays"))["test"]):
        assert part.regime == "uniform" and part.truth.tolist() == [0, 1, 2, 3, 0, 1]
        assert part.gap_seconds is not None and set(part.gap_seconds.tolist()) == {-1}
        assert len(set(part.cluster.tolist())) == 6
        first = {name: values[0].tolist() for name, values in part.features.items()}
        assert first["asof_count"] == [0, 1, 2, 3]
        assert first["title_length"] == [0, 1, 2, 0] and first["described"] == [0, 1, 1, 0]
        assert first["missing_attributes"] == [1, 1, 0, 1]
        assert first["available_days"] == [10, 9, 8, 7] and first["first_seen_days"] == [8] * 4
        assert first["positive_share"] == [0.5] * 4  # of two events before the scene; the third is at its time
        assert len(set(first["source"])) == 1


def test_the_truths_own_event_does_not_make_it_known(tmp_path: Path) -> None:
    """All items have their first event on day 2: for a scene then or before, none of them is known."""
    for day in (1, 2):
        rows = [scene(n, timestamp=NOW + timedelta(days=day)) for n in range(3)]
        part = read(str(run_folder(tmp_path / str(day), rows)))["plays/test"]
        assert np.isnan(part.features["first_seen_days"]).all() and np.isnan(part.features["positive_share"]).all()


def test_the_audit_of_a_run_without_scenes_says_too_few(tmp_path: Path, mirror: Any) -> None:
    answer = mirror("audit", run_folder(tmp_path, []))
    assert (answer.code, answer.out) == (0, "plays/test: 0 scenes of 0 users, unknown: too few to audit\n")


def test_scenes_of_several_regimes_are_several_parts(tmp_path: Path) -> None:
    rows = [scene(n, regime="uniform" if n < 4 else "content") for n in range(6)]
    parts = read(str(run_folder(tmp_path, rows)))
    assert {name: len(part.truth) for name, part in parts.items()} == {
        "plays/test (content)": 2,
        "plays/test (uniform)": 4,
    }
    assert parts["plays/test (content)"].regime == "content"


def test_variants_of_a_benchmark_scene_are_one_scene_in_its_random_order(tmp_path: Path) -> None:
    options = [{"item_key": f"k{j}", "asof_count": j, "source": "uniform"} for j in range(3)]
    rows = [
        {"scene_id": f"s{n}", "variant_id": order, "domain": "plays", "regime": "uniform", "user_cluster": f"u{n % 2}",
         "variant": {"order": order}, "options": options, "gap_seconds": 90_000, "prompt": [], "choices": list("ABC"),
         "gold_index": 2 if order == "random" else 0}
        for n in range(4) for order in ("shift 0", "random", "shift 1")
    ]  # fmt: skip
    write_rows(tmp_path / "bench" / "plays.parquet", rows, BENCH)
    for folder in (tmp_path, tmp_path / "bench"):
        (part,) = read(str(folder)).values()
        assert part.truth.tolist() == [2] * 4
        assert len(set(part.cluster.tolist())) == 2
        assert set(part.features) == {"asof_count", "asof_percentile", "category_length", "source"}


def test_a_hub_dataset_is_audited_by_its_name(tmp_path: Path) -> None:
    card = "---\nconfigs:\n" + "".join(
        f"- config_name: {name}\n  data_files:\n  - split: train\n    path: {name}/train.parquet\n"
        for name in ("good", "bad")
    )
    with EmbeddedHub(tmp_path / "hub") as hub:
        data = tmp_path / "data"
        write(data / "good" / "train.parquet", questions(400, fair))
        write(data / "bad" / "train.parquet", questions(400, before_insertion))
        (data / "README.md").write_text(card + "---\n")
        code = (
            "import sys\nfrom huggingface_hub import HfApi\nfrom hf_mirror.cli import main\n"
            f"HfApi().create_repo('me/quiz', repo_type='dataset')\n"
            f"HfApi().upload_folder(repo_id='me/quiz', repo_type='dataset', folder_path={str(data)!r})\n"
            "main(['audit', 'me/quiz', '--json'])\nmain(['audit', 'me/quiz', '--subset', 'bad', '--split', 'train'])\n"
            "main(['audit', 'me/none'])\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=120,
            env={**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "hf_any",
                 "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONPATH": str(PROJECT)},
        )  # fmt: skip
    lines = done.stdout.splitlines()
    told = json.loads(lines[0])
    assert {name: part["failed"] for name, part in told.items()} == {"good/train": [], "bad/train": ["positions"]}
    assert lines[1].startswith("bad/train: 400 scenes of 50 users") and "FAILED positions" in lines[1]
    assert done.returncode == 1 and done.stderr.strip().splitlines()[-1].startswith("error: dataset me/none")


def test_read_choices_are_audited(tmp_path: Path) -> None:
    found = audit(read(str(write(tmp_path / "rows" / "all.parquet", questions(300, fair))))["all"])
    assert found["passed"] and found["extremes"]["text_length"]["scenes"] == 300
