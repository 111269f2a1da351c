"""The transformers engine against brute force, on a model of two layers with random weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, T5Config, T5ForConditionalGeneration

from hf_mirror.backends import Request, load
from hf_mirror.backends.tokens import continuations
from hf_mirror.backends.transformers import TransformersBackend
from hf_mirror.errors import ConfigError, DataError
from hf_mirror.prompts import ANSWER_PREFIX
from recipes import scratch

SHAPE = {
    "model_type": "llama",
    "vocab_size": 400,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 96,
    # The usual initialisation of so small a model is nearly uniform over tokens; this one has opinions.
    "initializer_range": 0.4,
    "tie_word_embeddings": False,
}
TEXTS = ["What do you take now? A. Star Night B. Moon Day C. Blue Tea", "Behavior: [A]", "I think of tea and stars."]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads on tensors this small mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def save(folder: Path, merges: list[str], **changes: object) -> str:
    """A model whose tokenizer also has each of `merges` as one token."""
    tokenizer = scratch.train_tokenizer(TEXTS, 400, 96)
    tokenizer.add_tokens(merges)
    scratch.random_model({**SHAPE, **changes}, tokenizer, seed=1).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> TransformersBackend:
    return TransformersBackend(save(tmp_path_factory.mktemp("plain"), []))


def request(text: str, prefix: str = ANSWER_PREFIX, **settings: object) -> Request:
    return Request(text, [{"role": "user", "content": text}], prefix, **settings)


def brute_force(folder: str, asked: Request, labels: list[str], closing: bool) -> np.ndarray:
    """P(tokens of context + label, and of the bracket if `closing`), one label at a time, normalised over labels."""
    lm, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    chat = tokenizer.apply_chat_template(asked.messages, tokenize=False, add_generation_prompt=True) + asked.prefix
    scores = []
    for label in labels:
        row = tokenizer(f"{chat}{label}]", add_special_tokens=False)["input_ids"]
        logprobs = torch.log_softmax(lm(torch.tensor([row])).logits[0].double(), dim=-1)
        scores.append(sum(logprobs[i - 1, row[i]].item() for i in range(1, len(row) - (not closing))))
    return np.exp(scores) / np.exp(scores).sum()


@pytest.mark.parametrize(
    ("merges", "labels", "closing"),
    [
        ([], list("ABCDE"), False),
        (["[A", "[B", "[C"], list("ABC"), False),  # one token opens the bracket and names the option
        (["[A"], list("ABC"), False),  # only one option merges: "[" alone would stand for both others
        (["A]", "B]", "C]"], list("ABC"), True),  # one token names the option and closes the bracket
        ([], ["A", "B", "AB", "BA"], True),  # the bracket tells A from AB
    ],
)
def test_one_pass_equals_one_pass_per_label(
    tmp_path: Path, merges: list[str], labels: list[str], closing: bool
) -> None:
    folder = save(tmp_path, merges)
    asked = [request("What do you take?"), request("A. Star Night B. Moon Day", "I think of tea.\n" + ANSWER_PREFIX)]
    found = list(TransformersBackend(folder).choice_probs(asked, [labels, labels]))
    for probs, one in zip(found, asked, strict=True):
        assert probs.dtype == np.float64 and probs.sum() == pytest.approx(1)
        np.testing.assert_allclose(probs, brute_force(folder, one, labels, closing), rtol=1e-4)
    assert np.ptp(found[0]) > 0.01


def test_labels_carry_their_probabilities_when_permuted(plain: TransformersBackend) -> None:
    asked = request("A. Star Night B. Moon Day C. Blue Tea")
    straight, turned = plain.choice_probs([asked, asked], [["A", "B", "C"], ["C", "A", "B"]])
    np.testing.assert_allclose(turned, straight[[2, 0, 1]], rtol=1e-5)


def test_batches_do_not_change_probabilities(plain: TransformersBackend) -> None:
    asked = [request("tea " * n) for n in (1, 20, 3, 9, 14)]
    labels = [list("ABCDE")[:k] for k in (2, 5, 3, 4, 2)]
    together = list(plain.choice_probs(asked, labels))
    for one, names, probs in zip(asked, labels, together, strict=True):
        [alone] = plain.choice_probs([one], [names])
        np.testing.assert_allclose(probs, alone, rtol=1e-4)


def count_forward_passes(
    backend: TransformersBackend, monkeypatch: pytest.MonkeyPatch, seen: Callable[[torch.Tensor], None]
) -> None:
    forward = backend._model.forward

    def counted(ids: torch.Tensor, *others: object, **settings: object) -> object:
        seen(ids)
        return forward(ids, *others, **settings)

    monkeypatch.setattr(backend._model, "forward", counted)


def test_what_decisions_share_is_read_once_and_changes_nothing(
    plain: TransformersBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decisions about two scenes, between others: fewer tokens pass, the probabilities stay."""
    scenes = [" ".join([text] * 4) for text in ("What do you take now?", "Star Night or Moon Day?")]
    asked = [request(scenes[i % 2], f"{'I think. ' * (i % 3)}\n{ANSWER_PREFIX}") for i in range(12)]
    asked.insert(3, request("Something else"))
    labels = [list("ABCD")] * len(asked)
    passed: list[int] = []
    count_forward_passes(plain, monkeypatch, lambda ids: passed.append(ids.numel()))
    together = list(plain.choice_probs(asked, labels))
    shared = sum(passed)
    passed.clear()
    alone = [p for one in asked for p in plain.choice_probs([one], [list("ABCD")])]
    assert np.array(together) == pytest.approx(np.array(alone), abs=1e-5)
    assert shared < 0.7 * sum(passed)


