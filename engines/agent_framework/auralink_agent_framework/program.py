"""A run from team and task to output: the framework's own workflows, one for each mode."""

import asyncio
import time
from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime
from typing import Any

import httpx2
from agent_framework import Agent, Message, Workflow
from agent_framework.exceptions import ChatClientException
from agent_framework_orchestrations import GroupChatBuilder, HandoffBuilder, SequentialBuilder
from auralink_engine import Emit, Job
from auralink_engine.team import FACTS_SCHEMA, Conversation, MemberFailed, Team, facts_in, facts_question, memory_of, task_of
from auralink_engine.tls import warm_tls

from auralink_agent_framework.gateways import Gateways, open_gateways
from auralink_agent_framework.members import DONE, Talk, agent_of, cause_of
from auralink_agent_framework.rehearsal import DEFINITION, answer_models, answer_tools

STEPS_A_TURN = 2
"""Of the framework's workflows: one to ask a member, one to take its answer. Their own limit is 100."""


async def run(job: Job, emit: Emit) -> dict[str, Any]:
    """Runs a checked team definition."""
    return await _run(job, emit, None, None)


def warm() -> None:
    """Rehearses a small run of each mode against answers of its own, so that what is loaded late is there before the fork."""
    warm_tls()
    models, tools = httpx2.MockTransport(answer_models), httpx2.MockTransport(answer_tools)
    for mode in _MODES:
        asyncio.run(_run(_rehearsal({**DEFINITION, "mode": mode}), lambda _kind, /, **_data: None, models, tools))


def _rehearsal(definition: Mapping[str, Any]) -> Job:
    given, far = {"task_description": "?"}, time.time() + 60
    return Job("rehearsal", 1, definition, given, "http://gateway/mcp", "http://gateway/v1", "none", datetime.now(UTC), far, 64)


async def _run(
    job: Job, emit: Emit, models: httpx2.AsyncBaseTransport | None, tools: httpx2.AsyncBaseTransport | None
) -> dict[str, Any]:
    team = Team.of(job.definition)
    needs_tools = bool(team.tools or team.memory)
    async with open_gateways(job, with_tools=needs_tools, models=models, tools=tools) as gateways:
        return await _run_beside(gateways, _work(job, team, emit, gateways))


async def _run_beside(gateways: Gateways, work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """What comes of the work, or the loss of a gateway, whichever is first."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task, gateways.lost}, return_when=asyncio.FIRST_COMPLETED)
        if gateways.lost.done():
            gateways.lost.result()
        return await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _work(job: Job, team: Team, emit: Emit, gateways: Gateways) -> dict[str, Any]:
    talk = Talk(Conversation(emit))
    everybody = (*([team.manager] if team.manager else ()), *team.members)
    agents = [agent_of(member, team, gateways, talk) for member in everybody]
    seconds = job.definition["limits"].get("seconds")
    remembered = None
    try:
        async with asyncio.timeout(seconds):
            workflow = _MODES[team.mode](agents, team, talk)
            workflow._runner._max_iterations = STEPS_A_TURN * (team.turns + 1)  # its builders have no way to say so
            await workflow.run(task_of(job))
            remembered = await _remember(job, team, talk.answer, gateways, emit) if team.memory and talk.answer else None
    except TimeoutError:
        if not talk.answer:
            raise MemberFailed(f"nobody had said anything when the team's {seconds:g} seconds were over") from None
        talk.stop("seconds", f"the team worked longer than its {seconds:g} seconds")
    more: dict[str, Any] = {"handoffs": talk.handoffs} if team.mode == "swarm" else {}
    more |= {"remembered": remembered} if team.memory else {}
    return talk.conversation.output(talk.answer, stopped=talk.stopped, **more)


def _sequential(agents: list[Agent[Any]], team: Team, talk: Talk) -> Workflow:
    """Each once, in their order, with all that was said before."""
    if len(agents) > team.turns:
        talk.stop("turns", f"the team has {len(agents)} members and may have {team.turns} messages")
    return SequentialBuilder(participants=agents[: team.turns]).build()


def _round_robin(agents: list[Agent[Any]], team: Team, talk: Talk) -> Workflow:
    """In turn, until, when each has spoken, one says that the task is done, or the turns are used up."""

    def is_over(conversation: list[Any]) -> bool:
        done = talk.turns >= len(agents) and DONE in conversation[-1].text
        if not done and talk.turns >= team.turns:
            talk.stop("turns", f"the team had its {team.turns} messages")
        return bool(done)

    return GroupChatBuilder(
        participants=agents,
        selection_func=lambda state: list(state.participants)[state.current_round % len(agents)],
        termination_condition=is_over,
        max_rounds=team.turns,
    ).build()


def _swarm(agents: list[Agent[Any]], team: Team, talk: Talk) -> Workflow:
    """The first begins; whoever has the task hands it over or ends it with an answer."""

    def is_over(_conversation: list[Any]) -> bool:
        over = talk.turns >= team.turns
        if over and talk.handoffs and len(talk.handoffs) == talk.turns:
            talk.stop("turns", f"the task was handed over in each of the {team.turns} messages that the team may have")
        return over

    builder = HandoffBuilder(participants=agents, termination_condition=is_over).with_start_agent(agents[0])
    named = {agent.name: agent for agent in agents}
    for giver, takers in (team.options.get("handoffs") or {}).items():
        builder.add_handoff(named[giver], [named[taker] for taker in takers])
    return builder.build()


_MODES = {"sequential": _sequential, "round_robin": _round_robin, "swarm": _swarm}


async def _remember(job: Job, team: Team, answer: str, gateways: Gateways, emit: Emit) -> str | None:
    """The name of the entity that has the facts of the answer now; a memory that does not take them is told, and fails no run."""
    try:
        return await _written(job, team, await _facts_of(job, team, answer, gateways), gateways)
    except (MemberFailed, ValueError) as error:
        emit("log", level="warning", message=f"nothing was written to {team.memory}: {error}")
        return None


async def _facts_of(job: Job, team: Team, answer: str, gateways: Gateways) -> list[str]:
    """What the team's model finds worth remembering. Raises MemberFailed, ValueError."""
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "facts", "schema": FACTS_SCHEMA}}
    client = gateways.model(team.model, lambda _step: None, 1)
    question = facts_question(job.input["task_description"], answer)
    try:
        said = await client.get_response([Message("user", [question])], options={"response_format": wanted})
    except ChatClientException as error:
        raise MemberFailed(f"model {team.model!r}: {cause_of(error)}") from error
    return facts_in(said.text)


async def _written(job: Job, team: Team, facts: list[str], gateways: Gateways) -> str:
    entities, observations = memory_of(team, job, facts)
    for tool, arguments in (("create_entities", entities), ("add_observations", observations)):
        told = await gateways.call(f"{team.memory}__{tool}", arguments)
        if told.failed:
            raise MemberFailed(told.text)
    name: str = entities["entities"][0]["name"]
    return name
