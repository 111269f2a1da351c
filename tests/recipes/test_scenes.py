"""Choices as rows: what several lists of options share is read once, and nothing of the loss changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from trl.trainer.utils import add_fused_lm_head

from dataset_builders.sample import movielens as sample
from hf_mirror import domains, prompts
from hf_mirror.backends import Request
from hf_mirror.backends.transformers import TransformersBackend
from hf_mirror.build import build
from hf_mirror.build_settings import BuildSettings
from hf_mirror.errors import ConfigError, DataError
from recipes import dpo, pretrain, scratch, sft
from recipes.head import OwnTitles, plain_head
from recipes.scenes import IGNORED, Collator, _options, check_users, load_choices, rows
from tests.recipes.toy import in_two_processes

ROOT = domains.PROJECT
SHAPE = {
    "model_type": "llama", "vocab_size": 2048, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 512, "tie_word_embeddings": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two builds of one source: the same choices among other options."""
    top = tmp_path_factory.mktemp("choices")
    raw = top / "raw"
    sample.generate(raw, users=40, films=60, ratings_per_user=20)
    found = []
    for seed in (0, 1):
        settings = BuildSettings(9_999, "popularity", seed=seed, history=(6, 6), train_options=(4, 4), split_by="user")
        build(domains.load("movielens"), raw, top / f"run{seed}", settings, workers=1)
        found.append(str(top / f"run{seed}"))
    return found


@pytest.fixture(scope="module")
def tokenizer(runs: list[str]) -> scratch.PreTrainedTokenizerFast:
    choices, _ = load_choices(runs, "train")
    texts = [message["content"] for (first, *_) in choices for message in first["prompt"] + first["completion"]]
    return scratch.train_tokenizer(texts, 2048, 512, scratch.PHRASES)


def test_every_choice_comes_once_with_the_options_of_every_build(runs: list[str]) -> None:
    choices, sources = load_choices(runs, "train")
    alone, _ = load_choices(runs[:1], "train")
    assert len(choices) == len(alone) > 100 and len(sources) == 2
    assert {len(group) for group in choices} == {2}
    for first, second in choices:
        assert (
            first["prompt"][0]["content"].partition("could watch")[0]
            == (second["prompt"][0]["content"].partition("could watch")[0])
        )
    assert sum(first["prompt"] != second["prompt"] for first, second in choices) > 0.9 * len(choices)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no|no domain|does not exist"):
        load_choices([str(tmp_path / "none")], "train")


def test_phrases_are_tokens_and_labels_stay_alone(runs: list[str], tokenizer: scratch.PreTrainedTokenizerFast) -> None:
    choices, _ = load_choices(runs, "train")
    text = choices[0][0]["prompt"][0]["content"]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text
    title = text.partition("\n- ")[2].partition(" [")[0] + " "
    assert title in {tokenizer.decode([token]) for token in ids}
    for label in prompts.LABELS[:4]:
        found = tokenizer(f"[{label}]", add_special_tokens=False)["input_ids"]
        assert len(found) == 3 and found[1] == tokenizer(f"\n{label}. x", add_special_tokens=False)["input_ids"][1]
    odd = "snow \u2603 [x] \u00e9\n\n- [REC] (2007)\tend"
    assert tokenizer.decode(tokenizer(odd, add_special_tokens=False)["input_ids"]) == odd


def test_shared_rows_have_the_loss_of_separate_ones(
    runs: list[str], tokenizer: scratch.PreTrainedTokenizerFast
) -> None:
    choices, _ = load_choices(runs, "train")
    choices = choices[:12]
    model = scratch.random_model(SHAPE, tokenizer, 3).eval()
    apart, none = rows([[scene] for group in choices for scene in group], tokenizer, 512, histories=0)
    shared, _ = rows(choices, tokenizer, 512, histories=0)
    assert not any(none.values())
    assert sum(map(len, shared["input_ids"])) < 0.75 * sum(map(len, apart["input_ids"]))
    collate = Collator(tokenizer.pad_token_id)
    one, many = (losses(model, collate([part[i] for i in range(len(part))])) for part in (apart, shared))
    # Of a choice's second scene only the label is learned where rows are shared; alone, the whole answer line.
    label = 2
    assert label < len(one[0])
    for number in range(len(choices)):
        expected = [*one[2 * number], one[2 * number + 1][label]]
        assert many[number] == pytest.approx(expected, abs=1e-5)


