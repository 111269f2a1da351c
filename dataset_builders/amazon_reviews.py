"""Amazon Reviews, as McAuley Lab publishes them: the release of 2023 (https://amazon-reviews-2023.github.io/) and the
one of 2018 (https://nijianmo.github.io/amazon/), one category or several in a folder, compressed or not.

A raw row of 2023's `<Category>.jsonl` (ratings, milliseconds; goods go by `parent_asin`, which joins their variants):

    {"rating": 5.0, "title": "Great &amp; small", "text": "It fits.<br />All of us like it.", "parent_asin":
     "B0MADEUP01", "user_id": "AEMADEUP", "timestamp": 1588687728923, "helpful_vote": 2, "verified_purchase": true}

`meta_<Category>.jsonl` describes the goods. Not shown, because they were counted when the files were made and so tell
the future: `average_rating` and `rating_number` of the goods, `helpful_vote` and `vote` of a review. The price is of
that day as well, and stays because no rating enters it. Never read: `reviewerName`.
"""

from __future__ import annotations

import glob
import re
from collections import Counter
from html.entities import name2codepoint
from pathlib import Path
from typing import NamedTuple

import polars as pl

from hf_mirror import json_lines
from hf_mirror.domains import Download, Source
from hf_mirror.errors import DataError
from hf_mirror.schema import Tables

NAME = "amazon_reviews"
POSITIVE = "a rating of 4 or more out of 5"

CITATIONS = {
    "2023": """@article{hou2024bridging,
  title   = {Bridging Language and Items for Retrieval and Recommendation},
  author  = {Hou, Yupeng and Li, Jiacheng and He, Zhankui and Yan, An and Chen, Xiusi and McAuley, Julian},
  journal = {arXiv preprint arXiv:2403.03952},
  year    = {2024},
  url     = {https://arxiv.org/abs/2403.03952}
}""",
    "2018": """@inproceedings{ni2019justifying,
  title     = {Justifying Recommendations using Distantly-Labeled Reviews and Fine-Grained Aspects},
  author    = {Ni, Jianmo and Li, Jiacheng and McAuley, Julian},
  booktitle = {Proceedings of EMNLP-IJCNLP 2019},
  pages     = {188--197},
  year      = {2019},
  url       = {https://aclanthology.org/D19-1018}
}""",
}
MADE_UP_LICENCE = "License: CC0-1.0"
LICENCE = "no licence assigned"

CATEGORIES = (
    "All_Beauty", "Amazon_Fashion", "Appliances", "Arts_Crafts_and_Sewing", "Automotive", "Baby_Products",
    "Beauty_and_Personal_Care", "Books", "CDs_and_Vinyl", "Cell_Phones_and_Accessories", "Clothing_Shoes_and_Jewelry",
    "Digital_Music", "Electronics", "Gift_Cards", "Grocery_and_Gourmet_Food", "Handmade_Products",
    "Health_and_Household", "Health_and_Personal_Care", "Home_and_Kitchen", "Industrial_and_Scientific", "Kindle_Store",
    "Magazine_Subscriptions", "Movies_and_TV", "Musical_Instruments", "Office_Products", "Patio_Lawn_and_Garden",
    "Pet_Supplies", "Software", "Sports_and_Outdoors", "Subscription_Boxes", "Tools_and_Home_Improvement",
    "Toys_and_Games", "Unknown", "Video_Games",
)  # fmt: skip
SERVER = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/raw"
# One category of 2023 each; the publisher names no checksums. Several may go into one folder.
DOWNLOADS = {
    name: Download(
        LICENCE + ", so it may not be redistributed",
        "https://amazon-reviews-2023.github.io/",
        (
            (f"{SERVER}/review_categories/{name}.jsonl.gz", None),
            (f"{SERVER}/meta_categories/meta_{name}.jsonl.gz", None),
        ),
    )
    for name in CATEGORIES
}

