"""One request to a server and what the server says before it answers: progress, logs, and questions to the client.

The deadline stands still while the client is asked something, since a person may be at the other end.
"""

import asyncio
import itertools
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mcp_types import METHOD_NOT_FOUND

from auralink.mcp.peer import NOBODY, Peer, PeerRefused, can_be_asked
from auralink.mcp.upstream.errors import UpstreamError, UpstreamTimeout
from auralink.mcp.upstream.transport import Message

if TYPE_CHECKING:
    from auralink.mcp.upstream.session import UpstreamSession

PATIENCE_WITH_PEOPLE = 3600.0
"""Seconds that a call may last in all when its client can be asked something."""
ANNOUNCEMENTS = frozenset(
    {
        "notifications/tools/list_changed",
        "notifications/prompts/list_changed",
        "notifications/resources/list_changed",
        "notifications/resources/updated",
    }
)
_tokens = itertools.count(1)


class Conversation:
    """Carries one request out. Progress tokens are ours on the way up and the client's on the way down, so that two clients
    of one session cannot use the same."""

    def __init__(self, session: "UpstreamSession", peer: Peer, message: Message, deadline: float) -> None:
        self._session = session
        self._peer = peer
        self._message = message
        self._deadline = deadline
        self._scope: asyncio.Timeout | None = None
        self._asking = 0
        self._paused_at = 0.0
        self._answering: dict[int | str, asyncio.Task[None]] = {}
        self._client_token, self._token = self._swap_progress_token()

    async def exchange(self) -> Message:
        """The server's response. Raises `UpstreamError`."""
        remaining = max(self._deadline - time.monotonic(), 0.001)
        transport, headers = self._session.transport, self._session.headers_of(self._message)
        if self._peer is NOBODY and self._session.modern:
            return await transport.exchange(self._message, headers=headers, timeout=remaining)
        try:
            async with asyncio.timeout(remaining) as self._scope:
                with self._session.in_conversation(self):
                    return await transport.exchange(
                        self._message, headers=headers, timeout=PATIENCE_WITH_PEOPLE, on_message=self.receive
                    )
        except TimeoutError as error:
            server, method = self._session.server, self._message["method"]
            raise UpstreamTimeout(f"MCP server {server!r} did not answer {method} within {remaining:.1f} s", sent=True) from error
        finally:
            for task in self._answering.values():
                task.cancel()

    def can_be_asked(self, method: str) -> bool:
        """Whether the client of this call has declared that it can be asked this."""
        return can_be_asked(self._peer, method)

    async def receive(self, message: Message) -> None:
        """Takes what the server says meanwhile. Changed lists and resources are announced to all who listen, not to this client."""
        method = message["method"]
        if "id" in message:
            task = asyncio.create_task(self._answer(message))
            self._answering[message["id"]] = task
            task.add_done_callback(lambda _: self._answering.pop(message["id"], None))
        elif method == "notifications/progress":
            await self._pass_progress(message)
        elif method == "notifications/cancelled":
            self._take_back(message)
        elif method in ANNOUNCEMENTS:
            await self._session.unsolicited(message)
        else:
            await self._peer.notify(message)

    def _take_back(self, message: Message) -> None:
        """The server no longer wants an answer to a request of its own."""
        task = self._answering.get((message.get("params") or {}).get("requestId") or "")
        if task is not None:
            task.cancel()

    async def _pass_progress(self, message: Message) -> None:
        params = message.get("params") or {}
        if self._token is not None and params.get("progressToken") == self._token:
            await self._peer.notify({**message, "params": {**params, "progressToken": self._client_token}})

    async def _answer(self, message: Message) -> None:
        """Answers a request of the server's with what the client says."""
        self._pause()
        try:
            answer: Mapping[str, Any] = {"result": await self._ask(message["method"], message.get("params") or {})}
        except PeerRefused as refusal:
            error = {"code": refusal.code, "message": refusal.message}
            answer = {"error": error if refusal.data is None else {**error, "data": refusal.data}}
        finally:
            self._resume()
        try:
            await self._session.respond(message["id"], answer)
        except UpstreamError:
            return  # the call itself then fails with the reason

    async def _ask(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        if method == "ping":
            return {}
        if not can_be_asked(self._peer, method):
            raise PeerRefused(f"the client of this call cannot be asked {method}", code=METHOD_NOT_FOUND)
        return await self._peer.request(method, params)

    def _pause(self) -> None:
        self._asking += 1
        if self._asking == 1 and self._scope is not None:
            self._paused_at = time.monotonic()
            self._scope.reschedule(None)

    def _resume(self) -> None:
        self._asking -= 1
        if self._asking == 0 and self._scope is not None and not self._scope.expired():
            self._deadline += time.monotonic() - self._paused_at
            loop = asyncio.get_running_loop()
            self._scope.reschedule(loop.time() + max(self._deadline - time.monotonic(), 0.001))

    def _swap_progress_token(self) -> tuple[Any, int | None]:
        meta = self._message["params"].get("_meta") or {}
        if "progressToken" not in meta:
            return None, None
        token = next(_tokens)
        self._message["params"] = {**self._message["params"], "_meta": {**meta, "progressToken": token}}
        return meta["progressToken"], token
