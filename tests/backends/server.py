"""A small server with OpenAI's HTTP API and vLLM's `/tokenize`, on loopback, that misbehaves on demand.

Its model writes words drawn by the seed and weighs tokens by a hash of what came before; tokens are characters. Faults
are taken from a list, one per request, first come first served: a status code, with headers or not, or one in words.
`always` is a fault of every request; greetings, which engines send to see whether anybody is there, are not in `asked`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import random
import threading
import time
from collections import Counter
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

MODEL = "made-up"
CONTEXT = 4000
NAMES = {"other model": "something else", "dated": f"{MODEL}-2026-01-31", "nobody": None}  # by fault
WORDS = ("I", "would", "take", "this", "one", "since", "it", "is", "like", "other", "quiet", "and", "long", "films")


class Server:
    """Runs in a thread as long as the `with` block. `options` switch off what servers may lack."""

    def __init__(self, **options: Any) -> None:
        self.options = {"models": [MODEL], "tokenize": True, "seeds": True, "logprobs": "allowed", **options}
        self.faults: list[Any] = []
        self.always: Any = None
        self.asked: list[dict[str, Any]] = []
        self.at_once = self.most_at_once = 0
        self.moments: list[float] = []
        routes = [
            Route("/v1/models", self._models),
            Route("/v1/chat/completions", self._chat, methods=["POST"]),
            Route("/v1/completions", self._complete, methods=["POST"]),
            Route("/tokenize", self._tokenize, methods=["POST"]),
        ]
        self._server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), port=0, log_level="critical"))
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> Server:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()

    async def _models(self, request: Request) -> Response:
        if self.options["models"] is None:
            return JSONResponse({"error": {"message": "no such path"}}, 404)
        return JSONResponse(
            {"object": "list", "data": [{"id": name, "object": "model"} for name in self.options["models"]]}
        )

    async def _chat(self, request: Request) -> Response:
        body = await request.json()
        if body["messages"][0]["content"] != "Hello":
            self.asked.append(body)
            self.moments.append(time.monotonic())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(0.01)
            return await self._answer(body)
        finally:
            self.at_once -= 1

    async def _answer(self, body: dict[str, Any]) -> Response:
        fault = self.faults.pop(0) if self.faults else self.always
        if fault == "such scenes":
            fault = 500 if "bad" in body["messages"][0]["content"] else None
        if fault == "too long with so many tokens":
            fault = "too long" if "max_tokens" in body else None
        if isinstance(fault, tuple):
            status, headers = fault
            return JSONResponse({"error": {"message": "not now"}}, status, headers)
        if isinstance(fault, int):
            return JSONResponse({"error": {"message": f"this is a {fault}"}}, fault)
        if fault == "too long for llama.cpp":
            message = "the request exceeds the available context size (4096 tokens), try increasing it"
            return JSONResponse({"error": {"message": message}}, 400)
        if fault == "too many tokens" and body.get("max_tokens", 0) > 100:
            return JSONResponse({"error": {"message": "max_tokens is too large"}}, 400)
        if fault == "too long":
            return JSONResponse({"error": {"message": "maximum context length is 4000 tokens"}}, 400)
        if fault == "malformed":
            return Response('{"choices": [{"mess', media_type="application/json")
        if fault == "cut":
            return Response(b'{"choices"', headers={"content-length": "4000"}, media_type="application/json")
        if fault == "slow":
            await asyncio.sleep(0.5)
        if fault == "not a completion":
            return JSONResponse({"hello": "world"})
        if fault == "error":
            return JSONResponse({"error": {"message": "out of memory"}})
        if fault == "html":
            return Response("<html>Sign in</html>", media_type="text/html")
        seed = body.get("seed") if self.options["seeds"] else random.random()
        rng = random.Random(json.dumps([body["messages"], seed if body["temperature"] else 0]))
        words = [rng.choice(WORDS) for _ in range(rng.randrange(8, 16))]
        limit = body.get("max_tokens", len(words))
        text: Any = " ".join(words[:limit])
        text = {"parts": [{"type": "text", "text": text}], "a number": 7, "half a pair": "\ud83d"}.get(fault, text)
        answer = {
            "id": "x", "object": "chat.completion", "created": 1,
            "model": NAMES.get(fault, body["model"]),
            "choices": [] if fault == "no choices" else [
                {"index": 0, "message": {"role": "assistant", "content": text},
                 "finish_reason": "length" if len(words) > limit else "stop"}
            ],
            "usage": {"prompt_tokens": 7, "completion_tokens": len(words[:limit]), "total_tokens": 7},
        }  # fmt: skip
        if fault == "no usage":
            answer["usage"] = "n/a"
        return Response(json.dumps(answer), media_type="application/json")

    async def _tokenize(self, request: Request) -> Response:
        body = await request.json()
        await asyncio.sleep(self.options.get("tokenising takes", 0))
        if not self.options["tokenize"]:
            return JSONResponse({"error": {"message": "no such path"}}, 404)
        if "prompt" in body:
            text = "\1" * body["add_special_tokens"] + body["prompt"]
        else:
            text = "".join(f"<{message['role']}>{message['content']}" for message in body["messages"])
            text += "<assistant>" * body["add_generation_prompt"]
        return JSONResponse({"tokens": [ord(sign) for sign in text], "count": len(text), "max_model_len": CONTEXT})

    async def _complete(self, request: Request) -> Response:
        body = await request.json()
        tokens: list[int] = body["prompt"]
        choice: dict[str, Any] = {"index": 0, "text": "?", "finish_reason": "length", "logprobs": None}
        if "prompt_logprobs" in body:
            choice["prompt_logprobs"] = [None] + [
                {str(token): {"logprob": logprob(tokens[:place], token)}} for place, token in enumerate(tokens) if place
            ]
        else:
            allowed = body["allowed_token_ids"]
            scores = {token: logprob(tokens, token) for token in allowed}
            total = math.log(sum(math.exp(score) for score in scores.values()))
            if self.options["logprobs"] == "raw":  # an option may not be among the likeliest tokens
                scores.popitem()
            shown: dict[str, Any] = {f"token_id:{token}": score - total for token, score in scores.items()}
            if self.options["logprobs"] in (None, -9999.0):
                shown = dict.fromkeys(shown, self.options["logprobs"])
            choice["logprobs"] = {"tokens": ["?"], "token_logprobs": [0.0], "top_logprobs": [shown], "text_offset": [0]}
        model = self.options.get("completes as", MODEL)
        return JSONResponse({"id": "x", "object": "text_completion", "created": 1, "model": model, "choices": [choice]})


def logprob(before: list[int], token: int) -> float:
    """Of a model over characters that everybody can compute."""
    digest = hashlib.sha256(json.dumps([before[-40:], token]).encode()).digest()
    return -4.0 - digest[0] / 64


def uses(server: Server) -> Counter[Any]:
    """How often each seed was asked for."""
    return Counter(body.get("seed") for body in server.asked)
