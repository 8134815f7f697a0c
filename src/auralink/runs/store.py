"""SQL of runs. Who may see a row is decided by row level security; a store never commits."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson
from psycopg import sql
from psycopg.rows import DictRow

from auralink.core.changes import CHANNEL
from auralink.core.db import Connection
from auralink.core.paging import Position

TOKENS = "auralink_tokens"
"""The channel on which followers of runs hear what the models say just now."""
FOLLOWED = "followed"
"""What followers announce, as if it were a table: a run that they follow."""
SUMMARY = """id AS run_id, kind, engine, definition_id, status, reason, wait_until, mode, step, attempt, priority, room_id, call_id,
    parent_id, source_id, steps, replayed, diverged, tokens, cost_usd, accepted_at, started_at, finished_at, output, error"""
DETAIL = f"{SUMMARY}, definition, input, limits, state"

INSERT = f"""
INSERT INTO auralink.runs
    (id, user_id, kind, definition_id, engine, definition, input, limits, overrides, mode, priority, max_attempts, time_limit,
     memory_mb, concurrency, room_id, call_id, parent_id, parent_seq, origin_id, source_id, idempotency_key, clock)
VALUES
    (%(id)s, %(user_id)s, %(kind)s, %(definition_id)s, %(engine)s, %(definition)s::json, %(input)s::json, %(limits)s::json,
     %(overrides)s::json, %(mode)s, %(priority)s, %(max_attempts)s, %(time_limit)s, %(memory_mb)s, %(concurrency)s, %(room_id)s,
     %(call_id)s, %(parent_id)s, %(parent_seq)s, %(origin_id)s, %(source_id)s, %(idempotency_key)s, coalesce(%(clock)s, now()))
