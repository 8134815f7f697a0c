"""Other gateways, called beside ours where `make bench-peers` has installed them, each as its documentation shows it."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from bench import processes
from bench.tools import Door

PYTHON = Path(__file__).parent / ".peers" / "bin" / "python"
FASTMCP = "FastMCP proxy"
READY_SECONDS = 120.0


@contextlib.contextmanager
def door(direct: Door) -> Iterator[Door]:
    """FastMCP's proxy in front of the server that `direct` calls."""
    port = processes.free_port()
    url = f"http://127.0.0.1:{direct.plan['port']}/mcp"
    with processes.running(processes.program(str(PYTHON), "bench/fastmcp_proxy.py", str(port), url)) as process:
        processes.await_port(port, process, READY_SECONDS)
        yield Door(FASTMCP, {**direct.plan, "port": port}, process.pid)


def installed(module: str = "fastmcp") -> bool:
    """Whether the peers' environment has a module."""
    command = [str(PYTHON), "-c", f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"]
    return PYTHON.exists() and subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode == 0
