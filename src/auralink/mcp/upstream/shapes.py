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
    said = without_nul(mapping(value))
    return {key: item for key, item in said.items() if key not in ("name", "title", "version") or isinstance(item, str)}


def without_nul(value: Any) -> Any:
    """JSON with each NUL replaced: Postgres stores none."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, dict):
        return {without_nul(key): without_nul(item) for key, item in value.items()}
    return [without_nul(item) for item in value] if isinstance(value, list) else value


def items(value: Any, key: str) -> list[dict[str, Any]] | None:
    """The entries of a list that are each named by the string `key`, without fields of the wrong shape; None if it is no such
    list."""
    if not isinstance(value, list) or not all(isinstance(item, dict) and _is_name(item.get(key)) for item in value):
        return None
    return [_item(item) for item in value]


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value


def _item(value: dict[str, Any]) -> dict[str, Any]:
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
