"""What a server's answers must look like where the gateway reads them. Everything else passes through as it came.

A field of ours that has another shape than the specification's is taken as missing where it can be, and makes the answer one that
is not MCP where it cannot.
"""

from collections.abc import Mapping
from typing import Any

ITEM_FIELDS: Mapping[str, type] = {
    "title": str,
    "description": str,
    "inputSchema": dict,
    "outputSchema": dict,
    "annotations": dict,
    "_meta": dict,
}
"""Fields of tools, prompts and resources that are read here, besides the one that names them."""


def mapping(value: Any) -> dict[str, Any]:
    """The object, or an empty one in place of anything else."""
    return value if isinstance(value, dict) else {}


def strings(value: Any) -> list[str]:
    """The strings of a list; empty for what is no list."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def text(value: Any) -> str | None:
    """The string, or None in place of anything else."""
    return value if isinstance(value, str) else None


def server_info(value: Any) -> dict[str, Any]:
    """A server's description of itself, without a name, title or version that is no text."""
    return {key: item for key, item in mapping(value).items() if key not in ("name", "title", "version") or isinstance(item, str)}


def item(value: Any, key: str) -> dict[str, Any] | None:
    """An entry of a list that is named by the string `key`, without fields of the wrong shape; None if it has no name."""
    if not isinstance(value, dict) or not isinstance(value.get(key), str):
        return None
    wrong = {name for name, kind in ITEM_FIELDS.items() if name in value and not isinstance(value[name], kind)}
    if not isinstance(mapping(value.get("annotations")).get("title", ""), str):
        wrong.add("annotations")
    return {name: field for name, field in value.items() if name not in wrong} if wrong else value


def is_result(method: str, result: Any) -> bool:
    """Whether a result is one: an object, whose content is a list of objects if it is that of a tool, and whose questions to the
    user are requests."""
    if not isinstance(result, dict):
        return False
    content = result.get("content", [])
    if method == "tools/call" and not (isinstance(content, list) and all(isinstance(block, dict) for block in content)):
        return False
    questions = result.get("inputRequests")
    return questions is None or (isinstance(questions, dict) and all(_is_request(question) for question in questions.values()))


def _is_request(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("method"), str) and isinstance(value.get("params"), dict | None)
