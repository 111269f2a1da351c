"""The faults of the prior art, one test each. Every check also runs on code that has the fault, and must reject it."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from hf_mirror import PROJECT, build, domains, exposure, scenes, splits, tables, world
from hf_mirror.exposure import AsOf
from hf_mirror.files import read_json, read_rows
from hf_mirror.rendering import Renderer
from hf_mirror.schema import Tables
from hf_mirror.world import World

SECRET = b"p" * 32
REGIMES = tuple(exposure.REGIMES)
WithFault = Callable[[ModuleType, str, str], ModuleType]
Contents = Callable[[Path], dict[str, str]]


# 1. The true item is never last.


def position_p_values(drafts: Iterable[scenes.Draft]) -> dict[int, float]:
    """Chi-square of the truth's slot against uniform, per number of options."""
    slots: dict[int, np.ndarray] = {}
    for draft in drafts:
        size = len(draft.options)
        slots.setdefault(size, np.zeros(size))[draft.choice_index] += 1
    return {size: float(stats.chisquare(counts).pvalue) for size, counts in slots.items()}


@pytest.mark.parametrize("regime", REGIMES)
def test_1_the_truth_is_in_every_slot_alike(crowd: Any, with_fault: WithFault, regime: str) -> None:
    p_values = position_p_values(scenes.draw(crowd.world, "train", 4000, regime, SECRET)[0])
    assert set(p_values) == set(range(2, 13))
    assert min(p_values.values()) > 1e-4
    evaluation = position_p_values(scenes.draw(crowd.world, "test", 2000, regime, SECRET)[0])
    assert set(evaluation) == {5} and evaluation[5] > 1e-4
    faulty = with_fault(
        scenes, 'Draws(key, "position").below(n_options)', 'Draws(key, "position").below(len(negatives))'
    )
    broken = position_p_values(faulty.draw(crowd.world, "train", 4000, regime, SECRET)[0])
    assert broken[2] < 1e-9
    assert min(broken[size] for size in range(3, 8)) < 1e-4


def test_1_the_slots_of_a_build_are_in_its_report(built: Path) -> None:
    report = read_json(built / "movielens" / "report.json")
    for name, part in report["scenes"].items():
        found: Counter[tuple[int, int]] = Counter()
        for row in read_rows(built / "movielens" / "scenes" / f"{name}.parquet"):
            found[len(row["exposure"]), row["choice_index"]] += 1
        reported = {(int(k), slot): n for k, slots in part["truth_positions"].items() for slot, n in enumerate(slots)}
        assert {key: n for key, n in reported.items() if n} == dict(found)


# 2. Train scenes are drawn from the evaluation users, and evaluation events are not excluded.


def apart(marked: pl.DataFrame) -> bool:
    """Whether no user is on two sides and every test event is later than every validation and train event."""
    used = marked.drop_nulls("split")
    sides = used.group_by("user_id").agg(pl.col("split").n_unique())["split"]
    ends = dict(used.group_by("split").agg(pl.col("timestamp").max()).rows())
    starts = dict(used.group_by("split").agg(pl.col("timestamp").min()).rows())
    return bool(sides.max() == 1 and ends["train"] < starts["validation"] and ends["validation"] < starts["test"])


def test_2_users_are_disjoint_and_test_is_later(crowd: Any) -> None:
    events = crowd.tables.events
    assert apart(crowd.split.events)
    share = pl.col("user_id").hash(0) % 10
    by_user = pl.when(share < 8).then(pl.lit("train")).when(share < 9).then(pl.lit("validation"))
    assert not apart(events.with_columns(split=by_user.otherwise(pl.lit("test"))))
    at = pl.col("timestamp")
    by_time = pl.when(at < crowd.split.cut_1).then(pl.lit("train")).when(at < crowd.split.cut_2)
    assert not apart(events.with_columns(split=by_time.then(pl.lit("validation")).otherwise(pl.lit("test"))))


