"""Size and cyclomatic complexity of functions.

The languages with a grammar are measured on their syntax tree: complexity is one plus the decisions in the function's own body (a
nested function keeps its own). The others are measured by `lizard`, which reads tokens; on ordinary code the two agree.
"""

from collections.abc import Iterable, Sequence
from typing import TypedDict

from tree_sitter import Node

from auralink.servers.toolbox.syntax import Syntax, line_of, text_of

ANONYMOUS = "(anonymous)"
_SEPARATORS = frozenset({"comment", "keyword_separator", "positional_separator"})


class FunctionMetrics(TypedDict):
    """One function; `container` is the type it stands in, or an empty string. Code lines are neither blank nor comment."""

    name: str
    container: str
    line: int
    end_line: int
    code_lines: int
    complexity: int
    parameters: int


def code_rows(syntax: Syntax) -> set[int]:
    """The rows (from 0) that hold more than space and comments; a docstring is a comment."""
    rows = {row for row, line in enumerate(syntax.lines) if line.strip()}
    for comment in syntax.nodes("comment"):
        first, last = comment.start_point.row, comment.end_point.row
        before = syntax.lines[first].encode()[: comment.start_point.column].strip()
        after = syntax.lines[last].encode()[comment.end_point.column :].strip() if last < len(syntax.lines) else b""
        rows.difference_update(range(first + bool(before), last + (not after)))
    return rows


def measure(syntax: Syntax, rows: set[int]) -> list[FunctionMetrics]:
    """Every function of the file, in the order of the text."""
    functions = syntax.nodes("function")
    decisions = _owned(functions, syntax.nodes("decision"))
    return [
        FunctionMetrics(
            name=_name(node),
            container=_container(node),
            line=line_of(node),
            end_line=node.end_point.row + 1,
            code_lines=sum(row in rows for row in range(node.start_point.row, node.end_point.row + 1)),
            complexity=1 + count,
            parameters=_parameters(node),
        )
        for node, count in zip(functions, decisions, strict=True)
    ]


def measure_tokens(code: str, file_name: str) -> tuple[list[FunctionMetrics], int]:
    """The functions of a file by `lizard`, which knows the language by the name's ending, and the file's lines of code."""
    # Costs 0.1 s and 9 MiB, and most analyses are of languages that have a grammar.
    import lizard  # type: ignore[import-untyped]

    measured = lizard.analyze_file.analyze_source_code(file_name, code)
    functions = [
        FunctionMetrics(
            name=str(f.name),
            container="",
            line=f.start_line,
            end_line=f.end_line,
            code_lines=f.nloc,
            complexity=f.cyclomatic_complexity,
            parameters=len(f.full_parameters),
        )
        for f in measured.function_list
    ]
    return sorted(functions, key=lambda f: f["line"]), measured.nloc


def _owned(functions: Sequence[Node], decisions: Iterable[Node]) -> list[int]:
    """How many decisions each function has for which it is the innermost one. Both come in the order of the text."""
    counts = [0] * len(functions)
    around: list[int] = []
    entered = 0
    for decision in decisions:
        while entered < len(functions) and functions[entered].start_byte <= decision.start_byte:
            around.append(entered)
            entered += 1
        # Functions nest, so those that end before this decision are on top of those that go on.
        while around and functions[around[-1]].end_byte <= decision.start_byte:
            around.pop()
        if around:
            counts[around[-1]] += 1
    return counts


def _name(function: Node) -> str:
    """The function's own name, or that of the variable, property or field it is assigned to."""
    if own := function.child_by_field_name("name"):
        return text_of(own)
    parent = function.parent
    if parent is None:
        return ANONYMOUS
    for field in ("name", "key", "property", "left"):
        if (target := parent.child_by_field_name(field)) and target != function:
            return text_of(target)[:100]
    return ANONYMOUS


def _container(function: Node) -> str:
    """The type around the function, or the receiver's type of a Go method."""
    if receiver := function.child_by_field_name("receiver"):
        types = (
            [n for n in receiver.named_children[0].named_children if n.type != "identifier"] if receiver.named_children else []
        )
        return text_of(types[0]).lstrip("*").split("[")[0] if types else ""
    node = function.parent
    while node is not None:
        if node.type.endswith(("class_definition", "class_declaration", "class")) and (name := node.child_by_field_name("name")):
            return text_of(name)
        node = node.parent
    return ""


def _parameters(function: Node) -> int:
    if function.child_by_field_name("parameter"):
        return 1
    parameters = function.child_by_field_name("parameters")
    if parameters is None:
        return 0
    counted = [p for p in parameters.named_children if p.type not in _SEPARATORS]
    if counted and counted[0].type == "identifier" and text_of(counted[0]) in {"self", "cls"}:
        counted = counted[1:]
    # `a, b int` is one declaration of two names in Go.
    return sum(max(1, len(p.children_by_field_name("name"))) for p in counted)
