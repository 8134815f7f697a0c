"""SQL of agents and their threads. Who may see a row is decided by row level security; a store never commits."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow

from auralink.core.db import Connection
from auralink.core.paging import Position
from auralink.core.rows import adapted, change_of

COLUMNS = "id, name, version, instructions, model, tools, memory, limits, created_at, updated_at"
INSERT = f"""
INSERT INTO auralink.agents (id, user_id, name, instructions, model, tools, memory, limits)
VALUES (%(id)s, %(user_id)s, %(name)s, %(instructions)s, %(model)s, %(tools)s, %(memory)s, %(limits)s) RETURNING {COLUMNS}
"""
BY_ID = f"SELECT {COLUMNS} FROM auralink.agents WHERE id = %s"
ID_BY_NAME = "SELECT id FROM auralink.agents WHERE name = %s"
PAGE = f"""
SELECT {COLUMNS} FROM auralink.agents
WHERE (%(name)s::text IS NULL OR name = %(name)s) AND (%(at)s::timestamptz IS NULL OR (created_at, id) < (%(at)s, %(after)s::uuid))
ORDER BY created_at DESC, id DESC LIMIT %(limit)s
"""
THREAD = "id AS thread_id, agent_id, turns, created_at, updated_at"
NEW_THREAD = f"INSERT INTO auralink.agent_threads (id, user_id, agent_id) VALUES (%s, %s, %s) RETURNING {THREAD}"
FIND_THREAD = f"SELECT {THREAD} FROM auralink.agent_threads WHERE id = %s AND agent_id = %s"
LOCK_THREAD = f"{FIND_THREAD} FOR NO KEY UPDATE"
THREADS = f"""
SELECT {THREAD} FROM auralink.agent_threads
WHERE agent_id = %(agent)s AND (%(at)s::timestamptz IS NULL OR (created_at, id) < (%(at)s, %(after)s::uuid))
ORDER BY created_at DESC, id DESC LIMIT %(limit)s
"""
OPEN_TURN = """
SELECT t.run_id FROM auralink.agent_turns t JOIN auralink.runs r ON r.id = t.run_id
WHERE t.thread_id = %s AND t.status = 'open' AND r.finished_at IS NULL LIMIT 1
"""
ADD_TURN = """
WITH thread AS (UPDATE auralink.agent_threads SET turns = turns + 1, updated_at = now() WHERE id = %(thread)s RETURNING turns)
INSERT INTO auralink.agent_turns (thread_id, seq, user_id, run_id, message)
SELECT %(thread)s, turns, %(user)s, %(run)s, %(message)s FROM thread
"""
HISTORY = """
SELECT message, answer FROM (
    SELECT seq, message, answer FROM auralink.agent_turns WHERE thread_id = %s AND answer IS NOT NULL ORDER BY seq DESC LIMIT %s) AS last
ORDER BY seq
"""
TURNS = """
SELECT seq, run_id, message, answer, status, at FROM auralink.agent_turns WHERE thread_id = %s AND seq > %s ORDER BY seq LIMIT %s
"""
_JSON = ("tools", "limits")


async def insert(connection: Connection, row: Mapping[str, Any]) -> DictRow:
    """Stores an agent. Raises UniqueViolation for a name that the tenant has."""
    inserted = await (await connection.execute(INSERT, adapted(row, _JSON))).fetchone()
    assert inserted is not None
    return inserted


async def find(connection: Connection, agent_id: UUID) -> DictRow | None:
    """The tenant's agent of that id."""
    return await (await connection.execute(BY_ID, [agent_id])).fetchone()


async def find_id(connection: Connection, name: str) -> UUID | None:
    """The id of the tenant's agent of that name."""
    row = await (await connection.execute(ID_BY_NAME, [name])).fetchone()
    return None if row is None else row["id"]


async def page(connection: Connection, *, name: str | None, after: Position | None, limit: int) -> list[DictRow]:
    """The tenant's agents, newest first."""
    at, row_id = after or (None, None)
    return await (await connection.execute(PAGE, {"name": name, "at": at, "after": row_id, "limit": limit})).fetchall()


async def update(connection: Connection, agent_id: UUID, changes: Mapping[str, Any]) -> DictRow | None:
    """Changes an agent and raises its version; None if the tenant has no such. Raises UniqueViolation."""
    query = change_of("agents", changes, COLUMNS, versioned=True)
    return await (await connection.execute(query, {**adapted(changes, _JSON), "id": agent_id})).fetchone()


async def delete(connection: Connection, agent_id: UUID) -> bool:
    """Removes an agent with its threads; False if the tenant has no such. Raises ForeignKeyViolation if a workflow names it."""
    return (
        await (await connection.execute("DELETE FROM auralink.agents WHERE id = %s RETURNING id", [agent_id])).fetchone()
        is not None
    )


async def insert_thread(connection: Connection, thread_id: UUID, user_id: UUID, agent_id: UUID) -> DictRow:
    """A thread with nothing said yet."""
    row = await (await connection.execute(NEW_THREAD, [thread_id, user_id, agent_id])).fetchone()
    assert row is not None
    return row


async def find_thread(connection: Connection, agent_id: UUID, thread_id: UUID, *, locked: bool = False) -> DictRow | None:
    """A thread of an agent; with `locked` nobody else says anything in it until the transaction ends."""
    return await (await connection.execute(LOCK_THREAD if locked else FIND_THREAD, [thread_id, agent_id])).fetchone()


async def threads(connection: Connection, agent_id: UUID, *, after: Position | None, limit: int) -> list[DictRow]:
    """An agent's threads, newest first."""
    at, row_id = after or (None, None)
    values = {"agent": agent_id, "at": at, "after": row_id, "limit": limit}
    return await (await connection.execute(THREADS, values)).fetchall()


async def delete_thread(connection: Connection, agent_id: UUID, thread_id: UUID) -> bool:
    """Removes a thread; False if the agent has no such."""
    query = "DELETE FROM auralink.agent_threads WHERE id = %s AND agent_id = %s RETURNING id"
    return await (await connection.execute(query, [thread_id, agent_id])).fetchone() is not None


async def open_turn(connection: Connection, thread_id: UUID) -> UUID | None:
    """The run that has still to answer in a thread."""
    row = await (await connection.execute(OPEN_TURN, [thread_id])).fetchone()
    return None if row is None else row["run_id"]


async def add_turn(connection: Connection, thread_id: UUID, user_id: UUID, run_id: UUID, message: str) -> None:
    """Something is said, and this run will answer."""
    await connection.execute(ADD_TURN, {"thread": thread_id, "user": user_id, "run": run_id, "message": message})


async def history(connection: Connection, thread_id: UUID, most: int) -> list[dict[str, str]]:
    """What was said and answered last, as a model is told it."""
    rows = await (await connection.execute(HISTORY, [thread_id, most])).fetchall()
    said = [(("user", row["message"]), ("assistant", row["answer"])) for row in rows]
    return [{"role": role, "content": content} for pair in said for role, content in pair]


async def turns(connection: Connection, thread_id: UUID, *, after: int, limit: int) -> list[DictRow]:
    """A part of a thread, in order."""
    return await (await connection.execute(TURNS, [thread_id, after, limit])).fetchall()
