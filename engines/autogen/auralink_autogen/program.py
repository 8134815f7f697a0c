"""A run from definition and input to output."""

import asyncio
import time
import warnings
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import httpx2
from auralink_engine import Emit, Job
from auralink_engine.team import Conversation, Team
from auralink_engine.tls import warm_tls

from auralink_autogen.chats import round_robin, selector, swarm
from auralink_autogen.floor import Floor, Outcome
from auralink_autogen.gateways import Gateways, open_gateways
from auralink_autogen.learning import remember
from auralink_autogen.patterns import brainstorm, debate, problem_solving
from auralink_autogen.rehearsal import DEFINITIONS, answer_models, answer_tools

MODES: dict[str, Callable[[Floor], Awaitable[Outcome]]] = {
    "round_robin": round_robin,
    "selector": selector,
    "swarm": swarm,
    "debate": debate,
    "brainstorm": brainstorm,
    "problem_solving": problem_solving,
}
PARTING_SECONDS = 0.2
"""What a run that is over waits for AutoGen to let go."""
KNOWN = ("Resolved model mismatch", "Finish reason mismatch", "Multiple handoffs detected")
"""AutoGen's warnings about what the gateway's models may do."""


async def run(job: Job, emit: Emit) -> Any:
    """Runs a checked team definition."""
    return await _run(job, emit, None, None)


def warm() -> None:
    """Rehearses small runs against answers of its own, so that what is loaded and built late is there before the fork."""
    for begins in KNOWN:
        warnings.filterwarnings("ignore", message=begins)
    warm_tls()
    asyncio.run(_rehearse())


async def _rehearse() -> None:
    models, tools = httpx2.MockTransport(answer_models), httpx.MockTransport(answer_tools)
    for definition in DEFINITIONS:
        await _run(_job(definition), _say_nothing, models, tools)


async def _run(job: Job, emit: Emit, models: httpx2.AsyncBaseTransport | None, tools: httpx.AsyncBaseTransport | None) -> Any:
    team = Team.of(job.definition)
    async with open_gateways(job, team, models, tools) as gateways:
        floor = Floor(job, team, gateways, Conversation(emit))
        return await _beside(job, gateways, floor, _work(job, floor, emit))


async def _work(job: Job, floor: Floor, emit: Emit) -> Any:
    floor.outcome = await MODES[floor.team.mode](floor)
    answer = floor.outcome.answer
    remembered = await remember(job, floor, answer, emit) if floor.team.memory and answer else None
    return _output(floor, floor.outcome, remembered)


def _output(floor: Floor, outcome: Outcome, remembered: str | None = None) -> Any:
    learned = {"remembered": remembered} if floor.team.memory else {}
    return floor.conversation.output(outcome.answer, stopped=outcome.stopped or floor.cornered(), **outcome.more, **learned)


async def _beside(job: Job, gateways: Gateways, floor: Floor, work: Coroutine[Any, Any, Any]) -> Any:
    """The work's output, or what ended the run before, whichever comes first."""
    task = asyncio.create_task(work)
    seconds = job.definition["limits"].get("seconds")
    try:
        await asyncio.wait({task, gateways.lost}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if gateways.lost.done():
            gateways.lost.result()
        return await task if task.done() else _too_long(floor, seconds)
    finally:
        floor.token.cancel()
        task.cancel()
        await asyncio.wait({task}, timeout=PARTING_SECONDS)


def _too_long(floor: Floor, seconds: float) -> Any:
    stopped = {"limit": "seconds", "message": f"the team worked for its {seconds:g} seconds; the answer is what it had by then"}
    return _output(floor, replace(floor.outcome or Outcome(floor.last_text), stopped=stopped))


def _job(definition: dict[str, Any]) -> Job:
    given = {"task_description": "?", "additional_context": {"a": "b"}}
    far = time.time() + 60
    return Job("rehearsal", 1, definition, given, "http://gateway/mcp", "http://gateway/v1", "none", datetime.now(UTC), far, 64)


def _say_nothing(_kind: str, /, **_data: Any) -> None:
    """Nobody follows a rehearsal."""
