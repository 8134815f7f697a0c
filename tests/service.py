"""The service on a real port, in this process, for tests of its HTTP."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import uvicorn
from fastapi import FastAPI

from auralink.app import build_app
from auralink.auth.tokens import issue_token
from auralink.bootstrap import Foundation
from auralink.core.secret import Secret
from auralink.core.settings import Settings
from auralink.llm.accounts import Accounts
from auralink.mcp.config import MCPConfig
from auralink.serving import bound_socket
from auralink.vault.crypto import KeyRing

JWT_SECRET = Secret("a secret of the tests, and long enough for HS256")
API = "/api/v1"


@dataclass(frozen=True)
class Service:
    """A running service and how to talk to it."""

    url: str
    app: FastAPI

    def token(self, user: str, *, role: Any = "user", ttl: timedelta = timedelta(hours=1)) -> str:
        """A token for a user of that name."""
        return issue_token(JWT_SECRET, subject=user, role=role, ttl=ttl)

    def client(self, user: str | None = None, *, role: Any = "user") -> httpx2.AsyncClient:
        """An HTTP client that acts as a user, or as nobody; close it (`async with`)."""
        headers = {"Authorization": f"Bearer {self.token(user, role=role)}"} if user else {}
        return httpx2.AsyncClient(base_url=self.url, headers=headers, timeout=60, trust_env=False)


@contextlib.asynccontextmanager
async def running_service(
    dsn: Secret,
    data_dir: Path,
    ring: KeyRing,
    *,
    config: MCPConfig | None = None,
    accounts: Accounts | None = None,
    **settings: Any,
) -> AsyncIterator[Service]:
    """The application on a port of its own, on the given database. `accounts` are the operator's at providers of models (none unless
    given); `settings` are fields of `Settings`."""
    chosen = Settings(_env_file=None, auralink_data_dir=data_dir, database_url=dsn, **settings)  # type: ignore[call-arg]
    config = config or MCPConfig.model_validate({"mcp_servers": {"deepwiki": {"transport": "in_process", "timeout": 120}}})
    app = build_app(chosen, config, Foundation(data_dir, dsn, JWT_SECRET, ring), accounts=accounts or {})
    listener = bound_socket("127.0.0.1", 0)
    server = uvicorn.Server(
        uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=2, ws="none")
    )
    server.capture_signals = contextlib.nullcontext  # type: ignore[assignment]  # the test runner's signals stay its own
    async with app.router.lifespan_context(app):
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started and not task.done():
            await asyncio.sleep(0.005)
        try:
            yield Service(f"http://127.0.0.1:{listener.getsockname()[1]}", app)
        finally:
            server.should_exit = True
            await task


async def connected(client: httpx2.AsyncClient, server_type: str = "deepwiki", **fields: Any) -> str:
    """Connects a server and returns the connection's id."""
    answer = await client.post(f"{API}/mcp/connect", json={"server_type": server_type, **fields})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["connection_id"])


def unique(prefix: str = "user") -> str:
    """A name that no other test uses."""
    return f"{prefix}-{uuid4().hex[:10]}"
