"""Answers of the gateways in words, the same whatever framework shows them to a model. Reads them by their shape: nothing is imported."""

import json
from collections.abc import Iterable, Mapping
from typing import Any


def text_of_content(content: Iterable[Any]) -> str:
    """The content of a tool's answer (MCP content blocks) as one text."""
    return "\n".join(_text_of_block(block) for block in content)


def data_of_text(text: str) -> Any:
    """The JSON that a text is, else the text."""
    if text[:1] in ("{", "["):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def said_by(error: Any) -> str:
    """What a gateway says of a model call that it refuses, out of `openai.APIStatusError`: status, code, message."""
    body = error.body if isinstance(error.body, Mapping) else {}
    inner = body.get("error")
    said = inner if isinstance(inner, Mapping) else body
    return " ".join(str(part) for part in (error.status_code, said.get("code"), said.get("message") or error.message) if part)


def _text_of_block(block: Any) -> str:
    """A part of an answer in words: models are not shown pictures and sounds here."""
    if block.type == "text":
        return str(block.text)
    if block.type == "resource":
        held = block.resource
        return str(held.text) if hasattr(held, "text") else f"[{_media_type(held) or 'data'} at {held.uri}]"
    if block.type == "resource_link":
        return f"[{block.name}: {block.uri}]"
    return f"[{_media_type(block)}, {len(block.data) * 3 // 4} bytes]"


def _media_type(holder: Any) -> str | None:
    """The SDK's first generation calls it `mimeType`, its second `mime_type`."""
    found: str | None = getattr(holder, "mime_type", None) or getattr(holder, "mimeType", None)
    return found
