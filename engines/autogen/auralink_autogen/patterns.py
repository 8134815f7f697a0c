"""Ways of working together that AutoGen has no team for, built of its agents and group chats: debate, brainstorm, problem solving.

Somebody beside the members (the team's manager, else an agent on the team's model) judges, groups or plans, and answers in JSON.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from auralink_engine.team import MemberFailed
from autogen_agentchat.base import TaskResult
from autogen_agentchat.conditions import FunctionalTermination
from autogen_agentchat.messages import BaseChatMessage, TextMessage
from autogen_agentchat.teams import BaseGroupChat, RoundRobinGroupChat, SelectorGroupChat

from auralink_autogen.floor import Floor, Outcome, Speaker

ROUNDS = 3
SIDES = ("for", "against")
_IDEA = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+(.+?)\s*$", re.MULTILINE)
MOST_STEPS = 12
TEXT = {"type": "string"}


async def debate(floor: Floor) -> Outcome:
    """Members argue for their sides, in turn, for some rounds; then a judge names the side that was right, and why."""
    members, sides = floor.team.members, list(floor.team.options.get("sides") or SIDES)
    if len(members) < len(sides):
        raise MemberFailed(f"a debate of {len(sides)} sides ({', '.join(sides)}) needs as many members; there are {len(members)}")
    side_of = {member.name: sides[number % len(sides)] for number, member in enumerate(members)}
    debaters = [floor.member(member, _debater_rules(side_of[member.name], sides)) for member in members]
    wanted = len(debaters) * _rounds(floor)
    chat = RoundRobinGroupChat(list(debaters), max_turns=min(wanted, floor.turns_left))
    result = await floor.hold(chat, floor.task)
    stopped = floor.out_of_turns() if wanted > len(floor.spoken) else None
    judge = floor.chair("judge", "the judge of a debate", _JUDGE, _verdict_of(sides))
    taken = "\n".join(f"- {name} speaks for: {side}" for name, side in side_of.items())
    verdict = await judge.ask(
        f"The debate is over.\n{taken}\nGive your judgement: the side that argued better, why, and the answer.", _said(result)
    )
    winner, why = verdict["winner"], verdict["why"]
    floor.conversation.say(judge.name, f"{winner}: {why}", kind="judgement", steps=judge.speech.steps)
    last = {name: speech.text for name, speech in floor.spoken}
    positions = [{"side": side, "member": name, "argument": last.get(name, "")} for name, side in side_of.items()]
    return Outcome(verdict["answer"], stopped, {"winner": winner, "why": why, "positions": positions})


async def brainstorm(floor: Floor) -> Outcome:
    """Members have ideas, at first without knowing of each other's; then a moderator groups and ranks them."""
    thinkers = [floor.member(member, _THINKER, kind="idea") for member in floor.team.members]
    ideas: dict[str, Idea] = {}
    wanted = 0
    for number in range(1, _rounds(floor) + 1):
        turn = thinkers[: max(0, floor.turns_left)]
        wanted += len(thinkers)
        new = await _think(floor, turn, list(ideas.values()), number)
        fresh = {idea.text.casefold(): idea for idea in reversed(new) if idea.text.casefold() not in ideas}
        ideas |= dict(reversed(fresh.items()))
        if not fresh:
            break
    stopped = floor.out_of_turns() if wanted > len(floor.spoken) else None
    if not ideas:
        return Outcome(floor.last_text, stopped, {"ideas": [], "groups": [], "ranking": []})
    return await _sort(floor, list(ideas.values()), stopped)


async def problem_solving(floor: Floor) -> Outcome:
    """A plan, the work that it gives to members, a critique of that, and again, until it is solved or the rounds are used up."""
    names = [member.name for member in floor.team.members]
    planner = floor.chair("planner", "the one who plans the team's work", _planner_rules(floor), _plan_of(names))
    critic = floor.chair("critic", "the one who criticises the team's work", _CRITIC, _critique_of(names))
    plan = _assigned((await planner.ask(f"{floor.task}\n\nMake the plan."))["steps"])
    floor.conversation.say(planner.name, _listed(plan), kind="plan", steps=planner.speech.steps)
    work = _Work(floor)
    steps, iterations, verdict = plan, [], {"solved": False, "answer": ""}
    stopped: Mapping[str, Any] | None = None
    for number in range(1, _rounds(floor) + 1):
        if floor.turns_left < 1:
            stopped = floor.out_of_turns()
            break
        result = await work.do(steps)
        verdict = await critic.ask(
            "Is the task solved?" if number > 1 else f"The task:\n{floor.task}\n\nIs it solved?", _said(result)
        )
        floor.conversation.say(critic.name, verdict["critique"], kind="critique", steps=critic.speech.steps)
        iterations.append({"steps": steps, "critique": verdict["critique"], "solved": verdict["solved"]})
        if verdict["solved"]:
            break
        steps = _assigned(verdict["steps"]) or steps
        work.hear(critic.name, verdict["critique"])
    else:
        stopped = {
            "limit": "rounds",
            "message": f"the task was not solved in {_rounds(floor)} rounds; the answer is what there was",
        }
    more = {"plan": plan, "iterations": iterations, "converged": verdict["solved"]}
    return Outcome(verdict["answer"] or floor.last_text, stopped, more)


