"""`Idempotency-Key`: a repeated request takes effect once, and when nobody can say whether it did, nobody pretends to."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import psycopg
import pytest
from fastapi import Request, Response

from auralink.audit.group_commit import AuditUnavailable
from auralink.auth.principal import Principal
from auralink.core import idempotency as module
from auralink.core.db import Database, DatabaseUnavailable
from auralink.core.errors import AuralinkError, InvalidRequest, NotFound, OutcomeUnknown
from auralink.core.http import JSONBytes
from auralink.core.idempotency import IdempotencyKeyReused, StillRunning, idempotently
from auralink.mcp.operations import ToolFailed
from auralink.mcp.upstream.errors import UpstreamClosed
from tests.conftest import MakePrincipal, TestDatabase

Run = Callable[[], Awaitable[Response]]
ORPHAN = "UPDATE auralink.idempotency_keys SET lease_until = now() - interval '1 second'"


def request(body: bytes = b"{}", *, key: str | None = "key", path: str = "/thing", query: bytes = b"") -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [] if key is None else [(b"idempotency-key", key.encode("latin-1"))]
    scope = {"type": "http", "method": "POST", "path": path, "query_string": query, "headers": headers, "server": ("x", 80)}
    return Request({**scope, "scheme": "http"}, receive)


class Effect:
    """Something that happens, and how often it has."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.times = 0
        self.error = error
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def __call__(self) -> Response:
        self.times += 1
        await self.may_end.wait()
        if self.error is not None:
            raise self.error
        return JSONBytes({"times": self.times}, status_code=201)


def execute(database: TestDatabase, statement: str) -> None:
    with psycopg.connect(database.superuser.reveal(), autocommit=True) as session:
        session.execute(statement.encode())


async def test_without_a_key_each_request_takes_effect(database: Database, principal: Principal) -> None:
    effect = Effect()
    for _ in range(2):
        await idempotently(database, principal, request(key=None), effect)
    assert effect.times == 2


async def test_a_repeated_request_gives_the_first_answer_and_takes_no_effect(database: Database, principal: Principal) -> None:
    effect = Effect()
    first = await idempotently(database, principal, request(), effect)
    again = await idempotently(database, principal, request(), effect)
    assert effect.times == 1
    assert (again.status_code, bytes(again.body)) == (first.status_code, bytes(first.body)) == (201, b'{"times":1}')
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    "other", [request(b'{"a":1}'), request(path="/other"), request(query=b"a=1")], ids=["body", "path", "query"]
)
async def test_the_same_key_for_another_request_is_refused(database: Database, principal: Principal, other: Request) -> None:
    await idempotently(database, principal, request(), Effect())
    with pytest.raises(IdempotencyKeyReused) as caught:
        await idempotently(database, principal, other, Effect())
    assert (caught.value.status, caught.value.code) == (422, "idempotency_key_reused")


async def test_two_users_may_use_the_same_key(database: Database, make_principal: MakePrincipal) -> None:
    effect = Effect()
    for _ in range(2):
        await idempotently(database, make_principal(), request(), effect)
    assert effect.times == 2


async def test_while_the_first_runs_a_repeat_is_a_conflict(database: Database, principal: Principal) -> None:
    effect = Effect()
    effect.may_end.clear()
    first = asyncio.create_task(idempotently(database, principal, request(), effect))
    while not effect.times:
        await asyncio.sleep(0.005)
    with pytest.raises(StillRunning) as caught:
        await idempotently(database, principal, request(), effect)
    assert (caught.value.status, caught.value.code) == (409, "request_in_progress")
    effect.may_end.set()
    assert (await first).status_code == 201
    assert effect.times == 1


async def test_of_many_at_once_one_takes_effect(database: Database, principal: Principal) -> None:
    effect = Effect()
    runs = (idempotently(database, principal, request(), effect) for _ in range(8))
    answers = await asyncio.gather(*runs, return_exceptions=True)
    assert effect.times == 1
    assert {type(answer) for answer in answers} <= {JSONBytes, Response, StillRunning}


