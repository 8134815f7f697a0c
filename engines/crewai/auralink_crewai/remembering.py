"""Writes what a team learned into the user's memory, when its definition says so."""

from collections.abc import Callable
from typing import Any

from auralink_engine import Emit
from auralink_engine.team import FACTS_SCHEMA, facts_question, loads, memory_of

from auralink_crewai.crews import Work
from auralink_crewai.models import GatewayModel

SECRETARY = "memory"


def remember(work: Work, emit: Emit) -> None:
    """Asks the team's model for the facts of the answer and keeps them; a memory that does not take them is told, and fails no run."""
    connection = work.team.memory
    if connection is None or not work.answer:
        return
    model = GatewayModel(owner=SECRETARY, gateway=work.gateway, model=work.team.model, made=[])
    question = facts_question(work.job.input["task_description"], work.answer)
    with model.answering(FACTS_SCHEMA):
        said = model.call([{"role": "user", "content": question}])
    try:
        facts = [str(fact) for fact in loads(said)["facts"]]
    except (ValueError, KeyError, TypeError):
        emit(
            "log", level="warning", message=f"nothing was written to {connection}: the model gave no list of facts: {said[:200]}"
        )
        return
    work.more["remembered"] = _keep(work, connection, facts, lambda why: emit("log", level="warning", message=why))


def _keep(work: Work, connection: str, facts: list[str], warn: Callable[[str], Any]) -> str | None:
    """The name of the entity that has the facts now."""
    entities, observations = memory_of(work.team, work.job, facts)
    text, failed, data = work.tools.call(f"{connection}__create_entities", entities)
    if not failed and isinstance(data, dict) and not data.get("entities", [None]):  # it is there from an earlier run
        text, failed, _ = work.tools.call(f"{connection}__add_observations", observations)
    if failed:
        warn(f"nothing was written to {connection}: {text}")
        return None
    name: str = entities["entities"][0]["name"]
    return name
