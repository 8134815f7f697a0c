"""The MCP gateway: the one path on which every tool call goes, whatever door it came through (P-ONEPATH).

0. journal, in a run: the fence, then the recorded answer, which skips all the rest
1. resolve: connection and tool, under the principal's row level security
2. policy: the operator's allow-list, the pin, then allow, ask or deny
3. limits: calls per user and minute
4. cache: answers of read-only tools
5. bulkhead: circuit breaker, and calls under way of each (server, credential)
6. upstream: deadline, retry of what is safe to repeat
7. audit: the outcome joins the current group commit; the answer leaves when that has landed

In development mode a hosted server that cannot be reached is replaced by its built-in twin, for read-only calls (P-FALLBACK).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any
from uuid import UUID

import structlog

from auralink.audit.group_commit import GroupCommit
from auralink.audit.schemas import Operation, Record
from auralink.auth.principal import Principal, acting_as
from auralink.core import telemetry
from auralink.core.breaker import CircuitOpen
from auralink.core.db import DatabaseUnavailable
from auralink.core.errors import AuralinkError, OutcomeUnknown
from auralink.core.http import dumps
from auralink.core.ids import uuid7
from auralink.journal.steps import Journal, Step
from auralink.mcp import naming
from auralink.mcp.bulkhead import Bulkheads
from auralink.mcp.cache import ResponseCache, is_read_only
from auralink.mcp.errors import ToolNotFound
from auralink.mcp.limits import RateLimiter
from auralink.mcp.peer import NOBODY, Peer
from auralink.mcp.pins import Tools
from auralink.mcp.policy import Policy
from auralink.mcp.recording import CallRecording, begun, numbered
from auralink.mcp.resolve import ConnectionResolver
from auralink.mcp.rounds import request_with_input
from auralink.mcp.schemas import ConnectionRecord, ToolAnswer
from auralink.mcp.upstream.errors import UpstreamError, UpstreamRejected
from auralink.mcp.upstream.transport import IDEMPOTENCY_KEY
from auralink.mcp.upstreams import Upstreams

log = structlog.get_logger(__name__)

FIRST_BACKOFF = 0.05
"""Seconds before the first retry; doubled for each further one."""
METHOD_NOT_FOUND = -32601
CUSTOM, UNKNOWN = "custom", "unknown"
"""Labels of servers that users name, and of calls that reached none."""

REPLAYED = "journal"
"""Who served an answer that was there."""
PART_OF_CALL = frozenset({"inputResponses", "requestState"})
"""What a call says beside tool and arguments that its answer depends on."""

Params = Mapping[str, Any]
Result = dict[str, Any]
NOTHING: Mapping[str, Any] = {}


class Gateway:
    """Carries a principal's calls to the servers of its connections."""

    def __init__(
        self,
        *,
        resolver: ConnectionResolver,
        policy: Policy,
        limits: RateLimiter,
        cache: ResponseCache,
        bulkheads: Bulkheads,
        upstreams: Upstreams,
        audit: GroupCommit,
        journal: Journal,
    ) -> None:
        self._resolver = resolver
        self._policy = policy
        self._limits = limits
        self._cache = cache
        self._bulkheads = bulkheads
        self._upstreams = upstreams
        self._audit = audit
        self._journal = journal

    async def call_tool(
        self,
        principal: Principal,
        connection: str | UUID,
        tool: str,
        arguments: Params,
        *,
        source: str,
        peer: Peer = NOBODY,
        extras: Mapping[str, Any] = NOTHING,
    ) -> ToolAnswer:
        """Calls a tool on one of the principal's connections, named by name or id. `source` is the door: `rest`, `mcp`, …

        `peer` is the client, which the server may inform and ask meanwhile; `extras` are further parameters that go through as
        they are (`_meta`, `inputResponses`, `requestState`). The result is the server's own, also when it says `isError`.

        Raises:
            ConnectionNotFound, ToolNotFound, ToolDenied, RateLimited: refused before anything was sent.
            UpstreamError: the server failed, was too slow, or answered something that is not MCP.
            AuditUnavailable: done, but not recorded.
        """
        call = partial(self._call, principal, connection, tool, arguments, source=source, peer=peer, extras=extras)
        if principal.run is None:
            return await call(None)
        asked = {name: value for name, value in extras.items() if name in PART_OF_CALL}
        request = {"connection": str(connection), "tool": tool, "arguments": dict(arguments), **asked}
        return await self._journal.carry(self._once(principal, request, call))

    async def _call(
        self,
        principal: Principal,
        connection: str | UUID,
        tool: str,
        arguments: Params,
        step: Step | None,
        *,
        source: str,
        peer: Peer,
        extras: Mapping[str, Any],
    ) -> ToolAnswer:
        async with self._recorded(principal, "tools/call", source, tool=tool, step=step) as made:
            operation = made.operation
            operation.request_bytes = _size_of(arguments)
            record = await self._resolver.resolve(principal, connection)
            operation.connection_id, operation.server, operation.label = record.id, record.server.name, record.server.label
            params = {**extras, "name": tool, "arguments": dict(arguments)}
            if step is not None:
                params["_meta"] = {**(extras.get("_meta") or {}), IDEMPOTENCY_KEY: step.idempotency_key}
            made.result = await self._call_or_fall_back(principal, record, made, params, peer)
        return ToolAnswer(made.result, operation.served_by or "", operation.cached, operation.duration_ms, operation.id)

    async def _once(
        self, principal: Principal, request: Mapping[str, Any], call: Callable[[Step], Awaitable[ToolAnswer]]
    ) -> ToolAnswer:
        """The answer to a run's call: out of its journal, or made and recorded there."""
        step = await self._journal.begin(principal, "tool", request)
        if step.replay is not None:
            return ToolAnswer(numbered(step.replay.result(), step), REPLAYED, False, 0.0, uuid7())
        try:
            answer = await call(step)
            return replace(answer, result=numbered(answer.result, step))
        except OutcomeUnknown:
            await step.unknown()
        except DatabaseUnavailable:
            await step.withdraw()
            raise

    async def remember(
        self, principal: Principal, method: str, asked: Mapping[str, Any], answer: Callable[[], Awaitable[Result]]
    ) -> Result:
        """What a method that only reads answers; to a run always the same. Raises as `answer`, and as `Journal.begin`."""
        if principal.run is None:
            return await answer()
        request = {**asked, "method": method}
        return await self._journal.carry(self._journal.remember(principal, "list", request, answer, self._audit.commit))

    async def call_public_name(self, principal: Principal, name: str, arguments: Params, *, source: str) -> ToolAnswer:
        """Calls a tool by the name under which clients see it, `<connection>__<tool>`."""
        parts = naming.split(name)
        if parts is None:
            async with self._recorded(principal, "tools/call", source, tool=name):
                raise ToolNotFound(
                    f"{name!r} is not the name of a tool; names are <connection>__<tool>, as GET /api/v1/mcp/tools shows"
                )
        connection, tool = parts
        return await self.call_tool(principal, connection, tool, arguments, source=source)

    async def relay(
        self,
        principal: Principal,
        connection: str | UUID,
        method: str,
        params: Mapping[str, Any],
        *,
        source: str,
        peer: Peer = NOBODY,
    ) -> dict[str, Any]:
        """Passes any other request (prompts, resources, completion, subscriptions) on to a connection's server, recorded like a
        tool call. Raises as `call_tool`."""
        asked = {"connection": str(connection), "params": {name: value for name, value in params.items() if name != "_meta"}}
        relayed = partial(self._relay, principal, connection, method, params, source=source, peer=peer)
        return await self.remember(principal, method, asked, relayed)

    async def _relay(
        self, principal: Principal, connection: str | UUID, method: str, params: Params, *, source: str, peer: Peer
    ) -> Result:
        async with self._recorded(principal, method, source) as made:
            operation = made.operation
            record = await self._resolver.resolve(principal, connection)
            operation.connection_id, operation.server, operation.label = record.id, record.server.name, record.server.label
            operation.served_by = record.server.served_by
            await self._limits.check(principal, record)
            deadline = time.monotonic() + record.server.timeout
            with acting_as(principal):
                async with self._bulkheads.call(record, deadline):
                    session = await self._upstreams.session(principal, record, deadline)
                    result = await request_with_input(session, method, params, deadline, peer)
        return result

    async def _call_or_fall_back(
        self, principal: Principal, record: ConnectionRecord, made: "_Made", params: Params, peer: Peer
    ) -> Result:
        try:
            return await self._admitted_call(principal, record, made, params, peer)
        except (CircuitOpen, UpstreamError) as error:
            twin = self._upstreams.twin(record)
            if twin is None or getattr(error, "sent", False):
                raise
            log.warning("using the built-in twin", server=record.server.name, reason=error.code)
            return await self._admitted_call(principal, twin, made, params, peer, instead_of=error)

    async def _admitted_call(
        self,
        principal: Principal,
        record: ConnectionRecord,
        made: "_Made",
        params: Params,
        peer: Peer,
        *,
        instead_of: AuralinkError | None = None,
    ) -> Result:
        """The call of a resolved connection; `instead_of` is why its server, a twin, is asked."""
        operation, step = made.operation, made.step
        deadline = time.monotonic() + record.server.timeout
        with acting_as(principal):
            tools, name = await self._find_tool(principal, record, params["name"], deadline)
            operation.tool, params = name, {**params, "name": name}
            if instead_of is not None and not is_read_only(tools[name]):
                raise instead_of
            if step is not None and step.again and not _is_repeatable(tools[name], keyed=True):
                await step.unknown()
            deadline += await self._policy.check(principal, record, tools, params, peer, step)
            await self._limits.check(principal, record, name)
            key = self._cache.key(record, tools[name], params)
            result = self._cache.get(key, record.server.label)
            operation.cached = result is not None
            if result is None:
                result = await self._call_upstream(principal, record, made, tools[name], params, deadline, peer)
                self._cache.put(key, record, tools[name], result)
        operation.served_by = record.server.served_by
        operation.outcome = "tool_error" if result.get("isError") else "ok"
        operation.response_bytes = len(dumps(result))
        return result

    async def _find_tool(self, principal: Principal, record: ConnectionRecord, tool: str, deadline: float) -> tuple[Tools, str]:
        """The server's tools, and the own name of the one meant; `tool` may be the shortened form of its public name."""
        async with self._bulkheads.call(record, deadline, proves_health=False):
            session = await self._upstreams.session(principal, record, deadline)
            for refresh in (False, True):
                tools = await session.list_tools(deadline, refresh=refresh)
                if (name := naming.own_name(record.name, tool, tools)) is not None:
                    return tools, name
        known = ", ".join(sorted(tools)[:20]) or "none"
        raise ToolNotFound(f"connection {record.name!r} (server {record.server.name!r}) has no tool {tool!r}; it has: {known}")

    async def _call_upstream(
        self,
        principal: Principal,
        record: ConnectionRecord,
        made: "_Made",
        definition: Params,
        params: Params,
        deadline: float,
        peer: Peer,
    ) -> Result:
        """The call itself; repeated after a failure only if it was not sent or the tool says that repeating it is harmless. In a
        run, one that may have happened and must not be repeated has no answer: raises OutcomeUnknown."""
        backoff, repeatable = FIRST_BACKOFF, _is_repeatable(definition, keyed=made.step is not None)
        for retries_left in range(record.server.retry_attempts, -1, -1):
            try:
                async with self._bulkheads.call(record, deadline):
                    session = await self._upstreams.session(principal, record, deadline)
                    result = await request_with_input(session, "tools/call", params, deadline, peer)
            except UpstreamRejected as error:
                raise _tool_unknown_upstream(error, record, definition["name"]) from error
            except UpstreamError as error:
                may_repeat = error.transient and (not error.sent or repeatable)
                if made.step is not None and error.transient and error.sent and not repeatable:
                    raise OutcomeUnknown(f"whether the call happened is not known: {error.message}") from error
                if not retries_left or not may_repeat or time.monotonic() + backoff >= deadline:
                    raise
                log.info("retrying a tool call", server=record.server.name, tool=definition["name"], reason=error.code)
            else:
                if result.get("isError"):
                    made.operation.error = session.redactor.text(_first_text(result))[:500]
                return result
            await asyncio.sleep(backoff)
            backoff *= 2
        raise AssertionError("the last attempt returns or raises")

    def _recorded(
        self, principal: Principal, method: str, source: str, *, tool: str | None = None, step: Step | None = None
    ) -> "_Made":
        return _Made(self._audit, begun(principal, method, source, tool=tool), step)


