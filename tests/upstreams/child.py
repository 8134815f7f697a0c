"""A server over stdio that misbehaves: `python -m tests.upstreams.child MODE [FILE]`. FILE takes one line for each call."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

TOOLS = [
    {"name": "echo", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}},
    {"name": "pay", "inputSchema": {"type": "object"}},
]


def say(message: dict[str, Any]) -> None:
    """Writes a message."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def sleeper(**options: Any) -> None:
    """Starts a grandchild that holds our pipes and sleeps; FILE takes its process id."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], **options)
    Path(sys.argv[2]).write_text(str(process.pid))


def misbehave(mode: str, request: dict[str, Any]) -> None:
    """Does on a call what the mode says."""
    if mode == "die":
        sys.stderr.write("panic: out of luck\n")
        sys.stderr.flush()
        os._exit(3)
    if mode == "hang":
        time.sleep(600)
    if mode == "close-stdout":
        os.close(1)
        time.sleep(600)
    if mode == "long-line":
        sys.stdout.write("x" * (10 * 1024 * 1024) + "\n")
        sys.stdout.flush()
    if mode == "garbage":
        for line in ("Hello!", "[1, 2]", '{"id": 1}', '{"id": [1], "result": {}}', '{"method": 7}', "\x00\x01", "[" * 100_000):
            sys.stdout.write(line + "\n")
    if mode == "flood":
        noise = b"warning: something\n" * 4096
        for _ in range(400):
            os.write(2, noise)
    if mode == "chatter":
        while True:
            sys.stdout.write("progress\n" * 1000)
    if mode == "grandchild":
        sleeper()
        os._exit(4)
    if mode == "runaway":
        sleeper(start_new_session=True)
        os._exit(5)
    say({"jsonrpc": "2.0", "id": request["id"], "result": {"content": [{"type": "text", "text": mode}]}})


def main(mode: str) -> None:
    """Serves until its input ends, or longer."""
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sleeper()
    if mode == "deaf":
        time.sleep(600)
    if mode == "late":
        time.sleep(1.5)
    for line in sys.stdin:
        request = json.loads(line)
        method = request.get("method")
        if method == "initialize":
            say(
                {"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32022, "message": "this connection speaks 2026-07-28"}}
            )
        elif method == "server/discover":
            say(
                {
                    "jsonrpc": "2.0",
                    "id": request["id"],
                    "result": {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}},
                }
            )
        elif method == "tools/list":
            say({"jsonrpc": "2.0", "id": request["id"], "result": {"tools": TOOLS}})
        elif method == "tools/call":
            if mode not in ("grandchild", "runaway", "stubborn") and len(sys.argv) > 2:
                with Path(sys.argv[2]).open("a") as calls:
                    calls.write(request["params"]["name"] + "\n")
            misbehave(mode, request)
    while mode == "stubborn":
        time.sleep(600)


if __name__ == "__main__":
    main(sys.argv[1])
