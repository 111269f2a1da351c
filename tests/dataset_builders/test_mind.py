"""MIND: one part or two, what becomes of odd impressions, the twelve-hour clock, and every way a file can be wrong."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest
from jinja2 import Environment, StrictUndefined

from hf_mirror import PROJECT, domains
from hf_mirror.errors import DataError
from hf_mirror.schema import Tables

FIXTURES = PROJECT / "tests" / "fixtures" / "mind"
BUILDER = PROJECT / "dataset_builders" / "mind.py"
MADE_UP = "License: CC0-1.0"
# In `one`: the line of a good impression, and one past the last.
GOOD = "9001\tU901\t3/6/2021 9:00:00 PM\tN101\tN102-0 N101-1"
NEXT = 186

Copy = Callable[[str], Path]


@pytest.fixture(scope="module")
def mind() -> ModuleType:
    """The builder as a module of its own, which a test may change."""
    return domains.import_file(BUILDER)


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    """A folder of one layout that a test may spoil."""

    def of(layout: str) -> Path:
        return Path(shutil.copytree(FIXTURES / layout, tmp_path / layout))

    return of


def loaded(folder: Path, module: ModuleType | None = None) -> Tables:
    builder = module or domains.load("mind")
    return builder.load(folder, builder.detect(folder))


def ordered(tables: Tables) -> list[Any]:
    """The tables with their rows in one order, and the counts: what may not depend on the order of lines."""
    return [
        tables.events.sort("impression_id", "item_id").rows(),
        tables.items.unnest("attributes").sort("item_id").rows(),
        tables.users.sort("user_id").rows(),
        (tables.read, tables.dropped),
    ]


def attributes(tables: Tables) -> dict[str, dict[str, Any]]:
    return dict(tables.items.select("item_id", "attributes").rows())


def impressions(tables: Tables, user: str) -> dict[datetime, tuple[list[str], set[str]]]:
    """Of one user, by time: the options and what was clicked."""
    rows = tables.events.filter(user_id=user).group_by("timestamp").agg(pl.col("impression").first(), "item_id")
    return {time: (options, set(clicked)) for time, options, clicked in rows.rows()}


# What the layouts hold


def test_one_part_and_two_agree_on_who_clicked_what_and_when() -> None:
    columns = ["user_id", "item_id", "timestamp", "impression", "positive"]
    one, parts = (loaded(FIXTURES / layout) for layout in ("one", "parts"))
    assert one.events.height == 244
    assert one.events.select(columns).equals(parts.events.select(columns))
    assert ordered(one)[1:3] == ordered(parts)[1:3]


@pytest.mark.parametrize("layout", ["one", "parts"])
def test_every_impression_is_accounted_for(layout: str) -> None:
    tables = loaded(FIXTURES / layout)
    assert tables.dropped == {"no_click": 1, "no_candidates": 1, "repeated_click": 1}
    assert tables.read == tables.events.height + sum(tables.dropped.values())
    lines = [line for file in FIXTURES.glob(f"{layout}/**/behaviors.tsv") for line in file.read_text().splitlines()]
    assert tables.read == sum(max(1, line.count("-1")) for line in lines)
    assert tables.events.schema["timestamp"] == pl.Datetime("ms", "UTC")
    assert tables.events["positive"].all()
    assert tables.events["signal"].to_list() == [{"clicked": True}] * tables.events.height
    assert set(tables.users["profile"]) == {"{}"}


def test_an_impression_holds_its_click_and_no_option_twice() -> None:
    events = loaded(FIXTURES / "parts").events
    assert events.select(pl.col("item_id").is_in(pl.col("impression")).all()).item()
    assert events.select((pl.col("impression").list.len() == pl.col("impression").list.n_unique()).all()).item()
    assert events.select("impression_id", "item_id").is_unique().all()


def test_odd_impressions() -> None:
    tables = loaded(FIXTURES / "one")
    noon = datetime(2021, 3, 1, 12, 30, tzinfo=UTC)
    assert impressions(tables, "U901")[noon] == (["N103", "N101", "N105"], {"N103", "N101"})
    # Listed twice and clicked twice is one option and one click; what was shown to nobody's liking is no event.
    assert list(impressions(tables, "U902").values()) == [(["N101", "N102", "N103"], {"N101"})]
    # News that are not described stay in the impression as they were shown.
    assert list(impressions(tables, "U903").values()) == [(["N9001", "N102"], {"N102"})]


def test_impression_ids_restart_in_every_part_and_stay_apart() -> None:
    ids = loaded(FIXTURES / "parts").events["impression_id"]
    assert {"train-1", "dev-1"} <= set(ids)
    assert {name.split("-")[0] for name in ids} == {"train", "dev"}
    assert loaded(FIXTURES / "one").events["impression_id"].str.contains("^[0-9]+$").all()


def test_the_history_is_that_of_the_first_part_and_as_given() -> None:
    """In `dev` the history of U901 has one more entry; repeats stay, and nobody's history is null."""
    histories = dict(loaded(FIXTURES / "parts").users.select("user_id", "history").rows())
    assert histories["U901"] == ["N104", "N101", "N104"]
    assert histories["U902"] == []
    assert all(history is not None and "" not in history for history in histories.values())


