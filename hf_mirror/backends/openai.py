"""Any server with OpenAI's HTTP API, by OpenAI's own client: OPENAI_BASE_URL names it, OPENAI_API_KEY is its key.

Every sample is a request of its own: servers differ in whether they honour `n`, one seed for ten answers would not name
a sample, and one bad answer must not cost the other nine. Where a server ignores `seed`, answers are sampled all the
same, and cannot be repeated.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np

from hf_mirror.backends import Generation, Request
from hf_mirror.backends.tokens import Question, check_labels, closing, in_common, softmax
from hf_mirror.errors import ConfigError, MirrorError

T = TypeVar("T")

CONCURRENCY = 32  # requests that are under way at once
AHEAD = 4 * CONCURRENCY  # requests that are prepared at once
RETRIES = 8  # of one request, for busy servers and broken connections: a minute or so in all
TRIES = 3  # of one sample, for answers that are no answers
TIMEOUT = 600.0  # seconds
MOST_LOGPROBS = 20  # what OpenAI's API and vLLM's server allow unless told otherwise


class OpenAIBackend:
    """Generates through any such server; reads option probabilities through one that tokenises, as vLLM's does."""

    structured = True

    def __init__(self, model: str, revision: str | None = None) -> None:
        """`model` as the server calls it. Endpoints name no version: `revision` is recorded as it is given."""
        base_url = os.environ.get("OPENAI_BASE_URL")
        if not base_url:
            raise ConfigError("backend openai needs OPENAI_BASE_URL, e.g. http://127.0.0.1:8000/v1")
        try:
            url, port = urlsplit(base_url), urlsplit(base_url).port
        except ValueError:
            url, port = urlsplit(""), None
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ConfigError("OPENAI_BASE_URL is no address of a server; expected e.g. http://127.0.0.1:8000/v1")
        self._where = f"{url.scheme}://{url.hostname}{f':{port}' if port else ''}{url.path}"  # without a password
        self._base_url = base_url
        self.model = model
        self.revision = revision or "as served"
        self._answered = False
        list(self._each([self._check_model]))

    def generate(self, requests: Sequence[Request]) -> Iterator[Generation]:
        """Samples `n` answers per request; see `Backend`. A sample that the server refuses has finish_reason `failed`;
        one that answers nobody, or refuses the first of all, is an error."""
        samples = [(request, sample) for request in requests for sample in range(request.n)]
        return self._each(lambda client, job=job: self._sample(client, *job) for job in samples)

    def choice_probs(self, requests: Sequence[Request], labels: Sequence[Sequence[str]]) -> Iterator[np.ndarray]:
        """One distribution per request over exactly its labels; see `Backend`.

        The server tokenises context + label + `]` for every label (vLLM's `/tokenize`). Where one token tells them
        apart, one completion of one token gives their log-probabilities; else every label's tokens are scored.
        """
        pairs = list(zip(requests, labels, strict=True))
        return self._each(lambda client, pair=pair: self._read(client, *pair) for pair in pairs)

    def answer_logprobs(self, requests: Sequence[Request]) -> Iterator[float]:
        """The log-probability of each request's prefix, from a server that tokenises and scores; see `Backend`."""
        return self._each(lambda client, request=request: self._likelihood(client, request) for request in requests)

    def _each(self, jobs: Any) -> Iterator[Any]:
        """The results of all jobs, in order, of which AHEAD are under way."""
        from openai import AsyncOpenAI

        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            client = AsyncOpenAI(
                base_url=self._base_url,
                api_key=os.environ.get("OPENAI_API_KEY", "none"),
                max_retries=RETRIES,
                timeout=TIMEOUT,
            )
            places = asyncio.Semaphore(CONCURRENCY)

            async def one(job: Callable[[Any], Awaitable[T]]) -> T:
                async with places:
                    return await self._asked(job, client)

            todo, under_way = iter(jobs), deque[Any]()
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

    async def _asked(self, job: Callable[[Any], Awaitable[T]], client: Any) -> T:
        """A job, with what the client raises in one line."""
        import openai

        try:
            return await job(client)
        except openai.APITimeoutError:
            raise MirrorError(
                f"{self._where} gave no answer within {TIMEOUT:.0f} s; run the same command again"
            ) from None
        except openai.APIConnectionError as error:
            reason = error.__cause__ or error
            raise MirrorError(
                f"{self._where} does not answer ({type(reason).__name__}); start it, or mend OPENAI_BASE_URL, "
                "and run the same command again"
            ) from None
        except openai.APIStatusError as error:
            found = f"{self._where} answers {error.status_code} ({_message(error)})"
            if error.status_code in (401, 403):
                raise ConfigError(f"{found}; set OPENAI_API_KEY to a key that may use {self.model}") from None
            raise MirrorError(f"{found}; run the same command again when that is mended") from None

    async def _check_model(self, client: Any) -> None:
        import openai

        try:
            served = [model.id async for model in client.models.list()]
        except openai.NotFoundError:
            return  # there are servers that do not say
        except (AttributeError, TypeError, ValueError):
            raise ConfigError(
                f"{self._where} lists its models in no way that OpenAI's API has; mend OPENAI_BASE_URL (ends in /v1?)"
            ) from None
        if served and self.model not in served:
            near = get_close_matches(self.model, served, n=1, cutoff=0.0)
            raise ConfigError(f"{self._where} serves no model {self.model!r}; did you mean {near[0]!r}?")

    async def _sample(self, client: Any, request: Request, sample: int) -> Generation:
        """One sample, whatever the server makes of it."""
        import openai

        messages, more = _conversation(request)
        for _ in range(TRIES):
            try:
                answer = await client.chat.completions.create(
                    model=self.model, messages=messages, temperature=request.temperature, top_p=request.top_p,
                    max_tokens=request.max_tokens, seed=request.sample_seed(sample), extra_body=more,
                )  # fmt: skip
                choice = answer.choices[0]
                text, reason = choice.message.content or "", choice.finish_reason
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if "context" in _message(error).lower() and "length" in _message(error).lower():
                    return Generation(request.id, sample, "", "length")
                return self._failed(request, sample, f"refuses the request ({_message(error)})")
            except (openai.APIResponseValidationError, ValueError, TypeError, AttributeError, IndexError):
                continue  # what came is no answer; ask again
            self._same_model(answer.model)
            self._answered = True
            used = answer.usage
            counts = (used.completion_tokens or 0, used.prompt_tokens or 0) if used else (0, 0)
            return Generation(request.id, sample, text, "length" if reason == "length" else "stop", *counts)
        return self._failed(request, sample, f"gave no chat completion in {TRIES} attempts")

    def _failed(self, request: Request, sample: int, what: str) -> Generation:
        """A sample without an answer; an error where there has not been any answer yet, since then all may fail."""
        if not self._answered:
            raise MirrorError(f"{self._where} {what}; see its log, and whether {self.model} is a chat model")
        return Generation(request.id, sample, "", "failed")

    def _same_model(self, answered: str | None) -> None:
        # A dated name for an undated one is usual.
        dated = re.escape(self.model) + r"(-\d[\w-]*)?"
        if answered and not (re.fullmatch(dated, answered) or self.model.endswith(f"/{answered}")):
            raise MirrorError(
                f"{self._where} answers as {answered!r}, but was asked for {self.model!r}; pass --model {answered}"
            )

    async def _read(self, client: Any, request: Request, labels: Sequence[str]) -> np.ndarray:
        check_labels(request, labels)
        ends = [label + closing(request) for label in labels]
        found = [await self._tokenise(client, self._chat(request, end)) for end in ends]
        question, room = Question.of([ids for ids, _ in found]), found[0][1]
        if question.longest >= room:
            return np.full(len(labels), np.nan)
        if question.one_token_each and len(labels) <= MOST_LOGPROBS:
            return await self._next_tokens(client, question)
        scores = [await self._tail(client, question.context, tail) for tail in question.tails]
        return softmax(np.array(scores))

    async def _likelihood(self, client: Any, request: Request) -> float:
        if request.messages:
            asked = {"messages": request.messages, "add_generation_prompt": True}
            (context, _), (whole, room) = [
                await self._tokenise(client, body) for body in (asked, self._chat(request, ""))
            ]
            before = in_common([context, whole])
        else:  # the server begins a text as its model wants
            whole, room = await self._tokenise(client, {"prompt": request.prefix, "add_special_tokens": True})
            plain, _ = await self._tokenise(client, {"prompt": request.prefix, "add_special_tokens": False})
            before = max(len(whole) - len(plain), 1)
        if len(whole) >= room:
            return float("nan")
        return await self._tail(client, whole[:before], whole[before:]) / max(len(whole) - before, 1)

    def _chat(self, request: Request, end: str) -> dict[str, Any]:
        """The whole conversation, as `/tokenize` takes it."""
        messages = [*request.messages, {"role": "assistant", "content": request.prefix + end}]
        return {"messages": messages, "add_generation_prompt": False, "continue_final_message": True}

    async def _tokenise(self, client: Any, what: dict[str, Any]) -> tuple[list[int], int]:
        """The tokens of a text or chat, and how many fit the model."""
        import openai

        address = f"{self._base_url.rstrip('/').removesuffix('/v1')}/tokenize"
        try:
            answer = await client.post(address, body={"model": self.model, **what}, cast_to=dict[str, Any])
            return list(answer["tokens"]), int(answer["max_model_len"])
        except (openai.NotFoundError, openai.BadRequestError, ValueError, TypeError, KeyError):
            raise self._no_probabilities("it does not tokenise") from None

    async def _next_tokens(self, client: Any, question: Question) -> np.ndarray:
        tokens = [tail[0] for tail in question.tails]
        answer = await client.completions.create(
            model=self.model, prompt=question.context, max_tokens=1, temperature=1.0, top_p=1.0, logprobs=len(tokens),
            extra_body={"allowed_token_ids": tokens, "return_tokens_as_token_ids": True},
        )  # fmt: skip
        try:
            logprobs = answer.choices[0].logprobs.top_logprobs[0]
            scores = np.array([logprobs[f"token_id:{token}"] for token in tokens])
        except (KeyError, IndexError, TypeError, AttributeError):
            raise self._no_probabilities(
                "its log-probabilities leave options out; start vLLM with --logprobs-mode processed_logprobs"
            ) from None
        return softmax(scores)

    async def _tail(self, client: Any, context: Sequence[int], tail: Sequence[int]) -> float:
        answer = await client.completions.create(
            model=self.model, prompt=[*context, *tail], max_tokens=1, extra_body={"prompt_logprobs": 0}
        )
        try:
            found = answer.choices[0].prompt_logprobs[-len(tail) :]
            return sum(position[str(token)]["logprob"] for position, token in zip(found, tail, strict=True))
        except (KeyError, IndexError, TypeError, AttributeError):
            raise self._no_probabilities("it does not score prompts") from None

    def _no_probabilities(self, why: str) -> ConfigError:
        return ConfigError(
            f"{self._where} gives no option probabilities ({why}); read with --backend transformers or vllm"
        )


async def _close(client: Any, under_way: Iterable[Any]) -> None:
    await asyncio.gather(*under_way, return_exceptions=True)
    await client.close()


def _conversation(request: Request) -> tuple[list[dict[str, str]], dict[str, Any]]:
    """The messages, and what makes a server go on with an answer that has begun, or keep to a pattern (vLLM's own
    extension, https://docs.vllm.ai/en/latest/features/structured_outputs.html)."""
    more: dict[str, Any] = {"structured_outputs": {"regex": request.pattern}} if request.pattern else {}
    if not request.prefix:
        return request.messages, more
    begun = [*request.messages, {"role": "assistant", "content": request.prefix}]
    return begun, more | {"add_generation_prompt": False, "continue_final_message": True}


def _message(error: Any) -> str:
    """What the server says, on one line."""
    body = error.body if isinstance(error.body, dict) else {}
    text = body.get("message") or json.dumps(body) if body else str(error)
    return " ".join(str(text).split())[:200]