# Layouts by the endings of their files, and what our columns are called in them.
LAYOUTS = {".jsonl": "2023", ".json": "2018"}
REVIEW = {
    "2023": {
        "user_id": "user_id", "item_id": "parent_asin", "rating": "rating", "time": "timestamp",
        "verified": "verified_purchase", "title": "title", "text": "text",
    },
    "2018": {
        "user_id": "reviewerID", "item_id": "asin", "rating": "overall", "time": "unixReviewTime",
        "verified": "verified", "title": "summary", "text": "reviewText",
    },
}  # fmt: skip
META = {
    "2023": {
        "item_id": "parent_asin", "title": "title", "store": "store", "categories": "categories",
        "main_category": "main_category", "price": "price", "details": "details",
    },
    "2018": {
        "item_id": "asin", "title": "title", "store": "brand", "categories": "category", "main_category": "main_cat",
        "price": "price", "details": "details",
    },
}  # fmt: skip
# Everything else is read as text, in which numbers and maps are kept as they are spelled.
TYPES = {"rating": pl.Float64(), "time": pl.Int64(), "verified": pl.Boolean(), "categories": pl.List(pl.String)}
MILLISECONDS = {"2023": 1, "2018": 1000}
# 1995-01-01, before Amazon opened, and 2100-01-01.
EARLIEST, LATEST = 788_918_400_000, 4_102_444_800_000
ID = r"^[0-9A-Za-z_-]+$"
FILE = re.compile(r"(meta_)?([^.].*)(\.jsonl?)(?:\.gz)?")
AGAIN = "download it again"

LONGEST_TEXT = 160
# Amazon's own limit for names of goods: what is longer has lost its form.
LONGEST_TITLE = 200
# The crawl of 2018 put the page's bullet points behind the categories, whose names are not that long.
LONGEST_CATEGORY = 40
MARKUP = r"(?is)<(?:script|style)[ >].*?</(?:script|style)>|<!--.*?-->|</?[a-z][^<>]*>|\[\[VIDEOID:[^\]]*\]\]"
# Blanks that are not one plain space: to match those as well takes fifteen times as long.
BLANKS = r"[\s\x00-\x1f\x7f]{2,}|[^\S ]|[\x00-\x1f\x7f]"
# Those of HTML 4, by name and by number. With all of HTML 5 reading takes twice as long.
ENTITIES = (
    {f"&{name};": chr(code) for name, code in name2codepoint.items()}
    | {f"&#{code};": chr(code) for code in (*range(32, 127), *name2codepoint.values())}
    | {"&apos;": "'", "&#x27;": "'"}
)


class Category(NamedTuple):
    """The files of one category; `meta` is None where the folder has none."""

    name: str
    reviews: Path
    meta: Path | None


def detect(path: Path) -> Source:
    """Recognises the release by the names of its files, and the licence by the text beside them; else a DataError.

    `path` is a folder, or one category's file of reviews in it.
    """
    layout, found = _categories(path)
    files = tuple(file for category in found for file in (category.reviews, category.meta) if file)
    readme = (path if path.is_dir() else path.parent) / "README"
    if readme.is_file() and MADE_UP_LICENCE in readme.read_text(encoding="utf-8", errors="replace").splitlines():
        return Source("made-up sample", "cc0-1.0", True, "Made-up feedback, generated by hf_mirror.", files)
    return Source(f"Amazon Reviews {layout}", LICENCE, False, CITATIONS[layout], files)


def load(path: Path, source: Source) -> Tables:
    """Reads all categories into tables. A line that does not parse is a DataError with file and line number; a review
    without user, item, rating or a possible time is a counted drop. Texts stay in the files, as `remarks`.

    Goods that no meta file describes are not in `items`. They are available from their `Date First Available`, unless
    that is missing or later than their first review: then it is left open.
    """
    layout, categories = _categories(path)
    ids = pl.Categorical(pl.Categories.random())
    parts, remarks, warnings, dropped, read = [], [], [], Counter[str](), 0
    for category in categories:
        events, faults = _events(category.reviews, layout, ids, read)
        remarks.append(_remarks(category.reviews, layout, read))
        if category.meta is None:
            warnings.append(f"{category.reviews.name}: no meta file describes the goods of its {events.height} reviews")
        parts.append(events)
        dropped += faults
        read += events.height + faults.total()
    events = pl.concat(parts, rechunk=False)
    first = events.group_by("item_id").agg(first=pl.col("timestamp").min())
    items = pl.concat([_items(category.meta, layout, ids) for category in categories if category.meta])
    items = items.join(first, on="item_id", how="left", maintain_order="left")
    known = pl.when(pl.col("available_from") <= pl.col("first")).then("available_from")
    return Tables(
        users=events.select(pl.col("user_id").unique()).with_columns(profile=pl.lit("{}")),
        items=items.select("item_id", "attributes", available_from=known),
        events=events,
        read=read,
        dropped=dict(dropped),
        remarks=pl.concat(remarks),
        warnings=tuple(warnings),
    )


