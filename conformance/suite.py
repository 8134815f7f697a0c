"""Runs the suite's program and reads what it found. The program is installed once, from the lock beside this file."""

import asyncio
import fcntl
import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"
NODE = MODULES / "node" / "bin" / "node"
PROGRAM = MODULES / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
INSTALL_SECONDS = 300.0
SUITE_SECONDS = 600.0
TIMESTAMP_LENGTH = len("-2026-01-01T00-00-00-000Z")


class SuiteUnavailable(Exception):
    """The suite cannot be installed or run here; the message says why."""


@dataclass(frozen=True)
class Check:
    """One check of one scenario. A scenario may make a check more than once: `number` counts them."""

    scenario: str
    id: str
    name: str
    number: int
    status: str
    error: str = ""

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What the same check has in another run."""
        return self.scenario, self.id, self.name, self.number


def install() -> None:
    """Brings the suite and its Node.js here. Raises `SuiteUnavailable`."""
    npm = shutil.which("npm")
    if npm is None:
        raise SuiteUnavailable("npm is not installed")
    lock, mark = HERE / "package-lock.json", MODULES / ".installed-lock"
    with (HERE / "package.json").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if mark.is_file() and mark.read_bytes() == lock.read_bytes():
            return
        command = [npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"]
        try:
            done = subprocess.run(command, cwd=HERE, timeout=INSTALL_SECONDS, capture_output=True, text=True, check=False)
        except subprocess.TimeoutExpired:
            raise SuiteUnavailable(f"npm did not install the suite within {INSTALL_SECONDS:.0f} s") from None
        if done.returncode or not NODE.exists():
            raise SuiteUnavailable(f"npm cannot install the suite: {done.stderr.strip()[:300]}")
        mark.write_bytes(lock.read_bytes())


async def server_checks(url: str, revision: str, scenarios: Sequence[str] = ()) -> list[Check]:
    """What the suite finds at a server: the requirements of a revision, or the named scenarios alone."""
    if not scenarios:
        return await _checks("server", "--url", url, "--requirements", revision)
    checks: list[Check] = []
    for scenario in scenarios:
        checks += await _checks("server", "--url", url, "--scenario", scenario, "--spec-version", revision)
    return checks


async def client_checks(command: str, revision: str, scenario: str) -> list[Check]:
    """What the suite finds at a client, which it starts with the address of a server of its own."""
    return await _checks("client", "--command", command, "--scenario", scenario, "--spec-version", revision)


async def _checks(leg: str, *arguments: str) -> list[Check]:
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        process = await asyncio.create_subprocess_exec(
            str(NODE),
            str(PROGRAM),
            leg,
            *arguments,
            "-o",
            folder,
            cwd=HERE.parent,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(SUITE_SECONDS):
                output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        checks = [check for path in sorted(Path(folder).rglob("checks.json")) for check in _read(path, leg)]
    if not checks:
        raise SuiteUnavailable(f"the suite found nothing to check: {output.decode(errors='replace')[-500:]}")
    return checks


def _read(path: Path, leg: str) -> list[Check]:
    scenario = path.parent.name[:-TIMESTAMP_LENGTH].removeprefix(f"{leg}-")
    seen: dict[tuple[str, str], int] = {}
    checks = []
    for found in json.loads(path.read_text()):
        if found["status"] == "INFO":
            continue
        key = (found["id"], found["name"])
        seen[key] = seen.get(key, 0) + 1
        checks.append(Check(scenario, *key, seen[key], found["status"], found.get("errorMessage") or ""))
    return checks
