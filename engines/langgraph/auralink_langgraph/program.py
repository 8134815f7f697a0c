"""A run from definition and input to output."""

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import httpx
import httpx2
from auralink_engine import Emit, Job
from auralink_engine.tls import warm_tls
from auralink_engine.values import value_of
from langgraph.errors import GraphRecursionError, InvalidUpdateError

from auralink_langgraph.errors import LimitReached, NodeFailed
from auralink_langgraph.gateways import Gateways, open_gateways
from auralink_langgraph.graph import VISITS, build, first_state, variables_of
from auralink_langgraph.nodes import needs_tools
from auralink_langgraph.rehearsal import DEFINITION, answer_models, answer_tools

STEPS = 100
"""Steps of a graph whose definition names no limit."""


async def run(job: Job, emit: Emit) -> Any:
    """Runs a checked workflow definition; the output is what its `output` says, else all variables that it wrote."""
    return await _run(job, emit, None, None)


def warm() -> None:
    """Rehearses a small run against answers of its own, so that what is loaded and built late is there before the fork."""
    warm_tls()
    far = time.time() + 60
    job = Job(
        "rehearsal",
        1,
        DEFINITION,
        {"question": "?"},
        "http://gateway/mcp",
        "http://gateway/v1",
        "none",
        datetime.now(UTC),
        far,
        64,
    )
    models, tools = httpx2.MockTransport(answer_models), httpx.MockTransport(answer_tools)
    asyncio.run(_run(job, _say_nothing, models, tools))


async def _run(job: Job, emit: Emit, models: httpx2.AsyncBaseTransport | None, tools: httpx.AsyncBaseTransport | None) -> Any:
    definition = job.definition
    limits = definition.get("limits") or {}
    seconds = min(job.deadline - time.time(), limits.get("seconds") or float("inf"))
    with_tools = any(needs_tools(node) for node in definition["nodes"].values())
    ways = open_gateways(job, with_tools=with_tools, tokens=limits.get("tokens"), models=models, tools=tools)
    try:
        async with asyncio.timeout(seconds), ways as gateways:
            return await _run_beside(gateways, _walk(definition, job, gateways, emit))
    except TimeoutError:
        raise LimitReached(f"the run took longer than its {seconds:.0f} seconds") from None


async def _run_beside(gateways: Gateways, walk: Any) -> Any:
    """The walk's output, or the loss of a gateway, whichever comes first."""
    task = asyncio.create_task(walk)
    try:
        await asyncio.wait({task, gateways.lost}, return_when=asyncio.FIRST_COMPLETED)
        if gateways.lost.done():
            gateways.lost.result()
        return await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _walk(definition: Mapping[str, Any], job: Job, gateways: Gateways, emit: Emit) -> Any:
    limits = definition.get("limits") or {}
    steps = limits.get("steps") or STEPS
    graph = build(definition, gateways, emit)
    start = first_state(definition, job)
    try:
        state = await graph.ainvoke(
            start | {VISITS: {}}, {"recursion_limit": steps, "max_concurrency": limits.get("concurrency")}
        )
    except GraphRecursionError:
        raise LimitReached(f"the graph took more than its {steps} steps") from None
    except InvalidUpdateError as error:
        raise NodeFailed(f"two nodes wrote one variable at the same time; give it `merge: append` in state: {error}") from None
    if definition["output"] is not None:
        return value_of(definition["output"], state)
    given = {*definition["input"].get("properties", {}), "now", "run_id"}
    return {name: state.get(name) for name in variables_of(definition) if name not in given}


def _say_nothing(_kind: str, /, **_data: Any) -> None:
    """Nobody follows a rehearsal."""
