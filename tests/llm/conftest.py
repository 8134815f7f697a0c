"""What the tests of the model gateway share: the service on a real port, and a vendor behind it on another."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from psycopg.rows import dict_row

from auralink.core.secret import Secret
from auralink.llm.accounts import Account
from auralink.mcp.config import MCPConfig
from auralink.vault.crypto import KeyRing
from tests.conftest import TestDatabase
from tests.llm.fake_vendor import FakeVendor, running
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
async def house(test_database: TestDatabase, tmp_path: Path, ring: KeyRing, vendor: FakeVendor) -> AsyncIterator[House]:
    """The service with the operator's accounts at OpenAI, Anthropic and Google, all of them the fake vendor."""
    accounts = {name: Account(vendor.base_url(name), Secret(vendor.key)) for name in FORMATS}
    place = tmp_path / "data"
    async with running_service(test_database.service, place, ring, accounts=accounts, **settings(tmp_path)) as service:
        yield House(service, vendor, test_database, unique())


@pytest.fixture
async def empty_house(test_database: TestDatabase, tmp_path: Path, ring: KeyRing, vendor: FakeVendor) -> AsyncIterator[House]:
    """The service without any account; users may have servers on this machine."""
    async with running_service(test_database.service, tmp_path / "data", ring, **settings(tmp_path)) as service:
        yield House(service, vendor, test_database, unique())
