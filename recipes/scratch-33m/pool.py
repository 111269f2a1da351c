"""Several MovieLens folders as one, in the layout of the CSV releases, for the study in README.md beside this file.

    python recipes/scratch-33m/pool.py OUT ML-1M ML-100K ML-LATEST-SMALL

Films of one title and year are one film, with the genres of the first folder that has it. Users stay apart: whether a
person rated in two releases cannot be known. What is written is other people's data: it stays on this machine.
"""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

from dataset_builders import movielens


def main(out: Path, folders: list[Path]) -> None:
    """Writes `ratings.csv` and `movies.csv` to `out`, and says what was read."""
    ratings, films, users = [], [], 0  # users: the highest number so far
    for folder in folders:
        found = movielens.load(folder, movielens.detect(folder))
        items = found.items.select(pl.col("item_id"), pl.col("attributes").struct.unnest())
        films.append(items.select("title", pl.col("genres").list.join("|")))
        events = found.events.join(items, on="item_id").select(
            userId=users + pl.col("user_id").cast(pl.Int64),
            title="title",
            rating=pl.col("signal").struct.field("rating").cast(pl.Float64),
            timestamp=pl.col("timestamp").dt.epoch("s"),
        )
        users = events.select(pl.col("userId").max()).item()
        ratings.append(events)
        print(f"{folder}: {events.height:,} ratings by {events['userId'].n_unique():,} users")
    movies = pl.concat(films).unique("title", keep="first", maintain_order=True)
    movies = movies.with_row_index("movieId", 1).select("movieId", "title", "genres")
    pooled = pl.concat(ratings).join(movies.select("movieId", "title"), on="title")
    out.mkdir(parents=True, exist_ok=True)
    movies.write_csv(out / "movies.csv")
    pooled.select("userId", "movieId", "rating", "timestamp").write_csv(out / "ratings.csv")
    print(f"{out}: {pooled.height:,} ratings by {pooled['userId'].n_unique():,} users of {movies.height:,} films")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("expected OUT and one MovieLens folder or more: pool.py OUT ML-1M [ML-100K …]")
    main(Path(sys.argv[1]), [Path(folder) for folder in sys.argv[2:]])
