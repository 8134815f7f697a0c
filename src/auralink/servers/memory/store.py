"""SQL of the memory. Tenant scope comes from the transaction; `agent` picks the user's own graph (None) or an agent's.

Rows are ordered by id, which is the order of creation: the reference server shows entities, observations and relations so.
Nothing here commits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

import orjson
from psycopg.rows import DictRow

from auralink.core.db import Connection
from auralink.servers.memory.schemas import Entity, GivenEntity, GivenRelation, Relation

LOCK = """
SELECT pg_advisory_xact_lock(hashtextextended(concat('auralink.memory', auralink.current_user_id(), %s::uuid), 0))
"""

GRAPH = "(SELECT coalesce(%s::uuid, auralink.current_user_id()))"
GRAPH_OF_AGENT = "(SELECT coalesce(%(agent)s::uuid, auralink.current_user_id()))"
"""The graph of the agent of this parameter, or the user's own; as a subselect, it is looked up once and not per row."""

INSERT_ENTITIES = """
INSERT INTO auralink.memory_entities (agent_id, name, entity_type, folded)
SELECT %(agent)s, name, entity_type, folded
FROM unnest(%(names)s::text[], %(types)s::text[], %(folded)s::text[]) WITH ORDINALITY AS given (name, entity_type, folded, place)
ORDER BY place
ON CONFLICT DO NOTHING
RETURNING id, name
"""

INSERT_OBSERVATIONS = """
INSERT INTO auralink.memory_observations (agent_id, entity_id, content, folded)
SELECT %(agent)s, entity_id, content, folded
FROM unnest(%(entities)s::bigint[], %(contents)s::text[], %(folded)s::text[])
     WITH ORDINALITY AS given (entity_id, content, folded, place)
ORDER BY place
RETURNING id
"""

INSERT_RELATIONS = """
INSERT INTO auralink.memory_relations (agent_id, from_name, to_name, relation_type, digest)
SELECT %(agent)s, from_name, to_name, relation_type, digest
FROM unnest(%(from)s::text[], %(to)s::text[], %(types)s::text[], %(digests)s::bytea[])
     WITH ORDINALITY AS given (from_name, to_name, relation_type, digest, place)
ORDER BY place
ON CONFLICT DO NOTHING
RETURNING digest
"""

OBSERVATIONS_OF = """
SELECT entity_id, content FROM auralink.memory_observations WHERE entity_id = ANY(%s) AND content = ANY(%s)
"""

ENTITY_IDS = f"""
SELECT id, name FROM auralink.memory_entities WHERE name = ANY(%s) AND graph_id = {GRAPH} ORDER BY id
"""

DELETE_ENTITIES = f"DELETE FROM auralink.memory_entities WHERE name = ANY(%s) AND graph_id = {GRAPH}"

DELETE_RELATIONS_OF = f"""
DELETE FROM auralink.memory_relations
WHERE (from_name = ANY(%(names)s) OR to_name = ANY(%(names)s)) AND graph_id = {GRAPH_OF_AGENT}
"""

DELETE_RELATIONS = f"DELETE FROM auralink.memory_relations WHERE digest = ANY(%s) AND graph_id = {GRAPH}"

DELETE_OBSERVATIONS = """
DELETE FROM auralink.memory_observations o
USING unnest(%s::bigint[], %s::text[]) AS given (entity_id, content)
WHERE o.entity_id = given.entity_id AND o.content = given.content
"""

ENTITIES = """
SELECT e.id, e.name, e.entity_type,
       ARRAY(SELECT o.content FROM auralink.memory_observations o WHERE o.entity_id = e.id ORDER BY o.id) AS observations
FROM auralink.memory_entities e
"""

ALL_ENTITIES = f"{ENTITIES} WHERE e.graph_id = {GRAPH} ORDER BY e.id"
ENTITIES_BY_ID = f"{ENTITIES} WHERE e.id = ANY(%s)"
ENTITIES_BY_NAME = f"{ENTITIES} WHERE e.name = ANY(%s) AND e.graph_id = {GRAPH} ORDER BY e.id"

ALL_RELATIONS = f"""
SELECT from_name, to_name, relation_type FROM auralink.memory_relations WHERE graph_id = {GRAPH} ORDER BY id
"""

RELATIONS_OF = f"""
WITH wanted AS (SELECT unnest(%(names)s::text[]) AS name)
SELECT id, from_name, to_name, relation_type
FROM auralink.memory_relations JOIN wanted ON from_name = name WHERE graph_id = {GRAPH_OF_AGENT}
UNION
SELECT id, from_name, to_name, relation_type
FROM auralink.memory_relations JOIN wanted ON to_name = name WHERE graph_id = {GRAPH_OF_AGENT}
ORDER BY id
"""

HITS = f"""
SELECT entity_id FROM auralink.memory_hits({GRAPH_OF_AGENT}, %(phrase)s, %(pieces)s, %(patterns)s, %(rows)s)
GROUP BY entity_id ORDER BY max(fit) DESC, count(*) DESC, entity_id LIMIT %(entities)s
"""

