"""How an error of ours looks to an MCP client."""

from typing import Any

from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST

from auralink.core.errors import AuralinkError, InvalidRequest, RateLimited
from auralink.journal.steps import NO_ANSWERS
from auralink.mcp.errors import ConnectionNotFound, ToolNotFound
from auralink.mcp.upstream.errors import UpstreamRejected

ERROR_META = "auralink/error"
Answer = dict[str, Any]


class RpcError(Exception):
    """The request is answered with a JSON-RPC error, and this HTTP status."""

    def __init__(self, code: int, message: str, *, data: Any = None, status: int | None = None) -> None:
        super().__init__(message)
        self.error: Answer = {"code": code, "message": message}
        if data is not None:
            self.error["data"] = data
        self.status = status


def rpc_error_of(error: AuralinkError) -> RpcError:
    """A JSON-RPC error; that of an upstream passes through as the server gave it."""
    if isinstance(error, UpstreamRejected):
        return RpcError(error.rpc_code, error.reason, data=error.data)
    if isinstance(error, (ToolNotFound, ConnectionNotFound, InvalidRequest)):
        return RpcError(INVALID_PARAMS, error.message, data=_facts(error))
    if isinstance(error, NO_ANSWERS):
        return RpcError(INTERNAL_ERROR, error.message, data=_facts(error), status=error.status)
    if isinstance(error, RateLimited):
        return RpcError(INVALID_REQUEST, error.message, data=_facts(error), status=error.status)
    return RpcError(INTERNAL_ERROR, error.message, data=_facts(error))


def tool_result_of(error: AuralinkError, *, in_run: bool = False) -> Answer:
    """A tool result with `isError`, which a model can read and act on; its class is under `_meta["auralink/error"]`.

    Raises:
        RpcError: what is not the outcome of a call but of a wrong request (unknown tool, too many calls, the server's own error),
            and to a run what is no answer: its engine must not show that to a model.
    """
    if in_run and isinstance(error, NO_ANSWERS):
        raise rpc_error_of(error) from error
    if isinstance(error, (UpstreamRejected, ToolNotFound, ConnectionNotFound, RateLimited)):
        raise rpc_error_of(error) from error
    return {"content": [{"type": "text", "text": error.message}], "isError": True, "_meta": {ERROR_META: _facts(error)}}


def _facts(error: AuralinkError) -> Answer:
    return {"code": error.code, "status": error.status, "message": error.message, **error.extra}
