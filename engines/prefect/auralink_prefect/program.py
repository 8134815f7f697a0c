"""A run from definition and input to output: here, or on a Prefect server when there is one (`PREFECT_API_URL`)."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import httpx
import prefect.events.utilities
from auralink_engine import Emit, Job
from auralink_engine.tls import warm_tls

from auralink_prefect.elsewhere import run_elsewhere
from auralink_prefect.errors import LimitReached
from auralink_prefect.flow import in_a_flow
from auralink_prefect.gateways import Gateways, open_gateways
from auralink_prefect.rehearsal import DEFINITION, answer_models, answer_tools
from auralink_prefect.work import calls_tools

HERE = "AURALINK_PREFECT_HERE"
"""The variable by which the engine's helper says that the Prefect API is for the runs here alone."""
Way = Callable[[Job, Gateways, Emit], Awaitable[Any]]


async def run(job: Job, emit: Emit) -> Any:
    """Runs a checked flow definition; the output is what its `output` says, else the results of its steps."""
    return await (perform(job, emit, in_a_flow) if HERE in os.environ else run_elsewhere(job, emit))


def warm() -> None:
    """Rehearses a small flow against answers of its own, so that what is loaded and built late is there before the fork."""
    warm_tls()
    if HERE not in os.environ:
        return
    prefect.events.utilities.should_emit_events = lambda: False  # nobody reads the events of the API that is for the runs here
    far = time.time() + 60
    given = {"items": [1, 2]}
    job = Job("rehearsal", 1, DEFINITION, given, "http://gateway/mcp", "http://gateway/v1", "none", datetime.now(UTC), far, 64)
    models, tools = httpx.MockTransport(answer_models), httpx.MockTransport(answer_tools)
    asyncio.run(perform(job, _say_nothing, in_a_flow, models, tools))


async def perform(
    job: Job,
    emit: Emit,
    way: Way,
    models: httpx.AsyncBaseTransport | None = None,
    tools: httpx.AsyncBaseTransport | None = None,
) -> Any:
    """Does the steps in this process, the way that is given."""
    limits = job.definition["limits"]
    seconds = min(job.deadline - time.time(), limits["seconds"] or float("inf"))
    with_tools = calls_tools(job.definition["steps"])
    ways_out = open_gateways(job, with_tools=with_tools, tokens=limits["tokens"], models=models, tools=tools)
    try:
        async with asyncio.timeout(seconds), ways_out as gateways:
            return await _beside(gateways, _done(way, job, gateways, emit))
    except TimeoutError:
        raise LimitReached(f"the run took longer than its {seconds:.0f} seconds") from None


async def _done(way: Way, job: Job, gateways: Gateways, emit: Emit) -> Any:
    return await way(job, gateways, emit)


async def _beside(gateways: Gateways, work: Coroutine[Any, Any, Any]) -> Any:
    """The work's output, or the loss of a gateway, whichever comes first."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task, gateways.lost}, return_when=asyncio.FIRST_COMPLETED)
        if gateways.lost.done():
            gateways.lost.result()
        return await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _say_nothing(_kind: str, /, **_data: Any) -> None:
    """Nobody follows a rehearsal."""
