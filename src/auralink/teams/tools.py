"""Tools of members: what was given is looked up when the member is saved, so that a run can call each by its name in `/mcp`.

Some tools of the built-in servers can be named without knowing what the connection is called (`BY_NAME`); `*` stands for any
characters, and takes the tools that there are when the member is saved.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from auralink.auth.principal import Principal
from auralink.core.warned import did_you_mean
from auralink.mcp import naming
from auralink.mcp.federation import Federation
from auralink.mcp.schemas import ConnectionRecord
from auralink.workflows.checking import Problem
from auralink.workflows.tools import KnownTools, known_tools

BY_NAME: Mapping[str, tuple[str, str]] = {
    "WebSearch": ("toolbox", "web_search"),
    "Calculator": ("toolbox", "calculator"),
    "CodeAnalyzer": ("toolbox", "code_analyzer"),
    "MemorySearch": ("memory", "search_nodes"),
    "DeepWikiSearch": ("deepwiki", "search_docs"),
}
"""The type of the built-in server, and the tool's own name."""


@dataclass(frozen=True)
class UsersTools:
    """What a user's members can be given."""

    known: KnownTools
    records: Sequence[ConnectionRecord]

    def resolve(self, given: Sequence[str], pointer: str = "/tools") -> tuple[list[str], list[Problem]]:
        """The names in `/mcp` of tools as they were given, each once, and what is wrong with those that are not there."""
        names: dict[str, None] = {}
        problems = []
        for at, tool in enumerate(given):
            found = self._find(tool)
            if isinstance(found, str):
                problems.append(Problem(f"{pointer}/{at}", found))
            else:
                names.update(dict.fromkeys(found))
        return list(names), problems

    def _find(self, given: str) -> list[str] | str:
        """The names that are meant, or what is wrong."""
        if given in BY_NAME:
            return self._built_in(given)
        if "*" in given:
            fitting = [name for name in self.known if fnmatchcase(name, given)]
            return fitting or f"no tool of yours fits {given!r}; connect a server, or see GET /mcp/tools"
        if given in self.known:
            return [given]
        return self._denied(given) or self._missing(given)

    def _built_in(self, given: str) -> list[str] | str:
        server_type, tool = BY_NAME[given]
        fitting = sorted(record.name for record in self.records if record.server.server_type == server_type)
        if not fitting:
            connect = f'POST /mcp/connect {{"server_type": "{server_type}"}} makes one'
            return f"{given} is a tool of the built-in server {server_type!r}, and you have no connection to it; {connect}"
        named = [naming.public_name(connection, tool) for connection in fitting]
        allowed = next((name for name in named if name in self.known), None)
        return [allowed] if allowed else self._denied(named[0]) or self._missing(named[0])

    def _denied(self, name: str) -> str | None:
        connection, tool = naming.split(name) or ("", "")
        record = next((record for record in self.records if record.name == connection), None)
        if record is None or record.policy.decide(tool) != "deny":
            return None
        say = f"PATCH /mcp/connections/{record.id} changes that"
        return f"the policy of your connection {connection!r} denies the tool {tool!r}; {say}"

    def _missing(self, name: str) -> str:
        near = did_you_mean(name, [*self.known, *BY_NAME]) or did_you_mean(name.rpartition(naming.SEPARATOR)[2], self._owns())
        return f"you have no tool {name!r}{near}; connect its server, or see GET /mcp/tools"

    def _owns(self) -> Collection[str]:
        return {name.rpartition(naming.SEPARATOR)[2] for name in self.known}


async def users_tools(federation: Federation, principal: Principal) -> UsersTools:
    """The tools that members of the principal's teams could call."""
    return UsersTools(await known_tools(federation, principal), await federation.records(principal))
