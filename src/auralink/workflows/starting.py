"""What a run of a workflow is. Needs the database alone: the worker's schedules use it as the service does."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow

from auralink.core.db import Connection
from auralink.runs.schemas import Order, Work
from auralink.workflows import inputs, store
from auralink.workflows.errors import workflow_not_found
from auralink.workflows.expressions import BadExpression, is_true, look_up
from auralink.workflows.schemas import EVENT, TriggerConditions
from auralink.workflows.snapshot import snapshot

ENGINE = "langgraph"


class WorkflowStarter:
    """A `Startable` (runs/starting.py)."""

    async def find_id(self, connection: Connection, reference: UUID | str) -> UUID:
        """The id of a workflow by its id or name. Raises WorkflowNotFound."""
        workflow_id = inputs.as_uuid(reference)
        if workflow_id is not None and await store.find(connection, workflow_id) is not None:
            return workflow_id
        found = await store.find_id(connection, str(reference))
        if found is None:
            raise workflow_not_found(reference)
        return found

    async def wants(self, connection: Connection, definition_id: UUID, event: Mapping[str, Any]) -> bool:
        """Whether an event meets the workflow's conditions. Raises WorkflowNotFound."""
        row = await get(connection, definition_id)
        conditions = row["trigger_conditions"]
        return conditions is None or _holds(TriggerConditions(**conditions), event)

    async def prepare(
        self, connection: Connection, definition_id: UUID, order: Order, event: Mapping[str, Any] | None = None
    ) -> tuple[Work, Order]:
        """The workflow as it is now, and the order with an input that fits it. Raises WorkflowNotFound, InputInvalid."""
        row = await get(connection, definition_id)
        agent = None if row["agent_id"] is None else await store.find_agent(connection, row["agent_id"])
        definition = snapshot(row, agent)
        schema = definition["input"]
        given = inputs.of_event(schema, event) if order.input is None and event is not None else order.input or {}
        seconds = definition["limits"]["seconds"]
        limits = {} if seconds is None else {"seconds": seconds}
        work = Work("workflow", definition_id, ENGINE, definition, limits)
        return work, replace(order, input=inputs.fitting(schema, given, order))


async def get(connection: Connection, workflow_id: UUID, *, locked: bool = False) -> DictRow:
    """The row of a workflow. Raises WorkflowNotFound."""
    row = await store.find(connection, workflow_id, locked=locked)
    if row is None:
        raise workflow_not_found(workflow_id)
    return row


def _holds(conditions: TriggerConditions, event: Mapping[str, Any]) -> bool:
    """Whether an event is of a type that is wanted, and the expression true of it; one that cannot be told is not."""
    if conditions.event_types and event.get("type") not in conditions.event_types:
        return False
    if conditions.when is None:
        return True
    try:
        return is_true(look_up(conditions.when, {EVENT: event}))
    except BadExpression:
        return False
