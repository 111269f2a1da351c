"""The benchmark that a model is scored on, at one revision: a Hub dataset, or a folder of Parquet files."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hf_mirror.alignment import SCORED_COLUMNS, Row
from hf_mirror.errors import DataError, HubError
from hf_mirror.files import read_rows, sha256_file
from hf_mirror.sealing import NOTE

KEY = ("domain", "scene_id", "variant_id")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Bench:
    """A benchmark at one revision: subsets `<domain>` of the headline regime and `<domain>-<regime>` of others."""

    name: str
    subsets: tuple[str, ...]
    repo: str | None = None
    revision: str | None = None
    files: dict[str, Path] = field(default_factory=dict)

    def rows(self, subset: str) -> tuple[list[Row], str]:
        """The rows of one subset, and the revision that names them (commit, or SHA-256 of the file)."""
        if subset not in self.subsets:
            raise DataError(f"{self.name} has no subset {subset!r}; it has {', '.join(self.subsets)}")
        if self.repo is None:
            rows, revision = read_rows(self.files[subset]), f"sha256:{sha256_file(self.files[subset])}"
        else:
            from datasets import load_dataset

            with _hub_errors(f"dataset {self.name}, subset {subset}"):
                rows = list(load_dataset(self.repo, subset, revision=self.revision, split="test"))
            revision = str(self.revision)
        self._check(rows, subset)
        return rows, revision

    def _check(self, rows: list[Row], subset: str) -> None:
        if not rows:
            raise DataError(f"{self.name} has no rows for {subset}; expected benchmark rows; run `mirror bench` again")
        if "row_hmac" in rows[0]:
            raise DataError(
                f"{self.name} ({subset}) is closed-tier and holds no text; run `mirror rehydrate` with your own raw "
                "files and give --bench its folder"
            )
        missing = [name for name in (*SCORED_COLUMNS, "prompt", "choices") if name not in rows[0]]
        if missing:
            raise DataError(f"{self.name} ({subset}) has no column {missing[0]!r}; expected rows of `mirror bench`")
        repeated = [key for key, n in Counter(tuple(row[column] for column in KEY) for row in rows).items() if n > 1]
        if repeated:
            raise DataError(f"{self.name} has {'/'.join(repeated[0])} more than once; expected one row per variant")


def open_bench(reference: str) -> Bench:
    """The benchmark `<ns>/<repo>[@revision]`, a folder of `<subset>.parquet`, a run's folder that holds `bench/`, or
    what `mirror rehydrate` made."""
    folder = Path(reference)
    if folder.is_dir():
        folder = folder / "bench" if (folder / "bench").is_dir() else folder
        if (folder / NOTE).is_file():
            files = {path.parent.name: path for path in sorted(folder.glob("*/test.parquet"))}
        else:
            files = {path.stem: path for path in sorted(folder.glob("*.parquet"))}
        if not files:
            raise DataError(f"{folder} holds no <domain>.parquet; run `mirror bench` on its run folder first")
        return Bench(reference, tuple(files), files=files)
    repo, _, revision = reference.partition("@")
    if not HUB_ID.fullmatch(repo):
        raise DataError(f"bench {reference!r} is neither a folder nor a Hub dataset; expected <ns>/<repo>@<revision>")
    from datasets import get_dataset_config_names
    from huggingface_hub import HfApi

    with _hub_errors(f"dataset {reference}" if revision else f"there is no folder {repo}, and dataset {repo}"):
        commit = HfApi().dataset_info(repo, revision=revision or None).sha
        subsets = get_dataset_config_names(repo, revision=commit)
    return Bench(reference, tuple(subsets), repo=repo, revision=commit)


@contextmanager
def _hub_errors(what: str) -> Iterator[None]:
    from huggingface_hub.utils import httpx  # the client's own: httpx2 from 2.0 on

    try:
        yield
    except (OSError, ValueError, httpx.HTTPError) as error:
        endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise HubError(
            f"{what} could not be read from {endpoint} ({reason}); check the name and the revision"
        ) from None
