"""What the tests of the model gateway share: the service on a real port, and a vendor behind it on another."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import psycopg
import pytest
import pytest_asyncio
from psycopg.rows import dict_row

from auralink.auth.principal import user_id_of
from auralink.core.secret import Secret
from auralink.llm.accounts import Account
from auralink.mcp.config import MCPConfig
from auralink.vault.crypto import KeyRing, generate_master_key
from tests.conftest import ISSUER, Server, TestDatabase
from tests.isolation.support import cloned_database
from tests.llm.fake_vendor import FakeVendor, running
from tests.llm.vendor_wire import Answer
from tests.service import Service, running_service, unique

FORMATS = ("openai", "anthropic", "google")
MODELS = {"openai": "openai/gpt-5-mini", "anthropic": "anthropic/claude-haiku-4-5", "google": "google/gemini-2.5-flash"}


@dataclass
class House:
    """The service, and one vendor that is all vendors."""

    service: Service
    vendor: FakeVendor
    database: TestDatabase
    user: str

    def client(self, user: str | None = None, *, role: str = "user") -> httpx2.AsyncClient:
        """An HTTP client of the house's user, or of another."""
        return self.service.client(user or self.user, role=role)

    def rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        """What the database says to its superuser."""
        with psycopg.connect(self.database.superuser.reveal(), autocommit=True, row_factory=dict_row) as session:
            cursor = session.execute(query.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def calls(self) -> list[dict[str, Any]]:
        """The recorded model calls, oldest first."""
        return self.rows("SELECT * FROM auralink.llm_performance_metrics ORDER BY id")


CONFIG = MCPConfig.model_validate(
    {"mcp_servers": {name: {"transport": "in_process"} for name in ("deepwiki", "sequential_thinking")}}
)


def settings(place: Path) -> dict[str, Any]:
    """Users may have servers on this machine, and the wiki may read `repositories`."""
    return {"config": CONFIG, "allowed_networks": "127.0.0.0/8", "wiki_repo_roots": (place / "repositories",)}


@pytest.fixture
async def vendor() -> AsyncIterator[FakeVendor]:
    """A vendor on a socket."""
    async with running() as made:
        yield made


@pytest.fixture
async def own_house(test_database: TestDatabase, tmp_path: Path, ring: KeyRing, vendor: FakeVendor) -> AsyncIterator[House]:
    """The service with the operator's accounts at OpenAI, Anthropic and Google, all of them the fake vendor."""
    accounts = {name: Account(vendor.base_url(name), Secret(vendor.key)) for name in FORMATS}
    place = tmp_path / "data"
    async with running_service(test_database.service, place, ring, accounts=accounts, **settings(tmp_path)) as service:
        yield House(service, vendor, test_database, unique())


@pytest.fixture
def house(own_house: House) -> House:
    """The test's own house, unless its module shares one."""
    return own_house


@pytest.fixture
async def empty_house(test_database: TestDatabase, tmp_path: Path, ring: KeyRing, vendor: FakeVendor) -> AsyncIterator[House]:
    """The service without any account; users may have servers on this machine."""
    async with running_service(test_database.service, tmp_path / "data", ring, **settings(tmp_path)) as service:
        yield House(service, vendor, test_database, unique())


class SharedHouse(House):
    """A house that a module's tests share, each as a user of its own: what it says of calls is that user's."""

    @property
    def user_id(self) -> UUID:
        """The user's id in the database."""
        return user_id_of(ISSUER, self.user)

    def calls(self) -> list[dict[str, Any]]:
        """The recorded model calls of the user, oldest first."""
        return self.rows("SELECT * FROM auralink.llm_performance_metrics WHERE user_id = %s ORDER BY id", self.user_id)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_house(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """The service of a module's tests, whose breakers stay closed: failures of one test are not another's."""
    config = MCPConfig.model_validate({"mcp_servers": {}, "circuit_breaker": {"failure_threshold": 1000}})
    ring = KeyRing.parse(generate_master_key())
    with cloned_database(postgres) as database:
        async with running() as vendor:
            accounts = {name: Account(vendor.base_url(name), Secret(vendor.key)) for name in FORMATS}
            place = tmp_path_factory.mktemp("house")
            async with running_service(
                database.service, place, ring, config=config, accounts=accounts, allowed_networks="127.0.0.0/8"
            ) as service:
                yield House(service, vendor, database, "nobody")


@pytest.fixture
def shared_house(module_house: House) -> SharedHouse:
    """The module's service for a user of the test's own, with a vendor that has heard and been told nothing."""
    vendor = module_house.vendor
    vendor.script.clear()
    vendor.received.clear()
    vendor.otherwise = Answer()
    return SharedHouse(module_house.service, vendor, module_house.database, unique())
