"""Runs a definition in the engine against gateways of its own, and keeps what happened."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from auralink.core.secret import Secret
from auralink.runs.engines import Engines, Failure, Result, Start
from auralink.workflows.checking import check
from tests.engines.gateway import Gateway, Model, running_gateway

ACCEPTED = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)


class Ran:
    """A run's outcome, what it told, and what the gateways saw."""

    def __init__(self, outcome: Result | Failure, events: list[dict[str, Any]], gateway: Gateway) -> None:
        self.outcome = outcome
        self.events = events
        self.gateway = gateway

    @property
    def output(self) -> Any:
        assert isinstance(self.outcome, Result), self.outcome
        return self.outcome.output

    @property
    def failure(self) -> Failure:
        assert isinstance(self.outcome, Failure), self.outcome
        return self.outcome

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [event["data"] for event in self.events if event["type"] == kind]


async def ran(engines: Engines, definition: Mapping[str, Any], model: Model, **given: Any) -> Ran:
    """Runs a definition; `gateway_is` changes the gateway first."""
    prepare = given.pop("gateway_is", lambda gateway: None)
    async with running_gateway(model) as gateway:
        prepare(gateway)
        events: list[dict[str, Any]] = []
        outcome = await engines.execute(a_start(definition, gateway, given), collector(events))
        return Ran(outcome, events, gateway)


def a_start(definition: Mapping[str, Any], gateway: Gateway, given: dict[str, Any], run_id: UUID | None = None) -> Start:
    return Start(
        run_id=run_id or uuid4(),
        attempt=1,
        engine="langgraph",
        definition=check(dict(definition)).stored(),
        input=given,
        mcp_url=f"{gateway.url}/mcp",
        llm_url=f"{gateway.url}/v1",
        token=Secret("the-run-token"),
        accepted_at=ACCEPTED,
        deadline=time.time() + 60,
        memory_mb=512,
    )


def collector(events: list[dict[str, Any]]) -> Any:
    async def collect(event: dict[str, Any]) -> None:
        events.append(event)

    return collect


def graph(nodes: dict[str, Any], *ways: tuple[Any, str], **more: Any) -> dict[str, Any]:
    """A definition that begins at its first node."""
    inputs = {"type": "object", "properties": {"question": {"type": "string"}, "items": {"type": "array"}}}
    edges = [{"from": source, "to": target} for source, target in ways]
    return {"start": next(iter(nodes)), "nodes": nodes, "edges": edges, "input": inputs} | more