def test_2_the_scenes_of_a_build_are_apart(built: Path) -> None:
    rows = [
        (row["user_id"], row["timestamp"], row["split"])
        for name in splits.SPLITS
        for row in read_rows(built / "movielens" / "scenes" / f"{name}.parquet")
    ]
    assert apart(pl.DataFrame(rows, ["user_id", "timestamp", "split"], orient="row"))


# 3 to 6. What a scene shows or offers depends on what comes after it.


def rendered(module: ModuleType, of: Any, moment: Any, regime: str) -> dict[str, dict[str, Any]]:
    """Every test scene up to the moment, by id."""
    renderer = Renderer(
        domains.load("movielens").template,
        dict(of.tables.users.select("user_id", "profile").rows()),
        dict(of.tables.items.select("item_id", "attributes").rows()),
    )
    drafts, _ = module.draw(of.world, "test", 1_000_000, regime, SECRET)
    until = moment.timestamp() * 1000
    early = [draft for draft in drafts if of.world.time[draft.event] <= until]
    return {row["scene_id"]: row for row in module.rows(of.world, early, "test", regime, renderer)}


def another_future(crowd: Any, change: str, of: Callable[..., World] = World.of) -> tuple[Any, Any]:
    """(moment, the crowd with its events after the moment removed or altered; splits stay as they were)."""
    marked = crowd.split.events
    moment = marked.filter(pl.col("split") == "test")["timestamp"].sort()[1500]
    later = pl.col("timestamp") > moment
    if change == "removed":
        marked = marked.filter(~later)
    else:
        other = pl.col("item_id").shuffle(seed=5)
        marked = marked.with_columns(
            item_id=pl.when(later).then(other).otherwise("item_id"),
            positive=pl.when(later).then(~pl.col("positive")).otherwise("positive"),
        )
    clean = replace(crowd.tables, events=marked.drop("split"))
    seen = marked.group_by("item_id").agg(available_from=pl.col("timestamp").min())
    items = clean.items.drop("available_from").join(seen, on="item_id", how="left").sort("item_id")
    clean = replace(clean, items=items)
    return moment, replace(crowd, tables=clean, world=of("films", clean, marked["split"]))


def same_past(module: ModuleType, crowd: Any, change: str, regime: str, of: Callable[..., World] = World.of) -> bool:
    """Whether all scenes up to a moment are the same whatever happens after it."""
    moment, other = another_future(crowd, change, of)
    same = replace(crowd, world=of("films", crowd.tables, crowd.split.events["split"]))
    one, two = (rendered(module, either, moment, regime) for either in (same, other))
    assert len(one) > 300
    return one == two


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("change", ["removed", "altered"])
def test_3_to_6_scenes_do_not_depend_on_the_future(crowd: Any, change: str, regime: str) -> None:
    assert same_past(scenes, crowd, change, regime)


@pytest.mark.parametrize(
    ("right", "wrong", "regime"),
    [
        ('met = own[: np.searchsorted(world.time[own], time, side="right")]', "met = own", "uniform"),
        ("asof.advance(int(world.time[event]))", "asof.advance(2**62) if asof.total == 0 else None", "popularity"),
        ("int(asof.counts[i]) for i in options", "int((world.item == i).sum()) for i in options", "uniform"),
        ("earlier = own[: int(world.earlier[event])]", "earlier = own", "uniform"),
    ],
    ids=["4 touched ever", "3 whole-log weights", "5 whole-log counts", "later events as memory"],
)
def test_3_to_6_reject_code_that_looks_ahead(
    crowd: Any, with_fault: WithFault, right: str, wrong: str, regime: str
) -> None:
    assert not same_past(with_fault(scenes, right, wrong), crowd, "altered", regime)


