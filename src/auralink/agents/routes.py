"""HTTP of agents. What happens is in `service.py`."""

from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.responses import StreamingResponse

from auralink.agents.schemas import AgentBody, AgentPage, AgentPatch, AgentView, Chat, ChatAnswer, ThreadPage, TurnPage
from auralink.agents.service import Agents, Talk
from auralink.auth.dependencies import Authenticated
from auralink.auth.principal import Principal
from auralink.core.http import JSONBytes, dumps
from auralink.core.idempotency import idempotently, in_place_of, once
from auralink.core.paging import Limit, decode_cursor
from auralink.runs.routes import PREFIX as RUNS
from auralink.runs.routes import preferred_wait, server_sent
from auralink.runs.schemas import TERMINAL

router = APIRouter(prefix="/api/v1/agents", tags=["agents"])
WAIT = 60.0
"""Seconds that a chat waits for its answer, where the client does not say (`Prefer: wait=N`, `Prefer: respond-async`)."""


async def _agents(request: Request) -> Agents:
    agents: Agents = request.app.state.agents
    return agents


Service = Annotated[Agents, Depends(_agents)]


@router.get("")
async def list_agents(
    principal: Authenticated, agents: Service, name: str | None = None, limit: Limit = 50, cursor: str | None = None
) -> AgentPage:
    """Your agents, newest first."""
    return await agents.page(principal, name=name, after=decode_cursor(cursor), limit=limit)


@router.post("", status_code=201, response_model=AgentView)
async def create_agent(body: AgentBody, request: Request, principal: Authenticated, agents: Service) -> Response:
    """Makes an agent; its tools must be there and allowed."""
    return await once(request, principal, lambda: agents.create(principal, body), 201)


@router.get("/{agent_id}")
async def get_agent(agent_id: UUID, principal: Authenticated, agents: Service) -> AgentView:
    """One agent."""
    return await agents.get(principal, agent_id)


@router.patch("/{agent_id}")
async def change_agent(agent_id: UUID, patch: AgentPatch, principal: Authenticated, agents: Service) -> AgentView:
    """Changes an agent, which raises its version; answers under way keep the one they have."""
    return await agents.change(principal, agent_id, patch)


@router.delete("/{agent_id}", status_code=204)
async def remove_agent(agent_id: UUID, principal: Authenticated, agents: Service) -> None:
    """Deletes an agent with its threads; its runs stay."""
    await agents.remove(principal, agent_id)


@router.post("/{agent_id}/chat", response_model=ChatAnswer)
async def chat(agent_id: UUID, body: Chat, request: Request, principal: Authenticated, agents: Service) -> Response:
    """Says something to an agent: 200 with its answer, 202 where that takes longer or waits for you; SSE with `stream`."""

    async def say() -> Response:
        talk = await agents.say(principal, agent_id, body)
        return JSONBytes({"thread_id": talk.thread_id, "run_id": talk.run_id}, status_code=202)

    taken = await idempotently(request.app.state.db, principal, request, say)
    if taken.status_code != 202:
        return taken
    talk = Talk(**{name: UUID(value) for name, value in orjson.loads(taken.body).items()})
    if body.stream:
        return in_place_of(taken, _streamed(agents, principal, talk))
    answer = await agents.answer(principal, talk, within=_patience(request.headers.get("prefer", "")))
    status = 200 if answer.status in TERMINAL else 202
    headers = {"Location": f"{RUNS}/{talk.run_id}"}
    return in_place_of(taken, JSONBytes(answer.model_dump(mode="json"), status_code=status, headers=headers))


@router.get("/{agent_id}/threads")
async def list_threads(
    agent_id: UUID, principal: Authenticated, agents: Service, limit: Limit = 50, cursor: str | None = None
) -> ThreadPage:
    """The agent's threads, newest first."""
    return await agents.threads(principal, agent_id, after=decode_cursor(cursor), limit=limit)


@router.get("/{agent_id}/threads/{thread_id}")
async def get_thread(
    agent_id: UUID,
    thread_id: UUID,
    principal: Authenticated,
    agents: Service,
    limit: Limit = 50,
    cursor: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
) -> TurnPage:
    """What was said in a thread, in order."""
    return await agents.turns(principal, agent_id, thread_id, after=cursor, limit=limit)


@router.delete("/{agent_id}/threads/{thread_id}", status_code=204)
async def remove_thread(agent_id: UUID, thread_id: UUID, principal: Authenticated, agents: Service) -> None:
    """Deletes a thread; its runs stay."""
    await agents.remove_thread(principal, agent_id, thread_id)


def _patience(prefer: str) -> float:
    if any(preference.strip().lower() == "respond-async" for preference in prefer.split(",")) and "wait" not in prefer:
        return 0.0
    return preferred_wait(prefer) or WAIT


def _streamed(agents: Agents, principal: Principal, talk: Talk) -> StreamingResponse:
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no", "Location": f"{RUNS}/{talk.run_id}"}
    return StreamingResponse(_events(agents, principal, talk), media_type="text/event-stream", headers=headers)


async def _events(agents: Agents, principal: Principal, talk: Talk) -> AsyncIterator[bytes]:
    """`thread`, the run's events, `answer`."""
    yield b"event: thread\ndata: %s\n\n" % dumps({"thread_id": talk.thread_id, "run_id": talk.run_id})
    async for event in agents.follow(principal, talk):
        if isinstance(event, ChatAnswer):
            yield b"event: answer\ndata: %s\n\n" % dumps(event.model_dump(mode="json"))
        else:
            yield server_sent(event)
