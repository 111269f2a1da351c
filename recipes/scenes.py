"""Choices to learn from: what a user had seen is read once, however many lists of options follow it.

Several builds of one source (`mirror build --seed`) ask the same choices among other options. Their prompts begin
alike, so that one row holds the common beginning once and each list with its answer as a block behind it, which sees
the beginning and itself. The loss is that of separate rows, for a fraction of their tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset

from hf_mirror import files, prompts
from hf_mirror.backends.tokens import in_common
from hf_mirror.errors import DataError
from hf_mirror.rationales import domain_folders
from recipes.scratch import ASSISTANT

COLUMNS = ["scene_id", "user_id", "timestamp", "exposure", "choice_index", "prompt"]
MARKER = "\n- "  # what domain templates begin an entry of the history with
IGNORED = -100
TOKENIZE_AT_ONCE = 4096  # rows
# Share of rows whose whole answer line is learned beside a history. It is ever the same and soon known; learned in
# every row it holds up the letters (recipes/scratch-33m/README.md).
LINES = 0.05


class Row(NamedTuple):
    """A choice: its tokens, where they stand, whose block they are of (0: the common beginning), and what is learned.
    Of every list whose options' texts all begin behind the common beginning, `asked` is where the answer's label
    stands, and `titles` has the texts' first tokens, list after list, each as long as the others."""

    input_ids: np.ndarray
    position_ids: np.ndarray
    block: np.ndarray
    labels: np.ndarray
    asked: np.ndarray
    titles: np.ndarray


def load_choices(folders: Sequence[str], split: str) -> tuple[list[list[dict[str, Any]]], list[dict[str, str]]]:
    """The scenes of a split as conversations `{prompt, completion}`, those of one choice together, and the files that
    they are from. DataError where a folder holds no built domain, or a file of this split is missing."""
    found: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    sources = []
    for folder in folders:
        for domain in domain_folders(Path(folder)):
            path = domain / "scenes" / f"{split}.parquet"
            sources.append({"path": path.as_posix(), "sha256": files.sha256_file(path)})
            for row in files.read_rows(path, COLUMNS):
                truth = row["exposure"][row["choice_index"]]["item_id"]
                key = (domain.name, row["user_id"], row["timestamp"], truth)
                found.append((key, direct(row["prompt"], row["choice_index"], len(row["exposure"]))))
    if not found:
        raise DataError(f"{', '.join(folders)}: no scenes of split {split}; run `mirror build` first")
    found.sort(key=itemgetter(0))  # stable: within a choice, in the order of `folders`
    return [[scene for _, scene in group] for _, group in groupby(found, key=itemgetter(0))], sources


def check_users(folders: Sequence[str]) -> None:
    """DataError where a user of validation, which is the first folder's, is one to learn from in another."""
    held_out: set[tuple[str, str]] = set()
    for number, folder in enumerate(folders):
        for domain in domain_folders(Path(folder)):
            users = {
                split: {
                    (domain.name, row["user_id"])
                    for row in files.read_rows(domain / "scenes" / f"{split}.parquet", ["user_id"])
                }
                for split in ("train", "validation")
            }
            held_out |= users["validation"] if number == 0 else set()
            if both := held_out & users["train"]:
                raise DataError(
                    f"{domain}: {len(both)} users to learn from are in the validation scenes of {folders[0]}; build "
                    "all folders from the same files with the same --split-by"
                )


def direct(prompt: prompts.Messages, choice: int, options: int) -> dict[str, Any]:
    """A scene's prompt, asked for the answer line alone, and that line."""
    answer = [{"role": "assistant", "content": prompts.answer_line(choice)}]
    return {"prompt": prompts.direct_messages(prompt), "completion": answer, "n_options": options}


