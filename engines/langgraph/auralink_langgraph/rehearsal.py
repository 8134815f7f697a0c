"""What the engine rehearses with before it is forked: a definition that uses everything once, and the gateways' answers."""

import json
from typing import Any

import httpx
import httpx2

_ASKING = {"instructions": "", "model": "none", "history": None, "temperature": None, "max_tokens": None, "stream": False}
_NODE = {"title": "", "into": None, "on_error": "fail"}
_ANSWER = {"type": "object", "properties": {"a": {"type": "string"}}}

DEFINITION: dict[str, Any] = {
    "input": {"type": "object", "properties": {"question": {"type": "string"}}},
    "state": {"pieces": {"default": [], "merge": "append"}},
    "start": "work",
    "nodes": {
        "work": _NODE
        | _ASKING
        | {"type": "agent", "prompt": "{{ question }}", "schema": None, "tools": ["*"], "max_turns": 3, "calls_into": None},
        "sort": _NODE | _ASKING | {"type": "llm", "prompt": "?", "schema": _ANSWER, "into": "pieces"},
        "again": {
            "type": "branch",
            "title": "",
            "cases": [{"when": "length(pieces) == `0`", "to": "work"}],
            "otherwise": "end",
            "max_visits": 1,
        },
    },
    "edges": [{"from": "work", "to": "sort"}, {"from": "sort", "to": "again"}],
    "output": "{{ pieces }}",
    "limits": {"steps": 10, "tokens": None, "seconds": None, "concurrency": 2},
}


def answer_models(request: httpx2.Request) -> httpx2.Response:
    """A tool call first, a text when the tool has answered, JSON when that is asked for."""
    asked = json.loads(request.content)
    message: dict[str, Any] = {"role": "assistant", "content": '{"a": "b"}'}
    if "tools" in asked and asked["messages"][-1]["role"] != "tool":
        call = {"id": "call", "type": "function", "function": {"name": "rehearse", "arguments": "{}"}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    answer = {"id": "1", "object": "chat.completion", "created": 0, "model": "none", "choices": [choice], "usage": usage}
    return httpx2.Response(200, json=answer)


def answer_tools(request: httpx.Request) -> httpx.Response:
    """One tool that answers."""
    asked = json.loads(request.content)
    if "id" not in asked:
        return httpx.Response(202)
    tool = {"name": "rehearse", "description": "", "inputSchema": {"type": "object", "properties": {}}}
    text = {"type": "text", "text": "done"}
    results = {
        "initialize": {
            "protocolVersion": asked.get("params", {}).get("protocolVersion"),
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "rehearsal", "version": "1"},
        },
        "tools/list": {"tools": [tool]},
        "tools/call": {"content": [text], "structuredContent": {"done": True}, "isError": False},
    }
    return httpx.Response(200, json={"jsonrpc": "2.0", "id": asked["id"], "result": results[asked["method"]]})
