"""Runs a module of the toolbox in a bounded child process: untrusted input is parsed, and large libraries are loaded, there.

The child starts isolated (`python -I`: no variables of Python's, no user site, no current folder on the path) with an environment
that holds nothing of ours, bounds itself (`bounded.py`), and is killed with its process group when its time is up or the caller
leaves.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog

from auralink.servers.toolbox.bounded import OUT_OF_MEMORY
from auralink.servers.toolbox.errors import ChildFailed, ChildRefused

MAX_ANSWER_BYTES = 8 * 1024 * 1024

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Child:
    """One kind of child process.

    Args:
        module: what `python -m` runs.
        what: how errors name it, e.g. "the analysis".
        seconds: wall-clock time for one request, waiting for a free slot included.
        slots: how many may run at once in this service process.
        passes: environment variables handed on, by name.
    """

    module: str
    what: str
    seconds: float
    slots: int = 2
    passes: Sequence[str] = ()
    _free: asyncio.Semaphore = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_free", asyncio.Semaphore(self.slots))

    async def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The child's answer to `request`.

        Raises:
            ChildRefused: the child says, in words for the user, why it does not answer.
            ChildFailed: out of time, out of memory, or crashed.
        """
        try:
            async with asyncio.timeout(self.seconds), self._free:
                status, output = await self._run(json.dumps(request).encode())
        except TimeoutError:
            raise ChildFailed(f"{self.what} took longer than {self.seconds:g} s and was stopped") from None
        return self._read(status, output)

    async def _run(self, request: bytes) -> tuple[int, bytes]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-X", "utf8", "-W", "ignore", "-m", self.module),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={name: os.environ[name] for name in self.passes if name in os.environ},
            cwd="/",
            start_new_session=True,
        )
        try:
            output = await _exchange(process, request)
            return await process.wait(), output
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()

    def _read(self, status: int, output: bytes) -> dict[str, Any]:
        if status in {OUT_OF_MEMORY, -signal.SIGABRT}:
            raise ChildFailed(f"{self.what} needed more memory than it is granted")
        if status in {-signal.SIGXCPU, -signal.SIGKILL}:
            raise ChildFailed(f"{self.what} took more processor time than it is granted")
        try:
            reply: dict[str, Any] = json.loads(output)
        except ValueError:
            reply = {"crash": f"exit status {status}, {len(output)} bytes of output"}
        if "answer" in reply:
            answer: dict[str, Any] = reply["answer"]
            return answer
        if "refused" in reply:
            raise ChildRefused(str(reply["refused"]))
        _log.warning("toolbox_child_crashed", module=self.module, where=reply.get("crash"))
        raise ChildFailed(f"{self.what} failed on this input")


async def _exchange(process: asyncio.subprocess.Process, request: bytes) -> bytes:
    assert process.stdin
    assert process.stdout
    output = asyncio.ensure_future(_read_capped(process.stdout))
    try:
        with suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(request)
            await process.stdin.drain()
        process.stdin.close()
        return await output
    finally:
        output.cancel()


async def _read_capped(stream: asyncio.StreamReader) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while size <= MAX_ANSWER_BYTES and (chunk := await stream.read(65_536)):
        chunks.append(chunk)
        size += len(chunk)
    return b"".join(chunks)