@dataclass(frozen=True, slots=True)
class Idea:
    """An idea, who had it, and in which round."""

    text: str
    member: str
    round: int


class _Work:
    """The members' group chat, in which the speakers are those of the plan's steps."""

    def __init__(self, floor: Floor) -> None:
        self._floor = floor
        self._left: list[str] = []
        self._news = ""
        workers = [floor.member(member, _WORKER) for member in floor.team.members]
        done = FunctionalTermination(lambda _messages: not self._left)
        turns = floor.team.turns
        self._chat: BaseGroupChat = (
            SelectorGroupChat(
                list(workers),
                model_client=workers[0].model,  # never asked: the plan selects
                selector_func=lambda _thread: self._left.pop(0),
                termination_condition=done,
                max_turns=turns,
            )
            if len(workers) > 1
            else RoundRobinGroupChat(list(workers), max_turns=1)
        )

    async def do(self, steps: Sequence[Mapping[str, str]]) -> TaskResult:
        """Has the steps done, in order, as far as there are turns. One alone does them all at once."""
        steps = steps[: self._floor.turns_left]
        self._left = [step["member"] for step in steps]
        told = "\n\n".join(
            part for part in (self._news, f"The steps, each for the member that it names:\n{_listed(steps)}") if part
        )
        return await self._floor.hold(self._chat, told if self._news else f"{self._floor.task}\n\n{told}")

    def hear(self, critic: str, critique: str) -> None:
        """What the workers are told with their next steps."""
        self._news = f"{critic} says: {critique}"


async def _think(floor: Floor, thinkers: Sequence[Speaker], known: Sequence[Idea], number: int) -> list[Idea]:
    """One round of ideas. In the first they think side by side, without each other's; what they said is told in their order."""
    task = (
        floor.task
        if number == 1
        else f"{floor.task}\n\nThe ideas so far:\n{_numbered(known)}\n\nAdd ideas that are not there yet."
    )
    for thinker in thinkers:
        thinker.aloud = False
    await asyncio.gather(*(thinker.run(task=task, cancellation_token=floor.token) for thinker in thinkers))
    for thinker in thinkers:
        thinker.speak_up()
    return [Idea(text, thinker.name, number) for thinker in thinkers for text in _ideas_in(thinker.speech.text)]


async def _sort(floor: Floor, ideas: Sequence[Idea], stopped: Mapping[str, Any] | None) -> Outcome:
    """The moderator's part: groups, then a ranking and the answer."""
    listed = f"{floor.task}\n\nThe ideas:\n{_numbered(ideas)}"
    grouper = floor.chair("moderator", "the moderator of a brainstorming", _MODERATOR, _groups_of(len(ideas)))
    groups = _grouped((await grouper.ask(f"{listed}\n\nGroup the ideas by what they have in common."))["groups"], ideas)
    shown = "\n".join(f"{group['name']}: {'; '.join(group['ideas'])}" for group in groups)
    floor.conversation.say(grouper.name, shown, kind="summary", steps=grouper.speech.steps)
    ranker = floor.chair("moderator", "the moderator of a brainstorming", _MODERATOR, _ranking_of(len(ideas)))
    question = f"{listed}\n\nThe groups:\n{shown}\n\nRank the ideas, the best first, each with the reason, and answer the task."
    ranked = await ranker.ask(question)
    ranking = _ranked(ranked["ranking"], ideas)
    shown = "\n".join(f"{number}. {place['idea']} ({place['why']})" for number, place in enumerate(ranking, 1))
    floor.conversation.say(ranker.name, shown, kind="judgement", steps=ranker.speech.steps)
    told = [{"idea": idea.text, "member": idea.member, "round": idea.round} for idea in ideas]
    return Outcome(ranked["answer"], stopped, {"ideas": told, "groups": groups, "ranking": ranking})