def test_an_answer_is_as_likely_as_its_tokens(plain: TransformersBackend) -> None:
    lm, tokenizer = AutoModelForCausalLM.from_pretrained(plain.model), AutoTokenizer.from_pretrained(plain.model)
    answer = "I think of tea.\nBehavior: [A]"
    given, bare = request("What do you take now?", answer), Request("bare", [], answer)
    chat = tokenizer.apply_chat_template(given.messages, tokenize=False, add_generation_prompt=True)
    expected = []
    assert tokenizer.bos_token_id is None
    whole = tokenizer(answer, add_special_tokens=False)["input_ids"]
    for context, rest in ((tokenizer(chat, add_special_tokens=False)["input_ids"], whole), (whole[:1], whole[1:])):
        row = [*context, *rest]
        logprobs = torch.log_softmax(lm(torch.tensor([row])).logits[0].double(), dim=-1)
        expected.append(np.mean([logprobs[i - 1, row[i]].item() for i in range(len(context), len(row))]))
    assert list(plain.answer_logprobs([given, bare])) == pytest.approx(expected, abs=1e-4)
    assert list(plain.answer_logprobs([bare] * 300))[-1] == pytest.approx(expected[1], abs=1e-4)


def test_what_exceeds_the_context_is_not_a_guess(plain: TransformersBackend) -> None:
    short, long = plain.choice_probs([request("tea"), request("tea " * 200)], [["A", "B"], ["A", "B"]])
    assert np.isfinite(short).all() and np.isnan(long).all() and long.shape == (2,)
    [cut] = plain.generate([request("tea " * 200, prefix="", max_tokens=5)])
    assert (cut.text, cut.finish_reason) == ("", "context")


def test_what_is_no_number_is_an_error(tmp_path: Path) -> None:
    """Faulty variant: a broken model, whose scenes are counted as too long."""
    broken = TransformersBackend(save(tmp_path, []))
    with torch.no_grad():
        broken._model.lm.lm_head.weight[7] = float("nan")
    for ask in (
        lambda: broken.choice_probs([request("tea")], [["A", "B"]]),
        lambda: broken.answer_logprobs([request("tea", "Hm.")]),
        lambda: broken.generate([request("tea")]),
    ):
        with pytest.raises(DataError, match="no numbers"):
            list(ask())


