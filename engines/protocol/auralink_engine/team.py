"""Teams as every engine of them sees them: the definition, the task, what is said, and what comes of it. No framework, no I/O.

The service checks definitions (auralink.teams.definition) and shows conversations (auralink.teams.conversations); this is the other
side of the same seam. docs/reference/team-definitions.md describes both to users.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from auralink_engine.job import Emit, Job

TEAM = "team"
USER = "user"
MAX_SHOWN = 20_000
MAX_SOURCES = 50
MAX_FACTS = 12
NOTE = "team_note"


class MemberFailed(Exception):
    """A member could not do its part; the message names member, tool or model, and cause."""

    code = "MemberFailed"


@dataclass(frozen=True, slots=True)
class Member:
    """One of a team. `name` is unique in it and an identifier; `tools` are names as in `/mcp`."""

    name: str
    role: str
    goal: str
    instructions: str
    model: str
    tools: tuple[str, ...]
    can_delegate: bool

    @property
    def brief(self) -> str:
        """Who the member is, as its model is told."""
        return "\n\n".join(
            part for part in (f"You are {self.role}.", self.goal and f"Your goal: {self.goal}", self.instructions) if part
        )


@dataclass(frozen=True, slots=True)
class Team:
    """A team's definition as the service has checked it: every default is filled in, members stand in their order."""

    name: str
    description: str
    mode: str
    members: tuple[Member, ...]
    manager: Member | None
    model: str
    """Of those who are no members: who selects the next speaker, judges, moderates, sums up."""
    options: Mapping[str, Any]
    turns: int
    """Messages of members that a run may have."""
    member_turns: int
    """Model calls that a member may make for one message, with tools between them."""
    answer_tokens: int | None
    temperature: float | None
    memory: str | None
    """The connection that what was learned is written to."""

    @classmethod
    def of(cls, definition: Mapping[str, Any]) -> "Team":
        """The team of a stored definition."""
        members = tuple(_member(given) for given in definition["members"])
        manager = definition.get("manager")
        limits = definition["limits"]
        return cls(
            name=definition["name"],
            description=definition["description"],
            mode=definition["mode"],
            members=tuple(member for member in members if member.name != manager),
            manager=next((member for member in members if member.name == manager), None),
            model=definition["model"],
            options=definition["options"],
            turns=limits["turns"],
            member_turns=limits["member_turns"],
            answer_tokens=limits.get("answer_tokens"),
            temperature=limits.get("temperature"),
            memory=definition.get("memory"),
        )

    @property
    def tools(self) -> frozenset[str]:
        """Every tool that somebody may use."""
        everybody = (*self.members, *((self.manager,) if self.manager else ()))
        return frozenset(tool for member in everybody for tool in member.tools)


def task_of(job: Job) -> str:
    """The task as members are told it: what is to be done, what else is known, the date."""
    given = job.input
    parts = [given["task_description"]]
    context = given.get("additional_context")
    if context:
        parts.append("Context:\n" + "\n".join(_lines_of(context)))
    parts.append(f"Today is {job.accepted_at:%A, %d %B %Y}.")
    return "\n\n".join(parts)


