"""What a source file defines and imports, read from its syntax tree (Python, JavaScript, TypeScript, Go).

The parsers tolerate broken code, so a file always gives something. Nothing is executed or resolved here: names and
imports are those of the text.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

import tree_sitter_go
import tree_sitter_javascript
import tree_sitter_python
import tree_sitter_typescript
from tree_sitter import Language, Node, Parser

_SIGNATURE_LIMIT = 240
_SUMMARY_LIMIT = 400


@dataclass(frozen=True, slots=True)
class Definition:
    """A named part of a file. Lines count from 1 and include decorators and the comment that documents it."""

    name: str
    kind: str
    line: int
    end_line: int
    signature: str
    summary: str
    public: bool
    members: tuple["Definition", ...] = ()


@dataclass(frozen=True, slots=True)
class Outline:
    """A file's own documentation, its top-level definitions and the modules it names in imports."""

    purpose: str = ""
    definitions: tuple[Definition, ...] = ()
    imports: tuple[str, ...] = field(default=())


def outline(path: str, source: bytes) -> Outline | None:
    """The outline of a file in a language known here, else None."""
    suffix = path[path.rfind(".") :].lower()
    reader = _READERS.get(suffix)
    if reader is None:
        return None
    return reader(_parser(suffix).parse(source).root_node)


@cache
def _parser(suffix: str) -> Parser:
    return Parser(Language(_GRAMMARS[suffix]()))


def _text(node: Node | None) -> str:
    return node.text.decode("utf-8", "replace") if node is not None and node.text is not None else ""


def _first_paragraph(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines()]
    paragraph = lines[: lines.index("")] if "" in lines else lines
    return " ".join(paragraph)[:_SUMMARY_LIMIT]


def _signature(node: Node) -> str:
    body = node.child_by_field_name("body")
    raw = node.text or b""
    head = raw[: body.start_byte - node.start_byte] if body is not None else raw
    return " ".join(head.decode("utf-8", "replace").split()).rstrip(" :{=>")[:_SIGNATURE_LIMIT]


def _definition(
    node: Node, name: str, *, kind: str, summary: str, public: bool, outer: Node | None = None, line: int | None = None
) -> Definition:
    outer = outer or node
    return Definition(
        name=name,
        kind=kind,
        line=(line if line is not None else outer.start_point.row) + 1,
        end_line=outer.end_point.row + 1,
        signature=_signature(node),
        summary=summary,
        public=public,
    )


# Python


def _read_python(root: Node) -> Outline:
    return Outline(
        purpose=_first_paragraph(_docstring(root)),
        definitions=tuple(_python_definitions(root, "")),
        imports=tuple(dict.fromkeys(_python_imports(root))),
    )


def _docstring(body: Node | None) -> str:
    first = next((child for child in body.named_children if child.type != "comment"), None) if body else None
    if first is None or first.type != "expression_statement" or not first.named_children:
        return ""
    string = first.named_children[0]
    return "".join(_text(part) for part in string.named_children if part.type == "string_content")


def _python_definitions(body: Node, prefix: str) -> Iterator[Definition]:
    for outer in body.named_children:
        node = outer.child_by_field_name("definition") if outer.type == "decorated_definition" else outer
        if node is None:
            continue
        if node.type in {"function_definition", "class_definition"}:
            yield _python_definition(node, outer, prefix)
        elif node.type in {"if_statement", "try_statement", "with_statement"}:
            for block in _blocks(node):
                yield from _python_definitions(block, prefix)


def _python_definition(node: Node, outer: Node, prefix: str) -> Definition:
    short = _text(node.child_by_field_name("name"))
    body = node.child_by_field_name("body")
    is_class = node.type == "class_definition"
    made = _definition(
        node,
        prefix + short,
        kind="class" if is_class else "function",
        summary=_first_paragraph(_docstring(body)),
        public=not short.startswith("_"),
        outer=outer,
    )
    if not is_class or body is None:
        return made
    return _with_members(made, tuple(_python_definitions(body, f"{prefix}{short}.")))


def _with_members(definition: Definition, members: tuple[Definition, ...]) -> Definition:
    return Definition(
        definition.name,
        definition.kind,
        definition.line,
        definition.end_line,
        definition.signature,
        definition.summary,
        definition.public,
        members,
    )


