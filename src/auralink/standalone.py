"""What is done without a service: a built-in server by itself, for any MCP client (over stdio, or over HTTP on loopback; it acts for
one user of this machine), and an operator's work on the database."""

import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from mcp.server.mcpserver import MCPServer

from auralink.auth.principal import Principal, acting_as, user_id_of
from auralink.bootstrap import Foundation, Progress, data_dir_of, lay_foundation
from auralink.core.db import Database
from auralink.core.egress import EgressGuard
from auralink.core.errors import InvalidRequest
from auralink.core.logging import configure_logging
from auralink.core.secret import Secret
from auralink.core.settings import Settings
from auralink.llm.catalogue.catalogue import Catalogue
from auralink.llm.catalogue.config import load_catalogue_config
from auralink.llm.catalogue.service import Models
from auralink.parts import build_wiki
from auralink.servers.catalogue import build_servers
from auralink.servers.database.access import Access, acting_on
from auralink.servers.memory.jsonl import Imported, export_lines, import_lines
from auralink.servers.memory.service import Memory

WITHOUT_DATABASE = frozenset({"deepwiki", "toolbox", "supabase"})
"""The servers that keep nothing of their own."""


def local_user(settings: Settings, name: str) -> Principal:
    """The user of that name, the same that a token for the name means."""
    return Principal(user_id_of(settings.jwt_issuer, name), name, settings.jwt_issuer, None, "user", frozenset())


async def run_server(settings: Settings, name: str, user: str, *, http_port: int | None, dsn: Secret | None, write: bool) -> None:
    """Serves until stdin ends, or over HTTP until it is stopped. `dsn` and `write` are for the database server.

    Raises:
        InvalidRequest: there is no server of that name.
        StartupError: its database cannot be had.
    """
    configure_logging(settings.log_level, settings.log_format)
    async with _servers(settings, name) as servers:
        if name not in servers:
            raise InvalidRequest(f"there is no built-in server {name!r}; there are: {', '.join(servers)}")
        with contextlib.ExitStack() as scope:
            scope.enter_context(acting_as(local_user(settings, user)))
            if dsn is not None:
                scope.enter_context(acting_on(Access(dsn, read_only=not write)))
            if http_port is None:
                await servers[name].run_stdio_async()
            else:
                print(f"http://127.0.0.1:{http_port}/mcp", file=sys.stderr)  # noqa: T201 - where to find it
                await servers[name].run_streamable_http_async(port=http_port)


async def export_memory(settings: Settings, user: str, path: Path) -> int:
    """Writes a user's graph as the reference server's JSONL; how many lines."""
    async with opened_database(lay_foundation(settings)) as db:
        lines = await export_lines(Memory(db), local_user(settings, user))
    path.write_text("".join(line + "\n" for line in lines), "utf-8")  # noqa: ASYNC240 - the command does nothing else
    return len(lines)


async def import_memory(settings: Settings, user: str, path: Path) -> Imported:
    """Adds a JSONL file to a user's graph."""
    async with opened_database(lay_foundation(settings)) as db:
        return await import_lines(Memory(db), local_user(settings, user), path.read_text("utf-8").splitlines())  # noqa: ASYNC240


async def read_catalogue(settings: Settings, progress: Progress) -> Catalogue:
    """The models that a service with these settings has."""
    async with opened_database(lay_foundation(settings, progress)) as db:
        return (await _merged_models(settings, db)).current


async def synchronise_models(
    settings: Settings, write: Callable[[Database], Awaitable[list[str]]], progress: Progress
) -> list[str]:
    """Brings the models in the database up to date with what the package has, then writes newer prices; what `write` says."""
    async with opened_database(lay_foundation(settings, progress)) as db:
        await _merged_models(settings, db)
        return await write(db)


async def _merged_models(settings: Settings, db: Database) -> Models:
    models = Models(db, load_catalogue_config(settings.auralink_config))
    await models.open()
    return models


@contextlib.asynccontextmanager
async def opened_database(foundation: Foundation) -> AsyncIterator[Database]:
    """The database of a foundation, for a command."""
    db = Database(foundation.dsn, min_size=1, max_size=4)
    try:
        await db.open()
        yield db
    finally:
        await db.close()


@contextlib.asynccontextmanager
async def _servers(settings: Settings, name: str) -> AsyncIterator[dict[str, MCPServer]]:
    guard = EgressGuard(settings.allowed_networks)
    async with contextlib.AsyncExitStack() as stack:
        db = Database(Secret(""))
        if name not in WITHOUT_DATABASE:
            db = await stack.enter_async_context(opened_database(lay_foundation(settings)))
        wiki = build_wiki(settings, data_dir_of(settings), guard)
        stack.push_async_callback(wiki.close)
        yield dict(build_servers(db=db, guard=guard, wiki=wiki).servers)
