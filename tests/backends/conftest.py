"""Every engine that can answer on this machine: a tiny model with random weights, and servers on loopback."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hf_mirror import backends
from hf_mirror.backends import Backend
from hf_mirror.domains import import_file

HAS_VLLM = importlib.util.find_spec("vllm") is not None
TEXTS = ["What do you take now? A. Star Night B. Moon Day C. Blue Tea", "Behavior: [A]", "I think of tea and stars."]
SHAPE = {
    "model_type": "llama",
    "vocab_size": 400,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 1024,
    # The usual initialisation of so small a model is nearly uniform over tokens; this one has opinions.
    "initializer_range": 0.4,
    "tie_word_embeddings": False,
}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a causal LM of random weights and a chat template."""
    from recipes import scratch

    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = scratch.train_tokenizer(TEXTS, 400, 1024)
    scratch.random_model(SHAPE, tokenizer, seed=1).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def open_backend(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Backend]]:
    """Opens an engine once, by the name of a case: `engine`, `engine-model`, or `openai-vllm` for vLLM's own server."""
    opened: dict[str, Backend] = {}
    closing: list[Callable[[], object]] = []

    def open_(case: str) -> Backend:
        if case not in opened:
            engine, _, model = case.partition("-")
            if "vllm" in case and not HAS_VLLM:
                pytest.skip("vLLM lives in an environment of its own: make test-vllm")
            if case == "openai":
                fake = import_file(Path(__file__).parent / "server.py")
                server = fake.Server()
                server.__enter__()
                closing.append(lambda: server.__exit__(None, None, None))
                opened[case] = _at(server.url, fake.MODEL)
            elif case == "openai-vllm":
                url, process = _serve(tiny, tmp_path_factory.mktemp("server") / "log")
                closing.append(lambda: (process.terminate(), process.wait()))
                opened[case] = _at(url, "tiny")
            else:
                opened[case] = backends.load(engine, model or str(tiny) if engine != "echo" else "echo")
        return opened[case]

    yield open_
    for close in closing:
        close()


def _at(url: str, model: str) -> Backend:
    before = os.environ.get("OPENAI_BASE_URL")
    os.environ["OPENAI_BASE_URL"] = url
    try:
        return backends.load("openai", model)
    finally:
        if before is None:
            del os.environ["OPENAI_BASE_URL"]
        else:
            os.environ["OPENAI_BASE_URL"] = before


def _serve(model: Path, log: Path) -> tuple[str, subprocess.Popen[bytes]]:
    """vLLM's server, as its users start it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model),
        "--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32",
        "--logprobs-mode", "processed_logprobs",
    ]  # fmt: skip
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    for _ in range(600):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)
            return f"http://127.0.0.1:{port}/v1", process
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.5)
    process.kill()
    raise RuntimeError(f"vLLM's server did not start:\n{log.read_text(errors='replace')[-4000:]}")
