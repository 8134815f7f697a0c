"""MCP over stdio: a child process that reads and writes one JSON-RPC message a line (spec: basic/transports, "stdio").

The child leads a process group of its own, which is killed whole when the session ends. Only an admin registers a command.
"""

import asyncio
import contextlib
import os
import signal
from collections import deque
from collections.abc import Mapping, Sequence

import orjson
import structlog

from auralink.mcp.upstream.errors import (
    UpstreamAnswerTooLarge,
    UpstreamClosed,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from auralink.mcp.upstream.transport import MAX_ANSWER_BYTES, Message, OnMessage

log = structlog.get_logger(__name__)

INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "USER")
"""The environment that a child gets of ours; the rest comes from its registration. Our secrets stay here."""
STDERR_LINES = 20
GRACE = 2.0
"""Seconds between closing a child's stdin, SIGTERM and SIGKILL."""


class StdioTransport:
    """One child process, shared by all requests of its session. It must be started with `start()`."""

    def __init__(self, server: str, command: str, args: Sequence[str], env: Mapping[str, str]) -> None:
        self._server = server
        self._argv = (command, *args)
        self._env = {name: os.environ[name] for name in INHERITED if name in os.environ} | dict(env)
        self.unsolicited: OnMessage | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._pending: dict[int | str, asyncio.Future[Message]] = {}
        self._listeners: dict[int | str, OnMessage] = {}
        self._stderr: deque[str] = deque(maxlen=STDERR_LINES)
        self._tasks: list[asyncio.Task[None]] = []
        self._failure: UpstreamError | None = None

    async def start(self) -> None:
        """Starts the child. Raises `UpstreamUnreachable` when the command cannot be run."""
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=self._env,
                start_new_session=True,
                limit=MAX_ANSWER_BYTES,
            )
        except OSError as error:
            raise UpstreamUnreachable(
                f"MCP server {self._server!r}: cannot start {self._argv[0]!r}: {error.strerror}", sent=False
            ) from error
        self._tasks = [asyncio.create_task(self._read_stdout()), asyncio.create_task(self._read_stderr())]

    @property
    def alive(self) -> bool:
        """Whether the child still runs and can be asked."""
        return self._failure is None and self._process is not None and self._process.returncode is None

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
            await self._cancel(request_id)
            raise UpstreamTimeout(
                f"MCP server {self._server!r} did not answer {message['method']} within {timeout:.1f} s", sent=True
            ) from error
        except asyncio.CancelledError:
            await self._cancel(request_id)
            raise
        finally:
            self._pending.pop(request_id, None)
            self._listeners.pop(request_id, None)

    async def send(self, message: Message, *, headers: Mapping[str, str], timeout: float) -> None:
        async with asyncio.timeout(timeout):
            await self._write(message)

    def forget_session(self) -> None:
        """Nothing to do: the session is the process."""

    async def close(self) -> None:
        """Ends the child: stdin closed, then SIGTERM, then SIGKILL to its whole process group."""
        process = self._process
        if process is None:
            return
        self._fail(UpstreamClosed(f"the session with MCP server {self._server!r} was closed", sent=True))
        if process.stdin is not None:
            process.stdin.close()
        for signum in (None, signal.SIGTERM, signal.SIGKILL):
            if signum is not None:
                self._signal_group(signum)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), GRACE)
                break
        self._signal_group(signal.SIGKILL)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _signal_group(self, signum: int) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signum)

    async def _write(self, message: Message) -> None:
        if not self.alive:
            raise self._failure or UpstreamClosed(f"MCP server {self._server!r} has ended", sent=False)
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(orjson.dumps(message) + b"\n")
            await self._process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError) as error:
            raise UpstreamClosed(f"MCP server {self._server!r} has ended{self._last_words()}", sent=True) from error

    async def _cancel(self, request_id: int | str) -> None:
        params = {"requestId": request_id, "reason": "the caller no longer waits"}
        with contextlib.suppress(UpstreamError, TimeoutError):
            async with asyncio.timeout(1):
                await self._write({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})

    async def _read_stdout(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            async for line in self._process.stdout:
                await self._receive(line)
        except ValueError:
            message = f"MCP server {self._server!r} wrote a line of more than {MAX_ANSWER_BYTES // 2**20} MiB"
            self._fail(UpstreamAnswerTooLarge(message, sent=True))
            self._signal_group(signal.SIGKILL)
        await self._process.wait()
        self._fail(UpstreamClosed(f"MCP server {self._server!r} has ended{self._last_words()}", sent=True))

    async def _receive(self, line: bytes) -> None:
        try:
            message = orjson.loads(line)
        except orjson.JSONDecodeError:
            self._stderr.append(line.decode("utf-8", "replace").rstrip())
            return
        if not isinstance(message, dict):
            return
        if "method" in message:
            await self._deliver(message)
            return
        future = self._pending.get(message.get("id", ""))
        if future is not None and not future.done():
            future.set_result(message)

    async def _deliver(self, message: Message) -> None:
        """Hands on what is no response: a pipe does not say which call it belongs to, so a notification goes to all calls under
        way (each knows its own progress token) and a request to the one that began last."""
        listeners = list(self._listeners.values())
        if "id" in message:
            listeners = listeners[-1:]
        for listener in listeners or ([self.unsolicited] if self.unsolicited else []):
            await listener(message)

    async def _read_stderr(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        while chunk := await self._process.stderr.read(65536):
            self._stderr.extend(chunk.decode("utf-8", "replace").splitlines())

    def _last_words(self) -> str:
        assert self._process is not None
        code = self._process.returncode
        status = "" if code is None else f" with exit status {code}"
        return f"{status}: {self._stderr[-1][:300]}" if self._stderr else status

    def _fail(self, error: UpstreamError) -> None:
        if self._failure is None:
            self._failure = error
            log.info("stdio server ended", server=self._server, reason=error.message)
        for future in self._pending.values():
            if not future.done():
                future.set_exception(self._failure)
