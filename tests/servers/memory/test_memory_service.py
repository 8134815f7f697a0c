"""The memory's graph: who sees it, what a search finds and in which order, and what happens at the same time."""

import asyncio
from collections.abc import Sequence
from uuid import uuid4

import pytest

from auralink.auth.principal import Principal
from auralink.core.db import Database
from auralink.servers.memory.errors import EmbeddingFailed, EntityNotFound
from auralink.servers.memory.schemas import Addition, GivenEntity, GivenRelation
from auralink.servers.memory.service import MAX_FOUND, Memory, merge_rankings
from tests.conftest import MakePrincipal


@pytest.fixture
def memory(database: Database) -> Memory:
    return Memory(database)


def entity(name: str, *observations: str, kind: str = "person") -> GivenEntity:
    return GivenEntity.model_validate({"name": name, "entityType": kind, "observations": observations})


def relation(start: str, kind: str, end: str) -> GivenRelation:
    return GivenRelation.model_validate({"from": start, "to": end, "relationType": kind})


def addition(name: str, *contents: str) -> Addition:
    return Addition.model_validate({"entityName": name, "contents": contents})


async def names(memory: Memory, principal: Principal, query: str) -> list[str]:
    return [found["name"] for found in (await memory.search(principal, query))["entities"]]


@pytest.mark.promise("P-RLS")
async def test_a_graph_is_seen_searched_and_changed_by_its_user_only(memory: Memory, make_principal: MakePrincipal) -> None:
    owner, stranger = make_principal(), make_principal()
    await memory.create_entities(owner, [entity("Anna", "likes coffee")])
    await memory.create_relations(owner, [relation("Anna", "knows", "Bob")])

    assert await memory.read_graph(stranger) == {"entities": [], "relations": []}
    for query in ("coffee", "Anna", "c", "", "some coffee please"):
        assert await memory.search(stranger, query) == {"entities": [], "relations": []}
    await memory.delete_entities(stranger, ["Anna", "Bob"])
    with pytest.raises(EntityNotFound):
        await memory.add_observations(stranger, [addition("Anna", "hacked")])
    assert len(await memory.create_entities(stranger, [entity("Anna", "another")])) == 1

    graph = await memory.read_graph(owner)
    assert [e["observations"] for e in graph["entities"]] == [["likes coffee"]]
    assert len(graph["relations"]) == 1


async def test_an_agent_has_a_graph_of_its_own(memory: Memory, principal: Principal) -> None:
    agent = uuid4()
    await memory.create_entities(principal, [entity("Anna", "mine")])
    created = await memory.create_entities(principal, [entity("Anna", "the agent's")], agent=agent)
    await memory.create_relations(principal, [relation("Anna", "knows", "Bob")], agent=agent)

    assert len(created) == 1
    assert (await memory.search(principal, "agent"))["entities"] == []
    assert (await memory.read_graph(principal))["relations"] == []
    assert [e["observations"] for e in (await memory.open_nodes(principal, ["Anna"], agent=agent))["entities"]] == [
        ["the agent's"]
    ]
    assert await memory.create_entities(principal, [entity("Anna")], agent=agent) == []


async def test_the_same_entities_made_at_the_same_time_are_made_once_and_nobody_fails(
    memory: Memory, principal: Principal
) -> None:
    wanted = [f"entity {n}" for n in range(20)]
    batches = [wanted if n % 2 else wanted[::-1] for n in range(6)]
    created = await asyncio.gather(
        *(memory.create_entities(principal, [entity(name, "fact") for name in batch]) for batch in batches)
    )
    assert sorted(e["name"] for batch in created for e in batch) == sorted(wanted)
    assert len((await memory.read_graph(principal))["entities"]) == len(wanted)


async def test_the_same_fact_added_at_the_same_time_is_stored_once(memory: Memory, principal: Principal) -> None:
    await memory.create_entities(principal, [entity("Anna")])
    await asyncio.gather(*(memory.add_observations(principal, [addition("Anna", "likes coffee")]) for _ in range(6)))
    assert (await memory.open_nodes(principal, ["Anna"]))["entities"][0]["observations"] == ["likes coffee"]


