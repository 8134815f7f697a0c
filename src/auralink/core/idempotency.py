"""`Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a request that is repeated takes effect once.

The key is committed before the effect. Repeated later it gives the stored answer; while the first still runs, 409; if the
process that ran it died, `outcome_unknown`, because nobody can say whether the effect happened. Kept for 24 hours.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import uuid4

from fastapi import Request
from psycopg.rows import DictRow
from pydantic import BaseModel
from starlette.responses import Response

from auralink.core.db import Connection, Database, DatabaseUnavailable, Tenant
from auralink.core.errors import AuralinkError, Conflict, InvalidRequest, OutcomeUnknown
from auralink.core.http import JSONBytes, problem_of

HEADER = "idempotency-key"
REPLAYED = "Idempotency-Replayed"
LEASE_SECONDS = 30.0
MAX_KEY = 255
OWNER = uuid4()
"""This process: the owner of the keys that it runs."""

BEGIN = """
INSERT INTO auralink.idempotency_keys (user_id, key, request_hash, owner, lease_until)
VALUES (%(user)s, %(key)s, %(hash)s, %(owner)s, now() + make_interval(secs => %(lease)s))
ON CONFLICT (user_id, key) DO UPDATE
    SET request_hash = EXCLUDED.request_hash, owner = EXCLUDED.owner, lease_until = EXCLUDED.lease_until,
        status = NULL, response = NULL, created_at = now()
    WHERE idempotency_keys.created_at < now() - interval '24 hours'
RETURNING key
"""
FIND = "SELECT request_hash, status, response, lease_until < now() AS orphaned FROM auralink.idempotency_keys WHERE key = %s"
RENEW = "UPDATE auralink.idempotency_keys SET lease_until = now() + make_interval(secs => %s) WHERE key = %s AND status IS NULL"
FINISH = "UPDATE auralink.idempotency_keys SET status = %s, response = %s WHERE key = %s AND status IS NULL"
ABANDON = "DELETE FROM auralink.idempotency_keys WHERE key = %s AND status IS NULL"


class IdempotencyKeyReused(InvalidRequest):
    """The same key was used for another request."""

    code = "idempotency_key_reused"
    title = "Idempotency key reused"


class StillRunning(Conflict):
    """The first request with this key has not ended."""

    code = "request_in_progress"
    title = "Request in progress"


async def idempotently(db: Database, principal: Tenant, request: Request, run: Callable[[], Awaitable[Response]]) -> Response:
    """Runs `run` once for the request's `Idempotency-Key`; without the header, just runs it.

    The answer is stored, also an error after something may have happened; an error before that frees the key.

    Raises:
        IdempotencyKeyReused, StillRunning, OutcomeUnknown: as the module says.
    """
    key = request.headers.get(HEADER)
    if key is None:
        return await run()
    if not (1 <= len(key) <= MAX_KEY and key.isascii() and key.isprintable()):
        raise InvalidRequest(f"Idempotency-Key must be 1 to {MAX_KEY} printable ASCII characters")
    async with db.tenant(principal) as connection:
        stored = await _begin(connection, principal, key, await _hash(request))
    if stored is not None:
        return _replay(stored)
    return await _run_and_store(db, principal, key, run)


def in_place_of(first: Response, answer: Response) -> Response:
    """An answer that is made anew for a request each time, with what the one that was stored for its key says of repetition."""
    if REPLAYED in first.headers:
        answer.headers[REPLAYED] = first.headers[REPLAYED]
    return answer


async def once(
    request: Request, principal: Tenant, run: Callable[[], Awaitable[BaseModel | dict[str, Any]]], status: int = 200
) -> Response:
    """Runs a POST under its Idempotency-Key and renders what it returns."""

    async def answer() -> Response:
        body = await run()
        return JSONBytes(body.model_dump(mode="json") if isinstance(body, BaseModel) else body, status_code=status)

    return await idempotently(request.app.state.db, principal, request, answer)


async def _run_and_store(db: Database, principal: Tenant, key: str, run: Callable[[], Awaitable[Response]]) -> Response:
    """An end that tells nothing (cancelled, a mistake of ours) leaves the key: `outcome_unknown` once its lease is over."""
    try:
        async with _lease(db, principal, key):
            response = await run()
    except AuralinkError as error:
        if not getattr(error, "sent", False):
            await _write(db, principal, ABANDON, key)
            raise
        response = problem_of(error)
    await _write(db, principal, FINISH, response.status_code, bytes(response.body), key)
    return response


async def _write(db: Database, principal: Tenant, statement: str, *values: object) -> None:
    async with db.tenant(principal) as connection:
        await connection.execute(statement, values)


async def _begin(connection: Connection, principal: Tenant, key: str, request_hash: bytes) -> DictRow | None:
    values = {"user": principal.user_id, "key": key, "hash": request_hash, "owner": OWNER, "lease": LEASE_SECONDS}
    if await (await connection.execute(BEGIN, values)).fetchone():
        return None
    row = await (await connection.execute(FIND, [key])).fetchone()
    if row is None:
        raise StillRunning("another request with this Idempotency-Key is just ending; repeat it")
    if bytes(row["request_hash"]) != request_hash:
        raise IdempotencyKeyReused("this Idempotency-Key was used for another request; use a new one")
    return row


def _replay(row: DictRow) -> Response:
    if row["status"] is not None:
        media_type = "application/json" if row["status"] < 400 else "application/problem+json"
        return Response(bytes(row["response"]), row["status"], media_type=media_type, headers={REPLAYED: "true"})
    if row["orphaned"]:
        raise OutcomeUnknown(
            "the process that ran the first request with this Idempotency-Key died, and whether it took effect is not known; "
            "look (GET /api/v1/audit), then use a new key if you want it done"
        )
    raise StillRunning("the first request with this Idempotency-Key is still running; repeat this one later")


async def _hash(request: Request) -> bytes:
    head = f"{request.method} {request.url.path}?{request.url.query}\n".encode()
    return hashlib.sha256(head + await request.body()).digest()


@contextlib.asynccontextmanager
async def _lease(db: Database, principal: Tenant, key: str) -> AsyncIterator[None]:
    async def renew() -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            with contextlib.suppress(DatabaseUnavailable):  # it may be back before the lease is over
                await _renew(db, principal, key)

    task = asyncio.create_task(renew())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _renew(db: Database, principal: Tenant, key: str) -> None:
    await _write(db, principal, RENEW, LEASE_SECONDS, key)