def test_texts_come_out_as_they_were_written() -> None:
    items = attributes(loaded(FIXTURES / "one"))
    assert items["N101"]["title"] == 'The "Last" Soup, and a 7" pan'
    assert items["N102"]["title"] == "Café Ámbar reopens"
    assert items["N102"]["abstract"] == "An inn — old and new."
    assert items["N103"]["title"] == '"Nobody answers'
    assert (items["N101"]["category"], items["N101"]["subcategory"]) == ("food", "recipes")
    assert items["N104"]["abstract"] is None
    assert items["N105"]["title"] is None


@pytest.mark.parametrize(
    ("abstract", "shown"),
    [
        ("word " * 40, "word " * 31 + "word ..."),
        ("x" * 160, "x" * 160),
        ("x" * 160 + " y", "x" * 160 + " ..."),
        ("x" * 161, "x" * 160 + " ..."),
        ("x" * 100 + " " + "y" * 100, "x" * 100 + " ..."),
        ("é" * 159 + " é", "é" * 159 + " ..."),
    ],
    ids=range(6),
)
def test_a_long_abstract_ends_with_a_word(abstract: str, shown: str, copy: Copy) -> None:
    folder = copy("one")
    with (folder / "news.tsv").open("a") as file:
        file.write(f"N777\tfood\trecipes\tA title\t{abstract}\turl\t[]\t[]\n")
    assert attributes(loaded(folder))["N777"]["abstract"] == shown


def test_news_are_available_from_when_anybody_was_shown_them() -> None:
    for layout in ("one", "parts"):
        tables = loaded(FIXTURES / layout)
        available = dict(tables.items.select("item_id", "available_from").rows())
        assert available["N104"] is None  # only ever in histories
        assert available["N103"] == datetime(2021, 3, 1, 0, 0, 5, tzinfo=UTC)  # shown half a day before it was clicked
        assert available["N105"] == datetime(2021, 3, 1, 12, 30, tzinfo=UTC)  # shown, and never clicked
        shown = tables.events.explode("impression").filter(pl.col("impression").is_in(list(available)))
        assert all(available[news] <= time for news, time in shown.select("impression", "timestamp").rows())


# The clock


def hours() -> dict[str, datetime]:
    """Every half hour of a day as MIND spells it, by Python's own clock."""
    start = datetime(2019, 11, 9, tzinfo=UTC)
    times = [start + timedelta(minutes=30 * half, seconds=7) for half in range(48)]
    return {time.strftime("%m/%d/%Y %I:%M:%S %p"): time for time in times}


