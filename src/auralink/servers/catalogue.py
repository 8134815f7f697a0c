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
from auralink.mcp.upstream.in_process import Scope
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
    """The servers, and for those that need more than the principal the scope in which a connection's calls run."""

    servers: Mapping[str, MCPServer]
    scopes: Mapping[str, Scope]


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
    servers = {
        "deepwiki": build_deepwiki(wiki),
        "memory": build_memory(Memory(db)),
        "sequential_thinking": build_thinking(Thinking(db)),
        "supabase": build_database(Databases(check, read_only=False)),
        "toolbox": build_toolbox(guard=guard, search_settings=search),
    }

    def on_database(record: ConnectionRecord, credentials: Secret | None) -> AbstractContextManager[object]:
        dsn = _dsn_of(credentials) or demo_database
        return nullcontext() if dsn is None else acting_on(Access(dsn, read_only=record.policy.read_only))

    return BuiltIn(servers, {"supabase": on_database})


def _dsn_of(credentials: Secret | None) -> Secret | None:
    """The DSN in a connection's credentials, which the vault keeps as a JSON document."""
    if credentials is None:
        return None
    dsn = orjson.loads(credentials.reveal()).get("dsn")
    return Secret(dsn) if dsn else None
