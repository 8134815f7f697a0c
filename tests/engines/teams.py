"""Runs a team in an engine against gateways of its own, and keeps what happened; for every engine that runs teams.

Definitions are written here as the service stores them (every default filled in), since engines must take exactly that.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4

from auralink.core.secret import Secret
from auralink.runs.engines import Engines, Start
from tests.engines.gateway import Gateway, Model, running_gateway, said
from tests.engines.running import ACCEPTED, Ran, collector

TASK = "Research the latest WebRTC standards and create a summary"
MODEL = "scripted"
LIMITS: dict[str, Any] = {
    "turns": 20,
    "member_turns": 8,
    "answer_tokens": None,
    "temperature": None,
    "seconds": None,
    "tokens": None,
    "cost_usd": None,
}


def member(name: str, **more: Any) -> dict[str, Any]:
    """A member by its name; whatever else it should have by keyword."""
    about = {"role": name.capitalize(), "goal": f"Do the work of the {name}", "instructions": "", "model": MODEL}
    return {"name": name, **about, "tools": [], "can_delegate": False, **more}


def a_team(mode: str, members: Sequence[str | Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    """A stored definition; members are names or what `member` made, `limits` are added to the usual ones."""
    limits = LIMITS | more.pop("limits", {})
    everybody = [member(given) if isinstance(given, str) else dict(given) for given in members]
    plain = {"name": "Team", "description": "", "version": 1, "manager": None, "model": MODEL, "options": {}, "memory": None}
    return {**plain, "mode": mode, "members": everybody, "limits": limits, "input": {"type": "object"}, **more}


async def ran_team(engines: Engines, engine: str, definition: Mapping[str, Any], model: Model, **given: Any) -> Ran:
    """Runs a team; `given` is the input (the task is TASK unless it says otherwise), `gateway_is` changes the gateway first."""
    prepare = given.pop("gateway_is", lambda gateway: None)
    async with running_gateway(model) as gateway:
        prepare(gateway)
        events: list[dict[str, Any]] = []
        outcome = await engines.execute(team_start(engine, definition, gateway, **given), collector(events))
        return Ran(outcome, events, gateway)


def team_start(
    engine: str, definition: Mapping[str, Any], gateway: Gateway, run_id: UUID | None = None, attempt: int = 1, **given: Any
) -> Start:
    """The start of a team's run. The same `run_id` with another `attempt` is the same run again."""
    return Start(
        run_id=run_id or uuid4(),
        attempt=attempt,
        engine=engine,
        definition={**definition, "team_type": engine},
        input={"task_description": TASK, **given},
        mcp_url=f"{gateway.url}/mcp",
        llm_url=f"{gateway.url}/v1",
        token=Secret("the-run-token"),
        accepted_at=ACCEPTED,
        deadline=time.time() + 60,
        memory_mb=1024,
    )


async def attempts_of(engines: Engines, engine: str, definition: Mapping[str, Any], model: Callable[[], Model]) -> list[str]:
    """What two attempts of one run send to both gateways, byte for byte; `model` makes a fresh model for each."""
    run_id, sent = uuid4(), []
    for attempt in (1, 2):
        async with running_gateway(model()) as gateway:
            await engines.execute(team_start(engine, definition, gateway, run_id, attempt), collector([]))
            sent.append(json.dumps([gateway.asked, gateway.called]))
    return sent


class Script:
    """A model that gives its answers in order, whatever it is asked, and says the last one again when they are used up."""

    def __init__(self, *answers: Any) -> None:
        self._answers = [said(answer) if isinstance(answer, str) else answer for answer in answers]

    def __call__(self, _body: Mapping[str, Any]) -> Any:
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def messages_of(run: Ran) -> list[tuple[str, str, str]]:
    """Who said what to whom: (from, to, content), in order."""
    return [(message["from"], message["to"], message["content"]) for message in run.told("message")]


def speakers_of(run: Ran) -> list[str]:
    """Who spoke, in order."""
    return [message["from"] for message in run.told("message")]


def texts_of(body: Mapping[str, Any]) -> str:
    """All that a model was told in one request."""
    contents = [message.get("content") for message in body["messages"]]
    return "\n".join(text if isinstance(text, str) else json.dumps(text) for text in contents if text)


def tools_of(body: Mapping[str, Any]) -> list[str]:
    """The names of the tools that a model was offered in one request."""
    return [tool["function"]["name"] for tool in body.get("tools", ())]
