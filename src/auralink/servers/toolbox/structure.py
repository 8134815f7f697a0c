"""What a source file declares, read from its syntax tree: imports, types, comments and the places that do not parse."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tree_sitter import Node

from auralink.servers.toolbox.syntax import Syntax, line_of, text_of

_MARKS = ("eval", "debugger", "empty_catch", "var", "panic")


@dataclass(frozen=True)
class Import:
    """One imported module and the names taken from it (none: the module itself)."""

    module: str
    names: list[str]
    line: int


@dataclass(frozen=True)
class Type:
    """A class, interface, struct or other named type."""

    name: str
    kind: str
    line: int
    end_line: int


@dataclass
class Structure:
    """What one file declares; `marks` are the lines of constructs that `findings.py` words, by name of the construct."""

    imports: list[Import] = field(default_factory=list)
    types: list[Type] = field(default_factory=list)
    comments: list[tuple[int, str]] = field(default_factory=list)
    error_lines: list[int] = field(default_factory=list)
    marks: dict[str, list[int]] = field(default_factory=dict)


def read_structure(syntax: Syntax) -> Structure:
    """The declarations of a parsed file, each list in the order of the text."""
    imports = [i for node in syntax.nodes("import") for i in _IMPORTS[syntax.language](node)]
    imports += [i for node in syntax.nodes("require") for i in _require(node)]
    return Structure(
        imports=sorted(imports, key=lambda i: i.line),
        types=[_type(node) for node in syntax.nodes("type")],
        comments=[(line_of(node), text_of(node)) for node in syntax.nodes("comment") if node.type == "comment"],
        error_lines=sorted({line_of(node) for node in syntax.nodes("error")}),
        marks={mark: [line_of(n) for n in syntax.nodes(mark)] for mark in _MARKS if syntax.nodes(mark)},
    )


def _type(node: Node) -> Type:
    kind = node.type.removesuffix("_declaration").removesuffix("_definition").removesuffix("_spec")
    if kind == "type" and (shape := node.child_by_field_name("type")):
        kind = shape.type.removesuffix("_type")
    return Type(text_of(node.child_by_field_name("name")), kind.replace("_", " "), line_of(node), node.end_point.row + 1)


def _python_imports(node: Node) -> Iterator[Import]:
    names = [_python_name(child) for child in node.children_by_field_name("name")]
    if node.type == "import_statement":
        yield from (Import(name, [], line_of(node)) for name in names)
        return
    module = text_of(node.child_by_field_name("module_name")) or "__future__"
    star = any(child.type == "wildcard_import" for child in node.children)
    yield Import(module, ["*"] if star else names, line_of(node))


def _python_name(node: Node) -> str:
    return text_of(node.child_by_field_name("name") if node.type == "aliased_import" else node)


def _javascript_imports(node: Node) -> Iterator[Import]:
    source = node.child_by_field_name("source")
    if source is None:
        return
    clause = next((c for c in node.children if c.type in {"import_clause", "export_clause"}), None)
    names = [text_of(n) for n in _specifiers(clause)] if clause else []
    yield Import(text_of(source).strip("'\"`"), names, line_of(node))


def _specifiers(clause: Node) -> Iterator[Node]:
    for child in clause.named_children:
        if child.type in {"named_imports", "namespace_import"}:
            yield from _specifiers(child) if child.type == "named_imports" else [child]
        else:
            yield child.child_by_field_name("name") or child


def _require(call: Node) -> Iterator[Import]:
    arguments = call.child_by_field_name("arguments")
    assert arguments
    yield Import(text_of(arguments.named_child(0)).strip("'\"`"), [], line_of(call))


def _go_imports(node: Node) -> Iterator[Import]:
    yield Import(text_of(node.child_by_field_name("path")).strip('"`'), [], line_of(node))


_IMPORTS: dict[str, Callable[[Node], Iterator[Import]]] = {
    "python": _python_imports,
    "javascript": _javascript_imports,
    "typescript": _javascript_imports,
    "tsx": _javascript_imports,
    "go": _go_imports,
}
