"""Toolsets: named choices of a user's tools, so that a client is shown a few instead of all (`/mcp?toolset=<name>`).

A toolset says what is shown and can be called at that address. It grants nothing: policy and pins decide as ever.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from psycopg.errors import UniqueViolation
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from auralink.auth.principal import Principal
from auralink.core.db import Database
from auralink.core.errors import Conflict, InvalidRequest, NotFound
from auralink.core.ids import uuid7
from auralink.core.warned import Warning, did_you_mean  # noqa: A004  # what it is called on the wire
from auralink.mcp import toolset_store as store
from auralink.mcp.federation import Federation
from auralink.mcp.naming import split
from auralink.mcp.resolve import ConnectionResolver

MAX_TOOLSETS = 100
MAX_REMEMBERED = 10_000
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
ToolName = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
Tools = Annotated[list[ToolName], Field(min_length=1, max_length=500)]


class ToolsetNotFound(NotFound):
    """The user has no such toolset (or it is another user's, which looks the same)."""

    code = "toolset_not_found"
    title = "Toolset not found"


class ToolsetNameTaken(Conflict):
    """The user has a toolset of that name."""

    code = "toolset_name_taken"
    title = "Toolset name taken"


class TooManyToolsets(Conflict):
    """The user has as many toolsets as there may be."""

    code = "too_many_toolsets"
    title = "Too many toolsets"


class ToolsetBody(BaseModel):
    """POST /mcp/toolsets. Tools are named as tools/list shows them."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    tools: Tools


class ToolsetPatch(BaseModel):
    """PATCH /mcp/toolsets/{id}."""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = None
    tools: Tools | None = None


class ToolsetView(BaseModel):
    """A toolset."""

    toolset_id: UUID
    name: str
    tools: list[str]
    created_at: datetime
    updated_at: datetime
    warnings: list[Warning] = Field(default=[], description="in the answer to a POST or a PATCH")


class ToolsetPage(BaseModel):
    """All of a user's toolsets, by name."""

    items: list[ToolsetView]
    next_cursor: str | None = None


class Toolsets:
    """Keeps toolsets, and remembers what is in those that are used until something changes."""

    def __init__(self, db: Database, resolver: ConnectionResolver, federation: Federation) -> None:
        self._db = db
        self._resolver = resolver
        self._federation = federation
        self._remembered: dict[tuple[UUID, str], tuple[int, frozenset[str]]] = {}

    async def tools(self, principal: Principal, name: str) -> frozenset[str]:
        """The tools of a toolset. Raises ToolsetNotFound."""
        key, version = (principal.user_id, name), self._resolver.version
        remembered = self._remembered.get(key)
        if remembered is not None and remembered[0] == version:
            return remembered[1]
        async with self._db.tenant(principal) as connection:
            row = None if "\0" in name else await store.find_by_name(connection, name)
        if row is None:
            raise ToolsetNotFound(f"you have no toolset {name!r}; GET /api/v1/mcp/toolsets lists yours")
        tools = frozenset(row["tools"])
        if version is not None and version == self._resolver.version:
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[key] = (version, tools)
        return tools

    async def page(self, principal: Principal) -> ToolsetPage:
        """The principal's toolsets."""
        async with self._db.tenant(principal) as connection:
            return ToolsetPage(items=[_view(row) for row in await store.all_of_tenant(connection)])

    async def get(self, principal: Principal, toolset_id: UUID) -> ToolsetView:
        """One of them. Raises ToolsetNotFound."""
        async with self._db.tenant(principal) as connection:
            row = await store.find(connection, toolset_id)
        if row is None:
            raise _not_found(toolset_id)
        return _view(row)

    async def create(self, principal: Principal, body: ToolsetBody) -> ToolsetView:
        """A new one, with warnings of tools that no connection lists. Raises ToolsetNameTaken, TooManyToolsets."""
        warnings = await self._unknown(principal, body.tools)
        row = {"id": uuid7(), "user_id": principal.user_id, "name": body.name, "tools": _unique(body.tools)}
        try:
            async with self._db.tenant(principal) as connection:
                if await store.count(connection) >= MAX_TOOLSETS:
                    raise TooManyToolsets(f"you have {MAX_TOOLSETS} toolsets; delete one first")
                return _view(await store.insert(connection, row), warnings)
        except UniqueViolation:
            raise _name_taken(body.name) from None

    async def change(self, principal: Principal, toolset_id: UUID, patch: ToolsetPatch) -> ToolsetView:
        """Renames a toolset or replaces its tools, with warnings as `create`. Raises ToolsetNotFound, ToolsetNameTaken."""
        changes: dict[str, Any] = patch.model_dump(exclude_none=True)
        if not changes:
            raise InvalidRequest("the body changes nothing; give a name or tools")
        if "tools" in changes:
            changes["tools"] = _unique(changes["tools"])
        warnings = await self._unknown(principal, patch.tools or [])
        try:
            async with self._db.tenant(principal) as connection:
                row = await store.update(connection, toolset_id, changes)
        except UniqueViolation:
            raise _name_taken(changes["name"]) from None
        self._forget(principal)
        if row is None:
            raise _not_found(toolset_id)
        return _view(row, warnings)

    async def remove(self, principal: Principal, toolset_id: UUID) -> None:
        """Deletes a toolset. Raises ToolsetNotFound."""
        async with self._db.tenant(principal) as connection:
            removed = await store.delete(connection, toolset_id)
        self._forget(principal)
        if not removed:
            raise _not_found(toolset_id)

    async def _unknown(self, principal: Principal, tools: list[str]) -> list[Warning]:
        """A warning for each tool that no connection lists, under its public name or its own; silent about servers that are away."""
        if not tools:
            return []
        listing = await self._federation.listing(principal, "tools", with_quarantined=True)
        public, own = {entry.item["name"] for entry in listing.entries}, {entry.own for entry in listing.entries}
        away = {missing.connection for missing in listing.degraded}
        return [
            Warning(
                pointer=f"/tools/{at}",
                message=f"no connection of yours lists a tool {name!r}{did_you_mean(name, public)}; it is not shown until one does",
            )
            for at, name in enumerate(tools)
            if name not in public | own and not _may_be_of(name, away)
        ]

    def _forget(self, principal: Principal) -> None:
        """For a change made in this process, which need not wait for its own notice."""
        self._remembered = {key: entry for key, entry in self._remembered.items() if key[0] != principal.user_id}


def _may_be_of(name: str, connections: Collection[str]) -> bool:
    """Whether a tool may be one of these connections, of which nobody knows what they have."""
    parts = split(name)
    return bool(connections) if parts is None else parts[0] in connections


def _unique(tools: list[str]) -> list[str]:
    return list(dict.fromkeys(tools))


def _view(row: Any, warnings: list[Warning] | None = None) -> ToolsetView:
    fields = {name: row[name] for name in ("name", "tools", "created_at", "updated_at")}
    return ToolsetView(toolset_id=row["id"], warnings=warnings or [], **fields)


def _not_found(toolset_id: UUID) -> ToolsetNotFound:
    return ToolsetNotFound(f"you have no toolset {str(toolset_id)!r}; GET /api/v1/mcp/toolsets lists yours")


def _name_taken(name: str) -> ToolsetNameTaken:
    return ToolsetNameTaken(f"you have a toolset named {name!r}; change it with PATCH, or choose another name")
