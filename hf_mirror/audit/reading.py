"""Where choices come from: a run folder, a benchmark, a folder of Parquet, JSON lines or CSV, or a Hub dataset."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl

from hf_mirror.audit.choices import Choices
from hf_mirror.audit.columns import ANSWERS, KNOWN, OPTIONS, choices_of, first_of
from hf_mirror.errors import DataError, HubError

# A file's name is no pattern, and the first rows of a text file do not say what the others hold.
READERS: dict[str, Callable[[Path], pl.LazyFrame]] = {
    ".parquet": lambda path: pl.scan_parquet(path, glob=False),
    ".jsonl": lambda path: pl.read_ndjson(path.read_bytes(), infer_schema_length=None).lazy(),
    ".csv": lambda path: pl.scan_csv(path, glob=False, infer_schema_length=None),
}
SHARD = re.compile(r"-\d{5}-of-\d{5}$")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")

# A label, its rows, and where the tables of a run would lie.
Part = tuple[str, pl.DataFrame, Path | None]


def read(
    source: str, subset: str | None = None, split: str | None = None, revision: str | None = None
) -> dict[str, Choices]:
    """The choices of each part of a dataset, by `subset/split`, and by regime where one part has several.

    Files of a folder are parts of their own, shards (`-00000-of-00002`) put together; files without options and
    answers are passed over. Raises DataError, naming the columns found, where there are no others; HubError where a
    Hub dataset does not load.
    """
    folder = Path(source)
    parts = _of_folder(folder, subset, split) if folder.exists() else _of_hub(source, subset, split, revision)
    found: dict[str, Choices] = {}
    others: dict[str, list[str]] = {}
    for label, table, tables in parts:
        if not _has_choices(table.columns):
            others[label] = table.columns
            continue
        named = table["regime"].fill_null("unknown") if "regime" in table.columns else None
        regimes = [] if named is None else named.unique().sort().to_list()
        for regime in regimes or ["unknown"]:
            part = table.filter(named == regime) if len(regimes) > 1 else table
            name = f"{label} ({regime})" if len(regimes) > 1 else label
            try:
                found[name] = choices_of(part, f"{source}: {name}", regime, tables)
            except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
                kinds = ", ".join(f"{column} {kind}" for column, kind in part.schema.items())
                raise DataError(
                    f"{source}: {name} has columns of other types than expected "
                    f"({str(error).splitlines()[0]}); found {kinds}"
                ) from None
    if not found:
        label, columns = next(iter(others.items()))
        raise DataError(
            f"{source}: {label} has columns {', '.join(columns)}; expected options ({', '.join(OPTIONS)}) and which "
            f"one was chosen ({', '.join(ANSWERS)}); rename the columns"
        )
    return found


def _of_folder(folder: Path, subset: str | None, split: str | None) -> Iterator[Part]:
    base = folder if folder.is_dir() else folder.parent
    files = [*sorted(folder.glob("scenes/*.parquet")), *sorted(folder.glob("*/scenes/*.parquet"))] or [
        path
        for path in (sorted(folder.rglob("*")) if folder.is_dir() else [folder])
        if path.suffix in READERS and not any(part.startswith(".") for part in path.relative_to(base).parts)
    ]
    parts: dict[str, list[Path]] = {}
    for path in files:
        names = [*path.parent.relative_to(base).parts, SHARD.sub("", path.stem)]
        names = [name for name in names if name != "scenes"]
        if (subset is None or subset in names) and (split is None or split == names[-1]):
            parts.setdefault("/".join(names), []).append(path)
    if not parts:
        wanted = "".join(f" of {kind} {name}" for kind, name in (("subset", subset), ("split", split)) if name)
        kinds = " or ".join(READERS)
        raise DataError(f"{folder} holds no {kinds} file{wanted}; expected a run folder, or a file per split")
    for label, paths in parts.items():
        yield label, pl.concat(map(_file, paths), how="diagonal_relaxed"), paths[0].parent.parent / "tables"


def _file(path: Path) -> pl.DataFrame:
    """Of a file with choices the columns that an audit knows; of another one row, for the error that names its
    columns."""
    try:
        frame = READERS[path.suffix](path)
        names = frame.collect_schema().names()
        if not _has_choices(names):
            return frame.head(1).collect()
        return frame.select(name for name in names if name in KNOWN).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{path} does not read as {path.suffix[1:]} ({reason}); mend it or leave it out") from None


def _has_choices(columns: list[str]) -> bool:
    return first_of(OPTIONS, columns) is not None and first_of(ANSWERS, columns) is not None


def _of_hub(repo: str, subset: str | None, split: str | None, revision: str | None) -> Iterator[Part]:
    if not HUB_ID.fullmatch(repo):
        raise DataError(f"{repo} is neither a folder nor a Hub dataset; expected a path, or <namespace>/<name>")
    from datasets import get_dataset_config_names, load_dataset
    from huggingface_hub.utils import httpx  # the client's own: httpx2 from 2.0 on

    try:
        for config in [subset] if subset else get_dataset_config_names(repo, revision=revision):
            loaded = load_dataset(repo, config, split=split, revision=revision)
            for name, part in {split: loaded}.items() if split else loaded.items():
                yield f"{config}/{name}", part.to_polars(), None
    except (OSError, ValueError, httpx.HTTPError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise HubError(f"dataset {repo} does not load ({reason}); check its name, subset, split and revision") from None
