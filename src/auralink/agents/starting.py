"""What a run of an agent is. Needs the database alone: the worker's schedules use it as the service does."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

import orjson
from psycopg.rows import DictRow

from auralink.agents import store
from auralink.agents.errors import agent_not_found
from auralink.agents.graph import definition_of
from auralink.core.db import Connection
from auralink.runs.schemas import Order, Work
from auralink.runs.starting import limits_of_run
from auralink.workflows import inputs

ENGINE = "langgraph"


class AgentStarter:
    """A `Startable` (runs/starting.py)."""

    async def find_id(self, connection: Connection, reference: UUID | str) -> UUID:
        """The id of an agent by its id or name. Raises AgentNotFound."""
        agent_id = inputs.as_uuid(reference)
        if agent_id is not None and await store.find(connection, agent_id) is not None:
            return agent_id
        found = await store.find_id(connection, str(reference))
        if found is None:
            raise agent_not_found(reference)
        return found

    async def wants(self, connection: Connection, definition_id: UUID, _event: Mapping[str, Any]) -> bool:
        """An agent answers any event. Raises AgentNotFound."""
        await get(connection, definition_id)
        return True

    async def prepare(
        self, connection: Connection, definition_id: UUID, order: Order, event: Mapping[str, Any] | None = None
    ) -> tuple[Work, Order]:
        """The agent as it is now, and the order with its input: {message, history?}. Raises AgentNotFound, InputInvalid."""
        row = await get(connection, definition_id)
        definition = definition_of(row).stored()
        given = _message_of(event) if order.input is None and event is not None else order.input or {}
        work = Work("agent", definition_id, ENGINE, definition, limits_of_run(row["limits"]))
        return work, replace(order, input=inputs.fitting(definition["input"], given, order))


async def get(connection: Connection, agent_id: UUID) -> DictRow:
    """The row of an agent. Raises AgentNotFound."""
    row = await store.find(connection, agent_id)
    if row is None:
        raise agent_not_found(agent_id)
    return row


def _message_of(event: Mapping[str, Any]) -> dict[str, Any]:
    """What an event says to an agent: the message in its data, else all of it as JSON."""
    data = event.get("data")
    said = data.get("message") if isinstance(data, Mapping) else None
    return {"message": said if isinstance(said, str) and said else orjson.dumps(event, default=str).decode()}
