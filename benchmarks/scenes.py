"""Raw files to written scenes: `benchmarks/scenes.py [full-scale] [size] [huge] [reviews]` (the first by default).

- full-scale: 16,384 scenes of 1,000,209 ratings, `mixed` negatives, from `ml-1m-fullscale-SYNTHETIC.tar.gz` in
  MIRROR_REAL_DATA; what the prior art was timed on (93.5 s and 2.7 GB).
- size: 16,384 scenes of generated ratings, 1, 2, 4 and 8 million: time should be linear in them.
- huge: the same of 32 million ratings in the layout of MovieLens 32M (a file of 0.8 GB).
- reviews: 16,384 scenes of 20 million generated reviews in a gz file.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from measure import MIRROR, medians

SCENES = 16_384
MIXED = ["--scenes", str(SCENES), "--regime", "mixed"]


def generate_ratings(folder: Path, n_ratings: int, seed: int = 0) -> None:
    """Made-up ratings in the CSV layout of MovieLens: 160 a user and 370 a film on average, both with long tails."""
    rng = np.random.default_rng(seed)
    users, films = n_ratings // 160, max(n_ratings // 370, 100)
    activity = rng.lognormal(0, 1, users)
    count = np.maximum(rng.multinomial(n_ratings - 20 * users, activity / activity.sum()) + 20, 1)
    user = np.repeat(np.arange(1, users + 1, dtype=np.int32), count)
    popularity = rng.lognormal(0, 2, films)
    edges = np.cumsum(popularity) / popularity.sum()
    film = np.minimum(np.searchsorted(edges, rng.random(len(user))), films - 1).astype(np.int32) + 1
    arrival = rng.integers(800_000_000, 1_600_000_000, users)
    time = np.repeat(arrival, count) + (rng.exponential(50_000, len(user))).astype(np.int64)
    rating = rng.choice(np.arange(1, 11) / 2, len(user), p=np.array([1, 3, 2, 7, 5, 20, 12, 27, 8, 15]) / 100)
    frame = pl.DataFrame({"userId": user, "movieId": film, "rating": rating, "timestamp": time})
    frame.unique(["userId", "movieId"], keep="first", maintain_order=True).write_csv(folder / "ratings.csv")
    genres = np.array(["Drama", "Comedy", "Action", "Thriller", "Romance", "Horror", "Animation", "War"])
    titles = [f"Film {n} of the {genres[n % 8]} (19{n % 100:02d})" for n in range(1, films + 1)]
    kinds = [f"{genres[n % 8]}|{genres[(n // 8 + 1) % 8]}" for n in range(films)]
    pl.DataFrame({"movieId": range(1, films + 1), "title": titles, "genres": kinds}).write_csv(folder / "movies.csv")
    (folder / "README.txt").write_text("Made up by benchmarks/scenes.py.\nLicense: CC0-1.0\n")


def elsewhere(make: Callable[..., None], *arguments: Any, **more: Any) -> None:
    """Makes a raw file in a process of its own: Linux counts what a parent holds as the peak of what it starts."""
    process = multiprocessing.get_context("spawn").Process(target=make, args=arguments, kwargs=more)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{make.__name__} ended with {process.exitcode}")


def build(what: str, builder: str, raw: Path, runs: int, arguments: list[str]) -> None:
    """Builds and prints one line."""
    with tempfile.TemporaryDirectory() as out:
        seconds, memory = medians([MIRROR, "build", builder, "--raw", str(raw), "--out", out, *arguments], runs)
    print(
        f"{what:<44} {seconds:>8.2f} s {memory:>8.0f} MiB {SCENES / seconds:>9.0f} scenes/s   median of {runs}",
        flush=True,
    )


def full_scale(scratch: Path) -> None:
    """The file that the prior art was timed on."""
    real = os.environ.get("MIRROR_REAL_DATA")
    if not real:
        print("MIRROR_REAL_DATA is not set: the full-scale file is not measured")
        return
    with tarfile.open(Path(real) / "ml-1m-fullscale-SYNTHETIC.tar.gz") as archive:
        archive.extractall(scratch, filter="data")
    folder = next(scratch.rglob("ratings.dat")).parent
    build("1,000,209 ratings, mixed", "movielens", folder, 5, MIXED)
    build("1,000,209 ratings, popularity_matched", "movielens", folder, 5, ["--scenes", str(SCENES)])


def size(scratch: Path) -> None:
    """Time against the number of ratings."""
    for millions in (1, 2, 4, 8):
        folder = scratch / str(millions)
        folder.mkdir()
        elsewhere(generate_ratings, folder, millions * 1_000_000)
        build(f"{millions},000,000 generated ratings, mixed", "movielens", folder, 3, MIXED)


def huge(scratch: Path) -> None:
    """The size of MovieLens 32M."""
    elsewhere(generate_ratings, scratch, 32_000_000)
    build("32,000,000 generated ratings, mixed", "movielens", scratch, 1, MIXED)


def reviews(scratch: Path) -> None:
    """The size of a large category of Amazon Reviews 2023."""
    from dataset_builders.sample.amazon_reviews import generate

    elsewhere(generate, scratch, users=1_660_000, items=400_000, reviews_per_user=12, gz=True)
    build("20,000,000 generated reviews, gz, mixed", "amazon_reviews", scratch, 1, MIXED)


PARTS = {"full-scale": full_scale, "size": size, "huge": huge, "reviews": reviews}

if __name__ == "__main__":
    for part in sys.argv[1:] or ["full-scale"]:
        with tempfile.TemporaryDirectory() as folder:
            PARTS[part](Path(folder))
