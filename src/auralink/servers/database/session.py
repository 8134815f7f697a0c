"""One session with a user's database, for one call: opened, bounded, used, and thrown away.

The deadline is kept from outside: `within` runs the work beside a clock, asks the server to cancel when time is up, and cuts the
connection if that does not end it. Nothing here trusts the server at the other end.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection, generators
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.pq.abc import PGresult

from auralink.servers.database.access import Access, CheckDsn
from auralink.servers.database.errors import DatabaseUnreachable, ResultTooLarge, StatementFailed, StatementTimedOut
from auralink.servers.database.relay import Relay
from auralink.servers.database.values import parameter, to_json, type_name

CANCEL_GRACE = 2.0
"""Seconds that a server has to honour a cancel request."""
CHUNK_ROWS = 50
ELLIPSIS = "…"

T = TypeVar("T")

SETTINGS = """
SELECT set_config('statement_timeout', $1, true), set_config('lock_timeout', $2, true),
       set_config('idle_in_transaction_session_timeout', $1, true), set_config('standard_conforming_strings', 'on', true),
       set_config('DateStyle', 'ISO, YMD', true), set_config('IntervalStyle', 'iso_8601', true),
       set_config('bytea_output', 'hex', true), set_config('extra_float_digits', '1', true)
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call may take."""

    seconds: float = 15.0
    rows: int = 1000
    result_bytes: int = 256 * 1024
    """Of JSON values; what is over is left out and `truncated` is set."""
    cell_characters: int = 32 * 1024
    """A longer text is cut."""
    wire_bytes: int = 16 * 1024 * 1024
    """From the server, before anything is looked at; over it the call fails."""


@dataclass(slots=True)
class Result:
    """The rows of a statement as JSON objects."""

    columns: list[dict[str, str]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    truncated: bool = False
    command: str = ""
    """What Postgres says it did, such as `SELECT 5`; empty if it was stopped."""


class Session:
    """A transaction in a user's database."""

    def __init__(self, connection: AsyncConnection[Any], relay: Relay, limits: Limits) -> None:
        self._connection = connection
        self._relay = relay
        self._limits = limits
        self._read_only = True

    async def begin(self, *, read_only: bool) -> None:
        """Opens the transaction. The settings are its first query, after which it can no longer be made to write."""
        self._read_only = read_only
        await self.query("BEGIN TRANSACTION READ ONLY" if read_only else "BEGIN TRANSACTION READ WRITE")
        timeout = str(round(self._limits.seconds * 1000))
        await self.query(SETTINGS, [timeout, str(round(self._limits.seconds * 500))])

    async def commit(self) -> None:
        """Ends the transaction; a failed one has been rolled back and says so."""
        result = await self.query("COMMIT")
        if result.command != "COMMIT":
            raise StatementFailed("the transaction was rolled back")

    async def query(self, text: str, parameters: Sequence[Any] = ()) -> Result:
        """Sends one statement by the extended protocol and reads its rows up to the limits.

        Raises:
            StatementFailed: the server's error.
            ResultTooLarge: more came than may be read from the wire.
        """
        try:
            return await self._query(text, parameters)
        except psycopg.Error as error:
            if self._relay.exceeded:
                raise ResultTooLarge(
                    f"the result is larger than {self._limits.wire_bytes // 1024 // 1024} MiB; select fewer rows or columns, "
                    "shorten long values with left(), or aggregate"
                ) from None
            raise DatabaseUnreachable("the connection to the database was lost during the statement; try again") from error

    async def _query(self, text: str, parameters: Sequence[Any]) -> Result:
        pgconn = self._connection.pgconn
        reader = _Reader(self._limits)
        async with self._connection.lock:
            pgconn.send_query_params(text.encode(), [parameter(value) for value in parameters])
            pgconn.set_chunked_rows_mode(CHUNK_ROWS)
            await self._connection.wait(generators.send(pgconn))
            while (received := await self._connection.wait(generators.fetch(pgconn))) is not None:
                reader.take(received)
                if reader.full and self._read_only:
                    break
        return await self._with_type_names(reader.result, reader.unknown_types)

    async def _with_type_names(self, result: Result, unknown: set[int]) -> Result:
        """Names the types that do not come with Postgres, unless the result was cut off and the session is in use."""
        if unknown and not result.truncated:
            names = await self._query(
                "SELECT oid::int8, format_type(oid, NULL) FROM pg_catalog.pg_type WHERE oid = ANY($1)", [list(unknown)]
            )
            found = {str(row["oid"]): row["format_type"] for row in names.rows}
            for column in result.columns:
                column["type"] = found.get(column["type"], column["type"])
        return result

    async def cancel(self) -> None:
        """Asks the server, over a connection of its own, to stop what it does."""
        await self._connection.cancel_safe(timeout=CANCEL_GRACE)