def test_the_plain_head_gives_what_trls_gives(runs: list[str], tokenizer: scratch.PreTrainedTokenizerFast) -> None:
    choices, _ = load_choices(runs, "train")
    some, _ = rows(choices[:6], tokenizer, 512, histories=1)
    batch = Collator(tokenizer.pad_token_id)([some[i] for i in range(6)])
    found = []
    for head in (add_fused_lm_head, plain_head):
        model = scratch.random_model(SHAPE, tokenizer, 3)
        add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
        if head is plain_head:
            plain_head(model)
        outputs = model(**batch, use_cache=False, fused_lm_head=True)
        outputs.log_probs.sum().backward()
        found.append((outputs, [p.grad for p in model.parameters()], model(batch["input_ids"]).logits))
    (one, one_grads, one_logits), (two, two_grads, two_logits) = found
    for name in ("log_probs", "entropy", "is_top1", "label_mask"):
        assert torch.allclose(getattr(one, name).float(), getattr(two, name).float(), atol=1e-4), name
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(one_grads, two_grads, strict=True))
    assert torch.equal(one_logits, two_logits)


def losses(model, batch) -> list[list[float]]:
    """The negative log-likelihood of every learned token, row by row."""
    labels = batch.pop("labels")
    with torch.no_grad():
        logits = model(**batch).logits[:, :-1].log_softmax(-1)
    found = []
    for row, wanted in zip(logits, labels[:, 1:], strict=True):
        places = (wanted != IGNORED).nonzero()[:, 0]
        found.append((-row[places, wanted[places]]).tolist())
    return found


def test_a_block_sees_the_beginning_and_itself_alone() -> None:
    row = {"input_ids": [5, 6, 7, 8, 9], "position_ids": [0, 1, 2, 2, 3], "block": [0, 0, 1, 2, 2]}
    row["labels"] = [IGNORED] * 5
    shorter = {name: values[:2] for name, values in row.items()}
    for each in (row, shorter):
        each |= {"asked": [], "titles": []}
    mask = Collator(0)([row, shorter])["attention_mask"][:, 0].int().tolist()
    assert mask[0] == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 0, 1, 0], [1, 1, 0, 1, 1]]
    assert [line[:2] for line in mask[1][:2]] == [[1, 0], [1, 1]]
    assert all(any(line) for lines in mask for line in lines)  # padding, too: a row that sees nothing would be NaN


def test_histories_are_learned_once_per_entry(runs: list[str], tokenizer: scratch.PreTrainedTokenizerFast) -> None:
    choices, _ = load_choices(runs, "train")
    for some in (choices[:40], [group[:1] for group in choices[:40]]):
        with_them, _ = rows(some, tokenizer, 512, histories=1)
        lines = [learned(row) for row in with_them["labels"]]
        # 6 entries, the labels of answers, and of several lists the choice itself where they part as an option begins.
        least = 6 + len(some[0])
        assert set(lines) <= {least, least + 1, least + 4, least + 5} and min(lines) < least + 4
    half, again, other = (rows(choices, tokenizer, 512, 0.5, seed, lists=0)[0]["labels"] for seed in (1, 1, 2))
    entries = sum(map(learned, half)) / len(half)
    assert half == again != other and 3.2 < entries < 4.2  # of six, and the choice


def test_the_answer_line_is_seldom_learned_beside_histories(
    runs: list[str], tokenizer: scratch.PreTrainedTokenizerFast
) -> None:
    choices, _ = load_choices(runs, "train")
    [begin] = tokenizer("Behavior: ", add_special_tokens=False)["input_ids"]
    beside, alone = (rows(choices, tokenizer, 512, histories)[0]["labels"] for histories in (0.3, 0))
    assert all(begin in labels for labels in alone)
    assert 0 < sum(begin in labels for labels in beside) < 0.15 * len(choices)


def test_as_many_lists_are_read_as_asked(runs: list[str], tokenizer: scratch.PreTrainedTokenizerFast) -> None:
    choices, _ = load_choices(runs, "train")
    for lists in (None, 1, 0):
        found, _ = rows(choices[:20], tokenizer, 512, 0.5, lists=lists)
        assert {max(blocks) for blocks in found["block"]} == {2 if lists is None else lists}
    none, dropped = rows(choices[:20], tokenizer, 512, 0, lists=0)
    assert len(none) == 0 and dropped == {"over_length": 0, "nothing_to_learn": 20}


