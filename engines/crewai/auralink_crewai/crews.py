"""A team as CrewAI has it: an agent for each member, tasks, a crew; and what a member does kept for the message that it makes."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from auralink_engine import Job
from auralink_engine.team import TEAM, Conversation, Member, Team, task_of
from crewai import Process, Task
from crewai.tools import BaseTool

from auralink_crewai.ending import Ending, LimitReached
from auralink_crewai.lean import Colleague, LeanCrew
from auralink_crewai.models import GatewayModel, ModelGateway
from auralink_crewai.tools import Tools


@dataclass(eq=False)
class Participant:
    """A member at work."""

    member: Member
    agent: Colleague
    model: GatewayModel
    tools: list[BaseTool]
    calls: list[dict[str, Any]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.member.name

    def take_calls(self) -> list[dict[str, Any]]:
        """The tool calls since the last message."""
        taken, self.calls[:] = list(self.calls), []
        return taken


@dataclass(eq=False)
class Work:
    """What the modes work with."""

    job: Job
    team: Team
    talk: Conversation
    gateway: ModelGateway
    tools: Tools
    ending: Ending
    participants: list[Participant] = field(default_factory=list)
    stopped: dict[str, Any] | None = None
    answer: str = ""
    """The best that there is by now: the run's answer if it ends early."""
    more: dict[str, Any] = field(default_factory=dict)
    """What the mode has for the output, by now."""

    @classmethod
    def of(cls, job: Job, talk: Conversation, gateway: ModelGateway, tools: Tools, ending: Ending) -> "Work":
        """The team of a job, its members ready."""
        work = cls(job, Team.of(job.definition), talk, gateway, tools, ending)
        members = with_roles_of_their_own(work.team.members)
        work.participants = [work.participant(member) for member in members]
        return work

    @property
    def task(self) -> str:
        return task_of(self.job)

    @property
    def turns_left(self) -> int:
        return self.team.turns - len(self.talk.said)

    def participant(self, member: Member, *, delegates: bool | None = None) -> Participant:
        """A member with an agent of its own. Raises MemberFailed for a tool that the user does not have."""
        calls: list[dict[str, Any]] = []
        model = GatewayModel(owner=member.name, gateway=self.gateway, model=member.model, made=calls)
        tools = self.tools.given_to(member.name, member.tools, calls)
        agent = self.agent(member, model, tools, delegates=member.can_delegate if delegates is None else delegates)
        return Participant(member, agent, model, tools, calls)

    def agent(self, member: Member, model: GatewayModel, tools: Sequence[BaseTool], *, delegates: bool) -> Colleague:
        """A CrewAI agent without anything that would ask twice, remember, or shorten."""
        return Colleague(
            role=member.role,
            goal=member.goal or "Do your part of the team's task well.",
            backstory=member.instructions or f"You are a member of the team {self.team.name}.",
            llm=model,
            tools=list(tools),
            allow_delegation=delegates,
            max_iter=max(1, self.team.member_turns - 1),  # CrewAI asks once more, for the final answer
            max_retry_limit=0,
            respect_context_window=False,
            use_better_compaction=False,
            cache=False,
            verbose=False,
        )

    def crew(self, tasks: Sequence[Task], agents: Sequence[Colleague], **more: Any) -> LeanCrew:
        """A crew for these tasks."""
        given = {"process": Process.sequential, "cache": False, "memory": False, "planning": False, "verbose": False, **more}
        return LeanCrew(agents=list(agents), tasks=list(tasks), tracing=False, share_crew=False, **given)

    def say(self, speaker: Participant, content: str, *, to: str = TEAM, kind: str = "message") -> None:
        """Says what a member came to, with all that it did for it, and notes when its limit ended that."""
        made = speaker.model.take_calls()
        if made >= max(2, self.team.member_turns):
            self.stop("member_turns", f"{speaker.name} used all of its {self.team.member_turns} model calls for one message")
        self.talk.say(speaker.name, content, to=to, kind=kind, tool_calls=speaker.take_calls(), steps=speaker.model.take_steps())

    def stop(self, limit: str, message: str) -> None:
        """Notes the limit that ended something; the first counts."""
        self.stopped = self.stopped or LimitReached(limit, message).stopped

    def output(self) -> dict[str, Any]:
        """The run's output with what there is."""
        reason = self.ending.reason
        stopped = reason.stopped if isinstance(reason, LimitReached) else self.stopped
        return self.talk.output(self.answer, stopped=stopped, **self.more)


def with_roles_of_their_own(members: Sequence[Member]) -> list[Member]:
    """The members, those of one role told apart by their names: CrewAI knows members by their roles."""
    roles = [member.role.casefold() for member in members]
    return [
        replace(member, role=f"{member.role} ({member.name})") if roles.count(member.role.casefold()) > 1 else member
        for member in members
    ]
