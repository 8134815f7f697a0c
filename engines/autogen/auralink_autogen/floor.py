"""Where a run's agents speak: it makes them, hears every message with its tool and model calls, and counts the turns."""

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jsonschema
from auralink_engine import Job
from auralink_engine.team import TEAM, USER, Conversation, Member, MemberFailed, Team, loads, task_of
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.base import Response, TaskResult
from autogen_agentchat.messages import (
    BaseAgentEvent,
    BaseChatMessage,
    HandoffMessage,
    TextMessage,
    ThoughtEvent,
    ToolCallExecutionEvent,
    ToolCallRequestEvent,
)
from autogen_agentchat.teams import BaseGroupChat
from autogen_core import CancellationToken

from auralink_autogen.gateways import Gateways
from auralink_autogen.models import MemberModel
from auralink_autogen.tools import MemberTools, Transfer

TERMINATE = "TERMINATE"
_DONE = re.compile(r"[\s*_`>\[(-]*\bTERMINATE\b[\s*_`.!\])-]*\Z")
JSON_ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class Speech:
    """What an agent said, and the calls that it made for it. `target` is who it hands over to."""

    text: str
    calls: Sequence[Mapping[str, Any]]
    steps: Sequence[int]
    target: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a mode came to; `more` is its own part of the run's output."""

    answer: str
    stopped: Mapping[str, Any] | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


class Floor:
    """The run as its modes see it."""

    def __init__(self, job: Job, team: Team, gateways: Gateways, conversation: Conversation) -> None:
        self.team = team
        self.gateways = gateways
        self.conversation = conversation
        self.task = task_of(job)
        self._order = [member["name"] for member in job.definition["members"]]
        self.token = CancellationToken()
        self.spoken: list[tuple[str, Speech]] = []
        """What members have said, in order."""
        self.outcome: Outcome | None = None
        """What the mode came to, once it has."""
        self.selector: MemberModel | None = None
        self.selecting: list[int] = []
        self._selected = 0
        self._speakers: list[Speaker] = []

    @property
    def everybody(self) -> tuple[Member, ...]:
        """The members in their order, with a manager: for modes in which it is one of them."""
        manager = (self.team.manager,) if self.team.manager else ()
        return tuple(sorted((*manager, *self.team.members), key=lambda member: self._order.index(member.name)))

    @property
    def turns_left(self) -> int:
        """How many more messages members may have."""
        return self.team.turns - len(self.spoken)

    @property
    def last_text(self) -> str:
        """The last that a member said in words."""
        return next((speech.text for _, speech in reversed(self.spoken) if speech.text and not speech.target), "")

    def member(self, member: Member, rules: str, *, handoffs: Sequence[Transfer] = (), kind: str = "message") -> "Speaker":
        """An agent for a member, who says aloud what it says."""
        speaker = Speaker(self, member, _brief(self, member, rules), handoffs=handoffs, kind=kind)
        self._speakers.append(speaker)
        return speaker

    def chair(self, name: str, role: str, rules: str, schema: Mapping[str, Any]) -> "Speaker":
        """An agent beside the members (the manager, if the team has one) that answers in JSON."""
        manager = self.team.manager
        member = manager or Member(self.outsider(name), role, "", "", self.team.model, (), False)
        return Speaker(self, member, f"{member.brief}\n\n{rules}", schema=schema)

    def outsider(self, name: str) -> str:
        """A name for somebody who is no member."""
        taken = {member.name for member in self.everybody}
        return name if name not in taken else self.outsider(f"the_{name}")

    async def hold(self, chat: BaseGroupChat, task: str, source: str = USER) -> TaskResult:
        """Lets a group chat go on until it ends."""
        return await chat.run(task=TextMessage(content=task, source=source), cancellation_token=self.token)

    def opens(self, name: str) -> None:
        """A member begins its turn; if somebody selected it, that is said first."""
        if self.selector is not None and self.selector.answered > self._selected:
            self._selected = self.selector.answered
            self.conversation.say(self.outsider("selector"), name, to=name, kind="delegation", steps=self.selecting)
            self.selecting.clear()

    def hears(self, speaker: str, speech: Speech, kind: str) -> None:
        """A member has spoken."""
        self.spoken.append((speaker, speech))
        to, kind = (speech.target, "handoff") if speech.target else (TEAM, kind)
        self.conversation.say(speaker, speech.text, to=to, kind=kind, tool_calls=speech.calls, steps=speech.steps)

    def cornered(self) -> Mapping[str, Any] | None:
        """What to say of members that used up their model calls for a message; None if none did."""
        names = [speaker.name for speaker in self._speakers if speaker.model.cornered]
        if not names:
            return None
        calls = self.team.member_turns
        said = f"{', '.join(names)} used up the {calls} model calls that a message may take and had to answer with what there was"
        return {"limit": "member_turns", "message": said}

    def out_of_turns(self) -> Mapping[str, Any]:
        """That the team's turns are used up."""
        return {"limit": "turns", "message": f"the team used up its {self.team.turns} turns; the answer is what it had by then"}


