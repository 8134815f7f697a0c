"""`find_tools`: for a client with hundreds of tools, one that finds the few it needs.

It is the gateway's own tool, shown at `/mcp?find_tools=1` in place of the others. What it finds is called by its name.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from auralink.core.errors import InvalidRequest
from auralink.core.http import dumps
from auralink.mcp.federation import Entry

NAME = "find_tools"
DEFAULT_LIMIT, MAX_LIMIT = 10, 50
SHOWN = ("name", "title", "description", "inputSchema", "annotations")
IN_NAME, IN_DESCRIPTION = 3, 1
"""What a word is worth where it occurs."""
DEFINITION: Mapping[str, Any] = {
    "name": NAME,
    "title": "Find tools",
    "description": (
        "Finds tools of all connected servers by words that occur in their names and descriptions, and gives their definitions. "
        "Call a tool that was found by its name, as any other tool."
    ),
    "inputSchema": {
        "type": "object",
        "properties": {
            "query": {"type": "string", "description": "words for what the tool does", "minLength": 1, "maxLength": 500},
            "limit": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
        },
        "required": ["query"],
    },
    "outputSchema": {
        "type": "object",
        "properties": {
            "tools": {"type": "array", "items": {"type": "object"}},
            "found": {"type": "integer", "description": "how many there are in all"},
        },
        "required": ["tools", "found"],
    },
    "annotations": {"readOnlyHint": True, "openWorldHint": False},
}


def find(entries: Iterable[Entry], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The result of a call: the tools in which most words of the query occur, best first.

    Raises:
        InvalidRequest: the arguments are wrong.
    """
    query, limit = arguments.get("query"), arguments.get("limit", DEFAULT_LIMIT)
    if not isinstance(query, str) or not query.strip():
        raise InvalidRequest(f"{NAME} needs 'query', words for what the tool does")
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequest(f"'limit' must be a number from 1 to {MAX_LIMIT}")
    words = set(re.findall(r"\w+", query.lower()))
    scored = [(_score(entry.item, words), entry.item) for entry in entries]
    found = sorted(((score, tool) for score, tool in scored if score), key=lambda pair: (-pair[0], pair[1]["name"]))
    tools = [{key: tool[key] for key in SHOWN if key in tool} for _, tool in found[:limit]]
    structured = {"tools": tools, "found": len(found)}
    return {"content": [{"type": "text", "text": dumps(structured).decode()}], "structuredContent": structured}


def _score(tool: Mapping[str, Any], words: set[str]) -> int:
    name = f"{tool['name']} {tool.get('title') or ''}".lower()
    description = (tool.get("description") or "").lower()
    return sum(IN_NAME * (word in name) + IN_DESCRIPTION * (word in description) for word in words)
