"""The reference server's memory file: one JSON object per line, `{"type": "entity", …}` or `{"type": "relation", …}`."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from uuid import UUID

import orjson
from pydantic import ValidationError

from auralink.auth.principal import Principal
from auralink.servers.memory.errors import UnreadableLine
from auralink.servers.memory.schemas import Addition, GivenEntity, GivenRelation
from auralink.servers.memory.service import Memory

BATCH = 500
"""Entities or relations that are stored in one transaction."""

KINDS: dict[str, type[GivenEntity] | type[GivenRelation]] = {"entity": GivenEntity, "relation": GivenRelation}


@dataclass(slots=True)
class Imported:
    """How much of a file was new."""

    entities: int = 0
    observations: int = 0
    relations: int = 0


async def export_lines(memory: Memory, principal: Principal, *, agent: UUID | None = None) -> list[str]:
    """The graph as lines (without line ends) that the reference server reads."""
    graph = await memory.read_graph(principal, agent=agent)
    entities = [{"type": "entity", **entity} for entity in graph["entities"]]
    relations = [{"type": "relation", **relation} for relation in graph["relations"]]
    return [orjson.dumps(item).decode() for item in [*entities, *relations]]


async def import_lines(memory: Memory, principal: Principal, lines: Iterable[str], *, agent: UUID | None = None) -> Imported:
    """Adds the lines of a file to the graph, batch by batch; may be repeated. Observations join those of an existing entity.

    Raises:
        UnreadableLine: a line is neither an entity nor a relation. The batches before it stay.
    """
    imported = Imported()
    for entities, relations in _batches(parse_lines(lines)):
        if entities:
            await _import_entities(memory, principal, entities, agent, imported)
        if relations:
            imported.relations += len(await memory.create_relations(principal, relations, agent=agent))
    return imported


def parse_lines(lines: Iterable[str]) -> Iterator[GivenEntity | GivenRelation]:
    """What the lines hold; empty ones are skipped.

    Raises:
        UnreadableLine: naming the line by its number.
    """
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            item = orjson.loads(line)
            yield KINDS[item["type"]].model_validate(item)
        except (orjson.JSONDecodeError, KeyError, TypeError, ValidationError):
            raise UnreadableLine(
                f"line {number} is not an entity or a relation of a memory file; correct it and import the file again"
            ) from None


def _batches(items: Iterable[GivenEntity | GivenRelation]) -> Iterator[tuple[list[GivenEntity], list[GivenRelation]]]:
    entities: list[GivenEntity] = []
    relations: list[GivenRelation] = []
    for item in items:
        if isinstance(item, GivenEntity):
            entities.append(item)
        else:
            relations.append(item)
        if len(entities) + len(relations) == BATCH:
            yield entities, relations
            entities, relations = [], []
    yield entities, relations


async def _import_entities(
    memory: Memory, principal: Principal, entities: list[GivenEntity], agent: UUID | None, imported: Imported
) -> None:
    created = {entity["name"]: entity for entity in await memory.create_entities(principal, entities, agent=agent)}
    imported.entities += len(created)
    imported.observations += sum(len(entity["observations"]) for entity in created.values())
    rest = [e for e in entities if e.name not in created or e.observations != created[e.name]["observations"]]
    additions = [Addition.model_validate({"entityName": e.name, "contents": e.observations}) for e in rest]
    for added in await memory.add_observations(principal, additions, agent=agent) if additions else ():
        imported.observations += len(added["addedObservations"])
