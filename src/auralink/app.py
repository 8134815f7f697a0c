"""Puts HTTP around the domains (parts.py); nothing else."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import psycopg
import structlog
from fastapi import FastAPI
from starlette.routing import Route

from auralink import __version__, health
from auralink.agents import routes as agent_routes
from auralink.audit import routes as audit_routes
from auralink.auth import metadata, signing_routes
from auralink.auth.run_tokens import EitherToken
from auralink.bootstrap import Foundation
from auralink.core.db import Database, one_line
from auralink.core.errors import AuralinkError
from auralink.core.http import JSONBytes, PlainDoors, Plainly, RequestContext, install_error_handlers
from auralink.core.migrate import required_migrations
from auralink.core.preflight import check_isolation, check_schema
from auralink.core.settings import Settings
from auralink.flows import routes as flow_routes
from auralink.journal import limit_routes
from auralink.journal import routes as approval_routes
from auralink.llm import routes as llm_routes
from auralink.llm.accounts import Accounts
from auralink.llm.openai_endpoint import OpenAIEndpoint
from auralink.mcp import routes as mcp_routes
from auralink.mcp import toolset_routes
from auralink.mcp.config import MCPConfig
from auralink.mcp.downstream.endpoint import LOOPBACK_NAMES, McpEndpoint
from auralink.mcp.downstream.hearing import Hearings
from auralink.mcp.downstream.methods import Methods
from auralink.mcp.oauth import routes as oauth_routes
from auralink.parts import Parts, build_parts, public_url
from auralink.runs import elsewhere_routes
from auralink.runs import routes as run_routes
from auralink.runs.elsewhere import Places
from auralink.runs.tools import RunTools
from auralink.schedules import routes as schedule_routes
from auralink.servers.database import routes as database_routes
from auralink.servers.deepwiki import routes as deepwiki_routes
from auralink.servers.memory import routes as memory_routes
from auralink.servers.thinking import routes as thinking_routes
from auralink.teams import routes as team_routes
from auralink.webhooks import routes as webhook_routes
from auralink.workflows import routes as workflow_routes

log = structlog.get_logger(__name__)

HOUSEKEEPING_SECONDS = 3600
ROUTERS = (
    mcp_routes.router,
    health.router,
    audit_routes.router,
    approval_routes.router,
    limit_routes.router,
    llm_routes.router,
    run_routes.router,
    elsewhere_routes.router,
    agent_routes.router,
    workflow_routes.router,
    team_routes.router,
    flow_routes.router,
    schedule_routes.router,
    webhook_routes.router,
    toolset_routes.router,
    oauth_routes.router,
    signing_routes.router,
    metadata.router,
    deepwiki_routes.router,
    memory_routes.router,
    thinking_routes.router,
    database_routes.router,
)


def build_app(settings: Settings, config: MCPConfig, foundation: Foundation, *, accounts: Accounts | None = None) -> FastAPI:
    """The application. Its lifespan opens the database and everything that stands on it, and refuses an unsafe one.

    `accounts` are the operator's at providers of models; None: those of the environment.
    """
    parts = build_parts(settings, config, foundation, accounts)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(parts.close)
            stack.push_async_callback(parts.db.close)
            await _open_database(parts.db)
            await _tidy(parts.db, settings)  # before the first record: the month's partition must be there
            await stack.enter_async_context(parts.opened())
            keeper = asyncio.create_task(_keep_house(parts, settings))
            stack.callback(keeper.cancel)
            yield

    app = FastAPI(title="AuraLink AI Core", version=__version__, lifespan=lifespan, default_response_class=JSONBytes)
    _make_known(app, parts, settings)
    for router in ROUTERS:
        app.include_router(router)
    _add_endpoints(app, parts, settings, foundation)
    install_error_handlers(app)
    app.add_middleware(RequestContext, max_body_bytes=settings.max_body_bytes)
    return app


def _make_known(app: FastAPI, parts: Parts, settings: Settings) -> None:
    """Where routes find what they need."""
    app.state.db, app.state.verifier, app.state.run_tokens = parts.db, parts.verifier, parts.run_tokens
    app.state.mcp, app.state.llm = parts.mcp, parts.llm
    app.state.approvals, app.state.runs, app.state.journal = parts.approvals, parts.runs, parts.journal
    app.state.limits, app.state.calls_a_minute = parts.limits, parts.calls_a_minute
    definitions = parts.definitions
    app.state.agents, app.state.workflows = definitions.agents, definitions.workflows
    app.state.teams, app.state.team_conversations = definitions.teams, definitions.team_conversations
    app.state.team_comparisons = definitions.team_comparisons
    app.state.flows, app.state.flow_executions = definitions.flows, definitions.flow_executions
    app.state.schedules, app.state.webhooks = definitions.schedules, definitions.webhooks
    app.state.signer, app.state.signing_keys = parts.signer, parts.signing_keys
    app.state.places = Places(parts.db, parts.run_tokens)
    app.state.public_url = public_url(settings)
    app.state.resource_metadata = metadata.ResourceMetadata(settings.jwt_issuer, settings.jwt_audience)


def _add_endpoints(app: FastAPI, parts: Parts, settings: Settings, foundation: Foundation) -> None:
    """`/mcp` for all of a user's servers, `/mcp/<connection>` for one and `/v1` for models, as plain ASGI, before the routers,
    which are tried in turn and slowly."""
    mcp, llm, either = parts.mcp, parts.llm, EitherToken(parts.verifier, parts.run_tokens)
    methods = Methods(mcp.gateway, mcp.federation, mcp.watches, parts.audit, _run_tools(parts))
    hearings = Hearings(mcp.federation, mcp.watches, mcp.announcer)
    key, hosts = foundation.ring.derive("mcp session"), allowed_hosts(settings)
    endpoint = McpEndpoint(either, methods, hearings, mcp.toolsets, key, allowed_hosts=hosts)
    doors = [Route(path, endpoint) for path in ("/mcp", "/mcp/{connection}")]
    doors.append(Route("/v1/{path:path}", OpenAIEndpoint(either, llm.gateway, llm.listing)))
    doors.append(Route(mcp_routes.CALL_PATH, Plainly(mcp_routes.call_tool), methods=["POST"]))
    app.add_middleware(PlainDoors, doors=doors)


def _run_tools(parts: Parts) -> RunTools:
    """What runs can do besides what their user's servers offer; each domain of definitions adds how its runs are started."""
    return RunTools(parts.runs, parts.journal, parts.approvals, parts.audit, parts.definitions.starts)


def allowed_hosts(settings: Settings) -> frozenset[str] | None:
    """The host names that the MCP endpoint answers for; None, any, where the operator listens on the network and names none."""
    named = {urlsplit(settings.auralink_url).hostname or ""} if settings.auralink_url else set()
    if settings.auralink_host in LOOPBACK_NAMES:
        return frozenset(LOOPBACK_NAMES | named)
    return frozenset(named) or None


async def _open_database(db: Database) -> None:
    """Opens the pool and refuses a database that does not keep tenants apart (P-RLS)."""
    await db.open()
    async with db.connection() as connection:
        await check_schema(connection, required_migrations())
        await check_isolation(connection)


async def _keep_house(parts: Parts, settings: Settings) -> None:
    """Every hour what is due."""
    while True:
        await asyncio.sleep(HOUSEKEEPING_SECONDS)
        await _tidy(parts.db, settings)
        with contextlib.suppress(AuralinkError):
            await parts.llm.models.reload()


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
