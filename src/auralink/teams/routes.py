"""HTTP of teams. What happens is in `service.py`, `conversations.py` and `comparison.py`."""

from typing import Annotated
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response

from auralink.auth.dependencies import Authenticated
from auralink.core.http import JSONBytes
from auralink.core.idempotency import idempotently, in_place_of, once
from auralink.core.paging import Limit, decode_cursor
from auralink.runs.routes import Service as RunService
from auralink.runs.routes import accepted, execute, preferred_wait
from auralink.runs.schemas import Accepted, Status
from auralink.teams.comparison import CompareBody, Comparison, Comparisons
from auralink.teams.conversations import Conversation, ConversationPage, Conversations, TeamPerformance
from auralink.teams.schemas import (
    Execute,
    MemberBody,
    MemberPage,
    MemberPatch,
    MemberView,
    TeamBody,
    TeamPage,
    TeamPatch,
    TeamView,
    TemplatePage,
)
from auralink.teams.service import Teams

PREFIX = "/api/v1/teams"
router = APIRouter(prefix=PREFIX, tags=["teams"])


async def _teams(request: Request) -> Teams:
    teams: Teams = request.app.state.teams
    return teams


async def _conversations(request: Request) -> Conversations:
    conversations: Conversations = request.app.state.team_conversations
    return conversations


async def _comparisons(request: Request) -> Comparisons:
    comparisons: Comparisons = request.app.state.team_comparisons
    return comparisons


Service = Annotated[Teams, Depends(_teams)]
ConversationService = Annotated[Conversations, Depends(_conversations)]
ComparisonService = Annotated[Comparisons, Depends(_comparisons)]


@router.get("")
async def list_teams(
    principal: Authenticated, teams: Service, name: str | None = None, limit: Limit = 50, cursor: str | None = None
) -> TeamPage:
    """Your teams with their members, newest first."""
    return await teams.page(principal, name=name, after=decode_cursor(cursor), limit=limit)


@router.post("", status_code=201, response_model=TeamView)
async def create_team(body: TeamBody, request: Request, principal: Authenticated, teams: Service) -> Response:
    """Makes a team of the members in the body, of a template, or of the template that fits its name and description best."""
    return await once(request, principal, lambda: teams.create(principal, body), 201)


@router.get("/templates")
async def list_templates(_principal: Authenticated, teams: Service) -> TemplatePage:
    """The teams that come with the service."""
    return teams.templates()


@router.get("/{team_id}")
async def get_team(team_id: UUID, principal: Authenticated, teams: Service) -> TeamView:
    """One team with its members."""
    return await teams.get(principal, team_id)


@router.patch("/{team_id}")
async def change_team(team_id: UUID, patch: TeamPatch, principal: Authenticated, teams: Service) -> TeamView:
    """Changes a team, which raises its version; runs under way keep the one they have."""
    return await teams.change(principal, team_id, patch)


@router.delete("/{team_id}", status_code=204)
async def remove_team(team_id: UUID, principal: Authenticated, teams: Service) -> None:
    """Deletes a team with its members; its runs stay."""
    await teams.remove(principal, team_id)


@router.get("/{team_id}/members")
async def list_members(team_id: UUID, principal: Authenticated, teams: Service) -> MemberPage:
    """A team's members, in the order in which they work."""
    return await teams.members(principal, team_id)


@router.post("/{team_id}/members", status_code=201, response_model=MemberView)
async def add_member(team_id: UUID, body: MemberBody, request: Request, principal: Authenticated, teams: Service) -> Response:
    """Adds a member, which raises the team's version; its tools must be there and allowed."""
    return await once(request, principal, lambda: teams.add_member(principal, team_id, body), 201)


@router.get("/{team_id}/members/{member_id}")
async def get_member(team_id: UUID, member_id: UUID, principal: Authenticated, teams: Service) -> MemberView:
    """One member."""
    return await teams.member(principal, team_id, member_id)


