"""Sequential thinking as tool calls: built in or hosted, the one tool is the reference server's, names and arguments included."""

from collections.abc import Mapping
from typing import Any

import orjson

TOOLS: Mapping[str, str] = {"think": "sequentialthinking"}
"""The tool behind each operation. `solve` is no tool call but a conversation of many (`solving.py`)."""


def to_call(operation: str, arguments: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The tool and its arguments for an operation. Raises KeyError for one that there is not."""
    return TOOLS[operation], dict(arguments)


def from_result(operation: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """The body for a `CallToolResult` (as JSON) that is no error; an older counterpart answers with the same JSON as text."""
    structured = result.get("structuredContent")
    if isinstance(structured, dict):
        return structured
    text = "\n".join(block["text"] for block in result.get("content", ()) if block.get("type") == "text")
    value = orjson.loads(text)
    return value if isinstance(value, dict) else {"content": value}