def test_a_template_that_tells_the_date_tells_one(tmp_path: Path) -> None:
    """Faulty variant: the same request is another prompt tomorrow."""
    folder = Path(save(tmp_path, []))
    template = folder / "chat_template.jinja"
    template.write_text("{{ strftime_now('%d %b %Y') }}, {{ strftime_now('%Y-%m-%d') }}. " + template.read_text())
    assert TransformersBackend(str(folder))._chat.render(request("tea")).startswith("26 Jul 2024, 2024-07-26.<")


def test_what_a_tokenizer_lacks_is_one_line(tmp_path: Path) -> None:
    folder = Path(save(tmp_path, []))
    template = folder / "chat_template.jinja"
    template.write_text("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(DataError, match="refuses a prompt: roles must alternate"):
        list(TransformersBackend(str(folder)).generate([request("tea")]))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises((ConfigError, DataError), match=r"no tokenizer that loads|no chat template"):
        TransformersBackend(str(folder))


def test_one_label_is_certain_and_equal_labels_are_refused(plain: TransformersBackend) -> None:
    assert next(plain.choice_probs([request("tea")], [["A"]])).tolist() == [1.0]
    with pytest.raises(ConfigError, match="all different"):
        list(plain.choice_probs([request("tea")], [["A", "A"]]))


def test_tails_are_the_shortest_that_tell_labels_apart() -> None:
    assert continuations([[7, 1, 9], [7, 2, 9]]) == (1, [(1,), (2,)])
    assert continuations([[7, 1, 9], [7, 1, 2, 9]]) == (2, [(9,), (2, 9)])
    assert continuations([[7, 8, 9], [7, 1, 2, 9]]) == (1, [(8,), (1, 2)])


def test_a_sample_depends_on_its_seed_and_not_on_its_batch(plain: TransformersBackend) -> None:
    prompts = ["tea " * n for n in (1, 18, 5, 11)]
    asked = [request(text, "", n=3, seeds=(11, 12, 13), max_tokens=20, top_p=0.95) for text in prompts]
    together = list(plain.generate(asked))
    assert [(g.id, g.sample_index) for g in together] == [(text, i) for text in prompts for i in range(3)]
    alone = [g for one in asked for g in plain.generate([one])]
    single = [
        next(plain.generate([request(text, "", seeds=(s,), max_tokens=20, top_p=0.95)])).text
        for text in prompts
        for s in (11, 12, 13)
    ]
    assert [g.text for g in together] == [g.text for g in alone] == single
    assert len(set(single)) > 6


SLIDING = {"model_type": "mistral", "sliding_window": 24, "num_key_value_heads": 2}


@pytest.mark.parametrize(("shape", "joins"), [({}, True), (SLIDING, False)])
def test_waiting_samples_take_the_place_of_those_that_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: dict[str, object], joins: bool
) -> None:
    """Answers of very different lengths through a batch of a few rows: each as if alone, in fewer steps than batch
    after batch takes. A model that forgets what left its window has to go batch after batch."""
    backend = TransformersBackend(save(tmp_path, [], **shape), batch_tokens=700, continuous=True)
    backend._stop |= set(range(0, 400, 20))  # so that answers end early and late
    asked = [request(f"{i} tea" * (1 + i % 5), "", n=2, top_p=1.0, max_tokens=60) for i in range(24)]
    alone = [answer for one in asked for answer in backend.generate([one])]
    widths: list[int] = []
    count_forward_passes(backend, monkeypatch, lambda ids: widths.append(ids.shape[1]))
    assert list(backend.generate(asked)) == alone
    steps = widths.count(1)
    widths.clear()
    backend._continuous = False
    assert list(backend.generate(asked)) == alone
    assert steps < 0.7 * widths.count(1) if joins else steps == widths.count(1)


