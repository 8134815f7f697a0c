"""The grammars and the tree-sitter queries: what each language calls an import, a type, a function and a decision.

A file with errors still has a tree, so a half-written file is described as far as it goes. Runs inside the bounded child only.
"""

from collections.abc import Callable
from dataclasses import dataclass

import tree_sitter_go
import tree_sitter_javascript
import tree_sitter_python
import tree_sitter_typescript
from tree_sitter import Language, Node, Parser, Query, QueryCursor

_PYTHON = """
[(import_statement) (import_from_statement) (future_import_statement)] @import
(class_definition) @type
(function_definition) @function
[(if_statement) (elif_clause) (for_statement) (while_statement) (except_clause) (case_clause) (boolean_operator)
 (conditional_expression) (for_in_clause) (if_clause)] @decision
(comment) @comment
(module . (expression_statement . (string) @comment))
(block . (expression_statement . (string) @comment))
"""
_JAVASCRIPT = """
(import_statement) @import
(export_statement source: (string)) @import
(call_expression function: (identifier) @callee (#eq? @callee "require") arguments: (arguments . (string) .)) @require
[(function_declaration) (generator_function_declaration) (method_definition) (arrow_function) (function_expression)
 (generator_function)] @function
[(if_statement) (for_statement) (for_in_statement) (while_statement) (do_statement) (switch_case) (catch_clause)
 (ternary_expression) (binary_expression operator: ["&&" "||" "??"])] @decision
(comment) @comment
(call_expression function: (identifier) @eval (#eq? @eval "eval"))
(new_expression constructor: (identifier) @eval (#eq? @eval "Function"))
(debugger_statement) @debugger
(catch_clause body: (statement_block . "{" . "}")) @empty_catch
(variable_declaration "var" @var)
"""
_JAVASCRIPT_TYPES = "(class_declaration) @type"
_TYPESCRIPT_TYPES = """
[(class_declaration) (abstract_class_declaration) (interface_declaration) (enum_declaration) (type_alias_declaration)] @type
"""
_GO = """
(import_spec) @import
(type_spec) @type
[(function_declaration) (method_declaration) (func_literal)] @function
[(if_statement) (for_statement) (expression_case) (type_case) (communication_case)
 (binary_expression operator: ["&&" "||"])] @decision
(comment) @comment
(call_expression function: (identifier) @panic (#eq? @panic "panic"))
"""
_ERRORS = "[(ERROR) (MISSING)] @error"

_GRAMMARS: dict[str, tuple[Callable[[], object], str]] = {
    "python": (tree_sitter_python.language, _PYTHON),
    "javascript": (tree_sitter_javascript.language, _JAVASCRIPT_TYPES + _JAVASCRIPT),
    "typescript": (tree_sitter_typescript.language_typescript, _TYPESCRIPT_TYPES + _JAVASCRIPT),
    "tsx": (tree_sitter_typescript.language_tsx, _TYPESCRIPT_TYPES + _JAVASCRIPT),
    "go": (tree_sitter_go.language, _GO),
}
LANGUAGES = tuple(_GRAMMARS)


@dataclass(frozen=True)
class Syntax:
    """One parsed file: its lines, and its nodes by the name that the queries give them, in the order of the text."""

    language: str
    lines: list[str]
    captured: dict[str, list[Node]]

    def nodes(self, name: str) -> list[Node]:
        """The nodes captured as `name`, which may be none."""
        return self.captured.get(name, [])


def parse(code: str, language: str) -> Syntax:
    """Parses `code` as one of `LANGUAGES`."""
    load, patterns = _GRAMMARS[language]
    grammar = Language(load())
    source = code.encode()
    captures = QueryCursor(Query(grammar, patterns + _ERRORS)).captures(Parser(grammar).parse(source).root_node)
    return Syntax(
        language=language,
        # Rows as the parser counts them: it ends lines at \n alone.
        lines=source.decode().split("\n"),
        captured={name: sorted(found, key=lambda n: (n.start_byte, -n.end_byte)) for name, found in captures.items()},
    )


def line_of(node: Node) -> int:
    """The line that `node` starts on, counted from 1."""
    return node.start_point.row + 1


def text_of(node: Node | None) -> str:
    """The text of `node`; empty for None."""
    return (node.text or b"").decode("utf-8", "replace") if node else ""