def test_6_items_are_not_offered_before_they_are_known(crowd: Any, with_fault: WithFault) -> None:
    """The last forty events go to a film that nobody has met before."""
    n = crowd.tables.events.height - 40
    film = pl.when(pl.int_range(pl.len()) < n).then("item_id").otherwise(pl.lit("9999"))
    extra = crowd.tables.items.head(1).with_columns(item_id=pl.lit("9999"))
    clean = replace(
        crowd.tables,
        events=crowd.tables.events.with_columns(item_id=film),
        items=pl.concat([crowd.tables.items, extra]).sort("item_id"),
    )
    late = World.of("films", clean, crowd.split.events["split"])
    new = late.items.index("9999")
    right = "allowed = eligible(world.first_seen, world.available_from, touched, world.described, time)"
    for module, fault in ((scenes, False), (with_fault(scenes, right, "allowed = ~touched"), True)):
        drafts, _ = module.draw(late, "test", 1_000_000, "uniform", SECRET)
        early = [draft for draft in drafts if late.time[draft.event] < late.time[n]]
        assert any(new in draft.options for draft in early) == fault


def test_3_matched_bins_do_not_look_past_train(crowd: Any, with_fault: WithFault) -> None:
    """Bins fitted on all truths, test included, give other scenes for another future."""
    faulty = with_fault(world, "truths = (self.split == 0) & self.positive", "truths = self.positive")
    assert not same_past(scenes, crowd, "removed", "popularity_matched", faulty.World.of)


def test_5_prompts_show_no_counts(built: Path) -> None:
    for row in read_rows(built / "movielens" / "scenes" / "test.parquet"):
        options = row["prompt"][0]["content"].split("Films you could watch now:")[1].strip().splitlines()
        assert all(line.endswith("]") and line.count("[") == 1 for line in options)
        assert len(options) == len(row["exposure"])


# 7. A one-star rating counts as a choice.


def only_liked(clean: Tables) -> bool:
    """Whether exactly the ratings of 4 and more are positive."""
    rating = clean.events["signal"].str.json_path_match("$.rating").cast(pl.Float64)
    return bool((clean.events["positive"] == (rating >= 4)).all()) and rating.n_unique() > 3


@pytest.mark.parametrize("layout", ["ml-1m", "ml-100k", "ml-csv"])
def test_7_a_choice_is_a_liking(movielens: domains.Domain, with_fault: WithFault, layout: str) -> None:
    folder = PROJECT / "tests" / "fixtures" / "movielens" / layout
    assert "4" in movielens.positive
    assert only_liked(tables.prepare(movielens, folder, movielens.detect(folder)))
    builder = domains.import_file(PROJECT / "dataset_builders" / "movielens.py")
    faulty = with_fault(builder, 'positive=pl.col("rating") >= 4', 'positive=pl.col("rating") >= 0')
    assert not only_liked(tables.prepare(replace(movielens, load=faulty.load), folder, movielens.detect(folder)))


def test_7_every_truth_is_a_liking(built: Path) -> None:
    ratings = {
        (event["user_id"], event["item_id"], event["timestamp"]): event["signal"]["rating"]
        for event in read_rows(built / "movielens" / "tables" / "events.parquet")
    }
    for name in splits.SPLITS:
        for row in read_rows(built / "movielens" / "scenes" / f"{name}.parquet"):
            truth = row["exposure"][row["choice_index"]]["item_id"]
            assert ratings[row["user_id"], truth, row["timestamp"]] >= 4


# 11. A processor appends to its own input on every run.


def leaves_its_input(run: Callable[[Path, Path], Any], raw: Path, work: Path, contents: Contents) -> bool:
    """Whether a run and a second run leave the raw folder as it was, and give the same outputs."""
    shutil.copytree(raw, work / "raw")
    before = contents(work / "raw")
    run(work / "raw", work / "out")
    first = contents(work / "out")
    run(work / "raw", work / "out")
    return contents(work / "raw") == before and contents(work / "out") == first


