"""Agents: kept, checked when they are saved, and talked to."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg.errors import ForeignKeyViolation, UniqueViolation
from psycopg.rows import DictRow

from auralink.agents import store
from auralink.agents.errors import AgentInUse, AgentNameTaken, ThreadBusy, agent_not_found, thread_not_found
from auralink.agents.graph import definition_of, in_body
from auralink.agents.schemas import (
    AgentBody,
    AgentPage,
    AgentPatch,
    AgentView,
    Chat,
    ChatAnswer,
    ThreadPage,
    ThreadView,
    Turn,
    TurnPage,
)
from auralink.agents.starting import ENGINE, get
from auralink.auth.principal import Principal
from auralink.core.db import Connection, Database
from auralink.core.errors import InvalidRequest
from auralink.core.ids import uuid7
from auralink.core.paging import Position, encode_cursor
from auralink.mcp.federation import Federation
from auralink.runs.schemas import Event, Order, RunDetail, Token
from auralink.runs.service import Runs
from auralink.runs.starting import Startables, require_room
from auralink.workflows.checking import DefinitionInvalid
from auralink.workflows.tools import known_tools, memory_connection


@dataclass(frozen=True)
class Talk:
    """A message that was taken: where it stands, and the run that answers it."""

    thread_id: UUID
    run_id: UUID


class Agents:
    """What users do with agents."""

    def __init__(
        self, db: Database, federation: Federation, runs: Runs, startables: Startables, require_engine: Callable[[str], object]
    ) -> None:
        """`require_engine` raises EngineNotInstalled for an engine that could run nothing."""
        self._db = db
        self._federation = federation
        self._runs = runs
        self._startables = startables
        self._require_engine = require_engine

    async def create(self, principal: Principal, body: AgentBody) -> AgentView:
        """A new agent. Raises DefinitionInvalid, AgentNameTaken, TooManyDefinitions, EngineNotInstalled."""
        row = {**body.model_dump(mode="json"), "id": uuid7(), "user_id": principal.user_id}
        row["memory"] = await memory_connection(self._federation, principal, body.memory)
        await self._check(principal, row)
        try:
            async with self._db.tenant(principal) as connection:
                await require_room(connection, "agents")
                return _view(await store.insert(connection, row))
        except UniqueViolation:
            raise _name_taken(body.name) from None

    async def get(self, principal: Principal, agent_id: UUID) -> AgentView:
        """One of them. Raises AgentNotFound."""
        async with self._db.tenant(principal) as connection:
            return _view(await get(connection, agent_id))

    async def page(self, principal: Principal, *, name: str | None, after: Position | None, limit: int) -> AgentPage:
        """The principal's agents, newest first."""
        async with self._db.tenant(principal) as connection:
            rows = await store.page(connection, name=name, after=after, limit=limit + 1)
        items = [_view(row) for row in rows[:limit]]
        cursor = encode_cursor((items[-1].created_at, items[-1].agent_id)) if len(rows) > limit else None
        return AgentPage(items=items, next_cursor=cursor)

    async def change(self, principal: Principal, agent_id: UUID, patch: AgentPatch) -> AgentView:
        """Changes what the patch names and raises the version; answers under way keep theirs.

        Raises AgentNotFound and what `create` raises.
        """
        changes = patch.model_dump(mode="json", exclude_none=True)
        async with self._db.tenant(principal) as connection:
            before = await get(connection, agent_id)
        if not changes:
            raise InvalidRequest("the body changes nothing; give a name, instructions, a model, tools, memory or limits")
        if "memory" in changes:
            changes["memory"] = await memory_connection(self._federation, principal, changes["memory"])
        await self._check(principal, {**before, **changes})
        try:
            async with self._db.tenant(principal) as connection:
                row = await store.update(connection, agent_id, changes)
        except UniqueViolation:
            raise _name_taken(changes["name"]) from None
        if row is None:
            raise agent_not_found(agent_id)
        return _view(row)

    async def remove(self, principal: Principal, agent_id: UUID) -> None:
        """Deletes an agent with its threads; its runs stay. Raises AgentNotFound, AgentInUse."""
        try:
            async with self._db.tenant(principal) as connection:
                removed = await store.delete(connection, agent_id)
        except ForeignKeyViolation:
            say = "give it another agent_id (PATCH /workflows/{id}, /teams/{id}/members/{member_id}), or none"
            raise AgentInUse(f"a workflow or a member of a team names this agent; {say}") from None
        if not removed:
            raise agent_not_found(agent_id)

    async def say(self, principal: Principal, agent_id: UUID, chat: Chat) -> Talk:
        """Takes a message: it stands in its thread and the run that answers it is accepted, in one transaction.

        Raises AgentNotFound, ThreadNotFound, ThreadBusy.
        """
        async with self._db.tenant(principal) as connection:
            agent = await get(connection, agent_id)
            thread_id = await self._thread(connection, principal, agent_id, chat.thread_id)
            history = await store.history(connection, thread_id, agent["limits"].get("history", 20))
            order = Order({"message": chat.message, "history": history}, chat.room_id, chat.call_id)
            run = await self._startables.start_in(connection, principal, "agent", agent_id, order)
            await store.add_turn(connection, thread_id, principal.user_id, run.run_id, chat.message)
        return Talk(thread_id, run.run_id)

    async def answer(self, principal: Principal, talk: Talk, *, within: float) -> ChatAnswer:
        """What the agent said, or how far it is after so many seconds, or once it waits for a person."""
        run = await self._runs.wait(principal, talk.run_id, within, or_for_a_person=True)
        return answer_of(talk, run)

    async def follow(self, principal: Principal, talk: Talk) -> AsyncIterator[Event | Token | ChatAnswer | None]:
        """The run's events and words as they come (None now and then, when there are none), then the answer."""
        async for event in self._runs.events(principal, talk.run_id):
            yield event
        yield answer_of(talk, await self._runs.get(principal, talk.run_id))

    async def threads(self, principal: Principal, agent_id: UUID, *, after: Position | None, limit: int) -> ThreadPage:
        """An agent's threads, newest first. Raises AgentNotFound."""
        async with self._db.tenant(principal) as connection:
            await get(connection, agent_id)
            rows = await store.threads(connection, agent_id, after=after, limit=limit + 1)
        items = [ThreadView(**row) for row in rows[:limit]]
        cursor = encode_cursor((items[-1].created_at, items[-1].thread_id)) if len(rows) > limit else None
        return ThreadPage(items=items, next_cursor=cursor)

    async def turns(self, principal: Principal, agent_id: UUID, thread_id: UUID, *, after: int, limit: int) -> TurnPage:
        """A part of a thread, in order. Raises AgentNotFound, ThreadNotFound."""
        async with self._db.tenant(principal) as connection:
            await get(connection, agent_id)
            if await store.find_thread(connection, agent_id, thread_id) is None:
                raise thread_not_found(thread_id)
            rows = await store.turns(connection, thread_id, after=after, limit=limit + 1)
        items = [Turn(**row) for row in rows[:limit]]
        return TurnPage(items=items, next_cursor=str(items[-1].seq) if len(rows) > limit else None)

    async def remove_thread(self, principal: Principal, agent_id: UUID, thread_id: UUID) -> None:
        """Deletes a thread; its runs stay. Raises AgentNotFound, ThreadNotFound."""
        async with self._db.tenant(principal) as connection:
            await get(connection, agent_id)
            if not await store.delete_thread(connection, agent_id, thread_id):
                raise thread_not_found(thread_id)

    @staticmethod
    async def _thread(connection: Connection, principal: Principal, agent_id: UUID, thread_id: UUID | None) -> UUID:
        """The thread to speak in, locked; a new one for None."""
        if thread_id is None:
            new: UUID = (await store.insert_thread(connection, uuid7(), principal.user_id, agent_id))["thread_id"]
            return new
        if await store.find_thread(connection, agent_id, thread_id, locked=True) is None:
            raise thread_not_found(thread_id)
        if (run_id := await store.open_turn(connection, thread_id)) is not None:
            raise ThreadBusy(f"run {run_id} has not yet answered what was said last in thread {thread_id}; wait, or cancel it")
        return thread_id

    async def _check(self, principal: Principal, row: dict[str, Any]) -> None:
        self._require_engine(ENGINE)
        try:
            definition_of(row, await known_tools(self._federation, principal))
        except DefinitionInvalid as error:
            raise DefinitionInvalid([in_body(problem) for problem in error.extra["errors"]]) from None


def answer_of(talk: Talk, run: RunDetail) -> ChatAnswer:
    """A run's outcome as something that was said."""
    said = run.output if isinstance(run.output, dict) else {}
    return ChatAnswer(
        thread_id=talk.thread_id,
        run_id=talk.run_id,
        status=run.status,
        reason=run.reason,
        answer=said.get("answer"),
        tool_calls=said.get("tool_calls") or [],
        error=None if run.status != "failed" else run.error,
    )


def _view(row: DictRow) -> AgentView:
    fields = {name: value for name, value in row.items() if name not in ("id", "memory")}
    return AgentView(agent_id=row["id"], memory=row["memory"] or False, **fields)


def _name_taken(name: str) -> AgentNameTaken:
    return AgentNameTaken(f"you have an agent named {name!r}; change it with PATCH, or choose another name")
