"""`python -m tests.engines.silence ENGINE FOLDER`: one run of an engine, and what it tried to reach except the two gateways, as JSON.

Where the kernel allows it (Linux, as root or with user namespaces) everything happens in a network of its own, in which all routes
lead to one interface, and each packet on it is looked at: whoever sends it, however. There is no other network for the run either: the
right to make one is given away. Connections to sockets that are files are no packets. Besides, an audit hook notes what Python's own
sockets do, in the engine's parent from before anything is imported and in the run; elsewhere it is all that is known, and `packets`
is null.
"""

import asyncio
import ctypes
import fcntl
import json
import os
import shutil
import socket
import struct
import sys
import threading
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from auralink.runs.engine_manifest import MANIFEST, default_root, read_manifest
from auralink.runs.engines import Engines, Result, Start
from tests.engines.flows import flow_start
from tests.engines.gateway import Gateway, running_gateway, said, wants
from tests.engines.running import a_start, collector, graph
from tests.engines.teams import a_team, member, team_start, tools_of

HERE = Path(__file__).parent
WIKI = "deepwiki__ask_question"
ANSWER = "Thought: I know it now.\nFinal Answer: Type make run. TERMINATE"
HOME = "127.0.0.1"
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
SIOCADDRT, SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCSIFADDR = 0x890B, 0x8913, 0x8914, 0x8916
UP = 1
PR_CAPBSET_DROP, CAP_SYS_ADMIN = 24, 21
ETH_P_ALL, ETH_P_IP, OUTGOING = 3, 0x0800, 4
TCP, UDP, ICMP_6 = 6, 17, 58
_libc = ctypes.CDLL(None, use_errno=True)


def main(engine: str, folder: Path) -> None:
    try:
        sniffer = Sniffer(shut_in())
    except OSError as error:
        sniffer = None
        print(f"no network of its own here: {error}", file=sys.stderr)
    root, record = recorded(engine, folder)
    outcome, called, port = asyncio.run(run_once(engine, root))
    packets = sniffer.heard(port) if sniffer is not None else None
    lines = record.read_text().splitlines() if record.exists() else []
    said_there = sorted({line for line in lines if f"('{HOME}', {port})" not in line})
    print(json.dumps({"outcome": outcome, "called": called, "packets": packets, "python": said_there}))


def shut_in() -> socket.socket:
    """Leaves for a network in which every address is beyond the loopback interface; a socket that sees what is sent there. Raises
    OSError."""
    user, root = os.geteuid(), os.geteuid() == 0
    if _libc.unshare(CLONE_NEWNET if root else CLONE_NEWUSER | CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    if not root:
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as four:
        flags = struct.unpack_from("16sh", fcntl.ioctl(four, SIOCGIFFLAGS, struct.pack("16sh14x", b"lo", 0)))[1]
        fcntl.ioctl(four, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | UP))
        fcntl.ioctl(four, SIOCSIFADDR, struct.pack("16s16s8x", b"lo:1", _address("198.18.0.1")))
        device = ctypes.create_string_buffer(b"lo")
        everywhere = [_address("0.0.0.0")] * 3  # to, by way of, mask
        route = struct.pack("@L16s16s16sHhLPhxxxxxxPLLH", 0, *everywhere, UP, 0, 0, 0, 0, ctypes.addressof(device), 0, 0, 0)
        fcntl.ioctl(four, SIOCADDRT, route)
    _route_newer_addresses()
    sniffing = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
    _libc.prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0)
    return sniffing


def _address(text: str) -> bytes:
    return struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(text))


def _route_newer_addresses() -> None:
    if not Path("/proc/net/if_inet6").exists():
        return
    index = socket.if_nametoindex("lo")
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as six:
        fcntl.ioctl(six, SIOCSIFADDR, struct.pack("=16sIi", socket.inet_pton(socket.AF_INET6, "fd00::1"), 128, index))
        fcntl.ioctl(six, SIOCADDRT, struct.pack("@16s16s16sIHHILIi", bytes(16), bytes(16), bytes(16), 0, 0, 0, 1, 0, UP, index))


