"""Applications on ports of their own, in this process."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Literal

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.upstreams.sdk import SDKServer, Wire

HOST = "127.0.0.1"


@contextlib.asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    """The address of an application that is served while the block runs; a Starlette's lifespan is entered."""
    listener = socket.create_server((HOST, 0))
    lifespan: Literal["on", "off"] = "on" if isinstance(app, Starlette) else "off"
    config = uvicorn.Config(app, lifespan=lifespan, log_config=None, access_log=False, timeout_graceful_shutdown=1, ws="none")
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[assignment]  # signals stay the caller's
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not task.done():
        await asyncio.sleep(0.005)
    try:
        yield f"http://{HOST}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        listener.close()


def as_old_as(app: Starlette, revision: str) -> Starlette:
    """The application as if it knew no later revision than this one of the handshake era."""
    app.add_middleware(Wire, noted=SDKServer(""), revision=revision)
    return app


def authorized(app: ASGIApp, token: str) -> ASGIApp:
    """Puts `Authorization` on every request to an application and leaves the rest, Host and Origin too, as it came: the suite
    sends no such header."""
    header = (b"authorization", f"Bearer {token}".encode())

    async def with_header(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "headers": [*scope["headers"], header]}, receive, send)

    return with_header