def test_histories_alone_end_with_the_choice(runs: list[str], tokenizer: scratch.PreTrainedTokenizerFast) -> None:
    choices, _ = load_choices(runs, "train")
    alone, with_options = (rows(choices, tokenizer, 512, 1, lists=lists)[0] for lists in (0, None))
    assert len(alone) == len(with_options) == len(choices)
    ends = 0
    for group, ids, labels, longer in zip(
        choices, alone["input_ids"], alone["labels"], with_options["labels"], strict=True
    ):
        text = group[0]["prompt"][0]["content"]
        answer = group[0]["completion"][0]["content"]
        label = answer.partition("[")[2][0]
        taken = text.partition(f"\n{label}. ")[2].partition("\n")[0]
        if learned(labels) == 6:
            continue  # the lists agree in some tokens of an option, too
        ends += 1
        assert tokenizer.decode(ids[:-1]).endswith((":\nA. ", "]\nB. ", "]\nC. "))
        assert labels[-1] == ids[-1] == longer[len(ids) - 1] and taken.startswith(tokenizer.decode([ids[-1]]))
        assert learned(labels) == 7
    assert ends > len(choices) / 2
    [single], _ = rows([choices[0][:1]], tokenizer, 512, 1, lists=0)
    assert "C. " in tokenizer.decode(single["input_ids"]) and learned(single["labels"]) == 6


def test_rows_tell_where_answers_are_asked_and_what_options_begin_with(
    runs: list[str], tokenizer: scratch.PreTrainedTokenizerFast
) -> None:
    choices, _ = load_choices(runs, "train")
    found, _ = rows(choices, tokenizer, 512, histories=0.3)
    told = 0
    for group, row in zip(choices, found, strict=True):
        assert len(row["titles"]) == 4 * len(row["asked"])
        for at, scene in zip(row["asked"], group if len(row["asked"]) == 2 else [], strict=False):
            told += 1
            text, answer = scene["prompt"][0]["content"], scene["completion"][0]["content"]
            assert tokenizer.decode([row["labels"][at]]) == answer.partition("[")[2][0]
            assert row["block"][at] == row["asked"].index(at) + 1
            firsts = row["titles"][4 * row["asked"].index(at) :][:4]
            for letter, first in zip("ABCD", firsts, strict=True):
                option = text.partition(f"\n{letter}. ")[2].partition("\n")[0]
                assert option.startswith(tokenizer.decode([first]).rstrip("\n"))
    assert told > len(choices)
    [alone], _ = rows([choices[0][:1]], tokenizer, 512, histories=0.3)
    assert alone["asked"] == alone["titles"] == []


def test_a_text_that_looks_like_a_label_is_not_taken_for_one() -> None:
    letter_of = np.full(100, -1)
    letter_of[[10, 11, 12]] = [0, 1, 2]
    dot = 50
    question = [1, 2, 10, dot, 60, 11, dot, 61, 12, dot, 62, 3, 4]
    at, titles = _options(np.array(question), letter_of, 4)
    assert at.tolist() == [0, 1, 2] and titles.tolist() == [60, 61, 62]
    at, titles = _options(np.array([*question[:8], 11, dot, *question[8:]]), letter_of, 4)
    assert len(at) == len(titles) == 0  # which of the two is the label cannot be known
    assert len(_options(np.array(question), letter_of, 3)[0]) == 0  # the common beginning ends with a label
    assert len(_options(np.array(question), letter_of, 0)[0]) == 0


