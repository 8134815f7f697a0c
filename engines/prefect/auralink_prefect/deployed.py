"""What a worker of a Prefect server runs: it exchanges the one-time code for the job, does the steps, and leaves the outcome.

In the flow's parameters there is no token and nothing of the user's. The outcome goes to our service before the flow run ends, so that
neither a dying worker nor a dying Prefect server loses it.
"""

import asyncio
import contextlib
import traceback
from collections.abc import AsyncIterator
from typing import Any

from auralink_engine import Job, Lost
from prefect import flow, get_run_logger

from auralink_prefect.doors import Doors
from auralink_prefect.flow import steps_of
from auralink_prefect.program import perform

ALIVE_EVERY = 3.0
MOST = 500
MAX_TRACEBACK = 16 * 1024


@flow(name="auralink", validate_parameters=False, persist_result=False)
async def run_flow(run_id: str, code: str, url: str) -> None:
    """One attempt at the run of that id, for the service at that address."""
    logger = get_run_logger()
    async with Doors(url) as doors:
        given = await doors.exchange(code)
    job = Job.from_message(given | {"mcp_url": f"{url}/mcp", "llm_url": f"{url}/v1"})
    logger.info("attempt %s of the run %s", job.attempt, run_id)
    async with Doors(url, job.token) as doors:
        try:
            async with _telling(doors) as telling:
                output = await telling.beside(perform(job, telling.emit, steps_of))
        except Exception as error:
            with contextlib.suppress(Lost):
                await doors.end({"error": _told(error)})
            raise
        await doors.end({"output": output})


class _Telling:
    """Sends what happens, in order, and that this place lives."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors
        self._said: list[dict[str, Any]] = []
        self._more = asyncio.Event()
        self._teller = asyncio.create_task(self._tell())

    def emit(self, kind: str, /, **data: Any) -> None:
        """Takes an event."""
        self._said.append({"type": kind, "data": data})
        self._more.set()

    async def beside(self, work: Any) -> Any:
        """The work's result; Lost when the service no longer takes anything from this attempt."""
        task = asyncio.create_task(work)
        try:
            await asyncio.wait({task, self._teller}, return_when=asyncio.FIRST_COMPLETED)
            if self._teller.done():
                self._teller.result()
            return await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def close(self) -> None:
        """Sends the rest."""
        self._teller.cancel()
        await asyncio.gather(self._teller, return_exceptions=True)
        while self._said:
            await self._send()

    async def _tell(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._more.wait(), ALIVE_EVERY)
            self._more.clear()
            await self._send()

    async def _send(self) -> None:
        batch = self._said[:MOST]
        sending = asyncio.ensure_future(self._doors.tell(batch))
        try:
            await asyncio.shield(sending)
        except asyncio.CancelledError:
            await sending  # else it is not known whether the events have arrived
            del self._said[: len(batch)]
            raise
        del self._said[: len(batch)]


@contextlib.asynccontextmanager
async def _telling(doors: Doors) -> AsyncIterator[_Telling]:
    telling = _Telling(doors)
    try:
        yield telling
    finally:
        with contextlib.suppress(Lost):
            await telling.close()


def _told(error: Exception) -> dict[str, Any]:
    kind = str(getattr(error, "code", None) or type(error).__name__)
    trace = "".join(traceback.format_exception(error))[-MAX_TRACEBACK:]
    return {"type": kind, "message": str(error) or kind, "traceback": trace, "lost": isinstance(error, Lost)}
