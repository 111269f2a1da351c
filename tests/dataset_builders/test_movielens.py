"""MovieLens: three layouts with their oddities, the licence found beside them, and every way a file can be wrong."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest

from hf_mirror import PROJECT, build, domains, tables
from hf_mirror.domains import Domain
from hf_mirror.errors import DataError
from hf_mirror.files import read_rows
from hf_mirror.tables import Log

FIXTURES = PROJECT / "tests" / "fixtures" / "movielens"
LAYOUTS = ("ml-1m", "ml-100k", "ml-csv")
RATINGS = {"ml-1m": "ratings.dat", "ml-100k": "u.data", "ml-csv": "ratings.csv"}
MADE_UP = "License: CC0-1.0"
SHARE_ALIKE = (
    "The user may redistribute the data set, including transformations, so long as it is distributed\n"
    "under these same license conditions.\n"
)
Mirror = Callable[..., Any]


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[str], Path]:
    """A folder of one layout that a test may spoil."""

    def of(layout: str) -> Path:
        return Path(shutil.copytree(FIXTURES / layout, tmp_path / layout))

    return of


def prepared(folder: Path) -> Log:
    domain = domains.load("movielens")
    return tables.prepare(domain, folder, domain.detect(folder))


def attributes(log: Log) -> dict[str, dict[str, Any]]:
    return {item: json.loads(text) for item, text in log.items.select("item_id", "attributes").rows()}


# What the layouts hold


@pytest.mark.parametrize("layout", LAYOUTS)
def test_odd_titles_come_out_as_they_were_written(layout: str) -> None:
    items = attributes(prepared(FIXTURES / layout))
    assert len(items) == 16
    assert items["2"] == {"title": "Café Ámbar (1991)", "genres": ["Drama", "Romance"]}
    assert items["3"]["title"] == "Paper Lantern, The (1995)"
    assert items["4"] == {"title": "Untitled Reel", "genres": [] if layout == "ml-csv" else ["Drama"]}
    assert items["6"]["title"] == "Crème & Señor (1968)"
    assert items["8"]["title"] == 'Winter\'s "Last" Tower (1984)'
    assert items["10"]["title"] == "Hollow, Restless & Lonely (1972)"
    assert sorted(items["13"]["genres"]) == ["Animation", "Children's"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_films_that_nobody_rated_are_kept_and_never_offered(layout: str, movielens: Domain, tmp_path: Path) -> None:
    clean = prepared(FIXTURES / layout)
    assert dict(clean.items.select("item_id", "available_from").rows())["16"] is None
    build.build(movielens, FIXTURES / layout, tmp_path, build.BuildSettings(scenes=100, regime="uniform"))
    rows = read_rows(tmp_path / "movielens" / "scenes" / "train.parquet")
    assert rows and all(option["item_id"] != "16" for row in rows for option in row["exposure"])


def who_rated_what(log: Log) -> list[tuple[str, str, int]]:
    """The events as (user, item, ms), in their order."""
    users, items = log.users["user_id"], log.items["item_id"]
    return [(users[user], items[item], time) for user, item, time in log.events.select("user", "item", "time").rows()]


def ratings(log: Log) -> list[str]:
    """What each event says, as scenes hold it."""
    return log.events.select(tables.as_json(log.events, "signal")).to_series().to_list()


def test_the_three_layouts_agree_on_who_rated_what_and_when() -> None:
    one, other, third = (who_rated_what(prepared(FIXTURES / layout)) for layout in LAYOUTS)
    assert len(one) == 160
    assert one == other == third


def test_ratings_print_as_they_are() -> None:
    whole = ratings(prepared(FIXTURES / "ml-1m"))
    halves = ratings(prepared(FIXTURES / "ml-csv"))
    assert set(whole) == {f'{{"rating":{n}}}' for n in range(1, 6)}
    assert {'{"rating":3.5}', '{"rating":4.0}'} <= set(halves)


def test_profiles() -> None:
    one, other, third = (
        dict(prepared(FIXTURES / layout).users.select("user_id", "profile").rows()) for layout in LAYOUTS
    )
    assert json.loads(one["1"]) == {"age": "under 18", "gender": "woman", "occupation": "other"}
    assert json.loads(one["2"]) == {"age": "18-24", "gender": "man", "occupation": "academic or educator"}
    assert json.loads(other["1"]) == {"age": "4 years old", "gender": "woman", "occupation": "other"}
    assert set(third.values()) == {"{}"}


def test_a_prompt_without_a_profile_starts_with_the_history(movielens: Domain, tmp_path: Path) -> None:
    build.build(movielens, FIXTURES / "ml-csv", tmp_path, build.BuildSettings(scenes=40, regime="uniform"))
    (first, *_) = read_rows(tmp_path / "movielens" / "scenes" / "train.parquet")
    assert first["prompt"][0]["content"].startswith("Films you rated before, oldest first:\n- ")


@pytest.mark.parametrize("layout", ["ml-1m", "ml-csv"])
def test_line_ends_and_byte_order_marks_do_not_matter(layout: str, copy: Callable[[str], Path]) -> None:
    folder, expected = copy(layout), prepared(FIXTURES / layout)
    for path in folder.iterdir():
        data = path.read_bytes().replace(b"\r\n", b"\n")
        data = data.replace(b"\n", b"\r\n") if layout == "ml-1m" else b"\xef\xbb\xbf" + data
        path.write_bytes(data)
    clean = prepared(folder)
    assert clean.events.equals(expected.events)
    assert clean.items.equals(expected.items)
    assert clean.users.equals(expected.users)


def test_a_file_without_a_last_line_end_is_whole(copy: Callable[[str], Path]) -> None:
    folder = copy("ml-1m")
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert prepared(folder).events.equals(prepared(FIXTURES / "ml-1m").events)


def test_any_latin_1_byte_may_stand_in_a_title(copy: Callable[[str], Path]) -> None:
    """0x85 (an ellipsis in Windows spelling) is a line end to `str.splitlines`, and so are 0x1c to 0x1e."""
    folder = copy("ml-1m")
    path = folder / "movies.dat"
    path.write_bytes(path.read_bytes().replace(b"Untitled Reel", b"Wait\x85 Un\x1ctitled\x0b Reel\xa0"))
    assert attributes(prepared(folder))["4"]["title"].startswith("Wait\x85 Un\x1ctitled")


# Numbers are read as numbers; where a line is not plain, all are read as text, which must not change what they say


@pytest.fixture
def builder() -> ModuleType:
    """The builder's module."""
    return domains.import_file(PROJECT / "dataset_builders" / "movielens.py")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_plain_files_are_never_read_as_text_and_would_say_the_same(
    layout: str, builder: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = FIXTURES / layout
    from_text, asked = builder._from_text, []
    monkeypatch.setattr(builder, "_from_text", lambda *given: asked.append(given) or from_text(*given))
    plain = builder.load(folder, builder.detect(folder))
    assert not asked
    monkeypatch.setattr(builder.pl, "read_csv", refuse_numbers(pl.read_csv))
    text = builder.load(folder, builder.detect(folder))
    assert len(asked) == 1
    assert text.events.equals(plain.events) and text.events.schema == plain.events.schema


def refuse_numbers(read_csv: Callable[..., pl.DataFrame]) -> Callable[..., pl.DataFrame]:
    """As if no line could be read as numbers."""

    def read(source: object, **given: Any) -> pl.DataFrame:
        if set(given["schema"].values()) != {pl.String}:
            raise pl.exceptions.ComputeError("no numbers here")
        return read_csv(source, **given)

    return read


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "spelled",
    ["3", "+3", "03", "3.0", "3e0", "3 ", " 3", "-3", "4294967296", "\u00b3", "\u0663", "3_0", '"3"', "0x3", "", "3;"],
)
@pytest.mark.parametrize("place", range(4))
def test_a_number_is_read_alike_whatever_the_other_lines_hold(
    layout: str, spelled: str, place: int, copy: Callable[[str], Path], builder: ModuleType
) -> None:
    """One blank after a number, somewhere else in the file, and all of it is read as text."""
    folder, answers = copy(layout), []
    path = folder / RATINGS[layout]
    plain = path.read_bytes()
    for other in (GOOD_LINE[layout], GOOD_LINE[layout][:-1] + b" \n"):
        fields = GOOD_LINE[layout].decode().strip().split(SEPARATOR[layout].decode())
        fields[place] = spelled + fields[place] if place == 3 and spelled else spelled
        path.write_bytes(plain + other + SEPARATOR[layout].join(field.encode() for field in fields) + b"\n")
        try:
            answers.append(builder.load(folder, builder.detect(folder)).events.row(-1))
        except DataError as error:
            assert f"{path}:{LAST[layout] + 1}: found " in str(error)
            answers.append("refused")
    assert answers[0] == answers[1]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_blanks_around_values_are_forgiven(layout: str, copy: Callable[[str], Path]) -> None:
    folder, separator = copy(layout), SEPARATOR[layout]
    path = folder / RATINGS[layout]
    head, rest = path.read_bytes().split(b"\n", 1) if layout == "ml-csv" else (b"", path.read_bytes())
    blank = b" " if layout != "ml-100k" else b"\x0b"  # a tab more is a field more
    spaced = rest.replace(separator, blank + separator + blank)
    path.write_bytes((head + b"\n" if head else b"") + spaced)
    assert spaced != rest
    assert prepared(folder).events.equals(prepared(FIXTURES / layout).events)


