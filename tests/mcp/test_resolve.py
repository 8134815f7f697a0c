"""What the resolver remembers, and that no change is missed: not while it reads, not while nobody listens."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from auralink.auth.principal import Principal
from auralink.core import changes as changes_module
from auralink.core.changes import Changes
from auralink.core.db import Connection, Database, Tenant
from auralink.core.ids import uuid7
from auralink.core.secret import Secret
from auralink.mcp import resolve as resolve_module
from auralink.mcp import store
from auralink.mcp.errors import ConnectionNotFound
from auralink.mcp.resolve import ConnectionResolver
from tests.conftest import MakePrincipal, TestDatabase, eventually


class Counting(Database):
    """A database that counts tenants' transactions, and can be held in the middle of one."""

    def __init__(self, dsn: Secret) -> None:
        super().__init__(dsn, min_size=1, max_size=4)
        self.transactions = 0
        self.read = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    @asynccontextmanager
    async def tenant(self, principal: Tenant) -> AsyncIterator[Connection]:
        self.transactions += 1
        async with super().tenant(principal) as connection:
            yield connection
        self.read.set()
        await self.go_on.wait()


@pytest.fixture
async def db(dsn: Secret) -> AsyncIterator[Counting]:
    made = Counting(dsn)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def resolver(db: Counting, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ConnectionResolver]:
    monkeypatch.setattr(changes_module, "RECONNECT_EVERY", 0.05)
    changes = Changes(db.dsn)
    made = ConnectionResolver(db, changes)
    await changes.open()
    await eventually(lambda: changes.listening)
    yield made
    await changes.close()


async def add(database: Database, principal: Principal, name: str = "mine") -> Any:
    """A connection to a custom server."""
    row = {
        "id": uuid7(),
        "user_id": principal.user_id,
        "server_id": None,
        "server_type": "custom",
        "status": "active",
        "name": name,
        "endpoint": "https://example.com/mcp",
        "policy": {},
        "encrypted_credentials": None,
        "protocol_version": "2026-07-28",
        "server_name": "x",
        "server_info": {},
        "capabilities": [],
    }
    async with Database.tenant(database, principal) as connection:
        await store.insert_connection(connection, row)
    return row["id"]


async def added(database: Database, resolver: ConnectionResolver, principal: Principal) -> Any:
    """A connection that the resolver has heard of."""
    heard = resolver._version
    connection_id = await add(database, principal)
    await eventually(lambda: resolver._version > heard)
    return connection_id


async def rename(database: Database, principal: Principal, connection_id: Any, name: str) -> None:
    """A change made by another process, as far as the resolver knows."""
    async with Database.tenant(database, principal) as connection:
        await store.patch_connection(connection, connection_id, name=name, policy=None)


async def test_it_reads_once_and_again_after_a_change(db: Counting, resolver: ConnectionResolver, principal: Principal) -> None:
    connection_id = await added(db, resolver, principal)
    await resolver.resolve(principal, "mine")
    before = db.transactions
    for _ in range(10):
        assert (await resolver.resolve(principal, "mine")).id == connection_id
    assert db.transactions == before
    await rename(db, principal, connection_id, "other")
    await eventually(lambda: not resolver._entries)
    assert (await resolver.resolve(principal, "other")).id == connection_id
    with pytest.raises(ConnectionNotFound):
        await resolver.resolve(principal, "mine")


async def test_what_was_read_before_a_change_is_not_remembered_after_it(
    db: Counting, resolver: ConnectionResolver, principal: Principal
) -> None:
    connection_id = await added(db, resolver, principal)
    db.go_on.clear()
    reading = asyncio.create_task(resolver.resolve(principal, "mine"))
    await db.read.wait()
    heard = resolver._version
    await rename(db, principal, connection_id, "other")
    await eventually(lambda: resolver._version > heard)
    db.go_on.set()
    await reading
    with pytest.raises(ConnectionNotFound):
        await resolver.resolve(principal, "mine")


async def test_nothing_is_remembered_while_nobody_listens(
    db: Counting, resolver: ConnectionResolver, principal: Principal, test_database: TestDatabase
) -> None:
    connection_id = await added(db, resolver, principal)
    await resolver.resolve(principal, "mine")
    elsewhere = make_conninfo(test_database.superuser.reveal(), dbname="postgres")
    async with await psycopg.AsyncConnection.connect(elsewhere, autocommit=True) as admin:
        await admin.execute("ALTER DATABASE " + test_database.name + " ALLOW_CONNECTIONS false")
        listeners = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'auralink listener'"
        await admin.execute(f"{listeners} AND datname = %s", [test_database.name])
        await eventually(lambda: not resolver._changes.listening)
        assert not resolver._entries
        for _ in range(3):
            before = db.transactions
            assert (await resolver.resolve(principal, connection_id)).id == connection_id
            assert db.transactions == before + 1
        await admin.execute("ALTER DATABASE " + test_database.name + " ALLOW_CONNECTIONS true")
    await eventually(lambda: resolver._changes.listening)
    await resolver.resolve(principal, connection_id)
    before = db.transactions
    await resolver.resolve(principal, connection_id)
    assert db.transactions == before


@pytest.mark.promise("P-RLS")
async def test_another_users_connection_is_not_found_by_name_or_id(
    db: Counting, resolver: ConnectionResolver, make_principal: MakePrincipal
) -> None:
    owner, stranger = make_principal(), make_principal()
    connection_id = await add(db, owner)
    assert (await resolver.resolve(owner, connection_id)).id == connection_id
    assert (await resolver.resolve(owner, "mine")).id == connection_id
    for reference in (connection_id, "mine", "mi\0ne", "", "A", "x" * 1000):
        with pytest.raises(ConnectionNotFound):
            await resolver.resolve(stranger, reference)


async def test_what_it_remembers_is_bounded(
    db: Counting, resolver: ConnectionResolver, principal: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolve_module, "MAX_ENTRIES", 2)
    for name in ("a", "b", "c"):
        await add(db, principal, name)
    for name in ("a", "b", "c", "a"):
        await resolver.resolve(principal, name)
        assert len(resolver._entries) <= 2
