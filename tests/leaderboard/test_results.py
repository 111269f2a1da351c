"""Results files that are taken in, and files that are not; ranks; the page's files."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_mirror.errors import DataError
from hf_mirror.files import write_json
from hf_mirror.leaderboard import Statuses, board, from_files, write_site
from hf_mirror.leaderboard.ranks import rank_sets
from hf_mirror.leaderboard.text import table
from hf_mirror.result_schema import RESULT, read


@pytest.fixture(scope="module")
def found(results: Path) -> dict[str, Any]:
    return json.loads((results / "big" / "films.json").read_text())


def test_a_good_file_passes_unchanged(found: dict[str, Any]) -> None:
    assert read(json.dumps(found).encode()) == {name: value for name, value in found.items() if value is not None}
    assert set(found) <= set(RESULT)
    assert "unknown" not in read(json.dumps(found | {"unknown": "<b>", "dtype": None}).encode())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"scores": None}, "lacks scores"),
        ({"subset": None}, "lacks subset"),
        ({"failures": None}, "lacks failures, which only a baseline's results may"),
        ({"predictions_sha256": None}, "lacks predictions_sha256, which only a baseline's results may"),
        ({"mode": "dreaming"}, "mode is 'dreaming'"),
        ({"model": "a\u202eb"}, r"model is 'a\u202eb'"),
        ({"model": "a\ud800"}, r"model is 'a\ud800'"),
        ({"versions": {"a\u2066": "1"}}, r"versions has the name 'a\u2066'"),
        ({"position": {"ckld": {"five": 1}}}, "position.ckld has the name 'five'"),
        ({"baseline": {}}, "baseline lacks name"),
        ({"failures": {"no_answer": 0}}, "failures.no_answer is 0"),
        ({"n_scenes": 3, "n_clusters": 9}, "3 scenes of 9 users cannot be"),
        ({"coverage": 1.5}, "coverage is 1.5, not a share"),
        ({"seconds": float("inf")}, "seconds is not a finite number"),
        ({"model": "x" * 301}, f"model is '{'x' * 59}"),
        ({"n_scenes": True}, "n_scenes is not a count"),
        ({"twins": {str(i): {} for i in range(201)}}, "twins has 201 names, more than 200"),
        ({"position": {"choice_share": {"5": [0.1] * 201}}}, "position.choice_share.5 is not a list of at most 200"),
        ({"popularity_lift": {"value": 0.5, "low": 0.6, "high": 0.4}},
         "popularity_lift is an interval whose ends are the wrong way round"),
        ({"popularity_lift": {"value": 0.5, "low": None}}, "popularity_lift is not {value, low, high}"),
        ({"popularity_lift": {"value": 0.5, "low": None, "high": 1}}, "popularity_lift is not a finite number"),
        ({"scores": {"accuracy": {"value": 0.5, "low": None, "high": None}}}, "scores lacks log_loss"),
        ({"baselines": {}}, "baselines lacks chance"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_one_line(found: dict[str, Any], change: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError) as caught:
        read(json.dumps(found | change).encode())
    assert str(caught.value) == reason


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(name=st.sampled_from(sorted(RESULT)), value=ODD)
@settings(max_examples=60, deadline=None)
def test_odd_values_are_refused_or_shown_and_never_a_crash(found: dict[str, Any], name: str, value: Any) -> None:
    try:
        passed = read(json.dumps(found | {name: value}).encode())
    except DataError as problem:
        assert "\n" not in str(problem)
    else:
        json.dumps(passed, allow_nan=False)


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"[]", b"[" * 100_000, b'{"seed": ' + b"9" * 5000 + b"}", b"3"])
def test_what_is_no_results_file_at_all(data: bytes) -> None:
    with pytest.raises(DataError, match=r"not JSON|not a JSON object"):
        read(data)


def test_a_field_nested_as_deep_as_json_goes_is_one_line(found: dict[str, Any]) -> None:
    rest = json.dumps({name: value for name, value in found.items() if name != "mode"})[1:]
    for depth in range(800, 1_000, 3):
        with pytest.raises(DataError, match=r"^(mode is not a text|not JSON, or cut in half)$"):
            read(f'{{"mode": {"[" * depth}{"]" * depth}, {rest}'.encode())


def test_a_file_that_fills_the_page_is_refused(found: dict[str, Any]) -> None:
    group = found["groups"]["gap"]["first"]
    many = {f"dimension {i}": {f"group {j}": group for j in range(40)} for i in range(40)}
    with pytest.raises(DataError, match=r"characters, more than 200,000"):
        read(json.dumps(found | {"groups": many}).encode())


def test_only_broken_results_are_one_line(tmp_path: Path, mirror: Callable[..., Any]) -> None:
    (tmp_path / "cut.json").write_text('{"baselines": {"chance"')
    done = mirror("leaderboard", tmp_path / "cut.json")
    assert done.code == 1 and done.err.count("\n") == 1
    assert "cut.json: not JSON, or cut in half; run `mirror evaluate` first" in done.err


def test_rank_sets_by_hand() -> None:
    def score(low: float | None, high: float | None) -> dict[str, float | None]:
        return {"value": 1.0, "low": low, "high": high}

    # The first is better than the third and fourth; the second overlaps the first and third; the last has no interval.
    losses = [score(1.0, 1.2), score(1.1, 1.4), score(1.3, 1.5), score(1.6, 1.7), score(None, None)]
    ranks = rank_sets(dict(enumerate(losses)), [], {})
    assert list(ranks.values()) == [(1, 3), (1, 4), (2, 4), (4, 5), (1, 5)]
    assert rank_sets({}, [], {}) == {}


def test_the_same_scenes_tell_apart_what_intervals_do_not(made_up: ModuleType) -> None:
    rows = made_up.rows(60, 30, "films", "uniform")
    plain = made_up.answers(rows, 0.5, 0.0, 1)
    sharper = [[p**1.1 / sum(q**1.1 for q in probs) for p in probs] for probs in plain]  # a little better everywhere?
    found = [made_up.result("a/b", rows, probs)["scores"]["log_loss"] for probs in (plain, sharper)]
    assert list(rank_sets(dict(enumerate(found)), [], {}).values()) == [(1, 2), (1, 2)]
    best = min((0, 1), key=lambda place: found[place]["value"])
    ranks = rank_sets(dict(enumerate(found)), rows, {0: plain, 1: sharper})
    assert ranks[best] == (1, 1) and ranks[1 - best] == (2, 2)


def test_the_same_results_give_the_same_bytes(results: Path, tmp_path: Path, contents: Callable[..., Any]) -> None:
    folders = sorted(path for path in results.iterdir())
    write_site(board(from_files(folders)), tmp_path / "one")
    write_site(board(from_files(folders[::-1])), tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert set(contents(tmp_path / "one")) >= {"index.html", "board.json", "board-data.js"}
    data = (tmp_path / "one" / "board-data.js").read_bytes()
    assert data.isascii() and b"<" not in data
    text = json.loads(data.removeprefix(b"window.BOARD_JSON = ").removesuffix(b";\n"))
    assert text + "\n" == (tmp_path / "one" / "board.json").read_text()


def test_baselines_stand_in_both_modes_and_blocks_apart(results: Path) -> None:
    blocks = board(from_files([results]))["blocks"]
    assert [(block["subset"], block["mode"]) for block in blocks] == [
        ("films", "direct"), ("films", "rationale"), ("films-uniform", "direct"), ("news", "direct"),
        ("news", "rationale"),
    ]  # fmt: skip
    for block in blocks:
        names = [entry["name"] for entry in block["entries"] if entry["kind"] == "baseline"]
        assert sorted(names) == ["chance", "ease (full past)", "popularity", "position-only"]
    found = json.loads((results / "small" / "films.json").read_text())
    tiny = next(entry for entry in blocks[0]["entries"] if entry["name"] == "acme/tiny-mirror")
    assert tiny["scores"] == found["scores"] and tiny["twins"] == found["twins"]


def test_the_command_shows_files_and_writes_the_page(results: Path, tmp_path: Path, mirror: Callable[..., Any]) -> None:
    (tmp_path / "cut.json").write_text('{"baselines": {"chance"')
    done = mirror("leaderboard", results, tmp_path / "cut.json", "--out", tmp_path / "site")
    assert done.code == 0, done.err
    assert "films · uniform · direct" in done.out and "rejected: cut.json: not JSON, or cut in half" in done.out
    assert done.out.rstrip().endswith(f"page: {tmp_path / 'site' / 'index.html'}")
    assert (tmp_path / "site" / "board.js").is_file()


def test_tables_of_the_same_name_say_whose_rows_they_are(found: dict[str, Any]) -> None:
    other = found | {"bench": "runs/mine/bench", "bench_revision": "sha256:" + "a" * 64}
    assert "rows of" not in table([found])
    shown = table([found, other])
    assert f"\nrows of acme/mirror-bench@v1.0.0 ({found['bench_revision'][:17]})\n " in shown
    assert "\nrows of runs/mine/bench (sha256:aaaaaaaaaa)\n " in shown


def test_a_table_says_why_rows_were_not_answered(found: dict[str, Any]) -> None:
    assert "not answered" not in table([found | {"failures": {}}])
    shown = table([found | {"model": "here/or/there/short", "failures": {"over_length": 1200}}])
    assert "not answered: short, films · popularity_matched · direct: 1,200 rows, over_length (the prompt is" in shown


def test_results_of_one_user_have_no_intervals_and_are_shown(
    made_up: ModuleType, tmp_path: Path, mirror: Callable[..., Any]
) -> None:
    of = made_up.rows(10, 1, "films", "uniform")
    write_json(tmp_path / "films.json", made_up.result("acme/one", of, made_up.answers(of, 0.5, 0.0, 1)))
    done = mirror("leaderboard", tmp_path)
    assert done.code == 0, done.err
    assert "10 scenes of 1 users (underpowered)" in done.out and "underpowered: fewer than 200 users." in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give either results of `mirror evaluate` or --namespace NS"),
        (("somewhere", "--namespace", "acme"), "give either results"),
        (("somewhere", "--publish"), "--publish and --verifications go with --namespace"),
        (("--namespace", "acme", "--tag", "v1.0.0"), "--tag goes with --publish"),
    ],
)
def test_wrong_usage_is_one_line(mirror: Callable[..., Any], arguments: tuple[str, ...], message: str) -> None:
    done = mirror("leaderboard", *arguments)
    assert done.code == 2 and message in done.err and done.err.count("\n") == 1


def test_only_a_verification_of_these_predictions_counts(found: dict[str, Any], tmp_path: Path) -> None:
    line = {name: found[name] for name in ("model", "subset", "mode", "predictions_sha256")}
    write_json(tmp_path / "a.json", [line | {"commit": "1", "status": "verified"}])
    write_json(tmp_path / "b.json", [line | {"commit": "2", "status": "re-scored"}])
    statuses = Statuses.read(tmp_path)
    assert statuses.of(found["model"], found, lambda commit: True) == "verified"
    assert statuses.of(found["model"], found, lambda commit: commit == "2") == "re-scored"  # the file was changed since
    assert statuses.of(found["model"], found, lambda commit: False) == "self-reported"
    assert statuses.of(found["model"], found | {"predictions_sha256": "f" * 64}, lambda commit: True) == "self-reported"
    assert statuses.of("someone/else", found, lambda commit: True) == "self-reported"
    write_json(tmp_path / "c.json", [line | {"commit": "1", "status": "perfect"}])
    with pytest.raises(DataError, match="status 'perfect'; expected one of self-reported, re-scored, verified"):
        Statuses.read(tmp_path)


def test_a_memorisation_probe_stands_with_its_model(results: Path, found: dict[str, Any], tmp_path: Path) -> None:
    probe = found | {"subset": "films-memorised", "regime": "memorised"}
    write_json(tmp_path / "films-memorised.json", probe)
    blocks = board(from_files([results, tmp_path]))["blocks"]
    assert "films-memorised" not in {block["subset"] for block in blocks}
    of = {entry["name"]: entry.get("memorised") for block in blocks[:1] for entry in block["entries"]}
    assert of["acme/tiny-mirror"] is None
    assert of["acme/mirror-7b-dpo"] == {"accuracy": found["scores"]["accuracy"], "chance": 0.2, "n_items": 40}
    news = next(block for block in blocks if block["subset"] == "news")
    assert not any(entry.get("memorised") for entry in news["entries"])


def test_results_of_older_versions_are_shown(found: dict[str, Any], made_up: ModuleType, tmp_path: Path) -> None:
    old = copy.deepcopy(found)
    for name in ("model_parameters", "calibration", "groups", "twins", "minimum_detectable_difference"):
        del old[name]
    old["scores"] = {name: old["scores"][name] for name in ("accuracy", "log_loss")}
    write_json(tmp_path / "old.json", old)
    (block,) = board(from_files([tmp_path / "old.json"]))["blocks"]
    assert block["subset"] == "films" and block["minimum_detectable_difference"] is None
