"""Amazon Reviews: two releases with their oddities, what is never shown, and every way a file can be wrong."""

from __future__ import annotations

import gzip
import json
import random
import shutil
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest

from hf_mirror import PROJECT, build, domains, tables
from hf_mirror.errors import DataError
from hf_mirror.files import read_rows
from hf_mirror.schema import Tables

FIXTURES = PROJECT / "tests" / "fixtures" / "amazon_reviews"
LAYOUTS = ("2018", "2023", "2023-gz")
REVIEWS = {"2018": "Tea_Room_5.json", "2023": "Tea_Room.jsonl", "2023-gz": "Cups.jsonl.gz"}
META = {"2018": "meta_Tea_Room.json", "2023": "meta_Tea_Room.jsonl", "2023-gz": "meta_Pens.jsonl.gz"}
MADE_UP = "License: CC0-1.0"
# Of the people in the 2018 fixture, who are as made up as everybody else.
REVIEWERS = ("Ada Madeup", "Bo Invented", "Cy Nobody")
REVIEW = {
    "rating": 5.0, "title": "Fine", "text": "It fits.", "parent_asin": "B0MADEUP01", "user_id": "AEMADEUP1",
    "timestamp": 1_588_687_728_923, "verified_purchase": True,
}  # fmt: skip

JUNK = (b"\0", b"\xff", b"\n", b"\r\n", b'"', b",", b"{", b"}", b"-1", b"1e400", b"NaN", b"null", b"\\ud800", b"[" * 99)

Copy = Callable[[str], Path]
Build = Callable[..., Path]


@pytest.fixture(scope="module")
def amazon() -> domains.Domain:
    return domains.load("amazon_reviews")


@pytest.fixture(scope="module")
def sample() -> ModuleType:
    return domains.import_file(PROJECT / "dataset_builders" / "sample" / "amazon_reviews.py")


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    """A folder of one layout that a test may spoil."""

    def of(layout: str) -> Path:
        return Path(shutil.copytree(FIXTURES / layout, tmp_path / layout))

    return of


@pytest.fixture
def folder(tmp_path: Path) -> Build:
    """A folder of 2023 with these reviews (good ones by default) and these goods."""

    def of(reviews: list[dict[str, Any]] | None = None, goods: list[dict[str, Any]] | None = None) -> Path:
        put(tmp_path / "T.jsonl", dump(reviews or [REVIEW]))
        put(tmp_path / "meta_T.jsonl", dump(goods or [{"parent_asin": "B0MADEUP01", "title": "Cup"}]))
        return tmp_path

    return of