ON CONFLICT (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
RETURNING {DETAIL}
"""
LIMIT = """
INSERT INTO auralink.usage_limits (user_id, scope, period, max_tokens, max_cost_usd, set_by)
VALUES (%s, 'run:' || %s::text, 'total', %s, %s, 'run') ON CONFLICT DO NOTHING
"""
LIVE_WORKERS = """
SELECT count(*) AS workers FROM procrastinate.procrastinate_workers WHERE last_heartbeat > now() - interval '1 minute'
"""
BY_KEY = f"SELECT {DETAIL} FROM auralink.runs WHERE idempotency_key = %s"
BY_ID = f"SELECT {DETAIL} FROM auralink.runs WHERE id = %s"
SOURCE = """
SELECT id, kind, definition_id, engine, definition, input, limits, overrides, priority, room_id, call_id, origin_id, clock, status,
       finished_at, time_limit, time_used
FROM auralink.runs WHERE id = %s
"""
DEPTH = """
WITH RECURSIVE chain (id, parent_id, depth) AS (
    SELECT id, parent_id, 1 FROM auralink.runs WHERE id = %(run)s
    UNION ALL
    SELECT r.id, r.parent_id, c.depth + 1 FROM chain c JOIN auralink.runs r ON r.id = c.parent_id WHERE c.depth < %(at_most)s
)
SELECT max(depth) AS depth FROM chain
"""
PAGE = f"""
SELECT {SUMMARY} FROM auralink.runs
WHERE (%(status)s::text IS NULL OR status = %(status)s) AND (%(kind)s::text IS NULL OR kind = %(kind)s)
  AND (%(definition_id)s::uuid IS NULL OR definition_id = %(definition_id)s)
  AND (%(at)s::timestamptz IS NULL OR (accepted_at, id) < (%(at)s, %(after)s::uuid))
ORDER BY accepted_at DESC, id DESC LIMIT %(limit)s
"""
COPY = """
INSERT INTO auralink.run_journal
    (run_id, seq, user_id, kind, label, key, occurrence, status, request, response, attempt, asked_in, owner, gateway_lease, began,
     done, started_at, finished_at)
SELECT %(target)s, seq, user_id, kind, label, key, occurrence, status, request, response, 0, 0, owner, gateway_lease, began, done,
       started_at, finished_at
FROM auralink.run_journal WHERE run_id = %(source)s AND seq <= %(upto)s AND status = 'done'
"""
COUNTERS = """
UPDATE auralink.runs SET last_seq = coalesce(j.seq, 0), tick = coalesce(j.tick, 0)
FROM (SELECT max(seq) AS seq, max(greatest(began, done)) AS tick FROM auralink.run_journal WHERE run_id = %(target)s) AS j
WHERE id = %(target)s
"""
ANSWER = "UPDATE auralink.run_journal SET response = %s::json WHERE run_id = %s AND seq = %s"
LAST_GOOD = """
SELECT coalesce(max(seq), 0) AS seq FROM auralink.run_journal WHERE run_id = %s AND status = 'done' AND response->'error' IS NULL
"""
LAST_ENTRY = "SELECT coalesce(max(seq), 0) AS seq FROM auralink.run_journal WHERE run_id = %s"
ENTRIES = """
SELECT seq, kind, label AS name, occurrence, status, attempt, request, response, tokens, cost_usd, started_at, finished_at
FROM auralink.run_journal WHERE run_id = %s AND seq > %s ORDER BY seq LIMIT %s
"""
EVENTS = "SELECT seq, type, data, at FROM auralink.run_events WHERE run_id = %s AND seq > %s ORDER BY seq LIMIT %s"
ENTRY = """
SELECT j.status, j.kind, j.request FROM auralink.run_journal j JOIN auralink.runs r ON r.id = j.run_id
WHERE j.run_id = %s AND j.seq = %s FOR NO KEY UPDATE OF r
"""
RETRY = """
UPDATE auralink.run_journal SET status = 'started', sent = false, gateway_lease = clock_timestamp() WHERE run_id = %s AND seq = %s
"""
HAPPENED = """
WITH run AS (UPDATE auralink.runs SET tick = tick + 1 WHERE id = %(run)s RETURNING tick)
UPDATE auralink.run_journal SET status = 'done', response = %(response)s::json, finished_at = clock_timestamp(),
    done = (SELECT tick FROM run)
WHERE run_id = %(run)s AND seq = %(seq)s
"""
RESUME_IF_KNOWN = """
SELECT auralink.requeue_run(%(run)s) WHERE NOT EXISTS (
    SELECT FROM auralink.run_journal WHERE run_id = %(run)s AND status = 'unknown')
"""


def json_of(value: Any) -> str:
    """A value as JSON text for a column of type json."""
    return orjson.dumps(value, default=str).decode()


async def insert_run(connection: Connection, values: Mapping[str, Any]) -> DictRow | None:
    """Inserts a run and wakes a worker; None if the user has a run of this idempotency key."""
    texts = {name: json_of(values[name]) for name in ("definition", "input", "limits", "overrides")}
    row = await (await connection.execute(INSERT, {**values, **texts})).fetchone()
    if row is not None:
        limits = values["limits"]
        if limits.get("tokens") is not None or limits.get("cost_usd") is not None:
            await connection.execute(LIMIT, [values["user_id"], values["id"], limits.get("tokens"), limits.get("cost_usd")])
    return row


async def wake_workers(connection: Connection, engine: str) -> None:
    """A wake-up job, in the transaction of the caller."""
    await connection.execute("SELECT auralink.wake_workers(%s)", [engine])


async def live_workers(connection: Connection) -> int:
    """How many workers hear the queue: those that have said so within the last minute, of all processes everywhere."""
    row = await (await connection.execute(LIVE_WORKERS)).fetchone()
    assert row is not None
    return int(row["workers"])


async def find_run(connection: Connection, run_id: UUID) -> DictRow | None:
    """One run of the tenant, in full."""
    return await (await connection.execute(BY_ID, [run_id])).fetchone()


async def find_run_by_key(connection: Connection, key: str) -> DictRow | None:
    """The run that was accepted under an idempotency key."""
    return await (await connection.execute(BY_KEY, [key])).fetchone()


async def find_source(connection: Connection, run_id: UUID) -> DictRow | None:
    """What another run is made from."""
    return await (await connection.execute(SOURCE, [run_id])).fetchone()


async def depth(connection: Connection, run_id: UUID, *, at_most: int) -> int:
    """How many runs there are from one up to that which somebody started, both counted; no more than `at_most` are looked at."""
    row = await (await connection.execute(DEPTH, {"run": run_id, "at_most": at_most})).fetchone()
    assert row is not None
    return int(row["depth"] or 0)


async def page(connection: Connection, chosen: Mapping[str, Any], *, after: Position | None, limit: int) -> list[DictRow]:
    """The tenant's runs, newest first."""
    at, row_id = after or (None, None)
    return await (await connection.execute(PAGE, {**chosen, "at": at, "after": row_id, "limit": limit})).fetchall()


async def cancel(connection: Connection, run_id: UUID) -> bool:
    """Cancels a run and its children; False if it has ended."""
    row = await (await connection.execute("SELECT auralink.cancel_run(%s) AS cancelled", [run_id])).fetchone()
    return bool(row and row["cancelled"])


async def copy_journal(connection: Connection, source: UUID, target: UUID, upto: int) -> None:
    """Gives a run the answered entries of another, up to a number; what it adds is numbered after them."""
    await connection.execute(COPY, {"source": source, "target": target, "upto": upto})
    await connection.execute(COUNTERS, {"target": target})


async def replace_answer(connection: Connection, run_id: UUID, seq: int, response: str) -> None:
    """Another answer to an entry."""
    await connection.execute(ANSWER, [response, run_id, seq])


async def last_good(connection: Connection, run_id: UUID) -> int:
    """The last entry that is an answer and no failure."""
    row = await (await connection.execute(LAST_GOOD, [run_id])).fetchone()
    assert row is not None
    return int(row["seq"])


async def last_entry(connection: Connection, run_id: UUID) -> int:
    """The number of the journal's last entry; 0 if it has none."""
    row = await (await connection.execute(LAST_ENTRY, [run_id])).fetchone()
    assert row is not None
    return int(row["seq"])


async def entries(connection: Connection, run_id: UUID, *, after: int, limit: int) -> list[DictRow]:
    """A run's journal, in order."""
    return await (await connection.execute(ENTRIES, [run_id, after, limit])).fetchall()


async def events(connection: Connection, run_id: UUID, *, after: int, limit: int) -> list[DictRow]:
    """A run's events, in order."""
    return await (await connection.execute(EVENTS, [run_id, after, limit], prepare=True)).fetchall()


async def find_entry(connection: Connection, run_id: UUID, seq: int) -> DictRow | None:
    """Status, kind and request of a journal entry; its run is locked until the transaction ends."""
    return await (await connection.execute(ENTRY, [run_id, seq])).fetchone()


async def retry_entry(connection: Connection, run_id: UUID, seq: int) -> None:
    """Lets the next attempt make the call."""
    await connection.execute(RETRY, [run_id, seq])


async def answer_entry(connection: Connection, run_id: UUID, seq: int, response: str) -> None:
    """Gives a call the answer that it had."""
    await connection.execute(HAPPENED, {"run": run_id, "seq": seq, "response": response})


async def resume_if_known(connection: Connection, run_id: UUID) -> None:
    """Queues the run again once no outcome of it is unknown."""
    await connection.execute(RESUME_IF_KNOWN, {"run": run_id})


# --- the worker's


async def engines_in_use(connection: Connection, names: Sequence[str]) -> list[str]:
    """Those of some engines that have had runs. In a transaction of the system."""
    query = "SELECT name FROM auralink.engines_in_use(%s) AS name"
    return [row["name"] for row in await (await connection.execute(query, [list(names)])).fetchall()]


async def claim(connection: Connection, worker: UUID, engines: Sequence[str], *, lease: float, per_user: int) -> DictRow | None:
    """Takes the next run, across tenants (`claim_run`)."""
    query = "SELECT * FROM auralink.claim_run(%s, %s, %s, %s)"
    return await (await connection.execute(query, [worker, list(engines), lease, per_user])).fetchone()


async def renew(connection: Connection, held: Mapping[UUID, int], lease: float) -> list[DictRow]:
    """Renews the leases of runs held with their attempts; those that are not held any more come back with the reason."""
    query = "SELECT run_id, status FROM auralink.renew_leases(%s, %s, %s)"
    return await (await connection.execute(query, [list(held), list(held.values()), lease])).fetchall()


async def reconcile(connection: Connection, max_losses: int) -> int:
    """Puts right what nobody else will, across tenants (`reconcile_runs`)."""
    row = await (await connection.execute("SELECT auralink.reconcile_runs(%s) AS put_right", [max_losses])).fetchone()
    assert row is not None
    return int(row["put_right"])


async def add_events(connection: Connection, run_id: UUID, attempt: int, said: Sequence[Mapping[str, Any]]) -> bool:
    """What an engine tells; False if its attempt is over."""
    query = "SELECT auralink.add_run_events(%s, %s, %s::json) AS added"
    row = await (await connection.execute(query, [run_id, attempt, json_of(said)])).fetchone()
    return bool(row and row["added"])


async def has_at_least(connection: Connection, table: str, count: int) -> bool:
    """Whether the tenant has so many rows of a table of definitions."""
    query = sql.SQL("SELECT count(*) AS found FROM (SELECT FROM auralink.{} LIMIT %s) AS rows").format(sql.Identifier(table))
    row = await (await connection.execute(query, [count])).fetchone()
    return bool(row and row["found"] >= count)


async def notify(connection: Connection, notices: Sequence[str]) -> None:
    """Says something to whoever follows runs."""
    await connection.execute("SELECT pg_notify(%s, notice) FROM unnest(%s::text[]) AS notice", [TOKENS, list(notices)])


async def announce_follower(connection: Connection, run_id: UUID) -> None:
    """Tells workers that a run is followed."""
    await connection.execute("SELECT pg_notify(%s, %s)", [CHANNEL, f"{FOLLOWED}:{run_id}"])


async def finish(connection: Connection, run_id: UUID, attempt: int, status: str, *, output: Any, error: Any) -> bool:
    """Ends a run; False if its attempt is over."""
    query = "SELECT auralink.finish_run(%s, %s, %s, %s::json, %s::json) AS finished"
    values = [run_id, attempt, status, json_of(output), None if error is None else json_of(error)]
    row = await (await connection.execute(query, values)).fetchone()
    return bool(row and row["finished"])


async def put_off(connection: Connection, run_id: UUID, attempt: int, error: Any, *, seconds: float, was_lost: bool) -> bool:
    """Lets a failed run be tried again after a while; False if its attempt is over."""
    query = "SELECT auralink.put_run_off(%s, %s, %s::json, %s, %s) AS put_off"
    row = await (await connection.execute(query, [run_id, attempt, json_of(error), seconds, was_lost])).fetchone()
    return bool(row and row["put_off"])


async def give_back(connection: Connection, held: Mapping[UUID, int]) -> None:
    """Queues a worker's runs again, across tenants, because the worker stops (`give_back_runs`)."""
    await connection.execute("SELECT auralink.give_back_runs(%s, %s)", [list(held), list(held.values())])


async def statistics(connection: Connection) -> list[DictRow]:
    """Runs by engine and status, over all users (`run_statistics`)."""
    return await (await connection.execute("SELECT * FROM auralink.run_statistics()")).fetchall()


async def is_current(connection: Connection, run_id: UUID, attempt: int) -> bool:
    """Whether an attempt is the one that is under way; if so, it is until the end of the transaction."""
    query = "SELECT 1 FROM auralink.runs WHERE id = %s AND attempt = %s AND status = 'running' FOR SHARE"
    return await (await connection.execute(query, [run_id, attempt])).fetchone() is not None


async def open_place(
    connection: Connection, user_id: UUID, run_id: UUID, attempt: int, code: bytes, seconds: float, deadline: float
) -> None:
    """A place for an attempt that works elsewhere, for who has the code of this hash."""
    query = """
    INSERT INTO auralink.runs_elsewhere (user_id, run_id, attempt, code, code_until, deadline)
    VALUES (%s, %s, %s, %s, clock_timestamp() + make_interval(secs => %s), %s)
    ON CONFLICT (run_id, attempt) DO UPDATE SET code = excluded.code, code_until = excluded.code_until, taken_at = NULL
    """
    await connection.execute(query, [user_id, run_id, attempt, code, seconds, deadline])


async def exchange_code(connection: Connection, code: bytes) -> DictRow | None:
    """The run whose current attempt a code is for; the code is used up."""
    return await (await connection.execute("SELECT * FROM auralink.exchange_engine_code(%s)", [code])).fetchone()


async def see_place(connection: Connection, run_id: UUID, attempt: int) -> bool:
    """Notes that an attempt elsewhere was heard of; False if there is none."""
    query = "UPDATE auralink.runs_elsewhere SET seen_at = clock_timestamp() WHERE run_id = %s AND attempt = %s RETURNING 1"
    return await (await connection.execute(query, [run_id, attempt])).fetchone() is not None


async def leave_outcome(connection: Connection, run_id: UUID, attempt: int, outcome: Mapping[str, Any]) -> None:
    """Keeps what came out of an attempt elsewhere, if nothing has yet."""
    query = """
    UPDATE auralink.runs_elsewhere SET outcome = coalesce(outcome, %s::json), seen_at = clock_timestamp()
    WHERE run_id = %s AND attempt = %s
    """
    await connection.execute(query, [json_of(outcome), run_id, attempt])


async def look_at_place(connection: Connection, run_id: UUID, attempt: int) -> DictRow | None:
    """An attempt elsewhere."""
    query = """
    SELECT taken_at IS NOT NULL AS taken, extract(epoch FROM clock_timestamp() - seen_at)::float8 AS silent, outcome
    FROM auralink.runs_elsewhere WHERE run_id = %s AND attempt = %s
    """
    return await (await connection.execute(query, [run_id, attempt])).fetchone()
