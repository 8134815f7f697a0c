"""One attempt at one model: the key is opened, the request translated and sent, what may pass is tried again, the answer read.

A breaker for each (provider, key) leaves alone who fails again and again (P-BULKHEAD). The key is opened here and nowhere else, and
taken out of whatever the provider says about its failures (P-SECRET).
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from typing import Any
from uuid import UUID

import structlog

from auralink.auth.principal import Principal
from auralink.core.breaker import Breaker, BreakerSettings, CircuitOpen
from auralink.core.http_client import Response
from auralink.core.redaction import Redactor
from auralink.core.secret import Secret
from auralink.llm.errors import ProviderError, UnsupportedField
from auralink.llm.local import LocalModels
from auralink.llm.providers.chunks import chunks_of
from auralink.llm.providers.failures import json_of
from auralink.llm.providers.openai import read_usage
from auralink.llm.providers.protocol import Body, HttpRequest, Provider, Target, Usage
from auralink.llm.providers.vendors import REGISTRY, VENDORS
from auralink.llm.requests import ModelRequest
from auralink.llm.schemas import ModelCall
from auralink.llm.selection import Choice
from auralink.llm.streams import OpenStream, chunk_stream, event_stream
from auralink.llm.transport import Transport
from auralink.vault.service import Vault

log = structlog.get_logger(__name__)

RETRIES = 2
FIRST_BACKOFF = 0.5
LONGEST_WAIT = 10.0
"""Seconds; a provider that wants to be left alone for longer is left to the caller, or the next model takes over."""
PASSING = frozenset({"rate_limited", "overloaded", "server_error", "unreachable"})
"""Failures that may be over at the next try."""
UNWELL = frozenset({"overloaded", "server_error", "unreachable", "timeout", "broken_off"})
"""Failures that say that the provider is unwell."""
REMEMBERED = 10_000
LONGEST_MESSAGE, LAST_WORDS = 1200, 100
KEY_TABLE, KEY_FIELD = "user_llm_keys", "encrypted_key"


class Attempts:
    """Carries requests to providers and to the local models."""

    def __init__(self, *, transport: Transport, vault: Vault, breaker: BreakerSettings, local: LocalModels) -> None:
        self._transport = transport
        self._vault = vault
        self._settings = breaker
        self._local = local
        self._breakers: dict[tuple[str, UUID | None], Breaker] = {}

    async def complete(self, principal: Principal, request: ModelRequest, choice: Choice, call: ModelCall) -> Body:
        """A chat completion. Raises `ProviderError`, `UnsupportedField` or `CircuitOpen`."""
        if choice.is_local:
            body = await self._local.complete(choice.model, request.body)
            call.usage = read_usage(body.get("usage"))
            return body
        target = await self._target(principal, choice)
        provider = format_of(choice)
        async with self._guarded(choice, target):
            response = await self._answered(provider, provider.request(request.body, target), choice, target, call)
            async with response:
                answer = json_of(await self._transport.read(response, target))
            body, call.usage = _read(provider, answer, target)
        return body

    async def stream(self, principal: Principal, request: ModelRequest, choice: Choice, call: ModelCall) -> OpenStream:
        """An answer that has begun: its first event is there. Raises as `complete`, and so does reading on."""
        if choice.is_local:
            body = await self._local.complete(choice.model, request.body)
            usage = read_usage(body.get("usage"))
            return await OpenStream.begun(chunk_stream(chunks_of(body, report_usage=request.report_usage)), lambda: usage)
        target = await self._target(principal, choice)
        provider = format_of(choice)
        translator = provider.stream(target, report_usage=request.report_usage)

        async def events() -> AsyncGenerator[str]:
            async with self._guarded(choice, target):
                message = provider.request(request.body, target)
                response = await self._answered(provider, message, choice, target, call, stream=True)
                async with response:
                    async for data in event_stream(self._transport.events(response, target), translator, target):
                        yield data

        return await OpenStream.begun(events(), lambda: translator.usage)

    async def embed(self, principal: Principal, request: ModelRequest, choice: Choice, call: ModelCall) -> Body:
        """Embeddings, by the hosts of the OpenAI format. Raises as `complete`."""
        if choice.is_local:
            raise UnsupportedField("input", choice.model.model_id, "it is a program and makes no embeddings")
        target = await self._target(principal, choice)
        provider = format_of(choice)
        async with self._guarded(choice, target):
            response = await self._answered(provider, provider.embeddings_request(request.body, target), choice, target, call)
            async with response:
                answer = json_of(await self._transport.read(response, target))
            if not isinstance(answer, dict) or not isinstance(answer.get("data"), list):
                raise _bad_answer(target, "the answer has no data")
            call.usage = read_usage(answer.get("usage"))
        return answer

    async def check_key(self, provider_id: str, base_url: str, key: Secret, *, trusted: bool) -> None:
        """Asks a provider whether it knows a key, by listing its models. Raises `ProviderError`."""
        target = Target(provider_id, "its list of models", base_url, key)
        provider = REGISTRY[VENDORS[provider_id].wire_format]
        with _redacted(key):
            response = await self._transport.send(provider.models_request(target), target, trusted=trusted, method="GET")
            async with response:
                if not 200 <= response.status < 300:  # a redirect says nothing of the key
                    raise await self._refusal(provider, response, target)

    async def _target(self, principal: Principal, choice: Choice) -> Target:
        if choice.own_key is None:
            return choice.target(choice.operator_key)
        own = choice.own_key
        key = await self._vault.open(principal, own.sealed, table=KEY_TABLE, row_id=own.key_id, field=KEY_FIELD)
        return choice.target(key)

    async def _answered(
        self, provider: Provider, message: HttpRequest, choice: Choice, target: Target, call: ModelCall, *, stream: bool = False
    ) -> Response:
        """A response with a good status. What may pass is tried again, after as long as the provider asks for."""
        trusted = choice.key_source == "operator"
        for retries_left in range(RETRIES, -1, -1):
            call.attempts += 1
            try:
                response = await self._transport.send(message, target, trusted=trusted, stream=stream)
                if response.status < 400:
                    return response
                async with response:
                    raise await self._refusal(provider, response, target)
            except ProviderError as error:
                wait = _pause(error, RETRIES - retries_left)
                if not retries_left or error.kind not in PASSING or wait > LONGEST_WAIT:
                    raise
                log.info("trying a model call again", provider=target.provider, model=target.model, reason=error.kind, wait=wait)
                await asyncio.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    async def _refusal(self, provider: Provider, response: Response, target: Target) -> ProviderError:
        failure = provider.failure(response.status, response.headers, await self._transport.read(response, target))
        return ProviderError(
            f"{target.provider}, asked for {target.model}, refused (HTTP {response.status}): {failure.message}",
            provider=target.provider,
            model=target.model,
            kind=failure.kind,
            status=response.status,
            retry_after=failure.retry_after,
        )

    @contextlib.asynccontextmanager
    async def _guarded(self, choice: Choice, target: Target) -> AsyncIterator[None]:
        """A call goes in this block: refused while the breaker is open, watched by it, its errors without the key."""
        breaker = self._breaker(choice)
        if (wait := breaker.wait) is not None:
            raise _left_alone(target, breaker, wait)
        probe = breaker.begin()
        try:
            with _redacted(target.key):
                yield
        except ProviderError as error:
            if error.kind in UNWELL:
                breaker.failed()
            raise
        else:
            breaker.succeeded()
        finally:
            breaker.end(probe=probe)

    def _breaker(self, choice: Choice) -> Breaker:
        key = (choice.model.provider, choice.own_key.key_id if choice.own_key else None)
        breaker = self._breakers.get(key)
        if breaker is None:
            if len(self._breakers) >= REMEMBERED:
                self._breakers = {known: kept for known, kept in self._breakers.items() if not kept.is_untroubled}
            breaker = self._breakers[key] = Breaker(self._settings)
        return breaker


def format_of(choice: Choice) -> Provider:
    """The wire format of a model's provider."""
    return REGISTRY[VENDORS[choice.model.provider].wire_format]