@router.patch("/{team_id}/members/{member_id}")
async def change_member(
    team_id: UUID, member_id: UUID, patch: MemberPatch, principal: Authenticated, teams: Service
) -> MemberView:
    """Changes a member, which raises the team's version."""
    return await teams.change_member(principal, team_id, member_id, patch)


@router.delete("/{team_id}/members/{member_id}", status_code=204)
async def remove_member(team_id: UUID, member_id: UUID, principal: Authenticated, teams: Service) -> None:
    """Removes a member, which raises the team's version."""
    await teams.remove_member(principal, team_id, member_id)


@router.post("/{team_id}/execute", status_code=202, response_model=Accepted)
async def execute_team(
    team_id: UUID, body: Execute, request: Request, principal: Authenticated, teams: Service, runs: RunService
) -> Response:
    """Starts a run: 202 with its address, or with `Prefer: wait=N` the run with its output when it has ended."""

    async def start() -> Response:
        return accepted(await teams.execute(principal, team_id, body))

    answer = await idempotently(request.app.state.db, principal, request, start)
    if answer.status_code >= 400:
        return answer
    run_id = UUID(orjson.loads(answer.body)["run_id"])
    return in_place_of(answer, await execute(request, principal, runs, await runs.get(principal, run_id)))


@router.get("/{team_id}/conversations")
async def list_conversations(
    team_id: UUID,
    principal: Authenticated,
    conversations: ConversationService,
    status: Status | None = None,
    limit: Limit = 20,
    cursor: str | None = None,
) -> ConversationPage:
    """The team's runs with every message: who, to whom, text, tool calls, tokens, cost. Newest first."""
    return await conversations.page(principal, team_id, status=status, after=decode_cursor(cursor), limit=limit)


@router.get("/{team_id}/conversations/{conversation_id}")
async def get_conversation(
    team_id: UUID, conversation_id: UUID, principal: Authenticated, conversations: ConversationService
) -> Conversation:
    """One conversation; its id is that of its run."""
    return await conversations.get(principal, team_id, conversation_id)


@router.get("/{team_id}/performance")
async def team_performance(
    team_id: UUID,
    principal: Authenticated,
    conversations: ConversationService,
    days: Annotated[int, Query(ge=1, le=366)] = 30,
) -> TeamPerformance:
    """What the team's runs came to, and what each member did in them."""
    return await conversations.performance(principal, team_id, days=days)


@router.post("/{team_id}/compare", status_code=202, response_model=Comparison)
async def compare(
    team_id: UUID, body: CompareBody, request: Request, principal: Authenticated, comparisons: ComparisonService
) -> Response:
    """Gives one task to the team on each engine with each model: 202 with the comparison's address, or with `Prefer: wait=N` 200 when
    all runs have ended."""

    async def start() -> Response:
        begun = await comparisons.start(principal, team_id, body)
        return JSONBytes(begun.model_dump(mode="json"), status_code=202)

    answer = await idempotently(request.app.state.db, principal, request, start)
    if answer.status_code >= 400:
        return answer
    comparison_id = UUID(orjson.loads(answer.body)["comparison_id"])
    within = preferred_wait(request.headers.get("prefer", ""))
    seen = await comparisons.get(principal, team_id, comparison_id, within=within)
    location = {} if seen.finished else {"Location": f"{PREFIX}/{team_id}/compare/{comparison_id}"}
    shown = JSONBytes(seen.model_dump(mode="json"), status_code=200 if seen.finished else 202, headers=location)
    return in_place_of(answer, shown)


@router.get("/{team_id}/compare/{comparison_id}")
async def get_comparison(
    team_id: UUID, comparison_id: UUID, principal: Authenticated, comparisons: ComparisonService
) -> Comparison:
    """A comparison: answer, status, time, tokens, cost and calls of its runs side by side."""
    return await comparisons.get(principal, team_id, comparison_id)
