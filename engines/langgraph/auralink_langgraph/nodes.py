"""What each type of node does: reads the variables, gives a result."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from auralink_engine import Emit
from auralink_engine.values import ExpressionFailed, look_up, render, split, text_of, value_of, verify

from auralink_langgraph.asking import Node, ask_model, run_agent
from auralink_langgraph.errors import NodeFailed
from auralink_langgraph.gateways import Gateways, content_of, result_of

Variables = Mapping[str, Any]
Work = Callable[[str, Node, Variables, Gateways, Emit], Awaitable[Any]]
WITH_TOOLS = {"tool", "memory", "approval", "subworkflow"}
INTERNAL = "auralink"
NOTHING_KNOWN: dict[str, list[Any]] = {"entities": [], "relations": []}


def needs_tools(node: Node) -> bool:
    """Whether a node calls tools."""
    if node["type"] == "map":
        return needs_tools(node["each"])
    return node["type"] in WITH_TOOLS or bool(node["type"] == "agent" and node["tools"])


async def use_tool(_name: str, node: Node, variables: Variables, gateways: Gateways, _emit: Emit) -> Any:
    """A `tool` node."""
    return await _call(gateways, node["tool"], value_of(node["arguments"], variables))


async def use_memory(_name: str, node: Node, variables: Variables, gateways: Gateways, _emit: Emit) -> Any:
    """A `memory` node: recall gives {entities, relations}; remember gives {entity, added}."""
    connection = node["connection"]
    if node["operation"] == "remember":
        return await _remember(connection, node, variables, gateways)
    if node["query"] is None:
        names = _texts(value_of(node["names"], variables))
        return await _call(gateways, f"{connection}__open_nodes", {"names": names}) if names else NOTHING_KNOWN
    query = render(node["query"], variables).strip()
    return await _call(gateways, f"{connection}__search_nodes", {"query": query}) if query else NOTHING_KNOWN


async def _remember(connection: str, node: Node, variables: Variables, gateways: Gateways) -> Any:
    """Adds to what is known of an entity, or makes it; repeating it adds nothing."""
    name, facts = render(node["entity"], variables).strip(), _texts(value_of(node["observations"], variables))
    if not name or not facts:
        return {"entity": name, "added": []}
    entity = {"name": name, "entityType": render(node["entity_type"], variables).strip() or "note", "observations": facts}
    made = await _call(gateways, f"{connection}__create_entities", {"entities": [entity]})
    if made["entities"]:
        return {"entity": name, "added": facts}
    more = {"observations": [{"entityName": name, "contents": facts}]}
    results = await _call(gateways, f"{connection}__add_observations", more)
    return {"entity": name, "added": look_up("results[0].addedObservations", results) or []}


async def ask_person(_name: str, node: Node, variables: Variables, gateways: Gateways, _emit: Emit) -> Any:
    """An `approval` node: {decision, note, answer}; the call is answered when a person has decided, in a later attempt if need be."""
    given = {"question": render(node["question"], variables)}
    details = value_of(node["details"], variables)
    return await _call(gateways, f"{INTERNAL}__ask_approval", given if details is None else given | {"details": details})


async def run_other(_name: str, node: Node, variables: Variables, gateways: Gateways, _emit: Emit) -> Any:
    """A `subworkflow` node: the other run's output."""
    given = {"name": node["name"], "input": value_of(node["input"], variables)}
    return await _call(gateways, f"{INTERNAL}__run_{node['kind']}", given)


async def set_values(_name: str, node: Node, variables: Variables, _gateways: Gateways, _emit: Emit) -> Any:
    """A `set` node: all of its values, made of the state before it."""
    return {name: value_of(value, variables) for name, value in node["values"].items()}


async def split_text(_name: str, node: Node, variables: Variables, _gateways: Gateways, _emit: Emit) -> Any:
    """A `split` node: the pieces of a text."""
    return split(render(node["text"], variables), node["max_chars"])


async def verify_quotes(_name: str, node: Node, variables: Variables, _gateways: Gateways, _emit: Emit) -> Any:
    """A `verify` node: which quotations stand in a source, and in which."""
    quotes, sources = look_up(node["quotes"], variables) or [], look_up(node["sources"], variables) or []
    verified, unverified = verify(_texts(quotes), sources)
    return {"verified": verified, "unverified": unverified}


async def do_for_each(name: str, node: Node, variables: Variables, gateways: Gateways, emit: Emit) -> Any:
    """A `map` node: the results in the order of the items, `width` of them being worked on at a time."""
    items = look_up(node["over"], variables)
    if not isinstance(items, list):
        raise NodeFailed(f"{node['over']!r} is no list but {type(items).__name__}")
    each, room = node["each"], asyncio.Semaphore(node["width"])

    async def one(index: int, item: Any) -> Any:
        async with room:
            given = {**variables, node["item"]: item, "index": index}
            result = await perform(f"{name}[{index}]", each, given, gateways, emit)
            return result["answer"] if each["type"] == "agent" and "answer" in result else result

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(index, item)) for index, item in enumerate(items)]
    except BaseExceptionGroup as failures:
        raise _first(failures) from failures
    return [task.result() for task in tasks]


async def perform(name: str, node: Node, variables: Variables, gateways: Gateways, emit: Emit) -> Any:
    """A node's work; with `on_error: continue` a failure is a result, `{"error": …}`. Raises NodeFailed, naming the node."""
    try:
        return await WORK[node["type"]](name, node, variables, gateways, emit)
    except (NodeFailed, ExpressionFailed) as error:
        if node.get("on_error") == "continue":
            emit("log", level="warning", node=name, message=str(error))
            return {"error": str(error)}
        said = str(error)
        raise NodeFailed(said if said.startswith("node ") else f"node {name!r} ({node['type']}): {said}") from error


WORK: dict[str, Work] = {
    "llm": ask_model,
    "agent": run_agent,
    "tool": use_tool,
    "memory": use_memory,
    "approval": ask_person,
    "subworkflow": run_other,
    "set": set_values,
    "split": split_text,
    "verify": verify_quotes,
    "map": do_for_each,
}


async def _call(gateways: Gateways, tool: str, arguments: Mapping[str, Any]) -> Any:
    answer = await gateways.call(tool, arguments)
    if answer.status == "error":
        raise NodeFailed(f"tool {tool!r}: {content_of(answer)}")
    return result_of(answer)


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [text for text in (text_of(one).strip() for one in values) if text]


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
