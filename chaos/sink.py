"""What the runs act on: an MCP server in a process of its own, which writes each effect down with fsync before it answers.

read    has no effect
keyed   honours the idempotency key: the same key has its effect once
plain   has its effect each time
"""

import asyncio
import json
import os
import sys
import time
import zlib
from pathlib import Path
from typing import Any

from tests.upstreams.raw import Exchange, RawServer, running

SLOWEST = 0.6
"""Seconds that a call takes at most, so that a run takes about as long as a lease, and attempts meet."""
KEY = "auralink/idempotencyKey"
STEP = {"type": "object", "properties": {"line": {"type": "string"}, "step": {"type": "integer"}}, "required": ["line", "step"]}
TOOLS = [
    {"name": "read", "inputSchema": STEP, "annotations": {"readOnlyHint": True}},
    {"name": "keyed", "inputSchema": STEP, "_meta": {KEY: True}},
    {"name": "plain", "inputSchema": STEP},
]


class Sink:
    """The effects, in a file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a")
        self._seen: set[str] = set()

    async def list_tools(self, exchange: Exchange) -> None:
        await exchange.result({"tools": TOOLS, "ttlMs": 60_000})

    async def call(self, exchange: Exchange) -> None:
        params = exchange.request.message["params"]
        key = params["_meta"][KEY]
        effect = params["name"] == "plain" or (params["name"] == "keyed" and key not in self._seen)
        self._seen.add(key)
        self._write({"at": time.time(), "tool": params["name"], "key": key, "effect": effect, **params["arguments"]})
        await asyncio.sleep(SLOWEST * (zlib.crc32(key.encode()) % 100) / 100)
        text = f"{params['name']} {params['arguments']['line']} {params['arguments']['step']}"
        await exchange.result({"content": [{"type": "text", "text": text}]})

    def _write(self, row: dict[str, Any]) -> None:
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


async def main(path: Path, port: int) -> None:
    sink = Sink(path)
    async with running(RawServer(on={"tools/list": sink.list_tools, "tools/call": sink.call}), port=port):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
