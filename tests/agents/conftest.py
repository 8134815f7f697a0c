"""One world for a file of tests, on a scripted model."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from auralink.vault.crypto import KeyRing, generate_master_key
from tests.conftest import Server
from tests.isolation.support import cloned_database
from tests.service import connected
from tests.worlds import World, world

SCRIPT = Path(__file__).parent / "script.yaml"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def here(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A user with a memory, a wiki and a toolbox."""
    place, ring = tmp_path_factory.mktemp("world"), KeyRing.parse(generate_master_key())
    with cloned_database(postgres) as database:
        async with world(database, place, ring, auralink_scripted_model=SCRIPT) as made:
            await connected(made.http, "toolbox")
            yield made