def wrong_times(module: ModuleType, folder: Path) -> int:
    lines = [f"{n}\tU{n}\t{text}\t\tN101-1 N102-0" for n, text in enumerate(hours())]
    (folder / "behaviors.tsv").write_text("\n".join(lines) + "\n")
    found = dict(loaded(folder, module).events.select("user_id", "timestamp").rows())
    return sum(found[f"U{n}"] != time for n, time in enumerate(hours().values()))


def test_the_clock_has_twelve_hours(
    mind: ModuleType, copy: Copy, with_fault: Callable[[ModuleType, str, str], ModuleType]
) -> None:
    folder = copy("one")
    assert wrong_times(mind, folder) == 0
    faulty = with_fault(
        mind, '"time").str.to_datetime(TIME', '"time").str.head(-3).str.to_datetime("%m/%d/%Y %H:%M:%S"'
    )
    assert wrong_times(faulty, folder) == 24


# Order and size of the input


@pytest.mark.parametrize("layout", ["one", "parts"])
def test_the_order_of_lines_does_not_matter(layout: str, copy: Copy) -> None:
    """Also where a user's histories differ within a part, which the publisher's do not."""
    folder, rng = copy(layout), random.Random(1)
    behaviors = next(iter(folder.glob("**/behaviors.tsv")))
    with behaviors.open("a") as file:
        file.write("9001\tU901\t2/28/2021 9:00:00 PM\tN102\tN102-0 N101-1\n")
        file.write("9002\tU901\t2/28/2021 9:00:00 PM\tN103\tN102-0 N101-1\n")
    expected = ordered(loaded(folder))
    for _ in range(3):
        for file in folder.glob("**/*.tsv"):
            lines = file.read_text().splitlines(keepends=True)
            file.write_text("".join(rng.sample(lines, len(lines))))
        assert ordered(loaded(folder)) == expected


