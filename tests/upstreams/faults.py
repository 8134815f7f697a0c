"""Ways in which a server over HTTP can misbehave, each for one exchange of a `RawServer`."""

import asyncio
import functools
import gzip
import json

from tests.upstreams.raw import Behaviour, Exchange

TEN_MEGABYTES = 10 * 1024 * 1024
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENTS = CHUNKED % b"text/event-stream"
PROGRESS = b'data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}\n\n'


def chunk(data: bytes) -> bytes:
    """A chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


async def hang(exchange: Exchange) -> None:
    """Never answers."""
    await asyncio.Event().wait()


async def close(exchange: Exchange) -> None:
    """Closes the connection instead of answering."""
    exchange.writer.close()


async def reset(exchange: Exchange) -> None:
    """Resets the connection in the middle of an answer."""
    await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
    exchange.writer.transport.abort()


async def close_in_body(exchange: Exchange) -> None:
    """Announces more than it sends."""
    await exchange.send(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"jsonrpc":')
    exchange.writer.close()


async def not_http(exchange: Exchange) -> None:
    """Answers in another protocol."""
    await exchange.send(b"SSH-2.0-OpenSSH_9.9\r\n\x00\x01\x02")
    exchange.writer.close()


async def not_json(exchange: Exchange) -> None:
    """Answers with a page for people."""
    await exchange.http(b"<html><body>Welcome!</body></html>", headers={"Content-Type": "text/html"})


async def json_but_no_message(exchange: Exchange) -> None:
    """Answers with JSON that is no JSON-RPC."""
    await exchange.http(b"[1, 2, 3]")


async def deep_json(exchange: Exchange) -> None:
    """Answers with a hundred thousand lists in each other."""
    depth = 100_000
    await exchange.http(b'{"jsonrpc":"2.0","id":1,"result":' + b"[" * depth + b"]" * depth + b"}")


async def wrong_id(exchange: Exchange) -> None:
    """Answers a request that was never made."""
    await exchange.http(json.dumps({"jsonrpc": "2.0", "id": 987654, "result": {"content": []}}).encode())


async def no_result(exchange: Exchange) -> None:
    """Answers with a result that is none."""
    await exchange.result("fine")


async def acknowledged_only(exchange: Exchange) -> None:
    """Accepts a request as if it were a notification."""
    await exchange.http(b"", status="202 Accepted")


async def ten_megabytes(exchange: Exchange) -> None:
    """Answers ten megabytes, and says so."""
    await exchange.result({"content": [{"type": "text", "text": "x" * TEN_MEGABYTES}]})


async def ten_megabytes_in_chunks(exchange: Exchange) -> None:
    """Answers ten megabytes without saying how many."""
    await exchange.send(CHUNKED % b"application/json")
    for _ in range(160):
        await exchange.send(chunk(b" " * 65536))
    await exchange.send(chunk(b""))


async def gzip_bomb(exchange: Exchange) -> None:
    """Answers two hundred megabytes of zeros, packed into less than one."""
    await exchange.http(_bomb(), headers={"Content-Encoding": "gzip"})


async def half_stream(exchange: Exchange) -> None:
    """Begins an event stream and cuts it off."""
    await exchange.send(EVENTS + chunk(PROGRESS))
    exchange.writer.close()


async def ended_stream(exchange: Exchange) -> None:
    """Ends an event stream in good order without having answered."""
    await exchange.send(EVENTS + chunk(PROGRESS) + chunk(b""))


async def endless_stream(exchange: Exchange) -> None:
    """Reports progress for ever."""
    await exchange.send(EVENTS)
    while True:
        await exchange.send(chunk(PROGRESS) + chunk(b": still here\n\n"))
        await asyncio.sleep(0.01)


async def flood(exchange: Exchange) -> None:
    """Reports progress as fast as it is taken, for ever."""
    token = exchange.request.message["params"].get("_meta", {}).get("progressToken", 0)
    params = {"progressToken": token, "progress": 1, "message": "x" * 1000}
    note = {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}
    event = b"data: %s\n\n" % json.dumps(note).encode()
    await exchange.send(EVENTS)
    while True:
        await exchange.send(chunk(event))


async def stream_of_megabytes(exchange: Exchange) -> None:
    """Sends one event that does not end."""
    await exchange.send(EVENTS + chunk(b"data: "))
    for _ in range(160):
        await exchange.send(chunk(b"x" * 65536))


async def stream_of_another(exchange: Exchange) -> None:
    """Answers another request, in a stream."""
    await exchange.send(EVENTS + chunk(b'data: {"jsonrpc":"2.0","id":987654,"result":{}}\n\n') + chunk(b""))


async def slow_drip(exchange: Exchange) -> None:
    """Sends a byte at a time."""
    await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n")
    while True:
        await exchange.send(b" ")
        await asyncio.sleep(0.01)


async def redirect(exchange: Exchange) -> None:
    """Sends the caller to the cloud's metadata service."""
    await exchange.http(b"", status="307 Temporary Redirect", headers={"Location": "http://169.254.169.254/latest/meta-data"})


def status(line: str, body: bytes = b"no") -> Behaviour:
    """Answers with an HTTP status."""

    async def behave(exchange: Exchange) -> None:
        await exchange.http(body, status=line, headers={"Content-Type": "text/plain"})

    return behave


def once(behaviour: Behaviour) -> Behaviour:
    """Misbehaves the first time and is well from then on."""

    async def behave(exchange: Exchange) -> None:
        del exchange.server.on[exchange.request.method]
        await behaviour(exchange)

    return behave


@functools.cache
def _bomb() -> bytes:
    return gzip.compress(bytes(200 * 1024 * 1024), 1)
