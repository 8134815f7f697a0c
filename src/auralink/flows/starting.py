"""What a run of a flow is. Needs the database alone: the worker's schedules use it as the service does."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow

from auralink.core.db import Connection
from auralink.flows import store
from auralink.flows.errors import flow_not_found
from auralink.flows.templates import get_template
from auralink.runs.schemas import Order, Work
from auralink.runs.starting import limits_of_run
from auralink.workflows import inputs

ENGINE = "prefect"


class FlowStarter:
    """A `Startable` (runs/starting.py)."""

    async def find_id(self, connection: Connection, reference: UUID | str) -> UUID:
        """The id of a flow by its id or name. Raises FlowNotFound."""
        flow_id = inputs.as_uuid(reference)
        if flow_id is not None and await store.find(connection, flow_id) is not None:
            return flow_id
        found = await store.find_id(connection, str(reference))
        if found is None:
            raise flow_not_found(reference)
        return found

    async def wants(self, connection: Connection, definition_id: UUID, _event: Mapping[str, Any]) -> bool:
        """A flow works on any event. Raises FlowNotFound."""
        await get(connection, definition_id)
        return True

    async def prepare(
        self, connection: Connection, definition_id: UUID, order: Order, event: Mapping[str, Any] | None = None
    ) -> tuple[Work, Order]:
        """The flow as it is now, and the order with all its parameters. Raises FlowNotFound, InputInvalid."""
        definition = snapshot(await get(connection, definition_id))
        schema = definition["input"]
        given = inputs.of_event(schema, event) if order.input is None and event is not None else order.input or {}
        fitting = inputs.fitting(schema, given, order)
        work = Work("flow", definition_id, ENGINE, definition, limits_of_run(definition["limits"]))
        return work, replace(order, input={**_defaults(schema), **fitting})


async def get(connection: Connection, flow_id: UUID, *, locked: bool = False) -> DictRow:
    """The row of a flow. Raises FlowNotFound."""
    row = await store.find(connection, flow_id, locked=locked)
    if row is None:
        raise flow_not_found(flow_id)
    return row


def snapshot(row: Mapping[str, Any]) -> dict[str, Any]:
    """The checked definition of a row: its own, or its template's. Raises TemplateNotFound for one that is there no more."""
    definition = row["definition"] or get_template(row["template"]).stored()
    said = {"description": row["description"]} if row["description"] else {}
    return {**definition, **said, "name": row["name"], "flow_type": row["flow_type"], "flow_version": row.get("version", 1)}


def _defaults(schema: Mapping[str, Any]) -> dict[str, Any]:
    properties = schema.get("properties", {}).items()
    return {name: asked["default"] for name, asked in properties if isinstance(asked, Mapping) and "default" in asked}