@pytest.mark.parametrize("lines", [1, 7, 100])
def test_it_does_not_matter_how_many_lines_are_read_at_a_time(
    lines: int, mind: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = ordered(loaded(FIXTURES / "parts", mind))
    monkeypatch.setattr(mind, "LINES_AT_A_TIME", lines)
    assert ordered(loaded(FIXTURES / "parts", mind)) == expected


def test_line_ends_and_byte_order_marks_do_not_matter(copy: Copy) -> None:
    folder, expected = copy("parts"), ordered(loaded(FIXTURES / "parts"))
    for path in folder.glob("**/*.tsv"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n").removesuffix(b"\r\n"))
    assert ordered(loaded(folder)) == expected


# The licence and the release


@pytest.mark.parametrize(
    ("text", "redistributable"),
    [
        (None, False),
        ("Microsoft Research License Terms", False),
        (f"Made up.\n\n{MADE_UP}\n", True),
        (f"Made up.\r\n{MADE_UP}\r\n", True),
        (f"Not {MADE_UP}, but all rights reserved", False),
    ],
)
def test_a_release_is_closed_unless_the_text_beside_it_says_otherwise(
    text: str | None, redistributable: bool, copy: Copy
) -> None:
    folder = copy("parts")
    (folder / "README").unlink()
    (folder / "MINDsmall_train" / "README").write_text(MADE_UP)  # a licence within a part is not that of the whole
    if text is not None:
        (folder / "README").write_bytes(text.encode())
    source = domains.load("mind").detect(folder)
    assert source.redistributable is redistributable
    assert source.release == ("made-up sample" if redistributable else "MINDsmall")
    assert redistributable or ("Wu" in source.citation and "may not be redistributed" in source.licence)


@pytest.mark.parametrize(
    ("names", "release", "order"),
    [
        (("MINDsmall_train", "MINDsmall_dev"), "MINDsmall", ["train", "dev"]),
        (("MINDlarge_train", "MINDlarge_dev"), "MINDlarge", ["train", "dev"]),
        (("train", "dev"), "MIND", ["train", "dev"]),
        (("large-train",), "MIND", ["train"]),
        (("Dev",), "MIND", ["dev"]),
    ],
)
def test_parts_are_found_by_the_names_that_archives_have(
    names: tuple[str, ...], release: str, order: list[str], tmp_path: Path
) -> None:
    for name in names:
        shutil.copytree(FIXTURES / "one", tmp_path / name)
    (tmp_path / "strain").mkdir()
    source = domains.load("mind").detect(tmp_path)
    assert source.release == release
    assert [path.parent.name for path in source.files[::2]] == sorted(names, reverse=True)
    ids = loaded(tmp_path).events["impression_id"].str.split("-").list.first()
    assert ids.unique(maintain_order=True).to_list() == order


def test_two_releases_in_one_folder_are_refused(copy: Copy) -> None:
    folder = copy("parts")
    shutil.copytree(folder / "MINDsmall_train", folder / "MINDlarge_train")
    with pytest.raises(DataError, match="two train parts, MINDlarge_train and MINDsmall_train"):
        domains.load("mind").detect(folder)


# What a release lacks


def unlabelled(folder: Path) -> None:
    path = folder / "behaviors.tsv"
    path.write_text(path.read_text().replace("-0", "").replace("-1", ""))


def test_the_test_part_has_no_labels_and_is_refused(copy: Copy) -> None:
    folder = copy("one")
    unlabelled(folder)
    with pytest.raises(DataError, match=r"behaviors\.tsv:1: .*clicks are not published: give train and dev"):
        loaded(folder)


def test_beside_other_parts_the_test_part_is_left_out_and_that_is_said(copy: Copy) -> None:
    folder = copy("parts")
    shutil.copytree(folder / "MINDsmall_dev", folder / "MINDsmall_test")
    unlabelled(folder / "MINDsmall_test")
    assert ordered(loaded(folder)) == ordered(loaded(FIXTURES / "parts"))
    assert loaded(folder).warnings[0].startswith("MINDsmall_test is left out")


def test_missing_texts_are_reported_in_one_line(copy: Copy) -> None:
    folder = copy("one")
    lines = (folder / "news.tsv").read_text().splitlines(keepends=True)
    (folder / "news.tsv").write_text("".join(lines[:3]))
    tables = loaded(folder)
    assert tables.items.height == 3
    assert tables.read == tables.events.height + sum(tables.dropped.values())
    (warning,) = tables.warnings
    assert "\n" not in warning
    assert "mention 47 news, and 44 of them (94 %) are not in news.tsv" in warning
    assert "https://msnews.github.io" in warning


def test_complete_texts_are_not_worth_a_line(copy: Copy) -> None:
    folder = copy("one")
    with (folder / "news.tsv").open("a") as file:
        file.writelines(f"N{n}\tnews\tnewsus\tA title\t\turl\t[]\t[]\n" for n in (9001, 9002))
    assert not loaded(folder).warnings


# The prompt


def prompt(**given: Any) -> str:
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(domains.load("mind").template).render(given)


def test_a_prompt_shows_titles_and_categories_and_no_time_that_is_not_known() -> None:
    news = [{"title": f"Title {n}", "category": "food", "subcategory": "s", "abstract": None} for n in range(4)]
    history = [
        {"item": news[0], "signal": {}, "positive": True, "ago": None},
        {"item": news[1], "signal": {"clicked": True}, "positive": True, "ago": "2 hours ago"},
    ]
    exposure = [{"label": "A", "item": news[2]}, {"label": "B", "item": news[3]}]
    lines = prompt(profile={}, history=history, exposure=exposure, now=None).splitlines()
    assert lines == [
        "News you read before, oldest first:",
        "- Title 0 [food]",
        "- Title 1 [food], 2 hours ago",
        "News you could read now:",
        "A. Title 2 [food]",
        "B. Title 3 [food]",
    ]
    assert prompt(profile={}, history=[], exposure=exposure, now=None).startswith("News you could read now:\nA. ")


# The made-up sample


@pytest.fixture(scope="module")
def generate() -> Callable[..., None]:
    return domains.import_file(PROJECT / "dataset_builders" / "sample" / "mind.py").generate


def test_the_generator_repeats(
    generate: Callable[..., None], contents: Callable[[Path], dict[str, str]], tmp_path: Path
) -> None:
    for name, seed in (("one", 3), ("two", 3), ("three", 4)):
        generate(tmp_path / name, seed=seed, users=40, news=60, impressions_per_user=5)
    assert contents(tmp_path / "one") == contents(tmp_path / "two") != contents(tmp_path / "three")


def test_the_sample_is_open_whole_and_has_something_to_learn(generate: Callable[..., None], tmp_path: Path) -> None:
    generate(tmp_path, seed=2, users=300, news=300, impressions_per_user=8)
    source = domains.load("mind").detect(tmp_path)
    assert (source.release, source.licence, source.redistributable) == ("made-up sample", "cc0-1.0", True)
    newest = max((path for path in tmp_path.rglob("*") if path.is_file()), key=lambda path: path.stat().st_mtime_ns)
    assert newest.name == "README"
    tables = loaded(tmp_path)
    assert tables.dropped == {} and not tables.warnings
    assert tables.users.height == 300
    assert tables.items["attributes"].struct.field("title").is_unique().all()
    assert tables.users["history"].list.len().min() == 0
    clicks = tables.events.group_by("impression_id").len()["len"]
    assert clicks.min() == 1 and clicks.max() > 1
    assert not tables.events.select((pl.col("item_id") == pl.col("impression").list.first()).all()).item()
    # A user's clicks are more often of one category than options are: there is something to learn.
    category = dict(tables.items.unnest("attributes").select("item_id", "category").rows())
    favourite = pl.col("category").mode().first().over("user_id")
    shown = tables.events.explode("impression").with_columns(
        category=pl.col("item_id").replace_strict(category), option=pl.col("impression").replace_strict(category)
    )
    shown = shown.with_columns(favourite=favourite)
    rate = shown.select(
        clicked=(pl.col("category") == pl.col("favourite")).mean(), any=(pl.col("option") == pl.col("favourite")).mean()
    ).row(0)
    assert rate[0] > rate[1] + 0.1


# Bad input: one line with the file and the line, or a counted drop


def check_refused(folder: Path, found: str) -> None:
    with pytest.raises(DataError) as caught:
        loaded(folder)
    assert found in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("place", "text"),
    [
        (0, ""), (0, "x"), (0, "-1"), (0, "1"), (0, "9001\0"),
        (1, ""), (1, "901"), (1, "U"), (1, "U9 01"), (1, "U901\0"),
        (2, ""), (2, "3/6/2021"), (2, "13/6/2021 9:00:00 PM"), (2, "2/30/2021 9:00:00 PM"), (2, "3/6/2021 13:00:00 PM"),
        (2, "3/6/2021 9:60:00 PM"), (2, "3/6/2021 9:00:00"), (2, "3/6/0021 9:00:00 PM"), (2, "3/6/9021 9:00:00 PM"),
        (2, "2021-03-06 21:00:00"), (2, "1615064400"), (2, "3/6/2021 9:00:00 PM\0"),
        (3, "101"), (3, "N101  N102"), (3, "N101,N102"), (3, "N101-1"), (3, "N101 "), (3, "N101\0"),
        (4, "N101"), (4, "N101-2"), (4, "N101-1 N102"), (4, "N101-1  N102-0"), (4, "N101-1 N102-"),
        (4, "N101-1,N102-0"), (4, "-1"), (4, "101-1"), (4, "N101-1\0"), (4, "N101-1 "), (4, "N101-01"),
        (4, "N101-1\tN102-0"),
    ],
)  # fmt: skip
def test_an_impression_that_does_not_parse_is_named(place: int, text: str, copy: Copy) -> None:
    folder, fields = copy("one"), GOOD.split("\t")
    fields[place] = text
    with (folder / "behaviors.tsv").open("a") as file:
        file.write("\t".join(fields) + "\n" + GOOD.replace("9001", "9002") + "\n")
    check_refused(folder, f"{folder / 'behaviors.tsv'}:{NEXT}: found ")


@pytest.mark.parametrize("kept", [1, 4, 10, 25, 33, 36, 40, 45, 47])
def test_a_truncated_last_impression_is_named(kept: int, copy: Copy) -> None:
    folder = copy("one")
    with (folder / "behaviors.tsv").open("a") as file:
        file.write(GOOD[:kept])
    check_refused(folder, f"{folder / 'behaviors.tsv'}:{NEXT}: found ")


@pytest.mark.parametrize("swap", [(0, 1), (1, 2), (3, 4), (2, 4), (0, 4)])
def test_swapped_columns_are_named(swap: tuple[int, int], copy: Copy) -> None:
    folder, (left, right) = copy("one"), swap
    path = folder / "behaviors.tsv"
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    for fields in lines:
        fields[left], fields[right] = fields[right], fields[left]
    path.write_text("".join("\t".join(fields) + "\n" for fields in lines))
    check_refused(folder, f"{path}:1: found ")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b"N777\tfood\trecipes\tA title\tAn abstract\turl\t[]\n", "news.tsv:46: found 'N777"),
        (b"N777\tfood\trecipes\tA title\tAn abstract\turl\t[]\t[]\tmore\n", "news.tsv:46: found 'N777"),
        (b"777\tfood\trecipes\tA title\tAn abstract\turl\t[]\t[]\n", "news.tsv:46: found '777"),
        (b"food\tN777\trecipes\tA title\tAn abstract\turl\t[]\t[]\n", "news.tsv:46: found 'food"),
        (b"N777\tfood\trecipes\tA \0 title\tAn abstract\turl\t[]\t[]\n", "news.tsv:46: found"),
        (b"N777\tfood\trecipes\tA title\tAn abstract\0\turl\t[]\t[]\n", "news.tsv:46: found"),
        (b"N777\tfood\trecipes\tCaf\xe9\tAn abstract\turl\t[]\t[]\n", "news.tsv:46: found 'N777"),
        (b"N777\tfood\trecipes\t" + b"title " * 500_000 + b"\tAn abstract\turl\t[]\t[]\n", "news.tsv:46: found 'N777"),
        (b"N101\tfood\trecipes\tAnother\tAn abstract\turl\t[]\t[]\n", "news.tsv:46: found 'N101 again'"),
        (b"\n", "news.tsv:46: found ''"),
    ],
    ids=range(10),
)
def test_a_news_that_does_not_parse_is_named(line: bytes, found: str, copy: Copy) -> None:
    folder = copy("one")
    with (folder / "news.tsv").open("ab") as file:
        file.write(line)
    check_refused(folder, found)


