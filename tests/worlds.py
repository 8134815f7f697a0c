"""The service, a worker and an engine (`langgraph` unless another is named), all real, for tests of what starts runs."""

import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest

from auralink.mcp.config import MCPConfig
from auralink.runs.engine_manifest import default_root, get_place
from auralink.runs.engines import Engines
from auralink.runs.worker import gateways_at
from auralink.vault.crypto import KeyRing
from tests.conftest import TestDatabase
from tests.runs.support import rows, until, working
from tests.service import API, Service, connected, running_service, unique

ENGINE = "langgraph"
CONFIG = MCPConfig.model_validate(
    {"mcp_servers": {name: {"transport": "in_process", "timeout": 120} for name in ("deepwiki", "memory", "toolbox")}}
)
WAIT = {"Prefer": "wait=55"}


def require_engine(name: str = ENGINE) -> None:
    """Skips where the engine is not installed; fails where it must be."""
    state = get_place(default_root(), name).state()
    if state != "installed":
        reason = f"the engine {name} is {state}; run `make engines`"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


@dataclass(frozen=True)
class World:
    """A service with its worker and engine, and one of its users, who has a memory and a wiki connected."""

    database: TestDatabase
    service: Service
    http: httpx2.AsyncClient
    ring: KeyRing
    user: str

    def sql(self, query: str, *values: object) -> list[dict[str, Any]]:
        return rows(self.database.superuser, query, *values)

    async def make(self, path: str, **body: Any) -> dict[str, Any]:
        """Makes something and returns what was made."""
        answer = await self.http.post(f"{API}{path}", json=body)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def executed(self, workflow_id: str, given: dict[str, Any], **more: Any) -> dict[str, Any]:
        """Runs a workflow to its end."""
        path = f"{API}/workflows/{workflow_id}/execute"
        answer = await self.http.post(path, json={"input_data": given, **more}, headers=WAIT)
        assert answer.status_code == 200, answer.text
        run: dict[str, Any] = answer.json()
        assert run["status"] == "succeeded", run["error"]
        return run

    async def run(self, run_id: str | UUID) -> dict[str, Any]:
        found: dict[str, Any] = (await self.http.get(f"{API}/runs/{run_id}")).json()
        return found

    async def reaches(self, run_id: str | UUID, *statuses: str) -> dict[str, Any]:
        """The run, once it has one of these statuses."""

        async def there() -> bool:
            return (await self.run(run_id))["status"] in statuses

        await until(there, 55)
        return await self.run(run_id)

    async def journal(self, run_id: str | UUID) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = (await self.http.get(f"{API}/runs/{run_id}/journal")).json()["items"]
        return items


@contextlib.asynccontextmanager
async def world(
    database: TestDatabase,
    place: Path,
    ring: KeyRing,
    *,
    user: str | None = None,
    engine: str = ENGINE,
    engines: Engines | None = None,
    config: MCPConfig = CONFIG,
    with_worker: bool = True,
    lease: float = 5.0,
    **settings: Any,
) -> AsyncIterator[World]:
    """All of it, in this process but for those of the `engine`; `engines` of the caller's are not closed. A `user` who is named has been
    here before: nothing is connected."""
    name = user or unique()
    for folder in ("data", "repos"):
        (place / folder).mkdir(exist_ok=True)
    async with contextlib.AsyncExitStack() as stack:
        service = await stack.enter_async_context(
            running_service(database.service, place / "data", ring, config=config, wiki_repo_roots=(place / "repos",), **settings)
        )
        http = await stack.enter_async_context(service.client(name))
        if with_worker:
            require_engine(engine)
            if engines is None:
                engines = Engines(default_root())
                stack.push_async_callback(engines.close)
            await stack.enter_async_context(
                working(
                    database.service, engines.execute, ring, gateways=gateways_at(service.url), engines=(engine,), lease=lease
                )
            )
        if user is None:
            for server in ("memory", "deepwiki"):
                await connected(http, server)
        yield World(database, service, http, ring, name)