def rows(
    choices: Sequence[Sequence[Mapping[str, Any]]],
    tokenizer: Any,
    max_length: int,
    histories: float,
    seed: int = 0,
    lists: int | None = None,
) -> tuple[Dataset, dict[str, int]]:
    """One `Row` per choice, and what was dropped: `over_length`, scenes that are longer than `max_length` tokens, alone
    (a row of several may be longer), and `nothing_to_learn`, rows without a label. DataError where the former are more
    than half.

    Of a choice's scenes the first `lists` are read, or all. Of every one the label of the answer is learned, of the
    first the whole answer line, too: always without histories, else in a drawn twentieth of the rows. Of the history
    the first token of entries is learned, what the user took next: of all of them where `histories` is 1, else of that
    share, drawn by `seed`. The fewer, the more the answers weigh. With 0 `lists` there are no answers. Where histories
    are learned, so is the choice itself: after the common beginning of several scenes, which ends with the label of the
    first option, it is what the user took next.
    """
    lot = np.random.default_rng(seed)
    marks = np.array([tokenizer.decode([token]).endswith(MARKER) for token in range(len(tokenizer))])
    label, letters = letters_of(tokenizer)
    letter_of = np.full(len(tokenizer), -1)
    letter_of[letters] = np.arange(len(letters))
    made = []
    dropped = {"over_length": 0, "nothing_to_learn": 0}
    for start in range(0, len(choices), TOKENIZE_AT_ONCE):
        part = choices[start : start + TOKENIZE_AT_ONCE]
        scenes = _tokenized([scene for group in part for scene in group], tokenizer)
        for group in part:
            there = [next(scenes) for _ in group]
            fits = [scene for scene in there if len(scene[0]) <= max_length]
            dropped["over_length"] += len(there) - len(fits)
            if not fits:
                continue
            row = _row(fits, lists, label, letter_of, marks, histories, lot)
            if (row.labels == IGNORED).all():
                dropped["nothing_to_learn"] += 1
            else:
                made.append(row)
    total = sum(map(len, choices))
    if dropped["over_length"] > total / 2:
        raise DataError(
            f"{dropped['over_length']} of {total} scenes are longer than {max_length} tokens; raise max_length or the "
            "context, or build scenes with shorter histories"
        )
    columns = {}
    for name in Row._fields:
        values = [getattr(row, name) for row in made] or [np.zeros(0)]
        columns[name] = pa.ListArray.from_arrays(
            np.cumsum([0, *map(len, values)])[: len(made) + 1], np.concatenate(values).astype(np.int32)
        )
    return Dataset(pa.table(columns)), dropped


def letters_of(tokenizer: Any) -> tuple[int, list[int]]:
    """Where in an answer line its label stands, and the labels' tokens."""
    lines = [
        tokenizer(prompts.answer_line(i), add_special_tokens=False)["input_ids"] for i in range(len(prompts.LABELS))
    ]
    label = in_common(lines[:2])
    return label, [line[label] for line in lines]


def _tokenized(scenes: Sequence[Mapping[str, Any]], tokenizer: Any) -> Iterator[tuple[np.ndarray, int]]:
    """Every scene's tokens, and how many of them are the question: all to the marker of the answer, which no token
    reaches across."""
    texts = tokenizer.apply_chat_template([scene["prompt"] + scene["completion"] for scene in scenes], tokenize=False)
    answers = [text.rpartition(ASSISTANT)[2] for text in texts]
    known = {answer: len(tokenizer(answer, add_special_tokens=False)["input_ids"]) for answer in set(answers)}
    for ids, answer in zip(tokenizer(texts, add_special_tokens=False)["input_ids"], answers, strict=True):
        yield np.array(ids), len(ids) - known[answer]