def test_a_news_that_is_described_twice_alike_is_one(copy: Copy) -> None:
    folder = copy("one")
    with (folder / "news.tsv").open("a") as file:
        file.write((FIXTURES / "one" / "news.tsv").read_text())
    assert ordered(loaded(folder)) == ordered(loaded(FIXTURES / "one"))


def test_a_news_that_parts_describe_differently_is_as_in_the_first(copy: Copy) -> None:
    folder = copy("parts")
    path = folder / "MINDsmall_dev" / "news.tsv"
    path.write_text(path.read_text().replace('"Nobody answers', "Somebody answers"))
    assert attributes(loaded(folder))["N103"]["title"] == '"Nobody answers'


@pytest.mark.parametrize("name", ["behaviors.tsv", "news.tsv"])
@pytest.mark.parametrize(
    "content",
    [None, b"", b"\n\n", b"\0" * 64, b"hello\nworld\n", b"PK\x03\x04\x99\xff" * 9, b"x" * 5_000_000],
    ids=["missing", "empty", "blank", "NUL bytes", "text", "zip", "huge line"],
)
def test_a_file_that_is_missing_or_something_else_is_named(name: str, content: bytes | None, copy: Copy) -> None:
    folder = copy("parts") / "MINDsmall_dev"
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    check_refused(folder.parent, str(folder / name))


