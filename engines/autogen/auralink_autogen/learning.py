"""What a team writes into the user's memory graph when its work is done."""

from typing import Any

from auralink_engine import Job
from auralink_engine.team import FACTS_SCHEMA, facts_question, memory_of

from auralink_autogen.floor import Floor

SCRIBE = "You write down what is worth remembering. Answer in JSON."


async def remember(job: Job, floor: Floor, answer: str) -> dict[str, Any]:
    """Asks for the facts of the answer and writes them; `remembered` for the run's output: the
    entity, or null if it could not be written. A memory that fails does not fail the run."""
    scribe = floor.chair("scribe", "the one who keeps the team's memory", SCRIBE, FACTS_SCHEMA)
    facts = (await scribe.ask(facts_question(floor.task, answer)))["facts"]
    entities, observations = memory_of(floor.team, job, facts)
    calls: list[dict[str, Any]] = []
    failed = False
    for tool, arguments in (("create_entities", entities), ("add_observations", observations)):
        name = f"{floor.team.memory}__{tool}"
        made = await floor.gateways.call(name, arguments)
        calls.append({"tool": name, "arguments": arguments, "answer": made.shown, "failed": made.failed})
        failed = failed or made.failed
    said = "\n".join(f"- {fact}" for fact in facts) or "There is nothing to remember."
    # the memory is no source of the answer: these calls are told, not counted among them
    told = list(floor.conversation.calls)
    floor.conversation.say(scribe.name, said, kind="summary", tool_calls=calls, steps=scribe.speech.steps)
    floor.conversation.calls[:] = told
    return {"remembered": None if failed else entities["entities"][0]["name"]}
