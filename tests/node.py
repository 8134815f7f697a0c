"""Programs from npm that the tests run beside ours: installed once, from a lock, into `tests/node/node_modules`."""

import fcntl
import shutil
import subprocess
from pathlib import Path

import pytest
from mcp import StdioServerParameters

PROJECT = Path(__file__).parent / "node"
INSTALL_TIMEOUT = 110.0


def reference_server(package: str, **env: str) -> StdioServerParameters:
    """How to start a reference server over stdio. Skips the test if the package cannot be had (no node, no npm, no network)."""
    modules = _installed()
    return StdioServerParameters(
        command="node", args=[str(modules / "@modelcontextprotocol" / package / "dist" / "index.js")], env=env
    )


def _installed() -> Path:
    modules, lock = PROJECT / "node_modules", PROJECT / "package-lock.json"
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed")
    with (PROJECT / "package.json").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        mark = modules / ".installed-lock"
        if mark.is_file() and mark.read_bytes() == lock.read_bytes():
            return modules
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        try:
            done = subprocess.run(command, cwd=PROJECT, timeout=INSTALL_TIMEOUT, capture_output=True, text=True, check=False)
        except subprocess.TimeoutExpired:
            pytest.skip("npm did not install the reference servers in time")
        if done.returncode:
            pytest.skip(f"npm cannot install the reference servers: {done.stderr.strip()[:200]}")
        mark.write_bytes(lock.read_bytes())
    return modules
