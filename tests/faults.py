"""A proxy in front of a Hub that injects faults: refusals, broken connections, answers that are lost on the way."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

FAULTS = ("503", "500", "429", "cut before", "answer lost", "answer lost as 500")
HOP = {"content-length", "transfer-encoding", "connection", "content-encoding"}
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE"]


class FaultyHub:
    """Passes requests on to `target`, of which it breaks a share, drawn by a seed; runs as long as the `with` block."""

    def __init__(self, target: str, seed: int, share: float) -> None:
        self.injected: Counter[str] = Counter()
        self._rng, self._share, self._lock = random.Random(seed), share, threading.Lock()
        self._client = httpx.Client(base_url=target, timeout=60)
        app = Starlette(routes=[Route("/{path:path}", self._pass, methods=METHODS)])
        self._server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> FaultyHub:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._client.close()

    async def _pass(self, request: Request) -> Response:
        from starlette.concurrency import run_in_threadpool

        return await run_in_threadpool(self._answer, request, await request.body())

    def _answer(self, request: Request, body: bytes) -> Response:
        with self._lock:
            fault = self._rng.choice(FAULTS) if self._rng.random() < self._share else ""
            self.injected[fault] += bool(fault)
        if fault in ("503", "500", "429"):
            headers = {"Retry-After": "0"} if fault == "429" else {}
            return JSONResponse({"error": "not now"}, int(fault), headers)
        if fault == "cut before":
            return _cut()
        address = request.scope["raw_path"].decode("latin-1") + (f"?{request.url.query}" if request.url.query else "")
        found = self._client.request(request.method, address, headers=dict(request.headers), content=body)
        if fault == "answer lost":
            return _cut()
        if fault:
            return JSONResponse({"error": "lost"}, 500)
        headers = {name: value for name, value in found.headers.items() if name.lower() not in HOP}
        if request.method == "HEAD":
            headers["content-length"] = found.headers.get("content-length", "0")
        return Response(found.content, found.status_code, headers)


def _cut() -> Any:
    """An answer that ends before it is whole: the server closes the connection."""
    return Response(b"{", 200, {"content-length": "1000", "content-type": "application/json"})