def test_samples_follow_the_model(plain: TransformersBackend) -> None:
    """First tokens of 4,000 samples against softmax probabilities, within 5 standard errors; nothing outside top_p."""
    n = 4000
    asked = request("tea", "", n=n, seeds=tuple(range(n)), max_tokens=1, temperature=1.0, top_p=0.6)
    texts = [g.text for g in plain.generate([asked])]
    ids = plain._chat.encode([plain._chat.render(asked)])
    logits = plain._model.lm(torch.tensor(ids)).logits[0, -1].double()
    probs, order = torch.softmax(logits, -1).sort(descending=True)
    size = int((probs.cumsum(0) - probs < 0.6).sum())
    kept = (probs[:size] / probs[:size].sum()).tolist()
    names = [plain._chat.tokenizer.decode([i], skip_special_tokens=True) for i in order[:size].tolist()]
    assert set(texts) <= set(names)
    for name in set(names):
        share = sum(p for p, other in zip(kept, names, strict=True) if other == name)
        assert abs(texts.count(name) / n - share) < 5 * (share * (1 - share) / n) ** 0.5 + 1e-9


def test_greedy_equals_generate_of_transformers(plain: TransformersBackend) -> None:
    asked = [request(text, "", temperature=0, max_tokens=12) for text in ("tea", "A. Star Night B. Moon Day")]
    for one, found in zip(asked, plain.generate(asked), strict=True):
        ids = torch.tensor(plain._chat.encode([plain._chat.render(one)]))
        whole = plain._model.lm.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
        assert found.text == plain._chat.tokenizer.decode(whole[0, ids.shape[1] :], skip_special_tokens=True)


def test_finish_reasons(plain: TransformersBackend) -> None:
    found = list(plain.generate([request("tea", "", n=64, max_tokens=24, top_p=1.0)]))
    by_reason = {g.finish_reason for g in found}
    assert by_reason == {"stop", "length"}
    [empty] = plain.generate([request("tea", "", max_tokens=0)])
    assert (empty.text, empty.finish_reason) == ("", "length")
    assert list(plain.generate([])) == []
    with pytest.raises(ConfigError, match="seeds"):
        list(plain.generate([request("tea", n=2, seeds=(1,))]))


def test_the_revision_of_a_folder_covers_what_makes_its_answers(tmp_path: Path) -> None:
    one, same = save(tmp_path / "a", []), save(tmp_path / "b", [])
    other = save(tmp_path / "c", [], hidden_size=16)
    revisions = [load("transformers", folder).revision for folder in (one, same, other)]
    assert revisions[0] == revisions[1] != revisions[2]
    assert revisions[0].startswith("sha256:")
    (tmp_path / "b" / "README.md").write_text("what it is")
    (tmp_path / "b" / "train_report.json").write_text("{}")
    assert load("transformers", same).revision == revisions[0]
    template = tmp_path / "b" / "chat_template.jinja"
    template.write_text(template.read_text() + "Think first. ")
    assert load("transformers", same).revision != revisions[0]
    with pytest.raises(ConfigError, match="no revision"):
        load("transformers", one, "v1.0.0")


def test_what_is_no_causal_lm_is_one_clear_line(tmp_path: Path) -> None:
    shape = T5Config(vocab_size=40, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    T5ForConditionalGeneration(shape).save_pretrained(tmp_path / "t5")
    with pytest.raises(DataError, match="T5ForConditionalGeneration, not a causal LM"):
        load("transformers", str(tmp_path / "t5"))
    with pytest.raises(DataError, match="does not exist"):
        load("transformers", str(tmp_path / "missing"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="safetensors"):
        load("transformers", str(tmp_path / "empty"))


def test_weights_that_are_missing_or_cut_are_refused(tmp_path: Path) -> None:
    folder = Path(save(tmp_path / "wide", []))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(DataError, match="lacks weights"):
        load("transformers", str(folder))
    weights = Path(save(tmp_path / "cut", [])) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(DataError, match="could not be loaded"):
        load("transformers", str(weights.parent))


def test_a_model_without_chat_template_is_refused(tmp_path: Path) -> None:
    folder = Path(save(tmp_path, []))
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match="chat template"):
        load("transformers", str(folder))
