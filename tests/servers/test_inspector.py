"""The built-in servers by themselves, over stdio, with the MCP Inspector's command line and the SDK's client."""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from auralink.core import embedded_postgres as embedded
from tests.node import inspector_command
from tests.places import scratched

SERVERS = {
    "deepwiki": ("search_docs", {"repoName": "nobody/nothing"}),
    "memory": ("read_graph", {}),
    "sequential_thinking": (
        "sequentialthinking",
        {"thought": "one", "thoughtNumber": 1, "totalThoughts": 1, "nextThoughtNeeded": False},
    ),
    "supabase": ("list_tables", {}),
    "toolbox": ("calculator", {"expression": "6*7"}),
}
ANSWERED = {"memory", "sequential_thinking", "toolbox"}
"""The servers whose call succeeds as it stands; the others say what is missing, as a tool error."""
PROGRAM = [sys.executable, "-m", "auralink"]


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """An environment with a data directory of its own, which the database's OS user can reach."""
    with scratched() as place:
        yield {**os.environ, "AURALINK_DATA_DIR": str(place / "data"), "DATABASE_URL": ""}
        embedded.stop(place / "data")


@pytest.mark.parametrize("name", SERVERS)
async def test_a_server_by_itself_answers_the_sdks_client(name: str, environment: dict[str, str]) -> None:
    tool, arguments = SERVERS[name]
    parameters = StdioServerParameters(command=PROGRAM[0], args=[*PROGRAM[1:], "mcp", name, "--stdio"], env=environment)
    async with Client(parameters) as client:
        assert tool in [listed.name for listed in (await client.list_tools()).tools]
        result = await client.call_tool(tool, arguments)
        assert bool(result.is_error) is (name not in ANSWERED), result.content


@pytest.mark.needs_node
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", SERVERS)
async def test_a_server_by_itself_answers_the_inspector(name: str, environment: dict[str, str]) -> None:
    tool, arguments = SERVERS[name]
    passed_on = ["-e", f"AURALINK_DATA_DIR={environment['AURALINK_DATA_DIR']}"]
    command = [*await asyncio.to_thread(inspector_command), *passed_on, *PROGRAM, "mcp", name, "--stdio"]
    given = [part for key, value in arguments.items() for part in ("--tool-arg", f"{key}={json.dumps(value).strip(chr(34))}")]
    answer = await inspect([*command, "--method", "tools/call", "--tool-name", tool, *given], environment)
    assert bool(answer.get("isError")) is (name not in ANSWERED), answer


async def inspect(command: list[str], environment: dict[str, str]) -> dict[str, Any]:
    """What the Inspector prints."""
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, error = await process.communicate()
    assert process.returncode == 0, error.decode()
    answer: dict[str, Any] = json.loads(out)
    return answer
