"""Builds a LangGraph graph from a definition: a channel for each variable, a node for each node, Commands for branches."""

from collections.abc import Mapping
from typing import Annotated, Any, TypedDict

from auralink_engine import Emit, Job
from auralink_engine.values import ExpressionFailed, is_true
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command

from auralink_langgraph.errors import NodeFailed
from auralink_langgraph.gateways import Gateways
from auralink_langgraph.nodes import Node, perform

VISITS = "_visits"
"""How often each bounded branch has been come to; no variable's name begins with an underscore."""
State = dict[str, Any]
Step = Any  # LangGraph's own types of a node are overloads that no function of a dynamic state satisfies


def build(definition: Mapping[str, Any], gateways: Gateways, emit: Emit) -> CompiledStateGraph[Any]:
    """The graph of a checked definition."""
    graph = StateGraph(_state_type(definition))
    for name, node in definition["nodes"].items():
        if node["type"] == "branch":
            ways = (*(case["to"] for case in node["cases"]), node["otherwise"])
            graph.add_node(_place(name), _branch(name, node, emit), destinations=tuple(dict.fromkeys(map(_place, ways))))
        else:
            graph.add_node(_place(name), _step(name, node, gateways, emit))
    graph.add_edge(START, _place(definition["start"]))
    for edge in definition["edges"]:
        source = edge["from"]
        graph.add_edge(_place(source) if isinstance(source, str) else [_place(one) for one in source], _place(edge["to"]))
    return graph.compile()


def first_state(definition: Mapping[str, Any], job: Job) -> State:
    """The variables before the first node: the input, the defaults, the time of acceptance, and nothing (null) in the rest."""
    properties = definition["input"].get("properties", {})
    state = dict.fromkeys(variables_of(definition))
    state |= {name: schema["default"] for name, schema in properties.items() if "default" in schema}
    state |= {name: variable["default"] for name, variable in definition["state"].items()}
    state |= {name: value for name, value in job.input.items() if name in state}
    return state | {"now": job.accepted_at.isoformat(), "run_id": job.origin or job.run}


def variables_of(definition: Mapping[str, Any]) -> list[str]:
    """Every variable: of the input, of the state, and what nodes write."""
    written = [name for node in definition["nodes"].values() for name in _written_by(node)]
    return list(dict.fromkeys([*definition["input"].get("properties", {}), *definition["state"], *written, "now", "run_id"]))


def _written_by(node: Node) -> list[str]:
    if node["type"] == "set":
        return list(node["values"])
    return [node[field] for field in ("into", "calls_into") if node.get(field)]


def _update_of(node: Node, result: Any) -> State:
    if node["type"] == "set":
        return dict(result)
    if node["type"] != "agent" or "calls" not in result:
        return {node["into"]: result} if node["into"] else {}
    parts = {node["into"]: result["answer"], node["calls_into"]: result["calls"]}
    return {name: value for name, value in parts.items() if name}


def _state_type(definition: Mapping[str, Any]) -> type[Any]:
    merges = {name: variable["merge"] for name, variable in definition["state"].items()}
    channels: dict[str, Any] = {name: _CHANNELS[merges.get(name, "replace")] for name in variables_of(definition)}
    return TypedDict("Variables", channels | {VISITS: _CHANNELS["update"]})  # type: ignore[operator, no-any-return]


def _append(old: list[Any] | None, new: Any) -> list[Any]:
    return [*(old or ()), *(new if isinstance(new, list) else () if new is None else (new,))]


def _update(old: dict[str, Any] | None, new: Any) -> dict[str, Any]:
    return {**(old or {}), **(new or {})}


_CHANNELS = {"replace": Any, "append": Annotated[list, _append], "update": Annotated[dict, _update]}


def _place(name: str) -> str:
    """A node's name in the graph: LangGraph wants node names apart from channel names."""
    return END if name == "end" else f"@{name}"


def _step(name: str, node: Node, gateways: Gateways, emit: Emit) -> Step:
    async def step(state: State) -> State:
        emit("node.started", node=name, kind=node["type"], title=node["title"])
        update = _update_of(node, await perform(name, node, state, gateways, emit))
        emit("node.finished", node=name, kind=node["type"])
        emit("state", node=name, update=update)
        return update

    return step


def _branch(name: str, node: Node, emit: Emit) -> Step:
    async def branch(state: State) -> Command[Any]:
        visit = state[VISITS].get(name, 0) + 1
        most = node["max_visits"]
        ways = () if most is not None and visit > most else node["cases"]
        try:
            target = next((case["to"] for case in ways if is_true(case["when"], state)), node["otherwise"])
        except ExpressionFailed as error:
            raise NodeFailed(f"node {name!r} (branch): {error}") from error
        emit("state", node=name, update={}, goes_to=target)
        return Command(update={VISITS: {name: visit}}, goto=_place(target))

    return branch
