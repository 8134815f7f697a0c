"""Puts a provider's request on a socket, and says in the gateway's words what went wrong there."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator

from auralink.core.egress import EgressGuard
from auralink.core.http_client import HttpClient, HttpFailed, HttpTimeout, HttpUnreachable, Response
from auralink.core.server_events import Event, EventReader, EventTooLarge
from auralink.llm.errors import ProviderError
from auralink.llm.providers.protocol import HttpRequest, Target

TOTAL_SECONDS = 600.0
"""How long an answer may take in all; models that think may take minutes."""
FIRST_BYTE_SECONDS = 120.0
"""How long a stream may take to begin."""
MAX_ANSWER_BYTES = 32 * 2**20
MAX_ERROR_BYTES = 256 * 1024
CONNECTIONS = 1024


class Transport:
    """Two clients: one for addresses of the operator, which may be on this machine, one for those of users."""

    def __init__(self, guard: EgressGuard) -> None:
        self._operators = HttpClient(guard, trusted=True, connections=CONNECTIONS)
        self._users = HttpClient(guard, trusted=False, connections=CONNECTIONS)

    async def close(self) -> None:
        """Closes every connection."""
        await self._operators.close()
        await self._users.close()

    async def send(
        self, request: HttpRequest, target: Target, *, trusted: bool, stream: bool = False, method: str = "POST"
    ) -> Response:
        """The answer's head. Whoever gets it reads the body to its end or closes it.

        Raises:
            ProviderError: of the kind `unreachable`, `timeout` or `broken_off`.
        """
        client = self._operators if trusted else self._users
        body = None if method == "GET" else request.content
        deadline = time.monotonic() + TOTAL_SECONDS
        with errors_of(target):
            if not stream:
                return await client.request(method, request.url, headers=request.headers, body=body, deadline=deadline)
            async with asyncio.timeout(FIRST_BYTE_SECONDS):
                return await client.request(method, request.url, headers=request.headers, body=body, deadline=deadline)

    @staticmethod
    async def read(response: Response, target: Target) -> bytes:
        """The body of an answer, or of an error. Raises as `send`."""
        with errors_of(target):
            return await response.read(MAX_ANSWER_BYTES if response.status < 400 else MAX_ERROR_BYTES)

    @staticmethod
    async def events(response: Response, target: Target) -> AsyncIterator[Event]:
        """The events of a stream. Raises as `send`."""
        with errors_of(target):
            async for event in EventReader().read(response):
                yield event


@contextlib.contextmanager
def errors_of(target: Target) -> Iterator[None]:
    """Makes errors of the connection into errors that name the provider and the model."""
    try:
        yield
    except TimeoutError as error:
        raise _failed(target, "timeout", f"did not begin to answer within {FIRST_BYTE_SECONDS:.0f} s") from error
    except HttpTimeout as error:
        raise _failed(
            target, "timeout", f"did not answer within {TOTAL_SECONDS:.0f} s" if error.sent else error.message
        ) from error
    except HttpUnreachable as error:
        raise _failed(target, "unreachable", f"cannot be reached: {error.message}") from error
    except HttpFailed as error:
        raise _failed(target, "broken_off", f"broke off: {error.message}") from error
    except EventTooLarge as error:
        raise _failed(target, "broken_off", "sent an event that is too large") from error


def _failed(target: Target, kind: str, what: str) -> ProviderError:
    return ProviderError(
        f"{target.provider}, asked for {target.model}, {what}", provider=target.provider, model=target.model, kind=kind
    )
