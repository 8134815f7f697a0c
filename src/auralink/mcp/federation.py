"""All of a user's servers as one: lists put together under public names, and the way from a public name back to its server.

Names are `<connection>__<name>` (`naming.py`); resources are `auralink://<connection>/<uri>`. A server that fails costs its own
entries only, and the list says which are missing and why. A view may be narrowed to one connection, which then keeps its own
names, and to named tools.
"""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from auralink.auth.principal import Principal, acting_as
from auralink.core.db import Database
from auralink.core.errors import AuralinkError
from auralink.mcp import naming, store
from auralink.mcp.errors import ToolNotFound
from auralink.mcp.pins import Pins
from auralink.mcp.policy import is_offered, verdict_on
from auralink.mcp.resolve import ConnectionResolver
from auralink.mcp.schemas import ConnectionRecord, Degraded, ToolPage, ToolView
from auralink.mcp.upstream.session import KEY_OF_ITEM, Kind, UpstreamSession
from auralink.mcp.upstreams import Upstreams

URI_PREFIX = "auralink://"
Item = dict[str, Any]


@dataclass(frozen=True)
class View:
    """What of a user's servers a client sees: everything, one connection under its own names, or the named tools of either."""

    connection: str | None = None
    tools: frozenset[str] | None = None
    finding: bool = False
    """Only the named tools are shown, and one that finds the others; all can be called."""

    def shows(self, name: str) -> bool:
        """Whether a list has the tool of that name."""
        return name in (self.tools or ()) if self.finding else self.tools is None or name in self.tools

    def public_name(self, record: ConnectionRecord, name: str) -> str:
        """The name of a tool or prompt in this view."""
        return name if self.connection else naming.public_name(record.name, name)

    def public_uri(self, record: ConnectionRecord, uri: str) -> str:
        """The address of a resource, or a template of addresses, in this view."""
        return uri if self.connection else f"{URI_PREFIX}{record.name}/{uri}"

    def route_tool(self, name: str) -> tuple[str, str]:
        """Connection and own name of a tool. Raises `ToolNotFound` for one that is not in the view."""
        if not self.finding and not self.shows(name):
            raise ToolNotFound(f"the tool {name!r} is not among the tools that this address shows")
        return self.route(name)

    def route(self, name: str) -> tuple[str, str]:
        """Connection and own name of a tool or prompt. Raises `ToolNotFound` for what cannot be the name of one."""
        if self.connection:
            return self.connection, name
        parts = naming.split(name)
        if parts is None:
            raise ToolNotFound(
                f"{name!r} is not the name of a tool here; names are <connection>__<tool>, as tools/list shows them"
            )
        return parts

    def route_uri(self, uri: str) -> tuple[str, str]:
        """Connection and own address of a resource. Raises `ToolNotFound` for what is not in the view."""
        if self.connection:
            return self.connection, uri
        connection, slash, own = uri.removeprefix(URI_PREFIX).partition("/")
        if not uri.startswith(URI_PREFIX) or not slash:
            raise ToolNotFound(
                f"{uri!r} is not a resource here; addresses are {URI_PREFIX}<connection>/<uri>, as resources/list shows",
                extra={"uri": uri},
            )
        return connection, own


EVERYTHING = View()


@dataclass(frozen=True, slots=True)
class Entry:
    """One listed thing: whose it is, its own name or address, and its description under the view's name."""

    record: ConnectionRecord
    own: str
    item: Item
    quarantined: bool = False


@dataclass(frozen=True)
class Listing:
    """Entries in the order of their names, and what is missing."""

    entries: list[Entry]
    degraded: list[Degraded] = field(default_factory=list)