def categories(path: Path) -> dict[str, Path]:
    """The files of reviews in a folder, by category: each may be built alone."""
    return {category.name: category.reviews for category in _categories(path)[1]}


def _categories(path: Path) -> tuple[str, list[Category]]:
    """The layout of a folder and its categories, in the order of their names; or the one that a file has reviews of."""
    folder = path.parent if path.is_file() else path
    reviews: dict[str, Path] = {}
    meta: dict[str, Path] = {}
    layouts: dict[str, Path] = {}
    for file in sorted(folder.iterdir()) if folder.is_dir() else []:
        if not (match := FILE.fullmatch(file.name)) or not file.is_file():
            continue
        kind, name, ending = match.groups()
        layouts.setdefault(LAYOUTS[ending], file)
        # The 5-core of 2018, in which everybody and everything has five reviews, goes with the meta of the whole.
        if not kind and ending == ".json":
            name = name.removesuffix("_5")
        found = meta if kind else reviews
        if path.is_file() and file != path and not kind:
            continue
        if name in found:
            raise DataError(f"{path} holds {name} twice, as {found[name].name} and {file.name}; keep one")
        found[name] = file
    if not reviews:
        wanted = "<Category>.jsonl beside meta_<Category>.jsonl, or .json for both, perhaps with .gz"
        raise DataError(f"{path} is no Amazon Reviews folder: expected {wanted}; give the folder that holds them")
    if len(layouts) > 1:
        files = " and ".join(file.name for file in layouts.values())
        raise DataError(f"{path} mixes releases, {files}; keep the files of one (.jsonl of 2023, .json of 2018)")
    if not reviews.keys() & meta.keys():
        name, file = next(iter(reviews.items()))
        missing = folder / f"meta_{name}{file.name[file.name.rindex('.json') :]}"
        raise DataError(f"{missing} is missing, and without it no title is known; download it beside {file.name}")
    return next(iter(layouts)), [Category(name, file, meta.get(name)) for name, file in reviews.items()]


