"""Any server with OpenAI's HTTP API, by OpenAI's own client: OPENAI_BASE_URL names it, OPENAI_API_KEY is its key.

Every sample is a request of its own: servers differ in whether they honour `n`, one seed for ten answers would not name
a sample, and one bad answer must not cost the other nine. Where a server ignores `seed`, answers are sampled all the
same, and cannot be repeated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np

from hf_mirror.backends import Generation, Request
from hf_mirror.backends.openai.session import Endpoint, Session, UnansweredError
from hf_mirror.backends.tokens import Question, check_labels, closing, in_common, softmax
from hf_mirror.errors import ConfigError, MirrorError

GREETING_RETRIES = 4  # a few seconds
MOST_LOGPROBS = 20  # what OpenAI's API and vLLM's server allow unless told otherwise
NEVER = -9999.0  # what vLLM's server says for a log-probability of minus infinity
CONTROL = Request("control", [{"role": "user", "content": "Hello"}], max_tokens=1)
_TOO_LONG = re.compile(r"context.*(length|size|window)|(length|size|window).*context", re.IGNORECASE)
_DATED = r"(-\d{3,8}|-\d{4}-\d{2}-\d{2})?"  # `name-2024-08-06`, `name-0613` for `name`


class OpenAIBackend:
    """Generates through any such server; reads option probabilities through one that tokenises, as vLLM's does."""

    structured = True

    def __init__(self, model: str, revision: str | None = None) -> None:
        """`model` as the server calls it. Endpoints name no version: `revision` is recorded as it is given, else the
        dated name that the server answers under, if it has one. One word is asked of it here."""
        if find_spec("openai") is None:
            raise ConfigError("backend openai needs OpenAI's client: pip install -e '.[api]'")
        self._endpoint = Endpoint()
        self.model = model
        self._answers_as = ""
        list(self._endpoint.each([self._greet], GREETING_RETRIES))
        dated = self._answers_as not in ("", model)  # some servers do not say who answers
        self.revision = revision or (self._answers_as if dated else "as served")

    def generate(self, requests: Sequence[Request]) -> Iterator[Generation]:
        """Samples `n` answers per request; see `Backend`. A sample that the server refuses, or fails on for good while
        it answers others, has finish_reason `failed`; a server that answers nobody is an error."""
        samples = [(request, sample) for request in requests for sample in range(request.n)]
        return self._endpoint.each(partial(self._sample, *job) for job in samples)

    def choice_probs(self, requests: Sequence[Request], labels: Sequence[Sequence[str]]) -> Iterator[np.ndarray]:
        """One distribution per request over exactly its labels; see `Backend`.

        The server tokenises context + label + `]` for every label (vLLM's `/tokenize`). Where one token tells them
        apart, one completion of one token gives their log-probabilities; else every label's tokens are scored.
        """
        pairs = list(zip(requests, labels, strict=True))
        return self._endpoint.each(partial(self._read, *pair) for pair in pairs)

    def answer_logprobs(self, requests: Sequence[Request]) -> Iterator[float]:
        """The log-probability of each request's prefix, from a server that tokenises and scores; see `Backend`."""
        return self._endpoint.each(partial(self._likelihood, request) for request in requests)

    async def _greet(self, session: Session) -> None:
        """Makes sure that the server has the model, and learns what it calls it."""
        try:
            served = await session.ask(_all_models, lambda models: [str(model.id) for model in models if model.id])
        except UnansweredError as failure:
            if failure.status != 404:  # there are servers that do not say
                raise self._nobody(failure, "mend OPENAI_BASE_URL (ends in /v1?)") from None
            served = []
        if served and self.model not in served:
            near = get_close_matches(self.model, served, n=1, cutoff=0.0)
            raise ConfigError(f"{self._endpoint.where} serves no model {self.model!r}; did you mean {near[0]!r}?")
        try:
            await self._complete(session, CONTROL, 0)
        except UnansweredError as failure:
            raise self._nobody(failure, f"see its log, and whether {self.model} is a chat model") from None

    def _nobody(self, failure: UnansweredError, what: str) -> MirrorError:
        return MirrorError(f"{self._endpoint.where} {failure}; {what}, and run the same command again")

    async def _sample(self, request: Request, sample: int, session: Session) -> Generation:
        """One sample, whatever the server makes of it."""
        try:
            return await self._complete(session, request, sample)
        except UnansweredError as failure:
            try:  # the same of anybody
                await self._complete(session, replace(request, messages=CONTROL.messages), sample)
            except UnansweredError:
                raise self._nobody(failure, "see its log") from None
            return Generation(request.id, sample, "", "failed")

    async def _complete(self, session: Session, request: Request, sample: int) -> Generation:
        """One sample. The answer may fill what the context leaves, as with other engines."""
        messages, more = _conversation(request)
        settings = {
            "model": self.model, "messages": messages, "temperature": request.temperature, "top_p": request.top_p,
            "seed": request.sample_seed(sample), "extra_body": more,
        }  # fmt: skip

        def take(answer: Any) -> Generation:
            choice = answer.choices[0]
            text = choice.message.content or ""
            if not isinstance(text, str):
                raise TypeError
            self._same_model(answer.model)
            text = text.encode("utf-8", "replace").decode()  # half of a surrogate pair is no text
            reason = {"length": "length", "content_filter": "failed"}.get(choice.finish_reason, "stop")
            used = getattr(answer, "usage", None)
            counts = [_count(getattr(used, name, 0)) for name in ("completion_tokens", "prompt_tokens")]
            return Generation(request.id, sample, text, reason, *counts)

        for asked in (settings | {"max_tokens": request.max_tokens}, settings):
            try:
                return await session.ask(partial(_create, asked), take)
            except UnansweredError as failure:
                if failure.status != 400 or not _TOO_LONG.search(failure.message):
                    raise
        return Generation(request.id, sample, "", "context")

    def _same_model(self, answered: Any) -> None:
        """The first answer says what the server calls the model; MirrorError where that is another one, or changes."""
        if not answered:
            return
        if self._answers_as:
            if answered != self._answers_as:
                raise MirrorError(
                    f"{self._endpoint.where} answers as {answered!r}, after {self._answers_as!r}; ask for one"
                )
        elif not (re.fullmatch(re.escape(self.model) + _DATED, answered) or self.model.endswith(f"/{answered}")):
            raise MirrorError(
                f"{self._endpoint.where} answers as {answered!r}, but was asked for {self.model!r}; pass --model "
                f"{answered}"
            )
        self._answers_as = answered

    async def _read(self, request: Request, labels: Sequence[str], session: Session) -> np.ndarray:
        check_labels(request, labels)
        ends = [label + closing(request) for label in labels]
        found = [await self._tokenise(session, self._chat(request, end)) for end in ends]
        question, room = Question.of([ids for ids, _ in found]), found[0][1]
        if question.longest >= room:
            return np.full(len(labels), np.nan)
        if question.one_token_each and len(labels) <= MOST_LOGPROBS:
            return await self._next_tokens(session, question)
        scores = [await self._tail(session, question.context, tail) for tail in question.tails]
        return softmax(np.array(scores))

    async def _likelihood(self, request: Request, session: Session) -> float:
        if request.messages:
            asked = {"messages": request.messages, "add_generation_prompt": True}
            (context, _), (whole, room) = [
                await self._tokenise(session, body) for body in (asked, self._chat(request, ""))
            ]
            before = in_common([context, whole])
        else:  # the server begins a text as its model wants
            whole, room = await self._tokenise(session, {"prompt": request.prefix, "add_special_tokens": True})
            plain, _ = await self._tokenise(session, {"prompt": request.prefix, "add_special_tokens": False})
            before = max(len(whole) - len(plain), 1)
        if len(whole) >= room:
            return float("nan")
        return await self._tail(session, whole[:before], whole[before:]) / max(len(whole) - before, 1)

    def _chat(self, request: Request, end: str) -> dict[str, Any]:
        """The whole conversation, as `/tokenize` takes it."""
        messages = [*request.messages, {"role": "assistant", "content": request.prefix + end}]
        return {"messages": messages, "add_generation_prompt": False, "continue_final_message": True}

    async def _tokenise(self, session: Session, what: dict[str, Any]) -> tuple[list[int], int]:
        """The tokens of a text or chat, and how many fit the model."""
        address = f"{self._endpoint.base_url.rstrip('/').removesuffix('/v1')}/tokenize"
        body = {"model": self.model, **what}
        return await self._ask(
            session, "it does not tokenise",
            lambda client: client.post(address, body=body, cast_to=dict[str, Any]),
            lambda answer: ([int(token) for token in answer["tokens"]], int(answer["max_model_len"])),
        )  # fmt: skip

    async def _next_tokens(self, session: Session, question: Question) -> np.ndarray:
        tokens = [tail[0] for tail in question.tails]

        def take(answer: Any) -> np.ndarray:
            self._same_model(answer.model)
            logprobs = answer.choices[0].logprobs.top_logprobs[0]
            scores = np.array([float(logprobs[f"token_id:{token}"]) for token in tokens])
            if (scores <= NEVER).any():
                raise ValueError
            return softmax(scores)

        return await self._ask(
            session, "its log-probabilities leave options out; start vLLM with --logprobs-mode processed_logprobs",
            lambda client: client.completions.create(
                model=self.model, prompt=question.context, max_tokens=1, temperature=1.0, top_p=1.0,
                logprobs=len(tokens), extra_body={"allowed_token_ids": tokens, "return_tokens_as_token_ids": True},
            ),
            take,
        )  # fmt: skip

    async def _tail(self, session: Session, context: Sequence[int], tail: Sequence[int]) -> float:
        def take(answer: Any) -> float:
            self._same_model(answer.model)
            found = answer.choices[0].prompt_logprobs[-len(tail) :]
            return sum(float(at[str(token)]["logprob"]) for at, token in zip(found, tail, strict=True))

        return await self._ask(
            session, "it does not score prompts",
            lambda client: client.completions.create(
                model=self.model, prompt=[*context, *tail], max_tokens=1, extra_body={"prompt_logprobs": 0}
            ),
            take,
        )  # fmt: skip

    async def _ask(self, session: Session, lack: str, send: Any, take: Any) -> Any:
        """As `Session.ask`; a server that answers with something else, or not at all, lacks what reading needs."""
        try:
            return await session.ask(send, take)
        except UnansweredError as failure:
            if failure.status is not None and (failure.status >= 500 or failure.status == 408):
                raise self._nobody(failure, "see its log") from None
            raise ConfigError(
                f"{self._endpoint.where} gives no option probabilities ({lack}); read with --backend transformers or "
                "vllm"
            ) from None


async def _create(asked: dict[str, Any], client: Any) -> Any:
    return await client.chat.completions.create(**asked)


async def _all_models(client: Any) -> list[Any]:
    return [model async for model in client.models.list()]


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _conversation(request: Request) -> tuple[list[dict[str, str]], dict[str, Any]]:
    """The messages, and what makes a server go on with an answer that has begun, or keep to a pattern (vLLM's own
    extension, https://docs.vllm.ai/en/latest/features/structured_outputs.html)."""
    more: dict[str, Any] = {"structured_outputs": {"regex": request.pattern}} if request.pattern else {}
    if not request.prefix:
        return request.messages, more
    begun = [*request.messages, {"role": "assistant", "content": request.prefix}]
    return begun, more | {"add_generation_prompt": False, "continue_final_message": True}
