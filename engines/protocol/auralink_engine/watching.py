"""Sees what goes wrong between a run and its two gateways, whatever framework and HTTP library makes the requests.

A framework may swallow an error of the way, repeat the call, or show the error to a model, which would change the run. So the loss of
a gateway is noticed below it, in the transport of its HTTP client (`httpx` or a library of the same shape), and ends the attempt.
Here nothing is imported: the engine hands in its library.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import ModuleType
from typing import Any

from auralink_engine.job import Lost

CONNECT_SECONDS = 10.0
STEP = "x-auralink-step"
"""The header by which the model gateway says under which number the run's journal has the call."""
GONE = frozenset({409, 503})
"""Statuses that are about the attempt (a newer one runs) or the gateway (overloaded), never about the call."""
ABOUT_THE_SESSION = frozenset({409, 429, 500, 502, 503, 504})
"""Of the MCP endpoint as such; what a tool answers, errors included, comes with 200."""
OnLoss = Callable[[Exception], None]
OnStep = Callable[[int], None]


class GatewayRefused(Exception):
    """A gateway does not take the run's token or does not know what is asked of it."""

    code = "GatewayRefused"


class WatchedModels:
    """A transport for clients of `/v1`, synchronous or not. `on_step` hears the number of each call that was answered."""

    def __init__(self, http: ModuleType, inner: Any, lose: OnLoss, on_step: OnStep = lambda _number: None) -> None:
        self._http = http
        self._inner = inner
        self._lose = lose
        self._on_step = on_step

    async def handle_async_request(self, request: Any) -> Any:
        """As the library's transports do; no deadline but for connecting: a call may be held while a person decides."""
        request.extensions["timeout"] = {"connect": CONNECT_SECONDS}
        try:
            response = await self._inner.handle_async_request(request)
        except self._http.TransportError as error:
            self._lose(_silence("model", error))
            raise
        if response.status_code in GONE:
            await response.aread()
        return self._heard(response)

    def handle_request(self, request: Any) -> Any:
        """The same, for clients that block."""
        request.extensions["timeout"] = {"connect": CONNECT_SECONDS}
        try:
            response = self._inner.handle_request(request)
        except self._http.TransportError as error:
            self._lose(_silence("model", error))
            raise
        if response.status_code in GONE:
            response.read()
        return self._heard(response)

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._inner.aclose()

    def close(self) -> None:
        """Closes the connections of a client that blocks."""
        self._inner.close()

    async def __aenter__(self) -> "WatchedModels":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __enter__(self) -> "WatchedModels":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _heard(self, response: Any) -> Any:
        if response.status_code in GONE:
            self._lose(Lost(f"the model gateway answered {response.status_code}: {response.text[:500]}"))
        elif (number := response.headers.get(STEP)) is not None:
            self._on_step(int(number))
        if response.status_code < 400:
            response.stream = _watched_stream(self._http, response.stream, self._lose, "model")
        return response


class WatchedTools:
    """A transport for an MCP client at `/mcp`: the SDK's would leave some of what goes wrong waiting for ever.

    The stream on which a server speaks unasked (GET) is not opened: the answers to a run's calls bring all that concerns it.
    """

    def __init__(self, http: ModuleType, inner: Any, lose: OnLoss) -> None:
        self._http = http
        self._inner = inner
        self._lose = lose

    async def handle_async_request(self, request: Any) -> Any:
        """As the library's transports do; no deadline but for connecting."""
        if request.method == "GET":
            return self._http.Response(405, request=request)
        request.extensions["timeout"] = {"connect": CONNECT_SECONDS}
        try:
            response = await self._inner.handle_async_request(request)
        except self._http.TransportError as error:
            self._lose(_silence("MCP", error))
            raise
        if response.status_code >= 400:
            await response.aread()
            said = f"the MCP gateway answered {response.status_code}: {response.text[:500]}"
            self._lose(Lost(said) if response.status_code in ABOUT_THE_SESSION else GatewayRefused(said))
        else:
            response.stream = _watched_stream(self._http, response.stream, self._lose, "MCP")
        return response

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._inner.aclose()

    async def __aenter__(self) -> "WatchedTools":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


async def before_loss(lost: "asyncio.Future[None]", connecting: Awaitable[None]) -> None:
    """Connects, or raises what `lost` is given meanwhile; in this task, since what was entered has to be left where it was entered."""
    task = asyncio.current_task()
    assert task is not None

    def stop(_lost: object) -> None:
        task.cancel()

    lost.add_done_callback(stop)
    try:
        await connecting
    except asyncio.CancelledError:
        if not lost.done():
            raise
        task.uncancel()
        lost.result()
    finally:
        lost.remove_done_callback(stop)


def _silence(gateway: str, error: Exception) -> Lost:
    return Lost(f"the {gateway} gateway does not answer: {error or type(error).__name__}")


def _break(gateway: str, error: Exception) -> Lost:
    return Lost(f"the {gateway} gateway stopped in the middle of an answer: {error or type(error).__name__}")


def _watched_stream(http: ModuleType, inner: Any, lose: OnLoss, gateway: str) -> Any:
    """The body of an answer, whose breaking off is a loss. The library insists on a stream of its own kind."""
    broken = http.TransportError

    class Asynchronous(http.AsyncByteStream):  # type: ignore[misc, name-defined]
        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                async for part in inner:
                    yield part
            except broken as error:
                lose(_break(gateway, error))
                raise

        async def aclose(self) -> None:
            await inner.aclose()

    class Blocking(http.SyncByteStream):  # type: ignore[misc, name-defined]
        def __iter__(self) -> Iterator[bytes]:
            try:
                yield from inner
            except broken as error:
                lose(_break(gateway, error))
                raise

        def close(self) -> None:
            inner.close()

    if isinstance(inner, http.ByteStream):
        return inner  # it is all here
    return Asynchronous() if isinstance(inner, http.AsyncByteStream) else Blocking()
