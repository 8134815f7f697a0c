"""On which database a call works, and what it may do there: set by whoever calls the server, beside the principal."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from psycopg.conninfo import conninfo_to_dict

from auralink.core.secret import Secret
from auralink.servers.database.errors import NoDatabase

CheckDsn = Callable[[Secret], Awaitable[dict[str, str]]]
"""Judges a DSN and returns what `psycopg.connect` takes, with the address pinned (`EgressGuard.check_dsn`)."""


@dataclass(frozen=True, slots=True)
class Access:
    """A database, and whether the connection's policy lets statements write to it."""

    dsn: Secret
    read_only: bool = True


_acting: ContextVar[Access] = ContextVar("database_access")


@contextmanager
def acting_on(access: Access) -> Iterator[Access]:
    """Makes `access` the one that `current_access()` returns within the block."""
    token = _acting.set(access)
    try:
        yield access
    finally:
        _acting.reset(token)


def current_access() -> Access:
    """The access of the current call.

    Raises:
        NoDatabase: the call came over a connection without a DSN.
    """
    try:
        return _acting.get()
    except LookupError:
        raise NoDatabase('this connection names no database; connect it with credentials {"dsn": "postgresql://…"}') from None


def trusting(dsn: Secret, check: CheckDsn) -> CheckDsn:
    """`check` for every DSN except one that the operator made (the demo's), which is taken as it is, sockets included."""

    async def checked(given: Secret) -> dict[str, str]:
        if given != dsn:
            return await check(given)
        return {key: str(value) for key, value in conninfo_to_dict(given.reveal()).items()}

    return checked
