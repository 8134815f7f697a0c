"""The engine `langgraph` as `make` installs it, warmed once."""

import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from auralink.runs.engine_manifest import default_root, get_place
from auralink.runs.engines import Engines


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def engines() -> AsyncIterator[Engines]:
    """One warmed engine for all tests of a process."""
    state = get_place(default_root(), "langgraph").state()
    if state != "installed":
        reason = f"the engine langgraph is {state}; run `make engines`"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    host = Engines(default_root())
    yield host
    await host.close()
