"""The names of a user's tools, to check definitions against when they are saved."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from auralink.auth.principal import Principal
from auralink.mcp.federation import Federation
from auralink.runs.tools import ASK, SERVER
from auralink.workflows.checking import DefinitionInvalid, Problem

MEMORY = "memory"
OF_RUNS = {f"{SERVER}__{tool}" for tool in (ASK, "run_agent", "run_workflow", "run_team", "run_flow")}
"""What every run can call besides its user's tools."""


@dataclass(frozen=True)
class KnownTools(Collection[str]):
    """The tools that the user's connections list; of a connection that does not answer now, any tool may be there."""

    names: frozenset[str]
    unreachable: frozenset[str] = frozenset()

    def __contains__(self, name: object) -> bool:
        return name in self.names or str(name).partition("__")[0] in self.unreachable

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.names))

    def __len__(self) -> int:
        return len(self.names)

    def within(self, connections: Collection[str]) -> "KnownTools":
        """Those of some connections."""
        names = frozenset(name for name in self.names if name.partition("__")[0] in {*connections, SERVER})
        return KnownTools(names, self.unreachable & frozenset(connections))


async def known_tools(federation: Federation, principal: Principal) -> KnownTools:
    """The tools that a run of the principal could call: those denied are not among them, those quarantined neither."""
    page = await federation.tools(principal)
    names = {tool.name for tool in page.items if tool.policy != "deny" and tool.pin == "approved"}
    return KnownTools(frozenset(names | OF_RUNS), frozenset(missing.connection for missing in page.degraded))


async def known_connections(federation: Federation, principal: Principal) -> frozenset[str]:
    """The names of the principal's connections."""
    return frozenset(record.name for record in await federation.records(principal))


async def memory_connection(federation: Federation, principal: Principal, wanted: bool | str) -> str | None:  # as the wire has it
    """The memory connection that is meant; None for none. Raises DefinitionInvalid if the principal has no such."""
    if wanted is False:
        return None
    records = await federation.records(principal)
    fitting = [r.name for r in records if (r.server.server_type == MEMORY if wanted is True else r.name == wanted)]
    if not fitting:
        said = "you have no memory server" if wanted is True else f"you have no connection {wanted!r}"
        raise DefinitionInvalid([Problem("/memory", f"{said}; POST /mcp/connect with server_type memory makes one")])
    return min(fitting)
