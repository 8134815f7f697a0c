"""What the engine rehearses with before it is forked: a team with a tool, and the gateways' answers."""

import json
from typing import Any

import httpx2

_MEMBER = {"role": "?", "goal": "", "instructions": "", "model": "none", "can_delegate": False}
_LIMITS = {"turns": 2, "member_turns": 3, "answer_tokens": None, "temperature": None, "seconds": None}
DEFINITION: dict[str, Any] = {
    "name": "rehearsal",
    "description": "",
    "members": [_MEMBER | {"name": name, "tools": ["rehearse"]} for name in ("one", "other")],
    "manager": None,
    "model": "none",
    "options": {},
    "memory": None,
    "limits": _LIMITS,
}


def answer_models(request: httpx2.Request) -> httpx2.Response:
    """A tool call first, a handover if there is one to whom, else a text."""
    asked = json.loads(request.content)
    message: dict[str, Any] = {"role": "assistant", "content": "done"}
    names = [tool["function"]["name"] for tool in asked.get("tools", ())]
    told = asked["messages"][-1]["role"] == "tool"
    if wanted := next((name for name in names if name == ("handoff_to_other" if told else "rehearse")), None):
        call = {"id": "call", "type": "function", "function": {"name": wanted, "arguments": "{}"}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    answer = {"id": "1", "object": "chat.completion", "created": 0, "model": "none", "choices": [choice], "usage": usage}
    return httpx2.Response(200, json=answer)


def answer_tools(request: httpx2.Request) -> httpx2.Response:
    """One tool that answers."""
    asked = json.loads(request.content)
    if "id" not in asked:
        return httpx2.Response(202)
    results = {
        "initialize": {
            "protocolVersion": asked.get("params", {}).get("protocolVersion"),
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "rehearsal", "version": "1"},
        },
        "tools/list": {"tools": [{"name": "rehearse", "inputSchema": {"type": "object", "properties": {}}}]},
        "tools/call": {"content": [{"type": "text", "text": "done"}], "isError": False},
    }
    return httpx2.Response(200, json={"jsonrpc": "2.0", "id": asked["id"], "result": results[asked["method"]]})
