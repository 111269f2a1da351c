"""Preference pairs for TRL, with their exact source, and the check that nothing would be cut."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, concatenate_datasets, load_dataset

from hf_mirror import files, prompts
from hf_mirror.errors import ConfigError, DataError, HubError
from hf_mirror.schema import RESCUED
from hf_mirror.sealing import NOTE
from recipes.arguments import DataArguments

SPLITS = ("train", "validation")
TOKENIZE_AT_ONCE = 512  # rows


def load_pairs(arguments: DataArguments, columns: tuple[str, ...]) -> tuple[DatasetDict, dict[str, Any]]:
    """The pairs as `{train, validation?}`, and what they are exactly: revision, or the files' SHA-256.

    A folder is what `mirror rehydrate` made, or a run's: `<domain>/preferences/<split>.parquet`, where `mixed` is all
    domains, one after the other. Where nothing is rejected, scenes that `mirror distill --rescue` kept in
    `<domain>/rescued/` come along.
    Raises DataError for a missing folder, subset or column, HubError for a missing dataset or revision.
    """
    folder = Path(arguments.dataset)
    found = _from_folder(folder, arguments, columns) if folder.is_dir() else _from_hub(arguments)
    rows, source = found
    if "train" not in rows or not len(rows["train"]):
        raise DataError(f"{arguments.dataset} ({arguments.subset}) has no train rows; run `mirror distill` first")
    for split, part in rows.items():
        _check_columns(f"{arguments.dataset} ({arguments.subset}, {split})", part, columns)
    return rows, {**source, "subset": arguments.subset}


def _from_folder(
    folder: Path, arguments: DataArguments, columns: tuple[str, ...]
) -> tuple[DatasetDict, dict[str, Any]]:
    if arguments.revision is not None:
        raise ConfigError(f"dataset {folder} is a folder and has no revision {arguments.revision!r}; leave it out")
    if (folder / NOTE).is_file():
        return _rehydrated(folder, arguments.subset)
    pattern = "*" if arguments.subset == "mixed" else arguments.subset
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


def _from_hub(arguments: DataArguments) -> tuple[DatasetDict, dict[str, Any]]:
    name, asked = arguments.dataset, arguments.revision
    if Path(name).is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise DataError(f"the dataset folder {name} does not exist; expected a folder or a Hub id such as owner/name")
    sha = _commit(name, asked)
    try:
        rows = load_dataset(name, arguments.subset, revision=sha)
    except (OSError, ValueError) as error:
        raise DataError(f"dataset {name} at {sha} has no readable subset {arguments.subset!r}: {error}") from None
    return DatasetDict({split: rows[split] for split in SPLITS if split in rows}), {
        "id": name,
        "requested_revision": asked,
        "revision": sha,
    }


def _commit(name: str, revision: str | None) -> str:
    """The commit that a branch or tag stands for now; a commit is itself, so that a cached one needs no network."""
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

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
    return np.array(
        [[n for i in range(0, len(rows), TOKENIZE_AT_ONCE) for n in _lengths(rows, i, a, tokenizer)] for a in answers]
    )


def _lengths(rows: Dataset, start: int, answer: str, tokenizer: Any) -> list[int]:
    part = rows[start : start + TOKENIZE_AT_ONCE]
    chats = [prompt + end for prompt, end in zip(part["prompt"], part[answer], strict=True)]
    texts = tokenizer.apply_chat_template(chats, tokenize=False)
    return [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]


def check_lengths(where: str, lengths: np.ndarray, max_length: int | None, context: int | None) -> None:
    """DataError if a completion would be cut: by `max_length`, or by the model's context. Trainers cut in silence."""
    longest = int(lengths.max())
    limits = {"max_length": max_length, "the model's context": context}
    for name, limit in limits.items():
        if limit is not None and longest > limit:
            count = int((lengths > limit).any(axis=0).sum())
            advice = f"set max_length: {longest}" if name == "max_length" else "choose a model with a longer context"
            raise DataError(
                f"{count} of {lengths.shape[1]} {where} rows would lose the end of a completion: the longest has "
                f"{longest} tokens, {name} is {limit}; {advice}, or build scenes with shorter histories"
            )