def test_answers_are_learned_from_what_the_student_says_in_titles(
    runs: list[str], tokenizer: scratch.PreTrainedTokenizerFast
) -> None:
    choices, _ = load_choices(runs, "train")
    found, _ = rows(choices, tokenizer, 512, histories=0.3)
    some = found.filter(lambda row: len(row["asked"]) == 2).select(range(8))
    batch = Collator(tokenizer.pad_token_id)([some[i] for i in range(8)])
    own = OwnTitles.of(found, tokenizer, 0.25)
    model = scratch.random_model(SHAPE | {"initializer_range": 0.3}, tokenizer, 3)

    plain = {name: batch[name] for name in ("input_ids", "position_ids", "attention_mask")}
    said = model(**plain).logits[:, :-1].log_softmax(-1)
    wanted = batch["labels"][:, 1:]
    expected = torch.where(wanted == IGNORED, 0, said.gather(2, wanted.clamp(min=0)[..., None])[..., 0])
    letters = [tokenizer(f"[{letter}]", add_special_tokens=False)["input_ids"][1] for letter in "ABCD"]
    for number, row in enumerate(some):
        end = row["block"].index(1) - 1
        for which, at in enumerate(row["asked"]):
            titles = torch.tensor(row["titles"][4 * which :][:4])
            weights = (said[number, end, titles] - own.offered[titles]).exp().detach()
            answers = said[number, at - 1, letters]
            expected[number, at - 1] = (
                0.75 * expected[number, at - 1] + 0.25 * (weights / weights.sum() * answers).sum()
            )

    expected.sum().backward()
    by_hand = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    plain_head(model, own)
    outputs = model(**batch, use_cache=False, fused_lm_head=True)
    outputs.log_probs.sum().backward()
    assert torch.allclose(outputs.log_probs, expected, atol=1e-4)
    assert all(torch.allclose(p.grad, grad, atol=1e-3) for p, grad in zip(model.parameters(), by_hand, strict=True))
    held_out = model.eval()(**batch, use_cache=False, fused_lm_head=True).log_probs
    asked = wanted == IGNORED
    asked |= torch.isclose(held_out, said.gather(2, wanted.clamp(min=0)[..., None])[..., 0], atol=1e-4)
    assert asked.all()  # validation tells of the choices themselves


def test_titles_are_weighed_by_how_often_they_are_left(tokenizer: scratch.PreTrainedTokenizerFast) -> None:
    a, b = (tokenizer(f"[{letter}]", add_special_tokens=False)["input_ids"][1] for letter in "AB")
    labels = [IGNORED, a, IGNORED, b]
    train = Dataset.from_dict({"asked": [[1, 3], []], "titles": [[40, 41, 42, 40], []], "labels": [labels, [IGNORED]]})
    offered = OwnTitles.of(train, tokenizer, 1).offered.exp().round().int()
    assert offered[[40, 41, 42, 43]].tolist() == [1, 2, 2, 1]


def test_no_more_choices_are_prepared_than_steps_read(runs: list[str], student: Path, tmp_path: Path) -> None:
    reports = []
    for out, steps in (("two", 2), ("many", 0)):
        flags = ["--output_dir", str(tmp_path / out), "--use_cpu", "true", "--bf16", "false", "--choice_scenes", "1"]
        flags += ["--per_device_train_batch_size", "4", "--report_to", "none", "--gradient_checkpointing", "false"]
        flags += ["--max_steps", str(steps)] if steps else ["--num_train_epochs", "0.01"]
        pretrain.main(["--scenes", *runs, "--lists", "1", "--model_name_or_path", str(student), *flags])
        reports.append(json.loads((tmp_path / out / "train_report.json").read_text()))
    few, many = reports
    assert few["rows"]["train"] == few["scenes"] == 8 and few["steps"] == 2 and few["lists"] == 1
    assert many["rows"]["train"] == many["scenes"] > 100


def test_new_layers_change_nothing_until_they_learn(tokenizer: scratch.PreTrainedTokenizerFast) -> None:
    small = scratch.random_model(SHAPE, tokenizer, 3).eval()
    grown = scratch.grow(small, 2, seed=1).eval()
    assert grown.config.num_hidden_layers == 4 and small.config.num_hidden_layers == 2
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    with torch.no_grad():
        assert torch.allclose(grown(ids).logits, small(ids).logits, atol=1e-6)
    grown(ids, labels=ids).loss.backward()
    writes = [p for name, p in grown.named_parameters() if name.startswith("model.layers.3") and "down_proj" in name]
    assert all(p.grad.abs().max() > 0 for p in writes)
    other = scratch.random_model({**SHAPE, "model_type": "gpt2", "n_layer": 2, "n_head": 2}, tokenizer, 3)
    with pytest.raises(DataError, match="layers of gpt2 cannot be added"):
        scratch.grow(other, 2, seed=1)


def learned(labels: list[int]) -> int:
    return sum(token != IGNORED for token in labels)


