"""The definition that a run of a workflow gets: its own or its template's, with the agent's words and within its connections."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

from auralink.workflows.templates import get_template

AGENT_INSTRUCTIONS = "agent_instructions"
"""A property of the input that has them by default: as a value they are taken as they are, whatever braces they contain."""
ASKING = ("llm", "agent")


def snapshot(
    workflow: Mapping[str, Any], agent: Mapping[str, Any] | None, *, connections: Sequence[str] | None = None
) -> dict[str, Any]:
    """The checked definition of a row; `agent` is that of its `agent_id`. `connections`, else the row's, bound agents' tools."""
    definition = deepcopy(workflow["definition"]) or get_template(workflow["workflow_type"]).stored()
    definition |= {"name": workflow["name"]}
    if agent is not None:
        _speak_as(definition, agent)
    if chosen := workflow["mcp_integrations"] if connections is None else connections:
        for node in _nodes(definition):
            if node["type"] == "agent":
                node["tools"] = [pattern for given in node["tools"] for pattern in _within(given, chosen)]
    return definition


def _speak_as(definition: dict[str, Any], agent: Mapping[str, Any]) -> None:
    for node in _nodes(definition):
        if node["type"] in ASKING and node["model"] == "auto":
            node["model"] = agent["model"]
        if node["type"] in ASKING and not node["instructions"]:
            node["instructions"] = f"{{{{ {AGENT_INSTRUCTIONS} }}}}"
            properties = definition["input"].setdefault("properties", {})
            properties[AGENT_INSTRUCTIONS] = {"type": "string", "default": agent["instructions"]}


def _nodes(definition: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for node in definition["nodes"].values():
        yield node["each"] if node["type"] == "map" else node


def _within(pattern: str, connections: Sequence[str]) -> Iterator[str]:
    """A pattern for tools of any connection as patterns for tools of these."""
    connection, found, tool = pattern.partition("__")
    if connection == "*" and found:
        yield from (f"{name}__{tool}" for name in connections)
    elif pattern == "*":
        yield from (f"{name}__*" for name in connections)
    elif connection in connections:
        yield pattern
