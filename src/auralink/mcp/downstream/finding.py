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
IN_NAME, LIKE_NAME, IN_DESCRIPTION = 4, 3, 1
"""What a word is worth where it occurs, and where another form of it does."""
ENDINGS = ("ments", "ment", "ings", "ing", "ions", "ion", "ers", "er", "ies", "ied", "ed", "s")
"""What is taken off English words, so that `payments` finds `pay`; the longest that fits."""
SHORTEST = 3
"""Letters of a word that must be left. What is longer also stands for words that begin with it."""
DEFINITION: Mapping[str, Any] = {
    "name": NAME,
    "title": "Find tools",
    "description": (
        "Finds tools of all connected servers by words in their names and descriptions, in any form, and gives their definitions. "
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
    words = set(_words(query))
    scored = [(_score(entry.item, words), entry.item) for entry in entries]
    found = sorted(((score, tool) for score, tool in scored if score), key=lambda pair: (-pair[0], pair[1]["name"]))
    tools = [{key: tool[key] for key in SHOWN if key in tool} for _, tool in found[:limit]]
    structured = {"tools": tools, "found": len(found)}
    return {"content": [{"type": "text", "text": dumps(structured).decode()}], "structuredContent": structured}


def _score(tool: Mapping[str, Any], words: set[str]) -> int:
    name, description = f"{tool['name']} {tool.get('title') or ''}", tool.get("description") or ""
    named, described = set(_words(name)), set(_words(description))
    score = 0
    for word in words:
        score += IN_NAME if word in name.lower() else LIKE_NAME * _has_form_of(word, named)
        score += IN_DESCRIPTION * (word in description.lower() or _has_form_of(word, described))
    return score


def _words(text: str) -> list[str]:
    """The words of a text in lower case; `readFile` and `read_file` are two each."""
    return re.findall(r"[^\W_]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text).lower())


def _has_form_of(word: str, words: set[str]) -> bool:
    """Whether one of the words is another form of a word."""
    return any(_begins_as(word, _stem(other)) or _begins_as(other, _stem(word)) or _stem(word) == _stem(other) for other in words)


def _begins_as(word: str, stem: str) -> bool:
    return len(stem) > SHORTEST and word.startswith(stem)


def _stem(word: str) -> str:
    for ending in ENDINGS:
        stem = word.removesuffix(ending)
        if stem != word and len(stem) >= SHORTEST:
            doubled = stem[-1] == stem[-2] and stem[-1] not in "lsz" and len(stem) > SHORTEST
            return _stem(stem[:-1] if doubled else stem)
    return word