def _blocks(node: Node) -> Iterator[Node]:
    for child in node.named_children:
        if child.type == "block":
            yield child
        elif child.type.endswith("_clause"):
            yield from _blocks(child)


def _python_imports(body: Node) -> Iterator[str]:
    for node in body.named_children:
        if node.type == "import_statement":
            for name in node.children_by_field_name("name"):
                yield _text(name.child_by_field_name("name") if name.type == "aliased_import" else name)
        elif node.type == "import_from_statement":
            yield from _python_from(node)
        elif node.type in {"if_statement", "try_statement"}:
            for block in _blocks(node):
                yield from _python_imports(block)


def _python_from(node: Node) -> Iterator[str]:
    module = _text(node.child_by_field_name("module_name"))
    separator = "" if module.endswith(".") else "."
    names = node.children_by_field_name("name")
    yield from (
        f"{module}{separator}{_text(name.child_by_field_name('name') if name.type == 'aliased_import' else name)}"
        for name in names
    )
    if not names:
        yield module


# JavaScript and TypeScript

_SCRIPT_KINDS = {
    "function_declaration": "function",
    "generator_function_declaration": "function",
    "function_signature": "function",
    "class_declaration": "class",
    "abstract_class_declaration": "class",
    "interface_declaration": "interface",
    "type_alias_declaration": "type",
    "enum_declaration": "enum",
    "method_definition": "method",
    "abstract_method_signature": "method",
    "internal_module": "namespace",
}
_FUNCTION_VALUES = {"arrow_function", "function_expression", "generator_function", "class"}


def _read_script(root: Node) -> Outline:
    return Outline(
        purpose=_first_paragraph(_leading_comment(root)),
        definitions=tuple(_script_definitions(root, "", exported=False)),
        imports=tuple(dict.fromkeys(_script_imports(root))),
    )


def _comment_text(text: str) -> str:
    lines = (re.sub(r"^\s*(?:///?|/\*+|\*+/?)\s?|\s*\*+/\s*$", "", line) for line in text.splitlines())
    return "\n".join(lines).strip()


def _leading_comment(root: Node) -> str:
    first = next(iter(root.named_children), None)
    return _comment_text(_text(first)) if first is not None and first.type == "comment" else ""


def _documentation(outer: Node) -> tuple[str, int]:
    """The comment that ends on the line above, and the line at which it starts."""
    parts: list[str] = []
    row = outer.start_point.row
    before = outer.prev_named_sibling
    while before is not None and before.type == "comment" and before.end_point.row in {row - 1, row}:
        parts.insert(0, _text(before))
        row = before.start_point.row
        before = before.prev_named_sibling
    return _comment_text("\n".join(parts)), row


def _script_definitions(body: Node, prefix: str, *, exported: bool) -> Iterator[Definition]:
    for outer in body.named_children:
        is_export = outer.type == "export_statement"
        for node in outer.named_children if is_export or outer.type in _SCRIPT_WRAPPERS else (outer,):
            yield from _script_node(node, outer, prefix, exported=exported or is_export)


_SCRIPT_WRAPPERS = {"ambient_declaration", "expression_statement"}


def _script_node(node: Node, outer: Node, prefix: str, *, exported: bool) -> Iterator[Definition]:
    if node.type in _SCRIPT_KINDS:
        yield _script_definition(node, outer, prefix, _text(node.child_by_field_name("name")), exported=exported)
    elif node.type in {"lexical_declaration", "variable_declaration"}:
        for declarator in node.named_children:
            value = declarator.child_by_field_name("value")
            if value is not None and value.type in _FUNCTION_VALUES:
                name = _text(declarator.child_by_field_name("name"))
                yield _script_definition(declarator, outer, prefix, name, exported=exported)
    elif node.type == "assignment_expression":
        right = node.child_by_field_name("right")
        if right is not None and right.type in _FUNCTION_VALUES:
            name = re.sub(r"^(?:module\.)?exports\.|\.prototype(?=\.)", "", _text(node.child_by_field_name("left")))
            yield _script_definition(node, outer, prefix, name, exported=True)


