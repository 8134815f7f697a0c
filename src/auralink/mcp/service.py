"""The MCP gateway: the one path on which every tool call goes, whatever door it came through (P-ONEPATH).

resolve    connection and tool, under the principal's row level security
policy     the operator's allow-list, then the connection's own policy
limits     calls per user and minute
upstream   deadline, retry of what is safe to repeat
audit      the outcome joins the current group commit; the answer leaves when that has landed
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import UUID

import structlog

from auralink.audit.group_commit import GroupCommit
from auralink.audit.schemas import Operation
from auralink.auth.principal import Principal, acting_as
from auralink.core import telemetry
from auralink.core.errors import AuralinkError
from auralink.core.http import dumps
from auralink.core.logging import trace_id
from auralink.mcp import naming
from auralink.mcp.errors import ToolDenied, ToolNotFound
from auralink.mcp.limits import RateLimiter
from auralink.mcp.peer import NOBODY, Peer
from auralink.mcp.resolve import ConnectionResolver
from auralink.mcp.rounds import request_with_input
from auralink.mcp.schemas import ConnectionRecord, ToolAnswer
from auralink.mcp.upstream.errors import UpstreamError, UpstreamRejected
from auralink.mcp.upstream.session import UpstreamSession
from auralink.mcp.upstreams import Upstreams

log = structlog.get_logger(__name__)

FIRST_BACKOFF = 0.05
"""Seconds before the first retry; doubled for each further one."""
METHOD_NOT_FOUND = -32601
CUSTOM, UNKNOWN = "custom", "unknown"
"""Labels of servers that users name, and of calls that reached none."""

Arguments = Mapping[str, Any]
NOTHING: Mapping[str, Any] = {}


class Gateway:
    """Carries a principal's calls to the servers of its connections."""

    def __init__(self, resolver: ConnectionResolver, upstreams: Upstreams, limits: RateLimiter, audit: GroupCommit) -> None:
        self._resolver = resolver
        self._upstreams = upstreams
        self._limits = limits
        self._audit = audit

    async def call_tool(
        self,
        principal: Principal,
        connection: str | UUID,
        tool: str,
        arguments: Arguments,
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
        async with self._recorded(principal, "tools/call", source, tool=tool) as operation:
            record = await self._resolver.resolve(principal, connection)
            operation.connection_id, operation.server, operation.label = record.id, record.server.name, record.server.label
            params = {**extras, "name": tool, "arguments": dict(arguments)}
            result = await self._admitted_call(principal, record, operation, params, peer)
        return ToolAnswer(result, operation.served_by or "", operation.cached, operation.duration_ms, operation.id)

    async def call_public_name(self, principal: Principal, name: str, arguments: Arguments, *, source: str) -> ToolAnswer:
        """Calls a tool by the name under which clients see it, `<connection>__<tool>`."""
        connection, tool = naming.split(name) or (name, "")
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
        async with self._recorded(principal, method, source) as operation:
            record = await self._resolver.resolve(principal, connection)
            operation.connection_id, operation.server, operation.label = record.id, record.server.name, record.server.label
            operation.served_by = record.server.served_by
            await self._limits.check(principal, record.server)
            deadline = time.monotonic() + record.server.timeout
            with acting_as(principal):
                session = await self._upstreams.session(principal, record, deadline)
                result = await request_with_input(session, method, params, deadline, peer)
            operation.outcome = "ok"
        return result

    async def _admitted_call(
        self, principal: Principal, record: ConnectionRecord, operation: Operation, params: dict[str, Any], peer: Peer
    ) -> dict[str, Any]:
        deadline = time.monotonic() + record.server.timeout
        with acting_as(principal):
            session = await self._upstreams.session(principal, record, deadline)
            name, definition = await _definition(session, record, params["name"], deadline)
            operation.tool = params["name"] = name
            _check_policy(record, name)
            await self._limits.check(principal, record.server)
            result = await self._call_upstream(principal, record, definition, params, deadline, peer)
        operation.served_by = record.server.served_by
        operation.outcome = "ok"
        if result.get("isError"):
            operation.outcome, operation.error = "tool_error", session.redactor.text(_first_text(result))[:500]
        operation.response_bytes = len(dumps(result))
        return result

    async def _call_upstream(
        self,
        principal: Principal,
        record: ConnectionRecord,
        definition: Mapping[str, Any],
        params: Mapping[str, Any],
        deadline: float,
        peer: Peer,
    ) -> dict[str, Any]:
        """The call itself; repeated after a failure only if it was not sent or the tool says that repeating it is harmless."""
        backoff = FIRST_BACKOFF
        for retries_left in range(record.server.retry_attempts, -1, -1):
            try:
                session = await self._upstreams.session(principal, record, deadline)
                return await request_with_input(session, "tools/call", params, deadline, peer)
            except UpstreamRejected as error:
                raise _tool_unknown_upstream(error, record, definition["name"]) from error
            except UpstreamError as error:
                may_repeat = error.transient and (not error.sent or _is_repeatable(definition))
                if not retries_left or not may_repeat or time.monotonic() + backoff >= deadline:
                    raise
                log.info("retrying a tool call", server=record.server.name, tool=definition["name"], reason=error.code)
            await asyncio.sleep(backoff)
            backoff *= 2
        raise AssertionError("the last attempt returns or raises")

    @contextlib.asynccontextmanager
    async def _recorded(
        self, principal: Principal, method: str, source: str, *, tool: str | None = None
    ) -> AsyncIterator[Operation]:
        """Records an operation when the block ends, however it ends; what comes after the block waits for the commit."""
        started = time.perf_counter()
        operation = Operation(principal.user_id, method, source, tool=tool, trace_id=trace_id.get() or None)
        try:
            yield operation
        except AuralinkError as error:
            operation.outcome, operation.error = error.code, error.message
            error.extra.setdefault("log_id", str(operation.id))
            raise
        except asyncio.CancelledError:
            operation.outcome, operation.error = "cancelled", "the caller went away before the answer"
            raise
        finally:
            operation.duration_ms = (time.perf_counter() - started) * 1000
            _measure(operation)
            await self._audit.commit(operation)


def _measure(operation: Operation) -> None:
    """Counts an operation; tools that users name, and that do not exist, share a label."""
    label = operation.label
    named = label not in (CUSTOM, UNKNOWN) and operation.outcome != "tool_not_found"
    tool = (operation.tool or operation.operation) if named else label
    telemetry.mcp_operations.labels(label, tool, operation.outcome).inc()
    telemetry.mcp_duration.labels(label).observe(operation.duration_ms / 1000)
    if operation.outcome != "ok":
        telemetry.mcp_errors.labels(label, operation.outcome).inc()
    log.debug("operation", server=label, method=operation.operation, tool=operation.tool, outcome=operation.outcome)


async def _definition(
    session: UpstreamSession, record: ConnectionRecord, tool: str, deadline: float
) -> tuple[str, Mapping[str, Any]]:
    """The tool's own name and definition; `tool` may be the shortened form of its public name."""
    for refresh in (False, True):
        tools = await session.list_tools(deadline, refresh=refresh)
        if tool in tools:
            return tool, tools[tool]
        wanted = f"{record.name}{naming.SEPARATOR}{tool}"
        for name, definition in tools.items():
            if naming.public_name(record.name, name) == wanted:
                return name, definition
    known = ", ".join(sorted(tools)[:20]) or "none"
    raise ToolNotFound(f"connection {record.name!r} (server {record.server.name!r}) has no tool {tool!r}; it has: {known}")


def _check_policy(record: ConnectionRecord, tool: str) -> None:
    if not _allowed_by_operator(record, tool):
        raise ToolDenied(f"the operator does not offer tool {tool!r} of server {record.server.name!r} (its allow-list lacks it)")
    if record.policy.decide(tool) == "deny":
        raise ToolDenied(
            f"the policy of connection {record.name!r} denies tool {tool!r}; "
            f"change it with PATCH /api/v1/mcp/connections/{record.id}"
        )


def _allowed_by_operator(record: ConnectionRecord, tool: str) -> bool:
    return record.server.tools is None or tool in record.server.tools


def _is_repeatable(definition: Mapping[str, Any]) -> bool:
    annotations = definition.get("annotations") or {}
    return bool(annotations.get("readOnlyHint") or annotations.get("idempotentHint"))


def _tool_unknown_upstream(error: UpstreamRejected, record: ConnectionRecord, tool: str) -> AuralinkError:
    if error.rpc_code == METHOD_NOT_FOUND:
        return ToolNotFound(f"MCP server {record.server.name!r} does not take calls of {tool!r}: {error.message}")
    return error


def _first_text(result: Mapping[str, Any]) -> str:
    texts = (block.get("text") for block in result.get("content") or () if isinstance(block, dict))
    return str(next((text for text in texts if text), "the tool reported an error without a text"))
