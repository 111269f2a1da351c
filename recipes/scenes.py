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
from trl.trainer.utils import FusedCausalLMOutput

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
    label, letters = _letters(tokenizer)
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


def _letters(tokenizer: Any) -> tuple[int, list[int]]:
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
    for number, (ids, before) in enumerate(scenes[:lists], 1):
        end = len(ids) if number == whole else before + label + 1
        first = before if number == whole else before + label
        at, texts = _options(ids[:before], letter_of, shared)
        if len(at) and np.array_equal(at, np.arange(len(at))) and len(at) == len(titles[0] if titles else at):
            asked.append(sum(map(len, tokens)) + before + label - shared)
            titles.append(texts)
        tokens.append(ids[shared:end])
        positions.append(np.arange(shared, end))
        blocks.append(np.full(end - shared, number))
        labels.append(np.where(positions[-1] >= first, tokens[-1], IGNORED))
    ids, before = scenes[0]
    at, texts = _options(ids[:before], letter_of, shared)
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
    common beginning ends elsewhere than before an option's text."""
    last = question[max(0, shared - 2) :] if shared else question[:0]
    begins = np.flatnonzero((letter_of[last[:-2]] >= 0) & (last[1:-1] == last[1])) if len(last) > 2 else last[:0]
    return letter_of[last[begins]], last[begins + 2]


@dataclass
class OwnTitles:
    """What a student says in titles, for it to say in labels: self-distillation within one pass.

    What it holds for next at the end of a history, P(title | history), gives the options of a list their share: over
    how often a title is offered and not taken, as in sampled softmax, and with a sum of one. Sequences teach titles
    long before any student of this size finds the label that stands before one. `share` of an answer's target is this,
    the rest is the choice. The title itself is learned from what was taken alone: no gradient flows through this.
    """

    share: float
    letters: torch.Tensor  # [labels], the token of each
    offered: torch.Tensor  # [vocabulary], log of how often a title is offered and not taken, but for a constant

    @classmethod
    def of(cls, train: Dataset, tokenizer: Any, share: float) -> OwnTitles:
        """Counts what `train` offers; a title that is never offered counts as once."""
        _, letters = _letters(tokenizer)
        letter_of = {token: i for i, token in enumerate(letters)}
        counts = np.ones(len(tokenizer))
        for asked, titles, labels in zip(train["asked"], train["titles"], train["labels"], strict=True):
            if asked:
                options = np.reshape(titles, (len(asked), -1)).copy()
                taken = [letter_of[labels[at]] for at in asked]
                left = np.arange(options.shape[1]) != np.array(taken)[:, None]
                np.add.at(counts, options[left], 1)
        return cls(share, torch.tensor(letters), torch.tensor(counts).log().float())

    def mixed(
        self, logprobs: torch.Tensor, labels: torch.Tensor, next_title: torch.Tensor, titles: torch.Tensor
    ) -> torch.Tensor:
        """The expected log-probability of an answer, [lists], to be learned in place of that of the choice,
        `logprobs`. `labels`: log-probabilities of tokens where a label is asked, `next_title`: logits at the end of the
        history, both [lists, vocabulary]; `titles` [lists, options], filled up with -1."""
        known = titles.clamp(min=0)
        with torch.no_grad():
            said = next_title.gather(1, known) - self.offered.to(known.device)[known]
            said = said.masked_fill(titles < 0, -torch.inf).softmax(-1)
        letters = labels[:, self.letters.to(known.device)[: titles.shape[1]]]
        return (1 - self.share) * logprobs + self.share * (said * letters).sum(-1)


def plain_head(model: Any, own: OwnTitles | None = None) -> None:
    """In place of the head that TRL gives a model: the logits of learned positions, whole. TRL makes them in tiles, for
    batches whose logits would not fit; here they are a thousand rows, and on a CPU a step takes a third of the time.
    While training, answers are learned from `own`, too."""

    def forward(self: Any, labels: torch.Tensor, fused_lm_head: bool = True, **given: Any) -> FusedCausalLMOutput:
        asked, titles, ends = (given.pop(name) for name in ("asked", "titles", "ends"))
        head = self.get_output_embeddings()
        hidden = self.base_model(**given).last_hidden_state
        wanted = labels[:, 1:]
        there = wanted != IGNORED
        logits = head(hidden[:, :-1][there]).float()
        norm = logits.logsumexp(-1)
        logprobs = logits.gather(1, wanted[there][:, None])[:, 0] - norm
        with torch.no_grad():
            entropy = norm - (logits * (logits - norm[:, None]).exp()).sum(-1)
            first = (logits.argmax(-1) == wanted[there]).float()
        if own is not None and self.training and (asked >= 0).any():
            rows, lists = torch.nonzero(asked >= 0, as_tuple=True)
            at = (there.flatten().cumsum(0).view(there.shape) - 1)[rows, asked[rows, lists] - 1]
            with torch.no_grad():
                next_title = head(hidden[torch.arange(len(ends)), ends]).float()[rows]
            answers = logits[at] - norm[at][:, None]
            logprobs = logprobs.index_copy(0, at, own.mixed(logprobs[at], answers, next_title, titles[rows, lists]))
        blank = logprobs.new_zeros(wanted.shape)
        found = [blank.masked_scatter(there, values) for values in (logprobs, entropy, first)]
        return FusedCausalLMOutput(log_probs=found[0], entropy=found[1], is_top1=found[2], label_mask=there)

    original = model.forward
    model.forward = lambda *args, **given: (
        forward(model, **given) if given.get("fused_lm_head") else original(*args, **given)
    )


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
