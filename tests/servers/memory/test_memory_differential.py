"""Our memory server beside the reference server: the same calls, the same answers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from mcp import Client

from auralink.auth.principal import acting_as
from auralink.core.db import Database
from auralink.servers.memory.server import build_server
from auralink.servers.memory.service import Memory
from tests.conftest import MakePrincipal
from tests.differential import Step, answer, bare_schema, play
from tests.node import reference_server

pytestmark = pytest.mark.needs_node

NAMES = ["Anna", "anna", "Ännchen", "İstanbul", "ΟΔΟΣ", "a b", "100%_\\", "東京", "toString", "", 'It\'s "q"']
TYPES = ["person", "Person", "city of stone", ""]
FACTS = ["likes coffee", "likes Coffee", "born in 1970\nin 東京", "x", "", "100% sure", "don't\tknow", "ΟΔΟΣ", "ß and \u2028 too"]
QUERIES = [
    "",
    "a",
    "an",
    "ANNA",
    "coffee",
    "likes",
    "likes coffee",
    "coffee likes",
    "%",
    "_",
    "\\",
    "東",
    "東京",
    "ος",
    "i̇st",
    "zzz",
    " ",
]

names = st.sampled_from(NAMES)
texts = st.one_of(st.sampled_from(FACTS), st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12))
facts = st.lists(texts, max_size=4)
entities = st.lists(
    st.fixed_dictionaries({"name": names, "entityType": st.sampled_from(TYPES), "observations": facts}),
    max_size=4,
    unique_by=lambda entity: entity["name"],
)
relations = st.lists(
    st.fixed_dictionaries({"from": names, "to": names, "relationType": st.sampled_from(["knows", "likes"])}),
    max_size=4,
    unique_by=lambda relation: (relation["from"], relation["to"], relation["relationType"]),
)
queries = st.one_of(st.sampled_from(QUERIES), texts, names)


def _tool(name: str, **arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
    return st.tuples(st.just(name), st.fixed_dictionaries(arguments))


def _of_entity(field: str) -> st.SearchStrategy[Any]:
    return st.lists(st.fixed_dictionaries({"entityName": names, field: facts}), max_size=3)


steps = st.lists(
    st.one_of(
        _tool("create_entities", entities=entities),
        _tool("create_entities", entities=entities),
        _tool("create_relations", relations=relations),
        _tool("add_observations", observations=_of_entity("contents")),
        _tool("delete_entities", entityNames=st.lists(names, max_size=2)),
        _tool("delete_observations", deletions=_of_entity("observations")),
        _tool("delete_relations", relations=relations),
        _tool("read_graph"),
        _tool("search_nodes", query=queries),
        _tool("open_nodes", names=st.lists(names, max_size=3)),
    ),
    min_size=1,
    max_size=12,
)


async def test_the_same_calls_have_the_same_answers(database: Database, make_principal: MakePrincipal, tmp_path: Path) -> None:
    file = tmp_path / "memory.jsonl"
    async with (
        Client(reference_server("server-memory", MEMORY_FILE_PATH=str(file))) as reference,
        Client(build_server(Memory(database))) as ours,
    ):

        async def compare(sequence: Sequence[Step]) -> None:
            file.unlink(missing_ok=True)
            with acting_as(make_principal()):
                for step in [*sequence, ("read_graph", {})]:
                    expected, got = await answer(reference, step), await answer(ours, step)
                    if step[0] == "search_nodes":
                        assert_finds_as_much(step[1]["query"], expected["structured"], got["structured"])
                    else:
                        assert got == expected

        await play(steps, compare)


async def test_the_tools_are_those_of_the_reference(database: Database) -> None:
    async with (
        Client(reference_server("server-memory")) as reference,
        Client(build_server(Memory(database))) as ours,
    ):
        theirs, own = (await reference.list_tools()).tools, (await ours.list_tools()).tools
    assert [tool.name for tool in own] == [tool.name for tool in theirs]
    for mine, other in zip(own, theirs, strict=True):
        assert bare_schema(mine.input_schema) == bare_schema(other.input_schema)
        assert bare_schema(mine.output_schema) == bare_schema(other.output_schema)
        assert mine.annotations is not None
        assert other.annotations is not None
        for hint in ("read_only_hint", "destructive_hint", "idempotent_hint", "open_world_hint"):
            assert getattr(mine.annotations, hint) == getattr(other.annotations, hint), (mine.name, hint)


def assert_finds_as_much(query: str, expected: dict[str, Any], got: dict[str, Any]) -> None:
    """Ours finds what the reference finds, and for a single word that the reference finds nothing else; the order is ours."""
    own = {entity["name"]: entity for entity in got["entities"]}
    assert len(own) == len(got["entities"])
    for entity in expected["entities"]:
        assert own.get(entity["name"]) == entity, query
    for relation in expected["relations"]:
        assert relation in got["relations"]
    for relation in got["relations"]:
        assert relation["from"] in own or relation["to"] in own
    if expected["entities"] and len(query.split()) == 1 and query == query.strip():
        assert own.keys() == {entity["name"] for entity in expected["entities"]}, query
        assert got["relations"] == expected["relations"]