def test_long_scenes_are_counted_and_left_out(runs: list[str], tokenizer: scratch.PreTrainedTokenizerFast) -> None:
    choices, _ = load_choices(runs, "train")
    with pytest.raises(DataError, match=r"50 of 50 scenes are longer than 10 tokens"):
        rows([group[:1] for group in choices[:50]], tokenizer, 10, histories=0)
    whole, none = rows(choices[:50], tokenizer, 512, histories=0)
    lengths = sorted(max(positions) + 1 for positions in whole["position_ids"])
    some, dropped = rows(choices[:50], tokenizer, lengths[10], histories=0)
    assert none["over_length"] == 0 < dropped["over_length"]
    assert max(max(positions) + 1 for positions in some["position_ids"]) <= lengths[10]


@pytest.mark.parametrize("folder", ["scratch-33m", "scratch-3m"])
def test_shipped_students_run_three_steps_of_each_recipe(
    folder: str, runs: list[str], run_folder: Path, tmp_path: Path
) -> None:
    shape = json.loads((ROOT / "recipes" / folder / "model.json").read_text())
    (tmp_path / "model.json").write_text(
        json.dumps(shape | {name: SHAPE[name] for name in SHAPE if "num" in name or "size" in name})
    )
    here = ["--use_cpu", "true", "--bf16", "false", "--optim", "adamw_torch", "--max_steps", "3", "--max_length", "700"]
    here += ["--save_strategy", "no", "--per_device_train_batch_size", "2", "--choice_scenes", "8"]
    base: list[str] = ["--scenes", *runs, "--from_scratch", str(tmp_path / "model.json")]
    for name, recipe in (
        ("histories", pretrain), ("uniform", pretrain), ("choices", pretrain), ("sft", sft), ("dpo", dpo)
    ):  # fmt: skip
        config = ["--config", str(ROOT / "recipes" / folder / f"{name}.yaml")]
        recipe.main([*config, *here, *base, "--output_dir", str(tmp_path / name)])
        report = json.loads((tmp_path / name / "train_report.json").read_text())
        assert (report["method"], report["steps"]) == (recipe.__name__.rpartition(".")[2], 3)
        data = ["--scenes", *runs] if name in ("histories", "uniform") else ["--dataset", str(run_folder)]
        base = [*data, "--model_name_or_path", str(tmp_path / name)]


