"""An engine without a framework: five steps through the two gateways, one after the other, with plain HTTP."""

import asyncio
import json
import urllib.error
import urllib.request
from typing import Any

from auralink_engine import Emit, Job, Lost

STEPS = ("read", "plain", "model", "keyed", "plain")
REVISION = "2026-07-28"
ENVELOPE = {"protocolVersion": REVISION, "clientCapabilities": {}, "clientInfo": {"name": "steps", "version": "1"}}
META = {f"io.modelcontextprotocol/{name}": value for name, value in ENVELOPE.items()}
TIMEOUT = 60.0


def warm() -> None:
    """Nothing is heavy here."""


async def run(job: Job, emit: Emit) -> Any:
    """The answers of the five steps."""
    answers = []
    for number, kind in enumerate(STEPS):
        emit("state", node=f"{number} {kind}")
        answers.append(await asyncio.to_thread(_step, job, number, kind))
    return answers


def _step(job: Job, number: int, kind: str) -> Any:
    line = job.input["line"]
    if kind == "model":
        body = {"model": "auto", "messages": [{"role": "user", "content": f"Say the word of {line}."}]}
        return _post(job, f"{job.llm_url}/chat/completions", body, {})["choices"][0]["message"]["content"]
    arguments = {"line": line, "step": number}
    params = {"name": f"sink__{kind}", "arguments": arguments, "_meta": META}
    headers = {"MCP-Protocol-Version": REVISION, "Mcp-Method": "tools/call", "Mcp-Name": params["name"]}
    answer = _post(job, job.mcp_url, {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}, headers)
    if "error" in answer or answer["result"].get("isError"):
        raise RuntimeError(json.dumps(answer))
    return answer["result"]["content"][0]["text"]


def _post(job: Job, url: str, body: Any, headers: dict[str, str]) -> Any:
    common = {"Authorization": f"Bearer {job.token}", "Content-Type": "application/json"}
    accept = {"Accept": "application/json, text/event-stream"}
    request = urllib.request.Request(url, json.dumps(body).encode(), {**common, **accept, **headers})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            return _parsed(answer.read().decode())
    except urllib.error.HTTPError as error:
        raise Lost(f"{error.code} {error.read()[:300]!r}") from error
    except (OSError, ValueError) as error:
        raise Lost(f"the gateway does not answer: {error}") from error


def _parsed(text: str) -> Any:
    """A body, or the last event of a stream."""
    data = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    return json.loads(data[-1] if data else text)
