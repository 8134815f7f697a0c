"""A child process that speaks over its pipes: started, fed, read line by line, and ended with everything that it has started.

The child leads a process group of its own. When the child ends, however it ends, the group is killed, so that no grandchild
outlives it or holds its pipes open.
"""

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import PIPE, Process, SubprocessStreamProtocol
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence

INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "USER")
"""The environment that a child gets of ours; the rest comes from its registration. Our secrets stay here."""
STDERR_LINES = 20
KEPT_OF_A_LINE = 500
GRACE = 2.0
"""Seconds between closing a child's stdin, SIGTERM and SIGKILL."""
LAST_WORDS = 0.5
"""Seconds that the pipes of a dead child are still read."""


class LineTooLong(Exception):
    """The child wrote more than the limit without ending the line."""


class NotReading(Exception):
    """The child does not read its input, and the pipe and our buffer are full."""


class _Watched(SubprocessStreamProtocol):
    """Says when the process has exited; `Process.wait()` also waits for its pipes, which a grandchild may hold."""

    def __init__(self, limit: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit=limit, loop=loop)
        self.exited = asyncio.Event()

    def process_exited(self) -> None:
        super().process_exited()
        self.exited.set()


class Child:
    """One running child. Make it with `start()`."""

    def __init__(self, process: Process, transport: asyncio.SubprocessTransport, exited: asyncio.Event) -> None:
        self._process = process
        self._transport = transport
        self._stderr: deque[str] = deque(maxlen=STDERR_LINES)
        self._stderr_task = asyncio.create_task(self._read_stderr())
        self.exited = exited

    @classmethod
    async def start(cls, argv: Sequence[str], env: Mapping[str, str], *, max_line: int) -> "Child":
        """Starts a program with `env` and the few variables of ours that every program needs. Raises OSError."""
        loop = asyncio.get_running_loop()
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        transport, protocol = await loop.subprocess_exec(
            lambda: _Watched(max_line, loop),
            *argv,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env={**inherited, **env},
            start_new_session=True,
        )
        return cls(Process(transport, protocol, loop), transport, protocol.exited)

    @property
    def running(self) -> bool:
        """Whether the process has not exited."""
        return not self.exited.is_set()

    async def write(self, data: bytes, *, max_unread: int) -> None:
        """Writes, and waits while the child is slow to read.

        Raises:
            NotReading: it has left `max_unread` bytes unread.
            ConnectionError: it has closed its input.
        """
        assert self._process.stdin is not None
        if self._process.stdin.transport.get_write_buffer_size() > max_unread:
            raise NotReading
        self._process.stdin.write(data)
        await self._process.stdin.drain()

    def write_if_reading(self, data: bytes) -> None:
        """Writes if the child has read everything before; never waits."""
        assert self._process.stdin is not None
        if self.running and not self._process.stdin.transport.get_write_buffer_size():
            self._process.stdin.write(data)

    async def lines(self) -> AsyncIterator[bytes]:
        """What the child writes to its stdout, until it closes it. Raises LineTooLong."""
        assert self._process.stdout is not None
        try:
            async for line in self._process.stdout:
                yield line
        except ValueError as error:
            raise LineTooLong from error

    def note(self, line: bytes) -> None:
        """Keeps a line among the child's last words."""
        self._stderr.append(line[:KEPT_OF_A_LINE].decode("utf-8", "replace").strip())

    def last_words(self) -> str:
        """How the child ended and what it said last, to stand at the end of a sentence."""
        code = self._transport.get_returncode()
        status = "" if code is None else f" with exit status {code}"
        said = next((line for line in reversed(self._stderr) if line), "")
        return f"{status}: {said[:300]}" if said else status

    def kill(self) -> None:
        """Kills the child and all that it has started."""
        self._signal(signal.SIGKILL)

    async def end(self) -> None:
        """Ends the child: stdin closed, then SIGTERM, then SIGKILL; whatever is left of its group is killed."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        for signum in (None, signal.SIGTERM, signal.SIGKILL):
            if signum is not None:
                self._signal(signum)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.exited.wait(), GRACE)
                break
        self.kill()
        await self.drain_stderr()
        self._transport.close()

    async def drain_stderr(self) -> None:
        """Reads what a dead child has said, for as long as last words may take."""
        await asyncio.wait([self._stderr_task], timeout=LAST_WORDS)
        self._stderr_task.cancel()
        await asyncio.gather(self._stderr_task, return_exceptions=True)

    async def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        while chunk := await self._process.stderr.read(65536):
            for line in chunk.splitlines()[-STDERR_LINES:]:
                self.note(line)

    def _signal(self, signum: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signum)
