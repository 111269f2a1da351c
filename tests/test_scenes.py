"""Scenes, each recomputed from the written tables by other code: memory, exposure, gaps, sessions, counts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import stats

from hf_mirror import identity, rows, scenes, splits
from hf_mirror.build_settings import BuildSettings
from hf_mirror.domains import import_file
from hf_mirror.exposure import NOTHING
from hf_mirror.files import read_json, read_rows, write_rows
from hf_mirror.prompts import LABELS, prompt_sha256
from hf_mirror.rendering import Renderer, ago
from hf_mirror.scenes import Drafts, Sizes
from hf_mirror.schema import SCENE

small = import_file(Path(__file__).parent / "small_logs.py")

SECRET = b"s" * 32
UNLIKELY = 1e-4
START = datetime(2001, 1, 1, tzinfo=UTC)
FIRST_MS = 978_307_200_000
Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def written(built: Path) -> Rows:
    return {name: read_rows(built / "movielens" / "scenes" / f"{name}.parquet") for name in splits.SPLITS}


@pytest.fixture(scope="module")
def everything(written: Rows) -> list[dict[str, Any]]:
    return [row for part in written.values() for row in part]


@pytest.fixture(scope="module")
def events(built: Path) -> list[dict[str, Any]]:
    return read_rows(built / "movielens" / "tables" / "events.parquet")


def test_there_are_scenes_in_every_split(written: Rows, everything: list[dict[str, Any]]) -> None:
    assert {name: len(part) for name, part in written.items()} == {"train": 160, "validation": 20, "test": 20}
    assert len({row["scene_id"] for row in everything}) == len(everything)
    for name, part in written.items():
        assert {row["split"] for row in part} == {name}
        assert [row["scene_id"] for row in part] == sorted(row["scene_id"] for row in part)


def test_memory_is_the_last_events_before_the_scene(
    everything: list[dict[str, Any]], events: list[dict[str, Any]]
) -> None:
    past = defaultdict(list)
    for event in events:
        past[event["user_id"]].append(event)
    for row in everything:
        before = [event for event in past[row["user_id"]] if event["timestamp"] < row["timestamp"]]
        shown = [{name: event[name] for name in ("item_id", "timestamp", "signal", "positive")} for event in before]
        assert row["history"] == shown[-len(row["history"]) :]
        assert min(2, len(before)) <= len(row["history"]) <= 10
        assert len(before) >= 2


def test_the_truth_is_what_the_user_chose_then(everything: list[dict[str, Any]], events: list[dict[str, Any]]) -> None:
    chosen = {(e["user_id"], e["item_id"], e["timestamp"]) for e in events if e["positive"]}
    for row in everything:
        truth = row["exposure"][row["choice_index"]]["item_id"]
        assert (row["user_id"], truth, row["timestamp"]) in chosen


def test_negatives_were_known_and_not_met_by_the_user(
    everything: list[dict[str, Any]], events: list[dict[str, Any]]
) -> None:
    for row in everything:
        until = [event for event in events if event["timestamp"] <= row["timestamp"]]
        met = {event["item_id"] for event in until if event["user_id"] == row["user_id"]}
        known = {event["item_id"] for event in until if event["timestamp"] < row["timestamp"]}
        offered = [option["item_id"] for option in row["exposure"]]
        assert len(set(offered)) == len(offered)
        assert not any(option["repeated"] for option in row["exposure"])
        del offered[row["choice_index"]]
        assert not set(offered) & met
        assert set(offered) <= known


def test_counts_are_as_of_the_scene(everything: list[dict[str, Any]], events: list[dict[str, Any]]) -> None:
    for row in everything:
        before = Counter(event["item_id"] for event in events if event["timestamp"] < row["timestamp"])
        assert [option["asof_count"] for option in row["exposure"]] == [
            before[option["item_id"]] for option in row["exposure"]
        ]


def test_gaps_and_sessions(everything: list[dict[str, Any]], events: list[dict[str, Any]]) -> None:
    for row in everything:
        times = sorted({e["timestamp"] for e in events if e["user_id"] == row["user_id"]})
        now = times.index(row["timestamp"])
        assert row["gap_seconds"] == (times[now] - times[now - 1]).total_seconds()
        start = now
        while start and times[start] - times[start - 1] <= timedelta(hours=1):
            start -= 1
        began = round(times[start].timestamp() * 1000)
        assert row["session_id"] == identity.digest("session", "movielens", row["user_id"], began)[:16]


def test_numbers_of_options_and_regimes(written: Rows, everything: list[dict[str, Any]]) -> None:
    assert {len(row["exposure"]) for row in written["train"]} == set(range(2, 13))
    for name in ("validation", "test"):
        assert {len(row["exposure"]) for row in written[name]} == {5}
    for row in everything:
        assert row["regime"] == "popularity_matched"
        assert {option["source"] for option in row["exposure"]} == {"popularity_matched"}
        assert 0 <= row["choice_index"] < len(row["exposure"])
        assert row["prompt_sha256"] == prompt_sha256(row["prompt"])
        assert (row["impression_id"], row["n_clicked"], row["truncated"]) == (None, None, False)


def test_every_positive_is_accounted_for(built: Path, written: Rows) -> None:
    report = read_json(built / "movielens" / "report.json")
    for name, part in report["scenes"].items():
        assert part["candidates"] == part["kept"] + sum(part["dropped"].values())
        assert part["candidates"] == report["splits"]["positives"][name]
        assert part["kept"] == len(written[name]) == sum(part["n_options"].values())
        assert sum(sum(slots) for slots in part["truth_positions"].values()) == part["kept"]
        assert sum(part["sources"].values()) == sum(int(size) * n for size, n in part["n_options"].items())
        assert all(n > 0 for n in part["dropped"].values())


def lengths_and_sizes(crowd: Any, split: str, sizes: Sizes) -> tuple[Counter[int], Counter[int]]:
    drafts, _ = scenes.draw(crowd.world, split, 3000, "uniform", SECRET, sizes)
    assert len(drafts) == 3000
    free = crowd.world.earlier(drafts.event) >= sizes.history[1]
    assert (drafts.shown <= crowd.world.earlier(drafts.event)).all()
    return Counter(drafts.shown[free].tolist()), Counter(drafts.n_options.tolist())


@pytest.mark.parametrize("sizes", [Sizes(), Sizes((1, 3), (3, 5), (4, 6)), Sizes((4, 4), (2, 2), (12, 12))])
def test_lengths_and_numbers_of_options_are_uniform_within_their_bounds(crowd: Any, sizes: Sizes) -> None:
    for split, bounds in (("train", sizes.train_options), ("test", sizes.evaluation_options)):
        found = lengths_and_sizes(crowd, split, sizes)
        for counts, (low, high) in zip(found, (sizes.history, bounds), strict=True):
            assert set(counts) == set(range(low, high + 1))
            assert sum(counts.values()) > 500
            assert low == high or stats.chisquare(list(counts.values())).pvalue > UNLIKELY


def test_history_length_and_number_of_options_have_nothing_to_do_with_each_other(crowd: Any) -> None:
    drafts, _ = scenes.draw(crowd.world, "train", 4000, "uniform", SECRET)
    free = crowd.world.earlier(drafts.event) >= 10
    table = np.zeros((9, 11))
    np.add.at(table, (drafts.shown[free] - 2, drafts.n_options[free] - 2), 1)
    assert stats.chi2_contingency(table).pvalue > UNLIKELY


def test_users_take_turns(crowd: Any) -> None:
    drafts, report = scenes.draw(crowd.world, "test", 900, "uniform", SECRET)
    turns = Counter(crowd.world.user[drafts.event].tolist())
    assert report.kept == 900
    assert max(turns.values()) - min(turns.values()) <= 1
    assert len(turns) > 500


def test_a_users_first_scene_is_drawn_by_lot(
    crowd: Any, with_fault: Callable[[ModuleType, str, str], ModuleType]
) -> None:
    """Not the earliest, whose memory is short: the first turn's scenes are spread over lives as all of them are."""

    def share_of_early(module: ModuleType) -> float:
        world = crowd.world
        first, _ = module.draw(world, "test", len(np.unique(world.user[world.split == 2])) - 40, "uniform", SECRET)
        every, _ = module.draw(world, "test", 100_000, "uniform", SECRET)
        middle = np.median(world.earlier(every.event))
        return float((world.earlier(first.event) < middle).mean())

    assert 0.35 < share_of_early(scenes) < 0.6
    assert share_of_early(with_fault(scenes, "by_lot = np.argsort(lot)", "by_lot = np.arange(len(lot))")) > 0.9


