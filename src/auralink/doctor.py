"""`auralink doctor`: looks at everything that the service needs, and says what to do about what is wrong."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from auralink.bootstrap import data_dir_of
from auralink.client import AuraLink, ServiceUnreachable
from auralink.core import embedded_postgres as embedded
from auralink.core.errors import AuralinkError, StartupError
from auralink.core.settings import Settings, load_settings
from auralink.first_job import service_url
from auralink.mcp.config import load_mcp_config
from auralink.serving import running_pids


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    what: str
    ok: bool
    state: str


async def examine() -> list[Finding]:
    """Every finding, in the order in which things depend on each other."""
    try:
        settings = load_settings()
    except StartupError as error:
        return [Finding("settings", ok=False, state=error.message)]
    findings = [
        _python(),
        Finding("settings", ok=True, state="read"),
        _config(settings),
        *_database(settings),
        _secrets(settings),
    ]
    return [*findings, *await _service(settings)]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    ok = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return Finding("python", ok=ok, state=version if ok else f"{version}; use 3.11, 3.12 or 3.13")


def _config(settings: Settings) -> Finding:
    try:
        config = load_mcp_config(settings.auralink_config)
    except StartupError as error:
        return Finding("configuration", ok=False, state=error.message)
    return Finding("configuration", ok=True, state=f"{len(config.mcp_servers)} MCP servers: {', '.join(config.mcp_servers)}")


def _database(settings: Settings) -> Iterator[Finding]:
    if not settings.embedded:
        yield Finding("database", ok=True, state="external (DATABASE_URL)")
        return
    data_dir = data_dir_of(settings)
    try:
        state = embedded.status(data_dir)
    except AuralinkError as error:
        yield Finding("database", ok=False, state=error.message)
        return
    yield Finding("database", ok=True, state=f"embedded in {data_dir}: {state}")


def _secrets(settings: Settings) -> Finding:
    if settings.embedded:
        return Finding("secrets", ok=True, state="generated at the first start, unless set in the environment")
    missing = []
    if settings.jwt_secret is None and settings.jwt_jwks_url is None:
        missing.append("JWT_SECRET or JWT_JWKS_URL")
    if settings.mcp_encryption_key is None:
        missing.append("MCP_ENCRYPTION_KEY (openssl rand -base64 32)")
    return Finding("secrets", ok=not missing, state=f"set {' and '.join(missing)}" if missing else "set")


async def _service(settings: Settings) -> list[Finding]:
    url = service_url(settings)
    pids = running_pids(data_dir_of(settings))
    try:
        async with AuraLink(url, timeout=5) as client:
            health: dict[str, Any] = await client.health()
    except ServiceUnreachable:
        if not pids:
            return [Finding("service", ok=True, state="not running; start it with `make run` or `auralink serve`")]
        state = f"process {pids[0]} runs but does not answer at {url}; `auralink stop`, then start"
        return [Finding("service", ok=False, state=state)]
    ok = health.get("status") == "ok"
    return [Finding("service", ok=ok, state=f"{health.get('status')} at {url}: {health.get('components')}")]