def test_11_builds_only_read_their_input(
    raw: Path, movielens: domains.Domain, tmp_path: Path, contents: Contents
) -> None:
    settings = build.BuildSettings(scenes=20)

    def ours(source: Path, out: Path) -> None:
        build.build(movielens, source, out, settings)

    def appending(source: Path, out: Path) -> None:
        ours(source, out)
        with (source / "ratings.dat").open("ab") as file:
            file.write(b"1::1::5::978300000\n")

    assert leaves_its_input(ours, raw, tmp_path / "ours", contents)
    assert not leaves_its_input(appending, raw, tmp_path / "appending", contents)


# 12. History length is drawn from a global generator while formatting, so a rebuild gives other prompts.


def lengths(module: ModuleType, of: World, count: int) -> dict[bytes, int]:
    drafts, _ = module.draw(of, "train", count, "uniform", SECRET)
    return {draft.key: len(draft.history) for draft in drafts}


def repeats(module: ModuleType, crowd: Any) -> bool:
    """Whether history lengths are the same again, with more scenes, and with one more user about."""
    marked = crowd.split.events
    extra = marked.filter(pl.col("user_id") == marked["user_id"][-1]).with_columns(user_id=pl.lit("newcomer"))
    users = pl.concat([crowd.tables.users, crowd.tables.users.head(1).with_columns(user_id=pl.lit("newcomer"))])
    more = pl.concat([marked, extra]).sort(tables.ORDER)
    clean = replace(crowd.tables, users=users.sort("user_id"), events=more.drop("split"))
    bigger = World.of("films", clean, more["split"])
    first, again = lengths(module, crowd.world, 600), lengths(module, crowd.world, 600)
    wider, crowded = lengths(module, crowd.world, 1500), lengths(module, bigger, 600)
    assert len(first) == 600 and len(first.keys() & crowded.keys()) > 500
    return all(other[key] == first[key] for other in (again, wider, crowded) for key in first.keys() & other.keys())


def test_12_history_lengths_belong_to_events(crowd: Any, with_fault: WithFault) -> None:
    assert repeats(scenes, crowd)
    right = 'MIN_HISTORY + Draws(key, "history").below(MAX_HISTORY - MIN_HISTORY + 1)'
    assert not repeats(with_fault(scenes, right, "int(np.random.randint(MIN_HISTORY, MAX_HISTORY + 1))"), crowd)
    seeded_once = "int(STREAM.integers(MIN_HISTORY, MAX_HISTORY + 1))"
    faulty = with_fault(scenes, right, seeded_once)
    faulty.STREAM = np.random.default_rng(0)  # type: ignore[attr-defined]
    assert not repeats(faulty, crowd)


def test_12_a_rebuild_gives_the_same_bytes(
    raw: Path, built: Path, movielens: domains.Domain, tmp_path: Path, contents: Contents
) -> None:
    build.build(movielens, raw, tmp_path, build.BuildSettings(scenes=200))
    rebuilt, before = contents(tmp_path / "movielens"), contents(built / "movielens")
    assert rebuilt == {name: before[name] for name in rebuilt}
    assert len(rebuilt) == 8
    build.build(movielens, raw, tmp_path / "other", build.BuildSettings(scenes=200, seed=1))
    other = contents(tmp_path / "other" / "movielens")
    assert {name for name in rebuilt if other[name] != rebuilt[name]} == {
        "report.json", "scenes/train.parquet", "scenes/validation.parquet", "scenes/test.parquet"
    }  # fmt: skip


# 13. Prompts depend on the machine's time zone (and on its language, hash seed and thread count, and on row order).


