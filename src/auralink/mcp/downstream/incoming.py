"""One HTTP request to the MCP endpoint, each header decoded once: Starlette's looks through all of them whenever it is asked, which
took a tenth of a call's CPU."""

from collections.abc import Mapping

from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope


class Incoming:
    """A request, its body not yet read."""

    __slots__ = ("fields", "headers", "receive", "scope")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self.receive = receive
        self.fields: list[tuple[str, str]] = [
            (name.decode("latin-1"), value.decode("latin-1").strip(" \t")) for name, value in scope["headers"]
        ]
        """Names in lower case; the whitespace around a value is no part of it (RFC 9110, 5.5)."""
        self.headers: Mapping[str, str] = dict(reversed(self.fields))
        """The first of each name."""

    @property
    def method(self) -> str:
        """The HTTP method."""
        method: str = self.scope["method"]
        return method

    @property
    def query(self) -> Mapping[str, str]:
        """The parameters of the address."""
        return QueryParams(self.scope["query_string"]) if self.scope["query_string"] else {}

    @property
    def connection(self) -> str | None:
        """The connection that the path names."""
        connection: str | None = self.scope["path_params"].get("connection")
        return connection

    async def body(self) -> bytes:
        """The whole body. Raises `ClientDisconnect`, and what `receive` raises of one that is too large."""
        parts: list[bytes] = []
        message = await self.receive()
        while message["type"] == "http.request":
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                return b"".join(parts)
            message = await self.receive()
        raise ClientDisconnect
