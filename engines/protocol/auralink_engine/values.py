"""Reads the two languages of definitions: JMESPath expressions, and texts with `{{ expression }}` in them.

The service checks both when a definition is saved (auralink.workflows.expressions describes them). Needs `jmespath`, which the
engines that use this list in their requirements.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError


class ExpressionFailed(Exception):
    """A function in an expression was given what it does not take."""

    code = "ExpressionFailed"


PLACEHOLDER = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
EMPTY: tuple[Any, ...] = (None, False, "", [], {})


def look_up(expression: str, variables: Mapping[str, Any]) -> Any:
    """The value of an expression. Raises ExpressionFailed when a function in it is given what it does not take."""
    try:
        return jmespath.search(expression.strip(), variables)
    except JMESPathError as error:
        raise ExpressionFailed(f"{expression.strip()!r}: {error}") from error


def is_true(expression: str, variables: Mapping[str, Any]) -> bool:
    """Whether an expression is true as JMESPath has it: false, null and what is empty are not, 0 is."""
    value = look_up(expression, variables)
    return not any(value is empty or (value == empty and type(value) is type(empty)) for empty in EMPTY)


def text_of(value: Any) -> str:
    """A value as it stands in a text: null is nothing, what is no text is JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def render(template: str, variables: Mapping[str, Any]) -> str:
    """A text with its expressions filled in."""
    return PLACEHOLDER.sub(lambda match: text_of(look_up(match[1], variables)), template)


def value_of(value: Any, variables: Mapping[str, Any]) -> Any:
    """A JSON value with its texts filled in; a text that is one expression becomes that expression's value."""
    if isinstance(value, str):
        whole = PLACEHOLDER.fullmatch(value.strip())
        return look_up(whole[1], variables) if whole and "}}" not in whole[1] else render(value, variables)
    if isinstance(value, Mapping):
        return {key: value_of(inner, variables) for key, inner in value.items()}
    if isinstance(value, list):
        return [value_of(inner, variables) for inner in value]
    return value


def split(text: str, max_chars: int) -> list[str]:
    """Pieces of at most so many characters that end where a paragraph, else a line, else a sentence, else a word ends."""
    pieces: list[str] = []
    rest = text.strip()
    while len(rest) > max_chars:
        window = rest[: max_chars + 1]
        cut = next((at for at in _ends(window) if at >= max_chars // 4), max_chars)
        pieces.append(rest[:cut].strip())
        rest = rest[cut:].strip()
    return [piece for piece in (*pieces, rest) if piece]


def _ends(window: str) -> list[int]:
    ends = [window.rfind(mark) + len(mark) if mark in window else 0 for mark in ("\n\n", "\n", ". ", " ")]
    return [min(end, len(window) - 1) for end in ends]


def verify(quotes: list[str], sources: list[Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """The quotations that stand in a source, each with the first such source, and the others. Blanks and case do not count."""
    texts = [(_plain("\n".join(_texts_in(source))), source) for source in sources]
    verified: list[dict[str, Any]] = []
    unverified: list[str] = []
    for quote in quotes:
        wanted = _plain(quote)
        found = next((source for text, source in texts if wanted and wanted in text), None)
        if found is None:
            unverified.append(quote)
        else:
            verified.append({"quote": quote, "source": found})
    return verified, unverified


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _texts_in(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for inner in value.values() for text in _texts_in(inner)]
    return [text for inner in value for text in _texts_in(inner)] if isinstance(value, list) else []
