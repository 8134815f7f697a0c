"""A run from definition and task to output: the crew in a thread of its own, the tools' session and the watch in the loop."""

import asyncio
import logging
import threading
import time
import warnings
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import httpx
from auralink_engine import Emit, Job, Lost
from auralink_engine.team import Conversation, MemberFailed, Team
from auralink_engine.tls import tls_for, warm_tls
from auralink_engine.watching import GatewayRefused
from crewai.events.event_bus import crewai_event_bus

from auralink_crewai import rehearsal
from auralink_crewai.consensus import consensus
from auralink_crewai.crews import Work
from auralink_crewai.ending import Ending, LimitReached
from auralink_crewai.home import borrowed_home
from auralink_crewai.lean import quicken
from auralink_crewai.models import ModelGateway
from auralink_crewai.modes import hierarchical, sequential
from auralink_crewai.remembering import remember
from auralink_crewai.tools import Tools

MODES = {"sequential": sequential, "hierarchical": hierarchical, "consensus": consensus}
_silence = crewai_event_bus.scoped_handlers()


async def run(job: Job, emit: Emit) -> Any:
    """Runs a checked team definition. Raises Lost, MemberFailed, LimitReached when there is no answer at all by then."""
    return await _run(job, emit, None, None)


def warm() -> None:
    """Rehearses a small run of each kind against answers of its own; afterwards nobody listens to CrewAI's events.

    Listeners would print, trace and start threads; what a crew does is told by the run itself.
    """
    _silence.__enter__()
    quicken()
    logging.getLogger().setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", message="function callbacks cannot be serialized")
    warm_tls()
    models, tools = httpx.MockTransport(rehearsal.answer_models), httpx.MockTransport(rehearsal.answer_tools)
    with borrowed_home():
        _load_transports()
        for definition in rehearsal.DEFINITIONS:
            job = _a_rehearsal(definition)
            asyncio.run(_run(job, _say_nothing, models, tools))


def _load_transports() -> None:
    """Loads what the two transports import when they are made; mocks have no use for it."""
    httpx.HTTPTransport(verify=False, trust_env=False)
    httpx.AsyncHTTPTransport(verify=False, trust_env=False)


def _a_rehearsal(definition: dict[str, Any]) -> Job:
    far, task = time.time() + 60, {"task_description": "Rehearse"}
    return Job("rehearsal", 1, definition, task, "http://gateway/mcp", "http://gateway/v1", "none", datetime.now(UTC), far, 64)


async def _run(job: Job, emit: Emit, models: httpx.BaseTransport | None, tools: httpx.AsyncBaseTransport | None) -> Any:
    ending = Ending()
    toolbox = Tools(ending)
    gateway = ModelGateway.of(job, ending, toolbox, models or httpx.HTTPTransport(verify=tls_for(job.llm_url), trust_env=False))
    team = Team.of(job.definition)
    seconds = min(job.deadline - time.time(), job.definition["limits"].get("seconds") or float("inf"))
    timer = asyncio.get_running_loop().call_later(seconds, lambda: ending.tell(_too_long(seconds)))
    try:
        async with AsyncExitStack() as stack:
            if team.tools or team.memory:
                inner = tools or httpx.AsyncHTTPTransport(verify=tls_for(job.mcp_url), trust_env=False)
                await _unless_lost(ending, toolbox.connect(stack, job, inner))
            work = Work.of(job, Conversation(emit), gateway, toolbox, ending)
            await _perform(work, emit)
            return work.output()
    except Exception as error:
        if isinstance(ending.reason, (Lost, GatewayRefused, MemberFailed)) and ending.reason is not error:
            raise ending.reason from error
        raise
    finally:
        timer.cancel()


async def _unless_lost(ending: Ending, doing: Any) -> None:
    """Waits for what the SDK does, which would wait for ever for a gateway that is gone."""
    await doing
    if ending.reason is not None:
        raise ending.reason


async def _perform(work: Work, emit: Emit) -> None:
    """Lets the crew work until it is done or something ends the run; the thread is not waited for then."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(error: Exception | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def live() -> None:
        try:
            MODES[work.team.mode](work)
            if work.ending.reason is None:
                remember(work, emit)
        except Exception as error:  # noqa: BLE001 (the edge of the thread: it is told to the loop)
            loop.call_soon_threadsafe(settle, error)
        else:
            loop.call_soon_threadsafe(settle, None)

    threading.Thread(target=live, name="crew", daemon=True).start()
    await asyncio.wait({done, work.ending.told}, return_when=asyncio.FIRST_COMPLETED)
    reason = work.ending.reason
    if reason is None:
        _raise_of(done)
    elif not isinstance(reason, LimitReached) or not work.talk.said:
        raise reason


def _raise_of(done: "asyncio.Future[None]") -> None:
    error = done.exception()
    if error is None or isinstance(error, MemberFailed):
        done.result()
        return
    raise MemberFailed(f"the crew could not go on: {error or type(error).__name__}") from error


def _too_long(seconds: float) -> LimitReached:
    return LimitReached("seconds", f"the run took longer than its {seconds:.0f} seconds")


def _say_nothing(_kind: str, /, **_data: Any) -> None:
    """Nobody follows a rehearsal."""
