"""The two small languages of definitions: JMESPath expressions over the state, and text with `{{ expression }}` in it.

Neither can do anything but read the state: there is no evaluation of code. A text that is one `{{ expression }}` and nothing else
stands for the value itself, not for its text. The engine (engines/langgraph) reads both in the same way.
"""

import json
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.functions import Functions

PLACEHOLDER = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_FIRST_ONLY = {"subexpression", "index_expression", "projection", "value_projection", "flatten", "filter_projection", "pipe"}
_RELATIVE = {"expref"}
EMPTY: tuple[Any, ...] = (None, False, "", [], {})
MAX_SMALL, MAX_MEMBERS = 1_000, 16
FUNCTIONS: Mapping[str, Mapping[str, Any]] = Functions.FUNCTION_TABLE


class BadExpression(ValueError):
    """The text is no JMESPath expression, or calls a function that there is not, or not so."""


def variables_of(expression: str) -> frozenset[str]:
    """The variables of the state that an expression reads. Raises BadExpression."""
    try:
        tree = jmespath.compile(expression.strip()).parsed
        negated, read = _reads_of_a_negation(tree), frozenset(_roots(tree))
        miscalled = next(_miscalls(tree), None)
    except JMESPathError as error:
        raise BadExpression(f"{expression.strip()!r} is no JMESPath expression: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise BadExpression(f"{expression.strip()[:100]!r} … is nested too deeply") from None
    if negated:
        raise BadExpression(f"{expression.strip()!r} reads a member of a negation, which has none; put it as !(name.member)")
    if miscalled:
        raise BadExpression(f"{expression.strip()!r}: {miscalled}")
    return read


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


def is_small(expression: str) -> bool:
    """Whether an expression can only make of a value a few times as much: one that is read in the service itself must be.

    `[@, @]` behind one another doubles each time; what an engine reads is bounded by the memory of its process.
    """
    return len(expression) <= MAX_SMALL and _members(jmespath.compile(expression.strip()).parsed) <= MAX_MEMBERS


def filled(value: Any, variables: Mapping[str, Any]) -> Any:
    """A JSON value with the expressions in its texts filled in. Raises BadExpression for one that cannot take what it is given."""
    if isinstance(value, Mapping):
        return {key: filled(inner, variables) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, variables) for inner in value]
    if not isinstance(value, str):
        return value
    whole = PLACEHOLDER.fullmatch(value.strip())
    if whole and "}}" not in whole[1]:
        return look_up(whole[1], variables)
    return PLACEHOLDER.sub(lambda match: _text(look_up(match[1], variables)), value)


def look_up(expression: str, variables: Mapping[str, Any]) -> Any:
    """The value of an expression. Raises BadExpression."""
    try:
        return jmespath.search(expression.strip(), variables)
    except JMESPathError as error:
        raise BadExpression(f"{expression.strip()!r}: {' '.join(str(error).split())}") from None


def is_true(value: Any) -> bool:
    """Whether a value counts as true in JMESPath: false, null and what is empty do not, 0 does."""
    return not any(value is empty or (value == empty and type(value) is type(empty)) for empty in EMPTY)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)


def _members(tree: Any) -> int:
    children = tree.get("children", ())
    own = len(children) if tree["type"] in ("multi_select_list", "multi_select_dict") else 0
    return own + sum(_members(child) for child in children if isinstance(child, dict))


def _reads_of_a_negation(tree: Any) -> bool:
    """`!` binds closer than `.`: `!a.b` is always null, which nobody means."""
    children = tree.get("children", ())
    if tree["type"] in _FIRST_ONLY and children and children[0]["type"] == "not_expression":
        return bool(tree["type"] != "pipe")
    return any(_reads_of_a_negation(child) for child in children if isinstance(child, dict))  # a slice has numbers


def _miscalls(tree: Any) -> Iterator[str]:
    """What is wrong with calls of functions: a run would fail when it comes to one."""
    children = tree.get("children", ())
    if tree["type"] == "function_expression" and (problem := _miscall(tree["value"], len(children))):
        yield problem
    for child in children:
        if isinstance(child, dict):  # a slice has numbers
            yield from _miscalls(child)


def _miscall(name: str, given: int) -> str | None:
    if name not in FUNCTIONS:
        near = get_close_matches(name, FUNCTIONS, cutoff=0.5)
        return f"there is no function {name!r}; {'near it is' if near else 'there are'} {', '.join(near or FUNCTIONS)}"
    signature = FUNCTIONS[name]["signature"]
    takes, or_more = len(signature), bool(signature[-1].get("variadic"))
    if given == takes or (given > takes and or_more):
        return None
    return f"{name} takes {takes}{' or more' if or_more else ''} argument{'' if takes == 1 and not or_more else 's'}, not {given}"


def _roots(tree: Any) -> Iterator[str]:
    """The names that are looked up in the state itself, not in a part of it."""
    kind, children = tree["type"], tree.get("children", ())
    if kind == "field":
        yield tree["value"]
    elif kind not in _RELATIVE:
        for child in children[:1] if kind in _FIRST_ONLY else children:
            yield from _roots(child)