class _Made(CallRecording):
    """A call on its way; when it has ended it is counted."""

    def records(self) -> tuple[Record, ...]:
        """As `CallRecording`."""
        _measure(self.operation)
        return super().records()


def _measure(operation: Operation) -> None:
    """Counts an operation; tools that users name, and that do not exist, share a label."""
    label = operation.label
    named = label not in (CUSTOM, UNKNOWN) and operation.outcome != "tool_not_found"
    tool = (operation.tool or operation.operation) if named else UNKNOWN if label != CUSTOM else CUSTOM
    _counter(label, tool, operation.outcome).inc()
    _clock(label).observe(operation.duration_ms / 1000)
    if operation.outcome != "ok":
        telemetry.mcp_errors.labels(label, operation.outcome).inc()
    log.debug("operation", server=label, method=operation.operation, tool=operation.tool, outcome=operation.outcome)


_counter = lru_cache(maxsize=4096)(telemetry.mcp_operations.labels)
_clock = lru_cache(maxsize=1024)(telemetry.mcp_duration.labels)
"""The library's own look-up costs more than counting."""


def _is_repeatable(definition: Params, *, keyed: bool) -> bool:
    """Whether a call may be made twice; `keyed`: it carries an idempotency key, which the server may say that it honours."""
    honours_key = keyed and (definition.get("_meta") or {}).get(IDEMPOTENCY_KEY) is True
    return honours_key or is_read_only(definition) or (definition.get("annotations") or {}).get("idempotentHint") is True


def _tool_unknown_upstream(error: UpstreamRejected, record: ConnectionRecord, tool: str) -> AuralinkError:
    if error.rpc_code == METHOD_NOT_FOUND:
        return ToolNotFound(f"MCP server {record.server.name!r} does not take calls of {tool!r}: {error.message}")
    return error


def _size_of(arguments: Params) -> int | None:
    """Bytes of arguments as JSON; None if they have a number beyond 64 bits, which some servers take and our writer does not."""
    try:
        return len(dumps(arguments))
    except TypeError:
        return None


def _first_text(result: Mapping[str, Any]) -> str:
    texts = (block.get("text") for block in result.get("content") or () if isinstance(block, dict))
    return str(next((text for text in texts if text), "the tool reported an error without a text"))