@dataclass
class Conversation:
    """What is said in a run; each message is an event as it happens. Every attempt tells it from its beginning."""

    emit: Emit
    said: list[dict[str, Any]] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)

    def say(
        self,
        sender: str,
        content: str,
        *,
        to: str = TEAM,
        kind: str = "message",
        tool_calls: Sequence[Mapping[str, Any]] = (),
        steps: Iterable[int] = (),
    ) -> None:
        """A message. `kind` says what it is for (message, delegation, handoff, vote, judgement, idea, plan, critique, summary);
        `tool_calls` are those made for it, each {tool, arguments, answer, failed} and, not shown, `data`: the answer as data,
        if it was given as such; `steps` the model calls, as the journal numbers
        them, which is where tokens and cost are."""
        calls = [dict(call) for call in tool_calls]
        self.calls += [{"member": sender, **call} for call in calls]
        shown = [
            {key: value for key, value in call.items() if key != "data"} | {"answer": str(call.get("answer", ""))[:MAX_SHOWN]}
            for call in calls
        ]
        message = {
            "n": len(self.said) + 1,
            "from": sender,
            "to": to,
            "kind": kind,
            "content": content[:MAX_SHOWN],
            "tool_calls": shown,
            "steps": sorted(set(steps)),
        }
        self.said.append(message)
        self.emit("message", **message)

    def output(self, answer: str, *, stopped: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        """The run's output. `stopped`: the limit that ended it, {limit, message}: the answer is then what there was. `more` is the
        mode's own: votes, winner, ideas."""
        turns = Counter(message["from"] for message in self.said)
        return {
            "answer": answer,
            "stopped": dict(stopped) if stopped else None,
            "sources": sources_of(self.calls),
            "turns": dict(turns),
            **more,
        }


def sources_of(calls: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Where an answer comes from: the places that answers of tools name ({file, line} or {url}), else the calls that worked."""
    found: dict[str, dict[str, Any]] = {}
    for call in calls:
        if call.get("failed"):
            continue
        about = {"tool": call["tool"], "member": call.get("member")}
        places = (
            list(_places_in(call.get("data")))
            or list(_places_in(call.get("answer")))
            or [{"arguments": call.get("arguments", {})}]
        )
        for place in places:
            found.setdefault(json.dumps([call["tool"], place], sort_keys=True, default=str), {**about, **place})
    return list(found.values())[:MAX_SOURCES]


def majority(votes: Mapping[str, str]) -> tuple[str | None, dict[str, int]]:
    """What more than half voted for (None: there is no such), and the count; `votes` is who voted for what."""
    count = Counter(votes.values())
    winner = next((choice for choice, votes_for in count.items() if 2 * votes_for > len(votes)), None)
    return winner, dict(count.most_common())


def loads(text: str) -> Any:
    """The JSON in a model's answer, with or without a Markdown fence or words around it. Raises ValueError if there is none."""
    text = text.strip()
    try:
        return json.loads(text)
    except ValueError:
        start, end = (
            min((at for at in (text.find("{"), text.find("[")) if at >= 0), default=-1),
            max(text.rfind("}"), text.rfind("]")),
        )
        if start < 0 or end < start:
            raise ValueError(f"there is no JSON in {text[:200]!r}") from None
        return json.loads(text[start : end + 1])


FACTS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"facts": {"type": "array", "items": {"type": "string"}, "maxItems": MAX_FACTS}},
    "required": ["facts"],
    "additionalProperties": False,
}


def facts_question(task: str, answer: str) -> str:
    """Asks a model what of an answer is worth remembering, as JSON of FACTS_SCHEMA."""
    return (
        f"A team worked on this task:\n{task}\n\nIts result:\n{answer}\n\n"
        f'List at most {MAX_FACTS} short facts of the result that are worth remembering, as JSON: {{"facts": ["…"]}}. '
        "Each must be understandable by itself and stand in the result."
    )


def facts_in(said: str) -> list[str]:
    """The facts that a model answered with. Raises ValueError if there is no list of them."""
    given = loads(said)
    facts = given.get("facts") if isinstance(given, Mapping) else None
    if not isinstance(facts, list):
        raise ValueError(f"there is no list of facts in {said[:200]!r}")  # noqa: TRY004 (it is what a model said)
    return [str(fact) for fact in facts]


def memory_of(team: Team, job: Job, facts: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The entity that a run leaves in the user's memory, as the arguments of `create_entities`, and of `add_observations` for when
    the entity is there already. The run is the source."""
    run = job.origin or job.run
    name = f"{team.name}: {' '.join(job.input['task_description'].split())[:120]}"
    observations = [*(fact.strip() for fact in facts if fact.strip()), f"source: run {run} of {job.accepted_at:%Y-%m-%d}"]
    entity = {"name": name, "entityType": NOTE, "observations": observations}
    return {"entities": [entity]}, {"observations": [{"entityName": name, "contents": observations}]}


def _member(given: Mapping[str, Any]) -> Member:
    return Member(
        given["name"],
        given["role"],
        given["goal"],
        given["instructions"],
        given["model"],
        tuple(given["tools"]),
        given["can_delegate"],
    )


def _lines_of(context: Any) -> Iterable[str]:
    """A context for reading: a line for each member or item; what is nested deeper stands in it as JSON."""
    if isinstance(context, Mapping):
        yield from (f"- {str(name).replace('_', ' ')}: {_inline(value)}" for name, value in context.items())
    elif isinstance(context, list):
        yield from (f"- {_inline(value)}" for value in context)
    else:
        yield str(context)


def _inline(value: Any) -> str:
    plain = value if isinstance(value, list) else [value]
    if any(isinstance(item, Mapping | list) for item in plain):
        return json.dumps(value, ensure_ascii=False)
    return ", ".join(item if isinstance(item, str) else json.dumps(item, ensure_ascii=False) for item in plain)


def _places_in(answer: Any) -> Iterable[dict[str, Any]]:
    if isinstance(answer, str):
        if answer[:1] not in ("{", "["):
            return
        try:
            answer = json.loads(answer)
        except ValueError:
            return
    listed = (
        next((answer[key] for key in ("sources", "hits", "results") if key in answer), None)
        if isinstance(answer, Mapping)
        else answer
    )
    for place in listed if isinstance(listed, list) else ():
        if isinstance(place, Mapping) and ("url" in place or "file" in place):
            yield {
                key: place[key] for key in ("url", "file", "line", "end_line", "title", "heading") if place.get(key) is not None
            }
