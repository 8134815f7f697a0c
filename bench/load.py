"""A thin load client in a process of its own, so that its cost is in no figure: `python -m bench.load` reads a plan from stdin.

Raw HTTP/1.1 on keep-alive connections, each with one request under way. The plan is JSON: `host`, `port`, `path`, `headers`,
`body`, `callers`, `seconds`, and `pause`, seconds between an answer and the next request.
The answer on stdout is JSON: `calls`, `warm_up_calls`, `errors`, `seconds`, `p50_ms`, `p99_ms`,
and `sample`, the beginning of a failed answer.
"""

import asyncio
import json
import sys
import time
from typing import Any, cast

import uvloop

WARM_UP = 0.1
"""Share of the time whose calls are not counted."""


class Caller(asyncio.Protocol):
    """One connection that sends the same request again as soon as it is answered."""

    def __init__(
        self, request: bytes, latencies: list[float], failures: list[bytes], *, until: float, pause: float = 0.0
    ) -> None:
        self._request = request
        self._pause = pause
        self._latencies = latencies
        self._failures = failures
        self._until = until
        self._buffer = b""
        self._sent = 0.0
        self._transport: asyncio.Transport | None = None
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by shape
        self._send()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        end = buffer.find(b"\r\n\r\n")
        if end < 0 or len(buffer) < end + 4 + _length(buffer[:end]):
            self._buffer = buffer
            return
        self._buffer = b""
        now = time.perf_counter()
        if buffer.startswith(b"HTTP/1.1 200"):
            self._latencies.append(now - self._sent)
        else:
            self._failures.append(buffer[:500])
        if now + self._pause < self._until:
            asyncio.get_running_loop().call_later(self._pause, self._send) if self._pause else self._send()
        else:
            self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self._failures.append(f"connection lost: {exc}".encode())
            self._finish()

    def _send(self) -> None:
        assert self._transport is not None
        if self._transport.is_closing():
            return
        self._sent = time.perf_counter()
        self._transport.write(self._request)

    def _finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)
        if self._transport is not None:
            self._transport.close()


def _length(head: bytes) -> int:
    at = head.lower().find(b"content-length:")
    return int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0


async def load(plan: dict[str, Any]) -> dict[str, Any]:
    """Runs a plan."""
    body = plan["body"].encode()
    fields = {"Host": f"{plan['host']}:{plan['port']}", "Content-Length": str(len(body)), **plan["headers"]}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    request = f"POST {plan['path']} HTTP/1.1\r\n{head}\r\n".encode() + body
    failures: list[bytes] = []
    warm_up: list[float] = []
    await _run(plan, request, warm_up, failures, plan["seconds"] * WARM_UP)
    latencies: list[float] = []
    started = time.perf_counter()
    await _run(plan, request, latencies, failures, plan["seconds"])
    seconds = time.perf_counter() - started
    latencies.sort()
    return {
        "calls": len(latencies),
        "warm_up_calls": len(warm_up),
        "errors": len(failures),
        "seconds": seconds,
        "p50_ms": _quantile(latencies, 0.5),
        "p99_ms": _quantile(latencies, 0.99),
        "sample": failures[0].decode("utf-8", "replace") if failures else "",
    }


async def _run(plan: dict[str, Any], request: bytes, latencies: list[float], failures: list[bytes], seconds: float) -> None:
    loop = asyncio.get_running_loop()
    until = time.perf_counter() + seconds
    opened = [
        await loop.create_connection(
            lambda: Caller(request, latencies, failures, until=until, pause=plan.get("pause", 0.0)), plan["host"], plan["port"]
        )
        for _ in range(plan["callers"])
    ]
    await asyncio.wait_for(asyncio.gather(*(caller.done for _, caller in opened)), seconds + 60)


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1000 if ordered else float("nan")


if __name__ == "__main__":
    json.dump(uvloop.run(load(json.load(sys.stdin))), sys.stdout)
