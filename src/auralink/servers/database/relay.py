"""A relay on loopback between libpq and a user's database, which counts what comes back and can be cut.

libpq reads a message of any length into memory before it hands it over; a database of the user's own choosing could fill ours.
Here the bytes are counted before libpq sees them. TLS passes through end to end. Closing the relay is the one way to stop a
session that is sure to work, whatever the server does.
"""

import asyncio
from types import TracebackType
from typing import Self

CHUNK = 64 * 1024
MAX_CONNECTIONS = 4
"""The session, its retry without TLS (`sslmode=prefer`), and the request to cancel."""


class Relay:
    """Listens on a port of 127.0.0.1 for the time of the block, and connects whoever comes to one address.

    `address` is an IP address, or the path of a unix socket (`port` is then not used).
    """

    def __init__(self, address: str, port: int, *, max_bytes: int) -> None:
        self._address = address
        self._port = port
        self._left = max_bytes
        self._taken = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        self.exceeded = False
        """Whether the relay was cut because more than `max_bytes` came back."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=CHUNK)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.cut()
        if self._server is not None:
            self._server.close()
            for task in self._serving:
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)
            await self._server.wait_closed()

    def cut(self) -> None:
        """Ends every connection at once."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self._writers.add(client_writer)
        self._taken += 1
        try:
            if self._taken <= MAX_CONNECTIONS:
                await self._connect(client_reader, client_writer)
        except (OSError, asyncio.CancelledError):
            pass  # one side is gone, or the block has ended; libpq says so to whoever waits
        finally:
            client_writer.transport.abort()
            self._writers.discard(client_writer)
            self._serving.discard(task)

    async def _connect(self, client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter) -> None:
        if self._address.startswith("/"):
            server_reader, server_writer = await asyncio.open_unix_connection(self._address, limit=CHUNK)
        else:
            server_reader, server_writer = await asyncio.open_connection(self._address, self._port, limit=CHUNK)
        self._writers.add(server_writer)
        sending = asyncio.create_task(self._send(client_reader, server_writer))
        try:
            await self._receive(server_reader, client_writer)
        finally:
            sending.cancel()
            server_writer.transport.abort()
            self._writers.discard(server_writer)

    async def _send(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(CHUNK):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.transport.abort()

    async def _receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            self._left -= len(data)
            if self._left < 0:
                self.exceeded = True
                return
            writer.write(data)
            await writer.drain()