class _Reader:
    """Turns results as they arrive into rows, up to the limits."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._bytes = 0
        self.result = Result()
        self.full = False
        self.unknown_types: set[int] = set()

    def take(self, received: PGresult) -> None:
        """Takes one result: a chunk of rows, the end, or an error."""
        if received.status == ExecStatus.FATAL_ERROR:
            raise failed(received)
        if received.status in (ExecStatus.COPY_IN, ExecStatus.COPY_OUT, ExecStatus.COPY_BOTH):
            raise StatementFailed("COPY is not possible here; use SELECT or INSERT")
        if not self.result.columns:
            self._take_columns(received)
        for row in range(received.ntuples):
            if self.full:
                break
            self._take_row(received, row)
        if received.command_status:  # with the last rows, or alone after them
            self.result.command = received.command_status.decode()

    def _take_columns(self, received: PGresult) -> None:
        taken: set[str] = set()
        for index in range(received.nfields):
            oid = received.ftype(index)
            name = type_name(oid)
            if name is None:
                self.unknown_types.add(oid)
            label = _distinct((received.fname(index) or b"").decode("utf-8", "replace"), taken)
            self.result.columns.append({"name": label, "type": name or str(oid)})

    def _take_row(self, received: PGresult, row: int) -> None:
        values: dict[str, Any] = {}
        size = 0
        for index, column in enumerate(self.result.columns):
            raw = received.get_value(row, index)
            if raw is None:
                values[column["name"]] = None
                continue
            text = raw.decode("utf-8", "replace")
            if len(text) > self._limits.cell_characters:
                values[column["name"]] = text[: self._limits.cell_characters] + ELLIPSIS
                self.result.truncated = True
            else:
                values[column["name"]] = to_json(text, received.ftype(index))
            size += min(len(raw), self._limits.cell_characters) + len(column["name"]) + 6
        self._bytes += size
        if len(self.result.rows) >= self._limits.rows or self._bytes > self._limits.result_bytes:
            self.full = self.result.truncated = True
        else:
            self.result.rows.append(values)


def failed(received: PGresult) -> StatementFailed:
    """The server's error, with its code, place and hint."""

    def say(part: DiagnosticField) -> str:
        return (received.error_field(part) or b"").decode("utf-8", "replace")[:2000]

    state, message = say(DiagnosticField.SQLSTATE), say(DiagnosticField.MESSAGE_PRIMARY)
    details = [f"{label}: {text}" for label, part in _DETAILS if (text := say(part))]
    return StatementFailed(
        "; ".join([f"{message or 'the statement failed'} (SQLSTATE {state})", *details]), extra={"sqlstate": state}
    )


_DETAILS = (
    ("detail", DiagnosticField.MESSAGE_DETAIL),
    ("hint", DiagnosticField.MESSAGE_HINT),
    ("at character", DiagnosticField.STATEMENT_POSITION),
)


async def within(
    access: Access, check: CheckDsn, limits: Limits, work: Callable[[Session], Awaitable[T]], *, read_only: bool
) -> T:
    """Runs `work` in a transaction of a fresh session, and ends both when it is done, when it fails and when time is up.

    Raises:
        StatementTimedOut, DatabaseUnreachable: and what `work` and `check` raise.
    """
    kwargs = await check(access.dsn)
    address, port = _address(kwargs)
    async with Relay(address, port, max_bytes=limits.wire_bytes) as relay:
        running: list[Session] = []
        task = asyncio.create_task(_run(_through(relay, kwargs), relay, limits, work, running, read_only=read_only))
        try:
            done, _ = await asyncio.wait({task}, timeout=limits.seconds)
        finally:
            if not task.done():
                await _stop(task, running, relay)
        if not done:
            raise StatementTimedOut(
                f"the statement took longer than {limits.seconds:g} s and was cancelled; narrow it down, "
                "add an index, or look at its plan with EXPLAIN"
            )
        return task.result()


async def _run(
    kwargs: dict[str, Any],
    relay: Relay,
    limits: Limits,
    work: Callable[[Session], Awaitable[T]],
    running: list[Session],
    *,
    read_only: bool,
) -> T:
    async with _connected(kwargs) as connection:
        session = Session(connection, relay, limits)
        running.append(session)
        await session.begin(read_only=read_only)
        result = await work(session)
        if not read_only:
            await session.commit()
        return result


async def _stop(task: "asyncio.Task[Any]", running: list[Session], relay: Relay) -> None:
    """Ends the work, however the server behaves: asks it to cancel, then cuts the wire."""
    if running:
        cancelling = asyncio.create_task(running[0].cancel())
        await asyncio.wait({task}, timeout=CANCEL_GRACE)
        cancelling.cancel()
        await asyncio.gather(cancelling, return_exceptions=True)
    relay.cut()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def _connected(kwargs: dict[str, Any]) -> AsyncIterator[AsyncConnection[Any]]:
    try:
        connection = await AsyncConnection.connect(**kwargs, autocommit=True)
    except psycopg.OperationalError as error:
        raise DatabaseUnreachable(f"the database refused the connection: {_reason(error)}") from None
    try:
        yield connection
    finally:
        connection.pgconn.finish()


def _address(kwargs: dict[str, str]) -> tuple[str, int]:
    """The checked address to relay to: `hostaddr`, or the socket of a DSN that the operator made."""
    port = kwargs.get("port", "5432")
    if hostaddr := kwargs.get("hostaddr"):
        return hostaddr, int(port)
    host = kwargs["host"]
    return (f"{host}/.s.PGSQL.{port}" if host.startswith("/") else host), int(port)


def _through(relay: Relay, kwargs: dict[str, str]) -> dict[str, Any]:
    """The connection's arguments, led through the relay. The host's name stays, for TLS to verify."""
    host = kwargs.get("host", "")
    local = {"host": "localhost", "sslmode": "disable"} if host.startswith("/") else {}
    client_encoding = {"client_encoding": "UTF8"}
    return {**kwargs, **local, **client_encoding, "hostaddr": "127.0.0.1", "port": str(relay.port)}


def _reason(error: psycopg.OperationalError) -> str:
    """libpq's reason without the relay's address before it."""
    first = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
    return first.rpartition(" failed: ")[2] or "it does not answer; check host, port and whether it is reachable from here"


def _distinct(name: str, taken: set[str]) -> str:
    """A name that no other column has: `id`, then `id_2`, …"""
    label, number = name, 1
    while label in taken:
        number += 1
        label = f"{name}_{number}"
    taken.add(label)
    return label