def dump(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def read(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def put(path: Path, data: bytes) -> None:
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def raw_rows(path: Path) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in read(path).splitlines() if line.strip())


def loaded(path: Path) -> Tables:
    domain = domains.load("amazon_reviews")
    return domain.load(path, domain.detect(path))


def detected(layout: str) -> domains.Source:
    return domains.load("amazon_reviews").detect(FIXTURES / layout)


def goods(found: Tables) -> dict[str, dict[str, Any]]:
    """The attributes by item, and `from`, the day it is available from."""
    rows = found.items.with_columns(pl.col("item_id").cast(pl.String)).rows(named=True)
    return {row["item_id"]: {**row["attributes"], "from": row["available_from"]} for row in rows}


def ordered(found: Tables) -> list[Any]:
    """What may not depend on the order of lines: everything but `row`."""
    text = pl.col("user_id", "item_id").cast(pl.String)
    events = found.events.with_columns(text).join(found.remarks.collect(), on="row").drop("row").unnest("signal")
    items = found.items.with_columns(pl.col("item_id").cast(pl.String)).unnest("attributes")
    return [events.sort(pl.all()).rows(), items.sort("item_id").rows(), found.users.height, found.read, found.dropped]


# What the layouts hold


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_usable_review_becomes_one_event(layout: str) -> None:
    fields = ("reviewerID", "asin", "overall") if layout == "2018" else ("user_id", "parent_asin", "rating")
    unit, name = (1000, "unixReviewTime") if layout == "2018" else (1, "timestamp")
    rows = [row for path in detected(layout).files
            if not path.name.startswith("meta_") for row in raw_rows(path)]  # fmt: skip
    wanted = Counter(
        (str(row[fields[0]]), row[fields[1]], datetime.fromtimestamp(row[name] * unit / 1000, UTC), int(row[fields[2]]))
        for row in rows
        if row.get(fields[0]) and " " not in row[fields[1]] and row[fields[2]] in (1, 2, 3, 4, 5)
        and 800_000_000_000 < row[name] * unit < 4_000_000_000_000
    )  # fmt: skip
    found = loaded(FIXTURES / layout)
    events = found.events.with_columns(pl.col("user_id", "item_id").cast(pl.String)).unnest("signal")
    assert Counter(events.select("user_id", "item_id", "timestamp", "rating").iter_rows()) == wanted
    assert found.read == len(rows)
    assert events.filter(pl.col("positive") != (pl.col("rating") >= 4)).is_empty()


def test_a_review_without_a_needed_value_is_a_counted_drop() -> None:
    found = loaded(FIXTURES / "2023")
    assert found.dropped == {"no_user": 3, "no_item": 1, "rating_not_1_to_5": 3, "impossible_time": 4}
    assert found.read == found.events.height + 11
    clean = tables.prepare(domains.load("amazon_reviews"), FIXTURES / "2023", detected("2023"))
    assert clean.dropped == {**found.dropped, "item_not_described": 1, "duplicate_row": 1}


def test_goods_come_out_clean() -> None:
    found = goods(loaded(FIXTURES / "2023"))
    assert found["B0MADEUP01"] == {
        "title": "Kettle & Cup Set , 2 pieces", "store": "Brinmouth & Daughters", "price": 1250.5,
        "categories": ["Home & Kitchen", "Tea"], "from": datetime(2017, 3, 5, tzinfo=UTC),
    }  # fmt: skip
    assert found["B0MADEUP02"]["categories"] == ["Tea Room"] and found["B0MADEUP02"]["store"] is None
    prices = [found[f"B0MADEUP0{n}"]["price"] for n in (2, 3, 4, 5, 6)]
    assert prices == [None, 1299.0, None, None, 12.5]
    assert found["B0MADEUP03"]["title"].endswith("Long ...") and len(found["B0MADEUP03"]["title"]) <= 204
    assert found["B0MADEUP07"]["title"] is None and found["B0MADEUP08"]["title"] is None
    assert found["B0MADEUP09"] == {"title": "Bare Cup", "store": None, "price": None, "categories": [], "from": None}
    assert "B0NOWHERE1" not in found


def test_goods_of_2018_come_out_clean() -> None:
    found = goods(loaded(FIXTURES / "2018"))
    assert found["B00MUP01"]["title"] is None and found["B00MUP01"]["price"] is None
    assert (found["B00MUP02"]["store"], found["B00MUP02"]["price"]) == ("Madeup Press", 12.99)
    assert found["B00MUP02"]["from"] == datetime(2013, 9, 10, tzinfo=UTC)
    assert found["B00MUP03"]["categories"] == [] and found["B00MUP03"]["price"] is None
    assert (found["B00MUP04"]["store"], found["B00MUP04"]["categories"]) == (None, ["Home & Kitchen", "Tea"])


def test_a_date_that_cannot_be_is_left_open() -> None:
    found = goods(loaded(FIXTURES / "2023"))
    opened = {item: found[f"B0MADEUP{item}"]["from"] for item in ("03", "04", "05", "06")}
    # No date; later than the first review; no date in it; details that are themselves a text.
    assert opened == {"03": None, "04": None, "05": None, "06": datetime(2018, 5, 7, tzinfo=UTC)}
    first = dict(loaded(FIXTURES / "2023").events.group_by(pl.col("item_id").cast(pl.String)).agg(
        pl.col("timestamp").min()).iter_rows())  # fmt: skip
    assert all(row["from"] <= first[item] for item, row in found.items() if row["from"])


def test_nothing_that_was_counted_later_is_shown() -> None:
    for layout in LAYOUTS:
        found = loaded(FIXTURES / layout)
        assert [field.name for field in found.items.schema["attributes"].fields] == [
            "title", "store", "categories", "price",
        ]  # fmt: skip
        assert [field.name for field in found.events.schema["signal"].fields] == ["rating", "verified"]
        assert found.remarks.collect_schema().names() == ["row", "title", "text"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_remarks_are_those_of_their_rows(layout: str) -> None:
    found = loaded(FIXTURES / layout)
    remarks = found.remarks.collect()
    assert remarks["row"].to_list() == list(range(found.read))
    title, text = ("summary", "reviewText") if layout == "2018" else ("title", "text")
    rows = [row for path in detected(layout).files if not path.name.startswith("meta_") for row in raw_rows(path)]
    plain = [row for row in remarks.iter_rows(named=True) if "<" not in (rows[row["row"]].get(text) or "<")]
    assert len(plain) > 100
    for row in plain:
        raw = rows[row["row"]]
        assert row["text"].removesuffix(" ...") == raw[text][: len(row["text"].removesuffix(" ..."))]
        assert row["title"] in (raw[title], "Great & small")
    # Only rows that are asked for are cleaned: the choice reaches the scan.
    some = found.remarks.filter(pl.col("row").is_in([3, 120]))
    assert some.collect(engine="streaming")["row"].to_list() == [3, 120]
    assert all("SELECTION" in scan for scan in some.explain().split("NDJson SCAN")[1:])


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("Fits <b>well</b>.<br /><br />Tom &amp; I", "Fits well . Tom & I"),
        ("&#34;yes&#34;, &quot;no&quot; and &#8217;", '"yes", "no" and ’'),
        ("a &lt;3 for\u00a0it\n\n\tand < that", "a <3 for it and < that"),
        ("<script>var a = '<b>';</script>fine<!-- > -->", "fine"),
        ("[[VIDEOID:abc123]] see\x00 this \x07", "see this"),
        ("&amp;lt; stays", "&lt; stays"),
        ("<br />", None),
        ("  ", None),
        (None, None),
        ("word " * 80, "word " * 31 + "word ..."),
        ("x" * 300, "x" * 160 + " ..."),
        ("y" * 160, "y" * 160),
        ("茶" * 161, "茶" * 160 + " ..."),
    ],
)
def test_texts_are_cleaned_and_cut_between_words(raw: str | None, shown: str | None, folder: Build) -> None:
    found = loaded(folder([{**REVIEW, "text": raw, "title": raw}]))
    assert found.remarks.collect().rows() == [(0, shown, shown)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_order_of_lines_does_not_matter(layout: str, copy: Copy) -> None:
    before, spoiled = ordered(loaded(FIXTURES / layout)), copy(layout)
    for path in spoiled.iterdir():
        lines = [line for line in read(path).splitlines(keepends=True) if line.strip()]
        random.Random(1).shuffle(lines)
        put(path, b"".join(lines))
    assert ordered(loaded(spoiled)) == before


def test_compressed_and_plain_are_the_same(copy: Copy) -> None:
    before, spoiled = ordered(loaded(FIXTURES / "2023-gz")), copy("2023-gz")
    for path in list(spoiled.iterdir()):
        path.with_suffix("").write_bytes(read(path))
        path.unlink()
    assert ordered(loaded(spoiled)) == before


def test_several_categories_are_one_log() -> None:
    found = loaded(FIXTURES / "2023-gz")
    assert set(goods(found)) == {f"B0MADE{kind}{n:02d}" for kind in ("CU", "PE") for n in range(1, 13)}
    assert found.events["row"].is_unique().all()
    both = found.events.group_by("user_id").agg(pl.col("item_id").cast(pl.String).str.slice(6, 2).n_unique())
    assert (both["item_id"] == 2).any()


def test_a_category_without_meta_is_named_and_its_reviews_are_counted() -> None:
    found = loaded(FIXTURES / "2018")
    rows = len(list(raw_rows(FIXTURES / "2018" / "Soap.json")))
    assert found.warnings == (f"Soap.json: no meta file describes the goods of its {rows} reviews",)
    clean = tables.prepare(domains.load("amazon_reviews"), FIXTURES / "2018", detected("2018"))
    assert clean.dropped["item_not_described"] == rows


# What may never come out


def test_names_of_reviewers_are_never_read(copy: Copy, tmp_path: Path, amazon: domains.Domain) -> None:
    raw = (FIXTURES / "2018" / "Tea_Room_5.json").read_text(encoding="utf-8")
    assert all(name in raw for name in REVIEWERS)
    found = loaded(FIXTURES / "2018")
    frames = (found.users, found.items, found.events, found.remarks.collect())
    build.build(amazon, FIXTURES / "2018", tmp_path / "run", build.BuildSettings(scenes=20, regime="uniform"))
    rows = [row for path in sorted((tmp_path / "run").rglob("*.parquet")) for row in read_rows(path)]
    assert rows
    told = str([frame.rows() for frame in frames]) + str(rows)
    assert not any(name in told for name in (*REVIEWERS, "reviewerName"))


@pytest.mark.parametrize("fault", ['{"reviewerName": "Ada Madeup", ', '{"verified": "Ada Madeup"}', '["Ada Madeup"]'])
def test_names_of_reviewers_are_not_in_errors_either(fault: str, copy: Copy) -> None:
    path = copy("2018") / "Tea_Room_5.json"
    path.write_text(fault + "\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        loaded(path.parent)
    assert f"{path}:1: found " in str(caught.value) and "Ada" not in str(caught.value)


def test_the_licence_is_closed_unless_the_folder_says_that_it_is_made_up(copy: Copy) -> None:
    for layout in LAYOUTS:
        spoiled = copy(layout)
        source = domains.load("amazon_reviews").detect(spoiled)
        year = layout[:4]
        assert (source.release, source.licence) == (f"Amazon Reviews {year}", "no licence assigned")
        assert not source.redistributable
        assert {"2018": "D19-1018", "2023": "2403.03952"}[year] in source.citation
        (spoiled / "README").write_text("A note about a CC0-1.0 licence.\n")
        assert not domains.load("amazon_reviews").detect(spoiled).redistributable
        (spoiled / "README").write_text(f"Made up.\n\n{MADE_UP}\n")
        source = domains.load("amazon_reviews").detect(spoiled)
        assert (source.release, source.licence, source.redistributable) == ("made-up sample", "cc0-1.0", True)


# Which folders are read


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["A.jsonl"], "meta_A.jsonl is missing"),
        (["A_5.json.gz"], "meta_A.json.gz is missing"),
        (["A.b.jsonl", "meta_C.jsonl"], "meta_A.b.jsonl is missing"),
        (["meta_A.jsonl"], "is no Amazon Reviews folder"),
        (["A.csv", "meta_A.tsv", ".B.jsonl", "C.jsonl.part"], "is no Amazon Reviews folder"),
        (["A.jsonl", "meta_A.jsonl", "B.json"], "mixes releases, A.jsonl and B.json"),
        (["A.jsonl", "meta_A.jsonl", "A.jsonl.gz"], "holds A twice, as A.jsonl and A.jsonl.gz"),
        (["A.json", "A_5.json", "meta_A.json"], "holds A twice, as A.json and A_5.json"),
    ],
)
def test_a_folder_that_is_not_one_release_is_refused(names: list[str], told: str, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"; (keep|give|download)") as caught:
        domains.load("amazon_reviews").detect(tmp_path)
    assert told in str(caught.value) and str(tmp_path) in str(caught.value)


