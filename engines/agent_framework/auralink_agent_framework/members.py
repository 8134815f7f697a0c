"""Members as agents of the framework, each with a client and tools of its own, and what they say as messages of the run."""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import openai
from agent_framework import Agent, AgentContext, AgentMiddleware, Content, Message
from agent_framework.exceptions import ChatClientException
from auralink_engine.team import Conversation, Member, MemberFailed, Team

from auralink_agent_framework.gateways import Gateways

HANDOFF = "handoff_to_"
DONE = "TERMINATE"
_HOW = {
    "round_robin": f"Build on what the others have said. End your message with {DONE} when nothing is left to be done for the task.",
    "swarm": "Hand the task over if another is better suited for what is to be done next. Otherwise do it: your answer ends the work.",
}


@dataclass
class Talk:
    """What is said in a run, and the first limit that was reached."""

    conversation: Conversation
    turns: int = 0
    answer: str = ""
    stopped: dict[str, Any] | None = None
    handoffs: list[dict[str, str]] = field(default_factory=list)

    def stop(self, limit: str, message: str) -> None:
        """Notes a limit, unless there was one before."""
        self.stopped = self.stopped or {"limit": limit, "message": message}


class Voice(AgentMiddleware):
    """Says what its member says, with the steps and the tool calls that it took."""

    def __init__(self, member: Member, talk: Talk, most_calls: int) -> None:
        self._member = member
        self._talk = talk
        self._most_calls = most_calls
        self._steps: list[int] = []

    def hear(self, step: int) -> None:
        """A model call of the member has been answered."""
        self._steps.append(step)

    async def process(self, context: AgentContext, call_next: Callable[[], Awaitable[None]]) -> None:
        """One message of the member. Raises MemberFailed."""
        name = self._member.name
        self._steps.clear()
        if context.messages and context.messages[-1].role == "assistant":  # which some models take for their own, and say nothing
            context.messages = [*context.messages, Message("user", [f"It is your turn, {name}."])]
        try:
            await call_next()
        except ChatClientException as error:
            raise MemberFailed(f"{name} could not ask model {self._member.model!r}: {cause_of(error)}") from error
        self._say([message for message in context.result.messages if message.contents])

    def _say(self, messages: Sequence[Message]) -> None:
        """The text of the last answer, or, of one who hands over, what was said with it."""
        name, talk = self._member.name, self._talk
        calls = list(_calls_in(messages))
        answers = [message for message in messages if message.role == "assistant"]
        text = answers[-1].text.removesuffix(DONE).rstrip() if answers else ""
        target = next((call["tool"].removeprefix(HANDOFF) for call in calls if call["tool"].startswith(HANDOFF)), None)
        about: dict[str, Any] = {"to": target, "kind": "handoff"} if target else {}
        made = [call for call in calls if not call["tool"].startswith(HANDOFF)]
        talk.conversation.say(name, text, tool_calls=made, steps=self._steps, **about)
        talk.turns += 1
        talk.answer = text or talk.answer
        if target:
            talk.handoffs.append({"from": name, "to": target})
        if len(answers) >= self._most_calls and made:
            talk.stop("member_turns", f"{name} made {len(answers)} model calls for one message, as many as it may")


def agent_of(member: Member, team: Team, gateways: Gateways, talk: Talk) -> Agent[Any]:
    """A member as an agent, with the tools that it names. Raises MemberFailed if one of them is not there."""
    voice = Voice(member, talk, team.member_turns)
    tools = {name: gateways.tool(name) for name in member.tools if team.member_turns > 1}
    if missing := [name for name, tool in tools.items() if tool is None]:
        raise MemberFailed(f"{member.name} has no tool {missing[0]!r}: the user's connections do not offer it now")
    options = {"max_tokens": team.answer_tokens, "temperature": team.temperature}
    return Agent(
        client=gateways.model(member.model, voice.hear, team.member_turns),
        instructions="\n\n".join(part for part in (member.brief, _HOW.get(team.mode)) if part),
        id=member.name,
        name=member.name,
        description=": ".join(part for part in (member.role, member.goal) if part),
        tools=[tool for tool in tools.values() if tool is not None],
        default_options={name: value for name, value in options.items() if value is not None},
        middleware=[voice],
        require_per_service_call_history_persistence=team.mode == "swarm",
    )


def _calls_in(messages: Sequence[Message]) -> Iterator[dict[str, Any]]:
    """The tool calls in a member's messages, with their answers."""
    contents = [content for message in messages for content in message.contents]
    answers = {content.call_id: content for content in contents if content.type == "function_result"}
    for content in contents:
        if content.type == "function_call":
            answer, failed = _told(answers.get(content.call_id))
            yield {"tool": content.name, "arguments": content.parse_arguments() or {}, "answer": answer, "failed": failed}


def _told(result: Content | None) -> tuple[str, bool]:
    if result is None:
        return "", True
    items = result.items or []
    answer = next(
        (item.additional_properties["answer"] for item in items if "answer" in (item.additional_properties or {})), None
    )
    if answer is not None:
        return answer.shown, answer.failed
    return "\n".join(item.text or "" for item in items) or str(result.result or ""), result.exception is not None


def cause_of(error: Exception) -> str:
    """Why a model could not be asked, in the gateway's words."""
    cause = error.__cause__
    if not isinstance(cause, openai.APIStatusError):
        return str(cause or error)
    body = cause.body if isinstance(cause.body, Mapping) else {}
    inner = body.get("error")
    said = inner if isinstance(inner, Mapping) else body
    return f"{cause.status_code} {said.get('code') or ''} {said.get('message') or cause.message}".replace("  ", " ")
