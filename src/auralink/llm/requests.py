"""A request as the gateway reads it: what it asks for, what that needs of a model, how long it is. The body stays as it came."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from auralink.core.errors import InvalidRequest
from auralink.llm.catalogue.models import Capability, Model

BYTES_PER_TOKEN = 4
"""What most texts come to; it decides which models a prompt fits."""
WORST_BYTES_PER_TOKEN = 2
"""What hardly any text falls below; it decides what is reserved."""
IMAGE_TOKENS = 1600
"""What a large image comes to at the vendors."""
DEFAULT_OUTPUT = 4096
"""Tokens of an answer that are reserved, and asked for, where a limited user names no limit of the answer."""
MAX_OUTPUT = 100_000_000
MAX_ANSWERS = 128
"""As many as OpenAI gives to one request."""
MAX_NAME = 200
ALTERNATIVES = frozenset(
    {"str", "constrained-str", "list[str]", "list[constrained-str]", "list[dict[str,any]]", "list[int]", "list[list[int]]"}
)
"""What the validator puts into the place of a mistake where a field may be one of several things."""
AUTO = "auto"


class InvalidModelRequest(InvalidRequest):
    """The body is not one of the OpenAI API."""

    status = 400


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow")


class _Function(_Part):
    name: Annotated[str, Field(min_length=1)]


class _Tool(_Part):
    type: str
    function: _Function | None = None


class _Message(_Part):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    name: str | None = None
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None


ModelName = Annotated[str, Field(max_length=MAX_NAME, pattern=r"^[\x21-\x7e ]*$")]
AnswerTokens = Annotated[int, Field(ge=1, le=MAX_OUTPUT)]


class _Chat(_Part):
    model: ModelName | list[ModelName] | None = None
    messages: Annotated[list[_Message], Field(min_length=1)]
    tools: list[_Tool] | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    max_tokens: AnswerTokens | None = None
    max_completion_tokens: AnswerTokens | None = None
    n: Annotated[int, Field(ge=1, le=MAX_ANSWERS)] | None = None
    metadata: dict[str, Any] | None = None


class _Embeddings(_Part):
    model: ModelName | list[ModelName] | None = None
    input: str | list[str] | list[int] | list[list[int]]


_CHAT: TypeAdapter[_Chat] = TypeAdapter(_Chat)
_EMBEDDINGS: TypeAdapter[_Embeddings] = TypeAdapter(_Embeddings)


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """What the gateway has to know of a request."""

    body: Mapping[str, Any]
    models: tuple[str, ...]
    """As named: one, several in order, or none."""
    needs: frozenset[Capability]
    size: int
    """Bytes of what the model reads."""
    images: int = 0
    stream: bool = False
    report_usage: bool = False
    output_limit: int | None = None
    task_type: str | None = None

    @property
    def requested(self) -> str:
        """The model as named, for records."""
        return ",".join(self.models)[:200] or AUTO

    @property
    def likely_tokens(self) -> int:
        """Tokens of the prompt, estimated."""
        return self.size // BYTES_PER_TOKEN + self.images * IMAGE_TOKENS

    @property
    def worst_tokens(self) -> int:
        """Tokens of the prompt, at most."""
        return self.size // WORST_BYTES_PER_TOKEN + self.images * IMAGE_TOKENS

    @property
    def answers(self) -> int:
        """How many answers are asked for at once."""
        return int(self.body.get("n") or 1)

    def answer_tokens(self, model: Model) -> int:
        """Tokens of each answer, at most, where answers are limited."""
        limit = self.output_limit or DEFAULT_OUTPUT
        return min(limit, model.max_output) if model.max_output else limit


def chat_request(body: Any) -> ModelRequest:
    """Reads the body of a chat completion.

    Raises:
        InvalidModelRequest: naming the first field that is wrong.
    """
    _check(_CHAT, body)
    images = _images(body["messages"])
    limits = [limit for name in ("max_tokens", "max_completion_tokens") if (limit := body.get(name)) is not None]
    prompt = {name: body[name] for name in ("tools", "response_format", "functions") if body.get(name)}
    return ModelRequest(
        body=body,
        models=_models(body.get("model")),
        needs=_needs(body, images),
        size=_text_bytes(body["messages"]) + (len(orjson.dumps(prompt)) if prompt else 0),
        images=images,
        stream=bool(body.get("stream")),
        report_usage=bool((body.get("stream_options") or {}).get("include_usage")),
        output_limit=max(limits, default=None),
        task_type=_task_type(body),
    )


def embeddings_request(body: Any) -> ModelRequest:
    """Reads the body of an embeddings request. Raises `InvalidModelRequest`."""
    _check(_EMBEDDINGS, body)
    return ModelRequest(
        body, _models(body.get("model")), frozenset({"embeddings"}), len(orjson.dumps(body["input"])), output_limit=1
    )


def _check(adapter: TypeAdapter[Any], body: Any) -> None:
    try:
        adapter.validate_python(body, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"] if part not in ALTERNATIVES)
        raise InvalidModelRequest(f"{place or 'body'}: {first['msg']}", extra={"param": place or None}) from None


def _models(given: str | Sequence[str] | None) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else tuple(given or ())
    return tuple(name.strip() for name in names if name.strip())


def _needs(body: Mapping[str, Any], images: int) -> frozenset[Capability]:
    needs: set[Capability] = {"chat"}
    if body.get("tools"):
        needs.add("tools")
    if images:
        needs.add("images")
    if (body.get("response_format") or {}).get("type") == "json_schema":
        needs.add("json_schema")
    if body.get("stream"):
        needs.add("streaming")
    return frozenset(needs)


def _images(messages: Sequence[Mapping[str, Any]]) -> int:
    return sum(
        1
        for message in messages
        if isinstance(message.get("content"), list)
        for part in message["content"]
        if isinstance(part, dict) and part.get("type") == "image_url"
    )


def _text_bytes(messages: Sequence[Mapping[str, Any]]) -> int:
    """Bytes of the texts and tool calls of a conversation, with a little for each message's frame; images are counted apart."""
    size = 0
    for message in messages:
        content = message.get("content")
        size += 16 + len(message.get("name") or "")
        if isinstance(content, str):
            size += len(content.encode())
        elif content:
            size += sum(len(str(part.get("text", "")).encode()) for part in content)
        if calls := message.get("tool_calls"):
            size += len(orjson.dumps(calls))
    return size


def _task_type(body: Mapping[str, Any]) -> str | None:
    """The kind of task that the client names in `metadata.task_type`, for preferences and comparison."""
    named = (body.get("metadata") or {}).get("task_type")
    return named[:64] if isinstance(named, str) and named else None