def test_the_name_of_a_folder_is_not_a_pattern(tmp_path: Path) -> None:
    odd = tmp_path / "a[1]*?"
    shutil.copytree(FIXTURES / "2023", odd)
    shutil.copytree(FIXTURES / "2023-gz", tmp_path / "a1x")
    assert loaded(odd).read == loaded(FIXTURES / "2023").read


# What is wrong with a file

BAD_LINES = [
    (b"{'rating': 5.0}", "no JSON at character 2"),
    (b'{"rating": 5.0, "user_id": "AE', "no JSON at character"),
    (b"\0\0\0", "no JSON at character 1"),
    (b"caf\xe9", "bytes that are not UTF-8 at character 4"),
    (b'{"title": "caf\xe9"}', "bytes that are not UTF-8"),
    (b"[1, 2]", "a JSON list"),
    (b"7", "a JSON int"),
    (b'{"title": "a"}{"title": "b"}', "no JSON at character 15 (Extra data)"),
    (b'{"title": ' + b"9" * 5000 + b"}", "beyond all bounds"),
    (b'{"title": ' + b"[" * 100_000 + b"}", "beyond all bounds"),
    (b"x" * 3_000_000, "no JSON at character 1"),
]
BAD_REVIEWS = [
    (b'{"rating": "5.0"}', "a text as rating, expected a number"),
    (b'{"rating": 5, "timestamp": "2020-01-01"}', "a text as timestamp, expected a whole number"),
    (b'{"timestamp": 1588687728.5}', "a JSON float as timestamp, expected a whole number"),
    (b'{"timestamp": 99999999999999999999}', "a JSON int as timestamp, expected a whole number"),
    (b'{"verified_purchase": [1]}', "a JSON list as verified_purchase, expected true or false"),
]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("line", "told"), [*BAD_LINES, *BAD_REVIEWS])
def test_a_line_that_does_not_parse_is_named(line: bytes, told: str, packed: bool, folder: Build) -> None:
    raw = folder()
    for name, good in (("T.jsonl", dump([REVIEW])), ("meta_T.jsonl", (raw / "meta_T.jsonl").read_bytes())):
        if name == "meta_T.jsonl" and (line, told) in BAD_REVIEWS:
            continue
        (raw / name).unlink()
        spoiled = raw / (f"{name}.gz" if packed else name)
        put(spoiled, good * 700 + b"\n" + line + b"\n" + good * 3)
        with pytest.raises(DataError) as caught:
            loaded(raw)
        assert str(caught.value).startswith(f"{spoiled}:702: found ") and told in str(caught.value)
        assert len(str(caught.value)) < len(str(raw)) + 200
        put(spoiled, good)
    assert loaded(raw).read == 1


