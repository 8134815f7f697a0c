"""MCP servers that live in this process: the request goes straight to the SDK server's handler, without a wire.

The handler runs in the caller's task and context, so `current_principal()` says for whom it acts.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import anyio
from mcp.server.connection import Connection
from mcp.server.mcpserver import MCPServer
from mcp.server.runner import modern_error_data, serve_one
from mcp.shared.exceptions import NoBackChannelError
from mcp.shared.transport_context import TransportContext
from mcp_types import CLIENT_CAPABILITIES_META_KEY, CLIENT_INFO_META_KEY
from mcp_types.version import LATEST_MODERN_VERSION

from auralink.core.secret import Secret
from auralink.mcp.schemas import ConnectionRecord
from auralink.mcp.upstream.errors import UpstreamTimeout
from auralink.mcp.upstream.transport import Message, OnMessage

Scope = Callable[[ConnectionRecord, Secret | None], AbstractContextManager[object]]
"""The context in which the calls of a connection run, made from it and its opened credentials."""
Inspection = Callable[[ConnectionRecord, Secret | None], Awaitable[list[str]]]
"""Contacts what a connection's credentials open, and gives warnings about them."""
NO_SCOPES: Mapping[str, Scope] = {}
NO_INSPECTIONS: Mapping[str, Inspection] = {}


class _Dispatch:
    """The SDK's `DispatchContext` for one request: notifications reach the caller, requests to the client are not possible."""

    can_send_request = False
    message_metadata = None

    def __init__(self, message: Message, on_message: OnMessage | None) -> None:
        self.request_id = message["id"]
        self.transport = TransportContext(kind="in-process", can_send_request=False)
        self.cancel_requested = anyio.Event()
        self._on_message = on_message
        self._progress_token = (message.get("params") or {}).get("_meta", {}).get("progressToken")

    async def send_raw_request(self, method: str, params: Mapping[str, Any] | None, opts: Any = None) -> dict[str, Any]:
        raise NoBackChannelError(method)

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: Any = None) -> None:
        if self._on_message is not None:
            await self._on_message({"jsonrpc": "2.0", "method": method, "params": dict(params or {})})

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        if self._progress_token is not None:
            fields = {"progressToken": self._progress_token, "progress": progress, "total": total, "message": message}
            await self.notify("notifications/progress", {k: v for k, v in fields.items() if v is not None})


class InProcessServers:
    """The built-in servers by name, each with its lifespan entered once."""

    def __init__(
        self,
        servers: Mapping[str, MCPServer],
        scopes: Mapping[str, Scope] = NO_SCOPES,
        inspections: Mapping[str, Inspection] = NO_INSPECTIONS,
    ) -> None:
        """`scopes` are for servers that need more than the principal: the context in which a connection's calls run;
        `inspections` for those whose connection has something behind it that may not answer."""
        self._inspections = inspections
        self._scopes = scopes
        self._servers = {name: server._lowlevel_server for name, server in servers.items()}
        self._lifespans: dict[str, Any] = {}
        self._stack = contextlib.AsyncExitStack()

    async def open(self) -> None:
        """Enters each server's lifespan."""
        for name, server in self._servers.items():
            self._lifespans[name] = await self._stack.enter_async_context(server.lifespan(server))

    async def close(self) -> None:
        """Leaves the lifespans."""
        await self._stack.aclose()

    def __contains__(self, name: str) -> bool:
        return name in self._servers

    async def inspect(self, record: ConnectionRecord, credentials: Secret | None) -> list[str]:
        """Warnings about what a connection opens; raises what keeps it from being opened."""
        inspection = self._inspections.get(record.server.name)
        return [] if inspection is None else await inspection(record, credentials)

    def transport(self, record: ConnectionRecord, credentials: Secret | None) -> "InProcessTransport":
        """The way to a connection's server. Raises KeyError if that is not built in."""
        name = record.server.name
        scope = self._scopes.get(name)
        make_scope = contextlib.nullcontext if scope is None else partial(scope, record, credentials)
        return InProcessTransport(name, self._servers[name], self._lifespans[name], make_scope)


class InProcessTransport:
    """Requests to a built-in server, as 2026-07-28 exchanges (no handshake, no session)."""

    def __init__(
        self, name: str, server: Any, lifespan: Any, scope: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext
    ) -> None:
        self._scope = scope
        self.unsolicited: OnMessage | None = None
        self._name = name
        self._server = server
        self._lifespan = lifespan

    async def exchange(
        self, message: Message, *, headers: Mapping[str, str], timeout: float, on_message: OnMessage | None = None
    ) -> Message:
        meta = message["params"]["_meta"]
        connection = Connection.from_envelope(
            LATEST_MODERN_VERSION, meta.get(CLIENT_INFO_META_KEY), meta.get(CLIENT_CAPABILITIES_META_KEY)
        )
        dispatch: Any = _Dispatch(message, on_message)
        serving = serve_one(
            self._server, dispatch, message["method"], message["params"], connection=connection, lifespan_state=self._lifespan
        )
        try:
            with self._scope():
                async with asyncio.timeout(timeout):
                    return {"jsonrpc": "2.0", "id": message["id"], "result": await serving}
        except TimeoutError as error:
            raise UpstreamTimeout(
                f"the built-in server {self._name!r} did not answer within {timeout:.1f} s", sent=True
            ) from error
        except Exception as error:  # noqa: BLE001 - the edge of a server: what its handler raises is its answer
            data = modern_error_data(error).model_dump(mode="json", exclude_none=True)
            return {"jsonrpc": "2.0", "id": message["id"], "error": data}

    async def send(self, message: Message, *, headers: Mapping[str, str], timeout: float) -> None:
        """Nothing to do: 2026-07-28 defines no notification from client to server."""

    def forget_session(self) -> None:
        """Nothing to do: there is no session."""

    async def close(self) -> None:
        """Nothing to do: a built-in server lives as long as the process."""
