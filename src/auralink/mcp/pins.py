"""Pins: a tool is what it was when its user first saw it (P-PIN).

A server can change what a tool says it does after a user has come to trust it. Name, title, description, schemas and annotations
are hashed at first sight; a tool whose hash changes is quarantined, not shown and not called, until its user has looked at the
difference. A definition with invisible characters, which a person cannot see and a model reads, is quarantined from the start.
"""

import difflib
import hashlib
import unicodedata
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

import orjson

from auralink.audit.group_commit import GroupCommit
from auralink.auth.principal import Principal
from auralink.core.changes import Change
from auralink.core.db import Database
from auralink.core.errors import Conflict, Forbidden, NotFound
from auralink.core.ids import uuid7
from auralink.core.paging import Position, encode_cursor
from auralink.mcp import pin_store
from auralink.mcp.recording import audited
from auralink.mcp.schemas import ConnectionRecord, PinPage, PinView

PINNED = ("name", "title", "description", "inputSchema", "outputSchema", "annotations")
INVISIBLE = frozenset({"Cf", "Co", "Cn"})
"""Unicode categories of characters that show nothing: formats and tags, private use, unassigned."""
VISIBLE_FORMATS = frozenset({"\u200d", "\ufe0f"})
"""Joiner and variation selector, which emoji are made of."""
REMEMBERED = 10_000
"""Connections whose last review is remembered."""
Tools = Mapping[str, Mapping[str, Any]]


class ToolQuarantined(Forbidden):
    """The tool's definition has changed since the user approved it."""

    code = "tool_quarantined"
    title = "Tool quarantined"


class PinNotFound(NotFound):
    """The user has no such pin."""

    code = "pin_not_found"
    title = "Pin not found"


class PinChanged(Conflict):
    """The tool has changed again, or is not quarantined."""

    code = "pin_not_quarantined"
    title = "Pin not quarantined"


class Pins:
    """Compares what servers say of their tools with what users have approved."""

    def __init__(self, db: Database, audit: GroupCommit) -> None:
        self._db = db
        self._audit = audit
        self._reviewed: OrderedDict[UUID, tuple[Tools, Mapping[str, UUID]]] = OrderedDict()

    async def quarantined(self, principal: Principal, record: ConnectionRecord, tools: Tools) -> Mapping[str, UUID]:
        """The tools among `tools` that are quarantined, with their pins. Looked up once for each list that a server gives."""
        if record.server.transport == "in_process":
            return {}
        reviewed = self._reviewed.get(record.id)
        if reviewed is None or reviewed[0] is not tools:
            reviewed = (tools, await self._review(principal, record, tools))
            self._reviewed[record.id] = reviewed
            if len(self._reviewed) > REMEMBERED:
                self._reviewed.popitem(last=False)
        return reviewed[1]

    def changed(self, change: Change) -> None:
        """Looks everything up again when a pin was approved, here or in another process."""
        if change.table == "tool_pins":
            self.lost()

    def lost(self) -> None:
        """Looks everything up again."""
        self._reviewed.clear()

    async def approve(self, principal: Principal, pin_id: UUID, *, source: str) -> PinView:
        """Takes the tool as its server describes it now.

        Raises:
            PinNotFound, PinChanged.
        """
        async with audited(self._audit, principal, "approve_pin", source) as operation:
            async with self._db.tenant(principal) as connection:
                approved = await pin_store.approve(connection, pin_id)
                row = await pin_store.find(connection, pin_id)
            if row is None:
                raise PinNotFound(f"you have no pin {pin_id}; GET /api/v1/mcp/pins lists yours")
            operation.connection_id, operation.tool = row["connection_id"], row["tool"]
            if not approved:
                raise PinChanged(f"the tool {row['tool']!r} is not quarantined")
        self.lost()
        return _view(row)

    async def page(self, principal: Principal, *, after: Position | None, limit: int) -> PinPage:
        """A page of the principal's quarantined tools."""
        async with self._db.tenant(principal) as connection:
            rows = await pin_store.quarantined(connection, after=after, limit=limit + 1)
        cursor = encode_cursor((rows[limit - 1]["updated_at"], rows[limit - 1]["id"])) if len(rows) > limit else None
        return PinPage(items=[_view(row) for row in rows[:limit]], next_cursor=cursor)

    async def _review(self, principal: Principal, record: ConnectionRecord, tools: Tools) -> Mapping[str, UUID]:
        async with self._db.tenant(principal) as connection:
            pins = {row["tool"]: row for row in await pin_store.of_connection(connection, record.id)}
            new = [_first_pin(principal, record, tool) for name, tool in tools.items() if name not in pins]
            await pin_store.insert(connection, new)
            changed = [(pins[name]["id"], tool) for name, tool in tools.items() if name in pins and _differs(pins[name], tool)]
            for pin_id, tool in changed:
                await pin_store.quarantine(connection, pin_id, _definition(tool), _hash(tool), invisible_in(tool))
            rows = await pin_store.of_connection(connection, record.id)
        return {row["tool"]: row["id"] for row in rows if row["status"] == "quarantined" and row["tool"] in tools}


def refuse_quarantined(record: ConnectionRecord, tool: str, pin_id: UUID) -> ToolQuarantined:
    """The error for a call of a quarantined tool."""
    return ToolQuarantined(
        f"tool {tool!r} of server {record.server.name!r} is not what you approved; look at the difference with "
        f"GET /api/v1/mcp/pins, then POST /api/v1/mcp/pins/{pin_id}/approve",
        extra={"pin_id": str(pin_id)},
    )


def invisible_in(tool: Mapping[str, Any]) -> list[str]:
    """The invisible characters in a definition, as `U+200B ZERO WIDTH SPACE`."""
    text = _canonical(_definition(tool)).decode()
    found = {c for c in text if unicodedata.category(c) in INVISIBLE and c not in VISIBLE_FORMATS}
    return sorted(f"U+{ord(c):04X} {unicodedata.name(c, 'UNNAMED')}" for c in found)


def _first_pin(principal: Principal, record: ConnectionRecord, tool: Mapping[str, Any]) -> dict[str, Any]:
    flags = invisible_in(tool)
    return {
        "id": uuid7(),
        "user_id": principal.user_id,
        "connection_id": record.id,
        "tool": tool["name"],
        "status": "quarantined" if flags else "approved",
        "definition": _definition(tool),
        "definition_hash": _hash(tool),
        "flags": flags,
    }


def _differs(pin: Mapping[str, Any], tool: Mapping[str, Any]) -> bool:
    """Whether a tool is neither what was approved nor what is quarantined already."""
    return _hash(tool) not in (bytes(pin["definition_hash"]), bytes(pin["seen_hash"] or b""))


def _definition(tool: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tool[key] for key in PINNED if tool.get(key) is not None}


def _hash(tool: Mapping[str, Any]) -> bytes:
    return hashlib.sha256(_canonical(_definition(tool))).digest()


def _canonical(definition: Mapping[str, Any]) -> bytes:
    return orjson.dumps(definition, option=orjson.OPT_SORT_KEYS)


def _view(row: Mapping[str, Any]) -> PinView:
    return PinView(
        pin_id=row["id"],
        connection_id=row["connection_id"],
        tool=row["tool"],
        status=row["status"],
        flags=row["flags"],
        definition=row["definition"],
        seen=row["seen"],
        diff="\n".join(_diff(row["definition"], row["seen"] or row["definition"])),
        updated_at=row["updated_at"],
    )


def _diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    old, new = (orjson.dumps(side, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2).decode() for side in (before, after))
    return difflib.unified_diff(old.splitlines(), new.splitlines(), "approved", "now", lineterm="")
