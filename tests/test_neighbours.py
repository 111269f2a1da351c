"""Content options by a sentence-transformers model: a tiny one with random weights, made here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from hf_mirror import scenes
from hf_mirror.errors import ConfigError
from hf_mirror.neighbours import NEAREST, nearest

WORDS = ["film", "harbour", "garden", "signal", "drama", "comedy", "war", "[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A BERT of eight dimensions, as `sentence-transformers` saves it."""
    import torch
    from sentence_transformers import SentenceTransformer, models
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    shape = BertConfig(
        vocab_size=len(WORDS), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    BertModel(shape).save_pretrained(folder)
    whole = tmp_path_factory.mktemp("encoder")
    part = models.Transformer(str(folder))
    SentenceTransformer(modules=[part, models.Pooling(8)]).save(str(whole))
    return str(whole)


def test_the_same_words_are_nearest(model: str) -> None:
    titles = ["harbour film", "garden film", "harbour film", "signal war", "comedy war drama"]
    found = nearest(pl.Series([json.dumps({"title": title}) for title in titles]), model)
    assert found.shape == (5, min(NEAREST, 4))
    assert found[0, 0] == 2 and found[2, 0] == 0
    assert all(sorted([row, *others]) == list(range(5)) for row, others in enumerate(found.tolist()))


def test_content_options_are_of_the_nearest_and_known_by_then(crowd: Any, model: str) -> None:
    from dataclasses import replace

    world = replace(crowd.world, content_model=model)
    drafts, report = scenes.draw(world, "test", 100, "content", b"s" * 32)
    assert report.kept == 100
    for row in range(len(drafts)):
        time, user = world.time[drafts.event[row]], world.user[drafts.event[row]]
        past = world.item[(world.user == user) & (world.time < time)][-int(drafts.shown[row]) :]
        near = set(world.nearest[past].ravel().tolist())
        truth = int(drafts.choice_index[row])
        others = [int(item) for slot, item in enumerate(drafts.options[row]) if slot != truth]
        assert set(others) <= near
        assert (world.offered_from[others] <= time).all()


def test_another_model_gives_other_options_and_words_give_others(crowd: Any, model: str) -> None:
    from dataclasses import replace

    by_words = scenes.draw(crowd.world, "test", 50, "content", b"s" * 32)[0]
    by_model = scenes.draw(replace(crowd.world, content_model=model), "test", 50, "content", b"s" * 32)[0]
    assert not np.array_equal(by_words.options, by_model.options)


def test_a_model_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be loaded"):
        nearest(pl.Series(['{"title":"a"}', '{"title":"b"}']), str(tmp_path / "nowhere"))
