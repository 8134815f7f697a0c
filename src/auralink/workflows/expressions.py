"""The two small languages of definitions: JMESPath expressions over the state, and text with `{{ expression }}` in it.

Neither can do anything but read the state: there is no evaluation of code. A text that is one `{{ expression }}` and nothing else
stands for the value itself, not for its text. The engine (engines/langgraph) reads both in the same way.
"""

import re
from collections.abc import Iterator
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError

PLACEHOLDER = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_FIRST_ONLY = {"subexpression", "index_expression", "projection", "value_projection", "flatten", "filter_projection", "pipe"}
_RELATIVE = {"expref"}


class BadExpression(ValueError):
    """The text is no JMESPath expression."""


def variables_of(expression: str) -> frozenset[str]:
    """The variables of the state that an expression reads. Raises BadExpression."""
    try:
        tree = jmespath.compile(expression.strip()).parsed
    except JMESPathError as error:
        raise BadExpression(f"{expression.strip()!r} is no JMESPath expression: {' '.join(str(error).split())}") from None
    return frozenset(_roots(tree))


def expressions_in(template: str) -> Iterator[str]:
    """The expressions in a text. Raises BadExpression for one that is not closed."""
    if template.count("{{") != template.count("}}"):
        raise BadExpression("a {{ has no }}, or the other way round")
    for match in PLACEHOLDER.finditer(template):
        yield match[1]


def variables_in(value: Any) -> frozenset[str]:
    """The variables that the texts in a JSON value read. Raises BadExpression."""
    if isinstance(value, str):
        return frozenset(name for expression in expressions_in(value) for name in variables_of(expression))
    if isinstance(value, dict):
        return frozenset(name for inner in value.values() for name in variables_in(inner))
    if isinstance(value, list):
        return frozenset(name for inner in value for name in variables_in(inner))
    return frozenset()


def _roots(tree: Any) -> Iterator[str]:
    """The names that are looked up in the state itself, not in a part of it."""
    kind, children = tree["type"], tree.get("children", ())
    if kind == "field":
        yield tree["value"]
    elif kind not in _RELATIVE:
        for child in children[:1] if kind in _FIRST_ONLY else children:
            yield from _roots(child)
