"""What all tests share: a real Postgres, a migrated database of one's own, principals, and the service as an application.

The Postgres is an embedded cluster in memory, one for each test worker, or, with `TEST_DATABASE_SUPERUSER_URL`,
a server of the operator's. A template database is migrated once; each test that asks for `dsn` gets a clone of it.
"""

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from auralink.auth.principal import Principal, Role, user_id_of
from auralink.core import embedded_postgres as embedded
from auralink.core.db import Database
from auralink.core.migrate import migrate
from auralink.core.secret import Secret
from auralink.vault.crypto import KeyRing, generate_master_key
from auralink.vault.service import Vault
from tests.places import scratched

ISSUER = "auralink"
TEMPLATE = "auralink_template"


REQUIRED_PROGRAMS = {"needs_node": ("node", "npm"), "needs_redis": ("redis-server",)}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips a test whose programs are not installed, and says so; in CI that is a failure."""
    for marker, programs in REQUIRED_PROGRAMS.items():
        missing = [program for program in programs if shutil.which(program) is None]
        if item.get_closest_marker(marker) and missing:
            reason = f"{', '.join(missing)} is not installed"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)


HERE = Path(__file__).parent
LONGEST = tuple(
    HERE / name
    for name in (
        "chaos/test_chaos.py",
        "servers/test_inspector.py",
        "llm/test_budgets.py",
        "teams/test_autogen_running.py",
        "teams/test_crewai_running.py",
        "engines/test_prefect_server.py",
        "engines/test_prefect.py",
        "engines/test_flow_templates.py",
        "engines/test_silence.py",
        "engines/test_crewai.py",
        "engines/test_autogen.py",
        "mcp/test_eras.py",
        "test_serving.py",
        "mcp/test_conformance.py",
        "mcp/downstream/test_listening.py",
        "isolation/test_http_matrix.py",
        "core/test_embedded_postgres.py",
        "test_cli_runs.py",
        "mcp/oauth/test_refresh.py",
        "workflows/test_interrupted_runs.py",
        "mcp/test_federation.py",
    )
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the files that take longest first: one that began last would be waited for alone."""
    place = {path: at for at, path in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@dataclass(frozen=True)
class Server:
    """A Postgres with the roles of AuraLink and a migrated template database."""

    superuser: Secret
    passwords: embedded.Passwords
    template: str

    def dsn(self, login: embedded.Login, database: str) -> Secret:
        """The address of a database as one of the three logins."""
        if login == "superuser":
            return Secret(make_conninfo(self.superuser.reveal(), dbname=database))
        user = {"service": "auralink_app", "owner": "auralink_owner"}[login]
        return Secret(
            make_conninfo(self.superuser.reveal(), dbname=database, user=user, password=self.passwords.of(login).reveal())
        )


@dataclass(frozen=True)
class TestDatabase:
    """One test's own database."""

    __test__ = False
    name: str
    service: Secret
    owner: Secret
    superuser: Secret


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A running Postgres with a migrated template database."""
    if external := os.environ.get("TEST_DATABASE_SUPERUSER_URL"):
        yield _external(Secret(external))
        return
    with scratched() as place:
        try:
            cluster = embedded.start(place / "data", tcp_port=free_port())
            superuser = cluster.dsn("superuser", database="postgres", tcp=True)
            yield _with_template(superuser, cluster.passwords, TEMPLATE)
        finally:
            embedded.stop(place / "data")


def free_port() -> int:
    """A port that nothing listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _external(superuser: Secret) -> Server:
    """Workers of one run share the server: the passwords follow from the run's id, so that all set the same."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", "alone")
    passwords = embedded.Passwords(*(Secret(f"{run}-{login}") for login in ("service", "owner", "superuser")))
    embedded.bootstrap_roles(superuser, passwords)
    return _with_template(superuser, passwords, f"auralink_template_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}")


def _with_template(superuser: Secret, passwords: embedded.Passwords, template: str) -> Server:
    server = Server(superuser, passwords, template)
    with psycopg.connect(superuser.reveal(), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(template)))
    embedded.create_database(superuser, template)
    migrate(server.dsn("owner", template))
    return server


@pytest.fixture
def test_database(postgres: Server) -> Iterator[TestDatabase]:
    """A migrated, empty database of the test's own."""
    name = f"test_{uuid4().hex}"
    embedded.create_database(postgres.superuser, name, template=postgres.template)
    yield TestDatabase(name, *(postgres.dsn(login, name) for login in ("service", "owner", "superuser")))
    with suppress(psycopg.OperationalError), psycopg.connect(postgres.superuser.reveal(), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def dsn(test_database: TestDatabase) -> Secret:
    """The service's address of the test's database."""
    return test_database.service


@pytest.fixture
async def database(dsn: Secret) -> AsyncIterator[Database]:
    """An opened database."""
    db = Database(dsn, min_size=1, max_size=8)
    await db.open()
    yield db
    await db.close()


@pytest.fixture
def ring() -> KeyRing:
    """A key ring with one new master key."""
    return KeyRing.parse(generate_master_key())


@pytest.fixture
def vault(database: Database, ring: KeyRing) -> Vault:
    """A vault over the test's database."""
    return Vault(database, ring)


MakePrincipal = Callable[..., Principal]


@pytest.fixture
def make_principal() -> MakePrincipal:
    """Makes principals; each call another user unless a subject is given."""

    def make(subject: str | None = None, *, role: Role = "user") -> Principal:
        name = subject or f"user-{uuid4().hex[:8]}"
        return Principal(user_id_of(ISSUER, name), name, ISSUER, None, role, frozenset())

    return make


@pytest.fixture
def principal(make_principal: MakePrincipal) -> Principal:
    """A user."""
    return make_principal()


async def eventually(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Waits until `condition()` is true, and fails if it does not become so."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def as_uuid(value: object) -> UUID:
    """An id out of a JSON answer."""
    return UUID(str(value))
