"""A database as a user might bring it: the demo shop, on the tests' Postgres."""

from dataclasses import dataclass

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from auralink.core.secret import Secret
from auralink.servers.database.access import Access
from auralink.servers.database.demo import DATABASE, create_demo
from auralink.servers.database.service import Databases
from auralink.servers.database.session import Limits
from tests.conftest import Server

WRITER = "shop_owner"


@dataclass(frozen=True)
class Shop:
    """The demo shop and three roles: its reader, one that owns a schema of its own, and the superuser."""

    reader: Secret
    writer: Secret
    superuser: Secret


@pytest.fixture(scope="session")
def shop(postgres: Server) -> Shop:
    reader = create_demo(postgres.superuser)
    superuser = Secret(make_conninfo(postgres.superuser.reveal(), dbname=DATABASE))
    with psycopg.connect(superuser.reveal(), autocommit=True) as session:
        session.execute("DROP SCHEMA IF EXISTS work, supabase_migrations CASCADE")
        if not session.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [WRITER]).fetchone():
            session.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(WRITER)))
        session.execute(sql.SQL("ALTER ROLE {} PASSWORD 'writer'").format(sql.Identifier(WRITER)))
        session.execute(sql.SQL("ALTER ROLE {} SET search_path = work").format(sql.Identifier(WRITER)))
        session.execute(sql.SQL("CREATE SCHEMA work AUTHORIZATION {}").format(sql.Identifier(WRITER)))
        session.execute(sql.SQL("GRANT CONNECT, CREATE ON DATABASE {} TO {}").format(*map(sql.Identifier, (DATABASE, WRITER))))
    return Shop(reader, Secret(make_conninfo(superuser.reveal(), user=WRITER, password="writer")), superuser)


async def as_given(dsn: Secret) -> dict[str, str]:
    """A check that lets every DSN through, sockets included; the real one is `EgressGuard.check_dsn`."""
    return {key: str(value) for key, value in conninfo_to_dict(dsn.reveal()).items()}


@pytest.fixture
def reading() -> Databases:
    return Databases(as_given, limits=Limits(seconds=20))


@pytest.fixture
def writing() -> Databases:
    return Databases(as_given, read_only=False, limits=Limits(seconds=20))


@pytest.fixture
def reader(shop: Shop) -> Access:
    return Access(shop.reader)


@pytest.fixture
def writer(shop: Shop) -> Access:
    return Access(shop.writer, read_only=False)


@pytest.fixture
def superuser(shop: Shop) -> Access:
    return Access(shop.superuser)
