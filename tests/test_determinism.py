"""Pitfall 13 and more: the same input and seed give the same bytes, whatever the machine, the number of processes, the
order of raw rows, and whatever else is built. Every check also runs on code for which that is not so."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hf_mirror import PROJECT, domains, processes, rendering, rows, scenes, tables
from hf_mirror.world import World

small = domains.import_file(Path(__file__).parent / "small_logs.py")

SECRET = b"d" * 32
SIZES = {
    "movielens": {"seed": 3, "users": 110, "films": 90, "ratings_per_user": 20},
    "mind": {"seed": 3, "users": 110, "news": 140},
    "amazon_reviews": {"seed": 3, "users": 110, "items": 70},
}
# What each machine is like, and how many processes it uses.
MACHINES = {
    "one": (1, {"TZ": "UTC", "LANG": "C", "LC_ALL": "C", "PYTHONHASHSEED": "0", "POLARS_MAX_THREADS": "1"}),
    "two": (2, {"TZ": "Asia/Tokyo", "LANG": "ja_JP.UTF-8", "LC_ALL": "ja_JP.UTF-8", "PYTHONHASHSEED": "1",
                "POLARS_MAX_THREADS": "2"}),
    "three": (3, {"TZ": "America/New_York", "LANG": "de_DE.UTF-8", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "2",
                  "POLARS_MAX_THREADS": "7"}),
}  # fmt: skip
FILES = 10
WithFault = Callable[[ModuleType, str, str], ModuleType]
Contents = Callable[[Path], dict[str, str]]
Built = dict[str, dict[str, dict[str, str]]]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A raw folder of made-up feedback for each domain."""
    folder = tmp_path_factory.mktemp("raw")
    for builder, sizes in SIZES.items():
        sample = domains.import_file(PROJECT / "dataset_builders" / "sample" / f"{builder}.py")
        sample.generate(folder / builder, **sizes)
    return {builder: folder / builder for builder in SIZES}


