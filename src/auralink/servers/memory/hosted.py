"""REST operations of the memory as tool calls, for the built-in server and for any hosted one of the reference's interface.

A counterpart has the tools of `@modelcontextprotocol/server-memory` (the hosted ones of Smithery, Docker's catalogue and others
are that server behind HTTP), so names and arguments are the same either way. An older one answers with text only, without
structured content; its text is the JSON of the same thing, except that three tools answer with the bare list.
"""

from collections.abc import Mapping
from typing import Any

import orjson

TOOLS: Mapping[str, str] = {
    "create_entities": "create_entities",
    "create_relations": "create_relations",
    "add_observations": "add_observations",
    "delete_entities": "delete_entities",
    "delete_observations": "delete_observations",
    "delete_relations": "delete_relations",
    "search": "search_nodes",
    "open": "open_nodes",
    "graph": "read_graph",
}
"""The tool behind each operation of `POST /mcp/memory/{operation}`, and behind `GET /mcp/memory/graph/{connection_id}`."""

LISTS: Mapping[str, str] = {"create_entities": "entities", "create_relations": "relations", "add_observations": "results"}
"""The field under which an operation's list stands."""


def to_call(operation: str, arguments: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The tool and its arguments for a REST operation. Raises KeyError for an operation that there is not."""
    return TOOLS[operation], dict(arguments)


def from_result(operation: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """The REST body for a `CallToolResult` (as JSON) that is no error."""
    structured = result.get("structuredContent")
    if isinstance(structured, dict):
        return structured
    text = "\n".join(block["text"] for block in result.get("content", ()) if block.get("type") == "text")
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {"success": True, "message": text}
    if isinstance(value, list) and operation in LISTS:
        return {LISTS[operation]: value}
    return value if isinstance(value, dict) else {"content": value}
