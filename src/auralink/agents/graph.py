"""An agent as a workflow: one node that answers; with a memory, one before that recalls and one after that remembers.

What the user wrote is a value of the input and never part of a template, whatever braces it contains.
"""

from collections.abc import Mapping
from typing import Any

from auralink.workflows.checking import Problem, check
from auralink.workflows.definition import Definition

KNOWN = "known.entities[:8].join(': ', [name, join(' | ', observations[-6:])])"
REMEMBERING = '{{ instructions }}\n\nWhat you remember that may matter:\n{{ join(`"\\n"`, ' + KNOWN + " || `[]`) }}"
NOTED = "The user said: {{ message }} / {{ name }} answered: {{ answer }}"


def definition_of(agent: Mapping[str, Any], tools: Any = None) -> Definition:
    """The graph of an agent's row. Raises DefinitionInvalid, with pointers into the graph, where `tools` lack one."""
    limits, memory = agent["limits"], agent["memory"]
    answer = {
        "type": "agent",
        "instructions": REMEMBERING if memory else "{{ instructions }}",
        "prompt": "{{ message }}",
        "history": "history",
        "model": agent["model"],
        "tools": agent["tools"],
        "max_turns": limits.get("turns", 8),
        "temperature": limits.get("temperature"),
        "max_tokens": limits.get("answer_tokens"),
        "stream": True,
        "into": "answer",
        "calls_into": "calls",
    }
    nodes: dict[str, Any] = {"answer": answer}
    edges = [{"from": "answer", "to": "remember" if memory else "end"}]
    if memory:
        nodes = {"recall": _recall(memory), **nodes, "remember": _remember(memory)}
        edges = [{"from": "recall", "to": "answer"}, *edges, {"from": "remember", "to": "end"}]
    properties = {
        "message": {"type": "string", "minLength": 1},
        "history": {"type": "array", "default": []},
        "instructions": {"type": "string", "default": agent["instructions"]},
        "name": {"type": "string", "default": agent["name"]},
        "room_id": {"type": "string"},
        "call_id": {"type": "string"},
    }
    graph = {
        "name": agent["name"],
        "input": {"type": "object", "properties": properties, "required": ["message"]},
        "start": next(iter(nodes)),
        "nodes": nodes,
        "edges": edges,
        "output": {"answer": "{{ answer }}", "tool_calls": "{{ calls }}"},
    }
    return check(graph, tools=tools)


def in_body(problem: Mapping[str, str]) -> Problem:
    """A problem of the graph as one of the body that described the agent."""
    pointer = problem["pointer"].removeprefix("/nodes/answer")
    return Problem("/memory" if pointer.startswith("/nodes/re") else pointer, problem["message"])


def _recall(connection: str) -> dict[str, Any]:
    node = {"type": "memory", "operation": "recall", "connection": connection, "query": "{{ message }}"}
    return {**node, "into": "known", "on_error": "continue"}


def _remember(connection: str) -> dict[str, Any]:
    node = {"type": "memory", "operation": "remember", "connection": connection, "entity": "Talks with {{ name }} on {{ now }}"}
    return {**node, "entity_type": "conversation", "observations": [NOTED], "on_error": "continue"}