class Federation:
    """Lists what a principal's connections offer."""

    def __init__(self, db: Database, resolver: ConnectionResolver, upstreams: Upstreams, pins: Pins) -> None:
        self._db = db
        self._resolver = resolver
        self._upstreams = upstreams
        self._pins = pins

    async def records(self, principal: Principal, view: View = EVERYTHING) -> list[ConnectionRecord]:
        """The open connections in a view. Raises ConnectionNotFound for a view of one that is not the principal's."""
        if view.connection:
            return [await self._resolver.resolve(principal, view.connection)]
        async with self._db.tenant(principal) as connection:
            return [store.record_of(row) for row in await store.connections(connection)]

    async def session(self, principal: Principal, record: ConnectionRecord) -> UpstreamSession:
        """The session of a connection, to look at what its server has declared."""
        with acting_as(principal):
            return await self._upstreams.session(principal, record, time.monotonic() + record.server.timeout)

    async def input_schema(self, principal: Principal, connection: str, tool: str) -> Item | None:
        """The input schema of a tool under its own name or the shortened form of its public one; None if there is none.

        Raises what keeps the server from listing its tools.
        """
        record = await self._resolver.resolve(principal, connection)
        deadline = time.monotonic() + record.server.timeout
        with acting_as(principal):
            session = await self._upstreams.session(principal, record, deadline)
            tools = await session.list_tools(deadline)
        own = naming.own_name(record.name, tool, tools)
        return None if own is None else tools[own].get("inputSchema")

    async def listing(
        self, principal: Principal, kind: Kind, view: View = EVERYTHING, *, with_quarantined: bool = False
    ) -> Listing:
        """The tools, prompts, resources or resource templates in a view, under the view's names."""
        records = await self.records(principal, view)
        parts = await asyncio.gather(*(self._part(principal, record, kind, view) for record in records))
        entries = [entry for part in parts for entry in part.entries if with_quarantined or not entry.quarantined]
        entries.sort(key=lambda entry: entry.item[KEY_OF_ITEM[kind]])
        return Listing(entries, [degraded for part in parts for degraded in part.degraded])

    async def tools(self, principal: Principal, *, query: str | None = None) -> ToolPage:
        """Every tool of the principal's connections, as REST shows it."""
        listing = await self.listing(principal, "tools", with_quarantined=True)
        views = [_tool_view(entry) for entry in listing.entries]
        return ToolPage(
            items=[tool for tool in views if not query or matches(tool.name, tool.title, tool.description, query=query)],
            next_cursor=None,
            degraded=listing.degraded,
        )

    async def _part(self, principal: Principal, record: ConnectionRecord, kind: Kind, view: View) -> Listing:
        deadline = time.monotonic() + record.server.timeout
        try:
            with acting_as(principal):
                session = await self._upstreams.session(principal, record, deadline)
                items = await session.listed(kind, deadline)
                quarantined = await self._pins.quarantined(principal, record, items) if kind == "tools" else {}
        except AuralinkError as error:
            missing = Degraded(connection_id=record.id, connection=record.name, code=error.code, message=error.message)
            return Listing([], [missing])
        entries = (_entry(record, own, item, kind, view, quarantined=own in quarantined) for own, item in items.items())
        return Listing([entry for entry in entries if _is_shown(entry, kind, view)])


def matches(*texts: str | None, query: str) -> bool:
    """Whether every word of a query occurs in the texts."""
    text = " ".join(part for part in texts if part).lower()
    return all(word in text for word in query.lower().split())


def _entry(record: ConnectionRecord, own: str, item: Item, kind: Kind, view: View, *, quarantined: bool) -> Entry:
    public = view.public_name if kind in ("tools", "prompts") else view.public_uri
    return Entry(record, own, {**item, KEY_OF_ITEM[kind]: public(record, own)}, quarantined)


def _is_shown(entry: Entry, kind: Kind, view: View) -> bool:
    if kind != "tools":
        return True
    offered = is_offered(entry.record, entry.own) and entry.record.policy.decide(entry.own) != "deny"
    return offered and view.shows(entry.item["name"])


def _tool_view(entry: Entry) -> ToolView:
    tool, record = entry.item, entry.record
    return ToolView(
        name=tool["name"],
        tool=entry.own,
        connection_id=record.id,
        connection=record.name,
        title=tool.get("title") or (tool.get("annotations") or {}).get("title"),
        description=tool.get("description"),
        input_schema=tool.get("inputSchema") or {},
        output_schema=tool.get("outputSchema"),
        annotations=tool.get("annotations") or {},
        policy=verdict_on(record, {**tool, "name": entry.own}),
        pin="quarantined" if entry.quarantined else "approved",
    )
