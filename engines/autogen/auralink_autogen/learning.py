"""What a team writes into the user's memory graph when its work is done."""

from auralink_engine import Emit, Job
from auralink_engine.team import FACTS_SCHEMA, USER, MemberFailed, facts_in, facts_question, memory_of
from autogen_core.models import SystemMessage, UserMessage

from auralink_autogen.floor import Floor

SCRIBE = "You are the one who keeps the team's memory. You write down what is worth remembering. Answer in JSON."


async def remember(job: Job, floor: Floor, answer: str, emit: Emit) -> str | None:
    """The name of the entity that has the facts of the answer now; a memory that does not take them is told, and fails no run."""
    try:
        facts = await _facts_of(job, floor, answer)
        return await _written(job, floor, facts)
    except (MemberFailed, ValueError) as error:
        emit("log", level="warning", message=f"nothing was written to {floor.team.memory}: {error}")
        return None


async def _facts_of(job: Job, floor: Floor, answer: str) -> list[str]:
    """What the team's model finds worth remembering. Raises MemberFailed, ValueError."""
    model = floor.gateways.model("memory", floor.team.model, lambda _step: None, FACTS_SCHEMA, fail=lambda _error: None)
    question = UserMessage(content=facts_question(job.input["task_description"], answer), source=USER)
    said = await model.create([SystemMessage(content=SCRIBE), question], cancellation_token=floor.token)
    return facts_in(str(said.content))


async def _written(job: Job, floor: Floor, facts: list[str]) -> str:
    entities, observations = memory_of(floor.team, job, facts)
    for tool, arguments in (("create_entities", entities), ("add_observations", observations)):
        made = await floor.gateways.call(f"{floor.team.memory}__{tool}", arguments)
        if made.failed:
            raise MemberFailed(made.shown)
    name: str = entities["entities"][0]["name"]
    return name
