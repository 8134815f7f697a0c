"""The gateway under test: the whole service on a port of its own, with the fixture connected for one user."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from conformance.serving import authorized, serving
from tests.service import API, Service

USER = "conformance"
CONNECTION = "fixture"


@dataclass(frozen=True)
class Target:
    """What the suite is pointed at: all of the user's servers, and the fixture alone."""

    all_servers: str
    one_server: str


@contextlib.asynccontextmanager
async def with_fixture(service: Service, endpoint: str) -> AsyncIterator[Target]:
    """Connects the fixture and gives addresses that need no Authorization."""
    await _register(service, {"name": CONNECTION, "transport": "http", "endpoint": endpoint})
    async with service.client(USER) as client:
        answer = await client.post(f"{API}/mcp/connect", json={"server_type": CONNECTION, "name": CONNECTION})
        answer.raise_for_status()
    async with serving(authorized(service.app.__call__, service.token(USER))) as url:
        yield Target(f"{url}/mcp", f"{url}/mcp/{CONNECTION}")


async def _register(service: Service, server: Mapping[str, str]) -> None:
    async with service.client("operator", role="admin") as admin:
        (await admin.post(f"{API}/mcp/servers", json=dict(server))).raise_for_status()
