"""`inspect eval hf/…` reads the published benchmark from the offline Hub, and its accuracy is what our parser gives.

The model is a server on loopback that answers from a digest of the prompt, in all the ways in which models answer.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hf_mirror import domains
from hf_mirror.bench import bench
from hf_mirror.build import build
from hf_mirror.build_settings import BuildSettings
from hf_mirror.files import read_rows
from hf_mirror.hub import EmbeddedHub
from hf_mirror.prompts import LABELS, parse, search_pattern
from hf_mirror.publish import publish

ANSWERS = (
    "Behavior: [{a}]",
    "Behavior: [{a}]",
    "I like quiet films.\n\nBehaviour: [ {lower} ] since it is long",
    "Stimulus: …\n**Behavior**: **[{a}]**\nBehavior: [{a}]",
    "Behavior: [{a}]\nOr rather\nBehavior: [{b}]",
    "Behavior: [Z]",
    "Behavior: {a}",
    "It is [{a}].",
)


def answer(prompt: str) -> str:
    """What the made-up model says to a prompt of five options."""
    number = int(hashlib.sha256(prompt.encode()).hexdigest(), 16)
    a, b = LABELS[number % 5], LABELS[(number + 1) % 5]
    return ANSWERS[number // 5 % len(ANSWERS)].format(a=a, b=b, lower=a.lower())


class Model:
    """An OpenAI-compatible server on loopback, as long as the `with` block; `asked` has the prompts."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        routes = [Route("/v1/chat/completions", self._chat, methods=["POST"])]
        self._server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), port=0, log_level="critical"))
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> Model:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()

    async def _chat(self, request: Request) -> Response:
        messages = (await request.json())["messages"]
        assert [message["role"] for message in messages] == ["user"]
        content = messages[0]["content"]
        self.asked.append(content if isinstance(content, str) else content[0]["text"])
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": answer(self.asked[-1])},
            "finish_reason": "stop",
        }
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return JSONResponse(
            {"id": "1", "object": "chat.completion", "created": 1, "model": "x", "choices": [choice], "usage": usage}
        )


@dataclass(frozen=True)
class Published:
    """A run and the Hub that its benchmark was published to."""

    run: Path
    url: str


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, raw: Path) -> Iterator[Published]:
    top = tmp_path_factory.mktemp("inspect")
    build(domains.load("movielens"), raw, top / "run", BuildSettings(300, also_test=("uniform",)), workers=1)
    mind = domains.import_file(domains.PROJECT / "dataset_builders" / "sample" / "mind.py")
    mind.generate(top / "mind")
    (top / "mind" / "README").unlink()  # no licence: closed
    build(domains.load("mind"), top / "mind", top / "run", BuildSettings(60), workers=1)
    bench(top / "run")
    with EmbeddedHub(top / "hub") as hub:
        publish(top / "run", "acme", "v1.0.0", endpoint=hub.url, only=("datasets",))
        yield Published(top / "run", hub.url)


def test_inspect_gives_the_accuracy_of_generate_and_parse(published: Published, tmp_path: Path) -> None:
    with Model() as model:
        environment = os.environ | {
            "HF_ENDPOINT": published.url, "HF_HOME": str(tmp_path / "hf"), "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "LOOP_API_KEY": "none", "LOOP_BASE_URL": model.url, "INSPECT_LOG_FORMAT": "json",
        }  # fmt: skip
        command = [sys.executable, "-m", "inspect_ai", "eval"]
        command += [f"hf/acme/mirror-bench/{subset}@v1.0.0" for subset in ("movielens", "movielens-uniform")]
        command += ["--model", "openai-api/loop/made-up", "--log-dir", str(tmp_path / "logs"), "--display", "plain"]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    logs = [json.loads(path.read_text()) for path in (tmp_path / "logs").glob("*.json")]
    found = {}
    for log in logs:
        metrics = log["results"]["scores"][0]["metrics"]
        found[log["eval"]["task"].rpartition("/")[2]] = metrics["accuracy"]["value"]
        assert len(log["samples"]) == log["eval"]["dataset"]["samples"]
    expected, every, kinds = {}, [], set()
    for subset in ("movielens", "movielens-uniform"):
        rows = [
            row
            for row in read_rows(published.run / "bench" / f"{subset}.parquet")
            if row["variant"] == {"history": "own", "donor": None, "profile": "own", "text": "full", "order": "random"}
        ]
        prompts = [row["prompt"][0]["content"] for row in rows]
        parsed = [parse(answer(prompt), len(row["choices"])) for prompt, row in zip(prompts, rows, strict=True)]
        hits = [p.stated_choice == row["gold_index"] for p, row in zip(parsed, rows, strict=True)]
        expected[subset] = sum(hits) / len(hits)
        every += prompts
        kinds |= {p.parse_error for p in parsed}
    assert kinds == {None, "no_answer_line", "conflicting_answers", "label_out_of_range"}, "every way of failing is met"
    assert found == pytest.approx(expected) and 0 < expected["movielens"] < 1
    assert sorted(model.asked) == sorted(every), "each scene once, in the random order, and nothing of closed domains"


def test_closed_domains_have_no_task(published: Published, tmp_path: Path) -> None:
    from huggingface_hub import hf_hub_download

    about = {"repo_type": "dataset", "endpoint": published.url, "cache_dir": tmp_path, "revision": "v1.0.0"}
    registered = yaml.safe_load(Path(hf_hub_download("acme/mirror-bench", "eval.yaml", **about)).read_text())
    assert registered["evaluation_framework"] == "inspect-ai" and registered["name"] and registered["description"]
    assert [(task["id"], task["config"], task["split"]) for task in registered["tasks"]] == [
        ("movielens", "movielens", "headline"), ("movielens-uniform", "movielens-uniform", "headline"),
    ]  # fmt: skip
    card = Path(hf_hub_download("acme/mirror-bench", "README.md", **about)).read_text()
    assert "Of `mind` there is no text here and so no task" in card
    assert "inspect eval hf/acme/mirror-bench/movielens@v1.0.0" in card
    run = tmp_path / "run"
    shutil.copytree(published.run / "mind", run / "mind")
    bench(run)
    publish(run, "closed", "v1.0.0", endpoint=published.url, only=("datasets",))
    from huggingface_hub import HfApi

    files = HfApi(published.url).list_repo_files("closed/mirror-bench", repo_type="dataset")
    assert "eval.yaml" not in files and "mind/test.parquet" in files and "mind/headline.parquet" not in files


pieces = st.sampled_from(
    [
        "Behavior: [A]",
        "behaviour : [b]",
        "**Behavior:** [C]",
        "Behavior: [",
        "B]",
        "]",
        "\n",
        " ",
        "Behavior",
        ": [D ]",
        "*",
    ]
)


@settings(max_examples=400, deadline=None)
@given(text=st.lists(pieces, max_size=6).map("".join))
def test_the_pattern_reads_what_the_parser_reads(text: str) -> None:
    stated = parse(text, 5).stated_choice
    found = re.search(search_pattern(), text, re.IGNORECASE)
    assert (found[1].upper() if found else None) == (None if stated is None else LABELS[stated])
