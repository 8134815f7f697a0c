"""How definitions start runs, whatever they are: what a schedule, a webhook or another run has is a kind and an id or a name.

Each domain of definitions (`agents`, `workflows`, …) is a `Startable`; who starts them knows none of these domains.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from auralink.core.db import Connection, Tenant
from auralink.core.errors import Conflict, InvalidRequest
from auralink.runs import store
from auralink.runs.schemas import Order, RunDetail, RunKind, Work
from auralink.runs.service import Runs

MAX_DEFINITIONS = 1_000
"""Of a user, and of each kind."""
CALLED = {"agent_workflows": "workflows", "agent_teams": "teams", "prefect_flows": "flows"}
"""Tables of definitions that users know by another name."""
OF_THE_RUN = ("seconds", "tokens", "cost_usd")
"""The limits of a definition that are its runs'."""


def limits_of_run(limits: Mapping[str, Any]) -> dict[str, Any]:
    """What of a definition's limits is its runs': what they may take in time, tokens and money."""
    return {name: limits[name] for name in OF_THE_RUN if limits.get(name) is not None}


class TooManyDefinitions(Conflict):
    """The user has as many of a kind as there may be."""

    code = "too_many_definitions"
    title = "Too many definitions"


async def require_room(connection: Connection, table: str) -> None:
    """Lets a user have one definition more. Raises TooManyDefinitions."""
    if await store.has_at_least(connection, table, MAX_DEFINITIONS):
        raise TooManyDefinitions(f"you have {MAX_DEFINITIONS} {CALLED.get(table, table)}, which is the most; delete one first")


class KindUnknown(InvalidRequest):
    """Nothing here defines runs of this kind."""

    code = "kind_unknown"
    title = "Unknown kind of definition"


class Startable(Protocol):
    """A domain of definitions. Everything happens in the caller's transaction, as the tenant that this is bound to."""

    async def find_id(self, connection: Connection, reference: UUID | str) -> UUID:
        """The id of a definition by its id or name. Raises NotFound."""
        ...

    async def wants(self, connection: Connection, definition_id: UUID, event: Mapping[str, Any]) -> bool:
        """Whether an event is one that the definition is to be started by. Raises NotFound."""
        ...

    async def prepare(
        self, connection: Connection, definition_id: UUID, order: Order, event: Mapping[str, Any] | None = None
    ) -> tuple[Work, Order]:
        """The definition as it is now, and the order with an input that fits it. Where the order has none, it is what the domain
        makes of the event.

        Raises NotFound, InvalidRequest for an input that does not fit.
        """
        ...


@dataclass(frozen=True)
class Startables:
    """The domains of definitions, by the kind of their runs."""

    runs: Runs
    by_kind: Mapping[RunKind, Startable]

    def of(self, kind: RunKind) -> Startable:
        """The domain of a kind. Raises KindUnknown."""
        if kind not in self.by_kind:
            raise KindUnknown(f"there are no definitions of kind {kind!r} here; there are {', '.join(self.by_kind)}")
        return self.by_kind[kind]

    async def start_in(
        self,
        connection: Connection,
        principal: Tenant,
        kind: RunKind,
        definition_id: UUID,
        order: Order,
        event: Mapping[str, Any] | None = None,
    ) -> RunDetail:
        """Accepts a run of a definition, in the caller's transaction. Raises KindUnknown, NotFound, InvalidRequest."""
        work, fitting = await self.of(kind).prepare(connection, definition_id, order, event)
        return await self.runs.accept_in(connection, principal, work, fitting)