def by_key(drafts: Drafts) -> dict[bytes, list[Any]]:
    """Everything that is known of a draft, by its key."""
    parts = (drafts.event, drafts.shown, drafts.choice_index, drafts.n_options, drafts.options, drafts.sources,
             drafts.counts, drafts.repeated)  # fmt: skip
    size = drafts.n_options.tolist()
    return {
        drafts.key[row].tobytes(): [
            part[row, : size[row]].tolist() if part.ndim > 1 else int(part[row]) for part in parts
        ]
        for row in range(len(drafts))
    }


@pytest.mark.parametrize("regime", ["popularity_matched", "mixed", "observed"])
def test_fewer_scenes_are_a_subset_of_more(crowd: Any, regime: str) -> None:
    """The number wanted decides how many scenes there are, never what is in them."""
    found: dict[bytes, Any] = {}
    for count in (2, 40, 180, 600) if regime != "observed" else (2, 15, 60):
        drafts, report = scenes.draw(crowd.world, "train", count, regime, SECRET)
        assert report.kept == count
        assert report.candidates == report.kept + sum(report.dropped.values())
        more = by_key(drafts)
        assert found.items() <= more.items()
        found = more


def test_drafts_are_in_the_order_of_their_keys_and_beyond_their_options_is_nothing(crowd: Any) -> None:
    drafts, _ = scenes.draw(crowd.world, "train", 300, "mixed", SECRET)
    keys = [key.tobytes() for key in drafts.key]
    assert keys == sorted(keys)
    beyond = np.arange(drafts.options.shape[1]) >= drafts.n_options[:, None]
    assert (drafts.options[beyond] == NOTHING).all() and (drafts.options[~beyond] != NOTHING).all()
    rows = np.arange(len(drafts))
    assert (drafts.options[rows, drafts.choice_index] == crowd.world.item[drafts.event]).all()


