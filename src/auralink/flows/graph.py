"""A flow as a drawing: nodes and edges as data, and the same as Mermaid."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

SHAPES = {"branch": ("{", "}"), "approval": ("([", "])"), "transform": ("[/", "/]")}
BOX = ("[", "]")


@dataclass(frozen=True)
class Node:
    """A step. `inside` is the step in whose block it stands."""

    name: str
    type: str
    title: str
    inside: str | None


@dataclass(frozen=True)
class Edge:
    """From a step to one that waits for it, or from a branch to a step that begins one of its ways."""

    source: str
    target: str
    label: str = ""


def drawing_of(definition: Mapping[str, Any]) -> tuple[list[Node], list[Edge]]:
    """The nodes and edges of a stored definition."""
    nodes: list[Node] = []
    edges: list[Edge] = []
    _draw(definition["steps"], None, nodes, edges)
    return nodes, edges


def mermaid_of(definition: Mapping[str, Any]) -> str:
    """The drawing in the language of Mermaid: steps in blocks are drawn within the frame of their step."""
    _, edges = drawing_of(definition)
    lines = ["flowchart TD", *_frames(definition["steps"], "  ")]
    lines += [f"  {edge.source} -->{f'|{_quoted(edge.label)}|' if edge.label else ''} {edge.target}" for edge in edges]
    return "\n".join(lines) + "\n"


def _draw(steps: list[Mapping[str, Any]], inside: str | None, nodes: list[Node], edges: list[Edge]) -> None:
    for step in steps:
        name = step["name"]
        nodes.append(Node(name, step["type"], step["title"], inside))
        edges += [Edge(need, name, "if " + step["when"] if step["when"] else "") for need in step["needs"]]
        for label, block in _blocks(step):
            edges += [Edge(name, first["name"], label) for first in block["steps"] if not first["needs"]]
            _draw(block["steps"], name, nodes, edges)


def _blocks(step: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if step["type"] == "branch":
        yield from ((case["when"], case) for case in step["cases"])
        if step["otherwise"] is not None:
            yield "otherwise", step["otherwise"]
    elif step["type"] == "map":
        yield f"each {step['item']} of {step['over']}", step
    elif step["type"] == "loop":
        yield f"until {step['until']}, at most {step['max']}", step


def _frames(steps: list[Mapping[str, Any]], indent: str) -> Iterator[str]:
    for step in steps:
        opening, closing = SHAPES.get(step["type"], BOX)
        text = f"{step['title'] or step['name']}<br/>{step['type']}"
        yield f"{indent}{step['name']}{opening}{_quoted(text)}{closing}"
        for at, (_, block) in enumerate(_blocks(step)):
            yield f"{indent}subgraph {step['name']}_{at}[ ]"
            yield from _frames(block["steps"], indent + "  ")
            yield f"{indent}end"


def _quoted(text: str) -> str:
    """A text as Mermaid takes it, whatever it contains."""
    return '"' + text.replace("#", "#35;").replace('"', "#quot;").replace("\n", " ") + '"'