def _row(
    scenes: Sequence[tuple[np.ndarray, int]],
    lists: int | None,
    label: int,
    letter_of: np.ndarray,
    marks: np.ndarray,
    histories: float,
    lot: np.random.Generator,
) -> Row:
    """`scenes`: tokens, and how many of them are the question. `label`: where in an answer its label stands.
    `letter_of`: which option's label a token is, or -1."""
    question = min(before for _, before in scenes)
    shared = in_common([ids[:question] for ids, _ in scenes]) if len(scenes) > 1 else question if lists == 0 else 0
    tokens, positions, blocks = [scenes[0][0][:shared]], [np.arange(shared)], [np.zeros(shared, int)]
    labels = [np.full(shared, IGNORED)]
    asked: list[int] = []
    titles: list[np.ndarray] = []
    whole = 1 if not histories or (lists != 0 and lot.random() < LINES) else 0
    options = [_options(ids[:before], letter_of, shared) for ids, before in scenes]
    for number, ((ids, before), (at, texts)) in enumerate(zip(scenes[:lists], options, strict=False), 1):
        end = len(ids) if number == whole else before + label + 1
        first = before if number == whole else before + label
        if len(at) and np.array_equal(at, np.arange(len(at))) and len(at) == len(titles[0] if titles else at):
            asked.append(sum(map(len, tokens)) + before + label - shared)
            titles.append(texts)
        tokens.append(ids[shared:end])
        positions.append(np.arange(shared, end))
        blocks.append(np.full(end - shared, number))
        labels.append(np.where(positions[-1] >= first, tokens[-1], IGNORED))
    (ids, before), (at, texts) = scenes[0], options[0]
    taken = texts[at == letter_of[ids[before + label]]]
    if histories and len(taken):
        if lists == 0:
            tokens.append(taken[-1:])
            positions.append(np.array([shared]))
            blocks.append(np.array([0]))
            labels.append(np.array([IGNORED]))
        labels[1][0] = taken[-1]
    row, learned = np.concatenate(tokens), np.concatenate(labels)
    # Once for each entry: in the common beginning, or in the only block.
    begins = np.flatnonzero(marks[row[: (shared or question) - 1]]) + 1
    begins = begins[lot.random(len(begins)) < histories]
    learned[begins] = row[begins]
    flat = np.concatenate(titles) if titles else np.zeros(0, int)
    return Row(row, np.concatenate(positions), np.concatenate(blocks), learned, np.array(asked, int), flat)


def _options(question: np.ndarray, letter_of: np.ndarray, shared: int) -> tuple[np.ndarray, np.ndarray]:
    """Which options' texts begin from the end of the common beginning on, and their first tokens; none where the
    common beginning ends elsewhere than before an option's text, or where a text holds what looks like a label."""
    last = question[max(0, shared - 2) :] if shared else question[:0]
    begins = np.flatnonzero((letter_of[last[:-2]] >= 0) & (last[1:-1] == last[1])) if len(last) > 2 else last[:0]
    at = letter_of[last[begins]]
    if (np.diff(at) != 1).any():
        begins = begins[:0]
    return letter_of[last[begins]], last[begins + 2]


@dataclass
class Collator:
    """Rows as a batch, each block blind to the others."""

    pad_token_id: int

    def __call__(self, batch: Sequence[Mapping[str, list[int]]]) -> dict[str, torch.Tensor]:
        """`attention_mask` is [rows, 1, width, width] and true where one position sees another; `asked` [rows, lists]
        and `titles` [rows, lists, options] are filled up with -1; `ends` is the last position of what lists share."""
        width = max(len(row["input_ids"]) for row in batch)
        fills = {"input_ids": self.pad_token_id, "position_ids": 0, "block": -1, "labels": IGNORED}
        padded = {
            name: torch.tensor([[*row[name], *[fill] * (width - len(row[name]))] for row in batch])
            for name, fill in fills.items()
        }
        block = padded.pop("block")
        sees = (block[:, :, None] == block[:, None, :]) | (block[:, None, :] == 0)
        padded["attention_mask"] = (sees & torch.ones(width, width, dtype=torch.bool).tril())[:, None]
        padded["ends"] = (block == 0).sum(1) - 1
        lists = max(len(row["asked"]) for row in batch)
        options = max(len(row["titles"]) // max(1, len(row["asked"])) for row in batch)
        padded["asked"] = torch.full((len(batch), lists), -1)
        padded["titles"] = torch.full((len(batch), lists, options), -1)
        for number, row in enumerate(batch):
            if there := len(row["asked"]):
                padded["asked"][number, :there] = torch.tensor(row["asked"])
                titles = torch.tensor(row["titles"]).view(there, -1)
                padded["titles"][number, :there, : titles.shape[1]] = titles
        return padded