class Sniffer:
    """Keeps where packets were to go."""

    def __init__(self, sniffing: socket.socket) -> None:
        self._sniffing = sniffing
        self._seen: set[tuple[str, str, int, int]] = set()
        threading.Thread(target=self._listen, daemon=True).start()

    def heard(self, port: int) -> list[str]:
        """Everything but the conversation with the gateways, which both listen on one port of this machine."""
        home = {(HOME, port)}
        return sorted({f"{kind} {to}:{dport}" for kind, to, sport, dport in self._seen if not home & {(to, sport), (to, dport)}})

    def _listen(self) -> None:
        while True:
            packet, (_, family, direction, *_) = self._sniffing.recvfrom(65535)
            if direction == OUTGOING and (found := destination(packet, newer=family != ETH_P_IP)):
                self._seen.add(found)


def destination(packet: bytes, *, newer: bool) -> tuple[str, str, int, int] | None:
    """(protocol, address, from port, to port) of an IP packet; None for what the kernel itself says. The kernel's word that an address
    cannot be reached carries the packet that was to go there."""
    kind, start = (packet[6], 40) if newer else (packet[9], 4 * (packet[0] & 15))
    if newer and kind == ICMP_6 and packet[start] == 1:
        return destination(packet[start + 8 :], newer=True)
    if kind not in (TCP, UDP):
        return None
    to = socket.inet_ntop(socket.AF_INET6, packet[24:40]) if newer else socket.inet_ntoa(packet[16:20])
    return ("tcp" if kind == TCP else "udp", to, *struct.unpack_from(">HH", packet, start))


def folder_of(engine: str) -> Path:
    """The folder of an engine of the tests, or of the project."""
    return HERE / engine if (HERE / engine).is_dir() else default_root() / engine


def recorded(engine: str, folder: Path) -> tuple[Path, Path]:
    """The engine once more, with the recorder imported before anything of it; and where the recorder writes."""
    source = folder_of(engine)
    place, record = folder / "engines" / engine, folder / "record"
    place.mkdir(parents=True)
    for part in source.iterdir():
        if part.name != MANIFEST:
            (place / part.name).symlink_to(part)
    shutil.copy(HERE / "recorder.py", place / "recorder.py")
    manifest = tomllib.loads((source / MANIFEST).read_text())
    manifest["preload"] = ["recorder", *manifest.get("preload", ())]
    environment = {**manifest.pop("environment", {}), "RECORD": str(record)}
    lines = [f"{name} = {json.dumps(value)}" for name, value in manifest.items()]
    told = [f"{name} = {json.dumps(value)}" for name, value in environment.items()]
    (place / MANIFEST).write_text("\n".join([*lines, "[environment]", *told]))
    return folder / "engines", record


async def run_once(engine: str, root: Path) -> tuple[str, int, int]:
    """What came of a run, how many tools it called, and the port of the gateways."""
    engines = Engines(root, Path(sys.executable) if folder_of(engine).parent == HERE else None)
    try:
        async with running_gateway(model) as gateway:
            outcome = await engines.execute(start_of(engine, gateway), collector([]))
            port = int(gateway.url.rpartition(":")[2])
    finally:
        await engines.close()
    return "result" if isinstance(outcome, Result) else outcome.message, len(gateway.called), port


def model(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Asks for the tool once."""
    answered = any(message["role"] == "tool" for message in body["messages"])
    asks = wants((WIKI, {"repoName": "a/b", "question": "How?"}))
    return asks if WIKI in tools_of(body) and not answered else said(ANSWER)


def start_of(engine: str, gateway: Gateway) -> Start:
    """A team of two with a tool, in the engine's usual mode; of an engine for workflows, one agent with it; a flow of two steps."""
    manifest = read_manifest(folder_of(engine) / MANIFEST)
    if "team" in manifest.kinds:
        team = a_team(manifest.modes[0], [member("reader", tools=[WIKI]), "writer"], limits={"turns": 4})
        return team_start(engine, team, gateway)
    if "flow" in manifest.kinds:
        steps = [
            {"name": "read", "type": "tool", "tool": WIKI, "arguments": {"repoName": "a/b", "question": "How?"}, "cache": True},
            {"name": "say", "type": "llm", "prompt": "{{ read.answer }}"},
        ]
        return flow_start({"steps": steps}, gateway, {})
    node = {"type": "agent", "prompt": "{{ question }}", "tools": [WIKI]}
    return a_start(graph({"ask": node}, ("ask", "end")), gateway, {"question": "How?"})


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
