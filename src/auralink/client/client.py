"""One class, one method a route, typed answers."""

import contextlib
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import UUID

import httpx2
import orjson
from pydantic import BaseModel

from auralink.audit.schemas import LogPage, Popular, UsageStats
from auralink.client.errors import ApiError, ServiceUnreachable
from auralink.core.secret import Secret
from auralink.core.server_events import EventReader
from auralink.flows.executions import FlowRun, FlowRunPage
from auralink.flows.schemas import FlowPage, FlowView, Graph
from auralink.mcp.schemas import (
    ConnectionPage,
    ConnectionTest,
    ConnectionView,
    ConnectResponse,
    ServerPage,
    ServerView,
    ToolCallResponse,
    ToolPage,
)
from auralink.runs.schemas import Accepted, RunDetail, RunPage
from auralink.schedules.schemas import ScheduleView
from auralink.teams.comparison import Comparison
from auralink.teams.conversations import Conversation, ConversationPage, TeamPerformance
from auralink.teams.schemas import MemberView, TeamPage, TeamView
from auralink.workflows.schemas import WorkflowPage, WorkflowView

TIMEOUT = 180.0
"""Seconds for one request: above the longest deadline that the service sets for a tool."""

Model = TypeVar("Model", bound=BaseModel)


class AuraLink:
    """A connection to a service, as one user.

        async with AuraLink("http://127.0.0.1:8001", Secret(token)) as client:
            connection = await client.connect("deepwiki")
            answer = await client.ask(connection.connection_id, "owner/name", "How does it work?")

    Every method raises `ApiError` for a problem that the service reports, and `ServiceUnreachable` if none answers.
    """

    def __init__(self, url: str, token: Secret | None = None, *, timeout: float = TIMEOUT) -> None:
        headers = {"Authorization": f"Bearer {token.reveal()}"} if token is not None else {}
        self._http = httpx2.AsyncClient(base_url=url.rstrip("/"), headers=headers, timeout=timeout, trust_env=False)
        self.url = url.rstrip("/")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections to the service."""
        await self._http.aclose()

    async def health(self) -> dict[str, Any]:
        """Whether the service is ready, by component. Answers also when it is not."""
        state: dict[str, Any] = await self._send("GET", "/health/ready", failing_is_an_answer=True)
        return state

    async def connect(self, server_type: str, **fields: Any) -> ConnectResponse:
        """Connects a server; `fields` are those of `POST /mcp/connect` (credentials, name, endpoint, policy)."""
        body = {"server_type": server_type, **fields}
        return await self._model(ConnectResponse, "POST", "/api/v1/mcp/connect", body)

    async def disconnect(self, connection_id: UUID) -> None:
        """Closes a connection and deletes its credential."""
        await self._send("POST", f"/api/v1/mcp/disconnect/{connection_id}")

    async def connections(self, *, cursor: str | None = None, limit: int = 200) -> ConnectionPage:
        """A page of the user's open connections."""
        return await self._model(ConnectionPage, "GET", "/api/v1/mcp/connections", query={"cursor": cursor, "limit": limit})

    async def connection(self, connection_id: UUID) -> ConnectionView:
        """One connection."""
        return await self._model(ConnectionView, "GET", f"/api/v1/mcp/connections/{connection_id}")

    async def test(self, connection_id: UUID) -> ConnectionTest:
        """Contacts the connection's server now."""
        return await self._model(ConnectionTest, "POST", f"/api/v1/mcp/connections/{connection_id}/test")

    async def servers(self) -> ServerPage:
        """The servers that the installation offers."""
        return await self._model(ServerPage, "GET", "/api/v1/mcp/servers")

    async def register_server(self, **fields: Any) -> ServerView:
        """Registers a server (admin); `fields` are those of `POST /mcp/servers`."""
        return await self._model(ServerView, "POST", "/api/v1/mcp/servers", fields)

    async def tools(self, query: str | None = None) -> ToolPage:
        """The tools of the user's connections."""
        return await self._model(ToolPage, "GET", "/api/v1/mcp/tools", query={"q": query})

    async def call(self, name: str, arguments: dict[str, Any]) -> ToolCallResponse:
        """Calls a tool by its name in the list."""
        return await self._model(ToolCallResponse, "POST", f"/api/v1/mcp/tools/{name}/call", {"arguments": arguments})

    async def ask(self, connection_id: UUID, repo_name: str, question: str) -> dict[str, Any]:
        """Asks a repository a question: `answer`, `sources`, `confidence`."""
        body = {"connection_id": str(connection_id), "repo_name": repo_name, "question": question}
        answer: dict[str, Any] = await self._send("POST", "/api/v1/mcp/deepwiki/ask", body)
        return answer

    async def audit(self, *, limit: int = 50, cursor: str | None = None) -> LogPage:
        """A page of the operation log, newest first."""
        return await self._model(LogPage, "GET", "/api/v1/audit", query={"limit": limit, "cursor": cursor})

    async def usage(self, days: int = 7) -> UsageStats:
        """Operations, errors, latency and cost."""
        return await self._model(UsageStats, "GET", "/api/v1/mcp/usage/stats", query={"days": days})

    async def popular(self, days: int = 7) -> Popular:
        """The user's most called tools."""
        return await self._model(Popular, "GET", "/api/v1/mcp/usage/popular", query={"days": days})

    async def find_workflow(self, reference: str) -> UUID:
        """The id of a workflow by its name or id. Raises ApiError (404) if there is none."""
        page = await self._model(WorkflowPage, "GET", "/api/v1/workflows", query={"name": reference})
        if page.items:
            return page.items[0].workflow_id
        return (await self._model(WorkflowView, "GET", f"/api/v1/workflows/{_id_of(reference, 'workflow')}")).workflow_id

    async def execute(self, workflow_id: UUID, input_data: dict[str, Any], **fields: Any) -> Accepted:
        """Starts a run of a workflow; `fields` are room_id and call_id."""
        body = {"input_data": input_data, **fields}
        return await self._model(Accepted, "POST", f"/api/v1/workflows/{workflow_id}/execute", body)

    async def create_team(self, team_name: str, **fields: Any) -> TeamView:
        """Makes a team; `fields` are those of `POST /teams`. Without members they are those of the template that fits."""
        return await self._model(TeamView, "POST", "/api/v1/teams", {"team_name": team_name, **fields})

    async def teams(self, *, name: str | None = None, limit: int = 50, cursor: str | None = None) -> TeamPage:
        """A page of the user's teams, newest first."""
        return await self._model(TeamPage, "GET", "/api/v1/teams", query={"name": name, "limit": limit, "cursor": cursor})

    async def find_team(self, reference: str) -> UUID:
        """The id of a team by its name or id. Raises ApiError (404) if there is none."""
        page = await self.teams(name=reference)
        if page.items:
            return page.items[0].team_id
        return (await self._model(TeamView, "GET", f"/api/v1/teams/{_id_of(reference, 'team')}")).team_id

    async def add_member(self, team_id: UUID, role: str, **fields: Any) -> MemberView:
        """Adds a member to a team; `fields` are those of `POST /teams/{id}/members`."""
        return await self._model(MemberView, "POST", f"/api/v1/teams/{team_id}/members", {"role": role, **fields})

    async def execute_team(self, team_id: UUID, task_description: str | None = None, **fields: Any) -> Accepted:
        """Starts a run of a team; `fields` are additional_context, room_id and call_id. The task may be left out if the team has one."""
        body = fields if task_description is None else {"task_description": task_description, **fields}
        return await self._model(Accepted, "POST", f"/api/v1/teams/{team_id}/execute", body)

    async def conversations(self, team_id: UUID, *, limit: int = 20, cursor: str | None = None) -> ConversationPage:
        """A page of a team's conversations with their messages, newest first."""
        query = {"limit": limit, "cursor": cursor}
        return await self._model(ConversationPage, "GET", f"/api/v1/teams/{team_id}/conversations", query=query)

    async def conversation(self, team_id: UUID, conversation_id: UUID) -> Conversation:
        """One conversation; its id is that of its run."""
        return await self._model(Conversation, "GET", f"/api/v1/teams/{team_id}/conversations/{conversation_id}")

    async def team_performance(self, team_id: UUID, *, days: int = 30) -> TeamPerformance:
        """What a team's runs of the last days came to, and each member's part in them."""
        return await self._model(TeamPerformance, "GET", f"/api/v1/teams/{team_id}/performance", query={"days": days})

    async def compare_team(self, team_id: UUID, **fields: Any) -> Comparison:
        """Gives one task to a team on several engines and models; `fields` are those of `POST /teams/{id}/compare`."""
        return await self._model(Comparison, "POST", f"/api/v1/teams/{team_id}/compare", fields)

    async def comparison(self, team_id: UUID, comparison_id: UUID) -> Comparison:
        """How far a comparison is, and what came of it."""
        return await self._model(Comparison, "GET", f"/api/v1/teams/{team_id}/compare/{comparison_id}")

    async def create_flow(self, flow_name: str, **fields: Any) -> FlowView:
        """Makes a flow; `fields` are those of `POST /flows`: a definition or a template, flow_type, description."""
        return await self._model(FlowView, "POST", "/api/v1/flows", {"flow_name": flow_name, **fields})

    async def flows(self, *, name: str | None = None, limit: int = 50, cursor: str | None = None) -> FlowPage:
        """A page of the user's flows, newest first."""
        return await self._model(FlowPage, "GET", "/api/v1/flows", query={"name": name, "limit": limit, "cursor": cursor})

    async def find_flow(self, reference: str) -> UUID:
        """The id of a flow by its name or id. Raises ApiError (404) if there is none."""
        page = await self.flows(name=reference)
        if page.items:
            return page.items[0].flow_id
        return (await self._model(FlowView, "GET", f"/api/v1/flows/{_id_of(reference, 'flow')}")).flow_id

    async def flow_graph(self, flow_id: UUID) -> Graph:
        """A flow as nodes and edges, and as Mermaid."""
        return await self._model(Graph, "GET", f"/api/v1/flows/{flow_id}/graph")

    async def execute_flow(self, flow_id: UUID, input_parameters: dict[str, Any], **fields: Any) -> Accepted:
        """Starts a run of a flow; `fields` are room_id and call_id."""
        body = {"input_parameters": input_parameters, **fields}
        return await self._model(Accepted, "POST", f"/api/v1/flows/{flow_id}/execute", body)

    async def flow_runs(self, flow_id: UUID, *, limit: int = 20, cursor: str | None = None) -> FlowRunPage:
        """A page of a flow's runs, newest first, step by step."""
        return await self._model(FlowRunPage, "GET", f"/api/v1/flows/{flow_id}/runs", query={"limit": limit, "cursor": cursor})

    async def flow_run(self, flow_id: UUID, run_id: UUID) -> FlowRun:
        """A run of a flow: state, time, tokens and cost of each step."""
        return await self._model(FlowRun, "GET", f"/api/v1/flows/{flow_id}/runs/{run_id}")

    async def schedule_flow(self, flow_id: UUID, **fields: Any) -> ScheduleView:
        """Has a flow run by the clock; `fields` are those of `POST /flows/{id}/schedules`."""
        return await self._model(ScheduleView, "POST", f"/api/v1/flows/{flow_id}/schedules", fields)

    async def runs(self, *, status: str | None = None, limit: int = 50, cursor: str | None = None) -> RunPage:
        """A page of the user's runs, newest first."""
        return await self._model(RunPage, "GET", "/api/v1/runs", query={"status": status, "limit": limit, "cursor": cursor})

    async def run(self, run_id: UUID) -> RunDetail:
        """One run."""
        return await self._model(RunDetail, "GET", f"/api/v1/runs/{run_id}")

    async def run_when_ended(self, run_id: UUID) -> RunDetail:
        """The run when it has ended, however long that takes."""
        async for _ in self.run_events(run_id):
            pass
        return await self.run(run_id)

    async def run_events(self, run_id: UUID) -> AsyncIterator[dict[str, Any]]:
        """The run's events as they happen, each {"type", "seq", "at", "data"} (`token`: {"type", "data"}), to its end; a connection that
        breaks is made anew."""
        reader, seen = EventReader(), 0
        while True:
            with contextlib.suppress(httpx2.TransportError):
                path = f"/api/v1/runs/{run_id}/events"
                async with self._http.stream("GET", path, params={"after": seen}) as response:
                    if not response.is_success:
                        await response.aread()
                        raise ApiError(_problem(response))
                    async for event in reader.read(response.aiter_bytes()):
                        told = orjson.loads(event.data)
                        seen = told.get("seq", seen)
                        yield {"type": event.name, **told}
                    return
            await self.run(run_id)  # raises ServiceUnreachable, if that is why

    async def cancel_run(self, run_id: UUID) -> RunDetail:
        """Cancels a run and what it has started."""
        return await self._model(RunDetail, "POST", f"/api/v1/runs/{run_id}/cancel")

    async def resume_run(self, run_id: UUID) -> Accepted:
        """A new run from the journal of a failed or cancelled one."""
        return await self._model(Accepted, "POST", f"/api/v1/runs/{run_id}/resume")

    async def fork_run(self, run_id: UUID, at: int, overrides: dict[str, Any]) -> Accepted:
        """A new run with the first entries of a journal, which then goes its own way."""
        return await self._model(Accepted, "POST", f"/api/v1/runs/{run_id}/fork", {"at": at, "overrides": overrides})

    async def _model(
        self, model: type[Model], method: str, path: str, body: Any = None, *, query: dict[str, Any] | None = None
    ) -> Model:
        return model.model_validate(await self._send(method, path, body, query=query))

    async def _send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: dict[str, Any] | None = None,
        failing_is_an_answer: bool = False,
    ) -> Any:
        parameters = {name: value for name, value in (query or {}).items() if value is not None}
        content = None if body is None else orjson.dumps(body)
        headers = {"Content-Type": "application/json"} if content is not None else {}
        try:
            response = await self._http.request(method, path, content=content, params=parameters, headers=headers)
        except httpx2.TransportError as error:
            raise ServiceUnreachable(f"no AuraLink service answers at {self.url} ({error or type(error).__name__})") from error
        if response.is_success or failing_is_an_answer:
            return orjson.loads(response.content) if response.content else None
        raise ApiError(_problem(response))


def _id_of(reference: str, what: str) -> UUID:
    try:
        return UUID(reference)
    except ValueError:
        problem = {"status": 404, "code": f"{what}_not_found", "message": f"you have no {what} {reference!r}"}
        raise ApiError(problem) from None


def _problem(response: httpx2.Response) -> dict[str, Any]:
    try:
        problem = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        problem = None
    if isinstance(problem, dict):
        return problem
    return {"status": response.status_code, "message": f"the service answered HTTP {response.status_code}"}
