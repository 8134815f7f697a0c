"""Waiting for a call while its client is connected: keeps the connection alive, and notices when the client goes."""

import asyncio
from typing import Any, TypeVar

from starlette.types import Receive

from auralink.mcp.downstream.reply import KEEPALIVE_SECONDS, Reply

T = TypeVar("T")
GRACE_SECONDS = 0.05
"""How long a call goes on before its client is watched: most end before that, and to watch costs as much as to route."""


class ClientGone(Exception):
    """The client has closed the connection."""


async def first_of(reply: Reply, receive: Receive, *futures: "asyncio.Future[Any]") -> "asyncio.Future[Any]":
    """The first of `futures` that is done. Raises `ClientGone` if the client closes the connection before that."""
    done, _ = await asyncio.wait(futures, timeout=GRACE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    if done:
        return next(future for future in futures if future in done)
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        while True:
            waiting = {gone, *futures}
            done, _ = await asyncio.wait(waiting, timeout=KEEPALIVE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            for future in futures:
                if future in done:
                    return future
            if gone in done:
                raise ClientGone
            await reply.keep_alive()
    finally:
        gone.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
