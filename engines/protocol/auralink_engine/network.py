"""A network of its own for a run's process, in which nothing is but the two gateways' ports.

The process leaves for an empty network namespace, listens there on the gateways' addresses, and hands these sockets to the relay: a
small process outside, which carries each connection to the gateway it is meant for and to nowhere else. A socket belongs to the
namespace in which it was made, so accepting needs no privilege. Linux only, as root or with unprivileged user namespaces; `possible`
tells. Files that are sockets are not covered by this (the run has no secret to use them with).
"""

import array
import asyncio
import contextlib
import ctypes
import fcntl
import ipaddress
import json
import os
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from auralink_engine.job import Job

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCSIFADDR = 0x8913, 0x8914, 0x8916
IFF_UP = 1
MAX_MESSAGE = 64 * 1024
MAX_SOCKETS = 8
CHUNK = 64 * 1024
Address = tuple[str, int]
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def possible() -> bool:
    """Whether a process of ours can have a network of its own; tried in a child."""
    if _libc is None:
        return False
    pid = os.fork()
    if pid == 0:
        try:
            _leave()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def isolate(job: Job, relay: socket.socket, ways: Sequence[str] = ()) -> None:
    """Leaves this process only the way to the job's two gateways, and to what the engine's helper has named. Raises OSError."""
    _leave()
    listeners: list[socket.socket] = []
    targets: list[Address] = []
    names: dict[str, str] = {}
    for host, port in dict.fromkeys(map(_address_of, (job.mcp_url, job.llm_url, *ways))):
        listeners.append(_listen(host, port, names))
        targets.append((host, port))
    message = json.dumps({"run": job.run, "targets": targets}).encode()
    descriptors = array.array("i", [listener.fileno() for listener in listeners])
    relay.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
    relay.close()
    for listener in listeners:
        listener.close()
    _answer_for(names)


class Relay:
    """The relay as the engine's parent sees it."""

    def __init__(self, pid: int, orders: socket.socket) -> None:
        self.pid = pid
        self.orders = orders

    @classmethod
    def start(cls, become_child: Callable[[], None]) -> "Relay":
        """Forks the relay; `become_child` lets go of what is the parent's."""
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        pid = os.fork()
        if pid == 0:
            try:
                become_child()
                ours.close()
                asyncio.run(_serve(its))
            finally:
                os._exit(0)
        its.close()
        return cls(pid, ours)

    def drop(self, run: str) -> None:
        """Closes what is left of a run's connections; without it its network would live on."""
        with contextlib.suppress(OSError):
            self.orders.send(json.dumps({"drop": run}).encode())


def _leave() -> None:
    assert _libc is not None
    user, group, root = os.geteuid(), os.getegid(), os.geteuid() == 0
    if _libc.unshare(CLONE_NEWNET if root else CLONE_NEWUSER | CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    if not root:
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        asked = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack_from("16sh", fcntl.ioctl(probe, SIOCGIFFLAGS, asked))[1]
        fcntl.ioctl(probe, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


def _address_of(url: str) -> Address:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _listen(host: str, port: int, names: dict[str, str]) -> socket.socket:
    """Listens on a gateway's address; a name gets an address of the loopback network, noted in `names`."""
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        names.setdefault(host, f"127.0.{len(names)}.1")
        literal = ipaddress.ip_address(names[host])
    if literal.version == 4 and not literal.is_loopback:
        _add_address(str(literal))
    family = socket.AF_INET if literal.version == 4 else socket.AF_INET6
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((str(literal), port))
    listener.listen(64)
    return listener


def _add_address(address: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        label = f"lo:{int(ipaddress.ip_address(address)) & 0xFFFF}"[:15].encode()
        request = struct.pack("16sHH4s8x", label, socket.AF_INET, 0, socket.inet_aton(address))
        fcntl.ioctl(probe, SIOCSIFADDR, request)


def _answer_for(names: dict[str, str]) -> None:
    """Has this process find the gateways by their names; there is no one else to ask here."""
    look_up = socket.getaddrinfo

    def answer(host: Any, *rest: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        return look_up(names.get(name, host), *rest, **options)

    socket.getaddrinfo = answer


async def _serve(orders: socket.socket) -> None:
    """The relay's life: takes listening sockets for runs, and lets them go."""
    runs: dict[str, list[asyncio.Task[None]]] = {}
    loop = asyncio.get_running_loop()
    orders.setblocking(False)
    ready: asyncio.Queue[None] = asyncio.Queue()
    loop.add_reader(orders, ready.put_nowait, None)
    while True:
        await ready.get()
        try:
            data, descriptors, _, _ = socket.recv_fds(orders, MAX_MESSAGE, MAX_SOCKETS)
        except BlockingIOError:
            continue
        if not data:
            return
        message = json.loads(data)
        if "drop" in message:
            for task in runs.pop(message["drop"], ()):
                task.cancel()
            continue
        tasks = runs.setdefault(message["run"], [])
        for descriptor, (host, port) in zip(descriptors, message["targets"], strict=True):
            tasks.append(asyncio.create_task(_accept(socket.socket(fileno=descriptor), (host, port), tasks)))


async def _accept(listener: socket.socket, target: Address, tasks: list[asyncio.Task[None]]) -> None:
    loop = asyncio.get_running_loop()
    listener.setblocking(False)
    with listener:
        while True:
            connection, _ = await loop.sock_accept(listener)
            task = asyncio.create_task(_carry(connection, target))
            tasks.append(task)
            task.add_done_callback(lambda done: tasks.remove(done) if done in tasks else None)


async def _carry(inside: socket.socket, target: Address) -> None:
    """One connection, both ways, until both ends have said all."""
    try:
        reader, writer = await asyncio.open_connection(*target)
    except BaseException as error:
        inside.close()  # as if nobody listened
        if isinstance(error, OSError):
            return
        raise
    inside_reader, inside_writer = await asyncio.open_connection(sock=inside)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_pump(inside_reader, writer))
            group.create_task(_pump(reader, inside_writer))
    except* OSError:
        pass  # one end broke off; the other is told by the closing
    finally:
        writer.close()
        inside_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
