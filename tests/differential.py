"""Plays the same random sequences of tool calls to a reference server and to ours."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy
from mcp import Client

EXAMPLES = int(os.environ.get("DIFFERENTIAL_EXAMPLES", "40"))
"""How many sequences; `DIFFERENTIAL_EXAMPLES=500` is the long form, with new sequences each time."""

Step = tuple[str, dict[str, Any]]


async def play(steps: SearchStrategy[Sequence[Step]], compare: Callable[[Sequence[Step]], Awaitable[None]]) -> None:
    """Draws sequences and awaits `compare` for each in this loop, where the clients live."""
    loop = asyncio.get_running_loop()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize="DIFFERENTIAL_EXAMPLES" not in os.environ,
        suppress_health_check=list(HealthCheck),
    )
    @given(steps)
    def run(sequence: Sequence[Step]) -> None:
        asyncio.run_coroutine_threadsafe(compare(sequence), loop).result()

    await asyncio.to_thread(run)


async def answer(client: Client, step: Step) -> dict[str, Any]:
    """What a server answers: whether it is an error, the first text, and the structured content."""
    result = await client.call_tool(*step)
    first = result.content[0]
    return {"error": bool(result.is_error), "text": getattr(first, "text", None), "structured": result.structured_content}


def bare_schema(node: Any) -> Any:
    """A schema without words and without the limits and dialects that one side states and the other does not."""
    if isinstance(node, list):
        return [bare_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    silent = {"description", "title", "$schema", "maxLength"}
    return {
        key: {name: bare_schema(field) for name, field in value.items()} if key == "properties" else bare_schema(value)
        for key, value in node.items()
        if key not in silent
    }
