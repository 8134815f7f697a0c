"""`auralink doctor`: looks at everything that the service needs, and says what to do about what is wrong."""

import contextlib
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from auralink.auth.tokens import TokenVerifier
from auralink.bootstrap import data_dir_of, jwt_secret_of
from auralink.client import AuraLink, ServiceUnreachable
from auralink.core import embedded_postgres as embedded
from auralink.core.db import Database
from auralink.core.errors import AuralinkError, StartupError
from auralink.core.migrate import required_migrations
from auralink.core.preflight import check_isolation, check_schema
from auralink.core.secret import Secret
from auralink.core.settings import Settings, load_settings
from auralink.first_job import service_url
from auralink.llm.accounts import load_accounts
from auralink.llm.catalogue.config import load_catalogue_config
from auralink.llm.scripted import Script
from auralink.mcp.config import load_mcp_config
from auralink.runs.engine_manifest import BadManifest, Place, default_root, find_places
from auralink.runs.store import live_workers
from auralink.serving import running_pids
from auralink.vault.crypto import KeyRing


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
        _models(settings),
        await _database(settings),
        _secrets(settings),
    ]
    return [*findings, *_engines(), *await _service(settings)]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    ok = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return Finding("python", ok=ok, state=version if ok else f"{version}; use 3.11, 3.12 or 3.13")


def _config(settings: Settings) -> Finding:
    try:
        config = load_mcp_config(settings.auralink_config)
        models = load_catalogue_config(settings.auralink_config).llm_models
    except StartupError as error:
        return Finding("configuration", ok=False, state=error.message)
    added = f"; {len(models)} models added or corrected" if models else ""
    return Finding(
        "configuration", ok=True, state=f"{len(config.mcp_servers)} MCP servers: {', '.join(config.mcp_servers)}{added}"
    )


def _models(settings: Settings) -> Finding:
    """The operator's accounts at providers of models, and the script of the scripted one."""
    try:
        accounts = load_accounts()
        if settings.auralink_scripted_model is not None:
            Script.load(settings.auralink_scripted_model)
    except StartupError as error:
        return Finding("models", ok=False, state=error.message)
    state = (
        f"keys for {', '.join(accounts)}"
        if accounts
        else "no key of the operator's: users bring theirs, else the offline model answers"
    )
    return Finding("models", ok=True, state=state)


def _engines() -> list[Finding]:
    """Whether the environments of the engines are there and made from the present locks."""
    try:
        places = list(find_places(default_root()))
    except BadManifest as error:
        return [Finding("engines", ok=False, state=error.message)]
    return [_engine(place) for place in places]


def _engine(place: Place) -> Finding:
    name, state = place.manifest.name, place.state()
    remedy = "" if state == "installed" else f"; `auralink engines install {name}`"
    return Finding(f"engine {name}", ok=state != "outdated", state=state + remedy)


async def _database(settings: Settings) -> Finding:
    """Whether the database is there, has this version's schema, and keeps tenants apart; one that is stopped is left so."""
    data_dir = data_dir_of(settings)
    where = f"embedded in {data_dir}" if settings.embedded else "external (DATABASE_URL)"
    try:
        dsn = _dsn(settings)
        if dsn is None:
            return Finding("database", ok=True, state=f"{where}: {embedded.status(data_dir)}")
        await _check_database(dsn)
    except AuralinkError as error:
        return Finding("database", ok=False, state=f"{where}: {error.message}")
    return Finding("database", ok=True, state=f"{where}: running, up to date, tenants kept apart")


def _dsn(settings: Settings) -> Secret | None:
    """The address of the database as the service has it; None while an embedded one is stopped."""
    if settings.database_url is not None:
        return settings.database_url
    cluster = embedded.find_cluster(data_dir_of(settings))
    return None if cluster is None else cluster.dsn("service")


async def _check_database(dsn: Secret) -> None:
    async with _opened(dsn) as db, db.connection() as connection:
        await check_schema(connection, required_migrations())
        await check_isolation(connection)


@contextlib.asynccontextmanager
async def _opened(dsn: Secret) -> AsyncIterator[Database]:
    db = Database(dsn, min_size=1, max_size=1)
    try:
        await db.open()
        yield db
    finally:
        await db.close()


def _secrets(settings: Settings) -> Finding:
    """The secrets of the environment; without a database of one's own, what is not set was generated."""
    try:
        if settings.jwt_secret is not None or settings.jwt_jwks_url is not None:
            TokenVerifier(
                secret=settings.jwt_secret,
                jwks_url=settings.jwt_jwks_url,
                issuer=settings.jwt_issuer,
                audience=settings.jwt_audience,
            )
        elif not settings.embedded:
            jwt_secret_of(settings, {})
        if settings.mcp_encryption_key is not None or not settings.embedded:
            KeyRing.parse(settings.mcp_encryption_key)
    except StartupError as error:
        return Finding("secrets", ok=False, state=error.message)
    return Finding("secrets", ok=True, state="good; in embedded mode what is not set is generated at the first start")


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
    service = Finding("service", ok=ok, state=f"{health.get('status')} at {url}: {health.get('components')}")
    return [service, await _workers(settings)]


async def _workers(settings: Settings) -> Finding:
    """Whether anybody takes runs. Without an engine there is nothing that could run."""
    try:
        dsn = _dsn(settings)
        if dsn is None:
            return Finding("worker", ok=True, state="not known: the database is not on this machine's data directory")
        async with _opened(dsn) as db, db.connection() as connection:
            count = await live_workers(connection)
    except AuralinkError as error:
        return Finding("worker", ok=False, state=f"not known: {error.message}")
    if count:
        return Finding("worker", ok=True, state=f"{count} running")
    if any(place.state() == "installed" for place in find_places(default_root())):
        return Finding(
            "worker", ok=False, state="none is running, so runs stay queued; `auralink worker`, or restart the service"
        )
    return Finding("worker", ok=True, state="none is running, and no engine is installed that it could use")