@pytest.mark.parametrize("workers", [1, 2])
def test_progress_counts_scenes(crowd: Any, workers: int) -> None:
    seen: list[int] = []
    drafts, _ = scenes.draw(crowd.world, "test", 50, "uniform", SECRET)
    renderer = small.renderer(crowd.log, "{{ now }}")
    table = rows.rows(crowd.world, crowd.log, drafts, "test", "uniform", renderer, workers, seen.append)
    assert sum(seen) == len(drafts) == table.num_rows == 50


def test_splits_get_what_was_asked_for_in_all() -> None:
    """No split is rounded up at the cost of the sum, or of another (pitfall 21)."""
    for wanted in range(10, 130):
        parts = BuildSettings(scenes=wanted).shares()
        assert tuple(parts) == splits.SPLITS
        assert sum(parts.values()) == wanted
        for name, share in (("train", 0.8), ("validation", 0.1), ("test", 0.1)):
            assert abs(parts[name] - wanted * share) <= 1 and parts[name] > 0


# By hand.

CROWD = [(f"v{n}", f"i{n}", n, 5) for n in range(1, 7)]
FILMS = {f"i{n}": {"title": f"Film i{n}"} for n in range(1, 7)}
TWO = Sizes(train_options=(2, 2))


def rendered(log: list[tuple[str, str, int, int]]) -> list[dict[str, Any]]:
    """The scenes of user u in a log of (user, item, second, rating), every event a train event."""
    clean = small.prepared([(user, item, FIRST_MS + 1000 * at, stars) for user, item, at, stars in log], items=FILMS)
    world = small.world_of(clean)
    drafts, report = scenes.draw(world, "train", 1000, "uniform", SECRET, TWO)
    assert report.candidates == report.kept + sum(report.dropped.values())
    found = rows.rows(world, clean, drafts, "train", "uniform", small.renderer(clean)).to_pylist()
    return [row for row in found if row["user_id"] == "u"]


def report_of(log: list[tuple[str, str, int, int]]) -> scenes.SplitReport:
    return scenes.draw(small.world_of(small.prepared(log, items=FILMS)), "train", 1000, "uniform", SECRET, TWO)[1]


def test_a_prompt_by_hand() -> None:
    (row,) = rendered([*CROWD, ("u", "i1", 100, 2), ("u", "i2", 160, 3), ("u", "i3", 7_500, 5)])
    first, second = (f"Film {option['item_id']}" for option in row["exposure"])
    assert row["prompt"] == [
        {
            "role": "user",
            "content": "u, 2001-01-01T02:05:00+00:00\n- Film i1 2 False 2 hours ago\n- Film i2 3 False 2 hours ago\n"
            f"A {first}\nB {second}",
        }
    ]
    assert "Film i3" in (first, second)
    assert (row["gap_seconds"], row["timestamp"]) == (7340, START + timedelta(seconds=7_500))
    began = round(row["timestamp"].timestamp() * 1000)
    assert row["session_id"] == identity.digest("session", "films", "u", began)[:16]


