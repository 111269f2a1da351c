"""Questions to an HTTP server, many at once: what passes is waited out, what does not is one clear line."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, TypeVar
from urllib.parse import urlsplit

from hf_mirror.errors import ConfigError, MirrorError
from hf_mirror.progress import say

T = TypeVar("T")

CONCURRENCY = 32  # requests that are under way at once
AHEAD = 4 * CONCURRENCY  # requests that are prepared at once
RETRIES = 8  # of one request, for busy servers and broken connections: a minute and a half in all
FEW_RETRIES = 2  # for answers that are no answers, and for none within the time
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds before a retry, twice as many each time
LONG_WAIT = 3.0  # seconds that are worth a word, as often as that
LONGEST_ASKED = 3600.0  # seconds that a server may ask to wait
TIMEOUT, CONNECT_TIMEOUT = 600.0, 10.0  # seconds
PASSES = (408, 409, 429)  # and whatever a server says about itself, 500 and above


class UnansweredError(Exception):
    """A request that its server did not answer, though it may answer others: what it did instead, in words.

    `status`: what it refused the request with, if it did; `message`: what it said.
    """

    def __init__(self, what: str, status: int | None = None, message: str = "") -> None:
        super().__init__(what)
        self.status, self.message = status, message


class Endpoint:
    """Where the server is (OPENAI_BASE_URL), and the key to it (OPENAI_API_KEY)."""

    def __init__(self) -> None:
        self.base_url = os.environ.get("OPENAI_BASE_URL", "")
        if not self.base_url:
            raise ConfigError("backend openai needs OPENAI_BASE_URL, e.g. http://127.0.0.1:8000/v1")
        try:
            url, port = urlsplit(self.base_url), urlsplit(self.base_url).port
        except ValueError:
            url, port = urlsplit(""), None
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ConfigError("OPENAI_BASE_URL is no address of a server; expected e.g. http://127.0.0.1:8000/v1")
        self.where = f"{url.scheme}://{url.hostname}{f':{port}' if port else ''}{url.path}"  # without a password
        self.key = os.environ.get("OPENAI_API_KEY") or "none"
        if not (self.key.isascii() and self.key.isprintable()):
            raise ConfigError("OPENAI_API_KEY holds characters that no key has; copy it again")

    def each(self, jobs: Iterable[Callable[[Session], Awaitable[T]]], retries: int | None = None) -> Iterator[T]:
        """The results of all jobs, in order, of which AHEAD are under way. RETRIES of a request unless told."""
        import openai

        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            # The client's own retries would give up at once where a server asks for more than two minutes.
            timeout = openai.Timeout(TIMEOUT, connect=min(CONNECT_TIMEOUT, TIMEOUT))
            client = openai.AsyncOpenAI(base_url=self.base_url, api_key=self.key, max_retries=0, timeout=timeout)
            session, places = (
                Session(self, client, RETRIES if retries is None else retries),
                asyncio.Semaphore(CONCURRENCY),
            )

            async def one(job: Callable[[Session], Awaitable[T]]) -> T:
                async with places:
                    return await job(session)

            todo, under_way = iter(jobs), deque[asyncio.Task[T]]()
            try:
                while True:
                    while len(under_way) < AHEAD and (job := next(todo, None)) is not None:
                        under_way.append(loop.create_task(one(job)))
                    if not under_way:
                        return
                    yield loop.run_until_complete(under_way.popleft())
            finally:
                for task in under_way:
                    task.cancel()
                loop.run_until_complete(_close(client, under_way))


class Session:
    """A client of an endpoint, as long as jobs are under way."""

    def __init__(self, endpoint: Endpoint, client: Any, retries: int) -> None:
        self._endpoint, self._client, self._retries = endpoint, client, retries
        self._said = -LONG_WAIT

    async def ask(self, send: Callable[[Any], Awaitable[Any]], take: Callable[[Any], T]) -> T:
        """What `take` makes of the answer to what `send` sends with the client.

        `take` raises what Python raises where an answer is not of the form that it should be. Raises UnansweredError
        where that lasts, and where the server refuses this request or fails on it; MirrorError where nobody would be
        answered.
        """
        import openai

        where, few = self._endpoint.where, FEW_RETRIES
        for attempt in range(self._retries + 1):
            wait = min(FIRST_WAIT * 2**attempt, LONGEST_WAIT)
            try:
                return take(await send(self._client))
            except openai.APITimeoutError:
                failure: Exception = UnansweredError(f"gave no answer within {TIMEOUT:g} s", 408)
                few -= 1
            except openai.APIConnectionError as error:
                reason = type(error.__cause__ or error).__name__
                failure = MirrorError(
                    f"{where} does not answer ({reason}); start it, or mend OPENAI_BASE_URL, and run the same command "
                    "again"
                )
            except openai.APIStatusError as error:
                said = f"answers {error.status_code} ({_message(error)})"
                if error.status_code in (401, 403):
                    raise ConfigError(f"{where} {said}; set OPENAI_API_KEY to a key that may ask this") from None
                failure = UnansweredError(said, error.status_code, _message(error))
                if error.status_code == 429:
                    failure = MirrorError(f"{where} {said}; run the same command again when that is mended")
                elif error.status_code < 500 and error.status_code not in PASSES:
                    raise failure from None
                wait = _asked_to_wait(error) or wait
            except (openai.APIResponseValidationError, ValueError, TypeError, AttributeError, LookupError):
                failure = UnansweredError("gave nothing that is an answer")
                few -= 1
            if few < 0 or attempt == self._retries:
                raise failure from None
            self._say(failure, wait)
            await asyncio.sleep(wait)
        raise AssertionError("the last attempt ends in an answer or a failure")

    def _say(self, failure: Exception, wait: float) -> None:
        """Tells now and then why nothing seems to happen."""
        now = time.monotonic()
        if wait > LONG_WAIT and now - self._said > LONG_WAIT:
            self._said = now
            where = "" if isinstance(failure, MirrorError) else f"{self._endpoint.where} "
            say(f"{where}{failure}: asking again in {wait:.0f} s")


def _asked_to_wait(error: Any) -> float:
    """Seconds of a Retry-After header; 0 for none that is a number."""
    try:
        return min(max(float(error.response.headers.get("retry-after", 0)), 0.0), LONGEST_ASKED)
    except ValueError:
        return 0.0


async def _close(client: Any, under_way: Iterable[Any]) -> None:
    await asyncio.gather(*under_way, return_exceptions=True)
    await client.close()


def _message(error: Any) -> str:
    """What the server says, on one line."""
    body = error.body if isinstance(error.body, dict) else {}
    text = body.get("message") or json.dumps(body) if body else str(error)
    return " ".join(str(text).split())[:200]
