"""What the engine rehearses with before it is forked: a flow that uses everything once, and the gateways' answers."""

import json
from typing import Any

import httpx

_STEP: dict[str, Any] = {
    "title": "",
    "needs": [],
    "when": None,
    "retries": 0,
    "retry_delay": 0.0,
    "timeout": None,
    "cache": False,
    "on_error": "fail",
}
_ASKING = {"instructions": "", "model": "none", "schema": {"type": "object"}, "temperature": None, "max_tokens": None}
_USE = _STEP | {"name": "use", "type": "tool", "tool": "rehearse", "arguments": {"a": "{{ item }}"}, "cache": True}

DEFINITION: dict[str, Any] = {
    "name": "rehearsal",
    "description": "",
    "input": {"type": "object", "properties": {"items": {"type": "array"}}},
    "steps": [
        _STEP | _ASKING | {"name": "ask", "type": "llm", "prompt": "{{ items }}", "timeout": 60.0},
        _STEP
        | {"name": "each", "type": "map", "over": "items", "item": "item", "width": 2, "steps": [_USE], "output": None}
        | {"needs": ["ask"], "when": "ask.a == 'b'"},
    ],
    "output": "{{ each }}",
    "limits": {"concurrency": 2, "tokens": None, "seconds": None, "cost_usd": None},
}


def answer_models(_request: httpx.Request) -> httpx.Response:
    """JSON that says nothing."""
    choice = {"index": 0, "message": {"role": "assistant", "content": '{"a": "b"}'}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    answer = {"id": "1", "object": "chat.completion", "created": 0, "model": "none", "choices": [choice], "usage": usage}
    return httpx.Response(200, json=answer)


def answer_tools(request: httpx.Request) -> httpx.Response:
    """One tool that answers."""
    asked = json.loads(request.content)
    if "id" not in asked:
        return httpx.Response(202)
    tool = {"name": "rehearse", "description": "", "inputSchema": {"type": "object", "properties": {}}}
    results = {
        "initialize": {
            "protocolVersion": asked.get("params", {}).get("protocolVersion"),
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "rehearsal", "version": "1"},
        },
        "tools/list": {"tools": [tool]},
        "tools/call": {"content": [{"type": "text", "text": "done"}], "structuredContent": {"done": True}, "isError": False},
    }
    return httpx.Response(200, json={"jsonrpc": "2.0", "id": asked["id"], "result": results[asked["method"]]})
