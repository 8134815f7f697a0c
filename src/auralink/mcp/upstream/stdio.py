"""MCP over stdio: a child process that reads and writes one JSON-RPC message a line (spec: basic/transports, "stdio").

Only an admin registers a command. How the process is started and ended is in `child.py`.
"""

import asyncio
from collections.abc import Mapping, Sequence

import structlog

from auralink.mcp.upstream.child import LAST_WORDS, Child, LineTooLong, NotReading
from auralink.mcp.upstream.errors import (
    UpstreamAnswerTooLarge,
    UpstreamClosed,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from auralink.mcp.upstream.pace import Pace
from auralink.mcp.upstream.transport import (
    MAX_ANSWER_BYTES,
    NOT_CANCELLABLE,
    Message,
    OnMessage,
    bytes_of,
    cancellation_of,
    message_of,
)

log = structlog.get_logger(__name__)

MAX_UNREAD_BYTES = 4 * 1024 * 1024
"""What may wait for a child that does not read; beyond it the child is taken for hung."""


class StdioTransport:
    """One child process, shared by all requests of its session. It must be started with `start()`."""

    def __init__(self, server: str, command: str, args: Sequence[str], env: Mapping[str, str]) -> None:
        self._server = server
        self._argv = (command, *args)
        self._env = env
        self.unsolicited: OnMessage | None = None
        self._child: Child | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._pending: dict[int | str, asyncio.Future[Message]] = {}
        self._listeners: dict[int | str, OnMessage] = {}
        self._failure: UpstreamError | None = None
        self._pace = Pace()

    async def start(self) -> None:
        """Starts the child. Raises `UpstreamUnreachable` when the command cannot be run."""
        try:
            self._child = await Child.start(self._argv, self._env, max_line=MAX_ANSWER_BYTES)
        except OSError as error:
            raise UpstreamUnreachable(
                f"MCP server {self._server!r}: cannot start {self._argv[0]!r}: {error.strerror}", sent=False
            ) from error
        self._supervisor = asyncio.create_task(self._supervise(self._child))

    @property
    def alive(self) -> bool:
        """Whether the child still runs and can be asked."""
        return self._failure is None and self._child is not None and self._child.running

    async def exchange(
        self, message: Message, *, headers: Mapping[str, str], timeout: float, on_message: OnMessage | None = None
    ) -> Message:
        request_id = message["id"]
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._pending[request_id] = answer
        if on_message is not None:
            self._listeners[request_id] = on_message
        try:
            async with asyncio.timeout(timeout):
                await self._write(message)
                return await answer
        except TimeoutError as error:
            self._cancel(message)
            raise UpstreamTimeout(
                f"MCP server {self._server!r} did not answer {message['method']} within {timeout:.1f} s", sent=True
            ) from error
        except asyncio.CancelledError:
            self._cancel(message)
            raise
        finally:
            self._pending.pop(request_id, None)
            self._listeners.pop(request_id, None)
            answer.cancel()

    async def send(self, message: Message, *, headers: Mapping[str, str], timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self._write(message)
        except TimeoutError as error:
            raise UpstreamTimeout(f"MCP server {self._server!r} does not read its input", sent=True) from error

    def forget_session(self) -> None:
        """Nothing to do: the session is the process."""

    async def close(self) -> None:
        """Ends the child and whatever it has started; calls under way fail."""
        if self._child is None or self._supervisor is None:
            return
        self._fail(UpstreamClosed(f"the session with MCP server {self._server!r} was closed", sent=True))
        await self._child.end()
        await asyncio.gather(self._supervisor, return_exceptions=True)

    async def _supervise(self, child: Child) -> None:
        """Reads until the child exits, closes its output or breaks the protocol; then it is killed and its calls fail."""
        reading, exiting = asyncio.create_task(self._read(child)), asyncio.create_task(child.exited.wait())
        await asyncio.wait({reading, exiting}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({exiting}, timeout=LAST_WORDS)
        child.kill()
        await asyncio.wait({reading, exiting}, timeout=LAST_WORDS)
        await child.drain_stderr()
        for task in (reading, exiting):
            task.cancel()
        await asyncio.gather(reading, exiting, return_exceptions=True)
        self._fail(UpstreamClosed(f"MCP server {self._server!r} has ended{child.last_words()}", sent=True))

    async def _read(self, child: Child) -> None:
        try:
            async for line in child.lines():
                await self._receive(child, line)
        except LineTooLong:
            limit = MAX_ANSWER_BYTES // 2**20
            self._fail(UpstreamAnswerTooLarge(f"MCP server {self._server!r} wrote a line of more than {limit} MiB", sent=True))
            child.kill()

    async def _receive(self, child: Child, line: bytes) -> None:
        message = message_of(line)
        if message is None or "method" in message:
            await self._pace.keep(messages=1, size=len(line))
        if message is None:
            child.note(line)
        elif "method" in message:
            await self._deliver(message)
        elif (future := self._pending.get(message.get("id") or "")) is not None and not future.done():
            future.set_result(message)

    async def _deliver(self, message: Message) -> None:
        """Hands on what is no response: a pipe does not say which call it belongs to, so a notification goes to all calls under
        way (each knows its own progress token) and a request to the one that began last."""
        listeners = list(self._listeners.values())
        if "id" in message:
            listeners = listeners[-1:]
        for listener in listeners or ([self.unsolicited] if self.unsolicited else []):
            try:
                await listener(message)
            except UpstreamError as error:
                log.info("a message of a stdio server was not answered", server=self._server, reason=error.message)

    async def _write(self, message: Message) -> None:
        if self._failure is not None:
            raise UpstreamClosed(self._failure.message, sent=False)
        if self._child is None or not self._child.running:
            raise UpstreamClosed(f"MCP server {self._server!r} has ended", sent=False)
        try:
            await self._child.write(bytes_of(message) + b"\n", max_unread=MAX_UNREAD_BYTES)
        except NotReading as error:
            self._fail(UpstreamClosed(f"MCP server {self._server!r} does not read its input and was killed", sent=True))
            self._child.kill()
            raise UpstreamClosed(f"MCP server {self._server!r} does not read its input and was killed", sent=False) from error
        except ConnectionError as error:
            raise UpstreamClosed(f"MCP server {self._server!r} has ended{self._child.last_words()}", sent=True) from error

    def _cancel(self, request: Message) -> None:
        """Tells the child that nobody waits any more, if it can be told at once."""
        if self._child is None or request["method"] in NOT_CANCELLABLE:
            return
        self._child.write_if_reading(bytes_of(cancellation_of(request)) + b"\n")

    def _fail(self, error: UpstreamError) -> None:
        if self._failure is None:
            self._failure = error
            log.info("stdio server ended", server=self._server, reason=error.message)
        for future in self._pending.values():
            if not future.done():
                future.set_exception(self._failure.twin())
