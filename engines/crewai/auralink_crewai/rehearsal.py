"""What the engine rehearses with before it is forked: a small team in each mode, and the gateways' answers."""

import json
from typing import Any

import httpx


def _member(name: str) -> dict[str, Any]:
    about = {"role": name, "goal": "Rehearse", "instructions": "", "model": "none", "tools": ["rehearse"], "can_delegate": False}
    return {"name": name, **about}


def _team(mode: str) -> dict[str, Any]:
    return {
        "name": "Rehearsal",
        "description": "",
        "mode": mode,
        "members": [_member("one"), _member("two")],
        "manager": None,
        "model": "none",
        "options": {"rounds": 1},
        "memory": None,
        "limits": {"turns": 9, "member_turns": 4},
    }


DEFINITIONS = [_team(mode) for mode in ("sequential", "hierarchical", "consensus")]


def answer_models(request: httpx.Request) -> httpx.Response:
    """A tool call first, or a delegation; a text when it has answered."""
    asked = json.loads(request.content)
    message: dict[str, Any] = {"role": "assistant", "content": '{"for": "one", "why": "rehearsal"}'}
    if "tools" in asked and asked["messages"][-1]["role"] != "tool":
        name = asked["tools"][0]["function"]["name"]
        arguments = json.dumps({"task": "rehearse", "context": "none", "coworker": "one"} if name != "rehearse" else {})
        call = {"id": "call", "type": "function", "function": {"name": name, "arguments": arguments}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
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
