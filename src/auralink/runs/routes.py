"""HTTP of runs: lists, events as they happen (SSE), the journal, and what a person does with a run."""

from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request
from starlette.responses import Response, StreamingResponse

from auralink.auth.dependencies import Authenticated
from auralink.auth.principal import Principal
from auralink.auth.signed import Signed
from auralink.core.db import Database
from auralink.core.errors import InvalidRequest
from auralink.core.http import JSONBytes, dumps
from auralink.core.idempotency import idempotently
from auralink.core.paging import Limit, decode_cursor
from auralink.runs.schemas import (
    Accepted,
    Event,
    Fork,
    JournalPage,
    Run,
    RunDetail,
    RunKind,
    RunPage,
    Status,
    StepDecision,
    Token,
)
from auralink.runs.service import Runs

PREFIX = "/api/v1/runs"
MAX_WAIT = 120.0
MAX_EVENT = 2**62
router = APIRouter(prefix=PREFIX, tags=["runs"])


async def _runs(request: Request) -> Runs:
    runs: Runs = request.app.state.runs
    return runs


Service = Annotated[Runs, Depends(_runs)]


@router.get("")
async def list_runs(
    principal: Authenticated,
    runs: Service,
    status: Status | None = None,
    kind: RunKind | None = None,
    definition_id: UUID | None = None,
    limit: Limit = 50,
    cursor: str | None = None,
) -> RunPage:
    """Your runs, newest first."""
    chosen = {"status": status, "kind": kind, "definition_id": definition_id}
    return await runs.page(principal, chosen, after=decode_cursor(cursor), limit=limit)


@router.get("/{run_id}")
async def get_run(run_id: UUID, principal: Authenticated, runs: Service) -> RunDetail:
    """One run: what it was asked to do, where it is, what came out."""
    return await runs.get(principal, run_id)


@router.get("/{run_id}/journal")
async def get_journal(
    run_id: UUID, principal: Authenticated, runs: Service, limit: Limit = 50, cursor: Annotated[int, Query(ge=0)] = 0
) -> JournalPage:
    """Every call that the run has made, in order, with what was answered."""
    return await runs.journal(principal, run_id, after=cursor, limit=limit)


@router.get("/{run_id}/events", response_class=StreamingResponse)
async def follow_events(
    run_id: UUID,
    principal: Authenticated,
    runs: Service,
    after: Annotated[int, Query(ge=0, le=MAX_EVENT)] = 0,
    last_event_id: Annotated[str | None, Header()] = None,
) -> StreamingResponse:
    """The run's events as they happen (SSE), from its beginning or after `Last-Event-ID`, to its end."""
    if last_event_id:
        if not last_event_id.isdecimal() or int(last_event_id) > MAX_EVENT:
            raise InvalidRequest("Last-Event-ID must be the id of an event of this run, a number")
        after = int(last_event_id)
    await runs.get(principal, run_id)
    stream = _sse(runs.events(principal, run_id, after=after))
    return StreamingResponse(
        stream, media_type="text/event-stream", headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    )


@router.post("/{run_id}/cancel")
async def cancel(run_id: UUID, principal: Authenticated, runs: Service) -> RunDetail:
    """Cancels a run and what it has started; it stays readable, and can be resumed."""
    return await runs.cancel(principal, run_id)


@router.post("/{run_id}/resume", status_code=202, response_model=Accepted)
async def resume(run_id: UUID, request: Request, principal: Authenticated, runs: Service) -> Response:
    """A new run from the journal of a failed or cancelled one, without the failures at its end."""

    async def run() -> Response:
        return accepted(await runs.resume(principal, run_id))

    return await idempotently(_db(request), principal, request, run)


@router.post("/{run_id}/fork", status_code=202, response_model=Accepted)
async def fork(run_id: UUID, body: Fork, request: Request, principal: Authenticated, runs: Service) -> Response:
    """A new run with the first entries of the journal, which then goes its own way: another model, input or answer."""

    async def run() -> Response:
        return accepted(await runs.fork(principal, run_id, body))

    return await idempotently(_db(request), principal, request, run)


@router.post("/{run_id}/replay", status_code=202, response_model=Accepted)
async def replay(run_id: UUID, request: Request, principal: Authenticated, runs: Service) -> Response:
    """Runs the definition against the journal alone; what that does not hold fails with `replay_divergence`."""

    async def run() -> Response:
        return accepted(await runs.replay(principal, run_id))

    return await idempotently(_db(request), principal, request, run)


@router.post("/{run_id}/journal/{seq}")
async def decide(run_id: UUID, seq: int, body: StepDecision, principal: Signed, runs: Service) -> RunDetail:
    """Decides on a call whose outcome is unknown: make it again, it happened and this was the answer, or abort the run."""
    return await runs.decide(principal, run_id, seq, body)


async def execute(request: Request, principal: Principal, runs: Runs, run: RunDetail) -> Response:
    """The answer of every `…/execute` route: 202 with the run's address, or with `Prefer: wait=N` the run when it has ended."""
    seconds = preferred_wait(request.headers.get("prefer", ""))
    if seconds > 0:
        run = await runs.wait(principal, run.run_id, seconds)
    return accepted(run)


def accepted(run: Run) -> Response:
    """202 for a run that goes on, 200 for one that has ended."""
    if run.finished:
        return JSONBytes(run.model_dump(mode="json"))
    short = Accepted(run_id=run.run_id, status=run.status)
    return JSONBytes(short.model_dump(mode="json"), status_code=202, headers={"Location": f"{PREFIX}/{run.run_id}"})


def preferred_wait(prefer: str) -> float:
    """Seconds that a client wants to wait (RFC 7240 §4.3), at most two minutes; 0 without that."""
    for preference in prefer.split(","):
        name, _, value = preference.strip().partition("=")
        if name.lower() == "wait" and value.strip().isdecimal():
            return min(float(value), MAX_WAIT)
    return 0.0


async def _sse(events: AsyncIterator[Event | Token | None]) -> AsyncIterator[bytes]:
    async for event in events:
        yield server_sent(event)


def server_sent(event: Event | Token | None) -> bytes:
    """An event as a server sends it; words have no id, so that `Last-Event-ID` stays that of a stored event; for None a comment line,
    which keeps proxies awake."""
    if event is None:
        return b": alive\n\n"
    if isinstance(event, Token):
        return b"event: token\ndata: %s\n\n" % dumps({"data": event.data})
    data = dumps({"seq": event.seq, "at": event.at, "data": event.data})
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.seq, event.type.encode(), data)


def _db(request: Request) -> Database:
    db: Database = request.app.state.db
    return db