def _events(path: Path, layout: str, ids: pl.Categorical, offset: int) -> tuple[pl.DataFrame, Counter[str]]:
    """The usable reviews of one file, as `events`, and the counts of the others by reason. `row` starts at `offset`."""
    fields, unit = REVIEW[layout], MILLISECONDS[layout]
    rules = {
        "no_user": pl.col("user_id").str.contains(ID),
        "no_item": pl.col("item_id").str.contains(ID),
        "rating_not_1_to_5": pl.col("rating").is_in([1.0, 2.0, 3.0, 4.0, 5.0]),
        # In the file's own unit: what is far out of range would overflow in another.
        "impossible_time": pl.col("time").is_between(EARLIEST // unit, LATEST // unit),
    }
    scan = _scan(path, fields, offset).select(
        pl.col("user_id", "item_id").cast(ids),
        (pl.col("time") * unit).cast(pl.Datetime("ms", "UTC")).alias("timestamp"),
        pl.struct(pl.col("rating").cast(pl.Int8, strict=False), "verified").alias("signal"),
        (pl.col("rating") >= 4).alias("positive"),
        "row",
        fault=pl.coalesce(pl.when(~rule.fill_null(False)).then(pl.lit(reason)) for reason, rule in rules.items()),
    )
    good, faults = [], Counter[str]()
    try:
        for batch in scan.collect_batches(maintain_order=True):
            faults.update(batch["fault"].drop_nulls())
            good.append(batch.filter(pl.col("fault").is_null()).drop("fault"))
    except (pl.exceptions.PolarsError, OSError) as error:
        json_lines.refuse(path, _schema(fields), error)
    if not any(batch.height for batch in good):
        found = f"none of its {faults.total()} lines can be used {dict(faults)}" if faults else "it is empty"
        raise DataError(f"{path}: {found}; expected JSON lines with {', '.join(fields.values())}; {AGAIN}")
    return pl.concat(good, rechunk=False), faults


def _remarks(path: Path, layout: str, offset: int) -> pl.LazyFrame:
    """`row`, and a review's `title` and shortened `text`, to be read when rows are chosen."""
    texts = (_shortened(_clean(pl.col(name)), LONGEST_TEXT) for name in ("title", "text"))
    # Texts are copied first: the few that are read in the end would hold on to the blocks of which they are parts.
    copied = _scan(path, REVIEW[layout], offset).with_columns(pl.col("title", "text") + "")
    return copied.select("row", *texts)


def _items(path: Path, layout: str, ids: pl.Categorical) -> pl.DataFrame:
    """`item_id`, `attributes` and `available_from` of one meta file; of goods that come twice, the first by content."""
    title = pl.col("title")
    price = pl.col("price").str.strip_chars().str.extract(r"^\$?([0-9][0-9,]*(?:\.[0-9]+)?)$").str.replace_all(",", "")
    date = pl.col("details").str.extract(r'(?i)"\s*date first (?:available|listed)[^"]*"\s*:\s*"\s*(\w+ \d+, \d{4})')
    is_name = (pl.element().str.len_chars() <= LONGEST_CATEGORY) & ~pl.element().str.ends_with(".")
    names = pl.col("categories").list.eval(_clean(pl.element())).list.eval(pl.element().filter(is_name))
    names = names.list.unique(maintain_order=True)
    main = pl.concat_list(_clean(pl.col("main_category"))).list.drop_nulls()
    scan = _scan(path, META[layout]).select(
        pl.col("item_id").cast(ids),
        # Pages that were not understood have a script for a title, which asks for the time.
        title=_shortened(_clean(pl.when(~title.str.contains("getTime", literal=True)).then(title)), LONGEST_TITLE),
        # In 2018 the store of a book reads "Visit Amazon's <author> Page".
        store=_clean(pl.col("store").str.replace(r"^Visit Amazon's (.+) Page$", "$1")),
        categories=pl.when(names.list.len() > 0).then(names).otherwise(main).list.tail(2),
        price=price.cast(pl.Float64, strict=False),
        available_from=date.str.to_datetime("%B %d, %Y", time_unit="ms", time_zone="UTC", strict=False),
    )
    try:
        rows = scan.collect(engine="streaming")
    except (pl.exceptions.PolarsError, OSError) as error:
        json_lines.refuse(path, _schema(META[layout]), error)
    content = ("title", "store", "price", "available_from", pl.col("categories").list.join("\n"))
    items = rows.drop_nulls("item_id").sort(*content, nulls_last=True).unique("item_id", keep="first")
    if items.is_empty():
        raise DataError(f"{path}: found no {META[layout]['item_id']} in {rows.height} lines; {AGAIN}")
    return items.select("item_id", "available_from", attributes=pl.struct("title", "store", "categories", "price"))


def _clean(text: pl.Expr) -> pl.Expr:
    """Without markup, entities and control characters, on one line; null where nothing is left."""
    plain = text.str.replace_all(MARKUP, " ").str.replace_many(ENTITIES)
    return plain.str.replace_all(BLANKS, " ").str.strip_chars(" ").replace("", None)


def _shortened(text: pl.Expr, limit: int) -> pl.Expr:
    """Cut between two words, unless one word is longer than all that may be shown."""
    cut = text.str.slice(0, limit + 1).str.replace(r" [^ ]*$", "").str.slice(0, limit) + " ..."
    return pl.when(text.str.len_chars() > limit).then(cut).otherwise(text)


def _scan(path: Path, fields: dict[str, str], offset: int = 0) -> pl.LazyFrame:
    """A file of JSON lines: the fields under our names, null where a line lacks them, and `row`, from `offset`."""
    scan = pl.scan_ndjson(glob.escape(str(path)), schema=_schema(fields), row_index_name="row", row_index_offset=offset)
    return scan.rename({raw: name for name, raw in fields.items()})


def _schema(fields: dict[str, str]) -> dict[str, pl.DataType]:
    return {raw: TYPES.get(name, pl.String()) for name, raw in fields.items()}
