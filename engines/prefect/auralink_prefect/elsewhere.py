"""The engine's side of a flow that runs on a Prefect server: it creates the flow run there, follows it, and takes its outcome.

The outcome comes from our own service, where the flow left it, not from Prefect; Prefect is asked how its flow run is, so that one that
is cancelled or crashed there ends the attempt here. Our run and the flow run name each other.
"""

import asyncio
import contextlib
import os
import time
from typing import Any

import httpx
from auralink_engine import Emit, Job, Lost
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

from auralink_prefect.doors import Doors
from auralink_prefect.errors import CancelledElsewhere, RunFailed

DEPLOYMENT = "auralink/auralink"
LOOK_EVERY = 0.5
SILENCE = 20.0
"""Seconds after which a place that says nothing is dead; it says something every three."""
AWAY = 60.0
"""Seconds for which the Prefect server may be away before its worker has the job."""
PARTING = 3.0


class FlowFailed(RunFailed):
    """What the flow said of its failure; its type is the flow's."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.code = kind


async def run_elsewhere(job: Job, emit: Emit) -> Any:
    """The output of the run, done by a worker of the Prefect server at `PREFECT_API_URL`.

    Raises Lost (the flow run crashed, or nobody does it), CancelledElsewhere, RunFailed.
    """
    url = job.mcp_url.removesuffix("/mcp")
    async with Doors(url, job.token) as doors, get_client() as client:
        code = await doors.open_place(job.deadline)
        flow_run = await _create(client, job, {"run_id": job.run, "code": code, "url": url})
        about = f"attempt {job.attempt} is the flow run {flow_run.name!r} ({flow_run.id}) at {os.environ['PREFECT_API_URL']}"
        emit("log", level="info", message=about, flow_run=str(flow_run.id))
        following = _Following(client, doors, flow_run, emit)
        try:
            outcome = await following.outcome()
        except BaseException:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(following.stop(), PARTING)
            raise
    return _output(outcome)


async def _create(client: PrefectClient, job: Job, parameters: dict[str, Any]) -> FlowRun:
    name = os.environ.get("AURALINK_PREFECT_DEPLOYMENT") or DEPLOYMENT
    try:
        deployment = await client.read_deployment_by_name(name)
        return await client.create_flow_run_from_deployment(
            deployment.id,
            parameters=parameters,
            name=f"{job.definition['name'] or 'flow'} {job.run[-8:]}",
            tags=["auralink", f"run:{job.run}"],
            labels={"auralink.run": job.run, "auralink.attempt": job.attempt},
            idempotency_key=f"{job.run}:{job.attempt}",
        )
    except ObjectNotFound:
        raise RunFailed(f"the Prefect server has no deployment {name!r}; run `auralink flows deploy --pool NAME`") from None
    except (httpx.TransportError, PrefectHTTPStatusError) as error:
        raise Lost(f"the Prefect server took no flow run: {error or type(error).__name__}") from error


class _Following:
    """Watches a flow run from both sides."""

    def __init__(self, client: PrefectClient, doors: Doors, flow_run: FlowRun, emit: Emit) -> None:
        self._client = client
        self._doors = doors
        self._flow_run = flow_run
        self._emit = emit
        self._told = ""
        self._heard = time.monotonic()

    async def outcome(self) -> dict[str, Any]:
        """What the flow has left, its output or its error, once there is something."""
        while True:
            state = await self._state()
            place = await self._doors.look()  # after the state: an outcome is left before the flow run ends
            if place["outcome"] is not None:
                left: dict[str, Any] = place["outcome"]
                return left
            self._check(state, place)
            await asyncio.sleep(LOOK_EVERY)

    async def stop(self) -> None:
        """Cancels the flow run, if it has not ended."""
        try:
            await self._client.set_flow_run_state(self._flow_run.id, State(type=StateType.CANCELLING))
        except (httpx.HTTPError, ObjectNotFound) as error:
            self._emit("log", level="warning", message=f"the flow run {self._flow_run.id} could not be cancelled: {error}")

    async def _state(self) -> State[Any] | None:
        """How the flow run is; None while the Prefect server is away."""
        try:
            state = (await self._client.read_flow_run(self._flow_run.id)).state
        except ObjectNotFound:
            raise CancelledElsewhere(f"the flow run {self._flow_run.id} was deleted in Prefect") from None
        except (httpx.TransportError, PrefectHTTPStatusError):
            return None
        self._heard = time.monotonic()
        if state is not None and state.name and state.name != self._told:
            self._told = state.name
            about = {"state": state.name, "flow_run": str(self._flow_run.id)}
            self._emit("log", level="info", message=f"the flow run {self._flow_run.name!r} is {state.name} in Prefect", **about)
        return state

    def _check(self, state: State[Any] | None, place: dict[str, Any]) -> None:
        """Whether there is still something to wait for."""
        about = f"the flow run {self._flow_run.id}"
        if state is None and not place["taken"] and time.monotonic() - self._heard > AWAY:
            raise Lost(f"the Prefect server has been away for {AWAY:.0f} s, and no worker of it has {about}")
        if place["taken"] and place["silent"] > SILENCE:
            raise Lost(f"nothing has been heard of {about} for {place['silent']:.0f} s: its process died")
        if state is None:
            return
        said = f": {state.message}" if state.message else ""
        if state.type in (StateType.CANCELLING, StateType.CANCELLED):
            raise CancelledElsewhere(f"{about} was cancelled in Prefect{said}")
        if state.is_final():
            kind = Lost if state.is_crashed() or place["taken"] else RunFailed
            raise kind(f"{about} ended as {state.name} in Prefect without an outcome{said}")


def _output(outcome: dict[str, Any]) -> Any:
    error = outcome.get("error")
    if error is None:
        return outcome["output"]
    raise Lost(error["message"]) if error["lost"] else FlowFailed(error["type"], error["message"])
