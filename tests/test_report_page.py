"""The report's page: every number of the report is on it, drawn to scale, in one file that needs nothing else."""

from __future__ import annotations

import copy
import json
import re
import time
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_mirror import plots
from hf_mirror.audit import Choices, audit
from hf_mirror.report_page import page

VOID = {"meta", "br", "hr", "img", "input", "link"}
CITATION = "Made-up films. https://example.org/films & more"


class Page(HTMLParser):
    """What a browser would make of it: text, tags with their attributes, and a complaint about what is not closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.tips: list[str] = []
        self.feed(str(html))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "title" and "svg" in self.open:
            self.tips.append(data)
        elif not {"style", "title"} & set(self.open):
            self.text += f" {data.strip()}" if data.strip() else ""

    def bars(self, kind: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.tags if tag == "rect" and attributes["class"] == kind]


def choices(scenes: int, k: tuple[int, int], regime: str, seed: int) -> Choices:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(k[0], k[1] + 1, scenes)
    counts = rng.geometric(0.05, (scenes, k[1])).astype(float)
    return Choices(
        sizes, (rng.random(scenes) * sizes).astype(int), np.arange(scenes) % 90, {"asof_count": counts},
        np.full(scenes, 100_000), regime,
    )  # fmt: skip


def part_of(found: Choices) -> dict[str, Any]:
    sizes = [int(k) for k in np.unique(found.n_options)]
    slots = {str(k): np.bincount(found.truth[found.n_options == k], minlength=k).tolist() for k in sizes}
    return {
        "regime": found.regime, "candidates": len(found.truth) + 31, "kept": len(found.truth),
        "dropped": {"touched_before": 24, "not_available": 7}, "truth_positions": slots,
        "sources": {found.regime: int(found.n_options.sum())},
        "n_options": {str(k): int((found.n_options == k).sum()) for k in sizes},
    }  # fmt: skip


@pytest.fixture
def report() -> dict[str, Any]:
    made = {
        "train": choices(700, (2, 12), "uniform", 1),
        "validation": choices(30, (5, 5), "uniform", 2),
        "test": choices(250, (5, 5), "popularity_matched", 3),
    }
    return {
        "domain": "films", "positive": "a rating of 4 or more", "seed": 7, "code_version": "0.1.0",
        "settings": {"scenes": 980, "regime": "uniform", "history": [2, 10]},
        "source": {
            "release": "made-up films", "licence": "CC0-1.0", "redistributable": True, "citation": CITATION,
            "files": [{"name": "ratings.dat", "sha256": "ab" * 32, "bytes": 123_456}],
        },
        "tables": {
            "read": 12_345, "kept": 12_000, "dropped": {"duplicate_row": 300, "missing_value": 45}, "users": 1_234,
            "items": 2_345, "events": 12_000, "positives": 6_789,
        },
        "splits": {
            "cut_1": "2001-01-26T00:00:00+00:00", "cut_2": "2001-03-17T00:00:00+00:00",
            "validation_minimum_relaxed": False, "users": {"train": 801, "validation": 82, "test": 183},
            "events": {"train": 8_001, "validation": 1_502, "test": 1_903},
            "positives": {"train": 4_004, "validation": 905, "test": 1_006},
            "lost": {"after_cut_1_of_a_train_user": {"users": 61, "events": 594, "positives": 211}},
            "underpowered": True,
        },
        "timeline": {
            "start": "2001-01-01T00:00:00+00:00", "end": "2001-04-11T00:00:00+00:00",
            "events": [10 * i for i in range(60)], "positives": [4 * i for i in range(60)],
        },
        "scenes": {split: part_of(found) for split, found in made.items()},
        "audits": {split: audit(found) for split, found in made.items()},
        "warnings": ["underpowered: 183 test users; results from fewer than 200 are shaky"],
    }  # fmt: skip


def test_every_number_of_the_report_is_on_the_page(report: dict[str, Any]) -> None:
    shown = Page(page(report))
    for number in (12_345, 12_000, 300, 45, 1_234, 2_345, 6_789, 801, 82, 183, 8_001, 1_502, 1_903, 4_004, 905, 1_006,
                   61, 594, 211, 24, 7, 700, 731, 250, 281, 123_456, 980):  # fmt: skip
        assert re.search(rf"(?<![\d,]){re.escape(f'{number:,}')}(?![\d,])", shown.text), number
    for word in ("films", "made-up films", "CC0-1.0", CITATION, "ab" * 32, "ratings.dat", "a rating of 4 or more",
                 "underpowered: 183 test users", "2001-01-26", "2001-03-17", "duplicate row",
                 "after cut 1 of a train user", "touched before", "popularity matched", "seed 7",
                 "[2, 10]"):  # fmt: skip
        assert word in shown.text, word
    for slots in report["scenes"]["train"]["truth_positions"].values():
        for slot, count in enumerate(slots, 1):
            assert f"{slot}: {count} truths" in shown.tips
    assert "590 events, 236 choices" in shown.tips


def test_the_audits_say_what_they_found(report: dict[str, Any]) -> None:
    shown = Page(page(report))
    test = report["audits"]["test"]
    largest = test["extremes"]["asof_count"]["largest"]
    assert f"largest {100 * largest['share']:.1f}\u00a0% ± {100 * largest['standard_error']:.1f}" in shown.text
    assert f"first {100 * test['positions']['first']['share']:.1f}\u00a0%" in shown.text
    assert shown.text.count("✓ passed") == 4  # positions of train; positions, popularity and model of test
    assert shown.text.count("· shown") == 2 and "✕" not in shown.text
    assert "30 scenes of 30 users" in shown.text and "too few scenes or users" in shown.text
    report["audits"]["test"]["checks"]["popularity"] = "failed"
    report["audits"]["test"]["positions"]["never_last"] = True
    broken = page(report)
    assert Page(broken).text.count("✕ failed") == 1 and '<span class="bad">✕ failed' in broken
    assert "the truth is never last" in Page(broken).text


def test_the_page_needs_nothing_else(report: dict[str, Any]) -> None:
    html = page(report)
    shown = Page(html)
    assert not {"script", "link", "iframe", "img", "object", "a", "use", "image"} & {tag for tag, _ in shown.tags}
    for _, attributes in shown.tags:
        assert not {"src", "href", "xlink:href", "onload", "onclick", "style"} & set(attributes)
    assert re.findall(r"https?://[^\s<&]+", html) == ["https://example.org/films"]  # text of the citation
    assert "url(" not in html and "@import" not in html
    assert "prefers-color-scheme: dark" in html and 'name="viewport"' in html


def test_widths_are_shares_so_that_a_phone_shows_them_whole(report: dict[str, Any]) -> None:
    for tag, attributes in Page(page(report)).tags:
        if tag in ("svg", "rect"):
            assert attributes["width"].endswith("%")
        if tag == "rect" and "x" in attributes:
            left, wide = (float(attributes[name][:-1]) for name in ("x", "width"))
            assert left >= 0 and left + wide <= 100.01


def test_the_page_is_a_function_of_the_report(report: dict[str, Any]) -> None:
    before = copy.deepcopy(report)
    html = page(report)
    assert report == before
    assert page(json.loads(json.dumps(report))) == html
    page(report)
    start = time.process_time()
    page(report)
    assert time.process_time() - start < 0.2  # 0.02 s on an idle core


def test_what_the_report_says_is_text_and_not_markup(report: dict[str, Any]) -> None:
    report["domain"] = "<script>alert(1)</script>"
    report["warnings"] = ["<b onclick=x>"]
    report["tables"]["dropped"] = {"<i>reason": 3}
    report["settings"] = {"<u>": "<s>"}
    report["scenes"]["train"]["sources"] = {"<em>": 5}
    report["source"]["citation"] = "<img src=https://example.org/x>"
    shown = Page(page(report))
    assert not {"script", "b", "i", "u", "s", "em", "img"} & {tag for tag, _ in shown.tags}
    assert "<i>reason" in shown.text and "<img src=" in shown.text


def test_a_build_with_next_to_nothing_has_a_page(report: dict[str, Any]) -> None:
    nothing = audit(Choices(*(np.zeros(0, int) for _ in range(3))))
    report["splits"] |= {"lost": {}, "validation_minimum_relaxed": True, "underpowered": False}
    report["tables"]["dropped"] = {}
    report["warnings"] = []
    report["timeline"] = {"start": "2001-01-26T00:00:00+00:00", "end": "2001-01-26T00:00:00+00:00", "events": [0] * 60,
                          "positives": [0] * 60}  # fmt: skip
    for split in report["scenes"]:
        report["audits"][split] = nothing
        report["scenes"][split] |= {"kept": 0, "dropped": {}, "truth_positions": {}, "sources": {}, "n_options": {}}
    shown = Page(page(report))
    assert "underpowered" not in shown.text and "validation its minimum" in shown.text
    assert shown.text.count("too few scenes or users") == 3


@pytest.mark.parametrize(
    "missing", [("tables", "read"), ("splits", "cut_1"), ("timeline", "events"), ("warnings",), ("seed",)]
)
def test_a_fact_that_is_missing_is_an_error_and_no_blank(report: dict[str, Any], missing: tuple[str, ...]) -> None:
    from jinja2 import UndefinedError

    holder = report
    for key in missing[:-1]:
        holder = holder[key]
    del holder[missing[-1]]
    with pytest.raises((KeyError, UndefinedError)):
        page(report)


def test_bars_by_hand() -> None:
    """Two series over four labels, 100 pixels for 20: the first bar is half as tall as the plot."""
    drawn = Page(plots.bars([("one", "a", [10, 0, 20, 5]), ("two", "b", [5, 5, 5, 5])], list("wxyz"), 100, 20, 4))
    assert [bar["height"] for bar in drawn.bars("one")] == ["50.0", "0.0", "100.0", "25.0"]
    assert [bar["y"] for bar in drawn.bars("one")] == ["50.0", "100.0", "0.0", "75.0"]
    assert [bar["x"] for bar in drawn.bars("one")] == ["2.75%", "27.75%", "52.75%", "77.75%"]
    assert drawn.bars("two")[0]["x"] == "12.50%" and drawn.bars("two")[0]["width"] == "9.75%"
    (line,) = [attributes for tag, attributes in drawn.tags if attributes.get("class") == "expected"]
    assert line["y1"] == line["y2"] == "80.0"
    assert drawn.tips[:2] == ["w: 10 a", "x: 0 a"] and drawn.text == " w x y z"


def test_cuts_stand_where_they_lie_in_time(report: dict[str, Any]) -> None:
    """100 days; cut 1 after 25 of them, cut 2 after 75."""
    cuts = [attributes for tag, attributes in Page(page(report)).tags if tag == "line" and attributes["class"] == "cut"]
    assert [(cut["x1"], cut["x2"]) for cut in cuts] == [("25.00%", "25.00%"), ("75.00%", "75.00%")]


@given(st.dictionaries(st.text(max_size=5), st.integers(0, 10**9), max_size=6))
def test_lying_bars_are_sorted_and_to_scale(values: dict[str, int]) -> None:
    drawn = Page(plots.counts(values)).bars("one")
    widths = [float(bar["width"][:-1]) for bar in drawn]
    top = max(values.values(), default=0) or 1
    assert widths == pytest.approx([100 * value / top for value in sorted(values.values(), reverse=True)], abs=0.01)


@given(st.floats(1e-6, 1e12))
def test_an_axis_ends_at_one_digit_just_above(value: float) -> None:
    end = plots.round_up(value)
    assert value <= end * (1 + 1e-6) and end <= 2.0001 * value
    assert f"{end:.0e}"[0] in "123456789" and float(f"{end:.0e}") == pytest.approx(end)


def test_a_table_by_hand() -> None:
    html = plots.table(("name", "n"), [[["✕ bad", "more"], 1_234], ["<b>", 5]])
    shown = Page(html)
    assert shown.text == " name n ✕ bad more 1,234 <b> 5"
    assert [tag for tag, _ in shown.tags].count("small") == 1
    assert plots.number(1_234) == "1,234" and plots.number(0.2034) == "20.3\u00a0%"
