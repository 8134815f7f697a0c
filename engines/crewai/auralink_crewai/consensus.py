"""Consensus: all answer, each alone; all vote for the best answer; without a majority all revise and vote again."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from auralink_engine.team import loads
from crewai import Task

from auralink_crewai.crews import Participant, Work
from auralink_crewai.delegation import delegating

AN_ANSWER = "Your own complete answer to the task."
A_VOTE = 'JSON with the name of the member whose answer is the best, and why: {"for": "...", "why": "..."}'
ROUNDS = 3


def consensus(work: Work) -> None:
    """Leaves the answer that more than half voted for, or, when rounds or messages are used up, the one with the most votes."""
    work.more = {"votes": [], "agreed": False, "chosen": None}
    answers = _answers(work, {})
    for number in range(1, int(work.team.options.get("rounds", ROUNDS)) + 1):
        if number > 1:
            if not _may(work, 2):
                return
            answers = _answers(work, answers)
        if not _may(work, 1):
            return
        _vote(work, answers, number)
        if work.more["agreed"]:
            return
    work.stop("rounds", "the members did not agree; the answer has the most votes, and among equals stands first")


def _may(work: Work, phases: int) -> bool:
    """Whether all members may speak once more in so many phases."""
    may = work.turns_left >= phases * len(work.participants)
    if not may:
        work.stop("turns", f"the team may say {work.team.turns} messages; the answer is the best until then")
    return may


def _answers(work: Work, before: Mapping[str, str]) -> dict[str, str]:
    answers: dict[str, str] = {}

    def keep(speaker: Participant, text: str) -> None:
        answers[speaker.name] = text
        if not before and len(answers) == 1:
            work.answer, work.more["chosen"] = text, speaker.name
        work.say(speaker, text)

    speakers = work.participants[: work.turns_left]
    if len(speakers) < len(work.participants):
        work.stop("turns", f"the team may say {work.team.turns} messages; it has {len(work.participants)} members")
    tasks = [
        Task(
            name=speaker.name,
            description=_to_answer(work, speaker, before),
            expected_output=AN_ANSWER,
            agent=speaker.agent,
            context=[],
            callback=lambda output, speaker=speaker: keep(speaker, output.raw),
        )
        for speaker in speakers
    ]
    with delegating(work, []):
        work.crew(tasks, [speaker.agent for speaker in speakers]).kickoff()
    return answers


def _vote(work: Work, answers: Mapping[str, str], number: int) -> None:
    votes: dict[str, dict[str, Any]] = {}
    for voter in work.participants:
        agent = work.agent(voter.member, voter.model, [], delegates=False)
        task = Task(description=_to_vote(work, answers), expected_output=A_VOTE, agent=agent, context=[])
        with voter.model.answering(_vote_schema(list(answers))):
            text = str(work.crew([task], [agent]).kickoff())
        vote = votes[voter.name] = _vote_in(text, work.participants)
        work.say(voter, f"For {vote['for']}: {vote['why']}" if vote["for"] else vote["why"], kind="vote")
    count = Counter(vote["for"] for vote in votes.values() if vote["for"] is not None)
    chosen = max(answers, key=lambda name: count[name])
    work.answer = answers[chosen]
    work.more["votes"].append({"round": number, "votes": votes, "count": {name: count[name] for name in answers if count[name]}})
    work.more |= {"chosen": chosen, "agreed": 2 * count[chosen] > len(work.participants)}


def _to_answer(work: Work, speaker: Participant, before: Mapping[str, str]) -> str:
    if not before:
        return work.task
    last = work.more["votes"][-1]["votes"]
    voted = "\n".join(f"- {name} voted for {vote['for']}: {vote['why']}" for name, vote in last.items() if vote["for"])
    return (
        f"{work.task}\n\nThe team did not agree yet. Your answer was:\n{before[speaker.name]}\n\n"
        f"The others' answers:\n\n{_listed({name: text for name, text in before.items() if name != speaker.name})}\n\n"
        f"The votes:\n{voted}\n\nRevise your answer: take over what is better in the others', keep what is right in yours."
    )


def _to_vote(work: Work, answers: Mapping[str, str]) -> str:
    return (
        f"The team was given this task:\n{work.task}\n\nThe members' answers:\n\n{_listed(answers)}\n\n"
        f"Vote for the best of these answers. Its author is one of: {', '.join(answers)}."
    )


def _listed(answers: Mapping[str, str]) -> str:
    return "\n\n".join(f"[{name}]\n{text}" for name, text in answers.items())


def _vote_schema(names: list[str]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"for": {"type": "string", "enum": names}, "why": {"type": "string"}},
        "required": ["for", "why"],
        "additionalProperties": False,
    }


def _vote_in(text: str, participants: list[Participant]) -> dict[str, Any]:
    """The vote that a text is, for a member's name; for nobody (None) where it is none."""
    names = {key.casefold(): one.name for one in participants for key in (one.member.role, one.name)}
    try:
        given = loads(text)
    except ValueError:
        given = None
    if not isinstance(given, Mapping) or str(given.get("for", "")).strip().casefold() not in names:
        return {"for": None, "why": f"this is no vote: {text[:500]}"}
    return {"for": names[str(given["for"]).strip().casefold()], "why": str(given.get("why", ""))}