def _script_definition(node: Node, outer: Node, prefix: str, short: str, *, exported: bool) -> Definition:
    doc, line = _documentation(outer)
    value = node.child_by_field_name("value") or node.child_by_field_name("right") or node
    made = _definition(
        value if value.child_by_field_name("body") is not None and value.type == "class" else node,
        prefix + (short or "default"),
        kind=_SCRIPT_KINDS.get(node.type, "function"),
        summary=_first_paragraph(doc),
        public=exported and not short.startswith(("_", "#")) and not _text(node).startswith("private "),
        outer=outer,
        line=line,
    )
    if value is not node:
        body = value.child_by_field_name("body")
        head = (node.text or b"")[: body.start_byte - node.start_byte] if body is not None else b""
        signature = " ".join(head.decode("utf-8", "replace").split()).rstrip(" {=>")[:_SIGNATURE_LIMIT]
        made = Definition(made.name, made.kind, made.line, made.end_line, signature, made.summary, made.public)
    body = value.child_by_field_name("body")
    if body is None or body.type not in {"class_body", "statement_block"} or made.kind in {"function", "method"}:
        return made
    return _with_members(made, tuple(_script_definitions(body, f"{made.name}.", exported=made.public)))


def _script_imports(root: Node) -> Iterator[str]:
    for node in root.named_children:
        if node.type in {"import_statement", "export_statement"}:
            source = node.child_by_field_name("source")
            if source is not None:
                yield _text(source).strip("'\"`")
        elif node.type in {"lexical_declaration", "variable_declaration", "expression_statement"}:
            yield from re.findall(r"\brequire\(\s*['\"]([^'\"]+)['\"]\s*\)", _text(node)[:2000])


# Go


def _read_go(root: Node) -> Outline:
    package = next((node for node in root.named_children if node.type == "package_clause"), None)
    return Outline(
        purpose=_first_paragraph(_documentation(package)[0]) if package is not None else "",
        definitions=tuple(_go_definitions(root)),
        imports=tuple(_go_imports(root)),
    )


def _go_definitions(root: Node) -> Iterator[Definition]:
    for outer in root.named_children:
        if outer.type == "function_declaration":
            yield _go_definition(outer, outer, _text(outer.child_by_field_name("name")), "function")
        elif outer.type == "method_declaration":
            receiver = re.sub(
                r"[^\w].*$", "", _text(outer.child_by_field_name("receiver")).strip("()").split("*")[-1].split()[-1]
            )
            yield _go_definition(outer, outer, f"{receiver}.{_text(outer.child_by_field_name('name'))}", "method")
        elif outer.type == "type_declaration":
            specs = [node for node in outer.named_children if node.type in {"type_spec", "type_alias"}]
            for spec in specs:
                whole = outer if len(specs) == 1 else spec
                yield _go_definition(spec, whole, _text(spec.child_by_field_name("name")), "type")


def _go_definition(node: Node, outer: Node, name: str, kind: str) -> Definition:
    doc, line = _documentation(outer)
    made = _definition(
        node, name, kind=kind, summary=_first_paragraph(doc), public=name.rpartition(".")[2][:1].isupper(), outer=outer, line=line
    )
    if kind != "type":
        return made
    signature = "type " + _text(node).split("{", maxsplit=1)[0].strip()
    return Definition(name, kind, made.line, made.end_line, signature[:_SIGNATURE_LIMIT], made.summary, made.public)


def _go_imports(root: Node) -> Iterator[str]:
    for node in root.named_children:
        if node.type == "import_declaration":
            yield from re.findall(r'"([^"]+)"', _text(node))


_Reader = Callable[[Node], Outline]
_READERS: dict[str, _Reader] = {
    ".py": _read_python,
    ".pyi": _read_python,
    ".go": _read_go,
    **dict.fromkeys((".js", ".jsx", ".mjs", ".cjs", ".ts", ".mts", ".cts", ".tsx"), _read_script),
}
_GRAMMARS: dict[str, Callable[[], object]] = {
    ".py": tree_sitter_python.language,
    ".pyi": tree_sitter_python.language,
    ".go": tree_sitter_go.language,
    **dict.fromkeys((".js", ".jsx", ".mjs", ".cjs"), tree_sitter_javascript.language),
    **dict.fromkeys((".ts", ".mts", ".cts"), tree_sitter_typescript.language_typescript),
    ".tsx": tree_sitter_typescript.language_tsx,
}


def walk(definitions: Sequence[Definition]) -> Iterator[Definition]:
    """Every definition, members after their owner."""
    for definition in definitions:
        yield definition
        yield from walk(definition.members)