def test_a_wrong_encoding_is_named_with_its_line(copy: Copy) -> None:
    folder = copy("one")
    text = (folder / "news.tsv").read_text()
    number = text[: text.index("Café")].count("\n") + 1
    (folder / "news.tsv").write_bytes(text.replace("—", "-").encode("latin-1"))
    check_refused(folder, f"news.tsv:{number}: found 'N102")
    (folder / "news.tsv").write_bytes(text.encode("utf-16"))
    check_refused(folder, "news.tsv:1: found ")


def test_a_folder_that_has_brackets_in_its_name_is_read(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FIXTURES / "one", tmp_path / "mind[1]*"))
    assert ordered(loaded(folder)) == ordered(loaded(FIXTURES / "one"))


def test_a_wrong_folder_names_what_was_expected(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere", FIXTURES / "one" / "news.tsv"):
        check_refused(folder, f"{folder} is no MIND folder: expected behaviors.tsv and news.tsv, or folders train and")


# Damage anywhere

JUNK = (b"\0", b"\xff", b"\t", b"\n", b"\r\n", b'"', b" ", b"-1", b"-", b"N", b"9" * 30, b"\t" * 50, b"x" * 5000)


def damage(path: Path, rng: random.Random) -> None:
    """Cuts, doubles, turns around or overwrites a random piece of a file."""
    data = bytearray(path.read_bytes())
    start = rng.randrange(len(data) + 1)
    end = min(len(data), start + rng.randrange(1, 40))
    piece = bytes(data[start:end])
    data[start:end] = rng.choice([b"", piece * 2, piece[::-1], rng.choice(JUNK), bytes([rng.randrange(256)])])
    path.write_bytes(bytes(data[: rng.randrange(len(data) + 1)] if rng.random() < 0.1 else data))


def check_damaged(seed: int, folder: Path) -> None:
    """A damaged folder is refused in one line, or every row that it gives is accounted for."""
    rng = random.Random(seed)
    shutil.copytree(FIXTURES / rng.choice(["one", "parts"]), folder)
    for _ in range(rng.randrange(1, 4)):
        damage(rng.choice(sorted(folder.rglob("*.tsv"))), rng)
    try:
        tables = loaded(folder)
    except DataError as error:
        assert str(folder) in str(error) and len(str(error)) < 600 and "\n" not in str(error)
        return
    assert tables.read == tables.events.height + sum(tables.dropped.values())
    assert tables.events.null_count().sum_horizontal().item() == 0
    assert tables.events.select(pl.col("item_id").is_in(pl.col("impression")).all()).item()


@pytest.mark.parametrize("seed", range(40))
def test_damage_is_refused_or_accounted_for(seed: int, tmp_path: Path) -> None:
    check_damaged(seed, tmp_path / "raw")


@pytest.mark.soak
@pytest.mark.parametrize("block", range(10))
def test_much_damage_is_refused_or_accounted_for(block: int, tmp_path: Path) -> None:
    for seed in range(1000 + block * 100, 1100 + block * 100):
        check_damaged(seed, tmp_path / str(seed))


# Real releases

REAL = os.environ.get("MIRROR_REAL_DATA")


@pytest.mark.skipif(not REAL, reason="MIRROR_REAL_DATA is not set: it names the folder that holds mind-filled, …")
@pytest.mark.parametrize(("name", "missing"), [("mind-filled", None), ("mind-pruned", None), ("mind-raw", "(96 %)")])
def test_a_real_release_loads_and_its_counts_add_up(name: str, missing: str | None) -> None:
    folder = Path(str(REAL)) / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    tables = loaded(folder)
    lines = (folder / "behaviors.tsv").read_text().splitlines()
    assert tables.read == sum(max(1, line.count("-1")) for line in lines)
    assert tables.read == tables.events.height + sum(tables.dropped.values())
    assert tables.users.height == len({line.split("\t")[1] for line in lines})
    assert not domains.load("mind").detect(folder).redistributable
    assert [missing in warning for warning in tables.warnings] == ([True] if missing else [])
