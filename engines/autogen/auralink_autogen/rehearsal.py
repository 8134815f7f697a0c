"""What the engine rehearses with before it is forked: small teams, and the gateways' answers."""

import json
from typing import Any

import httpx
import httpx2

_MEMBER: dict[str, Any] = {"role": "r", "goal": "g", "instructions": "", "model": "none", "can_delegate": False}
_TEAM: dict[str, Any] = {
    "name": "rehearsal",
    "description": "",
    "members": [_MEMBER | {"name": "a", "tools": ["rehearse"]}, _MEMBER | {"name": "b", "tools": []}],
    "manager": None,
    "model": "none",
    "options": {"rounds": 1},
    "memory": None,
    "limits": {"turns": 2, "member_turns": 3, "answer_tokens": None, "temperature": None},
}
DEFINITIONS = [_TEAM | {"mode": mode} for mode in ("round_robin", "selector", "swarm", "debate")]


def answer_models(request: httpx2.Request) -> httpx2.Response:
    """A tool call first, then a text that says nothing."""
    asked = json.loads(request.content)
    text = '{"winner": "for", "why": "", "answer": ""}' if "response_format" in asked else "a"
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if "tools" in asked and asked["messages"][-1]["role"] != "tool":
        name = asked["tools"][0]["function"]["name"]
        message = {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call", "type": "function", "function": {"name": name, "arguments": "{}"}}],
        }
    reason = "tool_calls" if "tool_calls" in message else "stop"
    choice = {"index": 0, "message": message, "finish_reason": reason}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    answer = {"id": "1", "object": "chat.completion", "created": 0, "model": "none", "choices": [choice], "usage": usage}
    return httpx2.Response(200, json=answer)


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
