"""The model gateway: the one path on which every model call goes, whatever door it came through (P-ONEPATH).

0. journal, in a run: the fence, then the recorded answer, which skips all the rest
1. limits: calls per user and minute
2. select: the model that was named, or for `auto` the best that can and may take the request; the next if it fails (P-SELECT)
3. budget: the most that the call may use is reserved (P-BUDGET), for users who have a limit
4. provider: key, translation, retry of what may pass, circuit breaker
5. meter and audit: tokens, cost and outcome join the current group commit; the answer leaves when that has landed. A stream passes
   live, and its last chunk waits.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, TypeVar

import structlog

from auralink.audit.group_commit import GroupCommit
from auralink.auth.principal import Principal
from auralink.core.breaker import CircuitOpen
from auralink.core.buckets import Buckets
from auralink.core.errors import AuralinkError, RateLimited
from auralink.core.http import dumps
from auralink.journal.budgets import BudgetExceeded, Budgets
from auralink.journal.limits import Limits
from auralink.journal.steps import Journal, Step
from auralink.llm.attempts import Attempts
from auralink.llm.catalogue.models import Model, cost_usd
from auralink.llm.errors import PriceUnknown, ProviderError, UnsupportedField
from auralink.llm.in_runs import Assembly, RunCall
from auralink.llm.profiles import Profiles
from auralink.llm.providers.chunks import chunks_of
from auralink.llm.providers.protocol import Body, Usage
from auralink.llm.recording import ModelRecording
from auralink.llm.requests import ModelRequest, chat_request, embeddings_request
from auralink.llm.schemas import ModelCall
from auralink.llm.selection import Choice, Selection
from auralink.llm.streams import OpenStream, is_last
from auralink.llm.transport import TOTAL_SECONDS

log = structlog.get_logger(__name__)

MAX_TRIED = 4
"""Models that are tried for one request."""
OWN_FAULT = frozenset({"invalid_request"})
"""Failures that the next model would not mend."""
CHAT, EMBEDDINGS = "chat.completions", "embeddings"
DONE = "[DONE]"
REPLAYED = "journal"
"""Why no model was taken: the answer was there."""
SERVER = "server"
"""The door of the built-in servers. What they ask is part of a tool call, which a run's journal has as a whole."""

PLAIN_TEXT = ModelRequest({}, ("auto",), frozenset({"chat"}), 0)

Answered = TypeVar("Answered")
Attempt = Callable[[Principal, ModelRequest, Choice, ModelCall], Awaitable[Answered]]


@dataclass(frozen=True, slots=True)
class Answer:
    """A body of the OpenAI kind, and the call it came from: its id, the model taken and why."""

    body: Body
    call: ModelCall


