"""One world for a file of tests: a service for which the engine of flows is that of the tests, and a worker that runs it here."""

import hashlib
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from auralink.flows.starting import ENGINE
from auralink.runs.worker import gateways_at
from auralink.vault.crypto import KeyRing, generate_master_key
from tests.conftest import Server
from tests.flows.engine import work
from tests.isolation.support import cloned_database
from tests.runs.support import working
from tests.worlds import World, world

MANIFEST = 'name = "{name}"\ntitle = "{name}"\nframework = "none"\nmodule = "none"\nkinds = ["{kind}"]\n'


@pytest.fixture(scope="module")
def with_engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Engines as `make engines` leaves them."""
    root = tmp_path_factory.mktemp("engines")
    for name, kind in ((ENGINE, "flow"), ("langgraph", "agent")):
        (root / name / ".venv" / "bin").mkdir(parents=True)
        (root / name / "engine.toml").write_text(MANIFEST.format(name=name, kind=kind))
        (root / name / "requirements.txt").write_text("")
        (root / name / ".venv" / "bin" / "python").touch()
        (root / name / ".venv" / ".installed").write_text(hashlib.sha256(b"").hexdigest())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("auralink.definitions.default_root", lambda: root)
        yield


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def here(postgres: Server, tmp_path_factory: pytest.TempPathFactory, with_engines: None) -> AsyncIterator[World]:
    """A user with a memory and a wiki."""
    place, ring = tmp_path_factory.mktemp("world"), KeyRing.parse(generate_master_key())
    with cloned_database(postgres) as database:
        async with world(database, place, ring, with_worker=False) as made:
            async with working(database.service, work, ring, gateways=gateways_at(made.service.url), engines=(ENGINE,)):
                yield made