def _read(provider: Provider, answer: Any, target: Target) -> tuple[Body, Usage]:
    if not isinstance(answer, Mapping):
        raise _bad_answer(target, "the answer is no JSON object")
    try:
        return provider.response(answer, target)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _bad_answer(target, str(error)) from error


def _bad_answer(target: Target, what: str) -> ProviderError:
    return ProviderError(
        f"{target.provider} answered the call of {target.model} with something else: {what}",
        provider=target.provider,
        model=target.model,
        kind="server_error",
    )


def _pause(error: ProviderError, retries: int) -> float:
    """Seconds before the next try: what the provider asks for, else twice as long each time, with jitter (AWS, "Exponential
    Backoff And Jitter")."""
    if error.retry_after is not None:
        return error.retry_after
    return float(FIRST_BACKOFF * 2**retries * random.uniform(0.5, 1.0))  # noqa: S311  # no secret depends on it


@contextlib.contextmanager
def _redacted(key: Secret | None) -> Iterator[None]:
    try:
        yield
    except ProviderError as error:
        if key is not None:
            Redactor([key]).clean(error)
        error.message = _shortened(error.message)
        error.args = (error.message,)
        raise


def _shortened(message: str) -> str:
    """A message of bounded length. It is cut after the key was masked, for half a key is one that nothing would find; its end names
    the request by the provider's id."""
    if len(message) <= LONGEST_MESSAGE:
        return message
    return f"{message[: LONGEST_MESSAGE - LAST_WORDS]} … {message[-LAST_WORDS:]}"


def _left_alone(target: Target, breaker: Breaker, wait: float) -> CircuitOpen:
    seconds = max(1, round(wait))
    return CircuitOpen(
        f"{target.provider} failed {breaker.failures} times in a row with this key and is left alone; try again in {seconds} s, "
        "or name another provider's model",
        headers={"Retry-After": str(seconds)},
        extra={"provider": target.provider, "model": target.model, "retry_after": seconds},
    )