class ModelGateway:
    """Carries a principal's requests to models."""

    def __init__(
        self,
        *,
        profiles: Profiles,
        selection: Selection,
        limits: Limits,
        buckets: Buckets,
        calls_a_minute: int,
        budgets: Budgets,
        attempts: Attempts,
        audit: GroupCommit,
        journal: Journal,
    ) -> None:
        self._profiles = profiles
        self._selection = selection
        self._limits = limits
        self._buckets = buckets
        self._calls_a_minute = calls_a_minute
        self._budgets = budgets
        self._attempts = attempts
        self._audit = audit
        self._journal = journal

    async def complete(
        self, principal: Principal, body: Mapping[str, Any], *, source: str, endpoint: str = CHAT, client_retry: bool = False
    ) -> Answer:
        """A chat completion for a body of the OpenAI kind. `source` is the door: `v1`, `rest`, `SERVER`. `client_retry`: the client
        says that it repeats its last request.

        Raises:
            InvalidModelRequest, ModelNotFound, KeyMissing, NoModelAvailable, RateLimited, BudgetExceeded: nothing was sent.
            UnsupportedField: the only model cannot honour a field.
            ProviderError, CircuitOpen: the last model that was tried failed.
            AuditUnavailable: done, but not recorded.
            StaleAttempt, ReplayDivergence: the call of a run that may not make it.
        """
        request = chat_request(body)
        if principal.run is None or source == SERVER:
            return await self._answer(principal, request, endpoint, source, self._attempts.complete)
        once = self._once(principal, request, endpoint, source, self._attempts.complete, client_retry)
        return await self._journal.carry(once)

    async def stream(
        self, principal: Principal, body: Mapping[str, Any], *, source: str, endpoint: str = CHAT, client_retry: bool = False
    ) -> AsyncGenerator[ModelCall | str]:
        """A chat completion as it is made: first the call (when the first event is there), then the data of each event, at the end
        `[DONE]`. Raises as `complete`, before anything is given and in the middle; whatever was used by then is recorded."""
        request = chat_request(body)
        if principal.run is None:
            events = self._stream(principal, request, endpoint, source)
        else:
            events = self._stream_carried(principal, request, endpoint, source, client_retry)
        async with contextlib.aclosing(events):
            async for event in events:
                yield event

    async def embed(self, principal: Principal, body: Mapping[str, Any], *, source: str, client_retry: bool = False) -> Answer:
        """Embeddings for a body of the OpenAI kind. Raises as `complete`."""
        request = embeddings_request(body)
        if principal.run is None:
            return await self._answer(principal, request, EMBEDDINGS, source, self._attempts.embed)
        once = self._once(principal, request, EMBEDDINGS, source, self._attempts.embed, client_retry)
        return await self._journal.carry(once)

    async def has_language_model(self, principal: Principal) -> bool:
        """Whether `auto` would take a language model for this user, and not the offline program."""
        choices = self._selection.choices(PLAIN_TEXT, await self._profiles.of(principal))
        return not choices[0].is_local

    async def _answer(
        self,
        principal: Principal,
        request: ModelRequest,
        endpoint: str,
        source: str,
        attempt: Attempt[Body],
        in_run: RunCall | None = None,
    ) -> Answer:
        async with self._recorded(principal, request, endpoint, source, in_run) as recording:
            call = recording.call
            answer = await self._first_to_answer(principal, request, call, attempt)
            if in_run is not None:
                in_run.answer = answer
        return Answer(answer, call)

    async def _once(
        self,
        principal: Principal,
        request: ModelRequest,
        endpoint: str,
        source: str,
        attempt: Attempt[Body],
        client_retry: bool,
    ) -> Answer:
        """The answer to a run's call: out of its journal, or made and recorded there."""
        step = await self._begin(principal, request, endpoint, client_retry)
        if step.replay is not None:
            return Answer(step.replay.result(), _replayed(principal, request, endpoint, source, step))
        in_run = RunCall(step)
        try:
            return await self._answer(principal, _for_fork(request, step), endpoint, source, attempt, in_run)
        except AuralinkError as error:
            await in_run.wait(error)
            raise

    async def _begin(self, principal: Principal, request: ModelRequest, endpoint: str, client_retry: bool) -> Step:
        return await self._journal.begin(principal, "llm", {**request.body, "endpoint": endpoint}, client_retry=client_retry)

    async def _stream(
        self, principal: Principal, request: ModelRequest, endpoint: str, source: str, in_run: RunCall | None = None
    ) -> AsyncGenerator[ModelCall | str]:
        last: list[str] = []
        whole = Assembly()
        async with self._recorded(principal, request, endpoint, source, in_run) as recording:
            call = recording.call
            stream = await self._first_to_answer(principal, request, call, self._attempts.stream)
            async with self._metered(stream, request, call):
                yield call
                async for data in stream:
                    if in_run is not None:
                        whole.add(data)
                    if last or is_last(data):
                        last.append(data)
                    else:
                        yield data
            if in_run is not None:
                in_run.answer = whole.completion()
        for data in (*last, DONE):
            yield data

    async def _stream_carried(
        self, principal: Principal, request: ModelRequest, endpoint: str, source: str, client_retry: bool
    ) -> AsyncGenerator[ModelCall | str]:
        """A run's stream: it is made to its end and recorded whether the engine listens or not."""
        made: asyncio.Queue[ModelCall | str | None] = asyncio.Queue()
        making = asyncio.create_task(
            self._journal.carry(self._stream_once(principal, request, endpoint, source, client_retry, made.put_nowait))
        )
        while (event := await made.get()) is not None:
            yield event
        await making

    async def _stream_once(
        self,
        principal: Principal,
        request: ModelRequest,
        endpoint: str,
        source: str,
        client_retry: bool,
        give: Callable[[ModelCall | str | None], None],
    ) -> None:
        """Gives the events of a run's stream, live or as its journal has them, then None."""
        try:
            step = await self._begin(principal, request, endpoint, client_retry)
            if step.replay is not None:
                completion = step.replay.result()
                give(_replayed(principal, request, endpoint, source, step))
                for chunk in chunks_of(completion, report_usage=request.report_usage):
                    give(dumps(chunk).decode())
                give(DONE)
                return
            in_run = RunCall(step)
            try:
                async for event in self._stream(principal, _for_fork(request, step), endpoint, source, in_run):
                    give(event)
            except AuralinkError as error:
                await in_run.wait(error)
                raise
        finally:
            give(None)

    async def _first_to_answer(
        self, principal: Principal, request: ModelRequest, call: ModelCall, attempt: Attempt[Answered]
    ) -> Answered:
        """The answer of the first model that gives one."""
        await self._check_rate(principal)
        profile = await self._profiles.of(principal)
        *others, last = self._selection.choices(request, profile)[:MAX_TRIED]
        passed_over = ""
        for choice in others:
            try:
                return await self._attempt(principal, request, choice, passed_over, call, attempt)
            except (ProviderError, CircuitOpen, UnsupportedField, BudgetExceeded, PriceUnknown) as error:
                if isinstance(error, ProviderError) and error.kind in OWN_FAULT:
                    raise
                why = error.kind if isinstance(error, ProviderError) else error.code
                passed_over += f"; after {choice.model.model_id}: {why}"
                log.info("the next model takes over", failed=choice.model.model_id, reason=why)
                if isinstance(error, ProviderError):
                    call.failed_over(error)
        return await self._attempt(principal, request, last, passed_over, call, attempt)

    async def _attempt(
        self,
        principal: Principal,
        request: ModelRequest,
        choice: Choice,
        passed_over: str,
        call: ModelCall,
        attempt: Attempt[Answered],
    ) -> Answered:
        call.model_id, call.provider = choice.model.model_id, choice.model.provider
        call.reason, call.key_source = choice.reason + passed_over, choice.key_source
        admitted = await self._within_budget(principal, request, choice.model, call)
        return await attempt(principal, admitted, choice, call)

    async def _within_budget(self, principal: Principal, request: ModelRequest, model: Model, call: ModelCall) -> ModelRequest:
        """Reserves the most that the call may use, if the user has a limit; an answer without a limit gets one then."""
        scopes = ["all", f"model:{model.model_id}"]
        if principal.run is not None:
            scopes.append(f"run:{principal.run}")
        limits = await self._limits.of(principal)
        if not limits.needs_reservation(scopes):
            return request
        each = request.answer_tokens(model) if "chat" in request.needs else 0
        output = request.answers * each
        cost = cost_usd(model, Usage(prompt=request.worst_tokens, completion=output))
        if cost is None and limits.limits_money(scopes):
            raise PriceUnknown(
                f"what {model.model_id} costs is not known, and your budget of money is limited; choose another model, or have the "
                "operator add its price to llm_models in the configuration"
            )
        tokens = request.worst_tokens + output
        await self._budgets.reserve(
            principal, call.id, scopes, tokens=tokens, cost_usd=cost or Decimal(0), seconds=2 * TOTAL_SECONDS
        )
        if request.output_limit is not None or not output:
            return request
        return replace(request, body={**request.body, "max_tokens": each}, output_limit=each)

    async def _check_rate(self, principal: Principal) -> None:
        limits = await self._limits.of(principal)
        per_minute = limits.calls("models", self._calls_a_minute)
        wait = await self._buckets.take(f"models:{principal.user_id.hex}", per_minute)
        if wait > 0:
            seconds = max(1, round(wait + 0.5))
            raise RateLimited(
                f"you may make {per_minute} model calls a minute; try again in {seconds} s",
                headers={"Retry-After": str(seconds)},
                extra={"retry_after": seconds},
            )

    @staticmethod
    @contextlib.asynccontextmanager
    async def _metered(stream: OpenStream, request: ModelRequest, call: ModelCall) -> AsyncIterator[None]:
        """A stream is read in this block; however that ends, it is closed and the call gets its usage: as the provider says, else
        counted here."""
        call.streamed = True
        call.first_token_ms = (time.perf_counter() - call.started) * 1000
        try:
            yield
        finally:
            await stream.close()
            usage = stream.usage
            if not usage.exact:
                usage = replace(
                    usage,
                    prompt=usage.prompt or request.likely_tokens,
                    completion=max(usage.completion, stream.pieces),
                )
            call.usage = usage

    def _recorded(
        self, principal: Principal, request: ModelRequest, endpoint: str, source: str, in_run: RunCall | None
    ) -> ModelRecording:
        call = ModelCall(principal.user_id, endpoint, request.requested, source, run_id=principal.run)
        return ModelRecording(self._audit, self._selection, request, call, in_run)


def _for_fork(request: ModelRequest, step: Step) -> ModelRequest:
    """The request with the model that a fork takes instead of the one asked for."""
    model = step.overrides.get("model")
    if model is None:
        return request
    remade = embeddings_request if "embeddings" in request.needs else chat_request
    return remade({**request.body, "model": model})


def _replayed(principal: Principal, request: ModelRequest, endpoint: str, source: str, step: Step) -> ModelCall:
    """A call that was made by an earlier attempt; it is not recorded again."""
    call = ModelCall(principal.user_id, endpoint, request.requested, source, run_id=principal.run)
    call.reason, call.step = REPLAYED, step.seq
    return call
