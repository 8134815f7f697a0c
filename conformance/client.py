"""Our upstream client in front of the suite's own servers, which start it as `python -m conformance.client <address>`.

It lists what there is and calls each tool, as the gateway would for a client that answers every question.
"""

import asyncio
import json
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from auralink.core.egress import EgressGuard
from auralink.core.http_client import HttpClient
from auralink.mcp.rounds import request_with_input
from auralink.mcp.upstream.errors import UpstreamError
from auralink.mcp.upstream.http import HttpTransport
from auralink.mcp.upstream.session import KEY_OF_ITEM, Kind, UpstreamSession
from auralink.mcp.upstream.transport import Message
from conformance import suite
from conformance.suite import Check

CALL_SECONDS = 15.0
SCENARIOS: Mapping[str, Sequence[str]] = {
    "2025-11-25": (
        "initialize",
        "tools_call",
        "elicitation-sep1034-client-defaults",
        "sse-retry",
        "json-schema-2020-12-preservation",
    ),
    "2026-07-28": (
        "tools_call",
        "request-metadata",
        "sep-2322-client-request-state",
        "http-standard-headers",
        "http-custom-headers",
        "http-invalid-tool-headers",
        "json-schema-ref-no-deref",
        "json-schema-2020-12-preservation",
    ),
}
ARGUMENTS: Mapping[str, Any] = {"string": "text", "number": 1, "integer": 1, "boolean": True, "array": [], "object": {}}
READ: Sequence[tuple[Kind, str, str]] = (("resources", "resources/read", "uri"), ("prompts", "prompts/get", "name"))
"""Lists, how an item of each is read, and the parameter that names it."""
ECHO_TOOL, ECHOED_TOOL = "json_schema_echo", "json_schema_2020_12_tool"


async def checks(revision: str) -> list[Check]:
    """What the suite finds at our client."""
    command = shlex.join([sys.executable, "-m", "conformance.client"])
    found = [await suite.client_checks(command, revision, scenario) for scenario in SCENARIOS[revision]]
    return [check for scenario in found for check in scenario]


class Answering:
    """A peer that answers whatever it is asked, with the default values of a form."""

    capabilities: Mapping[str, Any] = {"elicitation": {}, "sampling": {}, "roots": {}}
    log_level = None
    answers_rounds = False

    async def notify(self, message: Message) -> None:
        """Listens."""

    async def request(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Answers."""
        if method == "sampling/createMessage":
            return {"role": "assistant", "model": "none", "content": {"type": "text", "text": "Paris"}}
        if method == "roots/list":
            return {"roots": []}
        properties = params.get("requestedSchema", {}).get("properties", {})
        content = {name: schema.get("default", ARGUMENTS[schema["type"]]) for name, schema in properties.items()}
        return {"action": "accept", "content": content}


async def run(url: str) -> None:
    """Everything that a server of the suite waits for."""
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
    async with HttpClient(EgressGuard(), trusted=True) as http:
        session = UpstreamSession(HttpTransport(http, "suite", url, dict), "suite")
        await session.open(CALL_SECONDS)
        tools = await session.list_tools(_soon())
        calls = context.get("toolCalls") or [_call(tool, tools) for tool in tools.values()]
        for call in calls:
            await _try(session, "tools/call", call)
        for kind, method, key in READ:
            for item in (await session.listed(kind, _soon())).values():
                await _try(session, method, {key: item[KEY_OF_ITEM[kind]]})
        await session.close()


def _call(tool: Mapping[str, Any], tools: Mapping[str, Any]) -> dict[str, Any]:
    if tool["name"] == ECHO_TOOL:
        return {"name": ECHO_TOOL, "arguments": {"schema": tools[ECHOED_TOOL]["inputSchema"]}}
    properties = tool.get("inputSchema", {}).get("properties", {})
    arguments = {name: ARGUMENTS[schema["type"]] for name, schema in properties.items() if schema.get("type") in ARGUMENTS}
    return {"name": tool["name"], "arguments": arguments}


async def _try(session: UpstreamSession, method: str, params: Mapping[str, Any]) -> None:
    try:
        await request_with_input(session, method, params, _soon(), Answering())
    except UpstreamError as error:
        print(f"{method} {params}: {error.message}", file=sys.stderr)


def _soon() -> float:
    return time.monotonic() + CALL_SECONDS


if __name__ == "__main__":
    asyncio.run(run(sys.argv[-1]))
