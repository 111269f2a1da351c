"""Pairs from folders and rows from pairs: what is read, what is refused, what would be cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from hf_mirror import files, prompts
from hf_mirror.errors import ConfigError, DataError, HubError
from hf_mirror.schema import PAIR
from hf_mirror.sealing import NOTE
from recipes import scratch, sft
from recipes.arguments import DataArguments
from recipes.data import count_tokens, drop_long, load_pairs, sft_rows
from tests.recipes.toy import flags

SFT = ("prompt", "completion")


def test_a_domain_and_all_domains(run_folder: Path) -> None:
    one, source = load_pairs(DataArguments(str(run_folder), subset="more_books"), SFT)
    assert set(one["train"]["domain"]) == {"more_books"} and "validation" not in one
    path = run_folder / "more_books" / "preferences" / "train.parquet"
    assert {"path": "more_books/preferences/train.parquet", "sha256": files.sha256_file(path)} in source["files"]
    mixed, source = load_pairs(DataArguments(str(run_folder)), SFT)
    assert (len(mixed["train"]), len(mixed["validation"])) == (48 + 16, 8)
    assert source["folder"] == str(run_folder) and source["subset"] == "mixed" and len(source["files"]) == 4


def test_direct_rows_ask_for_the_answer_line_alone(run_folder: Path) -> None:
    pairs = load_pairs(DataArguments(str(run_folder)), SFT)[0]["train"]
    rows, dropped = sft_rows(pairs, ["rationale", "direct"])
    assert len(rows) == 2 * len(pairs) and dropped == {}
    for i, pair in enumerate(pairs):
        whole, direct = rows[i], rows[i + len(pairs)]
        assert (whole["prompt"], whole["completion"]) == (pair["prompt"], pair["chosen"])
        assert direct["prompt"] == prompts.direct_messages(pair["prompt"])
        [answer] = direct["completion"]
        assert pair["chosen"][0]["content"].endswith("\n" + answer["content"])
        assert prompts.parse(answer["content"], 5).thought == ""
    assert len(sft_rows(pairs, ["direct"])[0]) == len(pairs)


def test_a_decision_without_answer_line_is_a_counted_drop(run_folder: Path) -> None:
    pairs = load_pairs(DataArguments(str(run_folder)), SFT)[0]["train"].select(range(3))
    silent = [{"role": "assistant", "content": "I cannot say."}]
    pairs = pairs.map(lambda row, i: {"completion": silent if i == 1 else row["completion"]}, with_indices=True)
    rows, dropped = sft_rows(pairs, ["direct"])
    assert rows["scene_id"] == [pairs["scene_id"][0], pairs["scene_id"][2]]
    assert dropped == {"no_answer_line": 1}


def test_lengths_are_those_that_the_trainer_sees(run_folder: Path) -> None:
    rows = load_pairs(DataArguments(str(run_folder)), SFT)[0]["validation"]
    tokenizer = scratch.train_tokenizer([m["content"] for row in rows["prompt"] for m in row], 500, 1024)
    found = count_tokens(rows, ("chosen", "rejected"), tokenizer)
    for answer, lengths in zip(("chosen", "rejected"), found, strict=True):
        chats = [row["prompt"] + row[answer] for row in rows]
        assert [len(tokenizer.apply_chat_template(c)["input_ids"]) for c in chats] == lengths.tolist()


def test_rows_that_would_be_cut_are_dropped_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    rows, lengths = Dataset.from_dict({"x": [0, 1, 2]}), np.array([[10, 30, 20], [10, 40, 31]])
    for limits in ((40, 40), (None, None)):
        kept, _, dropped = drop_long("train", rows, lengths, *limits)
        assert (kept["x"], dropped) == ([0, 1, 2], 0)
    assert capsys.readouterr().err == ""
    kept, left, dropped = drop_long("train", rows, lengths, 35, 64)
    assert (kept["x"], left.tolist(), dropped) == ([0, 2], [[10, 20], [10, 31]], 1)
    assert "1 of 3 train rows are longer than max_length, 35 tokens; the longest has 40" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"2 of 3 train rows .* max_length, 30 tokens; .* set max_length: 40"):
        drop_long("train", rows, lengths, 30, None)
    with pytest.raises(DataError, match=r"3 of 3 .* context, 9 tokens; .* choose a model with a longer context"):
        drop_long("train", rows, lengths, 64, 9)


def test_a_mixture_has_its_shares_and_no_row_twice(run_folder: Path) -> None:
    def load(weights: object, seed: int = 0) -> tuple:
        return load_pairs(DataArguments(str(run_folder), mixture=weights), SFT, seed)

    rows, source = load({"books": 3, "more_books": 1})
    assert source["mixture"] == {
        "books": {"share": 0.75, "rows": 48, "of": 48},
        "more_books": {"share": 0.25, "rows": 16, "of": 16},
    }
    rows, source = load('{"books": 0.5, "more_books": 0.5}')
    ids = rows["train"]["scene_id"]
    assert len(set(ids)) == len(ids) == 32 and source["mixture"]["books"] == {"share": 0.5, "rows": 16, "of": 48}
    assert len(rows["validation"]) == 8 and len(source["files"]) == 4 and source["subset"] == "books + more_books"
    equal = {"books": 1, "more_books": 1}
    assert load(equal)[0]["train"]["scene_id"] == ids != load(equal, seed=1)[0]["train"]["scene_id"]


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"dataset": "/nowhere/at/all"}, DataError, "does not exist"),
        ({"dataset": "RUN", "subset": "films"}, DataError, r"films/preferences/train.parquet; run `mirror distill"),
        ({"dataset": "RUN", "mixture": {"books": 1, "films": 1}}, DataError, r"films/preferences/train.parquet"),
        ({"dataset": "RUN", "revision": "v1"}, ConfigError, "no revision 'v1'"),
        ({"dataset": "someone/pairs", "revision": "v9"}, HubError, "'someone/pairs' at revision 'v9'"),
    ],
)
def test_what_cannot_be_found_is_named(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict, error: type[Exception], said: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    arguments["dataset"] = arguments["dataset"].replace("RUN", str(run_folder))
    with pytest.raises(error, match=said):
        load_pairs(DataArguments(**arguments), SFT)


def test_splits_without_rows_are_left_out_or_named(run_folder: Path, shape: Path, tmp_path: Path) -> None:
    silent = [{"role": "assistant", "content": "I cannot say."}]
    for split in ("train", "validation"):
        rows = files.read_rows(run_folder / "books" / "preferences" / f"{split}.parquet")
        changed = [row | {"completion": silent} for row in rows]
        files.write_rows(tmp_path / "books" / "preferences" / f"{split}.parquet", changed, PAIR)
    with pytest.raises(DataError, match=r"no train row of .* has an answer line; add `rationale` to targets"):
        sft.main(flags("sft", tmp_path, tmp_path / "out", from_scratch=shape, targets="direct"))
    files.write_json(tmp_path / NOTE, {"repo": "a/b", "revision": "0" * 40, "files": {}})
    (tmp_path / "films").mkdir()
    table = pq.read_table(run_folder / "books" / "preferences" / "train.parquet")
    pq.write_table(table, tmp_path / "films" / "train.parquet")
    pq.write_table(table.slice(0, 0), tmp_path / "films" / "validation.parquet")
    assert set(load_pairs(DataArguments(str(tmp_path), subset="films"), SFT)[0]) == {"train"}


def test_rows_that_cannot_be_trained_on_are_named(run_folder: Path, tmp_path: Path) -> None:
    table = pq.read_table(run_folder / "books" / "preferences" / "train.parquet")
    path = tmp_path / "books" / "preferences" / "train.parquet"
    path.parent.mkdir(parents=True)

    def refused(changed: object, said: str) -> None:
        pq.write_table(changed, path)
        with pytest.raises(DataError, match=said):
            load_pairs(DataArguments(str(tmp_path)), SFT)

    refused(table.drop_columns(["completion"]), r"lacks the columns \['completion'\]")
    closed = table.drop_columns(["prompt", "completion"])
    refused(closed.append_column("row_hmac", table["scene_id"]), "closed-tier .* `mirror rehydrate`")
    refused(table.slice(0, 0), "no train rows")
    empty = Dataset(table).map(lambda row, i: {"prompt": [] if i == 3 else row["prompt"]}, with_indices=True)
    refused(empty.data.table, "1 rows without prompt")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match="not a whole Parquet file"):
        load_pairs(DataArguments(str(tmp_path)), SFT)