# The licence


@pytest.mark.parametrize(
    ("layout", "readme", "text", "redistributable"),
    [
        ("ml-1m", None, "", False),
        ("ml-1m", "README", "Neither the University nor anybody else. The user may not redistribute the data.", False),
        ("ml-1m", "README", f"Made up.\n\n{MADE_UP}\n", True),
        ("ml-1m", "README", f"Made up.\r\n\r\n{MADE_UP}\r\n", True),
        ("ml-1m", "README", f"Not {MADE_UP}, but all rights reserved", False),
        ("ml-1m", "README", "License: CC0-1.0-like, ask first", False),
        ("ml-1m", "README", SHARE_ALIKE, False),
        ("ml-1m", "LICENSE", MADE_UP, False),
        ("ml-100k", None, "", False),
        ("ml-100k", "README", "The user may not redistribute the data without separate permission.", False),
        ("ml-csv", None, "", False),
        ("ml-csv", "README.txt", "All rights reserved.", False),
        ("ml-csv", "README.txt", SHARE_ALIKE, True),
        ("ml-csv", "README.html", SHARE_ALIKE.replace("transformations", "\n transformations"), True),
        ("ml-csv", "README.txt", SHARE_ALIKE.replace("may redistribute", "may not redistribute"), False),
    ],
)
def test_the_licence_is_read_from_layout_and_text(
    layout: str, readme: str | None, text: str, redistributable: bool, copy: Callable[[str], Path], movielens: Domain
) -> None:
    folder = copy(layout)
    for path in folder.glob("README*"):
        path.unlink()
    if readme:
        (folder / readme).write_bytes(text.encode())
    source = movielens.detect(folder)
    assert source.redistributable is redistributable
    assert source.files[0].name == RATINGS[layout]


