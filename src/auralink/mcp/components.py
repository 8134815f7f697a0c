"""The parts of the MCP domain, built and opened together. `app.py` and the tests make one of these."""

from dataclasses import dataclass

from auralink.audit.group_commit import GroupCommit
from auralink.auth.signing import RequestSigner
from auralink.core.changes import Changes
from auralink.core.db import Database
from auralink.core.egress import EgressGuard
from auralink.journal.approvals import Approvals
from auralink.journal.steps import Journal
from auralink.mcp.bulkhead import Bulkheads
from auralink.mcp.cache import ResponseCache
from auralink.mcp.config import MCPConfig
from auralink.mcp.connections import Connections
from auralink.mcp.downstream.announcer import Announcer
from auralink.mcp.federation import Federation
from auralink.mcp.limits import RateLimiter
from auralink.mcp.oauth.access import AccessTokens
from auralink.mcp.oauth.http import OAuthHttp
from auralink.mcp.oauth.schemas import Site
from auralink.mcp.oauth.service import Authorizations
from auralink.mcp.pins import Pins
from auralink.mcp.policy import Policy
from auralink.mcp.registry import Registry
from auralink.mcp.resolve import ConnectionResolver
from auralink.mcp.service import Gateway
from auralink.mcp.toolsets import Toolsets
from auralink.mcp.upstream.in_process import InProcessServers
from auralink.mcp.upstreams import Upstreams
from auralink.mcp.watches import Watches
from auralink.vault.service import Vault


@dataclass(frozen=True)
class MCP:
    """The gateway and what it stands on."""

    config: MCPConfig
    resolver: ConnectionResolver
    upstreams: Upstreams
    registry: Registry
    connections: Connections
    gateway: Gateway
    federation: Federation
    announcer: Announcer
    watches: Watches
    pins: Pins
    toolsets: Toolsets
    authorizations: Authorizations
    access: AccessTokens
    oauth_http: OAuthHttp

    async def open(self) -> None:
        """Fills the registry from the configuration and gets ready to serve."""
        await self.registry.load_configuration(self.config)
        await self.oauth_http.open()
        await self.upstreams.open()

    async def close(self) -> None:
        """Closes every upstream session."""
        await self.watches.close()
        await self.upstreams.close()
        await self.access.close()
        await self.oauth_http.close()


def build_mcp(
    *,
    db: Database,
    changes: Changes,
    vault: Vault,
    guard: EgressGuard,
    audit: GroupCommit,
    journal: Journal,
    approvals: Approvals,
    config: MCPConfig,
    built_in: InProcessServers,
    limits: RateLimiter,
    signer: RequestSigner,
    public_url: str,
    state_key: bytes,
) -> MCP:
    """Wires the domain. `public_url` is where users' browsers find this service; `state_key` signs OAuth states."""
    announcer = Announcer()
    resolver = ConnectionResolver(db, changes, announcer.lists_changed)
    oauth_http = OAuthHttp(guard)
    access = AccessTokens(db, vault, oauth_http)
    authorizations = Authorizations(db, vault, oauth_http, site=Site(public_url), key=state_key)
    upstreams = Upstreams(config, guard, vault, built_in, announcer.announced, access=access, signer=signer)
    pins = Pins(db, audit)
    changes.subscribe(pins)
    registry = Registry(db, guard, audit)
    connections = Connections(
        db,
        registry=registry,
        resolver=resolver,
        upstreams=upstreams,
        vault=vault,
        guard=guard,
        audit=audit,
        pins=pins,
        authorizations=authorizations,
    )
    gateway = Gateway(
        resolver=resolver,
        policy=Policy(pins, approvals),
        limits=limits,
        cache=ResponseCache(config.mcp_global.cache_ttl),
        bulkheads=Bulkheads(config.circuit_breaker),
        upstreams=upstreams,
        audit=audit,
        journal=journal,
    )
    federation = Federation(db, resolver, upstreams, pins)
    return MCP(
        config=config,
        resolver=resolver,
        upstreams=upstreams,
        registry=registry,
        connections=connections,
        gateway=gateway,
        federation=federation,
        announcer=announcer,
        watches=Watches(upstreams),
        pins=pins,
        toolsets=Toolsets(db, resolver, federation),
        authorizations=authorizations,
        access=access,
        oauth_http=oauth_http,
    )
