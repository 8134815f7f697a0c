"""The built-in servers by the names of the configuration, and what each needs to know of a connection."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import orjson
from mcp.server.mcpserver import MCPServer

from auralink.core.db import Database
from auralink.core.egress import EgressGuard
from auralink.core.secret import Secret
from auralink.mcp.schemas import ConnectionRecord
from auralink.mcp.upstream.in_process import InProcessServers
from auralink.servers.database.access import Access, acting_on, trusting
from auralink.servers.database.server import build_server as build_database
from auralink.servers.database.service import Databases
from auralink.servers.deepwiki.server import build_server as build_deepwiki
from auralink.servers.deepwiki.wiki import Wiki
from auralink.servers.memory.server import build_server as build_memory
from auralink.servers.memory.service import Memory
from auralink.servers.thinking.server import build_server as build_thinking
from auralink.servers.thinking.service import Thinking
from auralink.servers.toolbox.search import SearchSettings
from auralink.servers.toolbox.server import build_server as build_toolbox


@dataclass(frozen=True)
class BuiltIn:
    """The servers by themselves, and as the gateway reaches them."""

    servers: Mapping[str, MCPServer]
    in_process: InProcessServers


def build_servers(
    *,
    db: Database,
    guard: EgressGuard,
    wiki: Wiki,
    search: SearchSettings | None = None,
    demo_database: Secret | None = None,
) -> BuiltIn:
    """Makes all of them. `demo_database` is what a database connection without a DSN of its own works on."""
    check = guard.check_dsn if demo_database is None else trusting(demo_database, guard.check_dsn)
    databases = Databases(check, read_only=False)
    servers: dict[str, MCPServer] = {
        "deepwiki": build_deepwiki(wiki),
        "memory": build_memory(Memory(db)),
        "sequential_thinking": build_thinking(Thinking(db)),
        "supabase": build_database(databases),
        "toolbox": build_toolbox(guard=guard, search_settings=search),
    }

    def access_of(record: ConnectionRecord, credentials: Secret | None) -> Access | None:
        dsn = _dsn_of(credentials) or demo_database
        return None if dsn is None else Access(dsn, read_only=record.policy.read_only)

    def on_database(record: ConnectionRecord, credentials: Secret | None) -> AbstractContextManager[object]:
        access = access_of(record, credentials)
        return nullcontext() if access is None else acting_on(access)

    async def inspect_database(record: ConnectionRecord, credentials: Secret | None) -> list[str]:
        access = access_of(record, credentials)
        return [] if access is None else await databases.inspect_role(access)

    return BuiltIn(servers, InProcessServers(servers, {"supabase": on_database}, {"supabase": inspect_database}))


def _dsn_of(credentials: Secret | None) -> Secret | None:
    """The DSN in a connection's credentials, which the vault keeps as a JSON document."""
    if credentials is None:
        return None
    dsn = orjson.loads(credentials.reveal()).get("dsn")
    return Secret(dsn) if dsn else None
