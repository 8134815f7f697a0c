"""What teams said in their runs, and what that came to, by team and by member."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow
from pydantic import BaseModel, ConfigDict, Field

from auralink.auth.principal import Principal
from auralink.core.db import Database
from auralink.core.money import Usd
from auralink.core.paging import Position, encode_cursor
from auralink.runs.schemas import Reason, Status
from auralink.teams import conversation_store as store
from auralink.teams.errors import ConversationNotFound
from auralink.teams.starting import get


class Message(BaseModel):
    """Something that was said. `kind` is message, delegation, handoff, vote, judgement, idea, plan, critique or summary; tokens and
    cost are those of the model calls that it took (`steps`, by their numbers in the run's journal)."""

    model_config = ConfigDict(populate_by_name=True)

    n: int
    sender: str = Field(alias="from")
    recipient: str = Field(alias="to")
    kind: str
    content: str
    tool_calls: list[dict[str, Any]]
    steps: list[int]
    tokens: int
    cost_usd: Usd
    at: datetime


class Conversation(BaseModel):
    """A run of a team as a conversation; its id is the run's."""

    conversation_id: UUID
    team_id: UUID
    team_type: str
    collaboration_mode: str | None
    team_version: int | None
    status: Status
    reason: Reason | None
    task: Any
    answer: str | None
    result: Any
    error: Any
    messages: list[Message]
    calls: int
    tokens: int
    cost_usd: Usd
    accepted_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class ConversationPage(BaseModel):
    """A page of conversations, newest first."""

    items: list[Conversation]
    next_cursor: str | None


class MemberPerformance(BaseModel):
    """What one member did, by its name at the time; who was no member (a manager, a judge) is here too."""

    member: str
    messages: int
    model_calls: int
    tool_calls: int
    failed_tool_calls: int
    tokens: int
    cost_usd: Usd


class TeamPerformance(BaseModel):
    """What a team's runs came to; `calls` are those of models and tools."""

    team_id: UUID
    days: int
    runs: int
    succeeded: int
    failed: int
    cancelled: int
    under_way: int
    success_rate: float | None = Field(description="of the runs that have ended by themselves; null before the first")
    p50_seconds: float | None
    p95_seconds: float | None
    calls: int
    tokens: int
    cost_usd: Usd
    last_run_at: datetime | None
    members: list[MemberPerformance]


class Conversations:
    """What users see of their teams' work."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def page(
        self, principal: Principal, team_id: UUID, *, status: Status | None, after: Position | None, limit: int
    ) -> ConversationPage:
        """A team's conversations, newest first. Raises TeamNotFound."""
        async with self._db.tenant(principal) as connection:
            await get(connection, team_id)
            rows = await store.page(connection, team_id, status=status, after=after, limit=limit + 1)
            said = await store.messages(connection, [row["conversation_id"] for row in rows[:limit]])
        items = [_conversation(row, said) for row in rows[:limit]]
        cursor = encode_cursor((items[-1].accepted_at, items[-1].conversation_id)) if len(rows) > limit else None
        return ConversationPage(items=items, next_cursor=cursor)

    async def get(self, principal: Principal, team_id: UUID, conversation_id: UUID) -> Conversation:
        """One of them. Raises TeamNotFound, ConversationNotFound."""
        async with self._db.tenant(principal) as connection:
            await get(connection, team_id)
            row = await store.find(connection, team_id, conversation_id)
            if row is None:
                raise ConversationNotFound(f"this team had no conversation {conversation_id}; GET …/conversations lists them")
            return _conversation(row, await store.messages(connection, [conversation_id]))

    async def performance(self, principal: Principal, team_id: UUID, *, days: int) -> TeamPerformance:
        """What the runs of the last days came to. Raises TeamNotFound."""
        async with self._db.tenant(principal) as connection:
            await get(connection, team_id)
            row = await store.statistics(connection, team_id, days)
            members = await store.members(connection, row.pop("ids"))
        ended = row["succeeded"] + row["failed"]
        rate = row["succeeded"] / ended if ended else None
        did = [MemberPerformance(**member) for member in members]
        return TeamPerformance(team_id=team_id, days=days, success_rate=rate, members=did, **row)


def _conversation(row: DictRow, said: Sequence[DictRow]) -> Conversation:
    result = row["result"]
    answer = result.get("answer") if isinstance(result, dict) else None
    messages = [Message(**message) for message in said if message["conversation_id"] == row["conversation_id"]]
    return Conversation(**row, answer=answer if isinstance(answer, str) else None, messages=messages)
