"""Which connection a name or id means for a user, from memory when it can be.

Entries live at most 30 s and are dropped as soon as Postgres announces a change. While the listener is not connected the cache
is empty and bypassed, since a change could be missed; what was read before a change was announced is not remembered after it.
"""

import time
from collections.abc import Callable
from uuid import UUID

from psycopg.rows import DictRow

from auralink.auth.principal import Principal
from auralink.core.changes import Change, Changes
from auralink.core.db import Database
from auralink.mcp import naming, store
from auralink.mcp.errors import ConnectionNotFound
from auralink.mcp.schemas import ConnectionRecord

MAX_AGE = 30.0
MAX_ENTRIES = 10_000
TABLES = frozenset({"mcp_servers", "mcp_toolsets"})
"""Beside the connections themselves, what says to which tools a name leads."""


class ConnectionResolver:
    """Loads connections under the principal's row level security and remembers them."""

    def __init__(self, db: Database, changes: Changes, announce: Callable[[UUID | None], None] = lambda _: None) -> None:
        """`announce` is told whose connections have changed (None: anybody's)."""
        self._db = db
        self._changes = changes
        self._announce = announce
        self._entries: dict[tuple[UUID, str | UUID], tuple[float, ConnectionRecord]] = {}
        self._version = 0
        changes.subscribe(self)

    @property
    def version(self) -> int | None:
        """What was read from the database at one version holds as long as that is the version; None while nothing holds."""
        return self._version if self._changes.listening else None

    def changed(self, change: Change) -> None:
        """Drops what a change makes untrue."""
        if change.table == "user_mcp_connections":
            self.forget(change.row_id)
        elif change.table in TABLES:
            self.lost()
        if change.table in TABLES or change.table in ("user_mcp_connections", "tool_pins"):
            self._announce(change.user_id)

    def lost(self) -> None:
        """Drops everything."""
        self._version += 1
        self._entries.clear()

    async def resolve(self, principal: Principal, reference: str | UUID) -> ConnectionRecord:
        """The user's connection of that name or id.

        Raises:
            ConnectionNotFound: the user has none, or it is disconnected, or its server is switched off.
        """
        key = (principal.user_id, reference)
        entry = self._entries.get(key)
        if entry is not None and entry[0] > time.monotonic():
            return entry[1]
        version = self._version
        row = await self._find(principal, reference)
        if row is None:
            raise ConnectionNotFound(
                f"you have no open connection {str(reference)!r}; GET /api/v1/mcp/connections lists yours, "
                "POST /api/v1/mcp/connect adds one"
            )
        record = store.record_of(row)
        if self.version == version:
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
        self._version += 1
        self._entries = {key: entry for key, entry in self._entries.items() if entry[1].id != connection_id}

    def _remember(self, key: tuple[UUID, str | UUID], record: ConnectionRecord) -> None:
        if len(self._entries) >= MAX_ENTRIES:
            self._entries.clear()
        self._entries[key] = (time.monotonic() + MAX_AGE, record)
