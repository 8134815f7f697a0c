"""What can be wrong with a call to the memory."""

from typing import ClassVar

from auralink.core.errors import AuralinkError, InvalidRequest, NotFound


class EntityNotFound(NotFound):
    """Observations were given for an entity that is not in the graph. The message is the reference server's."""

    code: ClassVar[str] = "entity_not_found"
    title: ClassVar[str] = "Entity not found"
    next_step: ClassVar[str] = (
        "Nothing was added. Create the entity with create_entities first, or find its exact name with search_nodes."
    )


class UnreadableLine(InvalidRequest):
    """A line of a memory file is not an entity or a relation."""

    code: ClassVar[str] = "unreadable_line"
    title: ClassVar[str] = "Unreadable line"


class EmbeddingFailed(AuralinkError):
    """The embedding provider did not answer. What was to be stored is stored; it is found by its words only."""

    code: ClassVar[str] = "embedding_failed"
    status: ClassVar[int] = 502
    title: ClassVar[str] = "Embedding failed"
