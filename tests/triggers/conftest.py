"""A service without a worker, and a user with a workflow: what is accepted stays queued and can be counted."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from auralink.vault.crypto import KeyRing, generate_master_key
from tests.conftest import Server
from tests.isolation.support import cloned_database
from tests.worlds import World, world


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def here(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    place, ring = tmp_path_factory.mktemp("world"), KeyRing.parse(generate_master_key())
    with cloned_database(postgres) as database:
        async with world(database, place, ring, with_worker=False) as made:
            yield made
