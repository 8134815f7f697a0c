"""Delegation is CrewAI's own: two tools by which an agent gives work or a question to another. Here it is told, and limited."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from crewai.hooks import InterceptionPoint, ToolCallHookContext, register_hook, unregister_hook
from crewai.utilities.string_utils import sanitize_tool_name

from auralink_crewai.crews import Participant, Work

DELEGATING = frozenset({"delegate_work_to_coworker", "ask_question_to_coworker"})
NO_MORE = "The team has used up its messages. Delegate nothing more; give your final answer with what you have."


class Delegations:
    """Hears of every tool call of a crew."""

    def __init__(self, work: Work, participants: Sequence[Participant]) -> None:
        self._work = work
        self._by_agent = {id(participant.agent): participant for participant in participants}
        self._by_role = {participant.member.role.casefold(): participant for participant in participants}
        self._by_role |= {participant.name.casefold(): participant for participant in participants}

    def before(self, context: ToolCallHookContext) -> bool | None:
        """Says what is delegated. False: it is not done."""
        sender, receiver = self._who(context)
        if sender is None or receiver is None:
            return None
        if self._work.turns_left < 3:  # the delegation, its answer, and the final one
            self._work.stop("turns", f"the team may say {self._work.team.turns} messages")
            return False
        given = context.tool_input
        given["coworker"] = receiver.member.role
        task = str(given.get("task") or given.get("question") or "")
        self._work.more["delegations"].append({"from": sender.name, "to": receiver.name, "task": task})
        self._work.talk.say(
            sender.name,
            "\n\n".join(part for part in (task, str(given.get("context") or "")) if part),
            to=receiver.name,
            kind="delegation",
            tool_calls=sender.take_calls(),
            steps=sender.model.take_steps(),
        )
        return None

    def after(self, context: ToolCallHookContext) -> str | None:
        """Says what came of it. A text: what the model is shown instead."""
        if self._work.ending.reason is not None:
            return None  # what CrewAI makes of the end is nobody's message
        sender, receiver = self._who(context)
        if (executor := getattr(context.agent, "agent_executor", None)) is not None:
            executor._tool_call_counts.clear()  # who repeats itself is stopped by its limit, with what it has, not by an error
        if sender is None:
            return None
        if receiver is None:
            return self._of_an_unknown_tool(sender, context) if context.tool is None else None
        if context.tool_result is not None and context.tool_result.startswith("Tool execution blocked by hook"):
            return NO_MORE
        self._work.answer = context.tool_result or self._work.answer
        self._work.say(receiver, context.tool_result or "", to=sender.name)
        return None

    def _of_an_unknown_tool(self, sender: Participant, context: ToolCallHookContext) -> str:
        name = self._work.tools.names.get(context.tool_name, context.tool_name)
        said = f"there is no tool {name!r}"
        sender.calls.append({"tool": name, "arguments": dict(context.tool_input), "answer": said, "failed": True})
        return said

    def _who(self, context: ToolCallHookContext) -> tuple[Participant | None, Participant | None]:
        sender = self._by_agent.get(id(context.agent))
        if sanitize_tool_name(context.tool_name) not in DELEGATING:
            return sender, None
        wanted = context.tool_input.get("coworker") or context.tool_input.get("co_worker") or ""
        receiver = self._by_role.get(" ".join(str(wanted).replace('"', "").split()).casefold())
        return sender, receiver


@contextmanager
def delegating(work: Work, participants: Sequence[Participant]) -> Iterator[None]:
    """Meanwhile the tool calls of these participants are heard."""
    heard = Delegations(work, participants)
    hooks = ((InterceptionPoint.PRE_TOOL_CALL, heard.before), (InterceptionPoint.POST_TOOL_CALL, heard.after))
    for point, hook in hooks:
        register_hook(point, hook)
    try:
        yield
    finally:
        for point, hook in hooks:
            unregister_hook(point, hook)
