"""How definitions start runs, whatever they are: what a schedule, a webhook or another run has is a kind and an id or a name.

Each domain of definitions (`agents`, `workflows`, …) is a `Startable`; who starts them knows none of these domains.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from auralink.core.db import Connection, Tenant
from auralink.core.errors import InvalidRequest
from auralink.runs.schemas import Order, RunDetail, RunKind


class KindUnknown(InvalidRequest):
    """Nothing here defines runs of this kind."""

    code = "kind_unknown"
    title = "Unknown kind of definition"


@dataclass(frozen=True)
class Startables:
    """The domains of definitions, by the kind of their runs."""

    by_kind: Mapping[RunKind, "Startable"]

    def of(self, kind: RunKind) -> "Startable":
        """The domain of a kind. Raises KindUnknown."""
        if kind not in self.by_kind:
            raise KindUnknown(f"no definitions of kind {kind!r} here; there are {', '.join(self.by_kind)}")
        return self.by_kind[kind]


class Startable(Protocol):
    """A domain of definitions. Everything happens in the caller's transaction, as the tenant that this is bound to."""

    async def find_id(self, connection: Connection, reference: UUID | str) -> UUID:
        """The id of a definition by its id or name. Raises NotFound."""
        ...

    async def wants(self, connection: Connection, definition_id: UUID, event: Mapping[str, Any]) -> bool:
        """Whether an event is one that the definition is to be started by. Raises NotFound."""
        ...

    async def start_in(self, connection: Connection, principal: Tenant, definition_id: UUID, order: Order) -> RunDetail:
        """Accepts a run of the definition as it is now. Raises NotFound, InvalidRequest for an input that does not fit."""
        ...

    def input_of_event(self, event: Mapping[str, Any]) -> Any:
        """What an event means as input, where nothing else is said."""
        ...
