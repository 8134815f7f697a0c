"""A run from definition and input to output."""

import asyncio
import time
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any

import httpx
import prefect.events.utilities
from auralink_engine import Emit, Job

from auralink_prefect.errors import LimitReached
from auralink_prefect.flow import flow_of
from auralink_prefect.gateways import Gateways, open_gateways, warm_tls
from auralink_prefect.rehearsal import DEFINITION, answer_models, answer_tools
from auralink_prefect.work import calls_tools


async def run(job: Job, emit: Emit) -> Any:
    """Runs a checked flow definition; the output is what its `output` says, else the results of its steps."""
    return await perform(job, emit)


def warm() -> None:
    """Rehearses a small flow against answers of its own, so that what is loaded and built late is there before the fork."""
    prefect.events.utilities.should_emit_events = lambda: False  # nobody reads the events of the API that is for the runs here
    warm_tls()
    far = time.time() + 60
    given = {"items": [1, 2]}
    job = Job("rehearsal", 1, DEFINITION, given, "http://gateway/mcp", "http://gateway/v1", "none", datetime.now(UTC), far, 64)
    asyncio.run(perform(job, _say_nothing, httpx.MockTransport(answer_models), httpx.MockTransport(answer_tools)))


async def perform(
    job: Job,
    emit: Emit,
    models: httpx.AsyncBaseTransport | None = None,
    tools: httpx.AsyncBaseTransport | None = None,
) -> Any:
    """Does the run here, as a Prefect flow at the API that this process knows of."""
    limits = job.definition["limits"]
    seconds = min(job.deadline - time.time(), limits["seconds"] or float("inf"))
    with_tools = calls_tools(job.definition["steps"])
    ways = open_gateways(job, with_tools=with_tools, tokens=limits["tokens"], models=models, tools=tools)
    try:
        async with asyncio.timeout(seconds), ways as gateways:
            flow, outputs = flow_of(job, gateways, emit)
            await _beside(gateways, flow(run_id=job.run))
            return outputs[0]
    except TimeoutError:
        raise LimitReached(f"the run took longer than its {seconds:.0f} seconds") from None


async def _beside(gateways: Gateways, work: Coroutine[Any, Any, Any]) -> None:
    """Waits for the work's end, or the loss of a gateway, whichever comes first."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task, gateways.lost}, return_when=asyncio.FIRST_COMPLETED)
        if gateways.lost.done():
            gateways.lost.result()
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _say_nothing(_kind: str, /, **_data: Any) -> None:
    """Nobody follows a rehearsal."""
