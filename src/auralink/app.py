"""Builds the HTTP application from the domains; nothing else."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import structlog
from fastapi import FastAPI
from starlette.routing import Route

from auralink import __version__, health
from auralink.audit import routes as audit_routes
from auralink.audit.group_commit import GroupCommit
from auralink.auth import metadata, run_tokens, signing_routes
from auralink.auth.signing import RequestSigner
from auralink.auth.signing_keys import SigningKeys
from auralink.auth.tokens import TokenVerifier
from auralink.bootstrap import Foundation
from auralink.core.buckets import RedisBuckets
from auralink.core.changes import Changes
from auralink.core.db import Database, one_line
from auralink.core.egress import EgressGuard
from auralink.core.errors import AuralinkError
from auralink.core.http import JSONBytes, RequestContext, install_error_handlers
from auralink.core.migrate import required_migrations
from auralink.core.preflight import check_isolation, check_schema
from auralink.core.settings import PROJECT_ROOT, Settings
from auralink.journal import routes as approval_routes
from auralink.journal.approvals import Approvals
from auralink.journal.steps import Journal
from auralink.mcp import routes as mcp_routes
from auralink.mcp import toolset_routes
from auralink.mcp.components import MCP, build_mcp
from auralink.mcp.config import MCPConfig
from auralink.mcp.downstream.endpoint import LOOPBACK_NAMES, McpEndpoint
from auralink.mcp.downstream.hearing import Hearings
from auralink.mcp.downstream.methods import Methods
from auralink.mcp.limits import RateLimiter
from auralink.mcp.oauth import routes as oauth_routes
from auralink.runs import routes as run_routes
from auralink.runs.service import Runs
from auralink.servers.catalogue import build_servers
from auralink.servers.database import routes as database_routes
from auralink.servers.deepwiki import routes as deepwiki_routes
from auralink.servers.deepwiki.wiki import Wiki
from auralink.servers.memory import routes as memory_routes
from auralink.servers.thinking import routes as thinking_routes
from auralink.vault.service import Vault

log = structlog.get_logger(__name__)

HOUSEKEEPING_SECONDS = 3600
ROUTERS = (
    mcp_routes.router,
    health.router,
    audit_routes.router,
    approval_routes.router,
    run_routes.router,
    toolset_routes.router,
    oauth_routes.router,
    signing_routes.router,
    metadata.router,
    deepwiki_routes.router,
    memory_routes.router,
    thinking_routes.router,
    database_routes.router,
)


def build_app(settings: Settings, config: MCPConfig, foundation: Foundation) -> FastAPI:
    """The application. Its lifespan opens the database and everything that stands on it, and refuses an unsafe one."""
    guard = EgressGuard(settings.allowed_networks)
    db = Database(foundation.dsn)
    audit = GroupCommit(foundation.dsn)
    wiki = build_wiki(settings, foundation.data_dir, guard)
    approvals = Approvals(db)
    buckets = RedisBuckets(settings.redis_url) if settings.redis_url else None
    limits = RateLimiter(config.mcp_global.rate_limit or settings.default_rate_limit, buckets)
    built_in = build_servers(db=db, guard=guard, wiki=wiki, demo_database=foundation.demo_database)
    signer = RequestSigner(foundation.ring.derive("request signing"))
    changes = Changes(foundation.dsn)
    journal = Journal(db)
    mcp = build_mcp(
        db=db,
        changes=changes,
        vault=Vault(db, foundation.ring),
        guard=guard,
        audit=audit,
        approvals=approvals,
        config=config,
        built_in=built_in.in_process,
        limits=limits,
        signer=signer,
        public_url=public_url(settings) or f"http://127.0.0.1:{settings.auralink_port}",
        state_key=foundation.ring.derive("oauth state"),
    )
    verifier = TokenVerifier(
        secret=foundation.jwt_secret,
        jwks_url=settings.jwt_jwks_url,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
    )

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(verifier.close)
            stack.push_async_callback(limits.close)
            stack.push_async_callback(db.close)
            await _open_database(db)
            await _tidy(db, settings)  # before the first record: the month's partition must be there
            stack.push_async_callback(audit.close)
            await audit.open()
            stack.push_async_callback(changes.close)
            await changes.open()
            stack.push_async_callback(journal.close)
            await journal.open()
            stack.push_async_callback(mcp.close)
            await mcp.open()
            stack.push_async_callback(wiki.close)
            keeper = asyncio.create_task(_keep_house(db, settings))
            stack.callback(keeper.cancel)
            yield

    app = FastAPI(title="AuraLink AI Core", version=__version__, lifespan=lifespan, default_response_class=JSONBytes)
    app.state.verifier, app.state.db, app.state.mcp, app.state.approvals = verifier, db, mcp, approvals
    app.state.runs, app.state.journal = Runs(db, changes), journal
    app.state.run_tokens = run_tokens.RunTokens(foundation.ring.derive(run_tokens.PURPOSE))
    app.state.public_url, app.state.signer, app.state.signing_keys = public_url(settings), signer, SigningKeys(db)
    app.state.resource_metadata = metadata.ResourceMetadata(settings.jwt_issuer, settings.jwt_audience)
    for router in ROUTERS:
        app.include_router(router)
    _add_mcp_endpoint(app, mcp, verifier, settings, foundation)
    install_error_handlers(app)
    app.add_middleware(RequestContext, max_body_bytes=settings.max_body_bytes)
    return app


def _add_mcp_endpoint(app: FastAPI, mcp: MCP, verifier: TokenVerifier, settings: Settings, foundation: Foundation) -> None:
    """`/mcp` for all of a user's servers and `/mcp/<connection>` for one, as plain ASGI, before the routers, which are tried in
    turn and slowly."""
    methods = Methods(mcp.gateway, mcp.federation, mcp.watches)
    hearings = Hearings(mcp.federation, mcp.watches, mcp.announcer)
    hosts = allowed_hosts(settings)
    endpoint = McpEndpoint(verifier, methods, hearings, mcp.toolsets, foundation.ring.derive("mcp session"), allowed_hosts=hosts)
    doors = [Route(path, endpoint, include_in_schema=False) for path in ("/mcp", "/mcp/{connection}")]
    app.router.routes[:0] = doors


def public_url(settings: Settings) -> str | None:
    """The address of the service from outside, where the operator names it."""
    return settings.auralink_url.rstrip("/") if settings.auralink_url else None


def allowed_hosts(settings: Settings) -> frozenset[str] | None:
    """The host names that the MCP endpoint answers for; None, any, where the operator listens on the network and names none."""
    named = {urlsplit(settings.auralink_url).hostname or ""} if settings.auralink_url else set()
    if settings.auralink_host in LOOPBACK_NAMES:
        return frozenset(LOOPBACK_NAMES | named)
    return frozenset(named) or None


def build_wiki(settings: Settings, data_dir: Path, guard: EgressGuard) -> Wiki:
    """The wiki over the operator's folders, by default this checkout and the data directory."""

    async def check_url(url: str) -> list[str]:
        return [str(address) for address in (await guard.check_git_url(url)).addresses]

    return Wiki(data_dir, settings.wiki_repo_roots or (PROJECT_ROOT, data_dir), check_url=check_url)


async def _open_database(db: Database) -> None:
    """Opens the pool and refuses a database that does not keep tenants apart (P-RLS)."""
    await db.open()
    async with db.connection() as connection:
        await check_schema(connection, required_migrations())
        await check_isolation(connection)


async def _keep_house(db: Database, settings: Settings) -> None:
    """Every hour what is due."""
    while True:
        await asyncio.sleep(HOUSEKEEPING_SECONDS)
        await _tidy(db, settings)


async def _tidy(db: Database, settings: Settings) -> None:
    """Partitions of the operation log for the months to come, old idempotency keys and old runs away; a duty that fails stops
    no other."""
    duties = {"ensure_log_partitions": "", "forget_idempotency_keys": "", "forget_runs": settings.run_retention_days}
    for duty, argument in duties.items():
        try:
            async with db.system() as connection:
                await connection.execute(f"SELECT auralink.{duty}({argument})")
        except (AuralinkError, psycopg.Error) as error:
            log.warning("housekeeping failed and will be tried again", duty=duty, reason=one_line(error))
