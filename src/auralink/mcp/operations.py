"""REST operations on the servers of the mission: a tool call whose structured answer is the body.

They take the same path as every other call; only the shape of question and answer is their own.
"""

from collections.abc import Mapping
from typing import Any, ClassVar
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict

from auralink.auth.principal import Principal
from auralink.core.errors import AuralinkError
from auralink.mcp.schemas import ToolAnswer
from auralink.mcp.service import Gateway

ERROR_META = "auralink/error"
"""Under this key of `_meta` a built-in server says which error of ours a tool error is: code, status and title."""
BUILT_IN = "built-in:"


class OperationBody(BaseModel):
    """What every operation names: the connection that it goes over."""

    model_config = ConfigDict(extra="forbid")
    connection_id: UUID


class ToolFailed(AuralinkError):
    """The tool answered with an error. A built-in server's has the code and status that the server gave it."""

    code: ClassVar[str] = "tool_failed"
    status: ClassVar[int] = 502
    title: ClassVar[str] = "The tool failed"
    sent = True
    """The tool has run: under an Idempotency-Key this is the answer."""

    def __init__(self, message: str, *, like: Mapping[str, Any] | None = None, **extra: Any) -> None:
        super().__init__(message, extra=extra)
        if like:
            for name in ("code", "status", "title"):
                setattr(self, name, like[name])


async def operate(
    gateway: Gateway, principal: Principal, connection_id: UUID, tool: str, arguments: Mapping[str, Any], *, source: str
) -> ToolAnswer:
    """Calls a tool whose error is an error of the operation.

    Raises:
        ToolFailed: the tool reported an error.
        AuralinkError: as `Gateway.call_tool`.
    """
    answer = await gateway.call_tool(principal, connection_id, tool, arguments, source=source)
    if answer.result.get("isError"):
        raise _failure(answer, tool)
    return answer


def structured(result: Mapping[str, Any]) -> dict[str, Any]:
    """A result's structured content; of a server that sends text only, the JSON object in it, else the text as `content`."""
    content = result.get("structuredContent")
    if isinstance(content, dict):
        return content
    text = text_of(result)
    try:
        parsed = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {"content": text}
    return parsed if isinstance(parsed, dict) else {"content": parsed}


def text_of(result: Mapping[str, Any]) -> str:
    """The text blocks of a result, joined."""
    blocks = result.get("content") or ()
    return "\n".join(str(block["text"]) for block in blocks if isinstance(block, dict) and block.get("type") == "text")


def _failure(answer: ToolAnswer, tool: str) -> ToolFailed:
    like = (answer.result.get("_meta") or {}).get(ERROR_META) if answer.served_by.startswith(BUILT_IN) else None
    message = text_of(answer.result) or f"the tool {tool!r} reported an error without a text"
    return ToolFailed(message[:2000], like=like, log_id=str(answer.log_id), served_by=answer.served_by)
