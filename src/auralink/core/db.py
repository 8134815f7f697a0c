"""The database as the service sees it: a pool whose every transaction is bound to a tenant.

`Database.tenant(principal)` is the only way to a cursor at run time. It opens a transaction, takes the role `auralink_service`
and sets `app.current_user_id` locally, in one round trip; row level security does the rest (P-RLS). What crosses tenants are a
few `SECURITY DEFINER` functions in the migrations, called inside `Database.system()`, a transaction with no tenant.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol
from uuid import UUID

from psycopg import AsyncConnection, DataError, Error, OperationalError, ProgrammingError
from psycopg.errors import CharacterNotInRepertoire, UntranslatableCharacter
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from auralink.core.errors import AuralinkError, InvalidRequest
from auralink.core.secret import Secret

POOL_TIMEOUT = 5.0
"""Seconds a caller waits for a free connection before it is told that the database is busy."""

CONNECT_TIMEOUT = 5
"""Seconds for the first connection, which the pool itself would try for without saying why it fails."""

Connection = AsyncConnection[DictRow]


def one_line(error: Exception) -> str:
    """What an error of Postgres or libpq says, without its line breaks and hints."""
    return " ".join(str(error).split("\nHINT:")[0].split())


def why_unreachable(error: Error, dsn: Secret) -> str:
    """Why a connection could not be made, without what libpq quotes of the address: a password in it may be part of that."""
    if isinstance(error, ProgrammingError):
        return "its address is not of the form postgresql://user:password@host:port/database"
    password = dsn.reveal().partition("://")[2].rpartition("@")[0].partition(":")[2]
    text = one_line(error)
    for piece in filter(None, password.split("@")):
        text = text.replace(piece, "***")
    return text


class DatabaseUnavailable(AuralinkError):
    """Postgres cannot be reached or has no free connection."""

    code = "database_unavailable"
    status = 503
    title = "Database unavailable"


class Tenant(Protocol):
    """Whoever owns rows: anything with a `user_id` (in practice a `Principal`)."""

    @property
    def user_id(self) -> UUID: ...


class Database:
    """A psycopg pool that hands out transactions bound to a tenant."""

    def __init__(self, dsn: Secret, *, min_size: int = 2, max_size: int = 16) -> None:
        self.dsn = dsn
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            dsn.reveal(),
            min_size=min_size,
            max_size=max_size,
            timeout=POOL_TIMEOUT,
            open=False,
            connection_class=AsyncConnection[DictRow],
            kwargs={"row_factory": dict_row, "autocommit": True, "application_name": "auralink"},
            check=AsyncConnectionPool.check_connection,
        )

    async def open(self) -> None:
        """Opens the pool and waits for its first connections.

        Raises:
            DatabaseUnavailable: there are none in time; the message says why.
        """
        try:
            await (await AsyncConnection.connect(self.dsn.reveal(), connect_timeout=CONNECT_TIMEOUT)).close()
            await self._pool.open(wait=True, timeout=POOL_TIMEOUT)
        except Error as error:
            raise DatabaseUnavailable(f"the database cannot be reached: {why_unreachable(error, self.dsn)}") from error

    async def close(self) -> None:
        """Closes every connection; calls under way fail."""
        await self._pool.close()

    def stats(self) -> dict[str, int]:
        """Figures of the pool, by psycopg's names (`pool_size`, `pool_available`, `requests_waiting`, …)."""
        return dict(self._pool.get_stats())

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """An autocommit connection from the pool, bound to nobody.

        Raises:
            DatabaseUnavailable: there is none, or it broke.
            InvalidRequest: text was given that Postgres cannot hold (NUL).
        """
        try:
            async with self._pool.connection() as connection:
                yield connection
        except OperationalError as error:
            raise DatabaseUnavailable(f"the database does not answer: {one_line(error)}; try again shortly") from error
        except DataError as error:
            if type(error) is DataError or isinstance(error, UntranslatableCharacter | CharacterNotInRepertoire):
                raise InvalidRequest(f"a value of the request cannot be stored: {one_line(error)}") from error
            raise

    @asynccontextmanager
    async def tenant(self, principal: Tenant) -> AsyncIterator[Connection]:
        """A transaction that sees and writes the rows of `principal` and of nobody else."""
        async with self.connection() as connection, connection.pipeline(), connection.transaction():
            await bind_tenant(connection, principal.user_id)
            yield connection

    @asynccontextmanager
    async def system(self) -> AsyncIterator[Connection]:
        """A transaction without a tenant: it sees the shared tables and may call the `SECURITY DEFINER` functions."""
        async with self.connection() as connection, connection.pipeline(), connection.transaction():
            await connection.execute("SET LOCAL ROLE auralink_service")
            yield connection


async def bind_tenant(connection: Connection, user_id: UUID) -> None:
    """Binds the current transaction to a tenant (role and `app.current_user_id`, both local to it)."""
    await connection.execute(
        "SELECT set_config('role', 'auralink_service', true), set_config('app.current_user_id', %s, true)",
        [str(user_id)],
    )
