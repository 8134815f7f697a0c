"""Attempts that work on other machines: an engine gives its attempt away, and takes the outcome from here.

The engine opens a place for its attempt and gets a one-time code; whoever has the code exchanges it for the job, once. Then that place
says what happens, which also shows that it lives, and leaves the outcome. The outcome stands in our database before anything else
learns of it, so that neither the death of the place nor that of whatever runs there loses it. Everything but the exchange is
authorised by the run token of the attempt, and fenced by it.
"""

import hashlib
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from psycopg.rows import DictRow

from auralink.auth.principal import Principal
from auralink.auth.run_tokens import RunTokens
from auralink.core.db import Connection, Database
from auralink.core.errors import AuralinkError
from auralink.core.secret import Secret
from auralink.journal.errors import StaleAttempt
from auralink.runs import store

CODE_SECONDS = 24 * 3600.0
"""How long a code can be exchanged: the job may lie in another system's queue, but never for longer than its attempt is current."""
TOKEN_GRACE = 120.0


class CodeInvalid(AuralinkError):
    """The code is none of ours, has been exchanged, has expired, or its attempt is over."""

    code: ClassVar[str] = "engine_code_invalid"
    status: ClassVar[int] = 403
    title: ClassVar[str] = "Invalid engine code"


@dataclass(frozen=True)
class Elsewhere:
    """How an attempt does at its place: whether the job was fetched, when it was last heard of (seconds ago), what came out."""

    taken: bool
    silent: float | None
    outcome: dict[str, Any] | None


class Places:
    """The places of attempts that work elsewhere."""

    def __init__(self, db: Database, tokens: RunTokens) -> None:
        self._db = db
        self._tokens = tokens

    async def open(self, engine: Principal, deadline: float) -> Secret:
        """A one-time code for the engine's attempt; an earlier one is worthless then. Raises StaleAttempt."""
        run, attempt = _attempt_of(engine)
        code = secrets.token_urlsafe(32)
        async with self._db.tenant(engine) as connection:
            await _check_current(connection, engine)
            until = min(CODE_SECONDS, max(deadline - time.time(), 1.0))
            await store.open_place(connection, engine.user_id, run, attempt, _hash(code), until, deadline)
        return Secret(code)

    async def exchange(self, code: str) -> dict[str, Any]:
        """The job behind a code, with a run token: what an engine's `start` says, without the addresses. Raises CodeInvalid."""
        async with self._db.system() as connection:
            row = await store.exchange_code(connection, _hash(code))
        if row is None:
            raise CodeInvalid(
                "this code is not valid: it was used before, its time is over, or its attempt is; start the run again"
            )
        return self._job_of(row)

    async def hear(self, place: Principal, said: Sequence[Mapping[str, Any]]) -> None:
        """Takes events of the attempt, which may be none: then it is only alive. Raises StaleAttempt."""
        run, attempt = _attempt_of(place)
        async with self._db.tenant(place) as connection:
            if not (await store.see_place(connection, run, attempt) and await store.add_events(connection, run, attempt, said)):
                raise _stale(place)

    async def end(self, place: Principal, outcome: Mapping[str, Any]) -> None:
        """Takes the outcome; the first counts, so that saying it again after a lost answer changes nothing. Raises StaleAttempt."""
        run, attempt = _attempt_of(place)
        async with self._db.tenant(place) as connection:
            await _check_current(connection, place)
            await store.leave_outcome(connection, run, attempt, outcome)

    async def look(self, engine: Principal) -> Elsewhere:
        """How the engine's attempt does. Raises StaleAttempt."""
        run, attempt = _attempt_of(engine)
        async with self._db.tenant(engine) as connection:
            await _check_current(connection, engine)
            row = await store.look_at_place(connection, run, attempt)
        if row is None:
            raise _stale(engine)
        return Elsewhere(row["taken"], row["silent"], row["outcome"])

    def _job_of(self, row: DictRow) -> dict[str, Any]:
        left = max(row["deadline"] - time.time(), 1.0)
        token = self._tokens.issue(user_id=row["user_id"], run=row["run_id"], attempt=row["attempt"], seconds=left + TOKEN_GRACE)
        return {
            "run": str(row["run_id"]),
            "attempt": row["attempt"],
            "definition": row["definition"],
            "input": row["input"],
            "token": token.reveal(),
            "accepted_at": row["clock"].isoformat(),
            "deadline": row["deadline"],
            "memory_mb": row["memory_mb"],
            "origin": str(row["origin_id"]),
        }


async def _check_current(connection: Connection, principal: Principal) -> None:
    if not await store.is_current(connection, *_attempt_of(principal)):
        raise _stale(principal)


def _attempt_of(principal: Principal) -> tuple[Any, int]:
    assert principal.run is not None
    assert principal.attempt is not None
    return principal.run, principal.attempt


def _stale(principal: Principal) -> StaleAttempt:
    return StaleAttempt(f"attempt {principal.attempt} of run {principal.run} is over; nothing is taken from it")


def _hash(code: str) -> bytes:
    return hashlib.sha256(code.encode()).digest()
