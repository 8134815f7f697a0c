"""Runs a flow in the engine `prefect` against gateways of its own."""

import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4

from auralink.core.secret import Secret
from auralink.flows.checking import check
from auralink.runs.engines import Engines, Start
from tests.engines.gateway import Gateway, Model, running_gateway, said
from tests.engines.running import ACCEPTED, Ran, collector

ADD = "odd__Nme"
"""The gateway's tool that adds."""


def step(name: str, type: str, **more: Any) -> dict[str, Any]:  # noqa: A002 (as in definitions)
    """A step as a user writes it."""
    return {"name": name, "type": type, **more}


def add(name: str, first: Any, second: Any, **more: Any) -> dict[str, Any]:
    """A step that calls a tool; its result is {"result": the sum as a text}."""
    return step(name, "tool", tool=ADD, arguments={"first": first, "second": second}, **more)


def a_flow(steps: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    """A definition as a user writes it, with the parameters `items` and `word`."""
    parameters = {"items": {"type": "array", "default": [1, 2, 3]}, "word": {"type": "string"}}
    return {"name": "A flow", "input": {"type": "object", "properties": parameters}, "steps": list(steps), **more}


def echo(body: Mapping[str, Any]) -> Mapping[str, Any]:
    return said(f"echo: {body['messages'][-1]['content']}")


async def ran_flow(engines: Engines, definition: Mapping[str, Any], model: Model = echo, **given: Any) -> Ran:
    """Runs a flow; `gateway_is` changes the gateway first, the rest is its input."""
    prepare = given.pop("gateway_is", lambda gateway: None)
    async with running_gateway(model) as gateway:
        prepare(gateway)
        events: list[dict[str, Any]] = []
        outcome = await engines.execute(flow_start(definition, gateway, given), collector(events))
        return Ran(outcome, events, gateway)


def flow_start(
    definition: Mapping[str, Any], gateway: Gateway, given: Mapping[str, Any], run_id: UUID | None = None, attempt: int = 1
) -> Start:
    """The start of a flow's run."""
    return Start(
        run_id=run_id or uuid4(),
        attempt=attempt,
        engine="prefect",
        definition=check(dict(definition)).stored(),
        input=dict(given),
        mcp_url=f"{gateway.url}/mcp",
        llm_url=f"{gateway.url}/v1",
        token=Secret("the-run-token"),
        accepted_at=ACCEPTED,
        deadline=time.time() + 90,
        memory_mb=768,
    )


def states_of(ran: Ran, node: str) -> list[str]:
    """What was told of a step, in order."""
    return [told["state"] for told in ran.told("state") if told["node"] == node]
