"""Evaluation: made-up benchmark rows, tiny models, the real lighteval."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hf_mirror import backends
from hf_mirror.alignment import score
from hf_mirror.backends import Request
from hf_mirror.domains import import_file
from hf_mirror.errors import DataError, MirrorError
from hf_mirror.evaluation import Pinned, evaluate, open_bench
from hf_mirror.evaluation.running import _follow
from hf_mirror.files import read_json, read_rows, write_rows
from hf_mirror.hub.server import EmbeddedHub
from hf_mirror.leaderboard import table
from hf_mirror.prompts import ANSWER_PREFIX, direct_messages
from hf_mirror.results import read_result
from hf_mirror.schema import BENCH

made = import_file(Path(__file__).parent / "made_rows.py")
ROOT = Path(__file__).resolve().parents[1]
CHAT = (
    "{{ bos_token }}{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def bench_rows(
    scenes: int = 12, sizes: tuple[int, ...] = (2, 3, 5), users: int = 4, *, text: str = "", domain: str = "shop"
) -> list[dict]:
    """Made-up rows with prompts that show their options; the truth is item `scene % K`."""
    rows = []
    for scene in range(scenes):
        for row in made.scene_rows(scene, sizes[scene % len(sizes)], scene % users, domain=domain):
            shown = zip(row["choices"], row["options"], strict=True)
            lines = "\n".join(f"{letter}. item {option['item_key']}" for letter, option in shown)
            content = f"{text}You liked item {scene}.\n{lines}"
            rows.append(row | {"prompt": direct_messages([{"role": "user", "content": content}])})
    return rows


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Path:
    """Two domains; in the second one a scene's prompts are longer than the models' context."""
    folder = tmp_path_factory.mktemp("run") / "bench"
    write_rows(folder / "shop.parquet", bench_rows(), BENCH)
    long = bench_rows(1, (2,), text="word " * 600)
    rows = [*long, *(row for row in bench_rows(4) if row["scene_id"] != "scene00000")]
    write_rows(folder / "my-test.parquet", [{**row, "domain": "my-test"} for row in rows], BENCH)
    return folder.parent


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """`random` and `uniform` (all logits equal) Llama models with a byte-level tokenizer that writes a BOS token."""
    import torch
    from tokenizers import Tokenizer, decoders, pre_tokenizers, processors, trainers
    from tokenizers.models import BPE
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>", "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator([row["prompt"][0]["content"] for row in bench_rows(6)], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    fast.chat_template = CHAT
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=0,
        eos_token_id=1,
        initializer_range=0.3,
    )
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    for name in ("random", "uniform"):
        if name == "uniform":
            with torch.no_grad():
                model.lm_head.weight.zero_()
        model.save_pretrained(folder / name)
        fast.save_pretrained(folder / name)
    return folder


# The numbers


def test_a_uniform_model_gets_chance_and_a_slot_reader_is_exposed():
    rows = bench_rows(30, users=10)
    sizes = np.array([len(row["choices"]) for row in rows])
    chance = np.mean([1 / size for size in (2, 3, 5)])
    uniform = score(rows, [[1 / size] * size for size in sizes], seed=0)
    assert uniform["scores"]["accuracy"]["value"] == pytest.approx(chance)
    assert uniform["scores"]["log_loss"]["value"] == pytest.approx(np.mean(np.log([2, 3, 5])))
    assert uniform["scores"]["chance_centred_accuracy"]["value"] == pytest.approx(0)
    assert uniform["scores"] == uniform["baselines"]["chance"]

    last = score(rows, [[0.1 / (size - 1)] * (size - 1) + [0.9] for size in sizes], seed=0)
    assert last["scores"]["accuracy"]["value"] == pytest.approx(chance)
    assert last["scores"]["log_loss"]["value"] > uniform["scores"]["log_loss"]["value"]
    assert last["position"]["choice_share"] == {"2": [0, 1], "3": [0, 0, 1], "5": [0, 0, 0, 0, 1]}


def test_position_only_is_seen_where_the_truth_is_never_last():
    rows = []
    for row in bench_rows(300, (2,), users=100):
        moved = row["variant"]["order"] == "random" and row["gold_index"] == 1
        rows.append({**row, "options": row["options"][::-1], "gold_index": 0} if moved else row)
    found = score(rows, [[0.5, 0.5]] * len(rows), seed=0)
    assert found["position"]["truth_share"] == {"2": [1.0, 0.0]}
    assert found["position"]["slot_accuracy"] == 1.0
    # What the slot gives there is worth nothing over all orders.
    assert found["baselines"]["position_only"]["accuracy"]["value"] == pytest.approx(0.5)
    assert found["baselines"]["position_only"]["log_loss"]["value"] > math.log(2)


def test_a_model_with_taste_scores_alike_in_every_order():
    rows = bench_rows(30, users=10)
    truth = [row["options"][row["gold_index"]]["item_key"] for row in rows]
    probs = [[0.8 if option["item_key"] == key else 0.2 / (len(row["options"]) - 1) for option in row["options"]]
             for row, key in zip(rows, truth, strict=True)]  # fmt: skip
    found = score(rows, probs, seed=0)
    assert found["scores"]["accuracy"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert found["scores"]["log_loss"]["value"] == pytest.approx(-math.log(0.8))
    assert found["position"]["flip_rate"] == pytest.approx(0)
    assert found["coverage"] == 1.0 and "accuracy_scored" not in found["scores"]
    shuffled = [int(i) for i in np.random.default_rng(0).permutation(len(rows))]
    assert score([rows[i] for i in shuffled], [probs[i] for i in shuffled], seed=0) == found


def test_popularity_by_hand():
    found = score(bench_rows(1, (2,)), [[0.5, 0.5]] * 3, seed=0)  # counts 0 and 7, the truth is the item with 0
    popularity = found["baselines"]["popularity"]
    assert popularity["accuracy"] == {"value": 0.0, "low": None, "high": None}
    assert popularity["log_loss"]["value"] == pytest.approx(-math.log(1 / 9))


def test_failures_count_in_full_and_coverage_stands_beside():
    rows = bench_rows(2, (2, 2), users=2)
    probs = [[0.9, 0.1] if row["gold_index"] == 0 else [0.1, 0.9] for row in rows]
    # Scene 0: both shifts fail. Scene 1: one of two shifts fails. All others are right with p = 0.9.
    for index, row in enumerate(rows):
        if (row["scene_id"], row["variant"]["order"]) in {
            ("scene00000", "shift 0"),
            ("scene00000", "shift 1"),
            ("scene00001", "shift 1"),
        }:
            probs[index] = []
    found = score(rows, probs, seed=0)
    assert found["coverage"] == pytest.approx((0 + 0.5) / 2)
    assert found["scores"]["accuracy"]["value"] == pytest.approx((0 + 0.5) / 2)
    right, failed = -math.log(0.9), math.log(2)
    assert found["scores"]["log_loss"]["value"] == pytest.approx((failed + (right + failed) / 2) / 2)
    assert found["scores"]["accuracy_scored"]["value"] == 1.0
    assert found["scores"]["log_loss_scored"]["value"] == pytest.approx(right)


def test_rows_of_other_variants_are_not_samples():
    rows = bench_rows(6)
    other = [{**row, "variant": {**row["variant"], "history": "swapped"}} for row in rows]
    probs = [[1 / len(row["choices"])] * len(row["choices"]) for row in rows]
    assert score(rows + other, probs + [[]] * len(rows), seed=0) == score(rows, probs, seed=0)
    with pytest.raises(DataError, match="no row has its own history"):
        score(other, probs, seed=0)
    with pytest.raises(DataError, match="scene00000 has no shifted order"):
        score([row for row in rows if row["variant"]["order"] == "random"], [[0.5, 0.5]] * 6, seed=0)


# Bad input: one line each


def test_a_bench_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"holds no <domain>\.parquet"):
        open_bench(str(tmp_path))
    with pytest.raises(DataError, match="neither a folder nor a Hub dataset"):
        open_bench(str(tmp_path / "missing"))
    write_rows(tmp_path / "shop.parquet", [], BENCH)
    with pytest.raises(DataError, match="no rows for shop"):
        open_bench(str(tmp_path)).rows("shop")
    with pytest.raises(DataError, match="no subset 'books'; it has shop"):
        open_bench(str(tmp_path)).rows("books")
    write_rows(tmp_path / "shop.parquet", bench_rows(1) * 2, BENCH)
    with pytest.raises(DataError, match="shop/scene00000/own-full-shift0 more than once"):
        open_bench(str(tmp_path)).rows("shop")


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("ns/mirror-bench@v1", "dataset ns/mirror-bench@v1 could not be read from"),
        ("runs/mine", "there is no folder runs/mine, and dataset runs/mine could not be read from"),
    ],
)
def test_an_unreachable_hub_is_one_line(reference: str, said: str):
    code = (
        "from pathlib import Path\n"
        "from hf_mirror.evaluation import open_bench\n"
        "from hf_mirror.errors import HubError\n"
        f"try:\n    open_bench('{reference}')\n"
        "except HubError as error:\n    print(error)\n"
    )
    environment = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert re.fullmatch(rf"{said} http://127\.0\.0\.1:9 .*\n", done.stdout)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config.json": '{"architectures": ["BertForMaskedLM"], "model_type": "bert"}'}, "not a causal LM"),
        ({"config.json": '{"architectures": ['}, "no readable config.json"),
        ({"model.safetensors": None}, r"no \*\.safetensors"),
        ({"tokenizer.json": None, "tokenizer_config.json": None}, "has no (tokenizer|chat template)"),
        ({"chat_template.jinja": None}, "has no chat template"),
    ],
)
def test_what_is_no_model_to_evaluate(models, bench, tmp_path, change, message):
    shutil.copytree(models / "random", tmp_path / "model")
    for name, text in change.items():
        (tmp_path / "model" / name).unlink()
        if text:
            (tmp_path / "model" / name).write_text(text)
    with pytest.raises(MirrorError, match=message) as caught:
        evaluate(str(tmp_path / "model"), None, str(bench), "shop", tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_an_adapter_counts_with_its_base(models, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = AutoModelForCausalLM.from_pretrained(models / "random")
    adapter = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    adapter.save_pretrained(tmp_path / "adapter")
    AutoTokenizer.from_pretrained(models / "random").save_pretrained(tmp_path / "adapter")
    pinned = Pinned.of(str(tmp_path / "adapter"), None, "transformers")
    assert pinned.parameters == adapter.num_parameters()
    assert pinned.where == str(tmp_path / "adapter") and pinned.revision.startswith("sha256:")


def test_weights_that_cannot_be_read_are_one_line(models, bench, tmp_path):
    shutil.copytree(models / "random", tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(DataError, match=r"broken.* is no whole safetensors file") as caught:
        evaluate(str(tmp_path / "broken"), None, str(bench), "shop", tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "shop.json").exists()


# The run


@pytest.fixture(scope="module")
def uniform_results(models, bench, tmp_path_factory) -> tuple[Path, list[dict]]:
    out = tmp_path_factory.mktemp("uniform")
    return out, evaluate(str(models / "uniform"), None, str(bench), None, out)


@pytest.fixture(scope="module")
def random_results(models, bench, tmp_path_factory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("random")
    return out, evaluate(str(models / "random"), None, str(bench), "shop", out)[0]


def test_a_model_of_equal_logits_gets_chance(uniform_results):
    out, results = uniform_results
    shop = next(result for result in results if result["domain"] == "shop")
    assert shop == read_json(out / "shop.json")
    assert shop["scores"]["accuracy"]["value"] == pytest.approx(shop["baselines"]["chance"]["accuracy"]["value"])
    assert shop["scores"]["log_loss"]["value"] == pytest.approx(np.mean(np.log([2, 3, 5])), abs=1e-6)
    assert (shop["n_scenes"], shop["n_clusters"], shop["coverage"], shop["failures"]) == (12, 4, 1.0, {})
    assert shop["underpowered"] is True and shop["mode"] == "direct"
    assert {"model_revision", "bench_revision", "seed", "versions", "hardware", "code_version"} <= shop.keys()


def test_over_length_rows_are_failures(uniform_results):
    out, results = uniform_results
    result = next(result for result in results if result["domain"] == "my-test")
    assert result["failures"] == {"over_length": 3}
    assert result["n_scenes"] == 4 and result["coverage"] == pytest.approx(3 / 4)
    predictions = read_rows(out / "my-test.predictions.parquet")
    failed = [row for row in predictions if row["failure"]]
    assert {row["scene_id"] for row in failed} == {"scene00000"} and all(row["choice_probs"] == [] for row in failed)


def test_the_stock_command_gives_the_same_numbers(models, bench, random_results, tmp_path):
    """`lighteval accelerate`, with lighteval copied so that the file its own tasks download lies beside them."""
    import lighteval

    ours = random_results[1]
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(lighteval.__file__).parent, tmp_path / "site" / "lighteval", ignore=ignore)
    (tmp_path / "site" / "lighteval" / "tasks" / "tasks" / "tinyBenchmarks.pkl").touch()
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), str(ROOT)]),
        "MIRROR_BENCH": str(bench),
        "MIRROR_MAX_LENGTH": "512",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(tmp_path / "datasets"),
    }
    settings = f"model_name=random,batch_size=64,add_special_tokens=False,dtype=float32,cache_dir={tmp_path / 'cache'}"
    command = [sys.executable, "-m", "lighteval", "accelerate", settings, "mirror:shop|0"]
    command += ["--custom-tasks", "evals.tasks", "--output-dir", str(tmp_path / "out"), "--save-details"]
    done = subprocess.run(command, cwd=models, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]

    custom = [sys.executable, "-m", "lighteval", "custom", "random", str(ROOT / "evals" / "model.py"), "mirror:shop|0"]
    custom += ["--custom-tasks", "evals.tasks", "--output-dir", str(tmp_path / "custom")]
    done_custom = subprocess.run(custom, cwd=models, env=environment, capture_output=True, text=True, timeout=240)
    assert done_custom.returncode == 0, done_custom.stderr[-3000:]
    fast = read_json(next((tmp_path / "custom" / "results").rglob("*.json")))["results"]["mirror:shop|0"]
    assert fast["log_loss"] == pytest.approx(ours["scores"]["log_loss"]["value"], abs=1e-6)

    results = read_json(next((tmp_path / "out" / "results").rglob("*.json")))["results"]["mirror:shop|0"]
    for name in ("accuracy", "log_loss", "brier"):
        for part, suffix in (("value", ""), ("low", "_low"), ("high", "_high")):
            assert results[name + suffix] == pytest.approx(ours["scores"][name][part], abs=1e-5)
    assert results["popularity_log_loss"] == pytest.approx(ours["baselines"]["popularity"]["log_loss"]["value"])
    assert results["coverage"] == 1.0 and results["longest_input"] < 512
    assert re.search(r"log_loss\s*\|", done.stdout)

    details = read_rows(next((tmp_path / "out" / "details").rglob("*.parquet")))
    stock = {}
    for row in details:
        log_probs = np.array(row["model_response"]["logprobs"])
        key = row["doc"]["specific"]["scene_id"], row["doc"]["specific"]["variant_id"]
        stock[key] = np.exp(log_probs - np.logaddexp.reduce(log_probs))
    mine = read_rows(random_results[0] / "shop.predictions.parquet")
    assert len(mine) == len(stock) == len(bench_rows())
    for row in mine:
        assert row["choice_probs"] == pytest.approx(stock[row["scene_id"], row["variant_id"]], abs=1e-5)
    assert not (models / "random" / "lighteval").exists() and len(list((models / "random").iterdir())) < 8


def test_scores_come_from_the_answer_tokens_that_really_follow(models, random_results):
    """One scene by hand (chat template, `Behavior: [X`, a pass per option), all scenes by our one-pass engine."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    row = bench_rows()[4]
    tokenizer = AutoTokenizer.from_pretrained(models / "random")
    model = AutoModelForCausalLM.from_pretrained(models / "random", dtype=torch.float32).eval()
    text = tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
    start = tokenizer(text.rstrip(), add_special_tokens=False)["input_ids"]
    sums = []
    for letter in row["choices"]:
        whole = tokenizer(f"{text}Behavior: [{letter}", add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            log_probs = model(torch.tensor([whole])).logits[0].log_softmax(-1)
        assert whole[: len(start)] == start
        sums.append(sum(log_probs[i - 1, whole[i]].item() for i in range(len(start), len(whole))))
    expected = np.exp(sums - np.logaddexp.reduce(sums))
    found = next(
        r["choice_probs"]
        for r in read_rows(random_results[0] / "shop.predictions.parquet")
        if (r["scene_id"], r["variant_id"]) == (row["scene_id"], row["variant_id"])
    )
    assert found == pytest.approx(expected, abs=1e-5)

    backend = backends.load("transformers", str(models / "random"))
    rows = bench_rows()
    requests = [Request(id=str(i), messages=row["prompt"], prefix=ANSWER_PREFIX) for i, row in enumerate(rows)]
    read = list(backend.choice_probs(requests, [row["choices"] for row in rows]))
    scored = {(r["scene_id"], r["variant_id"]): r for r in read_rows(random_results[0] / "shop.predictions.parquet")}
    for row, probs in zip(rows, read, strict=True):
        assert scored[row["scene_id"], row["variant_id"]]["choice_probs"] == pytest.approx(probs.tolist(), abs=1e-4)
    assert max(found) - min(found) > 1e-3  # not a model that cannot tell options apart


def test_model_and_bench_from_a_hub_at_a_revision(models, bench, tmp_path):
    code = """
import sys
from pathlib import Path
from huggingface_hub import HfApi
from hf_mirror.errors import HubError, DataError
from hf_mirror.evaluation import Pinned, evaluate, open_bench
from hf_mirror.files import write_json
model, bench, out = map(Path, sys.argv[1:])
api = HfApi(token="hf_made_up")
card = "---\\nconfigs:\\n- config_name: shop\\n  data_files:\\n  - split: test\\n    path: shop/test.parquet\\n---\\n"
api.create_repo("ns/mirror-bench", repo_type="dataset")
api.upload_file(path_or_fileobj=card.encode(), path_in_repo="README.md", repo_id="ns/mirror-bench", repo_type="dataset")
api.upload_file(path_or_fileobj=bench / "bench/shop.parquet", path_in_repo="shop/test.parquet",
                repo_id="ns/mirror-bench", repo_type="dataset")
api.create_tag("ns/mirror-bench", tag="v1", repo_type="dataset")
api.create_repo("ns/model")
api.upload_folder(folder_path=model, repo_id="ns/model")
api.create_tag("ns/model", tag="v1")
result = evaluate("ns/model@v1", None, "ns/mirror-bench@v1", None, out)[0]
errors = []
for call in (lambda: open_bench("ns/mirror-bench@v2"), lambda: open_bench("ns/none@v1"),
             lambda: evaluate("ns/model@v2", None, str(bench), "shop", out),
             lambda: open_bench("ns/mirror-bench@v1").rows("books")):
    try:
        call()
    except (HubError, DataError) as error:
        errors.append(str(error))
from evals.tasks import tasks_of
from lighteval.tasks.lighteval_task import LightevalTask
docs = [len(LightevalTask(task).eval_docs()) for task in tasks_of("ns/mirror-bench@v1")]
write_json(out / "all.json", {"result": result, "errors": errors, "docs": docs})
"""
    with EmbeddedHub(tmp_path / "hub") as hub:
        environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", code, str(models / "random"), str(bench), str(tmp_path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    found = read_json(tmp_path / "all.json")
    assert re.fullmatch("[0-9a-f]{40}", found["result"]["model_revision"])
    assert re.fullmatch("[0-9a-f]{40}", found["result"]["bench_revision"])
    assert found["result"]["n_scenes"] == 12 and found["docs"] == [len(bench_rows())] * 2  # direct and rationale
    assert len(found["errors"]) == 4 and all("\n" not in error for error in found["errors"])


def test_progress_follows_the_rows_alone(tmp_path, capsys):
    lines = ["Loading weights: 100%|####| 39/39 [00:00<00:00]", "0it [00:00, ?it/s]", "the last words"]
    bars = ["mirror: 120 of 600 rows", "mirror: 240 of 600 rows"]
    code = f"import sys\nfor line in {[*lines[:2], *bars, lines[2]]!r}: print(line, end=chr(10))\nsys.exit(3)"
    found = _follow([sys.executable, "-c", code], tmp_path, dict(os.environ), tmp_path / "log", 600)
    assert found == (3, "the last words")
    assert re.search(r"lighteval: 240 rows in", capsys.readouterr().err)
    assert "Loading weights" in (tmp_path / "log").read_text()


def test_thinking_first_is_a_mode_of_its_own(models, bench, tmp_path):
    """A random model writes nonsense: every row is a failure, which is counted and costs at least chance."""
    result = evaluate(str(models / "random"), None, str(bench), "shop", tmp_path, mode="rationale")[0]
    assert result == read_json(tmp_path / "shop.rationale.json") and result["mode"] == "rationale"
    thoughts = {name: value for name, value in result["rationale"].items() if value is not None}
    assert read_result(tmp_path / "shop.rationale.json")["rationale"] == thoughts
    rows = bench_rows()
    assert result["failures"] == {"no_answer": len(rows)} and result["coverage"] == 0
    assert result["scores"]["accuracy"]["value"] == 0
    assert result["scores"]["log_loss"]["value"] == pytest.approx(np.mean(np.log([2, 3, 5])))
    assert result["rationale"]["decisions"] == 4 * len(rows) and result["rationale"]["valid"] == 0
    decisions = read_rows(tmp_path / "shop.rationale.decisions.parquet")
    assert len({(row["scene_id"], row["variant_id"], row["text"]) for row in decisions}) > len(rows)
    assert {row["parse_error"] for row in decisions} == {"no_answer_line"}
    assert not (tmp_path / "shop.json").exists() and not list((tmp_path / ".unfinished").iterdir())


def test_a_server_is_scored_as_a_folder_is(tmp_path, monkeypatch):
    write_rows(tmp_path / "bench" / "shop.parquet", bench_rows(2, sizes=(2, 3)), BENCH)
    server_file = import_file(ROOT / "tests" / "backends" / "server.py")
    with server_file.Server() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        result = evaluate("made-up", None, str(tmp_path), "shop", tmp_path, backend="openai")[0]
    assert (result["model"], result["backend"], result["model_parameters"]) == ("made-up", "openai", None)
    assert result["coverage"] == 1 and result["hardware"]["device"] == "a server" and result["dtype"] is None
    assert result["model_revision"]
    losses = [row["choice_probs"] for row in read_rows(tmp_path / "shop.predictions.parquet")]
    assert all(abs(sum(probs) - 1) < 1e-9 for probs in losses)


# The table


def test_the_table_sorts_by_log_loss_and_marks_baselines():
    rows = bench_rows(30, users=10)
    truth = [row["options"][row["gold_index"]]["item_key"] for row in rows]
    good = [[0.8 if option["item_key"] == key else 0.2 / (len(row["options"]) - 1) for option in row["options"]]
            for row, key in zip(rows, truth, strict=True)]  # fmt: skip
    about = {"bench_revision": "v1", "domain": "shop", "mode": "direct"}
    results = [
        {"model": "none", **about, **score(rows, [[]] * len(rows), seed=0)},
        {"model": "good", **about, **score(rows, good, seed=0)},
    ]
    lines = table(results).splitlines()
    assert lines[0] == "shop · uniform · direct · 30 scenes of 10 users (underpowered)"
    names = [line.removeprefix("*").split()[0] for line in lines[3:8]]
    assert names[0] == "good" and set(names) == {"good", "none", "chance", "popularity", "position-only"}
    losses = [float(re.search(r"(\d\.\d{3})", line)[1]) for line in lines[3:8]]
    assert losses == sorted(losses)
    assert [line.startswith("*") for line in lines[3:8]] == [name not in ("good", "none") for name in names]
    assert re.match(r"   good +100\.0  100\.0 – 100\.0 +0\.223  0\.223 – 0\.223 +100\.0$", lines[3])
    none = next(line for line in lines if line.startswith("   none"))
    assert re.search(r" 0\.0  0\.0 – 0\.0 +1\.1\d\d ", none) and none.endswith(" 0.0")
    assert "fewer than 200 users" in lines[-1]


def test_the_table_keeps_domains_apart_and_refuses_what_is_no_result():
    rows = bench_rows(3)
    half = [[1 / len(row["choices"])] * len(row["choices"]) for row in rows]
    about = {"model": "m", "bench_revision": "v1", "mode": "direct"}
    found = score(rows, half, seed=0)
    text = table([{**about, "domain": "shop", **found}, {**about, "domain": "books", **found}])
    assert re.findall(r"^(\w+) · ", text, re.MULTILINE) == ["books", "shop"]
    with pytest.raises(DataError, match="no results to show"):
        table([])
    with pytest.raises(DataError, match="has no 'regime'"):
        table([{"domain": "shop"}])
