"""The HTTP client against real sockets: what it sends, what it keeps open, and what it does not put up with."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from auralink.core.egress import EgressGuard, EgressRefused
from auralink.core.http_client import (
    HttpAnswerTooLarge,
    HttpBadAnswer,
    HttpClient,
    HttpClosed,
    HttpFailed,
    HttpInvalidRequest,
    HttpTimeout,
    HttpUnreachable,
    client,
    connection,
    pool,
)
from auralink.core.http_client.response import HIGH_WATER

BOUND = 15.0
"""Seconds after which a test that waits for something has hung."""
READ_AT_ONCE = 256 * 1024
"""Bytes that an event loop takes from a socket in one go."""
HELLO = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

Behaviour = Callable[["Exchange"], Awaitable[None]]


@dataclass
class Exchange:
    """A request as it came in, and the socket that it came by."""

    head: str
    body: bytes
    connection: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()


async def hello(exchange: Exchange) -> None:
    await exchange.send(HELLO)


def sending(*parts: bytes) -> Behaviour:
    async def send(exchange: Exchange) -> None:
        for part in parts:
            await exchange.send(part)
            await asyncio.sleep(0)

    return send


def sending_and_closing(*parts: bytes) -> Behaviour:
    async def send(exchange: Exchange) -> None:
        await sending(*parts)(exchange)
        exchange.writer.close()

    return send


async def hang(exchange: Exchange) -> None:
    await asyncio.Event().wait()


@dataclass
class Server:
    """Answers as it is told."""

    behaviour: Behaviour = hello
    exchanges: list[Exchange] = field(default_factory=list)
    connections: int = 0
    most_at_once: int = 0
    open: int = 0
    port: int = 0
    scheme: str = "http"
    all_gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/path?query=1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        self.all_gone.clear()
        self.most_at_once = max(self.most_at_once, self.open)
        number = self.connections
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = next((int(line[15:]) for line in head.split("\r\n") if line.startswith("Content-Length:")), 0)
                exchange = Exchange(head, await reader.readexactly(length), number, reader, writer)
                self.exchanges.append(exchange)
                await self.behaviour(exchange)
        writer.close()
        self.open -= 1
        if not self.open:
            self.all_gone.set()


@contextlib.asynccontextmanager
async def running(server: Server, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(asyncio.CancelledError):
            await server.serve(reader, writer)
        writer.transport.abort()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls, backlog=1024)
    server.port = listener.sockets[0].getsockname()[1]
    server.scheme = "https" if tls else "http"
    try:
        yield server
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with running(Server()) as started:
        yield started


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    async with HttpClient(EgressGuard(), trusted=True) as opened:
        yield opened


def soon(seconds: float = 10.0) -> float:
    return time.monotonic() + seconds


async def get(http: HttpClient, url: str, *, limit: int = 1024, deadline: float | None = None) -> bytes:
    async with await http.request("GET", url, headers={}, deadline=deadline or soon()) as response:
        return await response.read(limit)


async def test_a_request_is_sent_as_given_and_its_answer_read(http: HttpClient, server: Server) -> None:
    async with await http.request("POST", server.url, headers={"X-One": "1"}, body=b"{}", deadline=soon()) as response:
        assert (response.status, response.content_type) == (200, "text/plain")
        assert response.headers["CONTENT-length"] == "5"
        assert response.headers.get("set-cookie") is None
        assert await response.read(5) == b"hello"
    exchange = server.exchanges[0]
    assert exchange.head.split("\r\n")[:-2] == [
        "POST /path?query=1 HTTP/1.1",
        f"Host: 127.0.0.1:{server.port}",
        "Accept-Encoding: identity",
        "X-One: 1",
        "Content-Length: 2",
    ]
    assert exchange.body == b"{}"


async def test_calls_in_turn_use_one_connection(http: HttpClient, server: Server) -> None:
    for _ in range(5):
        assert await get(http, server.url) == b"hello"
    assert server.connections == 1


async def test_five_hundred_calls_at_once_share_the_connections_that_are_allowed(server: Server) -> None:
    async with HttpClient(EgressGuard(), trusted=True, connections=20) as http, asyncio.timeout(BOUND):
        answers = await asyncio.gather(*(get(http, server.url) for _ in range(500)))
        assert set(answers) == {b"hello"}
        assert len(server.exchanges) == 500
        assert server.most_at_once <= 20


async def test_a_cancelled_call_neither_loses_a_connection_nor_hands_its_answer_to_another(server: Server) -> None:
    server.behaviour = hang
    async with HttpClient(EgressGuard(), trusted=True, connections=2) as http, asyncio.timeout(BOUND):
        calls = [asyncio.create_task(get(http, server.url)) for _ in range(10)]
        while len(server.exchanges) < 2:
            await asyncio.sleep(0.001)
        server.behaviour = hello
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert await asyncio.gather(*(get(http, server.url) for _ in range(10))) == [b"hello"] * 10
        assert server.most_at_once <= 4


async def test_a_body_that_nobody_reads_to_its_end_takes_its_connection_with_it(http: HttpClient, server: Server) -> None:
    server.behaviour = sending(CHUNKED, b"5\r\nfirst\r\n")
    async with await http.request("GET", server.url, headers={}, deadline=soon()) as response:
        assert await anext(response) == b"first"
    await server.all_gone.wait()
    server.behaviour = hello
    assert await get(http, server.url) == b"hello"
    assert server.connections == 2


async def test_a_reader_that_is_cancelled_in_the_body_takes_its_connection_with_it(http: HttpClient, server: Server) -> None:
    server.behaviour = sending(CHUNKED, b"5\r\nfirst\r\n")
    reading = asyncio.Event()

    async def read() -> None:
        async with await http.request("GET", server.url, headers={}, deadline=soon()) as response:
            async for _ in response:
                reading.set()

    call = asyncio.create_task(read())
    await reading.wait()
    call.cancel()
    await server.all_gone.wait()
    server.behaviour = hello
    assert await get(http, server.url) == b"hello"
    assert server.connections == 2


async def test_a_connection_that_the_server_has_closed_is_not_used_again(http: HttpClient, server: Server) -> None:
    server.behaviour = sending_and_closing(HELLO)
    for _ in range(3):
        assert await get(http, server.url) == b"hello"
        while any(origin._open for origin in http._pools.values()):
            await asyncio.sleep(0.001)
    assert server.connections == 3


async def test_a_connection_is_not_used_longer_than_servers_keep_it(
    http: HttpClient, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await get(http, server.url) == b"hello"
    monkeypatch.setattr(pool, "KEPT_IDLE_SECONDS", 0.0)
    assert await get(http, server.url) == b"hello"
    assert server.connections == 2


async def test_idle_connections_are_closed_without_another_call(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "KEPT_IDLE_SECONDS", 0.01)
    monkeypatch.setattr(client, "KEPT_IDLE_SECONDS", 0.01)
    async with HttpClient(EgressGuard(), trusted=True) as http, asyncio.timeout(BOUND):
        assert await get(http, server.url) == b"hello"
        await server.all_gone.wait()


async def test_what_comes_after_an_answer_ends_the_connection(http: HttpClient, server: Server) -> None:
    server.behaviour = sending(HELLO + HELLO.replace(b"hello", b"WRONG"))
    assert await get(http, server.url) == b"hello"
    await server.all_gone.wait()
    server.behaviour = hello
    assert await get(http, server.url) == b"hello"


WELL: dict[str, tuple[Behaviour, bytes]] = {
    "in chunks": (sending(CHUNKED, b"2\r\nhe\r\n", b"3;x=y\r\nllo\r\n", b"0\r\nTrailer: t\r\n\r\n"), b"hello"),
    "until the end of the connection": (sending_and_closing(b"HTTP/1.1 200 OK\r\n\r\nhel", b"lo"), b"hello"),
    "in HTTP/1.0": (sending_and_closing(b"HTTP/1.0 200 OK\r\n\r\nhello"), b"hello"),
    "byte by byte": (sending(*(HELLO[i : i + 1] for i in range(len(HELLO)))), b"hello"),
    "after an interim answer": (
        sending(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", b"HTTP/1.1 100 C\r\n\r\n" + HELLO),
        b"hello",
    ),
    "with nothing": (sending(b"HTTP/1.1 204 No Content\r\n\r\n"), b""),
    "with an empty body": (sending(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), b""),
    "with a redirect that is not followed": (
        sending(b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n"),
        b"",
    ),
    "and says that it is not compressed": (
        sending(HELLO.replace(b"\r\n\r\n", b"\r\nContent-Encoding: identity\r\n\r\n")),
        b"hello",
    ),
}


@pytest.mark.parametrize("how", WELL)
async def test_an_answer_is_read_however_it_is_framed(http: HttpClient, server: Server, how: str) -> None:
    server.behaviour, expected = WELL[how]
    assert await get(http, server.url) == expected
    server.behaviour = hello
    assert await get(http, server.url) == b"hello"


LONG = b"x" * (connection.MAX_HEAD_BYTES + 1)
BAD: dict[str, tuple[Behaviour, type[HttpFailed]]] = {
    "speaks something else": (sending_and_closing(b"SSH-2.0-OpenSSH_9.9\r\n\x00\x01"), HttpBadAnswer),
    "answers in another protocol": (
        sending(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nabc"),
        HttpBadAnswer,
    ),
    "compresses": (sending(HELLO.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")), HttpBadAnswer),
    "gives two lengths": (sending(HELLO.replace(b"\r\n\r\n", b"\r\nContent-Length: 7\r\n\r\n")), HttpBadAnswer),
    "gives a length and chunks": (
        sending(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello"),
        HttpBadAnswer,
    ),
    "uses an unknown transfer encoding": (
        sending_and_closing(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx"),
        HttpBadAnswer,
    ),
    "sends a header without end": (sending(b"HTTP/1.1 200 OK\r\nX: ", *[LONG[:4096]] * 20), HttpBadAnswer),
    "sends a header name without end": (sending(b"HTTP/1.1 200 OK\r\n", *[LONG[:4096]] * 20), HttpBadAnswer),
    "sends a large head at once": (sending(HELLO.replace(b"text/plain", LONG)), HttpBadAnswer),
    "sends many small headers": (sending(b"HTTP/1.1 200 OK\r\n", *[b"X: y\r\n" * 1000] * 20), HttpBadAnswer),
    "sends interim answers for ever": (sending(*[b"HTTP/1.1 103 x\r\n\r\n" * 500] * 20), HttpBadAnswer),
    "sends a trailer without end": (sending(CHUNKED, b"0\r\nX: ", *[LONG[:4096]] * 20), HttpBadAnswer),
    "sends a chunk extension without end": (sending(CHUNKED, b"5;", *[LONG[:4096]] * 20), HttpBadAnswer),
    "sends a chunk without a length": (sending(CHUNKED, b"hello\r\n"), HttpBadAnswer),
    "closes without an answer": (sending_and_closing(), HttpClosed),
    "closes in the head": (sending_and_closing(HELLO[:20]), HttpClosed),
    "closes in the body": (sending_and_closing(HELLO[:-1]), HttpClosed),
    "closes between chunks": (sending_and_closing(CHUNKED, b"5\r\nhello\r\n"), HttpClosed),
    "never answers": (hang, HttpTimeout),
    "stops in the body": (sending(HELLO[:-1]), HttpTimeout),
}


@pytest.mark.parametrize("what", BAD)
async def test_a_server_that_misbehaves_is_told_from_one_that_answers(http: HttpClient, server: Server, what: str) -> None:
    server.behaviour, failure = BAD[what]
    with pytest.raises(HttpFailed) as caught:
        await get(http, server.url, limit=10 * len(LONG), deadline=soon(0.2 if failure is HttpTimeout else 10))
    assert type(caught.value) is failure
    assert caught.value.sent
    server.behaviour = hello
    assert await get(http, server.url) == b"hello"


@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_a_body_beyond_the_limit_is_not_read(http: HttpClient, server: Server, framing: str) -> None:
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    parts = [CHUNKED, *[chunk] * 64] if framing == "chunks" else [b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n"]
    server.behaviour = sending(*parts)
    with pytest.raises(HttpAnswerTooLarge, match="100000 bytes"):
        await get(http, server.url, limit=100_000)
    await server.all_gone.wait()


async def test_what_is_not_read_is_not_taken_from_the_server(http: HttpClient, server: Server) -> None:
    pieces = 256
    sent = 0
    blocked = asyncio.Event()

    async def stream(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.send(CHUNKED)
        for _ in range(pieces):
            exchange.writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            if exchange.writer.transport.get_write_buffer_size():
                blocked.set()
            await exchange.writer.drain()
            sent += 1
        await exchange.send(b"0\r\n\r\n")

    server.behaviour = stream
    async with await http.request("GET", server.url, headers={}, deadline=soon()) as response:
        await blocked.wait()
        assert response._held <= HIGH_WATER + READ_AT_ONCE
        assert sent < pieces
        assert sum([len(chunk) async for chunk in response]) == pieces * 65536
    server.behaviour = hello
    assert await get(http, server.url) == b"hello"
    assert server.connections == 1


async def test_a_large_body_is_sent_whole(http: HttpClient, server: Server) -> None:
    body = b"0123456789" * 500_000
    async with await http.request("PUT", server.url, headers={}, body=body, deadline=soon()) as response:
        assert response.status == 200
    assert server.exchanges[0].body == body


async def test_an_answer_that_comes_before_the_body_is_sent_is_taken(http: HttpClient) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while await reader.read(65536):
                pass
        writer.close()
        gone.set()

    gone = asyncio.Event()
    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as listener:
        url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
        async with await http.request("POST", url, headers={}, body=bytes(50_000_000), deadline=soon()) as response:
            assert response.status == 413
            assert await response.read(10) == b""
        await gone.wait()


async def test_a_call_that_waits_for_a_connection_gives_up_at_its_deadline(server: Server) -> None:
    server.behaviour = hang
    async with HttpClient(EgressGuard(), trusted=True, connections=1) as http, asyncio.timeout(BOUND):
        first = asyncio.create_task(get(http, server.url))
        while not server.exchanges:
            await asyncio.sleep(0.001)
        with pytest.raises(HttpTimeout) as caught:
            await get(http, server.url, deadline=soon(0.05))
        assert not caught.value.sent
        first.cancel()
        server.behaviour = hello
        assert await get(http, server.url) == b"hello"


async def test_one_that_does_not_listen_is_unreachable(http: HttpClient) -> None:
    async with running(Server()) as server:
        pass
    with pytest.raises(HttpUnreachable, match="refused") as caught:
        await get(http, server.url)
    assert not caught.value.sent


async def test_a_name_that_does_not_resolve_is_unreachable(http: HttpClient) -> None:
    with pytest.raises(HttpUnreachable, match="could not be resolved") as caught:
        await get(http, "http://nowhere.invalid/")
    assert not caught.value.sent


async def test_the_next_address_of_a_host_is_tried(server: Server) -> None:
    class TwoAddresses(EgressGuard):
        async def resolve(self, host: str, port: int, *, trusted: bool = False):  # type: ignore[no-untyped-def]
            return ip_address("127.0.0.9"), ip_address("127.0.0.1")

    async with HttpClient(TwoAddresses(), trusted=True) as http:
        assert await get(http, f"http://two.example:{server.port}/") == b"hello"
    assert f"Host: two.example:{server.port}\r\n" in server.exchanges[0].head


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0x7f.1", "[::1]", "169.254.169.254"])
async def test_no_address_is_connected_to_that_the_guard_refuses(server: Server, host: str) -> None:
    async with HttpClient(EgressGuard(), trusted=False) as http, asyncio.timeout(BOUND):
        with pytest.raises(EgressRefused):
            await get(http, f"http://{host}:{server.port}/")
    assert not server.connections


@pytest.mark.parametrize(
    "headers", [{"X": "a\r\nInjected: b"}, {"X": "a\nb"}, {"X": "a\0b"}, {"X Y": "a"}, {"": "a"}, {"X\r\nY": "a"}, {"X": "→"}]
)
async def test_a_header_that_would_break_out_is_not_sent(http: HttpClient, server: Server, headers: dict[str, str]) -> None:
    with pytest.raises(HttpInvalidRequest) as caught:
        await http.request("GET", server.url, headers=headers, deadline=soon())
    assert not caught.value.sent
    assert not server.connections


@pytest.mark.parametrize("url", ["ftp://a/", "/path", "http://", "http://a:0/", "http://a:99999/", "nonsense", "http://[::1/"])
async def test_what_is_no_address_of_ours_is_refused(http: HttpClient, url: str) -> None:
    with pytest.raises(HttpInvalidRequest):
        await http.request("GET", url, headers={}, deadline=soon())


async def test_a_certificate_that_nobody_signed_is_refused(http: HttpClient, tmp_path: Path) -> None:
    async with running(Server(), _self_signed(tmp_path)) as server:
        with pytest.raises(HttpUnreachable, match="certificate"):
            await get(http, server.url)


async def test_tls_is_spoken_and_connections_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tls = _self_signed(tmp_path)
    trusting = ssl.create_default_context(cafile=str(tmp_path / "server.pem"))
    monkeypatch.setattr(client, "tls_context", lambda: trusting)
    async with running(Server(), tls) as server, HttpClient(EgressGuard(), trusted=True) as http, asyncio.timeout(BOUND):
        assert [await get(http, server.url) for _ in range(3)] == [b"hello"] * 3
        assert server.connections == 1
        server.behaviour = sending(CHUNKED, *[b"10000\r\n" + b"x" * 65536 + b"\r\n"] * 40, b"0\r\n\r\n")
        assert len(await get(http, server.url, limit=10_000_000)) == 40 * 65536


async def test_closing_the_client_fails_what_is_under_way(server: Server) -> None:
    server.behaviour = hang
    http = HttpClient(EgressGuard(), trusted=True, connections=1)
    calls = [asyncio.create_task(get(http, server.url)) for _ in range(2)]
    while not server.exchanges:
        await asyncio.sleep(0.001)
    await http.close()
    failures = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(failure) for failure in failures] == [HttpClosed, HttpClosed]


def _self_signed(directory: Path) -> ssl.SSLContext:
    """A server's side of TLS with a certificate that it has signed itself; it is in `server.pem`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = directory / "server.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pem.write_bytes(private + certificate.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context
