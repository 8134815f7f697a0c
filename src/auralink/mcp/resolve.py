"""Which connection a name or id means for a user, from memory when it can be.

Entries live at most 30 s and are dropped as soon as Postgres announces a change. While the listener is not connected the cache
is empty and bypassed, since a change could be missed; what was read before a change was announced is not remembered after it.
"""

import asyncio
import time
from collections.abc import Callable
from uuid import UUID

import psycopg
import structlog
from psycopg.rows import DictRow

from auralink.auth.principal import Principal
from auralink.core.db import Database
from auralink.core.secret import Secret
from auralink.mcp import naming, store
from auralink.mcp.errors import ConnectionNotFound
from auralink.mcp.schemas import ConnectionRecord

log = structlog.get_logger(__name__)

MAX_AGE = 30.0
MAX_ENTRIES = 10_000
RECONNECT_EVERY = 1.0
CHANNEL = "auralink_changed"


class ConnectionResolver:
    """Loads connections under the principal's row level security and remembers them."""

    def __init__(self, db: Database, announce: Callable[[UUID | None], None] = lambda _: None) -> None:
        """`announce` is told whose connections have changed (None: anybody's)."""
        self._db = db
        self._announce = announce
        self.on_pins_changed: Callable[[], None] = lambda: None
        self._entries: dict[tuple[UUID, str | UUID], tuple[float, ConnectionRecord]] = {}
        self._listening = False
        self._changes = 0
        self._listener: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Starts listening for changes."""
        self._listener = asyncio.create_task(self._listen(self._db.dsn), name="change listener")

    async def close(self) -> None:
        """Stops listening."""
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)

    @property
    def version(self) -> int | None:
        """What was read from the database at one version holds as long as that is the version; None while nothing holds."""
        return self._changes if self._listening else None

    async def resolve(self, principal: Principal, reference: str | UUID) -> ConnectionRecord:
        """The user's connection of that name or id.

        Raises:
            ConnectionNotFound: the user has none, or it is disconnected, or its server is switched off.
        """
        key = (principal.user_id, reference)
        entry = self._entries.get(key)
        if entry is not None and entry[0] > time.monotonic():
            return entry[1]
        changes = self._changes
        row = await self._find(principal, reference)
        if row is None:
            raise ConnectionNotFound(
                f"you have no open connection {str(reference)!r}; GET /api/v1/mcp/connections lists yours, "
                "POST /api/v1/mcp/connect adds one"
            )
        record = store.record_of(row)
        if self._listening and self._changes == changes:
            self._remember(key, record)
        return record

    async def _find(self, principal: Principal, reference: str | UUID) -> DictRow | None:
        if isinstance(reference, str) and not naming.is_connection_name(reference):
            return None
        async with self._db.tenant(principal) as connection:
            if isinstance(reference, UUID):
                return await store.find_connection(connection, connection_id=reference)
            return await store.find_connection(connection, name=reference)

    def forget(self, connection_id: UUID) -> None:
        """Drops what is known of a connection; for a change made in this process, which need not wait for its own notice."""
        self._changes += 1
        self._entries = {key: entry for key, entry in self._entries.items() if entry[1].id != connection_id}

    def _remember(self, key: tuple[UUID, str | UUID], record: ConnectionRecord) -> None:
        if len(self._entries) >= MAX_ENTRIES:
            self._entries.clear()
        self._entries[key] = (time.monotonic() + MAX_AGE, record)

    async def _listen(self, dsn: Secret) -> None:
        while True:
            try:
                await self._follow(dsn)
            except psycopg.Error as error:
                log.warning("change listener lost; connections are read from the database", reason=str(error).strip())
            finally:
                self._listening = False
                self._changes += 1
                self._entries.clear()
            await asyncio.sleep(RECONNECT_EVERY)

    async def _follow(self, dsn: Secret) -> None:
        connection = await psycopg.AsyncConnection.connect(
            dsn.reveal(), autocommit=True, connect_timeout=5, application_name="auralink listener"
        )
        async with connection:
            await connection.execute(f"LISTEN {CHANNEL}")
            self._listening = True
            async for notice in connection.notifies():
                table, row_id, *user_id = notice.payload.split(":")
                if table == "user_mcp_connections":
                    self.forget(UUID(row_id))
                elif table == "tool_pins":
                    self.on_pins_changed()
                else:
                    self._changes += 1
                    self._entries.clear()
                self._announce(UUID(user_id[0]) if user_id else None)