class Speaker(AssistantAgent):
    """AutoGen's assistant for one member. With a schema it has no tools, answers in JSON, and whoever asked says what comes of it."""

    def __init__(
        self,
        floor: Floor,
        member: Member,
        brief: str,
        *,
        handoffs: Sequence[Transfer] = (),
        kind: str = "message",
        schema: Mapping[str, Any] | None = None,
    ) -> None:
        self.speech = Speech("", (), ())
        self.aloud = schema is None
        self._floor = floor
        self._kind = kind
        self._steps: list[int] = []
        self._schema = schema
        self.model = floor.gateways.model(member.name, member.model, self._steps.append, schema)
        turns = floor.team.member_turns
        self.tools = MemberTools(floor.gateways, () if schema is not None or turns == 1 else member.tools)
        super().__init__(
            member.name,
            self.model,
            workbench=self.tools,
            handoffs=list(handoffs),
            description=_about(member),
            system_message=brief,
            reflect_on_tool_use=True,  # the last of a member's calls has no tools
            max_tool_iterations=max(1, turns - 1),
        )

    async def on_messages_stream(
        self, messages: Sequence[BaseChatMessage], cancellation_token: CancellationToken
    ) -> AsyncGenerator[BaseAgentEvent | BaseChatMessage | Response, None]:
        """The assistant's turn, heard."""
        if self.aloud:
            self._floor.opens(self.name)
        events: list[BaseAgentEvent | BaseChatMessage] = []
        try:
            async for event in super().on_messages_stream(messages, cancellation_token):
                if isinstance(event, Response):
                    self._speak(event.chat_message, events)
                else:
                    events.append(event)
                yield event
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:
            self._floor.gateways.lose(MemberFailed(f"member {self.name!r}: {error or type(error).__name__}"))
            raise

    def speak_up(self) -> None:
        """Says aloud what was said in silence."""
        self._floor.hears(self.name, self.speech, self._kind)

    async def ask(self, question: str, material: Sequence[BaseChatMessage] = ()) -> Any:
        """The JSON that the agent answers with, after what it is shown; one that does not fit the schema is asked for again.

        Raises MemberFailed.
        """
        asked: Sequence[BaseChatMessage] = [*material, TextMessage(content=question, source=USER)]
        problem, steps = "", []
        for _ in range(JSON_ATTEMPTS):
            await self.run(task=asked, cancellation_token=self._floor.token)
            steps += self.speech.steps
            self.speech = Speech(self.speech.text, self.speech.calls, steps)
            try:
                value = loads(self.speech.text)
                jsonschema.validate(value, self._schema or {})
            except jsonschema.ValidationError as error:
                problem = error.message
            except ValueError as error:
                problem = str(error)
            else:
                return value
            again = f"That does not fit the schema: {problem}. Give the corrected JSON only."
            asked = [TextMessage(content=again, source=USER)]
        raise MemberFailed(f"member {self.name!r}: the answer does not fit the schema: {problem}")

    def _speak(self, message: BaseChatMessage, events: Sequence[BaseAgentEvent | BaseChatMessage]) -> None:
        target = message.target if isinstance(message, HandoffMessage) else None
        thoughts = [event.content for event in events if isinstance(event, ThoughtEvent)]
        text = without_end(message.to_text())
        if target is not None and thoughts:
            text = thoughts[-1]
        self.speech = Speech(text, self._calls_in(events), tuple(self._steps), target)
        self._steps.clear()
        if self.aloud:
            self.speak_up()

    def _calls_in(self, events: Sequence[BaseAgentEvent | BaseChatMessage]) -> list[dict[str, Any]]:
        asked = [call for event in events if isinstance(event, ToolCallRequestEvent) for call in event.content]
        answers = [result for event in events if isinstance(event, ToolCallExecutionEvent) for result in event.content]
        return [
            {
                "tool": call.name,
                "arguments": _arguments(call.arguments),
                "answer": answer.content if (shown := self.tools.shown(call.id)) is None else shown,
                "failed": bool(answer.is_error),
            }
            for call, answer in zip(asked, answers, strict=False)
            if call.name not in self._handoffs
        ]


def is_end(text: str) -> bool:
    """Whether a message says that the task is done."""
    return _DONE.search(text) is not None


def without_end(text: str) -> str:
    """A message without its word for the end."""
    return _DONE.sub("", text).strip()


def _brief(floor: Floor, member: Member, rules: str) -> str:
    team = floor.team
    others = [f"- {other.name}: {_about(other)}" for other in floor.everybody if other is not member]
    where = f"Your name is {member.name}. You are one of the team {team.name!r}." + (
        f" {team.description}" if team.description else ""
    )
    company = "The others are:\n" + "\n".join(others) if others else ""
    return "\n\n".join(part for part in (member.brief, where, company, rules) if part)


def _about(member: Member) -> str:
    return f"{member.role}. {member.goal}".strip()


def _arguments(text: str) -> Any:
    try:
        return loads(text)
    except ValueError:
        return text
