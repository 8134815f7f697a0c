"""Checks a workflow definition when it is saved: every mistake is named, with a JSON pointer to where it is.

`check` takes JSON data, `check_text` JSON or YAML. What cannot be known here (whether a subworkflow or a model exists) is left to
those who know; tools are checked against the names that are handed in.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, ClassVar

import yaml
from jsonschema import Draft202012Validator, SchemaError
from pydantic import ValidationError

from auralink.core.errors import InvalidRequest
from auralink.core.warned import did_you_mean, token
from auralink.workflows.definition import (
    END,
    Agent,
    Branch,
    Definition,
    Llm,
    Map,
    Memory,
    Node,
    Subworkflow,
    Tool,
    written_by,
)
from auralink.workflows.expressions import BadExpression, variables_in, variables_of

_NO_TEMPLATES = {
    "type",
    "title",
    "into",
    "on_error",
    "model",
    "output_schema",
    "tool",
    "tools",
    "name",
    "kind",
    "item",
    "connection",
}
_EXPRESSIONS = {"history", "over", "quotes", "sources"}


@dataclass(frozen=True, slots=True)
class Problem:
    """A mistake and where it is, e.g. `/nodes/ask/tools/0`."""

    pointer: str
    message: str


class DefinitionInvalid(InvalidRequest):
    """The definition has mistakes; `errors` lists all of them."""

    code: ClassVar[str] = "definition_invalid"
    title: ClassVar[str] = "Invalid definition"

    def __init__(self, problems: Collection[Problem]) -> None:
        first = next(iter(problems))
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        errors = [{"pointer": p.pointer, "message": p.message, "code": self.code} for p in problems]
        super().__init__(f"{first.pointer or '/'}: {first.message}{more}", extra={"errors": errors})


class _Loader(yaml.SafeLoader):
    """YAML without aliases: a few hundred bytes of them make a billion nodes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases are not allowed", self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        return super().compose_node(parent, index)


def check_text(text: str, *, tools: Collection[str] | None = None) -> Definition:
    """As `check`, for JSON or YAML. Raises DefinitionInvalid."""
    return check(read_text(text), tools=tools)


