"""The gateway under test: the whole service on a port of its own, with fixtures connected for one user."""

import contextlib
from collections.abc import AsyncIterator, Mapping

from conformance.serving import authorized, serving
from tests.service import Service, connected

USER = "conformance"


@contextlib.asynccontextmanager
async def with_fixtures(service: Service, endpoints: Mapping[str, str]) -> AsyncIterator[str]:
    """Connects servers by name, and gives an address of `/mcp` that needs no Authorization."""
    async with service.client("operator", role="admin") as admin, service.client(USER) as user:
        for name, endpoint in endpoints.items():
            server = {"name": name, "transport": "http", "endpoint": endpoint}
            (await admin.post("/api/v1/mcp/servers", json=server)).raise_for_status()
            await connected(user, name)
    async with serving(authorized(service.app.__call__, service.token(USER))) as url:
        yield f"{url}/mcp"
