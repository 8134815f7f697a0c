"""Tools whose schemas are exactly those of a counterpart: one Pydantic model in, one out, and errors that say what to do next.

`MCPServer.tool` derives schemas from a function's signature, with titles and references that a counterpart's do not have, and
puts a prefix before every error. `SchemaTool` takes the models as they are. What is not here: running a server (the gateway or
`auralink mcp` does), and whom it acts for (`auth/principal.py`).
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

import orjson
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase, FuncMetadata
from mcp_types import CallToolResult, TextContent, ToolAnnotations
from pydantic import AfterValidator, BaseModel, PrivateAttr, TypeAdapter, ValidationError

from auralink.core.errors import AuralinkError

ERROR_META = "auralink/error"
"""Under this key of `_meta` a tool error says which error of ours it is: code, status and title."""

Arguments = TypeVar("Arguments", bound=BaseModel)
Meta = Mapping[str, Any]
"""The `_meta` of a call."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tool answers: the structured content, and the text for clients that read only text (the same JSON if None)."""

    structured: Mapping[str, Any]
    text: str | None = None


@dataclass(frozen=True, slots=True)
class ToolSpec(Generic[Arguments]):
    """A tool as it is declared: its words, its two types (a model in, a TypedDict out), and the function that answers."""

    name: str
    title: str
    description: str
    annotations: ToolAnnotations
    arguments: type[Arguments]
    answer: type[Any]
    run: Callable[[Arguments, Meta], Awaitable[Answer]]

    def build(self) -> Tool:
        """The tool, to be given to `MCPServer(tools=…)`."""
        tool = SchemaTool(
            fn=self.run,
            name=self.name,
            title=self.title,
            description=self.description,
            parameters=plain_schema(self.arguments),
            fn_metadata=FuncMetadata(arg_model=ArgModelBase, output_schema=plain_schema(self.answer, closed=True)),
            is_async=True,
            context_kwarg=None,
            annotations=self.annotations,
        )
        tool.serve(self)
        return tool


class SchemaTool(Tool):
    """A tool that validates with the model it was declared with and answers errors of ours as tool errors."""

    _spec: ToolSpec[Any] = PrivateAttr()

    def serve(self, spec: ToolSpec[Any]) -> None:
        """Sets what answers the calls."""
        self._spec = spec

    async def run(self, arguments: dict[str, Any], context: Context[Any, Any], convert_result: bool = False) -> CallToolResult:
        """Answers one call; every outcome, refused arguments included, is a `CallToolResult`."""
        try:
            given = self._spec.arguments.model_validate(arguments)
        except ValidationError as error:
            return refuse(self.name, error)
        try:
            answer = await self._spec.run(given, context.request_context.meta or {})
        except AuralinkError as error:
            return failure(error)
        text = answer.text if answer.text is not None else json_text(answer.structured)
        return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=dict(answer.structured))


def refuse(tool: str, error: ValidationError) -> CallToolResult:
    """The tool error for arguments that do not fit; it names each place and never repeats a value."""
    problems = "; ".join(f"{_place(e['loc'])}: {e['msg']}" for e in error.errors(include_input=False, include_url=False))
    text = f"Invalid arguments for tool {tool}: {problems}. Call it again with arguments that fit its input schema."
    meta = {ERROR_META: {"code": "invalid_arguments", "status": 422, "title": "Invalid arguments"}}
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True, _meta=meta)


def failure(error: AuralinkError) -> CallToolResult:
    """An error of ours as a tool error. A `next_step` of the error's class is a text block of its own."""
    texts = [error.message, getattr(error, "next_step", "")]
    return CallToolResult(
        content=[TextContent(type="text", text=text) for text in texts if text],
        is_error=True,
        _meta={ERROR_META: {"code": error.code, "status": error.status, "title": error.title}},
    )


def hints(*, reads: bool = False, destroys: bool = False, repeatable: bool = False, open_world: bool = False) -> ToolAnnotations:
    """A tool's annotations, all four said."""
    return ToolAnnotations(
        read_only_hint=reads, destructive_hint=destroys, idempotent_hint=repeatable, open_world_hint=open_world
    )


def json_text(value: Any) -> str:
    """JSON with two spaces of indentation, as `JSON.stringify(value, null, 2)` writes it."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def plain_schema(shape: type[Any], *, closed: bool = False) -> dict[str, Any]:
    """The JSON Schema of a type without references and titles, which some clients cannot follow and none needs.

    `closed` says of every object with named fields that it has no others.
    """
    schema = TypeAdapter(shape).json_schema(by_alias=True)
    plain: dict[str, Any] = _plain(schema, schema.get("$defs", {}), closed=closed)
    plain.pop("description", None)
    return plain


def _plain(node: Any, definitions: Mapping[str, Any], *, closed: bool) -> Any:
    if isinstance(node, list):
        return [_plain(item, definitions, closed=closed) for item in node]
    if not isinstance(node, dict):
        return node
    if reference := node.get("$ref"):
        described = {key: value for key, value in node.items() if key != "$ref"}
        target = {key: value for key, value in definitions[reference.rpartition("/")[2]].items() if key != "description"}
        return _plain(target | described, definitions, closed=closed)
    plain = {
        key: {name: _plain(field, definitions, closed=closed) for name, field in value.items()}
        if key == "properties"
        else _plain(value, definitions, closed=closed)
        for key, value in node.items()
        if key not in {"title", "$defs"}
    }
    return plain | {"additionalProperties": False} if closed and "properties" in plain else plain


def _place(location: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".") or "arguments"


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("the character NUL cannot be stored; leave it out")
    return text


StorableText = Annotated[str, AfterValidator(_without_nul)]
"""Text that Postgres can hold."""