async def test_after_the_process_has_died_the_outcome_is_said_to_be_unknown(
    database: Database, principal: Principal, test_database: TestDatabase
) -> None:
    async with database.tenant(principal) as connection:
        values = {
            "user": principal.user_id,
            "key": "key",
            "hash": await module._hash(request()),
            "owner": module.OWNER,
            "lease": 30,
        }
        await connection.execute(module.BEGIN, values)
    with pytest.raises(StillRunning):
        await idempotently(database, principal, request(), Effect())
    execute(test_database, ORPHAN)
    effect = Effect()
    with pytest.raises(OutcomeUnknown) as caught:
        await idempotently(database, principal, request(), effect)
    assert (caught.value.status, caught.value.code, effect.times) == (409, "outcome_unknown", 0)


async def test_an_error_before_anything_was_sent_frees_the_key(database: Database, principal: Principal) -> None:
    with pytest.raises(NotFound):
        await idempotently(database, principal, request(), Effect(NotFound("no such thing")))
    assert (await idempotently(database, principal, request(), Effect())).status_code == 201


@pytest.mark.parametrize(
    "error",
    [
        UpstreamClosed("the server closed the connection", sent=True),
        AuditUnavailable("carried out but not recorded"),
        ToolFailed("the tool reported an error"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_an_error_after_something_may_have_happened_is_the_answer_from_then_on(
    database: Database, principal: Principal, error: AuralinkError
) -> None:
    effect = Effect(error)
    first = await idempotently(database, principal, request(), effect)
    again = await idempotently(database, principal, request(), effect)
    assert effect.times == 1
    assert first.status_code == again.status_code == error.status
    assert orjson.loads(again.body)["code"] == error.code
    assert again.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("error", [asyncio.CancelledError(), RuntimeError("a mistake of ours")], ids=["cancelled", "mistake"])
async def test_an_end_that_tells_nothing_leaves_the_outcome_unknown(
    database: Database, principal: Principal, test_database: TestDatabase, error: BaseException
) -> None:
    with pytest.raises(type(error)):
        await idempotently(database, principal, request(), Effect(error))
    execute(test_database, ORPHAN)
    effect = Effect()
    with pytest.raises(OutcomeUnknown):
        await idempotently(database, principal, request(), effect)
    assert effect.times == 0


async def test_the_lease_of_a_long_request_is_renewed_even_if_the_database_was_away_for_a_moment(
    database: Database, principal: Principal, test_database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEASE_SECONDS", 0.3)
    effect, renewals, real = Effect(), 0, module._renew

    async def fail_once(*values: Any) -> None:
        nonlocal renewals
        renewals += 1
        if renewals == 1:
            raise DatabaseUnavailable("away")
        await real(*values)

    monkeypatch.setattr(module, "_renew", fail_once)
    effect.may_end.clear()
    first = asyncio.create_task(idempotently(database, principal, request(), effect))
    async with asyncio.timeout(10):
        while renewals < 5:
            await asyncio.sleep(0.005)
    with pytest.raises(StillRunning):
        await idempotently(database, principal, request(), effect)
    effect.may_end.set()
    assert (await first).status_code == 201


async def test_a_key_is_forgotten_after_a_day(database: Database, principal: Principal, test_database: TestDatabase) -> None:
    effect = Effect()
    await idempotently(database, principal, request(), effect)
    execute(test_database, "UPDATE auralink.idempotency_keys SET created_at = now() - interval '25 hours'")
    await idempotently(database, principal, request(b'{"another": 1}'), effect)
    assert effect.times == 2
    execute(test_database, "UPDATE auralink.idempotency_keys SET created_at = now() - interval '25 hours'")
    async with database.system() as connection:
        row = await (await connection.execute("SELECT auralink.forget_idempotency_keys() AS n")).fetchone()
    assert row == {"n": 1}


@pytest.mark.parametrize("key", ["", "k" * 256, "a\x00b", "schlüssel", "tab\there"])
async def test_a_key_that_is_no_short_plain_string_is_refused(database: Database, principal: Principal, key: str) -> None:
    effect = Effect()
    with pytest.raises(InvalidRequest, match="Idempotency-Key"):
        await idempotently(database, principal, request(key=key), effect)
    assert effect.times == 0
