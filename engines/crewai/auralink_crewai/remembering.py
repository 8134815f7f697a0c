"""Writes what a team learned into the user's memory, when its definition says so."""

from dataclasses import replace

from auralink_engine import Emit
from auralink_engine.team import FACTS_SCHEMA, MemberFailed, facts_in, facts_question, memory_of

from auralink_crewai.crews import Work
from auralink_crewai.ending import Ending, Over
from auralink_crewai.models import GatewayModel

SECRETARY = "memory"


class Aside(Ending):
    """The run's ending for a model whose failure ends nothing: only what ends the run whoever asks is told on."""

    def __init__(self, ending: Ending) -> None:
        self._ending = ending
        self.failure: MemberFailed | None = None

    def tell(self, reason: Exception) -> None:
        """Keeps the failure of the model, and tells everything else."""
        if isinstance(reason, MemberFailed):
            self.failure = reason
        else:
            self._ending.tell(reason)

    def check(self) -> None:
        """Raises Over when the run has ended."""
        self._ending.check()


def remember(work: Work, emit: Emit) -> None:
    """Asks the team's model for the facts of the answer and keeps them; a memory that does not take them is told, and fails no run.

    Raises Over when the run has ended meanwhile.
    """
    connection = work.team.memory
    if connection is None:
        return
    work.more["remembered"] = None
    if not work.answer:
        return
    try:
        work.more["remembered"] = _written(work, connection, _facts_of(work))
    except (MemberFailed, ValueError) as error:
        emit("log", level="warning", message=f"nothing was written to {connection}: {error}")


def _facts_of(work: Work) -> list[str]:
    """What the team's model finds worth remembering. Raises MemberFailed, ValueError, Over."""
    aside = Aside(work.ending)
    model = GatewayModel(owner=SECRETARY, gateway=replace(work.gateway, ending=aside), model=work.team.model, made=[])
    question = facts_question(work.job.input["task_description"], work.answer)
    try:
        with model.answering(FACTS_SCHEMA):
            return facts_in(str(model.call([{"role": "user", "content": question}])))
    except Over:
        work.ending.check()
        raise aside.failure or MemberFailed(f"model {work.team.model!r} did not answer") from None


def _written(work: Work, connection: str, facts: list[str]) -> str:
    """The name of the entity that has the facts now. Raises MemberFailed, Over."""
    entities, observations = memory_of(work.team, work.job, facts)
    text, failed, data = work.tools.call(f"{connection}__create_entities", entities)
    if not failed and isinstance(data, dict) and not data.get("entities", [None]):  # it is there from an earlier run
        text, failed, _ = work.tools.call(f"{connection}__add_observations", observations)
    if failed:
        raise MemberFailed(text)
    name: str = entities["entities"][0]["name"]
    return name
