"""What the gateway's other users notice while one server, or some clients, misbehave; and what abandoned sessions leave behind."""

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from bench import processes

NEIGHBOURS = 4
STRANGERS = 20
PAUSE = 0.02
"""Seconds that each caller waits between calls: what is measured is the wait behind others, not the machine's own limit."""
TRICKLING = 500
DROPPED_WITHIN = 90.0
SESSIONS, QUICK_SESSIONS = 10_000, 1_000
ESTABLISHED = "01"
"""In /proc/net/tcp."""
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "gone", "version": "1"}},
}
Plan = dict[str, Any]


def strained(good: Plan, bad: Mapping[str, Plan], kill: Callable[[], None], pid: int, *, seconds: float) -> Table:
    """The p99 of calls to a server that is well: alone, and beside each kind of trouble. `kill` ends the server `killed`."""
    table = Table(title=f"calls of {NEIGHBOURS} users to a server that is well, while")
    for column in ("", "p50 ms", "p99 ms", "p99 beside alone", "errors", "memory MiB"):
        table.add_column(column, justify="right" if column else "left")
    neighbours = {**good, "callers": NEIGHBOURS, "seconds": seconds, "pause": PAUSE}
    processes.load({**neighbours, "seconds": 1.0})

    def row(what: str, alone: float, result: Mapping[str, Any]) -> None:
        moved = f"{result['p99_ms'] / alone - 1:+.0%}" if alone else ""
        figures = (f"{result['p50_ms']:.2f}", f"{result['p99_ms']:.2f}", moved, str(result["errors"]))
        table.add_row(what, *figures, f"{processes.memory_mib(pid):.0f}")

    troubles: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
        f"{STRANGERS} others call one that hangs": lambda: _beside(bad["hang"], seconds),
        f"{STRANGERS} others call one that was killed": lambda: _beside(bad["killed"], seconds),
        f"{STRANGERS} others call one that floods": lambda: _clients("unread", bad["flood"], STRANGERS),
        f"{STRANGERS} others ask it for progress, and do not read": lambda: _clients("unread", _loud(bad["flood"]), STRANGERS),
        f"{TRICKLING} clients send a byte a second": lambda: _clients("trickle", good, TRICKLING),
    }
    for what, trouble in troubles.items():
        alone = processes.load(neighbours)
        row("nothing else happens", 0.0, alone)
        if "killed" in what:
            kill()
        with trouble():
            row(what, alone["p99_ms"], processes.load(neighbours))
        table.add_section()
    return table


def unread(flood: Plan, pid: int) -> Table:
    """How long clients that do not read the progress that they have asked for are kept, and what they take meanwhile."""
    before = most = processes.memory_mib(pid)
    with _clients("unread", _loud(flood), STRANGERS):
        started, others = time.monotonic(), _connections(flood["port"]) - STRANGERS
        while (left := _connections(flood["port"]) - others) > 0 and time.monotonic() < started + DROPPED_WITHIN:
            most = max(most, processes.memory_mib(pid))
            time.sleep(0.5)
        seconds = time.monotonic() - started
    table = Table(title=f"{STRANGERS} clients that do not read", show_header=False)
    table.add_row("dropped", f"{STRANGERS - left} within {seconds:.0f} s")
    table.add_row("memory before, at most and after (PSS)", f"{before:.0f}, {most:.0f}, {processes.memory_mib(pid):.0f} MiB")
    return table


def abandoned(plan: Plan, pid: int, sessions: int) -> Table:
    """The memory before and after sessions of the handshake era are opened and never used or ended."""
    opened = {**plan, "body": json.dumps(INITIALIZE), "callers": 20}
    opened["headers"] = {name: value for name, value in plan["headers"].items() if not name.lower().startswith("mcp-")}
    processes.load({**opened, "seconds": 0.5})
    before, done, errors = processes.memory_mib(pid), 0, 0
    while done < sessions and not errors:
        result = processes.load({**opened, "seconds": 2.0})
        done, errors = done + result["calls"] + result["warm_up_calls"], result["errors"]
    after = processes.memory_mib(pid)
    table = Table(title="sessions opened and abandoned", show_header=False)
    table.add_row("sessions", f"{done:,}" + (f" ({errors} errors)" if errors else ""))
    table.add_row("memory before and after (PSS)", f"{before:.0f} MiB, {after:.0f} MiB ({after / before - 1:+.0%})")
    return table


def _loud(flood: Plan) -> Plan:
    """The plan with long messages of progress that the client asks for."""
    body = json.loads(flood["body"])
    body["params"]["arguments"]["text"] = "x" * 5_000
    body["params"]["_meta"]["progressToken"] = 1
    return {**flood, "body": json.dumps(body)}


def _connections(port: int) -> int:
    """How many connections to a port of this machine are open, at the side of whoever listens there."""
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return sum(row[1].endswith(f":{port:04X}") and row[3] == ESTABLISHED for row in rows)


@contextlib.contextmanager
def _beside(plan: Plan, seconds: float) -> Iterator[None]:
    """Calls under way while the block runs."""
    body = json.dumps({**plan, "callers": STRANGERS, "seconds": seconds * 2, "pause": PAUSE}).encode()
    with processes.running(
        subprocess.Popen(
            [sys.executable, "-m", "bench.load"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd=processes.ROOT
        )
    ) as process:
        assert process.stdin is not None
        process.stdin.write(body)
        process.stdin.close()
        time.sleep(0.5)
        yield


@contextlib.contextmanager
def _clients(kind: str, plan: Plan, number: int) -> Iterator[None]:
    command = [sys.executable, "-m", "bench.strain", kind, str(number), json.dumps(plan)]
    with processes.running(subprocess.Popen(command, cwd=processes.ROOT)):
        time.sleep(1.5)
        yield


async def _misbehave(kind: str, number: int, plan: Plan) -> None:
    await asyncio.gather(*(_client(kind, plan) for _ in range(number)))


async def _client(kind: str, plan: Plan) -> None:
    """A client that trickles its body, or reads nothing of its answer; it comes back when it is dropped."""
    body = plan["body"].encode()
    fields = {"Host": f"{plan['host']}:{plan['port']}", "Content-Length": str(len(body)), **plan["headers"]}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    while True:
        with contextlib.suppress(OSError):
            taker = socket.create_connection((plan["host"], plan["port"]))
            taker.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader, writer = await asyncio.open_connection(sock=taker, limit=1024)
            writer.write(f"POST {plan['path']} HTTP/1.1\r\n{head}\r\n".encode())
            if kind == "unread":
                writer.write(body)
                await asyncio.sleep(3600)
            for at in range(len(body)):
                writer.write(body[at : at + 1])
                await writer.drain()
                await asyncio.sleep(1)
                if reader.at_eof():
                    break
            writer.close()


if __name__ == "__main__":
    asyncio.run(_misbehave(sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])))
