"""The MCP server `memory`: the nine tools, shapes and texts of the reference server, over one user's graph in Postgres.

It acts for `current_principal()`. A call whose `_meta` names an agent (`auralink/agent`, a UUID) works on that agent's graph.
"""

from typing import Any, ClassVar
from uuid import UUID

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.resources import FunctionResource

from auralink import __version__
from auralink.auth.principal import current_principal
from auralink.core.errors import InvalidRequest
from auralink.servers.memory import schemas
from auralink.servers.memory.service import Memory
from auralink.servers.serving import Answer, Meta, ToolSpec, hints, json_text

NAME = "memory"
AGENT_META = "auralink/agent"
GRAPH_URI = "memory://knowledge-graph"
_INSTRUCTIONS = (
    "What is known from earlier conversations, as a graph of entities, observations about them, and relations between them. "
    "Look with search_nodes before you answer from memory or add anything; keep observations short and one fact each."
)
_READS = hints(reads=True, repeatable=True)
_ADDS = hints()
_DELETES = hints(destroys=True, repeatable=True)


class BadAgent(InvalidRequest):
    """`_meta` names an agent by something that is not a UUID."""

    code: ClassVar[str] = "invalid_agent"


def build_server(memory: Memory) -> MCPServer[None]:
    """The server, ready to be run or connected to."""
    handlers = MemoryTools(memory)
    server: MCPServer[None] = MCPServer(
        NAME, title="Memory", version=__version__, instructions=_INSTRUCTIONS, tools=[spec.build() for spec in handlers.specs()]
    )
    server.add_resource(
        FunctionResource(
            uri=GRAPH_URI,
            name="knowledge-graph",
            title="Knowledge graph",
            description="All of the graph: entities with their observations, and relations",
            mime_type="application/json",
            fn=handlers.graph_resource,
        )
    )
    return server


class MemoryTools:
    """The answers to the nine tools."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def specs(self) -> list[ToolSpec[Any]]:
        """The tools, in the order of the reference server."""
        return [*self._writing(), *self._deleting(), *self._reading()]

    def _writing(self) -> list[ToolSpec[Any]]:
        return [
            ToolSpec(
                "create_entities",
                "Create entities",
                "Adds entities (people, projects, places, ideas) with what is known of them. An entity whose name exists already "
                "is left as it is and not in the answer: use add_observations for it.",
                _ADDS,
                schemas.CreateEntities,
                schemas.Entities,
                self.create_entities,
            ),
            ToolSpec(
                "create_relations",
                "Create relations",
                "Adds directed relations between entities, in active voice (Anna works_at Acme). Relations that exist already "
                "are not in the answer.",
                _ADDS,
                schemas.CreateRelations,
                schemas.Relations,
                self.create_relations,
            ),
            ToolSpec(
                "add_observations",
                "Add observations",
                "Adds facts to entities that exist. Answers with what was new; if one entity does not exist, nothing is added.",
                _ADDS,
                schemas.AddObservations,
                schemas.Results,
                self.add_observations,
            ),
        ]

    def _deleting(self) -> list[ToolSpec[Any]]:
        return [
            ToolSpec(
                "delete_entities",
                "Delete entities",
                "Deletes entities with their observations and all of their relations. Names that do not exist are ignored.",
                _DELETES,
                schemas.DeleteEntities,
                schemas.Done,
                self.delete_entities,
            ),
            ToolSpec(
                "delete_observations",
                "Delete observations",
                "Deletes single observations of entities; they must be given exactly as they are stored. Others are ignored.",
                _DELETES,
                schemas.DeleteObservations,
                schemas.Done,
                self.delete_observations,
            ),
            ToolSpec(
                "delete_relations",
                "Delete relations",
                "Deletes relations between entities; the entities stay. Relations that do not exist are ignored.",
                _DELETES,
                schemas.DeleteRelations,
                schemas.Done,
                self.delete_relations,
            ),
        ]

    def _reading(self) -> list[ToolSpec[Any]]:
        return [
            ToolSpec(
                "read_graph",
                "Read graph",
                "Returns everything that is known. It may be long: prefer search_nodes.",
                _READS,
                schemas.ReadGraph,
                schemas.Graph,
                self.read_graph,
            ),
            ToolSpec(
                "search_nodes",
                "Search nodes",
                "Finds entities by words or parts of words in their names, types and observations, best first, with all "
                "relations of theirs. A few telling words work better than a sentence.",
                _READS,
                schemas.SearchNodes,
                schemas.Graph,
                self.search_nodes,
            ),
            ToolSpec(
                "open_nodes",
                "Open nodes",
                "Returns the entities of these exact names, with all relations of theirs. Names that do not exist are left out.",
                _READS,
                schemas.OpenNodes,
                schemas.Graph,
                self.open_nodes,
            ),
        ]

    async def create_entities(self, given: schemas.CreateEntities, meta: Meta) -> Answer:
        created = await self._memory.create_entities(current_principal(), given.entities, agent=agent_of(meta))
        return Answer({"entities": created}, json_text(created))

    async def create_relations(self, given: schemas.CreateRelations, meta: Meta) -> Answer:
        created = await self._memory.create_relations(current_principal(), given.relations, agent=agent_of(meta))
        return Answer({"relations": created}, json_text(created))

    async def add_observations(self, given: schemas.AddObservations, meta: Meta) -> Answer:
        added = await self._memory.add_observations(current_principal(), given.observations, agent=agent_of(meta))
        return Answer({"results": added}, json_text(added))

    async def delete_entities(self, given: schemas.DeleteEntities, meta: Meta) -> Answer:
        await self._memory.delete_entities(current_principal(), given.entity_names, agent=agent_of(meta))
        return _done("Entities deleted successfully")

    async def delete_observations(self, given: schemas.DeleteObservations, meta: Meta) -> Answer:
        await self._memory.delete_observations(current_principal(), given.deletions, agent=agent_of(meta))
        return _done("Observations deleted successfully")

    async def delete_relations(self, given: schemas.DeleteRelations, meta: Meta) -> Answer:
        await self._memory.delete_relations(current_principal(), given.relations, agent=agent_of(meta))
        return _done("Relations deleted successfully")

    async def read_graph(self, given: schemas.ReadGraph, meta: Meta) -> Answer:
        return Answer(await self._memory.read_graph(current_principal(), agent=agent_of(meta)))

    async def search_nodes(self, given: schemas.SearchNodes, meta: Meta) -> Answer:
        return Answer(await self._memory.search(current_principal(), given.query, agent=agent_of(meta)))

    async def open_nodes(self, given: schemas.OpenNodes, meta: Meta) -> Answer:
        return Answer(await self._memory.open_nodes(current_principal(), given.names, agent=agent_of(meta)))

    async def graph_resource(self) -> str:
        """The user's own graph as JSON."""
        return json_text(await self._memory.read_graph(current_principal()))


def agent_of(meta: Meta) -> UUID | None:
    """The agent whose graph a call is about.

    Raises:
        BadAgent: it is not given as a UUID.
    """
    given = meta.get(AGENT_META)
    if given is None:
        return None
    try:
        return UUID(given)
    except (ValueError, AttributeError, TypeError):
        raise BadAgent(f"_meta[{AGENT_META!r}] must be the UUID of an agent; leave it out for the user's own memory") from None


def _done(message: str) -> Answer:
    return Answer({"success": True, "message": message}, message)
