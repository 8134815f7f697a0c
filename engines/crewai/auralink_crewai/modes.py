"""The modes that CrewAI has itself: one after the other, and a manager who delegates."""

from collections.abc import Callable
from typing import Any

from auralink_engine.team import USER, Member
from crewai import Process, Task
from crewai.utilities.i18n import I18N_DEFAULT

from auralink_crewai.crews import Participant, Work
from auralink_crewai.delegation import delegating

NOT_THE_LAST = "Your part of the team's work as {role}, complete, so that the next member can build on it."
THE_LAST = "The complete result of the task, ready for whoever gave it, with your part as {role} done."
THE_RESULT = "The complete result of the task, ready for whoever gave it."


def sequential(work: Work) -> None:
    """A task for each member in the order of the team, each given what those before it came to."""
    work.more = {"delegations": []} if any(member.can_delegate for member in work.team.members) else {}
    speakers = work.participants[: work.turns_left]
    if len(speakers) < len(work.participants):
        work.stop("turns", f"the team may say {work.team.turns} messages; it has {len(work.participants)} members")
    tasks = [_part_of(work, at, speaker, speakers) for at, speaker in enumerate(speakers)]
    with delegating(work, work.participants):
        work.crew(tasks, [participant.agent for participant in work.participants]).kickoff()


def hierarchical(work: Work) -> None:
    """One task for a manager, who delegates to the members as it sees fit, and answers."""
    work.more = {"delegations": []}
    manager = work.participant(work.team.manager or _usual_manager(work), delegates=True)
    tools, manager.agent.tools = manager.tools, []  # CrewAI wants a manager without tools of its own; the task may have some
    task = Task(description=work.task, expected_output=THE_RESULT, tools=tools)
    crew = work.crew(
        [task],
        [participant.agent for participant in work.participants],
        process=Process.hierarchical,
        manager_agent=manager.agent,
    )
    with delegating(work, [manager, *work.participants]):
        work.answer = str(crew.kickoff())
    work.say(manager, work.answer, to=USER)


def _part_of(work: Work, at: int, speaker: Participant, speakers: list[Participant]) -> Task:
    last = at == len(speakers) - 1
    return Task(
        name=speaker.name,
        description=work.task,
        expected_output=(THE_LAST if last else NOT_THE_LAST).format(role=speaker.member.role),
        agent=speaker.agent,
        callback=_teller(work, speaker, USER if last else speakers[at + 1].name),
    )


def _teller(work: Work, speaker: Participant, to: str) -> Callable[[Any], None]:
    def tell(output: Any) -> None:
        work.answer = output.raw
        work.say(speaker, output.raw, to=to)

    return tell


def _usual_manager(work: Work) -> Member:
    """CrewAI's own manager, on the team's model."""
    about = {key: I18N_DEFAULT.retrieve("hierarchical_manager_agent", key) for key in ("role", "goal", "backstory")}
    return Member("manager", about["role"], about["goal"], about["backstory"], work.team.model, (), can_delegate=True)
