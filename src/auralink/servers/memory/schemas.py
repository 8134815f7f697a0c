"""The JSON shapes of the memory server: those of the reference server `@modelcontextprotocol/server-memory`, field for field."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from typing_extensions import TypedDict

from auralink.servers.serving import StorableText

MAX_NAME = 500
"""Characters of a name or a type; the reference has no limit."""
MAX_OBSERVATION = 100_000
"""Characters of one observation; the reference has no limit."""

Name = Annotated[StorableText, StringConstraints(max_length=MAX_NAME)]
Content = Annotated[StorableText, StringConstraints(max_length=MAX_OBSERVATION)]


class Given(BaseModel):
    """Arguments: unknown fields are ignored, as the reference does."""

    model_config = ConfigDict(populate_by_name=True)


class GivenEntity(Given):
    name: Annotated[Name, Field(description="The entity's name, by which everything else refers to it")]
    entity_type: Annotated[Name, Field(alias="entityType", description="What kind of thing it is, such as person or project")]
    observations: Annotated[list[Content], Field(description="Facts about it, one short statement each")]


class GivenRelation(Given):
    from_name: Annotated[Name, Field(alias="from", description="Name of the entity that the relation starts from")]
    to_name: Annotated[Name, Field(alias="to", description="Name of the entity that the relation leads to")]
    relation_type: Annotated[Name, Field(alias="relationType", description="What relates them, in active voice: works_at")]


class Addition(Given):
    entity_name: Annotated[StorableText, Field(alias="entityName", description="Name of the entity to add to")]
    contents: Annotated[list[Content], Field(description="The facts to add, one short statement each")]


class Deletion(Given):
    entity_name: Annotated[StorableText, Field(alias="entityName", description="Name of the entity to take them from")]
    observations: Annotated[list[StorableText], Field(description="The observations to delete, exactly as they are stored")]


class CreateEntities(Given):
    entities: list[GivenEntity]


class CreateRelations(Given):
    relations: list[GivenRelation]


class AddObservations(Given):
    observations: list[Addition]


class DeleteEntities(Given):
    entity_names: Annotated[list[StorableText], Field(alias="entityNames", description="Names of the entities to delete")]


class DeleteObservations(Given):
    deletions: list[Deletion]


class DeleteRelations(Given):
    relations: Annotated[list[GivenRelation], Field(description="The relations to delete, exactly as they are stored")]


class ReadGraph(Given):
    pass


class SearchNodes(Given):
    query: Annotated[
        StorableText,
        Field(description="Words to look for in names, types and observations; parts of words are found too"),
    ]


class OpenNodes(Given):
    names: Annotated[list[StorableText], Field(description="Exact names of the entities to open")]


class Entity(TypedDict):
    """A node of the graph."""

    name: str
    entityType: str
    observations: list[str]


Relation = TypedDict("Relation", {"from": str, "to": str, "relationType": str})
"""An edge of the graph, between two names."""


class AddedObservations(TypedDict):
    """What was new of one addition."""

    entityName: str
    addedObservations: list[str]


class Entities(TypedDict):
    entities: list[Entity]


class Relations(TypedDict):
    relations: list[Relation]


class Results(TypedDict):
    results: list[AddedObservations]


class Graph(TypedDict):
    entities: list[Entity]
    relations: list[Relation]


class Done(TypedDict):
    success: bool
    message: str