def test_the_generated_sample_is_open_and_says_so_last(raw: Path, movielens: Domain) -> None:
    source = movielens.detect(raw)
    assert (source.release, source.licence, source.redistributable) == ("made-up sample", "cc0-1.0", True)
    newest = max(raw.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert newest.name == "README"


def test_the_generator_repeats_and_people_have_tastes(
    generate: Callable[..., None], contents: Callable[[Path], dict[str, str]], tmp_path: Path
) -> None:
    for name, seed in (("one", 3), ("two", 3), ("three", 4)):
        generate(tmp_path / name, seed=seed, users=80, films=60, ratings_per_user=20)
    assert contents(tmp_path / "one") == contents(tmp_path / "two") != contents(tmp_path / "three")
    clean = prepared(tmp_path / "one")
    assert clean.dropped == {}
    assert clean.users.height == 80 and clean.items.height == 60
    rating = clean.events["signal"].struct.field("rating")
    assert set(rating) == {1, 2, 3, 4, 5}
    # Somebody's ratings of a genre are nearer to each other than to everybody's: there is something to learn.
    genres = clean.items.select(pl.col("attributes").str.json_path_match("$.genres[0]")).to_series()
    rated = clean.events.with_columns(rating=rating, genre=genres.gather(clean.events["item"]))
    several = rated.filter(pl.len().over("user", "genre") > 2)
    own_mean = pl.col("rating").mean().over("user", "genre")
    assert several.select((pl.col("rating") - own_mean).std()).item() < 0.9 * several["rating"].std()


# Bad input: one line with the file and the line, exit code 1, no traceback, earlier outputs as they were

GOOD_LINE = {"ml-1m": b"3::5::4::980000000\n", "ml-100k": b"3\t5\t4\t980000000\n", "ml-csv": b"3,5,4.0,980000000\n"}
SEPARATOR = {"ml-1m": b"::", "ml-100k": b"\t", "ml-csv": b","}
LAST = {"ml-1m": 161, "ml-100k": 161, "ml-csv": 162}


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder with an earlier build in it."""
    out = tmp_path_factory.mktemp("earlier")
    build.build(domains.load("movielens"), FIXTURES / "ml-1m", out, build.BuildSettings(scenes=20, regime="uniform"))
    return out


@pytest.fixture
def refused(mirror: Mirror, earlier: Path, contents: Callable[[Path], dict[str, str]]) -> Callable[[Path, str], None]:
    """Asserts that building from a folder is refused in the way every refusal looks, with `found` in its line."""

    def check(folder: Path, found: str) -> None:
        before = contents(earlier)
        answer = mirror("build", "movielens", "--raw", folder, "--out", earlier, "--scenes", 20)
        assert answer.code == 1
        assert answer.out == ""
        assert answer.err.count("\n") == 1
        assert answer.err.startswith("error: ")
        assert found in answer.err
        assert contents(earlier) == before

    return check


Refused = Callable[[Path, str], None]
Copy = Callable[[str], Path]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("what", "fields"),
    [
        ("rating is no number", (b"3", b"5", b"good", b"980000000")),
        ("rating too high", (b"3", b"5", b"6", b"980000000")),
        ("rating too low", (b"3", b"5", b"0", b"980000000")),
        ("rating nan", (b"3", b"5", b"nan", b"980000000")),
        ("time is no number", (b"3", b"5", b"4", b"yesterday")),
        ("time negative", (b"3", b"5", b"4", b"-5")),
        ("time in milliseconds", (b"3", b"5", b"4", b"980000000000")),
        ("no user", (b"", b"5", b"4", b"980000000")),
        ("no item", (b"3", b"", b"4", b"980000000")),
        ("three fields", (b"3", b"5", b"4")),
        ("five fields", (b"3", b"5", b"4", b"980000000", b"more")),
        ("NUL in a user", (b"3\0", b"5", b"4", b"980000000")),
        ("NUL in a rating", (b"3", b"5", b"4\0", b"980000000")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_line_that_does_not_parse_is_named(
    layout: str, what: str, fields: tuple[bytes, ...], copy: Copy, refused: Refused
) -> None:
    folder = copy(layout)
    with (folder / RATINGS[layout]).open("ab") as file:
        file.write(SEPARATOR[layout].join(fields) + b"\n" + GOOD_LINE[layout])
    refused(folder, f"{folder / RATINGS[layout]}:{LAST[layout]}: found ")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kept", [1, 2, 5, 8, 14])
def test_a_truncated_last_line_is_named(layout: str, kept: int, copy: Copy, refused: Refused) -> None:
    """Also where the cut falls into the time: `980000` is a time in 1970, long before anybody rated a film."""
    folder = copy(layout)
    with (folder / RATINGS[layout]).open("ab") as file:
        file.write(GOOD_LINE[layout][:kept])
    refused(folder, f"{folder / RATINGS[layout]}:{LAST[layout]}: found ")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "content",
    [b"", b"\n\n", b"\0" * 64, b"hello\nworld\n", b"PK\x03\x04\x99\xff" * 9],
    ids=["empty", "blank", "NUL bytes", "text", "zip"],
)
def test_a_ratings_file_that_is_something_else_is_named(
    layout: str, content: bytes, copy: Copy, refused: Refused
) -> None:
    folder = copy(layout)
    (folder / RATINGS[layout]).write_bytes(content)
    refused(folder, str(folder / RATINGS[layout]))


@pytest.mark.parametrize(
    ("layout", "name"),
    [("ml-1m", "users.dat"), ("ml-1m", "movies.dat"), ("ml-100k", "u.user"), ("ml-100k", "u.item"),
     ("ml-csv", "movies.csv")],
)  # fmt: skip
@pytest.mark.parametrize("content", [None, b"", b"hello\n", b"\0" * 64], ids=["missing", "empty", "text", "NUL bytes"])
def test_another_file_that_is_missing_or_something_else_is_named(
    layout: str, name: str, content: bytes | None, copy: Copy, refused: Refused
) -> None:
    folder = copy(layout)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    refused(folder, str(folder / name))


@pytest.mark.parametrize(
    ("layout", "name", "line", "found"),
    [
        ("ml-1m", "users.dat", b"17::M::25::21::00000\n", "users.dat:17: found '17::M::25::21::00000'"),
        ("ml-1m", "users.dat", b"17::M::25::none::00000\n", "users.dat:17: found"),
        ("ml-1m", "users.dat", "17::M::25::²::00000\n".encode("latin-1"), "users.dat:17: found"),
        ("ml-1m", "users.dat", b"17::M::25::20\n", "users.dat:17: found"),
        ("ml-1m", "users.dat", b"::M::25::20::00000\n", "users.dat:17: found"),
        ("ml-1m", "movies.dat", b"17::A film without genres\n", "movies.dat:17: found"),
        ("ml-1m", "movies.dat", b"17::A :: B (1990)::Drama\n", "movies.dat:17: found"),
        ("ml-100k", "u.user", b"17|25|M|writer\n", "u.user:17: found"),
        ("ml-100k", "u.item", b"17|Short (1990)|01-Jan-1990||x|0|1\n", "u.item:17: found"),
        ("ml-csv", "movies.csv", b'17,"An open quote (1990),Drama\n', "movies.csv"),
        ("ml-csv", "movies.csv", b"17,One, two (1990),Drama\n", "movies.csv"),
        ("ml-csv", "movies.csv", b"17,Short (1990)\n", "movies.csv"),
        ("ml-csv", "movies.csv", "17,Café (1990),Drama\n".encode("latin-1"), "movies.csv"),
    ],
)
def test_a_description_that_does_not_parse_is_named(
    layout: str, name: str, line: bytes, found: str, copy: Copy, refused: Refused
) -> None:
    folder = copy(layout)
    with (folder / name).open("ab") as file:
        file.write(line)
    refused(folder, found)


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("ratings.csv", b"movieId,userId,rating,timestamp\r\n"),
        ("ratings.csv", b"user,movie,stars,time\r\n"),
        ("ratings.csv", b""),
        ("movies.csv", b"movieId,genres,title\r\n"),
        ("movies.csv", b""),
    ],
)
def test_a_wrong_header_is_named(name: str, header: bytes, copy: Copy, refused: Refused) -> None:
    folder = copy("ml-csv")
    rest = (folder / name).read_bytes().split(b"\n", 1)[1]
    (folder / name).write_bytes(header + rest)
    refused(folder, f"{folder / name}:1: found ")


def test_a_wrong_folder_names_what_was_expected(tmp_path: Path, refused: Refused) -> None:
    refused(tmp_path, "ratings.dat, users.dat, movies.dat; u.data, u.user, u.item; ratings.csv, movies.csv")
    refused(tmp_path / "nowhere", str(tmp_path / "nowhere"))
    refused(FIXTURES / "ml-1m" / "ratings.dat", "ratings.dat")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_an_unreadable_file_is_named(copy: Copy, refused: Refused) -> None:
    folder = copy("ml-1m")
    (folder / "ratings.dat").chmod(0)
    refused(folder, "ratings.dat")


# Rows that cannot be used are not errors: they are counted


def test_rows_that_cannot_be_used_are_counted(copy: Copy, mirror: Mirror, tmp_path: Path) -> None:
    folder = copy("ml-1m")
    first = (folder / "ratings.dat").read_bytes().split(b"\n", 1)[0]
    with (folder / "ratings.dat").open("ab") as file:
        file.write(b"99::5::4::980000000\n99::6::4::980000000\n3::99::4::980000000\n" + first + b"\n" + first + b"\n")
    answer = mirror("build", "movielens", "--raw", folder, "--out", tmp_path / "out", "--scenes", 20, "--json")
    counts = json.loads(answer.out)["movielens"]["tables"]
    assert counts["dropped"] == {"user_not_described": 2, "item_not_described": 1, "duplicate_row": 2}
    assert (counts["read"], counts["kept"]) == (165, 160)


@pytest.mark.parametrize(
    ("name", "line", "number"),
    [("movies.dat", b"2::Another (2000)::War\n", 17), ("users.dat", b"1::M::56::20::00000\n", 17),
     ("movies.dat", b"x1::Another (2000)::War\n", 17), ("users.dat", b"99999999999::M::56::20::00000\n", 17)],
)  # fmt: skip
def test_an_id_that_stands_there_twice_or_is_none_is_named(
    copy: Copy, refused: Refused, name: str, line: bytes, number: int
) -> None:
    folder = copy("ml-1m")
    with (folder / name).open("ab") as file:
        file.write(line)
    refused(folder, f"{name}:{number}: found")


def test_too_few_users_is_one_line(copy: Copy, refused: Refused) -> None:
    folder = copy("ml-1m")
    lines = (folder / "ratings.dat").read_bytes().splitlines(keepends=True)
    (folder / "ratings.dat").write_bytes(b"".join(line for line in lines if line.startswith((b"1:", b"2:"))))
    refused(folder, "only 2 users")


def test_files_that_do_not_belong_together_are_one_line(copy: Copy, refused: Refused) -> None:
    folder = copy("ml-1m")
    (folder / "movies.dat").write_bytes(b"901::Elsewhere (1990)::Drama\n")
    refused(folder, "item_not_described")


# Real releases


REAL = os.environ.get("MIRROR_REAL_DATA")


@pytest.mark.skipif(not REAL, reason="MIRROR_REAL_DATA is not set: it names the folder that holds ml-1m, ml-100k, …")
@pytest.mark.parametrize(
    ("name", "release", "redistributable"),
    [("ml-1m", "ml-1m", False), ("ml-100k", "ml-100k", False), ("ml-latest-small", "ml-csv", True)],
)
def test_a_real_release_builds_and_its_counts_add_up(
    name: str, release: str, redistributable: bool, movielens: Domain, tmp_path: Path
) -> None:
    folder = Path(str(REAL)) / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    report = build.build(movielens, folder, tmp_path, build.BuildSettings(scenes=500))
    assert (report["source"]["release"], report["source"]["redistributable"]) == (release, redistributable)
    counts, split = report["tables"], report["splits"]
    ratings = (folder / RATINGS["ml-csv" if name == "ml-latest-small" else name]).read_bytes()
    assert counts["read"] == ratings.count(b"\n") - (name == "ml-latest-small")
    assert counts["read"] == counts["kept"] + sum(counts["dropped"].values())
    assert sum(split["events"].values()) + sum(lost["events"] for lost in split["lost"].values()) == counts["kept"]
    assert (
        sum(split["positives"].values()) + sum(lost["positives"] for lost in split["lost"].values())
        == (counts["positives"])
    )
    for part in report["scenes"].values():
        assert part["candidates"] == part["kept"] + sum(part["dropped"].values())
    assert {key: part["kept"] for key, part in report["scenes"].items()} == {"train": 400, "validation": 50, "test": 50}
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
