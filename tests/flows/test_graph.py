"""A flow as a drawing."""

from typing import Any

import pytest

from auralink.flows.checking import check
from auralink.flows.graph import Edge, Node, drawing_of, mermaid_of
from auralink.flows.templates import get_template, template_names

ONE = {"name": "one", "type": "transform", "value": 1}
STEPS: list[dict[str, Any]] = [
    {"name": "get", "type": "tool", "tool": "x__y"},
    {
        "name": "way",
        "type": "branch",
        "title": 'Say "which"',
        "cases": [{"when": "get == 'a'", "steps": [{"name": "ask", "type": "approval", "question": "?"}]}],
        "otherwise": {
            "steps": [{"name": "all", "type": "map", "over": "get", "steps": [{"name": "one", "type": "transform", "value": 1}]}]
        },
    },
    {"name": "end", "type": "transform", "value": 2, "when": "way"},
]


def stored(steps: list[dict[str, Any]]) -> dict[str, Any]:
    return check({"steps": steps}).stored()


def test_nodes_say_where_they_stand_and_edges_what_waits_for_what() -> None:
    nodes, edges = drawing_of(stored(STEPS))
    assert [(node.name, node.inside) for node in nodes] == [
        ("get", None),
        ("way", None),
        ("ask", "way"),
        ("all", "way"),
        ("one", "all"),
        ("end", None),
    ]
    assert nodes[1] == Node("way", "branch", 'Say "which"', None)
    assert edges == [
        Edge("get", "way"),
        Edge("way", "ask", "get == 'a'"),
        Edge("way", "all", "otherwise"),
        Edge("all", "one", "each item of get"),
        Edge("way", "end", "if way"),
    ]


def test_mermaid_has_frames_for_blocks_and_no_mark_that_breaks_it() -> None:
    text = mermaid_of(stored(STEPS))
    assert 'way{"Say #quot;which#quot;<br/>branch"}' in text
    assert "subgraph way_0[ ]" in text
    assert text.count("subgraph") == text.count("  end\n") == 3
    assert text.endswith("\n")


@pytest.mark.parametrize("name", template_names())
def test_every_edge_of_a_template_is_between_two_of_its_nodes(name: str) -> None:
    nodes, edges = drawing_of(get_template(name).stored())
    names = {node.name for node in nodes}
    assert all({edge.source, edge.target} <= names for edge in edges)