def test_events_at_the_truths_time_are_neither_memory_nor_options() -> None:
    log = [*CROWD, ("u", "i1", 100, 5), ("u", "i2", 160, 3), ("u", "i3", 200, 5), ("u", "i4", 200, 5)]
    found = rendered(log)
    assert len(found) == 2
    for row in found:
        assert [entry["item_id"] for entry in row["history"]] == ["i1", "i2"]
        offered = {option["item_id"] for option in row["exposure"]}
        assert len(offered & {"i3", "i4"}) == 1
        assert not offered & {"i1", "i2"}


def test_scenes_with_the_same_exposure_and_time_have_ids_of_their_own() -> None:
    """A film rated twice in one second, with two ratings: two scenes may show the same options."""
    log = [*CROWD[:4], ("u", "i1", 100, 2), ("u", "i2", 160, 3), ("u", "i3", 200, 5), ("u", "i3", 200, 4)]
    found = rendered(log)
    assert len(found) == 2
    assert [{option["item_id"] for option in row["exposure"]} for row in found] == [{"i3", "i4"}] * 2
    assert len({row["scene_id"] for row in found}) == 2


def test_a_repeat_is_a_counted_drop_and_a_first_touch_at_the_same_second_is_not() -> None:
    report = report_of([*CROWD, ("u", "i1", 100, 2), ("u", "i2", 160, 3), ("u", "i3", 200, 5), ("u", "i1", 300, 5)])
    assert report.dropped["touched_before"] == 1
    assert report.dropped["too_little_history"] == len(CROWD)
    assert report.kept == 1


def test_too_few_peers_are_counted() -> None:
    own = [("u", "i1", 100, 2), ("u", "i2", 160, 3), ("u", "i3", 200, 5)]
    report = report_of([*CROWD[:2], ("v1", "i3", 50, 1), *own])
    assert (report.kept, report.dropped["too_few_peers"]) == (0, 1)


def test_order_puts_options_at_their_slots(built: Path, written: Rows) -> None:
    renderer = Renderer.of_run(built / "movielens")
    row = written["test"][0]
    assert renderer.prompt(row) == row["prompt"]
    order = [3, 0, 4, 1, 2]
    lines = renderer.prompt(row, order)[0]["content"].splitlines()[-5:]
    original = row["prompt"][0]["content"].splitlines()[-5:]
    assert lines == [f"{LABELS[slot]}{original[position][1:]}" for slot, position in enumerate(order)]


def test_a_prompt_is_the_same_from_a_run_folder_as_in_the_build(built: Path, everything: list[dict[str, Any]]) -> None:
    renderer = Renderer.of_run(built / "movielens")
    assert all(renderer.prompt(row) == row["prompt"] for row in everything)


def test_a_view_has_no_truth_in_it(built: Path, written: Rows) -> None:
    renderer = Renderer.of_run(built / "movielens")
    row = written["test"][0]
    views = [renderer.view({**row, "choice_index": truth}) for truth in range(5)]
    assert all(view == views[0] for view in views)
    assert [option.asof_count for option in views[0].options] == [option["asof_count"] for option in row["exposure"]]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "just now"), (59, "just now"), (60, "1 minute ago"), (3599, "59 minutes ago"), (3600, "1 hour ago"),
     (86_399, "23 hours ago"), (86_400, "1 day ago"), (30 * 86_400, "1 month ago"), (800 * 86_400, "2 years ago")],
)  # fmt: skip
def test_ago(seconds: int, words: str) -> None:
    assert ago(seconds) == words


def test_utc() -> None:
    assert splits.utc(-1) == datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)
    assert splits.utc(978_307_200_123) == START + timedelta(milliseconds=123)


def test_a_stored_prompt_is_what_rendering_the_row_again_gives(crowd: Any, tmp_path: Path) -> None:
    """To the millisecond: `23 hours ago` and `1 day ago` are one millisecond apart."""
    shift = np.random.default_rng(0).integers(0, 1000, len(crowd.world.time))
    time = np.maximum.accumulate(crowd.world.time + shift)
    world = replace(crowd.world, time=time)
    template = "{% for past in history %}{{ past.ago }}, {% endfor %}{{ exposure | length }}"
    log = crowd.log
    renderer = Renderer(
        template,
        dict(log.users.select("user_id", "profile").iter_rows()),
        dict(log.items.select("item_id", "attributes").iter_rows()),
    )
    drafts, _ = scenes.draw(world, "train", 400, "uniform", SECRET)
    write_rows(tmp_path / "rows.parquet", rows.rows(world, log, drafts, "train", "uniform", renderer), SCENE)
    for row in read_rows(tmp_path / "rows.parquet"):
        assert renderer.prompt(row) == row["prompt"]