def _grouped(groups: Sequence[Mapping[str, Any]], ideas: Sequence[Idea]) -> list[dict[str, Any]]:
    """The groups with their ideas, each idea in the first that has it; what was forgotten is a group of its own."""
    taken: set[int] = set()
    made = []
    for group in groups:
        numbers = [number for number in dict.fromkeys(group["ideas"]) if number not in taken]
        taken.update(numbers)
        if numbers:
            made.append({"name": group["name"], "ideas": [ideas[number - 1].text for number in numbers]})
    rest = [idea.text for number, idea in enumerate(ideas, 1) if number not in taken]
    return [*made, {"name": "others", "ideas": rest}] if rest else made


def _ranked(ranking: Sequence[Mapping[str, Any]], ideas: Sequence[Idea]) -> list[dict[str, Any]]:
    """The ideas in the moderator's order; what it did not rank comes last."""
    why = {place["idea"]: place["why"] for place in reversed(ranking)}
    order = [*dict.fromkeys(place["idea"] for place in ranking)]
    order += [number for number in range(1, len(ideas) + 1) if number not in why]
    return [
        {"idea": ideas[number - 1].text, "member": ideas[number - 1].member, "why": why.get(number, "not ranked")}
        for number in order
    ]


def _ideas_in(text: str) -> list[str]:
    """The ideas of a message: its list, else the message as one."""
    return _IDEA.findall(text) or ([text] if text else [])


def _rounds(floor: Floor) -> int:
    return int(floor.team.options.get("rounds") or ROUNDS)


def _said(result: TaskResult) -> list[BaseChatMessage]:
    return [message for message in result.messages if isinstance(message, TextMessage)]


def _assigned(steps: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    return [{"member": step["member"], "task": step["task"]} for step in steps]


def _listed(steps: Sequence[Mapping[str, str]]) -> str:
    return "\n".join(f"{number}. {step['member']}: {step['task']}" for number, step in enumerate(steps, 1))


def _numbered(ideas: Sequence[Idea]) -> str:
    return "\n".join(f"{number}. {idea.text}" for number, idea in enumerate(ideas, 1))


def _debater_rules(side: str, sides: Sequence[str]) -> str:
    return (
        f"This is a debate of the sides: {', '.join(sides)}. You speak for the side: {side}. Argue for it with facts and reasons, and"
        " answer the arguments of the other sides. A judge decides at the end."
    )


def _planner_rules(floor: Floor) -> str:
    members = "\n".join(f"- {member.name}: {member.role}. {member.goal}" for member in floor.team.members)
    return f"Make a plan of few steps, each for one of the members:\n{members}\nAnswer in JSON: the steps, each with member and task."


_JUDGE = "Judge by the arguments alone. Answer in JSON: the winner (a side), why, and the answer to the task in the light of the debate."
_THINKER = (
    "This is a brainstorming. Write your ideas for the task, each on a line of its own that begins with '- '; no other lines."
)
_MODERATOR = "You group and rank the ideas of others. You name ideas by their numbers. Answer in JSON."
_WORKER = "The team works by a plan. When it is your turn, do the first step of yours that is not done, and write its result."
_CRITIC = (
    "Say whether the task is solved, what is missing or wrong, and, if it is not solved, the steps to be done next. Answer in JSON:"
    " solved, critique, the answer to the task as far as it goes, and steps (none, if it is solved)."
)


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _verdict_of(sides: Sequence[str]) -> dict[str, Any]:
    return _object(winner={"type": "string", "enum": list(sides)}, why=TEXT, answer=TEXT)


def _groups_of(count: int) -> dict[str, Any]:
    number = {"type": "integer", "minimum": 1, "maximum": count}
    return _object(groups={"type": "array", "items": _object(name=TEXT, ideas={"type": "array", "items": number})})


def _ranking_of(count: int) -> dict[str, Any]:
    number = {"type": "integer", "minimum": 1, "maximum": count}
    return _object(ranking={"type": "array", "items": _object(idea=number, why=TEXT)}, answer=TEXT)


def _steps_of(members: Sequence[str], least: int) -> dict[str, Any]:
    step = _object(member={"type": "string", "enum": list(members)}, task=TEXT)
    return {"type": "array", "items": step, "minItems": least, "maxItems": MOST_STEPS}


def _plan_of(members: Sequence[str]) -> dict[str, Any]:
    return _object(steps=_steps_of(members, 1))


def _critique_of(members: Sequence[str]) -> dict[str, Any]:
    return _object(solved={"type": "boolean"}, critique=TEXT, answer=TEXT, steps=_steps_of(members, 0))
