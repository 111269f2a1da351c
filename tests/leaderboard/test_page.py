"""The page in a real browser, from its file: what it shows is what the results files say."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest

from hf_mirror.domains import import_file
from hf_mirror.leaderboard import board, from_files, write_site

browser_room = import_file(Path(__file__).parent / "browser.py")
if browser_room.PROGRAM is None:
    pytest.skip("no Chromium here; apt-get install chromium-headless-shell", allow_module_level=True)

HOSTILE = "acme/</script><img src=x onerror=document.title='taken'>&amp;evil"
ROW = ".entry .name .name"


@pytest.fixture(scope="module")
def folder(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results, with one file cut in half and one whose author tries to get into the page."""
    folder = tmp_path_factory.mktemp("page") / "results"
    shutil.copytree(results, folder)
    whole = (folder / "big" / "news.json").read_bytes()
    (folder / "big" / "cut.json").write_bytes(whole[: len(whole) // 2])
    hostile = json.loads(whole) | {"model": HOSTILE, "subset": "news", "hardware": {"device": "<b>bold</b>"}}
    hostile["twins"] = {"<img src=x onerror=alert(1)>": hostile["twins"]["none-full-random"]}
    hostile["groups"] = {"__proto__": hostile["groups"]["gap"], "constructor": hostile["groups"]["gap"]}
    probe = json.loads((folder / "big" / "films.json").read_text()) | {"regime": "memorised"}
    (folder / "big" / "probe.json").write_text(json.dumps(probe))
    (folder / "hostile").mkdir()
    (folder / "hostile" / "news.json").write_text(json.dumps(hostile))
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> Path:
    write_site(board(from_files([folder])), folder.parent / "site")
    return folder.parent / "site" / "index.html"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    running = browser_room.Browser(tmp_path_factory.mktemp("profile"))
    yield running
    running.close()


@pytest.fixture
def browser(running: Any, page: Path) -> Any:
    """The page, just opened in a wide light window."""
    running.window(1280, 900)
    running.open(page)
    assert running.problems == []
    return running


def shown(browser: Any, column: str) -> list[str]:
    """The numbers of a column of model rows, top to bottom, in the first block."""
    cells = f"#board tbody:nth-of-type(1) .model > .{column}"
    return browser.run(f"[...document.querySelectorAll('{cells}')].map(e => e.innerText.split('\\n')[0].trim())")


def test_it_shows_what_the_results_files_say(browser: Any, folder: Path) -> None:
    rows = browser.run(
        """[...document.querySelectorAll("#board tbody")].flatMap(body =>
             [...body.querySelectorAll(".entry.model")].map(row => [
             body.querySelector(".title").textContent, ...["span.name", ".accuracy .number", ".accuracy small",
               ".log_loss .number", ".log_loss small", ".centred", ".flips", ".coverage"]
             .map(name => row.querySelector(name).textContent)]))"""
    )
    expected = []
    for path in folder.rglob("*.json"):
        if path.name in ("cut.json", "probe.json") or path.parent.name in ("ease", "hostile"):
            continue
        found = json.loads(path.read_text())
        accuracy, loss, centred = (found["scores"][n] for n in ("accuracy", "log_loss", "chance_centred_accuracy"))
        expected.append(
            [f"{found['subset']} · {found['regime']} · {found['mode']}", found["model"],
             percent(accuracy["value"]), f"{percent(accuracy['low'])} – {percent(accuracy['high'])}",
             rounded(loss["value"], 3), f"{rounded(loss['low'], 3)} – {rounded(loss['high'], 3)}",
             f"{percent(centred['value'])} {percent(centred['low'])} – {percent(centred['high'])}",
             percent(found["position"]["flip_rate"]), percent(found["coverage"])]
        )  # fmt: skip
    assert len(expected) == 11
    assert sorted(row for row in rows if "script" not in row[1]) == sorted(expected)


def rounded(value: float, digits: int) -> str:
    """As a reader rounds: halves away from zero."""
    return str(Decimal(value).quantize(Decimal(10) ** -digits, ROUND_HALF_UP)).replace("-", "−")


def percent(value: float) -> str:
    return rounded(100 * value, 1)


def test_it_sorts_within_blocks_by_buttons(browser: Any) -> None:
    def order(column: str, read: Any = float) -> list[Any]:
        browser.run(f"document.querySelector('#board thead .{column} button').click()")
        return [read(text.split()[0]) for text in shown(browser, column)]

    assert (up := [float(text.split()[0]) for text in shown(browser, "log_loss")]) == sorted(up)  # as it opens
    assert (down := order("accuracy")) == sorted(down, reverse=True) and len(set(down)) > 1
    assert browser.run("document.querySelector('thead .accuracy').ariaSort") == "descending"
    assert (up := order("accuracy")) == sorted(up)
    assert browser.run("document.querySelector('thead .accuracy').ariaSort") == "ascending"
    assert browser.run("document.querySelector('thead .log_loss').ariaSort") == "none"
    assert (names := order("name", str)) == sorted(names, key=str.lower)
    order("size", str)
    sizes = shown(browser, "size")
    assert sizes == ["7.24 B", "494 M", "1.1 M"]
    assert browser.run("document.querySelectorAll('.title').length") == 5  # no row left its block
    browser.run("document.querySelector('.entry.model .open').click()")
    order("name", str)
    order("name", str)
    opened = "document.querySelector('.open[aria-expanded=true]')"
    assert browser.run(f"{opened}.closest('tr').nextSibling.id === {opened}.getAttribute('aria-controls')")
    assert len(browser.texts(".panel")) == 1


def test_it_filters(browser: Any) -> None:
    everything = browser.texts(ROW)
    browser.choose("#baselines", False)
    models = browser.texts(ROW)
    assert len(models) == 12 and "chance" in everything and "chance" not in models
    browser.choose("#mode", "rationale")
    assert browser.texts(ROW) == ["acme/mirror-7b-dpo"] * 2
    assert browser.texts("#shown") == [f"2 of {len(everything)} rows"]
    browser.choose("#mode", "")
    browser.choose("#regime", "uniform")
    assert browser.texts(".title") == ["films-uniform · uniform · direct"]
    browser.choose("#size", "under 100 M")
    assert browser.texts(ROW) == ["acme/tiny-mirror"]
    browser.choose("#size", "")
    browser.choose("#search", "OTHER-lab long")
    assert browser.texts(ROW) == ["other-lab/a-model-with-quite-a-long-name-0.5B-instruct"]
    browser.choose("#search", "nobody")
    assert browser.texts(ROW) == [] and browser.texts("#empty") == ["No row is left by these filters."]


def test_a_row_opens_by_the_keyboard(browser: Any) -> None:
    assert browser.texts(".panel") == []
    for _ in range(40):
        browser.press("Tab")
        if browser.run("document.activeElement.className") == "open":
            break
    assert browser.run("document.activeElement.innerText").endswith("acme/mirror-7b-dpo")
    outline = browser.run("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"  # the focus is seen
    browser.press("Enter")
    assert browser.run("document.activeElement.ariaExpanded") == "true"
    assert browser.run("document.getElementById(document.activeElement.getAttribute('aria-controls')).hidden") is False
    heads = browser.texts(".panel h3")
    assert heads == [
        "Scores",
        "Calibration",
        "Position",
        "Groups",
        "Twins",
        "Failures and coverage",
        "Tastes",
        "Memorised",
        "Made from",
    ]
    browser.press("Enter")
    assert browser.run("document.activeElement.ariaExpanded") == "false" and browser.texts(".panel") == []
    browser.press("Tab")
    browser.run("document.querySelector('thead .coverage button').focus()")
    browser.press("Enter")
    assert browser.run("document.querySelector('thead .coverage').ariaSort") == "descending"


def test_an_open_row_says_what_its_file_says(browser: Any, folder: Path) -> None:
    found = json.loads((folder / "big" / "films.json").read_text())
    browser.run("document.querySelector('.entry.model .open').click()")
    text = re.sub(r"\s+", " ", browser.texts(".panel")[0])
    for value in (
        f"Brier score {rounded(found['scores']['brier']['value'], 3)}",
        f"ECE top-label {percent(found['calibration']['5']['ece_top_label'])} %",
        f"K = 5, CKLD {rounded(found['position']['ckld']['5'], 3)}",
        f"low {percent(found['groups']['popularity']['low']['accuracy']['value'])}",
        "worst: >=1d, 8.0 points behind the best",
        "too_long 12",
        "transformers float32",
        "acme/mirror-bench@76543210fedc",
        "of 40 items chance 20.0 %",
    ):
        assert value in text, value
    swapped = found["twins"]["swapped:random-full-random"]
    assert f"history of a random user {percent(swapped['accuracy']['value'])}" in text
    assert browser.run("document.querySelectorAll('.calibration circle').length") == 8
    heights = browser.run("[...document.querySelectorAll('.position .bar')].map(e => e.height.baseVal.value)")
    share = found["position"]["choice_share"]["5"]
    assert [h / sum(heights) for h in heights] == pytest.approx(share, abs=1e-3)
    links = browser.run("[...document.querySelectorAll('.panel a')].map(e => e.href)")
    assert links and all(link.startswith("https://huggingface.co/") for link in links)


def test_whiskers_of_a_block_have_one_scale_with_chance_marked(browser: Any, folder: Path) -> None:
    places = browser.run(
        """[...document.querySelectorAll("#board tbody:nth-of-type(1) .entry")].map(row => [
             row.querySelector("span.name").textContent, ...[[".dot", "cx"], [".chance", "x1"]]
             .map(([name, at]) => parseFloat(row.querySelector(`.accuracy ${name}`).getAttribute(at)))])"""
    )
    dots, chance = {name: dot for name, dot, _ in places}, {mark for *_, mark in places}
    assert chance == {dots["chance"]}
    value = {
        n: json.loads((folder / n / "films.json").read_text())["scores"]["accuracy"]["value"] for n in ("big", "small")
    }
    unit = (dots["acme/mirror-7b-dpo"] - dots["chance"]) / (value["big"] - 0.2)
    assert dots["acme/tiny-mirror"] == pytest.approx(dots["chance"] + unit * (value["small"] - 0.2), abs=0.05)


def test_what_a_stranger_wrote_stays_text(browser: Any) -> None:
    buttons = "[...document.querySelectorAll('.open')]"
    browser.run(f"{buttons}.forEach(b => b.click())")
    assert browser.run("document.querySelectorAll('img, b b, iframe').length") == 0
    assert browser.run("document.title") == "Mirror leaderboard"
    name = browser.run(f"{buttons}.map(b => b.innerText).find(t => t.includes('script'))")
    assert "<img src=x onerror=document.title='taken'>&amp;" in name
    text = browser.run("document.body.innerText")
    assert "<b>bold</b>" in text and "constructor" in text and "<img src=x onerror=alert(1)>" in text
    assert browser.problems == []  # nothing was refused by the policy either, nothing was asked for
    assert "cut.json rejected: not JSON, or cut in half" in text


def test_it_fits_a_phone_and_has_dark_colours(browser: Any, page: Path) -> None:
    def colours() -> list[str]:
        return browser.run("['backgroundColor', 'color'].map(n => getComputedStyle(document.body)[n])")

    light = colours()
    browser.window(1280, 900, dark=True)
    dark = colours()
    assert all(a != b for a, b in zip(light, dark, strict=True))
    for width in (320, 390, 768, 1024):
        browser.window(width, 844, phone=width < 700)
        browser.open(page)
        browser.run("document.querySelectorAll('.entry.model .open')[0].click()")
        wide, window = browser.run("[document.documentElement.scrollWidth, innerWidth]")
        assert wide <= window == width
    assert browser.problems == []


def test_a_board_without_results_and_one_of_a_single_user(running: Any, made_up: Any, tmp_path: Path) -> None:
    write_site(
        {"endpoint": "https://huggingface.co", "blocks": [], "rejected": [], "n_rejected": 0}, tmp_path / "empty"
    )
    rows = made_up.rows(1, 1, "films", "uniform")
    found = made_up.result("acme/one", rows, made_up.answers(rows, 1.0, 0.0, 0))
    (tmp_path / "films.json").write_text(json.dumps(found))
    write_site(board(from_files([tmp_path / "films.json"])), tmp_path / "one")
    running.window(1280, 900)
    running.open(tmp_path / "empty" / "index.html")
    assert running.problems == [] and running.texts("#shown") == ["0 of 0 rows"]
    running.open(tmp_path / "one" / "index.html")
    assert running.texts(".entry.model .log_loss small") == ["–"]
    assert running.texts(".entry.model .rank") == ["1–4"]
    running.run("document.querySelectorAll('.open').forEach(button => button.click())")
    assert len(running.texts(".panel")) == 4 and running.problems == []