HITS_OF_ANY = f"""
SELECT entity_id FROM unnest(%(pieces)s::text[], %(patterns)s::text[]) AS word (piece, pattern),
     LATERAL auralink.memory_hits({GRAPH_OF_AGENT}, piece, ARRAY[piece], ARRAY[pattern], %(rows)s)
GROUP BY entity_id ORDER BY count(DISTINCT piece) DESC, max(fit) DESC, entity_id LIMIT %(entities)s
"""

HITS_WITHOUT_INDEX = f"""
SELECT id AS entity_id FROM (
    (SELECT e.id FROM auralink.memory_entities e
     WHERE e.graph_id = {GRAPH_OF_AGENT} AND strpos(e.folded, %(phrase)s) > 0 LIMIT %(rows)s)
    UNION
    (SELECT o.entity_id FROM auralink.memory_observations o
     WHERE o.graph_id = {GRAPH_OF_AGENT} AND strpos(o.folded, %(phrase)s) > 0 LIMIT %(rows)s)
) AS found ORDER BY id LIMIT %(entities)s
"""

HAS_EMBEDDINGS = """
SELECT EXISTS (SELECT FROM pg_attribute
               WHERE attrelid = 'auralink.memory_observations'::regclass AND attname = 'embedding' AND NOT attisdropped) AS yes
"""

SET_EMBEDDINGS = """
UPDATE auralink.memory_observations o SET embedding = given.embedding::public.vector, embedding_model = %s
FROM unnest(%s::bigint[], %s::text[]) AS given (id, embedding) WHERE o.id = given.id
"""

NEAREST = f"""
SELECT entity_id FROM (
    SELECT entity_id, embedding OPERATOR(public.<=>) %(vector)s::public.vector AS distance
    FROM auralink.memory_observations
    WHERE graph_id = {GRAPH_OF_AGENT} AND embedding_model = %(model)s
    ORDER BY 2 LIMIT %(rows)s
) AS near WHERE distance < %(distance)s GROUP BY entity_id ORDER BY min(distance), entity_id
"""


@dataclass(frozen=True, slots=True)
class NewObservation:
    """An observation to be stored, with the name of its entity, which is part of what it is found by."""

    entity_id: int
    entity_name: str
    content: str


def fold(text: str) -> str:
    """Lower case by Unicode's rules, as `String.prototype.toLowerCase` has it; never left to the database's locale."""
    return text.lower()


async def lock_graph(connection: Connection, agent: UUID | None) -> None:
    """Lets one transaction at a time change this graph; without it, two that make the same names could deadlock."""
    await connection.execute(LOCK, [agent])


async def insert_entities(connection: Connection, agent: UUID | None, entities: Sequence[GivenEntity]) -> dict[str, int]:
    """Stores entities without their observations, in order; returns the ids of those that are new, by name."""
    rows = await connection.execute(
        INSERT_ENTITIES,
        {
            "agent": agent,
            "names": [e.name for e in entities],
            "types": [e.entity_type for e in entities],
            "folded": [f"{fold(e.name)}\n{fold(e.entity_type)}" for e in entities],
        },
    )
    return {row["name"]: row["id"] for row in await rows.fetchall()}


async def insert_observations(connection: Connection, agent: UUID | None, new: Sequence[NewObservation]) -> list[int]:
    """Stores observations in order, duplicates included; returns their ids."""
    rows = await connection.execute(
        INSERT_OBSERVATIONS,
        {
            "agent": agent,
            "entities": [o.entity_id for o in new],
            "contents": [o.content for o in new],
            "folded": [f"{fold(o.entity_name)}\n{fold(o.content)}" for o in new],
        },
    )
    return [row["id"] for row in await rows.fetchall()]


async def insert_relations(connection: Connection, agent: UUID | None, relations: Sequence[GivenRelation]) -> set[bytes]:
    """Stores relations in order; returns the digests of those that are new."""
    rows = await connection.execute(
        INSERT_RELATIONS,
        {
            "agent": agent,
            "from": [r.from_name for r in relations],
            "to": [r.to_name for r in relations],
            "types": [r.relation_type for r in relations],
            "digests": [digest(r) for r in relations],
        },
    )
    return {row["digest"] for row in await rows.fetchall()}


def digest(relation: GivenRelation) -> bytes:
    """What identifies a relation."""
    return sha256(orjson.dumps([relation.from_name, relation.to_name, relation.relation_type])).digest()


async def entity_ids(connection: Connection, agent: UUID | None, names: Sequence[str]) -> dict[str, int]:
    """The ids of those names that exist."""
    rows = await connection.execute(ENTITY_IDS, [names, agent])
    return {row["name"]: row["id"] for row in await rows.fetchall()}


async def known_observations(connection: Connection, entities: Sequence[int], contents: Sequence[str]) -> dict[int, set[str]]:
    """Which of `contents` each of the entities has already."""
    known: dict[int, set[str]] = {entity: set() for entity in entities}
    for row in await (await connection.execute(OBSERVATIONS_OF, [entities, contents])).fetchall():
        known[row["entity_id"]].add(row["content"])
    return known


