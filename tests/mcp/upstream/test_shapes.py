"""Servers that answer well-formed JSON of the wrong shape: whatever it is, the caller gets an answer or an error of ours."""

import asyncio
import contextlib
import json
import time
from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auralink.core.errors import AuralinkError, InvalidRequest
from auralink.mcp.upstream.errors import UpstreamBadAnswer
from auralink.mcp.upstream.session import LIST_METHODS, UpstreamSession
from auralink.mcp.upstream.transport import Message, OnMessage, bytes_of, message_of
from tests.mcp.upstream.conftest import Listener

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
"""Any small JSON."""


def shaped(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An object whose fields may be as they should, missing, or anything."""
    return st.fixed_dictionaries({}, optional={name: JSON | field for name, field in fields.items()}) | JSON


TOOL = shaped(
    name=st.just("echo"),
    description=st.text(max_size=5),
    inputSchema=shaped(
        type=st.just("object"), properties=st.dictionaries(st.text(max_size=3), shaped(**{"x-mcp-header": st.just("X")}))
    ),
    annotations=shaped(readOnlyHint=st.booleans(), title=st.text(max_size=3)),
    _meta=JSON,
)
DISCOVERED = shaped(
    supportedVersions=st.just(["2026-07-28"]),
    capabilities=shaped(tools=st.just({})),
    instructions=st.text(max_size=3),
    _meta=st.dictionaries(st.just("io.modelcontextprotocol/serverInfo"), shaped(name=st.just("x"))),
)
INITIALIZED = shaped(
    protocolVersion=st.sampled_from(["2025-11-25", "1999-01-01"]), capabilities=shaped(tools=st.just({})), serverInfo=JSON
)
LISTED = shaped(
    tools=st.lists(TOOL, max_size=2),
    prompts=st.lists(TOOL, max_size=2),
    resources=st.lists(TOOL, max_size=2),
    nextCursor=st.none(),
    ttlMs=st.integers(-1, 10**12),
)
RESULT = shaped(
    content=st.lists(shaped(type=st.just("text"), text=st.text(max_size=5)), max_size=2),
    isError=st.booleans(),
    resultType=st.sampled_from(["complete", "input_required", "task"]),
    inputRequests=JSON,
    requestState=JSON,
    structuredContent=JSON,
)
NOTE = st.fixed_dictionaries(
    {"method": st.sampled_from(["notifications/progress", "ping", "x"]) | JSON}, optional={"params": JSON, "id": JSON}
)
ERROR = shaped(code=st.sampled_from([-32601, -32022, -32000]), message=st.text(max_size=3), data=shaped(supported=JSON))


class Scripted:
    """A transport that answers each method with what the script says, after the notes that the script has."""

    def __init__(self, script: Mapping[str, Message], notes: list[Message]) -> None:
        self.unsolicited: OnMessage | None = None
        self._script = script
        self._notes = notes

    async def exchange(
        self, message: Message, *, headers: Mapping[str, str], timeout: float, on_message: OnMessage | None = None
    ) -> Message:
        """The script's answer, through the check that the real transports make."""
        for note in self._notes:
            if on_message is not None and (checked := message_of(orjson.dumps({"jsonrpc": "2.0", **note}))) is not None:
                await on_message(checked)
        answer = message_of(orjson.dumps({"jsonrpc": "2.0", "id": message["id"], **self._script[message["method"]]}))
        if answer is None:
            raise UpstreamBadAnswer("no message", sent=True)
        return answer

    async def send(self, message: Message, *, headers: Mapping[str, str], timeout: float) -> None:
        """Takes anything that is JSON."""
        orjson.dumps(message)

    def forget_session(self) -> None:
        """Has none."""

    async def close(self) -> None:
        """Nothing to close."""


answers = st.fixed_dictionaries({}, optional={"result": RESULT}) | st.fixed_dictionaries({"error": ERROR})


@settings(max_examples=300, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    discovered=DISCOVERED,
    initialized=INITIALIZED,
    listed=LISTED,
    answer=answers,
    refused=st.booleans(),
    notes=st.lists(NOTE, max_size=2),
)
def test_an_answer_of_any_shape_ends_in_an_answer_or_an_error_of_ours(
    discovered: Any, initialized: Any, listed: Any, answer: Any, refused: bool, notes: list[Any]
) -> None:
    script = {
        "server/discover": {"error": {"code": -32601, "message": ""}} if refused else {"result": discovered},
        "initialize": {"result": initialized},
        **{method: {"result": listed} for method in LIST_METHODS.values()},
        "tools/call": answer,
    }
    asyncio.run(_use(script, notes))


async def _use(script: Mapping[str, Message], notes: list[Any]) -> None:
    session = UpstreamSession(Scripted(script, notes), "a-server")
    deadline = time.monotonic() + 5
    with contextlib.suppress(AuralinkError):
        await session.open(5)
        for name in ("name", "title", "version"):
            assert isinstance(session.server_info.get(name, ""), str)
        for kind in LIST_METHODS:
            for item in (await session.listed(kind, deadline)).values():
                assert isinstance(item.get("inputSchema", {}), dict)
                assert isinstance(item.get("annotations", {}).get("title", ""), str)
                assert isinstance(item.get("description", ""), str)
    with contextlib.suppress(AuralinkError):
        result = await session.request("tools/call", {"name": "echo", "arguments": {"a": 1}}, deadline, peer=Listener())
        assert all(isinstance(block, dict) for block in result.get("content", []))
        assert all(isinstance(request["method"], str) for request in (result.get("inputRequests") or {}).values())


@pytest.mark.parametrize(("depth", "taken"), [(1, True), (200, True), (400, False), (1100, False), (100_000, False)])
def test_what_could_not_be_written_again_is_no_message(depth: int, taken: bool) -> None:
    message = message_of(b'{"id":1,"result":' + b"[" * depth + b"]" * depth + b"}")
    assert (message is not None) is taken
    if message is not None:
        assert bytes_of(message)


@pytest.mark.parametrize("value", [10**40, "\ud800", {"deep": [[]]}], ids=["large", "surrogate", "plain"])
def test_any_json_of_a_caller_can_be_sent(value: Any) -> None:
    assert json.loads(bytes_of({"id": 1, "value": value})) == {"id": 1, "value": value}


def test_a_request_nested_too_deep_is_refused() -> None:
    value: Any = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(InvalidRequest, match="nested too deep"):
        bytes_of({"id": 1, "value": value})