async def test_a_name_given_twice_in_one_call_is_made_once(memory: Memory, principal: Principal) -> None:
    created = await memory.create_entities(principal, [entity("Anna", "first"), entity("Bob"), entity("Anna", "second")])
    assert [(e["name"], e["observations"]) for e in created] == [("Anna", ["first"]), ("Bob", [])]
    twice = [relation("Anna", "knows", "Bob"), relation("Bob", "knows", "Anna"), relation("Anna", "knows", "Bob")]
    made = await memory.create_relations(principal, twice)
    assert [r["from"] for r in made] == ["Anna", "Bob"]


async def test_the_exact_name_comes_before_parts_of_names_and_these_before_observations(
    memory: Memory, principal: Principal
) -> None:
    await memory.create_entities(
        principal,
        [entity("mentions", "met java today"), entity("javascript"), entity("Java", kind="language"), entity("uses", "javac")],
    )
    assert await names(memory, principal, "java") == ["Java", "javascript", "mentions", "uses"]


async def test_words_of_a_query_may_stand_apart_and_in_the_name(memory: Memory, principal: Principal) -> None:
    await memory.create_entities(
        principal, [entity("Anna", "prefers her coffee black"), entity("Bob", "coffee, black"), entity("Carl", "tea")]
    )
    assert await names(memory, principal, "black coffee") == ["Anna", "Bob"]
    assert await names(memory, principal, "anna coffee") == ["Anna"]
    assert await names(memory, principal, "how does Anna drink her coffee?") == ["Anna", "Bob"]


@pytest.mark.parametrize("query", ["東京", "京", "100%", "_", "\\", "'; --", "&|!", ":*", "a\u0301", "\u2028"])
async def test_no_character_of_a_query_is_special(memory: Memory, principal: Principal, query: str) -> None:
    await memory.create_entities(principal, [entity("found", f"before{query}after"), entity("other", "nothing of the kind")])
    assert await names(memory, principal, query) == ["found"]


async def test_a_search_shows_a_limited_number_of_entities(memory: Memory, principal: Principal) -> None:
    await memory.create_entities(principal, [entity(f"n{n}", "common") for n in range(MAX_FOUND + 5)])
    assert len(await names(memory, principal, "common")) == MAX_FOUND
    assert len(await names(memory, principal, "")) == MAX_FOUND


async def test_a_failed_addition_leaves_nothing_behind(memory: Memory, principal: Principal) -> None:
    await memory.create_entities(principal, [entity("Anna")])
    with pytest.raises(EntityNotFound, match="Entity with name Bob not found"):
        await memory.add_observations(principal, [addition("Anna", "fact"), addition("Bob", "fact")])
    assert (await memory.open_nodes(principal, ["Anna"]))["entities"][0]["observations"] == []


class Directions:
    """An embedder for whom a text about drinks points one way, and any other text the other way."""

    model = "directions"

    def __init__(self) -> None:
        self.broken = False

    async def embed(self, principal: Principal, texts: Sequence[str]) -> list[list[float]]:
        if self.broken:
            raise EmbeddingFailed("the provider is down; try again later")
        return [[1.0, 0.0] if {"coffee", "tea", "beverage"} & set(text.split()) else [0.0, 1.0] for text in texts]


async def test_with_an_embedder_a_search_finds_by_meaning_too(database: Database, principal: Principal) -> None:
    memory = Memory(database, Directions())
    await memory.create_entities(principal, [entity("Anna", "likes coffee"), entity("Bob", "likes cars")])
    await memory.add_observations(principal, [addition("Bob", "hates tea")])
    assert await names(memory, principal, "beverage") == ["Anna", "Bob"]
    assert await names(Memory(database), principal, "beverage") == []


async def test_an_embedder_that_fails_costs_only_the_search_by_meaning(database: Database, principal: Principal) -> None:
    embedder = Directions()
    embedder.broken = True
    memory = Memory(database, embedder)
    await memory.create_entities(principal, [entity("Anna", "likes coffee")])
    assert await names(memory, principal, "coffee") == ["Anna"]


def test_rankings_are_merged_so_that_what_both_know_comes_first() -> None:
    assert merge_rankings([1, 2, 3], [3, 4]) == [3, 1, 2, 4]
