"""P-ACCEPT for the operation log: what was acknowledged is there, whatever is killed while calls are under way.

Real processes: an embedded Postgres, `auralink serve`, an MCP server over HTTP, callers that keep the id of every answer.
"""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from uuid import UUID

import httpx2
import psycopg
import pytest

from auralink.core import embedded_postgres as embedded
from tests.conftest import eventually
from tests.isolation.process import ended, installation, start_service
from tests.isolation.upstream import counting, listening
from tests.service import API, connected

pytestmark = pytest.mark.promise("P-ACCEPT")

CALLERS = 8


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with installation() as data_dir:
        yield data_dir


class Load:
    """Callers that call a tool over and over; `acknowledged` are the log ids of the answers they were given."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client
        self.acknowledged: list[UUID] = []
        self.refused: set[str] = set()

    async def call(self, caller: int) -> None:
        number = 0
        while True:
            number += 1
            asked = caller * 1_000_000 + number
            try:
                answer = await self._client.post(f"{API}/mcp/tools/echo__count/call", json={"arguments": {"number": asked}})
            except httpx2.TransportError:
                await asyncio.sleep(0.1)  # nobody listens; it is being started again
                continue
            if answer.status_code == 200:
                assert answer.json()["result"]["structuredContent"] == {"result": asked}
                self.acknowledged.append(UUID(answer.json()["log_id"]))
            else:
                self.refused.add(answer.json()["code"])

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.call(number)) for number in range(CALLERS)]
            yield
            for task in tasks:
                task.cancel()

    async def goes_on(self, calls: int) -> None:
        """Waits until so many more calls have been acknowledged."""
        wanted = len(self.acknowledged) + calls
        await eventually(lambda: len(self.acknowledged) >= wanted, 30)


def recorded(data_dir: Path) -> list[UUID]:
    cluster = embedded.find_cluster(data_dir)
    assert cluster is not None
    with psycopg.connect(cluster.dsn("superuser").reveal()) as session:
        return [row[0] for row in session.execute("SELECT id FROM auralink.mcp_operation_logs").fetchall()]


def kill_postmaster(data_dir: Path) -> None:
    os.kill(int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)


async def test_no_acknowledged_call_is_lost_whatever_is_killed(data_dir: Path, tmp_path: Path) -> None:
    """Under load: kill -9 of Postgres, of the service, and of both at once; each time what is dead is started again."""
    log = tmp_path / "log"
    async with listening(counting) as upstream, AsyncExitStack() as stack:
        service = stack.enter_context(ended(start_service(data_dir, log)))
        port = int(service.url.rsplit(":", 1)[1])
        await service.ready()
        async with service.client("root", role="admin") as admin:
            server = {"name": "echo", "transport": "http", "endpoint": upstream}
            assert (await admin.post(f"{API}/mcp/servers", json=server)).status_code == 201
        client = await stack.enter_async_context(service.client("caller"))
        await connected(client, "echo", name="echo")
        load = Load(client)
        async with load.running():
            await load.goes_on(random.randrange(30, 100))
            kill_postmaster(data_dir)
            embedded.start(data_dir)
            await load.goes_on(random.randrange(30, 100))
            service.kill()
            service = stack.enter_context(ended(start_service(data_dir, log, port=port)))
            await load.goes_on(random.randrange(30, 100))
            kill_postmaster(data_dir)
            service.kill()
            stack.enter_context(ended(start_service(data_dir, log, port=port)))
            await load.goes_on(50)
        rows = recorded(data_dir)
    assert set(load.acknowledged) - set(rows) == set()
    assert len(rows) == len(set(rows))
    assert load.refused <= {"audit_unavailable", "database_unavailable"}