async def delete_entities(connection: Connection, agent: UUID | None, names: Sequence[str]) -> None:
    """Deletes entities, their observations, and every relation from or to one of the names."""
    await connection.execute(DELETE_ENTITIES, [names, agent])
    await connection.execute(DELETE_RELATIONS_OF, {"names": names, "agent": agent})


async def delete_observations(connection: Connection, doomed: Sequence[tuple[int, str]]) -> None:
    """Deletes every copy of the given contents of the given entities."""
    await connection.execute(DELETE_OBSERVATIONS, [[entity for entity, _ in doomed], [content for _, content in doomed]])


async def delete_relations(connection: Connection, agent: UUID | None, relations: Sequence[GivenRelation]) -> None:
    """Deletes exactly these relations."""
    await connection.execute(DELETE_RELATIONS, [[digest(r) for r in relations], agent])


async def all_entities(connection: Connection, agent: UUID | None) -> list[Entity]:
    """Every entity of the graph."""
    rows = await connection.execute(ALL_ENTITIES, [agent])
    return [_entity(row) for row in await rows.fetchall()]


async def entities_by_id(connection: Connection, ids: Sequence[int]) -> list[Entity]:
    """These entities, in the order of `ids`."""
    rows = await (await connection.execute(ENTITIES_BY_ID, [ids])).fetchall()
    found = {row["id"]: _entity(row) for row in rows}
    return [found[entity] for entity in ids if entity in found]


async def entities_by_name(connection: Connection, agent: UUID | None, names: Sequence[str]) -> list[Entity]:
    """Those of the names that exist, in the order of creation."""
    rows = await connection.execute(ENTITIES_BY_NAME, [names, agent])
    return [_entity(row) for row in await rows.fetchall()]


async def all_relations(connection: Connection, agent: UUID | None) -> list[Relation]:
    """Every relation of the graph."""
    rows = await connection.execute(ALL_RELATIONS, [agent])
    return [_relation(row) for row in await rows.fetchall()]


async def relations_of(connection: Connection, agent: UUID | None, names: Sequence[str]) -> list[Relation]:
    """Every relation that starts or ends at one of the names."""
    rows = await connection.execute(RELATIONS_OF, {"names": names, "agent": agent})
    return [_relation(row) for row in await rows.fetchall()]


async def hits(
    connection: Connection, agent: UUID | None, phrase: str, words: Sequence[str], *, rows: int, entities: int
) -> list[int]:
    """Ids of the entities with a row that contains every word, best first. All arguments are folded.

    A word of one character is no use to the index; if there is no longer one, the phrase itself is looked up.
    """
    pieces = [word for word in words if len(word) > 1] or [phrase]
    return await _ids(connection, HITS, _needle(agent, phrase, pieces, words, rows, entities))


async def hits_of_any(connection: Connection, agent: UUID | None, words: Sequence[str], *, rows: int, entities: int) -> list[int]:
    """Ids of the entities with a row that contains one of the words, those with most different words first."""
    return await _ids(connection, HITS_OF_ANY, _needle(agent, "", words, words, rows, entities))


async def hits_without_index(connection: Connection, agent: UUID | None, phrase: str, *, rows: int, entities: int) -> list[int]:
    """Ids of entities with a row that contains `phrase`, found by looking at every row until there are enough."""
    return await _ids(connection, HITS_WITHOUT_INDEX, _needle(agent, phrase, (), (), rows, entities))


async def has_embeddings(connection: Connection) -> bool:
    """Whether the database had pgvector when the memory's tables were made."""
    row = await (await connection.execute(HAS_EMBEDDINGS)).fetchone()
    return row is not None and row["yes"]


async def set_embeddings(connection: Connection, model: str, vectors: Mapping[int, Sequence[float]]) -> None:
    """Stores the vectors of observations."""
    await connection.execute(SET_EMBEDDINGS, [model, list(vectors), [_vector(v) for v in vectors.values()]])


async def nearest(
    connection: Connection, agent: UUID | None, model: str, vector: Sequence[float], *, rows: int, distance: float
) -> list[int]:
    """Ids of the entities with an observation nearer than `distance` (cosine), nearest first."""
    given = {"agent": agent, "model": model, "vector": _vector(vector), "rows": rows, "distance": distance}
    return await _ids(connection, NEAREST, given)


async def _ids(connection: Connection, query: str, given: Mapping[str, object]) -> list[int]:
    rows = await connection.execute(query, given)
    return [row["entity_id"] for row in await rows.fetchall()]


def _needle(
    agent: UUID | None, phrase: str, pieces: Sequence[str], words: Sequence[str], rows: int, entities: int
) -> dict[str, object]:
    return {
        "agent": agent,
        "phrase": phrase,
        "pieces": list(pieces),
        "patterns": [_containing(word) for word in words],
        "rows": rows,
        "entities": entities,
    }


def _containing(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def _vector(values: Sequence[float]) -> str:
    return orjson.dumps(list(values)).decode()


def _entity(row: DictRow) -> Entity:
    return {"name": row["name"], "entityType": row["entity_type"], "observations": row["observations"]}


def _relation(row: DictRow) -> Relation:
    return {"from": row["from_name"], "to": row["to_name"], "relationType": row["relation_type"]}