@pytest.fixture(scope="module")
def student(runs: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student after three steps of pretraining."""
    top = tmp_path_factory.mktemp("student")
    (top / "model.json").write_text(json.dumps(SHAPE))
    flags = ["--from_scratch", str(top / "model.json"), "--output_dir", str(top / "out"), "--max_steps", "3"]
    flags += ["--use_cpu", "true", "--bf16", "false", "--per_device_train_batch_size", "4", "--report_to", "none"]
    flags += ["--gradient_checkpointing", "false", "--choice_scenes", "10", "--logging_steps", "1"]
    pretrain.main(["--scenes", *runs, *flags])
    return top / "out"


def test_pretraining_gives_a_student_that_is_read(runs: list[str], student: Path) -> None:
    report = json.loads((student / "train_report.json").read_text())
    assert report["method"] == "pretrain" and report["steps"] == 3 and report["rows"]["validation"] == 10
    assert 0 <= report["evaluation"]["eval_choice_accuracy"] <= 1
    assert report["scenes"] == 2 * report["rows"]["train"]
    scene = load_choices(runs[:1], "validation")[0][0][0]
    request = Request("one", scene["prompt"], prefix=prompts.ANSWER_PREFIX)
    [probabilities] = TransformersBackend(str(student)).choice_probs([request], [list("ABCD")])
    assert probabilities.sum() == pytest.approx(1) and (probabilities > 0).all()


def test_two_processes_pretrain_as_one_does(runs: list[str], student: Path, tmp_path: Path) -> None:
    def arguments(processes: int) -> list[str]:
        found = [
            "--scenes",
            *runs,
            "--model_name_or_path",
            str(student),
            "--output_dir",
            str(tmp_path / str(processes)),
        ]
        found += ["--use_cpu", "true", "--bf16", "false", "--report_to", "none", "--gradient_checkpointing", "false"]
        found += ["--max_steps", "3", "--logging_steps", "1", "--choice_scenes", "4", "--new_layers", "1"]
        found += ["--own_titles", "0.5"]
        found += ["--per_device_train_batch_size", "4", "--gradient_accumulation_steps", str(2 // processes)]
        return [*found, "--learning_rate", "1e-3"]

    in_two_processes(ROOT / "recipes" / "pretrain.py", *arguments(2))
    pretrain.main(arguments(1))
    reports = [json.loads((tmp_path / f"{n}" / "train_report.json").read_text()) for n in (2, 1)]
    two, one = ([point["loss"] for point in report["curve"] if "loss" in point] for report in reports)
    assert reports[0]["own_title_lists"] == reports[1]["own_title_lists"] > 12
    assert len(two) == 3 and two == pytest.approx(one, abs=1e-5) and two[2] < two[0]
    assert reports[0]["evaluation"]["eval_choice_accuracy"] == reports[1]["evaluation"]["eval_choice_accuracy"]


def test_pretraining_goes_on_with_what_it_gave_and_with_nothing_else(
    runs: list[str], student: Path, tmp_path: Path
) -> None:
    flags = ["--output_dir", str(tmp_path / "out"), "--use_cpu", "true", "--bf16", "false", "--max_steps", "1"]
    flags += ["--per_device_train_batch_size", "4", "--report_to", "none", "--gradient_checkpointing", "false"]
    with pytest.raises(ConfigError, match="is not of recipes/pretrain"):
        pretrain.main(["--scenes", *runs, "--model_name_or_path", str(stranger(tmp_path)), *flags])
    with pytest.raises(ConfigError, match="set either from_scratch"):
        pretrain.main(["--scenes", *runs, *flags])
    with pytest.raises(ConfigError, match="give --scenes builds with several seeds"):
        pretrain.main(["--scenes", *runs[:1], "--model_name_or_path", str(student), "--own_titles", "0.5", *flags])
    pretrain.main(["--scenes", *runs[:1], "--model_name_or_path", str(student), *flags])
    report = json.loads((tmp_path / "out" / "train_report.json").read_text())
    assert report["base_model"] == str(student) and report["from_scratch"] is None
    before, after = (json.loads((folder / "tokenizer.json").read_text()) for folder in (student, tmp_path / "out"))
    assert before["model"] == after["model"]


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("attn_implementation", "eager", "blocks need sdpa"),
        ("use_peft", "true", "trains all weights"),
        ("choice_scenes", "0", "1 scene or more"),
        ("histories", "2", "from 0 to 1"),
        ("lists", "-1", "0 for none"),
        ("new_layers", "1", "on top of model_name_or_path"),
        ("own_titles", "1.5", "from 0 to 1"),
    ],
)
def test_what_would_not_be_done_is_refused(flag: str, value: str, said: str, runs: list[str], tmp_path: Path) -> None:
    flags = ["--scenes", *runs, "--output_dir", str(tmp_path / "out"), "--use_cpu", "true", "--bf16", "false"]
    with pytest.raises(ConfigError, match=said):
        pretrain.main([*flags, f"--{flag}", value, "--from_scratch", "model.json"])
    with pytest.raises(ConfigError, match="nothing to learn"):
        pretrain.main([*flags, "--lists", "0", "--histories", "0", "--from_scratch", "model.json"])
    with pytest.raises(ConfigError, match="no titles are learned"):
        pretrain.main([*flags, "--own_titles", "0.5", "--histories", "0", "--from_scratch", "model.json"])
    with pytest.raises(ConfigError, match="both soften"):
        softened = ["--own_titles", "0.5", "--label_smoothing_factor", "0.1"]
        pretrain.main([*flags, *softened, "--from_scratch", "model.json"])
    with pytest.raises(ConfigError, match="no answers are learned"):
        pretrain.main([*flags, "--lists", "0", "--own_titles", "0.5", "--from_scratch", "model.json"])


def test_nobody_is_learned_from_and_held_out(runs: list[str], tmp_path: Path) -> None:
    check_users(runs)
    shutil.copytree(runs[1], tmp_path / "swapped")
    scenes = tmp_path / "swapped" / "movielens" / "scenes"
    shutil.copyfile(scenes / "validation.parquet", scenes / "train.parquet")
    with pytest.raises(DataError, match="users to learn from are in the validation scenes"):
        check_users([runs[0], str(tmp_path / "swapped")])


def stranger(tmp_path: Path) -> Path:
    """A model whose conversations are written otherwise."""
    tokenizer = scratch.train_tokenizer(["a text"], 300, 64)
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    scratch.random_model(SHAPE, tokenizer, 0).save_pretrained(tmp_path / "stranger")
    tokenizer.save_pretrained(tmp_path / "stranger")
    return tmp_path / "stranger"
