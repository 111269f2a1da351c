"""The logged regime: what was shown is what is offered, recomputed from the raw lines of a made-up MIND."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy import stats

from hf_mirror import build, domains, impressions, rows, scenes, tables, world
from hf_mirror.errors import ConfigError
from hf_mirror.exposure import NOTHING, REGIMES
from hf_mirror.scenes import Sizes
from hf_mirror.world import World

small = domains.import_file(Path(__file__).parent / "small_logs.py")

SECRET = b"l" * 32
UNLIKELY = 1e-4
LINE = re.compile(r"(\d+)\t(U\d+)\t(.+) ([AP])M\t(.*)\t(.*)")
WithFault = Callable[[ModuleType, str, str], ModuleType]


class Shown(NamedTuple):
    """One line of behaviors.tsv."""

    user: str
    time: datetime
    history: list[str]
    others: set[str]
    clicked: set[str]


class News(NamedTuple):
    """A made-up MIND, as raw lines and as a world in which every event is a train event."""

    log: tables.Log
    world: World
    lines: dict[str, Shown]


def read(folder: Path) -> dict[str, Shown]:
    """The impressions of both parts by the ids that the builder gives them."""
    found = {}
    for part in ("train", "dev"):
        for line in (folder / part / "behaviors.tsv").read_text(encoding="utf-8").splitlines():
            match = LINE.fullmatch(line)
            assert match is not None
            number, user, clock, half, history, candidates = match.groups()
            time = datetime.strptime(clock, "%m/%d/%Y %H:%M:%S").replace(tzinfo=UTC)
            time = time.replace(hour=time.hour % 12 + 12 * (half == "P"))
            by_click: dict[str, set[str]] = {"0": set(), "1": set()}
            for candidate in candidates.split():
                item, click = candidate.split("-")
                by_click[click].add(item)
            found[f"{part}-{number}"] = Shown(user, time, history.split(), by_click["0"], by_click["1"])
    return found


@pytest.fixture(scope="module")
def news(tmp_path_factory: pytest.TempPathFactory) -> News:
    folder = tmp_path_factory.mktemp("news")
    _, log = small.made_up("mind", folder, seed=4, users=220, news=260)
    return News(log, World.of("mind", log, small.all_in(log)), read(folder))


def drawn(news: News, count: int = 400, sizes: Sizes = Sizes(), of: ModuleType = rows) -> list[dict[str, Any]]:  # noqa: B008
    drafts, report = scenes.draw(news.world, "train", count, "logged", SECRET, sizes)
    assert report.candidates == report.kept + sum(report.dropped.values())
    assert report.sources == {"logged": int((drafts.options != NOTHING).sum())}
    renderer = small.renderer(news.log, domains.load("mind").template)
    return of.rows(news.world, news.log, drafts, "train", "logged", renderer).to_pylist()


@pytest.fixture(scope="module")
def found(news: News) -> list[dict[str, Any]]:
    return drawn(news)


def are_as_shown(found: list[dict[str, Any]], lines: dict[str, Shown]) -> bool:
    """Whether every scene offers its click and unclicked candidates of its own impression, and says how it was cut."""
    for row in found:
        line, size = lines[row["impression_id"]], len(row["exposure"])
        offered = [option["item_id"] for option in row["exposure"]]
        truth = offered.pop(row["choice_index"])
        if (row["user_id"], row["timestamp"]) != (line.user, line.time) or truth not in line.clicked:
            return False
        if len(set(offered)) != len(offered) or not set(offered) <= line.others:
            return False
        if row["n_clicked"] != len(line.clicked) or row["truncated"] != (size < len(line.others) + 1):
            return False
        if {option["source"] for option in row["exposure"]} != {"logged"}:
            return False
    return True


def test_options_are_those_of_the_impression_without_the_other_clicks(
    news: News, found: list[dict[str, Any]], with_fault: WithFault, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(found) == 400
    assert are_as_shown(found, news.lines)
    assert sum(row["n_clicked"] > 1 for row in found) > 20
    assert {row["truncated"] for row in found} == {True, False}
    for right, wrong in (
        ("np.unique(self.items[part][~self.clicked[part]])", "np.unique(self.items[part])"),
        ("np.bincount(events[\"key\"].to_numpy())[events", "np.bincount(events[\"key\"].to_numpy())[0 * events"),
        ("pl.col(\"user\").cast(pl.String) + \" \" + pl.col(\"impression_id\")", "pl.col(\"user\").cast(pl.String)"),
    ):  # fmt: skip
        faulty = with_fault(impressions, right, wrong)
        monkeypatch.setattr(world, "Impressions", faulty.Impressions)
        other = news._replace(world=World.of("mind", news.log, small.all_in(news.log)))
        assert not are_as_shown(drawn(other), news.lines), wrong


def test_one_scene_per_click(news: News) -> None:
    every = drawn(news, 100_000)
    clicks = Counter((row["impression_id"], row["exposure"][row["choice_index"]]["item_id"]) for row in every)
    assert set(clicks.values()) == {1}
    whole = Counter(name for name, _ in clicks)
    assert all(count <= len(news.lines[name].clicked) for name, count in whole.items())
    assert sum(count > 1 for count in whole.values()) > 50


def test_a_slate_has_at_most_what_was_drawn_and_at_most_what_was_shown(news: News) -> None:
    for size in (2, 5, 26):
        for row in drawn(news, 150, Sizes(train_options=(size, size))):
            assert len(row["exposure"]) == min(size, len(news.lines[row["impression_id"]].others) + 1)


def test_a_long_impression_is_sampled_uniformly(news: News) -> None:
    """Every unclicked candidate alike, whatever its place, over many secrets."""
    long = max(range(len(news.world.time)), key=lambda event: len(news.world.impressions.unclicked(event)))
    others = news.world.impressions.unclicked(long)
    slate = REGIMES["logged"](small.batch(news.world, long, 3000, wanted=4))
    assert (slate.wanted == 4).all() and slate.complete.all()
    counts = np.array([(slate.items == item).sum() for item in others])
    assert counts.sum() == 12_000
    assert stats.chisquare(counts).pvalue > UNLIKELY


def test_history_is_first_what_has_no_time_and_then_the_clicks_before(news: News, found: list[dict[str, Any]]) -> None:
    assert histories_agree(news, found)
    assert any(past["timestamp"] is None for row in found for past in row["history"])
    assert any(past["timestamp"] is not None for row in found for past in row["history"])
    untimed = [past for row in found for past in row["history"] if past["timestamp"] is None]
    assert {(past["signal"], past["positive"]) for past in untimed} == {("{}", True)}


def histories_agree(news: News, found: list[dict[str, Any]]) -> bool:
    described = set(news.log.items["item_id"])
    clicks = defaultdict(list)
    for line in news.lines.values():
        clicks[line.user] += [(line.time, item) for item in line.clicked]
    for row in found:
        line = news.lines[row["impression_id"]]
        past: list[tuple[datetime | None, str]] = [(None, item) for item in line.history if item in described]
        past += sorted((time, item) for time, item in clicks[line.user] if time < line.time)
        shown = [(entry["timestamp"], entry["item_id"]) for entry in row["history"]]
        tail = past[len(past) - len(shown) :]
        # What was clicked at one time has no order of its own.
        if [time for time, _ in shown] != [time for time, _ in tail] or not set(shown) <= set(past):
            return False
        if len(past) < 2 or not 2 <= len(shown) <= 10:
            return False
        timed = [entry for entry in row["history"] if entry["timestamp"] is not None]
        gap = row["gap_seconds"]
        before = [time for time, _ in clicks[line.user] if time < line.time]
        if gap != ((line.time - max(before)).total_seconds() if before else None) or (timed and not before):
            return False
    return True


def test_wrong_histories_are_noticed(news: News, with_fault: WithFault) -> None:
    right = "row, item, event = memory(world, drafts)\n"
    for wrong in ("row, item, event = memory(world, drafts); event = np.abs(event)\n",
                  "row, item, event = memory(world, drafts); item = item[::-1]\n"):  # fmt: skip
        assert not histories_agree(news, drawn(news, of=with_fault(rows, right, wrong)))


def test_repeats_are_kept_and_flagged(news: News) -> None:
    flags = []
    own = defaultdict(list)
    for line in news.lines.values():
        own[line.user].append(line)
    for row in drawn(news, 1500):
        line = news.lines[row["impression_id"]]
        met = set(line.history).union(*(other.clicked for other in own[line.user] if other.time < line.time))
        flags += [(option["repeated"], option["item_id"] in met) for option in row["exposure"]]
    assert all(one == two for one, two in flags)
    assert sum(one for one, _ in flags) > 10


def test_the_truth_is_in_every_slot_alike(news: News) -> None:
    drafts, _ = scenes.draw(news.world, "train", 100_000, "logged", SECRET, Sizes(train_options=(4, 4)))
    slots = drafts.choice_index[drafts.n_options == 4]
    assert len(slots) > 1000
    assert stats.chisquare(np.bincount(slots)).pvalue > UNLIKELY


# By hand.

QUIET = [("v", "old", 1, 5), ("u", "one", 2, 5), ("u", "two", 3, 5)]


def report_of(*events: Any, **given: Any) -> tuple[scenes.SplitReport, list[list[str]]]:
    of = small.world_of(small.prepared([*QUIET, *events], **given))
    drafts, report = scenes.draw(of, "train", 100, "logged", SECRET, Sizes(train_options=(5, 5)))
    return report, [sorted(of.items[i] for i in options if i != NOTHING) for options in drafts.options.tolist()]


TITLES = {name: {"title": name} for name in ("old", "one", "two", "a", "b", "c")}


def test_what_cannot_be_a_scene_is_counted() -> None:
    report, slates = report_of(
        ("u", "a", 10, 5, "q1", ["a", "b"]),
        ("u", "b", 11, 5, "q2", ["b"]),  # nothing else was shown
        ("u", "c", 12, 5, "q3", ["c", "nowhere described"]),
        ("u", "bare", 13, 5, "q4", ["bare", "a"]),
        ("u", "c", 14, 5, "q5", ["c", "bare"]),
        ("u", "a", 15, 5),  # no impression
        ("u", "a", 16, 5, None, ["a", "c"]),  # one without an id
        items={**TITLES, "bare": {"title": None}},
    )
    assert sorted(slates) == [["a", "b"], ["a", "c"]]
    assert report.dropped == {
        "too_little_history": 3, "nothing_else_shown": 2, "option_without_attributes": 2, "without_attributes": 1
    }  # fmt: skip
    assert report.candidates == report.kept + sum(report.dropped.values())


def test_an_impression_is_its_users_own() -> None:
    """Two people have an impression of the same id: each has their own clicks."""
    shown = ["a", "b", "c"]
    report, slates = report_of(
        ("u", "a", 10, 5, "q", shown), ("v", "b", 10, 5, "q", shown), items=TITLES, histories={"v": ["one"]}
    )
    assert slates == [shown, shown] and report.kept == 2


def test_a_domain_without_impressions_has_no_logged_scenes(
    raw: Path, movielens: domains.Domain, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="impressions"):
        build.build(movielens, raw, tmp_path, build.BuildSettings(scenes=10, regime="logged"))
    assert not (tmp_path / "movielens").exists()
