"""The parts of the MCP domain, built and opened together. `app.py` and the tests make one of these."""

from collections.abc import Mapping
from dataclasses import dataclass

from mcp.server.mcpserver import MCPServer

from auralink.audit.group_commit import GroupCommit
from auralink.core.db import Database
from auralink.core.egress import EgressGuard
from auralink.journal.approvals import Approvals
from auralink.mcp.bulkhead import Bulkheads
from auralink.mcp.cache import ResponseCache
from auralink.mcp.config import MCPConfig
from auralink.mcp.connections import Connections
from auralink.mcp.downstream.announcer import Announcer
from auralink.mcp.federation import Federation
from auralink.mcp.limits import RateLimiter
from auralink.mcp.pins import Pins
from auralink.mcp.policy import Policy
from auralink.mcp.registry import Registry
from auralink.mcp.resolve import ConnectionResolver
from auralink.mcp.service import Gateway
from auralink.mcp.upstream.in_process import InProcessServers, Scope
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

    async def open(self) -> None:
        """Fills the registry from the configuration and gets ready to serve."""
        await self.registry.load_configuration(self.config)
        await self.resolver.open()
        await self.upstreams.open()

    async def close(self) -> None:
        """Closes every upstream session."""
        await self.watches.close()
        await self.upstreams.close()
        await self.resolver.close()


def build_mcp(
    *,
    db: Database,
    vault: Vault,
    guard: EgressGuard,
    audit: GroupCommit,
    approvals: Approvals,
    config: MCPConfig,
    built_in: Mapping[str, MCPServer],
    scopes: Mapping[str, Scope],
    limits: RateLimiter,
) -> MCP:
    """Wires the domain."""
    announcer = Announcer()
    resolver = ConnectionResolver(db, announcer.lists_changed)
    upstreams = Upstreams(config, guard, vault, InProcessServers(built_in, scopes), announcer.announced)
    pins = Pins(db)
    registry = Registry(db, guard)
    connections = Connections(
        db, registry=registry, resolver=resolver, upstreams=upstreams, vault=vault, guard=guard, audit=audit, pins=pins
    )
    resolver.on_pins_changed = pins.forget
    gateway = Gateway(
        resolver=resolver,
        policy=Policy(pins, approvals),
        limits=limits,
        cache=ResponseCache(config.mcp_global.cache_ttl),
        bulkheads=Bulkheads(config.circuit_breaker),
        upstreams=upstreams,
        audit=audit,
    )
    federation = Federation(db, resolver, upstreams, pins)
    return MCP(config, resolver, upstreams, registry, connections, gateway, federation, announcer, Watches(upstreams), pins)
