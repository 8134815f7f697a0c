"""Programs from npm that the tests run beside ours: installed once, each project from its lock, into its `node_modules`."""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest
from mcp import StdioServerParameters

TESTS = Path(__file__).parent
REFERENCE_SERVERS, INSPECTOR, OPENAI_CLIENT = TESTS / "node", TESTS / "inspector", TESTS / "openai_client"
INSTALL_TIMEOUT = 240.0


def reference_server(package: str, **env: str) -> StdioServerParameters:
    """How to start a reference server over stdio. Skips the test if the package cannot be had (no node, no npm, no network)."""
    modules = installed(REFERENCE_SERVERS)
    return StdioServerParameters(
        command="node", args=[str(modules / "@modelcontextprotocol" / package / "dist" / "index.js")], env=env
    )


def inspector_command() -> list[str]:
    """How to start the MCP Inspector's command line. Skips the test if it cannot be had."""
    program = installed(INSPECTOR) / "@modelcontextprotocol" / "inspector" / "cli" / "build" / "cli.js"
    return ["node", str(program), "--cli"]


def installed(project: Path) -> Path:
    """The `node_modules` of a project, installed if its lock has changed."""
    modules, lock = project / "node_modules", project / "package-lock.json"
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        unavailable("node and npm are not installed")
    with (project / "package.json").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        mark = modules / ".installed-lock"
        if mark.is_file() and mark.read_bytes() == lock.read_bytes():
            return modules
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        try:
            done = subprocess.run(command, cwd=project, timeout=INSTALL_TIMEOUT, capture_output=True, text=True, check=False)
        except subprocess.TimeoutExpired:
            unavailable(f"npm did not install {project.name} in time")
        if done.returncode:
            unavailable(f"npm cannot install {project.name}: {done.stderr.strip()[:200]}")
        mark.write_bytes(lock.read_bytes())
    return modules


def unavailable(reason: str) -> NoReturn:
    """Skips the test; in CI, where everything must be there, fails it."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
