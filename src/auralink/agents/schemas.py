"""Wire shapes of agents and their threads."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from auralink.runs.schemas import Status
from auralink.workflows.schemas import Given, Name

Text = Annotated[str, StringConstraints(max_length=200_000, pattern=r"^[^\x00]*$")]
Said = Annotated[str, StringConstraints(min_length=1, max_length=200_000, pattern=r"^[^\x00]*$")]
Tools = Annotated[list[Given], Field(max_length=200)]


class AgentLimits(BaseModel):
    """Where an answer stops. Tokens and cost are a budget: a run that has used it up waits until it is raised."""

    model_config = ConfigDict(extra="forbid")

    turns: int = Field(default=8, ge=1, le=50, description="calls of the model, each may use tools")
    seconds: float | None = Field(default=None, gt=0, le=7 * 24 * 3600)
    tokens: int | None = Field(default=None, ge=1)
    cost_usd: Decimal | None = Field(default=None, ge=0)
    answer_tokens: int | None = Field(default=None, ge=1, description="of one model call's answer")
    temperature: float | None = Field(default=None, ge=0, le=2)
    history: int = Field(default=20, ge=0, le=200, description="turns of the thread that the model is told")


class AgentBody(BaseModel):
    """POST /agents."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    instructions: Text
    model: Given = "auto"
    tools: Tools = []
    memory: bool | Given = Field(default=False, description="true, or the name of a memory connection")
    limits: AgentLimits = AgentLimits()


class AgentPatch(BaseModel):
    """PATCH /agents/{id}. What is not there stays."""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = None
    instructions: Text | None = None
    model: Given | None = None
    tools: Tools | None = None
    memory: bool | Given | None = None
    limits: AgentLimits | None = None


class AgentView(BaseModel):
    """An agent; `memory` is the connection that it remembers with, or false."""

    agent_id: UUID
    name: str
    version: int
    instructions: str
    model: str
    tools: list[str]
    memory: str | Literal[False]
    limits: AgentLimits
    created_at: datetime
    updated_at: datetime


class AgentPage(BaseModel):
    """A page of agents, newest first."""

    items: list[AgentView]
    next_cursor: str | None


class Chat(BaseModel):
    """POST /agents/{id}/chat."""

    model_config = ConfigDict(extra="forbid")

    message: Said
    thread_id: UUID | None = Field(default=None, description="goes on with a thread; without it one begins")
    stream: bool = Field(default=False, description="answer with server-sent events")
    room_id: Given | None = None
    call_id: Given | None = None


class ChatAnswer(BaseModel):
    """What an agent said; 202 and no answer yet where its run goes on (`GET /runs/{run_id}` says how)."""

    thread_id: UUID
    run_id: UUID
    status: Status
    reason: str | None = None
    answer: str | None = None
    tool_calls: list[dict[str, Any]] = []
    error: Any = None


class ThreadView(BaseModel):
    """A conversation."""

    thread_id: UUID
    agent_id: UUID
    turns: int
    created_at: datetime
    updated_at: datetime


class ThreadPage(BaseModel):
    """A page of threads, newest first."""

    items: list[ThreadView]
    next_cursor: str | None


class Turn(BaseModel):
    """Something that was said, and what the agent answered."""

    seq: int
    run_id: UUID
    message: str
    answer: str | None
    status: Literal["open", "succeeded", "failed", "cancelled"]
    at: datetime


class TurnPage(BaseModel):
    """A part of a thread, in order."""

    items: list[Turn]
    next_cursor: str | None
