"""The memory: a graph of what is known, one per user and optionally one per agent of the user.

The behaviour is that of the reference server `@modelcontextprotocol/server-memory`, call for call, with these differences:

- `search` puts the best first, finds the words of a query also when they stand apart, and shows at most `MAX_FOUND` entities. It
  finds whatever the reference finds (a case-insensitive part of a name, a type or an observation) up to that limit.
- A name given twice in one `create_entities` (a relation in one `create_relations`) is made once; the reference makes two.
- Names have at most 500 characters, observations 100,000.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar
from uuid import UUID

import structlog

from auralink.auth.principal import Principal
from auralink.core.db import Connection, Database
from auralink.servers.memory import store
from auralink.servers.memory.embeddings import Embedder
from auralink.servers.memory.errors import EmbeddingFailed, EntityNotFound
from auralink.servers.memory.schemas import (
    AddedObservations,
    Addition,
    Deletion,
    Entity,
    GivenEntity,
    GivenRelation,
    Graph,
    Relation,
)

MAX_FOUND = 50
"""Entities that a search shows; each comes with all of its observations."""
MAX_ROWS = 300
"""Rows of each table that a search ranks; with more, which of them are ranked is chance."""
MAX_TELLING_WORDS = 8
"""Words of a sentence that are looked up one by one, the longest first."""
MAX_DISTANCE = 0.5
"""Cosine distance up to which an observation counts as being about the query."""

Item = TypeVar("Item")

logger = structlog.get_logger(__name__)


class Memory:
    """The operations on a principal's graph. `agent` picks the graph of an agent; None is the user's own."""

    def __init__(self, database: Database, embedder: Embedder | None = None) -> None:
        self._database = database
        self._embedder = embedder

    async def create_entities(
        self, principal: Principal, entities: Sequence[GivenEntity], *, agent: UUID | None = None
    ) -> list[Entity]:
        """Stores the entities whose names are new, and returns those; the others are left as they are."""
        given = first_of_each(entities, key=lambda entity: entity.name)
        async with self._database.tenant(principal) as connection:
            await store.lock_graph(connection, agent)
            ids = await store.insert_entities(connection, agent, given)
            created = [e for e in given if e.name in ids]
            new = [store.NewObservation(ids[e.name], e.name, content) for e in created for content in e.observations]
            stored = await store.insert_observations(connection, agent, new)
        await self._embed(principal, stored, new)
        return [{"name": e.name, "entityType": e.entity_type, "observations": e.observations} for e in created]

    async def create_relations(
        self, principal: Principal, relations: Sequence[GivenRelation], *, agent: UUID | None = None
    ) -> list[Relation]:
        """Stores the relations that are new, and returns those. The entities need not exist."""
        given = first_of_each(relations, key=store.digest)
        async with self._database.tenant(principal) as connection:
            await store.lock_graph(connection, agent)
            created = await store.insert_relations(connection, agent, given)
        return [
            {"from": r.from_name, "to": r.to_name, "relationType": r.relation_type} for r in given if store.digest(r) in created
        ]

    async def add_observations(
        self, principal: Principal, additions: Sequence[Addition], *, agent: UUID | None = None
    ) -> list[AddedObservations]:
        """Adds what an entity does not have yet, and returns that for each addition; all or nothing.

        Raises:
            EntityNotFound: one of the entities does not exist.
        """
        async with self._database.tenant(principal) as connection:
            await store.lock_graph(connection, agent)
            ids = await store.entity_ids(connection, agent, [a.entity_name for a in additions])
            if missing := [a.entity_name for a in additions if a.entity_name not in ids]:
                raise EntityNotFound(f"Entity with name {missing[0]} not found")
            known = await store.known_observations(connection, list(ids.values()), [c for a in additions for c in a.contents])
            added: list[AddedObservations] = []
            new: list[store.NewObservation] = []
            for addition in additions:
                entity = ids[addition.entity_name]
                contents = [content for content in addition.contents if content not in known[entity]]
                known[entity].update(contents)
                new += [store.NewObservation(entity, addition.entity_name, content) for content in contents]
                added.append({"entityName": addition.entity_name, "addedObservations": contents})
            stored = await store.insert_observations(connection, agent, new)
        await self._embed(principal, stored, new)
        return added

    async def delete_entities(self, principal: Principal, names: Sequence[str], *, agent: UUID | None = None) -> None:
        """Deletes entities and every relation of theirs; a name that does not exist is ignored."""
        async with self._database.tenant(principal) as connection:
            await store.lock_graph(connection, agent)
            await store.delete_entities(connection, agent, names)

    async def delete_observations(
        self, principal: Principal, deletions: Sequence[Deletion], *, agent: UUID | None = None
    ) -> None:
        """Deletes observations of entities; what does not exist is ignored."""
        async with self._database.tenant(principal) as connection:
            await store.lock_graph(connection, agent)
            ids = await store.entity_ids(connection, agent, [d.entity_name for d in deletions])
            doomed = [(ids[d.entity_name], text) for d in deletions if d.entity_name in ids for text in d.observations]
            await store.delete_observations(connection, doomed)

    async def delete_relations(
        self, principal: Principal, relations: Sequence[GivenRelation], *, agent: UUID | None = None
    ) -> None:
        """Deletes relations; one that does not exist is ignored."""
        async with self._database.tenant(principal) as connection:
            await store.lock_graph(connection, agent)
            await store.delete_relations(connection, agent, relations)

    async def read_graph(self, principal: Principal, *, agent: UUID | None = None) -> Graph:
        """All of the graph, in the order in which it was made."""
        async with self._database.tenant(principal) as connection:
            entities = await store.all_entities(connection, agent)
            return {"entities": entities, "relations": await store.all_relations(connection, agent)}

    async def open_nodes(self, principal: Principal, names: Sequence[str], *, agent: UUID | None = None) -> Graph:
        """The entities of these names that exist, and every relation that starts or ends at one of them."""
        async with self._database.tenant(principal) as connection:
            entities = await store.entities_by_name(connection, agent, names)
            return await _with_relations(connection, agent, entities)

    async def search(self, principal: Principal, query: str, *, agent: UUID | None = None) -> Graph:
        """The entities that match `query`, best first, and every relation that starts or ends at one of them.

        An entity matches if one of its texts (name and type, or name and one observation) contains every word of the query. If
        none does, entities that contain one of the words are shown; with an embedder, also those that are about the same.
        """
        near = await self._embed_query(principal, query)
        async with self._database.tenant(principal) as connection:
            found = await _find(connection, agent, store.fold(query))
            if self._embedder is not None and near is not None:
                nearest = await store.nearest(
                    connection, agent, self._embedder.model, near, rows=MAX_FOUND, distance=MAX_DISTANCE
                )
                found = merge_rankings(found, nearest)[:MAX_FOUND]
            return await _with_relations(connection, agent, await store.entities_by_id(connection, found))

    async def _embed(self, principal: Principal, ids: Sequence[int], new: Sequence[store.NewObservation]) -> None:
        """Adds vectors to stored observations, outside of the transaction that stored them. A failure is logged, not raised."""
        if self._embedder is None or not ids or not await self._can_embed(principal):
            return
        try:
            vectors = await self._embedder.embed(principal, [f"{o.entity_name}: {o.content}" for o in new])
        except EmbeddingFailed as error:
            logger.warning("observations are stored without embeddings", count=len(ids), error=error.message)
            return
        async with self._database.tenant(principal) as connection:
            await store.set_embeddings(connection, self._embedder.model, dict(zip(ids, vectors, strict=True)))

    async def _embed_query(self, principal: Principal, query: str) -> list[float] | None:
        if self._embedder is None or not query.strip() or not await self._can_embed(principal):
            return None
        try:
            return (await self._embedder.embed(principal, [query]))[0]
        except EmbeddingFailed as error:
            logger.warning("the search goes by words alone", error=error.message)
            return None

    async def _can_embed(self, principal: Principal) -> bool:
        async with self._database.tenant(principal) as connection:
            return await store.has_embeddings(connection)


def merge_rankings(*rankings: Iterable[int]) -> list[int]:
    """One ranking out of several, by reciprocal rank fusion (Cormack et al. 2009, k = 60)."""
    scores: dict[int, float] = {}
    for ranking in rankings:
        for place, item in enumerate(ranking):
            scores[item] = scores.get(item, 0.0) + 1 / (60 + place)
    return sorted(scores, key=lambda item: -scores[item])


def first_of_each(items: Iterable[Item], *, key: Callable[[Item], object]) -> list[Item]:
    """The items without those whose key came before."""
    firsts: dict[object, Item] = {}
    for item in items:
        firsts.setdefault(key(item), item)
    return list(firsts.values())


async def _find(connection: Connection, agent: UUID | None, phrase: str) -> list[int]:
    if len(phrase.strip()) < 2:
        return await store.hits_without_index(connection, agent, phrase, rows=MAX_ROWS, entities=MAX_FOUND)
    words = list(dict.fromkeys(phrase.split()))
    found = await store.hits(connection, agent, phrase, words, rows=MAX_ROWS, entities=MAX_FOUND)
    bare = {re.sub(r"^\W+|\W+$", "", word) for word in words}
    telling = sorted((word for word in bare if len(word) > 2), key=lambda word: (-len(word), word))[:MAX_TELLING_WORDS]
    if found or not telling:
        return found
    return await store.hits_of_any(connection, agent, telling, rows=MAX_FOUND, entities=MAX_FOUND)


async def _with_relations(connection: Connection, agent: UUID | None, entities: list[Entity]) -> Graph:
    relations = await store.relations_of(connection, agent, [e["name"] for e in entities])
    return {"entities": entities, "relations": relations}
