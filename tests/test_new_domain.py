"""A new domain is a builder, a template and a folder of raw rows: nothing else is edited."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hf_mirror import build, domains
from hf_mirror.errors import ConfigError, DataError
from hf_mirror.files import read_rows

BUILDER = '''"""Podcasts, made up for this test (https://podcasts.example). A raw row of `plays.jsonl`:
`{"listener": "zoë", "show": "s3", "at": "2020-01-01T10:00:00+00:00", "minutes": 31}`
"""

import json
from pathlib import Path

import polars as pl

from hf_mirror.domains import Source
from hf_mirror.errors import DataError
from hf_mirror.schema import Tables

NAME = "podcasts"
POSITIVE = "twenty minutes or more"
TIME = pl.Datetime("ms", "UTC")


def detect(path: Path) -> Source:
    """One layout."""
    files = (path / "plays.jsonl", path / "shows.json")
    for file in files:
        if not file.is_file():
            raise DataError(f"{file} is missing; expected plays.jsonl and shows.json; give the folder with both")
    return Source("podcasts v1", "cc-by-4.0", True, "Nobody, 2020.", files)


def load(path: Path, source: Source) -> Tables:
    """Plays without a time are counted drops."""
    plays = [json.loads(line) for line in (path / "plays.jsonl").read_text(encoding="utf-8").splitlines()]
    shows = json.loads((path / "shows.json").read_text(encoding="utf-8"))
    timed = [play for play in plays if play["at"]]
    events = pl.DataFrame(
        {
            "user_id": [play["listener"] for play in timed],
            "item_id": [play["show"] for play in timed],
            "timestamp": [play["at"] for play in timed],
            "signal": [json.dumps({"minutes": play["minutes"]}) for play in timed],
            "positive": [play["minutes"] >= 20 for play in timed],
        }
    ).with_columns(
        pl.col("timestamp").str.to_datetime(time_unit="ms", time_zone="UTC"),
        impression_id=pl.lit(None, pl.String),
        impression=pl.lit(None, pl.List(pl.String)),
    )
    users = pl.DataFrame({"user_id": sorted({play["listener"] for play in plays})}).with_columns(profile=pl.lit("{}"))
    items = pl.DataFrame(
        {
            "item_id": list(shows),
            "attributes": [json.dumps({"title": show["title"], "topics": show["topics"]}) for show in shows.values()],
            "available_from": [show["since"] for show in shows.values()],
        }
    ).with_columns(pl.col("available_from").str.to_datetime(time_unit="ms", time_zone="UTC"))
    return Tables(users, items, events, len(plays), {"no_time": len(plays) - len(timed)})
'''
TEMPLATE = """You listen to podcasts. Today is {{ now.strftime("%Y-%m-%d") }}.
{% for past in history %}
- {{ past.item.title }} ({{ past.signal.minutes }} minutes, {{ past.ago }})
{% endfor %}
Choose one:
{% for option in exposure %}
{{ option.label }}) {{ option.item.title }} about {{ option.item.topics | join(" and ") }}
{% endfor %}
"""
TOPICS = ("history", "cooking", "space", "music", "law")


@pytest.fixture
def podcasts(tmp_path: Path) -> tuple[Path, Path]:
    """(builder file, raw folder)."""
    rng, raw = random.Random(1), tmp_path / "raw"
    raw.mkdir()
    (tmp_path / "podcasts.py").write_text(BUILDER, encoding="utf-8")
    (tmp_path / "podcasts.jinja").write_text(TEMPLATE, encoding="utf-8")
    shows = {
        f"s{n}": {"title": f"Cast № {n}", "topics": rng.sample(TOPICS, 2), "since": "2019-01-01T00:00:00+00:00"}
        for n in range(40)
    }
    (raw / "shows.json").write_text(json.dumps(shows), encoding="utf-8")
    plays: list[dict[str, Any]] = []
    for user in range(120):
        for turn, show in enumerate(rng.sample(range(40), 12)):
            at = f"2020-{1 + user // 12:02d}-{1 + 2 * (user % 12) + turn // 6:02d}T{10 + turn % 6:02d}:00:00+00:00"
            plays.append({"listener": f"zoë {user}", "show": f"s{show}", "at": at, "minutes": rng.randint(1, 60)})
    plays += [{"listener": "zoë 1", "show": "s1", "at": None, "minutes": 5}] * 3
    lines = "\n".join(json.dumps(play, ensure_ascii=False) for play in plays)
    (raw / "plays.jsonl").write_text(lines, encoding="utf-8")
    return tmp_path / "podcasts.py", raw


def test_a_new_domain_walks_the_whole_path(
    podcasts: tuple[Path, Path], mirror: Callable[..., Any], tmp_path: Path
) -> None:
    builder, raw = podcasts
    out = tmp_path / "run"
    steps = [
        ("build", builder, "--raw", raw, "--out", out, "--scenes", 150, "--regime", "uniform"),
        ("rationales", out, "--role", "teacher", "--backend", "template", "--model", "teacher", "-n", 4),
        ("rationales", out, "--role", "student", "--backend", "template", "--model", "student", "-n", 4),
        ("read", out, "--backend", "template", "--model", "reader"),
        ("distill", out, "--size", 20),
        ("bench", out),
    ]
    results = []
    for step in steps:
        answer = mirror(*step, "--json")
        assert answer.code == 0, (step, answer.err)
        results.append(json.loads(answer.out))
    report = results[0]["podcasts"]
    assert report["tables"]["dropped"] == {"no_time": 3}
    assert report["tables"]["read"] == report["tables"]["kept"] + 3
    assert report["source"]["redistributable"] is True
    scenes = read_rows(out / "podcasts" / "scenes" / "train.parquet")
    assert len(scenes) == report["scenes"]["train"]["kept"] == 120
    prompt = scenes[0]["prompt"][0]["content"]
    assert prompt.startswith("You listen to podcasts. Today is 2020-") and "A) Cast № " in prompt
    assert results[1]["domains"]["podcasts"]["decisions"] == 4 * (120 + report["scenes"]["validation"]["kept"])
    pairs = read_rows(out / "podcasts" / "preferences" / "train.parquet")
    assert 0 < len(pairs) <= 20
    assert {pair["domain"] for pair in pairs} == {"podcasts"}
    rows = read_rows(out / "bench" / "podcasts.parquet")
    own = [row for row in rows if (row["variant"]["history"], row["variant"]["text"]) == ("own", "full")]
    assert len(own) == 6 * report["scenes"]["test"]["kept"] > 0
    assert {row["variant_id"] for row in rows} > {"none-full-random", "own-titles_masked-random", "own-ids-random"}


def test_it_stands_beside_one_that_comes_with_the_project(
    podcasts: tuple[Path, Path], raw: Path, mirror: Callable[..., Any], tmp_path: Path
) -> None:
    builder, plays = podcasts
    given = (f"podcasts={plays}", f"movielens={raw}")
    answer = mirror("build", "movielens", builder, "--raw", *given, "--out", tmp_path / "run", "--scenes", 20, "--json")
    assert answer.code == 0, answer.err
    assert set(json.loads(answer.out)) == {"movielens", "podcasts"}


def broken(builder: Path, name: str, **change: str | None) -> Path:
    """A copy of the builder whose code or template is another."""
    path = builder.with_name(f"{name}.py")
    path.write_text(change.get("code") or BUILDER, encoding="utf-8")
    template = change.get("template", TEMPLATE)
    if template is not None:
        path.with_suffix(".jinja").write_text(template, encoding="utf-8")
    return path


def test_a_builder_without_its_parts_is_named(podcasts: tuple[Path, Path]) -> None:
    builder, _ = podcasts
    with pytest.raises(ConfigError, match=r"write bare\.jinja"):
        domains.load(broken(builder, "bare", template=None))
    with pytest.raises(ConfigError, match="lacks POSITIVE, load"):
        code = BUILDER.replace("POSITIVE =", "LIKED =").replace("def load(", "def read(")
        domains.load(broken(builder, "partly", code=code))


WRONG_TEMPLATES = {
    "does not parse": "{% for option in exposure %}",
    "unknown name": TEMPLATE.replace("option.item.topics", "option.item.tpoics"),
    "wrong type": TEMPLATE.replace('join(" and ")', "join(3) + 3"),
    "separator": TEMPLATE.replace("Choose one:", "\n\n---\n\nChoose one:"),
}


@pytest.mark.parametrize("template", WRONG_TEMPLATES.values(), ids=WRONG_TEMPLATES)
def test_a_wrong_template_is_one_line_and_leaves_earlier_outputs(
    podcasts: tuple[Path, Path], template: str, mirror: Callable[..., Any], tmp_path: Path,
    contents: Callable[[Path], dict[str, str]],
) -> None:  # fmt: skip
    builder, raw = podcasts
    out = tmp_path / "run"
    given = ("--raw", raw, "--out", out, "--regime", "uniform", "--scenes")
    assert mirror("build", builder, *given, 50).code == 0
    before = contents(out)
    builder.with_suffix(".jinja").write_text(template, encoding="utf-8")
    with (raw / "plays.jsonl").open("a", encoding="utf-8") as file:
        file.write('\n{"listener": "zoë 1", "show": "s1", "at": "2020-12-30T10:00:00+00:00", "minutes": 50}')
    answer = mirror("build", builder, *given, 60)
    assert answer.code == 2
    assert "template" in answer.err.splitlines()[-1]
    assert contents(out) == before


def test_items_without_a_title_are_not_a_silent_nothing(podcasts: tuple[Path, Path], tmp_path: Path) -> None:
    """Every item lacks what eligibility calls its description: the build says so, or uses another attribute."""
    builder, raw = podcasts
    nameless = broken(builder, "nameless", code=BUILDER.replace('"title": show["title"], ', ""), template="{{ now }}")
    try:
        report = build.build(domains.load(nameless), raw, tmp_path / "out", build.BuildSettings(scenes=20))
    except DataError as error:
        assert "title" in str(error)
    else:
        assert report["scenes"]["train"]["kept"] > 0
