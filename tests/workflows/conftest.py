"""One world for a file of tests, on the offline model: nothing of it starts twice."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from auralink.vault.crypto import KeyRing, generate_master_key
from tests.conftest import Server
from tests.isolation.support import cloned_database
from tests.worlds import World, world

README = """# Aurora

## Starting

To start the service type make run. It listens on port 8001.

## Backups

Backups are made every night at two by the backup job.
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def here(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A user with a memory and a wiki over one repository, `acme/aurora`."""
    place = tmp_path_factory.mktemp("world")
    repository = place / "repos" / "acme" / "aurora"
    repository.mkdir(parents=True)
    (repository / "README.md").write_text(README)
    with cloned_database(postgres) as database:
        async with world(database, place, KeyRing.parse(generate_master_key())) as made:
            yield made