@pytest.fixture(scope="module")
def builders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Domains whose prompts show the hour and name genres: one as the library has it; one that reads times as local
    ones; one that has genres in the order of a set."""
    folder = tmp_path_factory.mktemp("builders")
    source = (PROJECT / "dataset_builders" / "movielens.py").read_text(encoding="utf-8")
    template = (PROJECT / "dataset_builders" / "movielens.jinja").read_text(encoding="utf-8")
    local = 'pl.col("timestamp").map_elements(lambda s: __import__("datetime").datetime.fromtimestamp(s), pl.Datetime)'
    made = {}
    for name, right, wrong in (
        ("clock", "", ""),
        ("localclock", '(1000 * pl.col("timestamp")).cast(pl.Datetime("ms", "UTC"))', local),
        ("setclock", '(row[0], row[1], row[2].split("|"))', '(row[0], row[1], list(set(row[2].split("|"))))'),
    ):
        code = source.replace(right, wrong) if right else source
        assert (code != source) == bool(right)
        made[name] = folder / f"{name}.py"
        made[name].write_text(code.replace('NAME = "movielens"', f'NAME = "{name}"'), encoding="utf-8")
        hour = "It is {{ now.strftime('%A, %d %B, %H:%M') }}.\n\n"
        made[name].with_suffix(".jinja").write_text(hour + template, encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def machines(
    sources: dict[str, Path], builders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory,
    mirror_process: Callable[..., Any], contents: Contents,
) -> Built:  # fmt: skip
    """The bytes of every file of every domain, as each machine builds them in one command, a process of its own."""
    raw = {**dict.fromkeys(builders, sources["movielens"]), "mind": sources["mind"],
           "amazon_reviews": sources["amazon_reviews"]}  # fmt: skip
    found: Built = {}
    for machine, (workers, environment) in MACHINES.items():
        out = tmp_path_factory.mktemp(machine)
        names = sorted(raw, reverse=machine == "two")
        done = mirror_process(
            "build", *(builders.get(name, name) for name in names), "--raw", *(f"{name}={raw[name]}" for name in names),
            "--out", out, "--scenes", 60, "--regime", "mixed", "--workers", workers, **environment,
        )  # fmt: skip
        assert done.code == 0, done.err
        found[machine] = {name: contents(out / name) for name in names}
    return found


@pytest.mark.parametrize("domain", ["clock", "mind", "amazon_reviews"])
def test_13_bytes_do_not_depend_on_the_machine(machines: Built, domain: str) -> None:
    """Time zone, locale, hash seed, threads, worker processes, and the order of domains in the command."""
    assert len(machines["one"][domain]) == FILES
    assert machines["one"][domain] == machines["two"][domain] == machines["three"][domain]


@pytest.mark.parametrize(("domain", "files"), [("localclock", "events.parquet"), ("setclock", "items.parquet")])
def test_13_builders_that_ask_the_machine_are_noticed(machines: Built, domain: str, files: str) -> None:
    one, two, three = (machines[name][domain] for name in MACHINES)
    assert one != two and two != three and one != three
    assert one[f"tables/{files}"] != two[f"tables/{files}"]


def test_a_domain_is_the_same_alone_and_beside_others(
    machines: Built, sources: dict[str, Path], builders: dict[str, Path], tmp_path: Path,
    mirror_process: Callable[..., Any], contents: Contents,
) -> None:  # fmt: skip
    alone = ("build", builders["clock"], "--raw", sources["movielens"], "--out", tmp_path, "--scenes", 60,
             "--regime", "mixed")  # fmt: skip
    done = mirror_process(*alone, PYTHONHASHSEED="3")
    assert done.code == 0, done.err
    first = contents(tmp_path / "clock")
    assert first == machines["one"]["clock"]
    done = mirror_process(
        "build", "mind", "--raw", sources["mind"], "--out", tmp_path, "--scenes", 60, "--regime", "mixed"
    )
    assert done.code == 0, done.err
    assert contents(tmp_path / "clock") == first
    assert contents(tmp_path / "mind") == machines["one"]["mind"]
    # The seed is a part of every draw, and of nothing else.
    done = mirror_process(*alone, "--seed", 1)
    other = contents(tmp_path / "clock")
    assert done.code == 0 and {name for name in first if other[name] != first[name]} == {
        "report.json", "report.html", "scenes/train.parquet", "scenes/validation.parquet", "scenes/test.parquet",
        "seal.key",
    }  # fmt: skip


# In this process: what a build does with rows in another order, and with other numbers of processes.


def shuffled(raw: Path, out: Path) -> Path:
    """A copy of a raw folder with the lines of every file in another order."""
    for path in sorted(path for path in raw.rglob("*") if path.is_file()):
        lines = path.read_bytes().splitlines(keepends=True)
        target = out / path.relative_to(raw)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"".join(random.Random(4).sample(lines, len(lines))))
    return out


def everything(
    domain: domains.Domain, folder: Path, raw: Path, regimes: tuple[str, ...] = ("mixed",),
    prepare: Callable[..., tables.Log] = tables.prepare,
) -> list[Any]:  # fmt: skip
    """Tables, split and scenes at one secret: shuffled files have another secret, and so would have other draws."""
    log = prepare(domain, folder, domain.detect(raw))
    split = small.arrived(log)
    world = World.of(domain.name, log, split)
    own_rows = [name for name in log.events.columns if name == "row"]  # where a text stands in its file
    found = [log.users.rows(), log.items.rows(), log.events.drop(own_rows).rows(), log.dropped, split.report]
    for regime in regimes:
        drafts, report = scenes.draw(world, "train", 100, regime, SECRET)
        assert len(drafts) == 100
        renderer = small.renderer(log, domain.template)
        found += [report, rows.rows(world, log, drafts, "train", regime, renderer, workers=1).to_pylist()]
    return found


@pytest.mark.parametrize(
    ("builder", "regimes"),
    [("movielens", ("mixed", "popularity_matched")), ("mind", ("mixed", "logged")), ("amazon_reviews", ("mixed",))],
)
def test_the_order_of_raw_rows_does_not_matter(
    builder: str, regimes: tuple[str, ...], sources: dict[str, Path], tmp_path: Path
) -> None:
    raw, domain = sources[builder], domains.load(builder)
    one, two = (everything(domain, folder, raw, regimes) for folder in (raw, shuffled(raw, tmp_path)))
    assert one == two


def test_rows_in_the_order_of_the_file_are_noticed(
    sources: dict[str, Path], tmp_path: Path, with_fault: WithFault
) -> None:
    """Coarse clocks have ties, which need an order of their own."""
    raw, domain = sources["movielens"], domains.load("movielens")

    def coarse(path: Path, source: domains.Source) -> Any:
        given = domain.load(path, source)
        times = given.events["timestamp"].dt.truncate("1h")
        return replace(given, events=given.events.with_columns(timestamp=times))

    other = shuffled(raw, tmp_path)
    ours = replace(domain, load=coarse)
    one, two = (everything(ours, folder, raw) for folder in (raw, other))
    assert one == two
    for right, wrong in (("events = events.sort(KEY)", 'events = events.sort("time", maintain_order=True)'),
                         ("return frame.sort(pl.col(key).cast(pl.String))", "return frame")):  # fmt: skip
        faulty = with_fault(tables, right, wrong)
        one, two = (everything(ours, folder, raw, prepare=faulty.prepare) for folder in (raw, other))
        assert one != two, wrong


def test_the_number_of_processes_does_not_matter(
    crowd: Any, with_fault: WithFault, monkeypatch: pytest.MonkeyPatch
) -> None:
    drafts, _ = scenes.draw(crowd.world, "train", 80, "uniform", SECRET)
    template = domains.load("movielens").template

    def written(workers: int | None) -> list[dict[str, Any]]:
        renderer = small.renderer(crowd.log, template)
        return rows.rows(crowd.world, crowd.log, drafts, "train", "uniform", renderer, workers).to_pylist()

    alone = written(1)
    assert all(written(workers) == alone for workers in (None, 2, 7))
    # As they come in, the last first.
    faulty = with_fault(processes, "        results += more\n", "        results = more + results\n")
    monkeypatch.setattr(rendering, "spread", faulty.spread)
    assert written(1) == alone
    assert written(2) != alone