@pytest.fixture
def clocks(tmp_path: Path) -> dict[str, Path]:
    """Two builders whose prompts show the hour: one as the library has it, one that reads times as local ones."""
    source = (PROJECT / "dataset_builders" / "movielens.py").read_text(encoding="utf-8")
    template = (PROJECT / "dataset_builders" / "movielens.jinja").read_text(encoding="utf-8")
    made = {}
    for name, code in {
        "utc": source,
        "local": source.replace(
            'pl.from_epoch("timestamp", time_unit="s")',
            'pl.col("timestamp").map_elements(lambda s: __import__("datetime").datetime.fromtimestamp(s), pl.Datetime)',
        ),
    }.items():
        made[name] = tmp_path / f"{name}.py"
        made[name].write_text(code.replace('NAME = "movielens"', f'NAME = "{name}"'), encoding="utf-8")
        hour = "It is {{ now.strftime('%A, %d %B, %H:%M') }}.\n\n"
        made[name].with_suffix(".jinja").write_text(hour + template, encoding="utf-8")
    assert made["local"].read_text() != made["utc"].read_text().replace('"utc"', '"local"')
    return made


def test_13_bytes_do_not_depend_on_the_machine(
    raw: Path, clocks: dict[str, Path], tmp_path: Path, mirror_process: Callable[..., Any], contents: Contents
) -> None:
    machines = {
        "one": {"TZ": "UTC", "LANG": "C", "LC_ALL": "C", "PYTHONHASHSEED": "0", "POLARS_MAX_THREADS": "1"},
        "two": {"TZ": "Asia/Tokyo", "LANG": "ja_JP.UTF-8", "LC_ALL": "ja_JP.UTF-8", "PYTHONHASHSEED": "1"},
        "three": {"TZ": "America/New_York", "LANG": "de_DE.UTF-8", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "2"},
    }
    found: dict[str, list[dict[str, str]]] = {name: [] for name in clocks}
    for machine, environment in machines.items():
        out = tmp_path / machine
        given = [f"{name}={raw}" for name in clocks]
        done = mirror_process("build", *clocks.values(), "--raw", *given, "--out", out, "--scenes", 60, **environment)
        assert done.code == 0, done.err
        for name in clocks:
            found[name].append(contents(out / name))
    assert len(found["utc"][0]) == 8
    assert found["utc"][0] == found["utc"][1] == found["utc"][2]
    assert found["local"][0] != found["local"][1] != found["local"][2]


def test_13_row_order_does_not_matter(raw: Path, movielens: domains.Domain, tmp_path: Path) -> None:
    """Shuffled raw files have another secret, and so other draws; everything else, and all scenes at the same secret,
    are the same."""
    rng, shuffled = random.Random(4), tmp_path / "shuffled"
    shuffled.mkdir()
    for path in raw.iterdir():
        lines = path.read_bytes().splitlines(keepends=True)
        (shuffled / path.name).write_bytes(b"".join(rng.sample(lines, len(lines))))
    results = []
    for folder in (raw, shuffled):
        clean = tables.prepare(movielens, folder, movielens.detect(raw))
        split = splits.by_arrival(clean.events)
        results.append((split.report, *all_scenes(World.of("films", clean, split.events["split"]), clean, movielens)))
    assert results[0] == results[1]
    assert len(results[0][1]) > 100


def all_scenes(of: World, clean: Tables, domain: domains.Domain) -> tuple[list[Any], list[Any]]:
    profiles = dict(clean.users.select("user_id", "profile").rows())
    attributes = dict(clean.items.select("item_id", "attributes").rows())
    renderer = Renderer(domain.template, profiles, attributes)
    return tuple(
        list(scenes.rows(of, scenes.draw(of, name, 150, "popularity_matched", SECRET)[0], name, "x", renderer))
        for name in ("train", "test")
    )  # type: ignore[return-value]


# And: the truth is filtered by other rules than the negatives. tests/test_eligibility.py has the classifier.


def test_the_future_is_not_in_the_running_totals() -> None:
    asof = AsOf(np.array([1, 2, 2, 9]), np.array([0, 0, 1, 1]), np.ones(4, bool), 2)
    asof.advance(2)
    assert asof.counts.tolist() == [1, 0]