def read_text(text: str) -> Any:
    """The data in JSON or YAML. Raises DefinitionInvalid for what is neither."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader that allows less)
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # ValueError: a date that there is not
        raise DefinitionInvalid([Problem("", f"this is neither JSON nor YAML: {' '.join(str(error).split())}")]) from None


def check(data: Any, *, tools: Collection[str] | None = None) -> Definition:
    """The definition, if it can be run. `tools` are the names of the tools that its user has; None: they are not checked.

    Raises DefinitionInvalid with every mistake that was found.
    """
    try:
        definition = Definition.model_validate(data)
    except ValidationError as error:
        raise DefinitionInvalid(list(_shape_problems(error))) from None
    problems = [
        *_schema_problems(definition),
        *_edge_problems(definition),
        *_reading_problems(definition),
        *(_tool_problems(definition, tools) if tools is not None else ()),
    ]
    if not problems:
        problems = [*_unreachable(definition), *_endless(definition), *_collisions(definition)]
    if problems:
        raise DefinitionInvalid(problems)
    return definition


def subworkflows(definition: Definition) -> Iterator[tuple[str, Subworkflow]]:
    """The nodes that start other runs, with pointers to the names of these."""
    for name, node in definition.nodes.items():
        inner, pointer = (node.each, f"/nodes/{token(name)}/each") if isinstance(node, Map) else (node, f"/nodes/{token(name)}")
        if isinstance(inner, Subworkflow):
            yield f"{pointer}/name", inner


def successors(definition: Definition) -> dict[str, list[str]]:
    """Where each node can go on to."""
    after: dict[str, list[str]] = {name: [] for name in definition.nodes}
    for edge in definition.edges:
        for source in edge.sources:
            after[source].append(edge.to)
    for name, node in definition.nodes.items():
        if isinstance(node, Branch):
            after[name] = [*(case.to for case in node.cases), node.otherwise]
    return after


def _shape_problems(error: ValidationError) -> Iterator[Problem]:
    for found in error.errors(include_url=False, include_input=False):
        tags = {"agent", "llm", "tool", "memory", "branch", "map", "approval", "subworkflow", "set", "split", "verify"}
        # pydantic puts the tag of the union into the path behind the node's name; the document has no such level
        parts = [
            str(part) for at, part in enumerate(found["loc"]) if not (part in tags and at >= 2 and found["loc"][0] == "nodes")
        ]
        message = found["msg"].removeprefix("Value error, ")
        yield Problem("".join(f"/{part}" for part in parts), message[:500])


def _schema_problems(definition: Definition) -> Iterator[Problem]:
    schemas = {"/input": definition.input}
    for name, node in definition.nodes.items():
        inner, where = (node.each, "each/") if isinstance(node, Map) else (node, "")
        if isinstance(inner, Llm | Agent) and inner.output_schema is not None:
            schemas[f"/nodes/{name}/{where}schema"] = inner.output_schema
    for pointer, schema in schemas.items():
        try:
            Draft202012Validator.check_schema(schema)
        except SchemaError as error:
            yield Problem(pointer, f"this is no JSON Schema: {error.message[:300]}")
    if definition.input.get("type") != "object":
        yield Problem("/input/type", "the input is an object: its type must be object")
    if END in definition.nodes:
        yield Problem(f"/nodes/{END}", f"{END!r} is where the graph ends; no node can have this name")


def _edge_problems(definition: Definition) -> Iterator[Problem]:
    known = definition.nodes.keys()
    if definition.start not in known:
        yield Problem("/start", _no_such_node(definition.start, definition))
    for at, edge in enumerate(definition.edges):
        for source in edge.sources:
            if source not in known:
                yield Problem(f"/edges/{at}/from", _no_such_node(source, definition))
            elif isinstance(definition.nodes[source], Branch):
                yield Problem(f"/edges/{at}/from", f"{source!r} is a branch: its cases and `otherwise` say where it goes on")
        if edge.to not in known and edge.to != END:
            yield Problem(f"/edges/{at}/to", _no_such_node(edge.to, definition))
    left = {source for edge in definition.edges for source in edge.sources}
    for name, node in definition.nodes.items():
        if isinstance(node, Branch):
            targets = {f"cases/{at}/to": case.to for at, case in enumerate(node.cases)} | {"otherwise": node.otherwise}
            for where, target in targets.items():
                if target not in known and target != END:
                    yield Problem(f"/nodes/{name}/{where}", _no_such_node(target, definition))
        elif name not in left:
            yield Problem(f"/nodes/{name}", f"no edge leaves this node; add {{from: {name}, to: {END}}} if the graph ends here")


def _no_such_node(name: str, definition: Definition) -> str:
    return f"there is no node {name!r}; there are {', '.join(definition.nodes)}"


def _reading_problems(definition: Definition) -> Iterator[Problem]:
    known = definition.variables()
    for name, node in definition.nodes.items():
        yield from _read_by(node, f"/nodes/{name}", known)
    yield from _variables(definition.output, "/output", known, expression=False)


def _read_by(node: Node, pointer: str, known: frozenset[str]) -> Iterator[Problem]:
    if isinstance(node, Branch):
        for at, case in enumerate(node.cases):
            yield from _variables(case.when, f"{pointer}/cases/{at}/when", known, expression=True)
        return
    if isinstance(node, Map):
        yield from _variables(node.over, f"{pointer}/over", known, expression=True)
        yield from _read_by(node.each, f"{pointer}/each", known | {node.item, "index"})
        return
    for field, value in node.model_dump(mode="json").items():
        if field not in _NO_TEMPLATES and value is not None:
            yield from _variables(value, f"{pointer}/{field}", known, expression=field in _EXPRESSIONS)


def _variables(value: Any, pointer: str, known: frozenset[str], *, expression: bool) -> Iterator[Problem]:
    try:
        read = variables_of(value) if expression else variables_in(value)
    except BadExpression as error:
        yield Problem(pointer, str(error))
        return
    for name in sorted(read - known):
        yield Problem(pointer, f"nothing gives {name!r} a value; there are {', '.join(sorted(known))}")


def _tool_problems(definition: Definition, tools: Collection[str]) -> Iterator[Problem]:
    for name, node in definition.nodes.items():
        inner, pointer = (node.each, f"/nodes/{name}/each") if isinstance(node, Map) else (node, f"/nodes/{name}")
        for where, tool in _tools_wanted(inner):
            if tool not in tools:
                yield Problem(
                    f"{pointer}/{where}",
                    f"you have no tool {tool!r}{did_you_mean(tool, tools)}; connect its server, or see GET /mcp/tools",
                )
        patterns = [tool for tool in inner.tools if "*" in tool] if isinstance(inner, Agent) else []
        if patterns and not any(fnmatchcase(tool, pattern) for tool in tools for pattern in patterns):
            yield Problem(
                f"{pointer}/tools", f"no tool of yours fits {', '.join(patterns)}; connect a server, or see GET /mcp/tools"
            )


def _tools_wanted(node: Node) -> Iterator[tuple[str, str]]:
    if isinstance(node, Agent):
        yield from ((f"tools/{at}", name) for at, name in enumerate(node.tools) if "*" not in name)
    elif isinstance(node, Tool):
        yield "tool", node.tool
    elif isinstance(node, Memory) and node.operation == "remember":
        yield from (("connection", f"{node.connection}__{tool}") for tool in ("create_entities", "add_observations"))
    elif isinstance(node, Memory):
        yield "connection", f"{node.connection}__{'open_nodes' if node.query is None else 'search_nodes'}"


def _unreachable(definition: Definition) -> Iterator[Problem]:
    after = successors(definition)
    seen: set[str] = set()
    todo = [definition.start]
    while todo:
        name = todo.pop()
        if name not in seen and name != END:
            seen.add(name)
            todo.extend(after[name])
    for name in definition.nodes:
        if name not in seen:
            yield Problem(f"/nodes/{name}", f"no way leads here from {definition.start!r}")


def _endless(definition: Definition) -> Iterator[Problem]:
    """Cycles that nothing bounds: a branch with `max_visits` goes on at `otherwise` in the end, and only that way counts here."""
    after = successors(definition)
    for name, node in definition.nodes.items():
        if isinstance(node, Branch) and node.max_visits is not None:
            after[name] = [node.otherwise]
    done: set[str] = set()
    for start in definition.nodes:
        cycle = _cycle_from(start, after, done)
        if cycle is not None:
            way = " → ".join([*cycle, cycle[0]])
            say = "give a branch in it max_visits, with an `otherwise` that leads out"
            yield Problem(f"/nodes/{cycle[0]}", f"this may go round for ever: {way}; {say}")
            return


def _cycle_from(start: str, after: Mapping[str, list[str]], done: set[str]) -> list[str] | None:
    path: list[str] = []
    ways = [iter([start])]
    while ways:
        name = next(ways[-1], None)
        if name is None:
            ways.pop()
            if path:
                done.add(path.pop())
        elif name in path:
            return path[path.index(name) :]
        elif name not in done and name != END:
            path.append(name)
            ways.append(iter(after[name]))
    return None


def _collisions(definition: Definition) -> Iterator[Problem]:
    """Nodes that one node starts side by side and that write one variable that can only be replaced."""
    after = successors(definition)
    merged = {name for name, state in definition.state.items() if state.merge != "replace"}
    for name, node in definition.nodes.items():
        if isinstance(node, Branch):
            continue
        writers: dict[str, str] = {}
        for beside in dict.fromkeys(target for target in after[name] if target != END):
            for variable in written_by(definition.nodes[beside]):
                if variable in writers and variable not in merged:
                    other = writers[variable]
                    say = "give it `merge: append` in state, or write two variables"
                    yield Problem(f"/nodes/{beside}", f"runs beside {other!r} and both write {variable!r}; {say}")
                writers.setdefault(variable, beside)
