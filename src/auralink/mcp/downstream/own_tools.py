"""The tools that the gateway itself offers to runs, as a server of the name `auralink`: its makers stand above this domain."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from auralink.auth.principal import Principal

CONNECTION = "auralink"
"""Before the `__` of their names; a connection that a user gives this name is not seen by runs."""


class OwnTools(Protocol):
    """What runs can do besides what their user's servers offer."""

    def definitions(self) -> Sequence[Mapping[str, Any]]:
        """The tools as `tools/list` shows them, under their own names."""
        ...

    async def call(self, principal: Principal, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """A result of `tools/call`. Raises ToolNotFound, and as `Journal.carry`."""
        ...
