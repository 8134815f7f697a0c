"""Servers of every revision and transport, and a service in front of one, for tests across eras."""

import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from auralink.core.secret import Secret
from auralink.mcp.config import MCPConfig
from auralink.vault.crypto import KeyRing
from tests.mcp.raw_client import MODERN, REVISIONS
from tests.service import Service, connected, running_service
from tests.upstreams import eras

PROJECT = Path(__file__).parents[2]
RUN_STDIO = (
    f"import sys, runpy; sys.path.insert(0, {str(PROJECT)!r}); runpy.run_module('tests.upstreams.eras', run_name='__main__')"
)


@contextlib.asynccontextmanager
async def upstream(kind: str) -> AsyncIterator[dict[str, Any]]:
    """The configuration of a server of a revision or transport."""
    if kind in REVISIONS:
        async with eras.over_http(None if kind == MODERN else kind) as url:
            yield {"transport": "http", "endpoint": url}
    elif kind == "sse":
        async with eras.over_sse() as url:
            yield {"transport": "sse", "endpoint": url}
    elif kind == "stdio":
        yield {"transport": "stdio", "command": sys.executable, "args": ["-c", RUN_STDIO]}
    else:
        yield {"transport": "in_process"}


@contextlib.asynccontextmanager
async def service_of(dsn: Secret, data_dir: Path, ring: KeyRing, kind: str, user: str) -> AsyncIterator[Service]:
    """A service with one server, to which a user is connected."""
    async with upstream(kind) as server:
        config = MCPConfig.model_validate({"mcp_servers": {"eras": server}})
        async with running_service(dsn, data_dir, ring, config=config) as service, service.client(user) as rest:
            await connected(rest, "eras")
            yield service
