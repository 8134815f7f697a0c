"""Modes that are AutoGen's own group chats: who speaks next is a matter of order, of a selector, or of handing over."""

from auralink_engine.team import USER
from autogen_agentchat.conditions import FunctionalTermination
from autogen_agentchat.messages import BaseAgentEvent, BaseChatMessage, TextMessage
from autogen_agentchat.teams import BaseGroupChat, RoundRobinGroupChat, SelectorGroupChat, Swarm

from auralink_autogen.floor import TERMINATE, Floor, Outcome, is_end
from auralink_autogen.tools import Transfer

TOGETHER = (
    "Do your part of the task and build on what the others have said. When nothing of the task is left to do for anybody, write the"
    f" team's complete answer and end with {TERMINATE} to say that it is done."
)
HANDING_OVER = (
    "If another member is better suited for what is to be done next, hand over to it with its tool. Otherwise do the work: a message"
    " without handing over is the team's answer and ends the work."
)
ALONE = "Do the work: your message is the team's answer and ends the work."
REPEATED_UP_TO = 2
"""Teams of so many members let one speak twice in a row: there would otherwise be nothing to select."""


async def round_robin(floor: Floor) -> Outcome:
    """Members speak in their order until one says that it is done."""
    agents = [floor.member(member, TOGETHER) for member in floor.everybody]
    chat = RoundRobinGroupChat(list(agents), termination_condition=_done(), max_turns=floor.turns_left)
    return await _until_done(floor, chat)


async def selector(floor: Floor) -> Outcome:
    """A model selects who speaks next, until somebody says that it is done."""
    if len(floor.everybody) == 1:
        return await round_robin(floor)
    floor.selector = floor.gateways.model(floor.outsider("selector"), floor.team.model, floor.selecting.append)
    agents = [floor.member(member, TOGETHER) for member in floor.everybody]
    chat = SelectorGroupChat(
        list(agents),
        model_client=floor.selector,
        termination_condition=_done(),
        max_turns=floor.turns_left,
        allow_repeated_speaker=len(agents) <= REPEATED_UP_TO,
    )
    outcome = await _until_done(floor, chat)
    return Outcome(outcome.answer, outcome.stopped, {"speakers": [name for name, _ in floor.spoken]})


async def swarm(floor: Floor) -> Outcome:
    """Who has the task hands it over or answers; the first member begins."""
    members = {member.name: member for member in floor.everybody}
    named = floor.team.options.get("handoffs")
    agents = []
    for member in members.values():
        takers = [name for name in members if name != member.name] if named is None else named.get(member.name, [])
        handoffs = [Transfer.to(name, members[name].role, number) for number, name in enumerate(takers) if name in members]
        agents.append(floor.member(member, HANDING_OVER if handoffs else ALONE, handoffs=handoffs))
    chat = Swarm(list(agents), termination_condition=_answered(), max_turns=floor.turns_left)
    await floor.hold(chat, floor.task)
    handoffs_made = [{"from": name, "to": speech.target} for name, speech in floor.spoken if speech.target]
    stopped = floor.out_of_turns() if floor.spoken[-1][1].target else None
    return Outcome(floor.last_text or floor.spoken[-1][1].text, stopped, {"handoffs": handoffs_made})


async def _until_done(floor: Floor, chat: BaseGroupChat) -> Outcome:
    result = await floor.hold(chat, floor.task)
    last = result.messages[-1]
    done = isinstance(last, TextMessage) and is_end(last.content)
    return Outcome(floor.last_text, None if done else floor.out_of_turns())


def _done() -> FunctionalTermination:
    return FunctionalTermination(lambda messages: any(_ends(message) for message in messages))


def _answered() -> FunctionalTermination:
    return FunctionalTermination(lambda messages: any(_is_said(message) for message in messages))


def _is_said(message: BaseAgentEvent | BaseChatMessage) -> bool:
    return isinstance(message, TextMessage) and message.source != USER


def _ends(message: BaseAgentEvent | BaseChatMessage) -> bool:
    return _is_said(message) and is_end(message.to_text())
