"""One world for a file of tests: a service whose engines of teams are those of the tests, and a worker that runs them here."""

import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from auralink.runs.worker import gateways_at
from auralink.vault.crypto import KeyRing, generate_master_key
from tests.conftest import Server
from tests.isolation.support import cloned_database
from tests.runs.support import working
from tests.service import connected
from tests.teams.engine import work
from tests.worlds import World, world

ENGINES: dict[str, tuple[str, tuple[str, ...]]] = {
    "lively": ("team", ("debate", "swarm", "sequential")),
    "plain": ("team", ("sequential", "hierarchical")),
    "absent": ("team", ("silent",)),
    "langgraph": ("agent", ()),
}
"""What the engines of the tests run, and how; `absent` is not installed, of `langgraph` there is just enough to save an agent."""
FIRST = "plain"
MANIFEST = """
name = "{name}"
title = "{name}"
framework = "none"
module = "none"
kinds = ["{kind}"]
modes = [{modes}]
rank = {rank}
"""


@pytest.fixture(scope="module")
def engines_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of engines of teams, as `make engines` leaves it."""
    root = tmp_path_factory.mktemp("engines")
    for name, (kind, modes) in ENGINES.items():
        folder = root / name
        (folder / ".venv" / "bin").mkdir(parents=True)
        quoted, rank = ", ".join(f'"{mode}"' for mode in modes), 1 if name == FIRST else 100
        (folder / "engine.toml").write_text(MANIFEST.format(name=name, kind=kind, modes=quoted, rank=rank))
        (folder / "requirements.txt").write_text("")
        if name != "absent":
            (folder / ".venv" / "bin" / "python").touch()
            (folder / ".venv" / ".installed").write_text(hashlib.sha256(b"").hexdigest())
    return root


@pytest.fixture(scope="module")
def with_engines(engines_folder: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("auralink.definitions.default_root", lambda: engines_folder)
        yield


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def here(postgres: Server, tmp_path_factory: pytest.TempPathFactory, with_engines: None) -> AsyncIterator[World]:
    """A user with a memory, a wiki and a toolbox."""
    place, ring = tmp_path_factory.mktemp("world"), KeyRing.parse(generate_master_key())
    with cloned_database(postgres) as database:
        async with world(database, place, ring, with_worker=False) as made:
            await connected(made.http, "toolbox")
            async with working(database.service, work, ring, gateways=gateways_at(made.service.url), engines=("plain", "lively")):
                yield made
