"""Nodes that ask a model: once (`llm`), or in a loop with tools (`agent`)."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jsonschema
from auralink_engine import Emit
from auralink_engine.values import look_up, render, text_of
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.tool import ToolCall

from auralink_langgraph.errors import NodeFailed
from auralink_langgraph.gateways import Gateways, OnToken, content_of

Node = Mapping[str, Any]
MAX_SHOWN = 4_000
ANSWER_NOW = "You have used all your turns. Answer now with what you have found, without tools."
SCHEMA_ATTEMPTS = 2


async def ask_model(name: str, node: Node, variables: Mapping[str, Any], gateways: Gateways, emit: Emit) -> Any:
    """An `llm` node: the model's text, or the JSON that its schema asks for."""
    messages = messages_of(node, variables)
    schema = node["schema"]
    if schema is None:
        answer = await gateways.ask(messages, node["model"], _tokens(name, node, emit), **_options(node))
        _tell(name, answer, emit)
        return content_of(answer)
    return await _ask_for_json(name, node, messages, gateways, emit)


async def run_agent(name: str, node: Node, variables: Mapping[str, Any], gateways: Gateways, emit: Emit) -> Any:
    """An `agent` node: {answer, calls}, once the model asks for no more tools; after `max_turns` it has to answer."""
    messages = messages_of(node, variables)
    tools = [_described(tool) for tool in _allowed(node["tools"], gateways)]
    on_token = _tokens(name, node, emit)
    for _ in range(node["max_turns"]):
        answer = await gateways.ask(messages, node["model"], on_token, tools=tools or None, **_options(node))
        messages.append(answer)
        _tell(name, answer, emit)
        if not (answer.tool_calls or answer.invalid_tool_calls):
            break
        messages += await _use_tools(name, answer, gateways, {tool["function"]["name"] for tool in tools}, emit)
    else:
        messages.append(HumanMessage(ANSWER_NOW))
        answer = await gateways.ask(messages, node["model"], on_token, **_options(node))
        messages.append(answer)
        _tell(name, answer, emit)
    calls = _calls_in(messages)
    if node["schema"] is None:
        return {"answer": content_of(answer), "calls": calls}
    messages.append(HumanMessage("Give that answer as JSON of the schema."))
    return {"answer": await _ask_for_json(name, node, messages, gateways, emit), "calls": calls}


def messages_of(node: Node, variables: Mapping[str, Any]) -> list[BaseMessage]:
    """Instructions, what was said before (`history`: a list of {role, content}), and the prompt."""
    instructions = render(node["instructions"], variables).strip()
    before = look_up(node["history"], variables) if node["history"] else None
    messages: list[BaseMessage] = [SystemMessage(instructions)] if instructions else []
    for said in before or ():
        kind = AIMessage if said.get("role") == "assistant" else HumanMessage
        messages.append(kind(text_of(said.get("content"))))
    prompt = render(node["prompt"], variables).strip()
    return [*messages, HumanMessage(prompt)] if prompt else messages


async def _ask_for_json(name: str, node: Node, messages: list[BaseMessage], gateways: Gateways, emit: Emit) -> Any:
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": node["schema"]}}
    problem = ""
    for _ in range(SCHEMA_ATTEMPTS):
        answer = await gateways.ask(messages, node["model"], response_format=wanted, **_options(node))
        _tell(name, answer, emit)
        try:
            value = json.loads(_unfenced(content_of(answer)))
            jsonschema.validate(value, node["schema"])
        except (ValueError, jsonschema.ValidationError) as error:
            problem = error.message if isinstance(error, jsonschema.ValidationError) else f"it is not JSON: {error}"
            messages = [
                *messages,
                answer,
                HumanMessage(f"That does not fit the schema: {problem}. Give the corrected JSON only."),
            ]
        else:
            return value
    raise NodeFailed(f"the answer of model {node['model']!r} does not fit the schema: {problem}")


async def _use_tools(name: str, answer: AIMessage, gateways: Gateways, allowed: set[str], emit: Emit) -> list[ToolMessage]:
    """Makes the calls of one turn side by side; the answers are in the order of the calls."""
    malformed = [
        ToolMessage(f"the arguments are not JSON: {call['error'] or call['args']}", tool_call_id=call["id"] or "", status="error")
        for call in answer.invalid_tool_calls
    ]
    made = await asyncio.gather(*(_use_tool(call, gateways, allowed) for call in answer.tool_calls))
    for message in (*made, *malformed):
        shown = content_of(message)[:MAX_SHOWN]
        emit("message", node=name, role="tool", name=message.name, content=shown, status=message.status)
    return [*made, *malformed]


async def _use_tool(call: ToolCall, gateways: Gateways, allowed: set[str]) -> ToolMessage:
    call_id = call["id"] or ""
    if call["name"] not in allowed:
        return ToolMessage(f"there is no tool {call['name']!r}", tool_call_id=call_id, name=call["name"], status="error")
    return await gateways.call(call["name"], call["args"], call_id)


def _calls_in(messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
    """The tool calls of a conversation with their answers."""
    answers = {message.tool_call_id: message for message in messages if isinstance(message, ToolMessage)}
    asked = [call for message in messages if isinstance(message, AIMessage) for call in message.tool_calls]
    return [
        {"tool": call["name"], "arguments": call["args"], "answer": content_of(made), "failed": made.status == "error"}
        for call in asked
        if (made := answers.get(call["id"] or "")) is not None
    ]


def _allowed(patterns: Sequence[str], gateways: Gateways) -> list[Any]:
    for pattern in patterns:
        if "*" not in pattern and pattern not in gateways.tools:
            raise NodeFailed(f"the user has no tool {pattern!r}; there are {', '.join(gateways.tools) or 'none'}")
    return [tool for name, tool in gateways.tools.items() if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _described(tool: Any) -> dict[str, Any]:
    """A tool as the model is told of it: name, text and schema exactly as the gateway gave them."""
    return {"type": "function", "function": {"name": tool.name, "description": tool.description, "parameters": tool.args_schema}}


def _options(node: Node) -> dict[str, Any]:
    return {"temperature": node["temperature"], "max_tokens": node["max_tokens"]}


def _tokens(name: str, node: Node, emit: Emit) -> OnToken | None:
    return (lambda text: emit("token", node=name, text=text)) if node["stream"] else None


def _tell(name: str, answer: AIMessage, emit: Emit) -> None:
    calls = [{"name": call["name"], "arguments": call["args"]} for call in answer.tool_calls]
    emit("message", node=name, role="assistant", content=content_of(answer), tool_calls=calls)


def _unfenced(text: str) -> str:
    """JSON without the Markdown fence that some models put around it."""
    text = text.strip()
    if text.startswith("```"):
        text = text.partition("\n")[2].rpartition("```")[0]
    return text
