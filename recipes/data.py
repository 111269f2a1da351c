"""Preference pairs for TRL, with their exact source, and none that would be cut."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, concatenate_datasets, load_dataset
from datasets.exceptions import DatasetBuildError

from hf_mirror import files, identity, prompts
from hf_mirror.errors import ConfigError, DataError, HubError
from hf_mirror.progress import say
from hf_mirror.schema import RESCUED
from hf_mirror.sealing import NOTE
from recipes.arguments import DataArguments

SPLITS = ("train", "validation")
TOKENIZE_AT_ONCE = 512  # rows


def load_pairs(arguments: DataArguments, columns: tuple[str, ...], seed: int = 0) -> tuple[DatasetDict, dict[str, Any]]:
    """The pairs as `{train, validation?}`, and what they are exactly: revision, or the files' SHA-256.

    A folder is what `mirror rehydrate` made, or a run's: `<domain>/preferences/<split>.parquet`, where `mixed` is all
    domains, one after the other. Where nothing is rejected, scenes that `mirror distill --rescue` kept in
    `<domain>/rescued/` come along. Of a `mixture`, train rows are drawn by `seed`; validation rows are all there.
    Raises DataError for a missing folder, subset or column, HubError for a missing dataset or revision.
    """
    folder, name = Path(arguments.dataset), arguments.dataset
    is_folder = folder.is_dir()
    commit = None if is_folder else _commit(name, arguments.revision)
    parts, sources = {}, []
    for subset in arguments.mixture or [arguments.subset]:
        rows, source = (
            _from_folder(folder, arguments, subset, columns)
            if is_folder
            else _from_hub(name, arguments.revision, str(commit), subset)
        )
        if "train" not in rows or not len(rows["train"]):
            raise DataError(f"{name} ({subset}) has no train rows; run `mirror distill` first")
        parts[subset] = DatasetDict({split: part for split, part in rows.items() if len(part)})
        for split, part in parts[subset].items():
            _check_columns(f"{name} ({subset}, {split})", part, columns)
        sources.append(source)
    if not isinstance(arguments.mixture, dict):
        return parts[arguments.subset], {**sources[0], "subset": arguments.subset}
    hashes = [file for source in sources for file in source.get("files", [])]
    rows, mixture = _mix(parts, arguments.mixture, seed)
    source = {**sources[0], "subset": " + ".join(parts), "mixture": mixture}
    return rows, source | ({"files": hashes} if hashes else {})


def _mix(
    parts: dict[str, DatasetDict], weights: dict[str, float], seed: int
) -> tuple[DatasetDict, dict[str, dict[str, float]]]:
    """As many train rows as there are in these shares without using one twice, and how many that is of each subset."""
    whole = sum(weights.values())
    shares = {subset: weight / whole for subset, weight in weights.items()}
    size = min(len(parts[subset]["train"]) / share for subset, share in shares.items())
    drawn, counts = [], {}
    for subset, share in shares.items():
        train = parts[subset]["train"]
        # A share of the size may be a hair below the whole number that it stands for.
        count = min(len(train), max(1, int(share * size + 1e-6)))
        rng = np.random.default_rng(identity.seed("mixture", seed, subset))
        drawn.append(train.select(np.sort(rng.permutation(len(train))[:count])))
        counts[subset] = {"share": share, "rows": count, "of": len(train)}
    found = DatasetDict(train=concatenate_datasets(drawn))
    if validation := [rows["validation"] for rows in parts.values() if "validation" in rows]:
        found["validation"] = concatenate_datasets(validation)
    return found, counts


def _from_folder(
    folder: Path, arguments: DataArguments, subset: str, columns: tuple[str, ...]
) -> tuple[DatasetDict, dict[str, Any]]:
    if arguments.revision is not None:
        raise ConfigError(f"dataset {folder} is a folder and has no revision {arguments.revision!r}; leave it out")
    if (folder / NOTE).is_file():
        return _rehydrated(folder, subset)
    pattern = "*" if subset == "mixed" else subset
    paths = {split: sorted(folder.glob(f"{pattern}/preferences/{split}.parquet")) for split in SPLITS}
    rescued = {split: sorted(folder.glob(f"{pattern}/rescued/{split}.parquet")) for split in SPLITS}
    if not paths["train"]:
        raise DataError(f"{folder} holds no {pattern}/preferences/train.parquet; run `mirror distill {folder}` first")
    is_run = any((path.parent.parent / "report.json").is_file() for path in paths["train"])
    if is_run and not (folder / "preferences.json").is_file():
        raise DataError(f"{folder} holds pairs of a distillation that was stopped; run `mirror distill {folder}` again")
    rows = DatasetDict()
    if "rejected" not in columns and any(rescued.values()):
        paths = {split: [*parts, *rescued[split]] for split, parts in paths.items()}
        shared: list[str] | None = RESCUED.names
    else:
        shared = None
    for split, parts in paths.items():
        tables = [files.read_table(path) for path in parts]
        if tables := [Dataset(table.select(shared or table.column_names)) for table in tables if table.num_rows]:
            rows[split] = concatenate_datasets(tables)
    read = [path for parts in paths.values() for path in parts]
    hashes = [{"path": path.relative_to(folder).as_posix(), "sha256": files.sha256_file(path)} for path in read]
    return rows, {"folder": str(folder), "files": hashes}


def _rehydrated(folder: Path, subset: str) -> tuple[DatasetDict, dict[str, Any]]:
    """The rows of `mirror rehydrate`, which have the commit of the dataset that they were made from."""
    note = files.read_json(folder / NOTE)
    paths = {split: folder / subset / f"{split}.parquet" for split in SPLITS}
    rows = {split: Dataset(files.read_table(path)) for split, path in paths.items() if path.is_file()}
    if not rows:
        subsets = sorted({name.split("/")[0] for name in note["files"]})
        raise DataError(f"{folder} has no subset {subset!r}; it has {', '.join(subsets)}")
    hashes = [{"path": f"{subset}/{split}.parquet", "sha256": files.sha256_file(paths[split])} for split in rows]
    return DatasetDict(rows), {"id": note["repo"], "revision": note["revision"], "folder": str(folder), "files": hashes}


def _from_hub(name: str, asked: str | None, commit: str, subset: str) -> tuple[DatasetDict, dict[str, Any]]:
    try:
        rows = load_dataset(name, subset, revision=commit)
    except (OSError, ValueError, DatasetBuildError) as error:
        raise DataError(f"dataset {name} at {commit} has no readable subset {subset!r}: {error}") from None
    source = {"id": name, "requested_revision": asked, "revision": commit}
    return DatasetDict({split: rows[split] for split in SPLITS if split in rows}), source


def _commit(name: str, revision: str | None) -> str:
    """The commit that a branch or tag stands for now; a commit is itself, so that a cached one needs no network."""
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if Path(name).is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise DataError(f"the dataset folder {name} does not exist; expected a folder or a Hub id such as owner/name")
    if revision is not None and re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    try:
        return str(HfApi().dataset_info(name, revision=revision).sha)
    except (HfHubHTTPError, HFValidationError, httpx.HTTPError, OSError) as error:
        at = f" at revision {revision!r}" if revision else ""
        reason = str(error).strip().splitlines()[0]
        raise HubError(f"dataset {name!r}{at} could not be read: {reason} Check the id and HF_ENDPOINT") from None


def _check_columns(where: str, rows: Dataset, columns: tuple[str, ...]) -> None:
    missing = [name for name in columns if name not in rows.column_names]
    if missing and "row_hmac" in rows.column_names:
        raise DataError(f"{where} is closed-tier and holds no text; run `mirror rehydrate` with your own raw files")
    if missing:
        raise DataError(f"{where} lacks the columns {missing}; found {rows.column_names}")
    for name in columns:
        if empty := sum(not messages for messages in rows[name]):
            raise DataError(f"{where} has {empty} rows without {name}; rehydrate or distill it again")


def sft_rows(pairs: Dataset, targets: list[str]) -> tuple[Dataset, dict[str, int]]:
    """The rows of `pairs` once per target, and the rows dropped, by reason.

    `rationale` rows go in as they are. A `direct` row asks for the answer line alone and answers with the one that
    the chosen decision ends in. A rescued row, which is direct already, goes in once.
    """
    dropped: dict[str, int] = {}
    parts = [pairs] if "rationale" in targets else []
    if "direct" in targets:
        answers = [prompts.parse(row[-1]["content"], len(prompts.LABELS)) for row in pairs["completion"]]
        for answer in answers:
            if answer.parse_error:
                dropped[answer.parse_error] = dropped.get(answer.parse_error, 0) + 1
        keep = [i for i, a in enumerate(answers) if not a.parse_error and (a.thought or "rationale" not in targets)]
        parts.append(pairs.select(keep).map(_direct, desc="Direct rows"))
    return concatenate_datasets(parts), dropped


def _direct(row: dict[str, Any]) -> dict[str, Any]:
    stated = prompts.parse(row["completion"][-1]["content"], len(prompts.LABELS)).stated_choice
    if stated is None:
        raise DataError("a direct row needs a chosen decision with an answer line")
    answer = [{"role": "assistant", "content": prompts.answer_line(stated)}]
    return {"prompt": prompts.direct_messages(row["prompt"]), "completion": answer}


def count_tokens(rows: Dataset, answers: tuple[str, ...], tokenizer: Any) -> np.ndarray:
    """Tokens of prompt + answer as the trainer will see them, shape [answers, rows]."""
    return np.array([[len(ids) for ids in token_ids(rows, answer, tokenizer)] for answer in answers])


def token_ids(rows: Dataset, answer: str, tokenizer: Any) -> Iterator[list[int]]:
    """Prompt + answer of each row in tokens."""
    for start in range(0, len(rows), TOKENIZE_AT_ONCE):
        part = rows[start : start + TOKENIZE_AT_ONCE]
        chats = [prompt + end for prompt, end in zip(part["prompt"], part[answer], strict=True)]
        texts = tokenizer.apply_chat_template(chats, tokenize=False)
        yield from tokenizer(texts, add_special_tokens=False)["input_ids"]


def drop_long(
    split: str, rows: Dataset, lengths: np.ndarray, max_length: int | None, context: int | None
) -> tuple[Dataset, np.ndarray, int]:
    """The rows that fit whole, with their lengths, and how many did not: a trainer would cut their completions.

    Raises DataError where more than half would go, which is a wrong setting and no long tail.
    """
    limits = {"max_length": max_length, "the model's context": context}
    name, limit = min(
        ((n, x) for n, x in limits.items() if x is not None), key=lambda each: each[1], default=("", None)
    )
    if limit is None:
        return rows, lengths, 0
    fits = (lengths <= limit).all(axis=0)
    dropped, longest = int((~fits).sum()), int(lengths.max())
    if dropped:
        said = (
            f"{dropped} of {len(rows)} {split} rows are longer than {name}, {limit} tokens; the longest has {longest}"
        )
        advice = f"set max_length: {longest}" if name == "max_length" else "choose a model with a longer context"
        if dropped > len(rows) / 2:
            raise DataError(f"{said}; {advice}, or build scenes with shorter histories")
        say(f"{said}; they are dropped, {advice} to keep them")
    return rows.select(np.flatnonzero(fits)), lengths[:, fits], dropped
