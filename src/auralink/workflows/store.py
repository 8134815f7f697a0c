"""SQL of workflows. Who may see a row is decided by row level security; a store never commits."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow

from auralink.core.db import Connection
from auralink.core.paging import Position
from auralink.core.rows import adapted, change_of

COLUMNS = """id, name, workflow_type, version, description, agent_id, definition, mcp_integrations, trigger_conditions, created_at,
    updated_at"""
INSERT = f"""
INSERT INTO auralink.agent_workflows
    (id, user_id, name, workflow_type, description, agent_id, definition, mcp_integrations, trigger_conditions)
VALUES (%(id)s, %(user_id)s, %(name)s, %(workflow_type)s, %(description)s, %(agent_id)s, %(definition)s, %(mcp_integrations)s,
        %(trigger_conditions)s)
RETURNING {COLUMNS}
"""
BY_ID = f"SELECT {COLUMNS} FROM auralink.agent_workflows WHERE id = %s"
LOCKED = f"{BY_ID} FOR NO KEY UPDATE"
ID_BY_NAME = "SELECT id FROM auralink.agent_workflows WHERE name = %s"
PAGE = f"""
SELECT {COLUMNS} FROM auralink.agent_workflows
WHERE (%(name)s::text IS NULL OR name = %(name)s) AND (%(at)s::timestamptz IS NULL OR (created_at, id) < (%(at)s, %(after)s::uuid))
ORDER BY created_at DESC, id DESC LIMIT %(limit)s
"""
AGENT = "SELECT model, instructions FROM auralink.agents WHERE id = %s"
STATS = """
SELECT count(*) AS runs,
       count(*) FILTER (WHERE status = 'succeeded') AS succeeded,
       count(*) FILTER (WHERE status = 'failed') AS failed,
       count(*) FILTER (WHERE status = 'cancelled') AS cancelled,
       count(*) FILTER (WHERE finished_at IS NULL) AS under_way,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - accepted_at)) AS p50_seconds,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - accepted_at)) AS p95_seconds,
       coalesce(sum(steps), 0) AS steps, coalesce(sum(tokens), 0) AS tokens, coalesce(sum(cost_usd), 0) AS cost_usd,
       max(accepted_at) AS last_run_at
FROM auralink.workflow_executions WHERE workflow_id = %s
"""
_JSON = ("definition", "mcp_integrations", "trigger_conditions")


async def insert(connection: Connection, row: Mapping[str, Any]) -> DictRow:
    """Stores a workflow. Raises UniqueViolation for a name that the tenant has."""
    inserted = await (await connection.execute(INSERT, adapted(row, _JSON))).fetchone()
    assert inserted is not None
    return inserted


async def find(connection: Connection, workflow_id: UUID, *, locked: bool = False) -> DictRow | None:
    """The tenant's workflow of that id; with `locked` nobody else changes it until the transaction ends."""
    return await (await connection.execute(LOCKED if locked else BY_ID, [workflow_id])).fetchone()


async def find_id(connection: Connection, name: str) -> UUID | None:
    """The id of the tenant's workflow of that name."""
    row = await (await connection.execute(ID_BY_NAME, [name])).fetchone()
    return None if row is None else row["id"]


async def page(connection: Connection, *, name: str | None, after: Position | None, limit: int) -> list[DictRow]:
    """The tenant's workflows, newest first."""
    at, row_id = after or (None, None)
    return await (await connection.execute(PAGE, {"name": name, "at": at, "after": row_id, "limit": limit})).fetchall()


async def update(connection: Connection, workflow_id: UUID, changes: Mapping[str, Any]) -> DictRow:
    """Changes a workflow that is there, and raises its version. Raises UniqueViolation."""
    query = change_of("agent_workflows", changes, COLUMNS, versioned=True)
    row = await (await connection.execute(query, {**adapted(changes, _JSON), "id": workflow_id})).fetchone()
    assert row is not None
    return row


async def delete(connection: Connection, workflow_id: UUID) -> bool:
    """Removes a workflow; False if the tenant has no such. Its runs stay."""
    query = "DELETE FROM auralink.agent_workflows WHERE id = %s RETURNING id"
    return await (await connection.execute(query, [workflow_id])).fetchone() is not None


async def find_agent(connection: Connection, agent_id: UUID) -> DictRow | None:
    """Model and instructions of the tenant's agent of that id."""
    return await (await connection.execute(AGENT, [agent_id])).fetchone()


async def statistics(connection: Connection, workflow_id: UUID) -> DictRow:
    """What the workflow's runs came to."""
    row = await (await connection.execute(STATS, [workflow_id])).fetchone()
    assert row is not None
    return row
