"""The engines as `make` installs them, each warmed once, by the first test that asks for it."""

import os
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from auralink.runs.engine_manifest import default_root, get_place
from auralink.runs.engines import Engines

EngineHost = Callable[[str], Engines]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def engine_host() -> AsyncIterator[EngineHost]:
    """Gives the one host of a test process, once it is sure that the named engine is installed: `engine_host("crewai")`."""
    host = Engines(default_root())

    def with_engine(name: str) -> Engines:
        state = get_place(default_root(), name).state()
        if state != "installed":
            reason = f"the engine {name} is {state}; run `make engines`"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
        return host

    yield with_engine
    await host.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def engines(engine_host: EngineHost) -> Engines:
    """The host with the engine `langgraph`."""
    return engine_host("langgraph")