@pytest.mark.parametrize("kind", ["reviews", "meta"])
def test_a_compressed_file_that_breaks_off_is_named(kind: str, copy: Copy) -> None:
    spoiled = copy("2023-gz")
    path = spoiled / {"reviews": REVIEWS, "meta": META}[kind]["2023-gz"]
    data = path.read_bytes()
    for broken in (data[: len(data) // 2], data[:-4], data[:-8] + bytes(8), data[:300] + b"x" * 40 + data[340:]):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=r":\d+: the compressed data end or break here .*; download it again"):
            loaded(spoiled)
    path.write_bytes(data + b"what follows")
    with pytest.raises(DataError, match=path.name):
        loaded(spoiled)


def test_a_file_that_only_its_name_calls_compressed_is_read(copy: Copy) -> None:
    spoiled = copy("2023-gz")
    path = spoiled / REVIEWS["2023-gz"]
    path.write_bytes(read(path))
    assert ordered(loaded(spoiled)) == ordered(loaded(FIXTURES / "2023-gz"))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("data", [b"", b"\n\n  \n"])
def test_an_empty_file_is_named(layout: str, data: bytes, copy: Copy) -> None:
    for name in (REVIEWS[layout], META[layout]):
        spoiled = copy(layout)
        put(spoiled / name, data)
        with pytest.raises(DataError, match=f"{name}: (it is empty|found no .* in 0 lines)"):
            loaded(spoiled)
        shutil.rmtree(spoiled)


def test_a_file_without_any_use_is_named_with_the_reasons(folder: Build) -> None:
    raw = folder([{"overall": 5.0, "reviewerID": "A1", "asin": "B1", "unixReviewTime": 1_588_687_728}] * 3)
    with pytest.raises(DataError) as caught:
        loaded(raw)
    assert "T.jsonl: none of its 3 lines can be used {'no_user': 3}" in str(caught.value)
    assert "user_id, parent_asin, rating, timestamp" in str(caught.value)


def test_ids_and_prices_of_another_type_are_text(folder: Build) -> None:
    good = {"parent_asin": 7, "title": 1984, "price": 9, "details": [], "categories": ["A", None, 3]}
    found = loaded(folder([{**REVIEW, "user_id": 12, "parent_asin": 7}], [good]))
    assert goods(found)["7"] == {"title": "1984", "store": None, "price": 9.0, "categories": ["A", "3"], "from": None}
    assert found.events["user_id"].cast(pl.String).to_list() == ["12"]


def test_of_goods_that_come_twice_one_is_kept_whatever_their_order(folder: Build) -> None:
    twice = [
        {"parent_asin": "B0MADEUP01", "title": title, "categories": [kind]}
        for title in ("Cup", "Bowl", None) for kind in ("B", "A")
    ]  # fmt: skip
    for order in (twice, twice[::-1]):
        found = loaded(folder(goods=order))
        assert found.items.height == 1
        assert (goods(found)["B0MADEUP01"]["title"], goods(found)["B0MADEUP01"]["categories"]) == ("Bowl", ["A"])


def check_damaged(seed: int, raw: Path) -> None:
    """A damaged folder is refused in one line that names it, or every row that it gives is accounted for."""
    rng = random.Random(seed)
    shutil.copytree(FIXTURES / rng.choice(LAYOUTS), raw)
    for _ in range(rng.randrange(1, 4)):
        path = rng.choice(sorted(raw.iterdir()))
        inside = path.suffix == ".gz" and rng.random() < 0.5
        try:
            data = bytearray(read(path) if inside else path.read_bytes())
        except (OSError, EOFError, ValueError, zlib.error):
            continue
        start = rng.randrange(len(data) + 1)
        piece = bytes(data[start : start + rng.randrange(1, 40)])
        junk = (
            b"\0",
            b"\xff",
            b"\n",
            b"\r\n",
            b'"',
            b",",
            b"{",
            b"}",
            b"-1",
            b"1e400",
            b"NaN",
            b"null",
            b"\\ud800",
            b"[" * 99,
        )
        data[start : start + len(piece)] = rng.choice([b"", piece * 2, piece[::-1], rng.choice(junk), rng.choice(junk)])
        damaged = bytes(data[: rng.randrange(len(data) + 1)] if rng.random() < 0.1 else data)
        put(path, damaged) if inside else path.write_bytes(damaged)
    domain = domains.load("amazon_reviews")
    try:
        found = tables.prepare(domain, raw, domain.detect(raw))
    except DataError as error:
        assert "\n" not in str(error) and str(raw) in str(error), error
        return
    assert found.read == found.events.height + sum(found.dropped.values())
    assert found.remarks.collect()["row"].to_list() == list(range(found.read))


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_raw_folder(seed: int, tmp_path: Path) -> None:
    check_damaged(seed, tmp_path / "raw")


@pytest.mark.soak
def test_thousands_of_damaged_raw_folders(tmp_path: Path) -> None:
    for seed in range(40, 2040):
        check_damaged(seed, tmp_path / str(seed))
        shutil.rmtree(tmp_path / str(seed))


# The made-up sample


def test_the_sample_has_the_same_bytes_for_the_same_seed(sample: ModuleType, tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        sample.generate(tmp_path / name, seed=seed, users=30, items=20, gz=True)
    contents = {
        name: {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("one", "again", "other")
    }
    assert contents["one"] == contents["again"] and contents["one"] != contents["other"]
    sample.generate(tmp_path / "plain", seed=1, users=30, items=20)
    for path in (tmp_path / "plain").glob("*.jsonl"):
        assert path.read_bytes() == read(tmp_path / "one" / f"{path.name}.gz")


def test_the_sample_in_blocks_is_whole(sample: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "BLOCK", 7)
    sample.generate(tmp_path, users=30, items=40)
    found = loaded(tmp_path)
    assert found.users.height == 30 and found.dropped == {}
    assert found.events.select("user_id", "item_id").n_unique() >= found.read - 5


def test_the_sample_is_open_and_has_favourites(sample: ModuleType, tmp_path: Path, amazon: domains.Domain) -> None:
    sample.generate(tmp_path)
    source = amazon.detect(tmp_path)
    assert source.redistributable and source.licence == "cc0-1.0"
    clean = tables.prepare(amazon, tmp_path, source)
    assert clean.read > 3000 and 0.5 < clean.events["positive"].mean() < 0.9
    assert clean.dropped["item_not_described"] > 0
    assert clean.events.group_by("item").len()["len"].max() > 5 * clean.events.group_by("item").len()["len"].median()
