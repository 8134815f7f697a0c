"""SQL of teams and their members. Who may see a row is decided by row level security; a store never commits."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow

from auralink.core.db import Connection
from auralink.core.paging import Position
from auralink.core.rows import adapted, change_of

COLUMNS = """id, name, version, description, team_type, collaboration_mode, template, task, model, manager, options, memory, limits,
    created_at, updated_at"""
INSERT = f"""
INSERT INTO auralink.agent_teams
    (id, user_id, name, description, team_type, collaboration_mode, template, task, model, manager, options, memory, limits)
VALUES (%(id)s, %(user_id)s, %(name)s, %(description)s, %(team_type)s, %(collaboration_mode)s, %(template)s, %(task)s, %(model)s,
        %(manager)s, %(options)s, %(memory)s, %(limits)s)
RETURNING {COLUMNS}
"""
BY_ID = f"SELECT {COLUMNS} FROM auralink.agent_teams WHERE id = %s"
ID_BY_NAME = "SELECT id FROM auralink.agent_teams WHERE name = %s"
PAGE = f"""
SELECT {COLUMNS} FROM auralink.agent_teams
WHERE (%(name)s::text IS NULL OR name = %(name)s) AND (%(at)s::timestamptz IS NULL OR (created_at, id) < (%(at)s, %(after)s::uuid))
ORDER BY created_at DESC, id DESC LIMIT %(limit)s
"""
MEMBER = """id, team_id, name, role, goal, instructions, model, tools, tool_names, execution_order, can_delegate, agent_id, created_at,
    updated_at"""
INSERT_MEMBER = f"""
INSERT INTO auralink.team_members
    (id, user_id, team_id, name, role, goal, instructions, model, tools, tool_names, execution_order, can_delegate, agent_id)
VALUES (%(id)s, %(user_id)s, %(team_id)s, %(name)s, %(role)s, %(goal)s, %(instructions)s, %(model)s, %(tools)s, %(tool_names)s,
        %(execution_order)s, %(can_delegate)s, %(agent_id)s)
RETURNING {MEMBER}
"""
MEMBERS = f"""
SELECT {MEMBER} FROM auralink.team_members WHERE team_id = ANY(%s) ORDER BY execution_order, created_at, id
"""
AGENTS = "SELECT id, model, instructions FROM auralink.agents WHERE id = ANY(%s)"
_JSON = ("options", "limits", "tools", "tool_names")


async def insert(connection: Connection, row: Mapping[str, Any]) -> DictRow:
    """Stores a team. Raises UniqueViolation for a name that the tenant has."""
    inserted = await (await connection.execute(INSERT, adapted(row, _JSON))).fetchone()
    assert inserted is not None
    return inserted


async def find(connection: Connection, team_id: UUID) -> DictRow | None:
    """The tenant's team of that id."""
    return await (await connection.execute(BY_ID, [team_id])).fetchone()


async def find_id(connection: Connection, name: str) -> UUID | None:
    """The id of the tenant's team of that name."""
    row = await (await connection.execute(ID_BY_NAME, [name])).fetchone()
    return None if row is None else row["id"]


async def page(connection: Connection, *, name: str | None, after: Position | None, limit: int) -> list[DictRow]:
    """The tenant's teams, newest first."""
    at, row_id = after or (None, None)
    return await (await connection.execute(PAGE, {"name": name, "at": at, "after": row_id, "limit": limit})).fetchall()


async def update(connection: Connection, team_id: UUID, changes: Mapping[str, Any]) -> DictRow | None:
    """Changes a team (with no changes: because of a member) and raises its version; nobody else changes it or its members until the
    transaction ends. None if the tenant has no such. Raises UniqueViolation."""
    query = change_of("agent_teams", changes, COLUMNS, versioned=True)
    return await (await connection.execute(query, {**adapted(changes, _JSON), "id": team_id})).fetchone()


async def delete(connection: Connection, team_id: UUID) -> bool:
    """Removes a team with its members; False if the tenant has no such. Its runs stay."""
    query = "DELETE FROM auralink.agent_teams WHERE id = %s RETURNING id"
    return await (await connection.execute(query, [team_id])).fetchone() is not None


async def insert_member(connection: Connection, row: Mapping[str, Any]) -> DictRow:
    """Stores a member. Raises UniqueViolation for a name that the team has."""
    inserted = await (await connection.execute(INSERT_MEMBER, adapted(row, _JSON))).fetchone()
    assert inserted is not None
    return inserted


async def members(connection: Connection, team_ids: Sequence[UUID]) -> list[DictRow]:
    """The members of teams, of each in the order in which they work."""
    return await (await connection.execute(MEMBERS, [list(team_ids)])).fetchall()


async def update_member(connection: Connection, member_id: UUID, changes: Mapping[str, Any]) -> DictRow:
    """Changes a member that is there. Raises UniqueViolation."""
    query = change_of("team_members", changes, MEMBER)
    row = await (await connection.execute(query, {**adapted(changes, _JSON), "id": member_id})).fetchone()
    assert row is not None
    return row


async def delete_member(connection: Connection, member_id: UUID) -> None:
    """Removes a member."""
    await connection.execute("DELETE FROM auralink.team_members WHERE id = %s", [member_id])


async def agents(connection: Connection, agent_ids: Sequence[UUID]) -> dict[UUID, DictRow]:
    """Model and instructions of the tenant's agents, by id."""
    rows = await (await connection.execute(AGENTS, [list(agent_ids)])).fetchall() if agent_ids else []
    return {row["id"]: row for row in rows}
