"""The one generic flow: reads a definition and makes a Prefect task of each step.

A block's steps start when what they need has ended. Variables are the names in scope: the input, the results of the steps around and
before, and in blocks the item and the number of the pass. What is retried, timed out, cached and recorded is Prefect's doing.
"""

import asyncio
import hashlib
import json
import re
import signal
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from auralink_engine import Emit, Job
from auralink_engine.values import ExpressionFailed, is_true, look_up, value_of
from prefect import Flow, Task
from prefect.cache_policies import CacheKeyFnPolicy
from prefect.client.schemas.objects import RunInput, State, TaskRunResult
from prefect.task_engine import run_task_async
from prefect.transactions import CommitMode, atransaction

from auralink_prefect.errors import StepFailed
from auralink_prefect.gateways import CALLS, Gateways
from auralink_prefect.work import Step, inputs_of, work_on

Scope = dict[str, Any]
Place = tuple[int, ...]
"""The numbers of the passes of maps and loops in which a step is done."""
Work = Callable[[], Awaitable[Any]]
CONTAINERS = frozenset({"branch", "map", "loop"})
RESULTS = "results"
"""Where the results of steps with a cache are kept, in the run's own folder."""
_BANNED = re.compile(r"[/%&<>]")
"""What Prefect allows in no flow's name."""


async def steps_of(job: Job, gateways: Gateways, emit: Emit) -> Any:
    """Does a definition's steps as tasks of the Prefect flow in which this is called; its output. Raises StepFailed."""
    async with atransaction(commit_mode=CommitMode.EAGER):  # else what is in a map's cache is found only after the map
        return await _Walk(job, gateways, emit).output()


async def in_a_flow(job: Job, gateways: Gateways, emit: Emit) -> Any:
    """The same in a Prefect flow of its own, named as the definition, with the run's id as its parameter."""
    outputs: list[Any] = []
    main = asyncio.current_task()
    assert main is not None

    async def flow(run_id: str) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, main.cancel)  # Prefect has put its own there
        outputs.append(await steps_of(job, gateways, emit))

    about = job.definition["description"] or None
    name = _BANNED.sub(" ", job.definition["name"]).strip() or "flow"
    await Flow(flow, name=name, validate_parameters=False, persist_result=False, description=about)(run_id=job.run)
    return outputs[0]


@dataclass
class _Doing:
    """A step under way: its name with the numbers of its passes, and what is told of it."""

    step: Step
    place: Place
    emit: Emit
    tries: int = 0
    calls: list[int] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    @property
    def name(self) -> str:
        return self.step["name"] + "".join(f"[{number}]" for number in self.place)

    def begin(self) -> None:
        self.tries += 1
        CALLS.set(self.calls)
        self.tell("Running" if self.tries == 1 else "Retrying")

    def tell(self, state: str, **more: Any) -> None:
        self.emit("state", node=self.name, state=state, kind=self.step["type"], **more)

    def end(self, state: str, **more: Any) -> None:
        seconds = round(time.monotonic() - self.began, 3)
        self.tell(state, seconds=seconds, calls=self.calls, tries=self.tries, **more)

    def failure(self, error: BaseException) -> StepFailed:
        """The failure with the step's name, unless it is that of a step inside."""
        if isinstance(error, _Named):
            return error
        about = f"step {self.name!r} ({self.step['type']})"
        if isinstance(error, TimeoutError):
            return _Named(f"{about}: it took longer than its {self.step['timeout']:g} s")
        said = str(error) if isinstance(error, StepFailed | ExpressionFailed) else f"{type(error).__name__}: {error}"
        return _Named(f"{about}: {said}")


class _Named(StepFailed):
    """A failure that says which step's it is."""


class _Walk:
    """The way through a definition."""

    def __init__(self, job: Job, gateways: Gateways, emit: Emit) -> None:
        self._job = job
        self._gateways = gateways
        self._emit = emit
        self._room = asyncio.Semaphore(job.definition["limits"]["concurrency"])
        self._turns: dict[str, asyncio.Lock] = {}
        self._containers = {"branch": self._branch, "map": self._map, "loop": self._loop}

    async def output(self) -> Any:
        """Does everything. Raises StepFailed."""
        definition = self._job.definition
        scope = _first_scope(self._job)
        await self._do(definition["steps"], scope, ())
        if definition["output"] is None:
            return {step["name"]: scope[step["name"]] for step in definition["steps"]}
        try:
            return value_of(definition["output"], scope)
        except ExpressionFailed as error:
            raise StepFailed(f"the output: {error}") from error

    async def _do(self, steps: list[Step], scope: Scope, place: Place) -> None:
        """Does the steps of a block, each once all that it needs has ended; their results are put into the scope."""
        under_way: dict[str, asyncio.Task[State[Any] | None]] = {}

        async def one(step: Step) -> State[Any] | None:
            ended = [await under_way[name] for name in step["needs"]]
            return await self._step(step, scope, place, [state for state in ended if state is not None])

        async with _together() as group:
            for step in steps:
                under_way[step["name"]] = group.create_task(one(step))

    async def _step(self, step: Step, scope: Scope, place: Place, after: list[State[Any]]) -> State[Any] | None:
        """Does a step as a Prefect task; the task's final state, None when it was skipped."""
        doing = _Doing(step, place, self._emit)
        try:
            skipped = step["when"] is not None and not is_true(step["when"], scope)
            key = None if skipped else self._cache_key(step, scope)
        except ExpressionFailed as error:
            return self._failed(doing, scope, error, None)
        if skipped:
            scope[step["name"]] = None
            doing.tell("Skipped")
            return None
        state: State[Any] = await self._run(doing, scope, key, [one for one in after if one.is_completed()])
        result = await state.aresult(raise_on_failure=False)
        if not state.is_completed():
            return self._failed(doing, scope, result, state)
        scope[step["name"]] = result["value"]
        doing.end(state.name or "Completed")
        return state

    async def _run(self, doing: _Doing, scope: Scope, key: str | None, after: list[State[Any]]) -> State[Any]:
        step = doing.step
        container = self._containers.get(step["type"])

        async def work() -> dict[str, Any]:
            doing.begin()
            if container is not None:
                return {"value": await container(step, dict(scope), doing.place)}
            return {"value": await work_on(step, inputs_of(step, scope), self._gateways)}

        task = self._task(doing, work, key)
        async with AsyncExitStack() as turn:
            if key is not None:  # one after the other, so that the second finds what the first has kept
                await turn.enter_async_context(self._turns.setdefault(key, asyncio.Lock()))
            if container is None:
                await turn.enter_async_context(self._room)
            return await _engage(task, after)

    def _task(self, doing: _Doing, work: Work, key: str | None) -> Task[Any, Any]:
        step, gateways = doing.step, self._gateways

        def may_retry(_task: object, _run: object, _state: object) -> bool:
            return not gateways.lost.done()

        caching: dict[str, Any] = {"persist_result": False}
        if key is not None:
            policy, folder = CacheKeyFnPolicy(cache_key_fn=lambda _context, _given: key), Path.cwd() / RESULTS
            caching = {"cache_policy": policy, "persist_result": True, "result_storage": folder, "result_serializer": "json"}
        return Task(
            work,
            name=step["name"],
            description=step["title"] or step["type"],
            task_run_name=doing.name,
            retries=step["retries"],
            retry_delay_seconds=step["retry_delay"],
            retry_condition_fn=may_retry,
            timeout_seconds=step["timeout"],
            **caching,
        )

    def _cache_key(self, step: Step, scope: Scope) -> str | None:
        """What the same step with the same inputs has in common; of a step with blocks all variables are its inputs."""
        if not step["cache"]:
            return None
        inputs = dict(scope) if step["type"] in CONTAINERS else inputs_of(step, scope)
        told = json.dumps([self._job.run, step["name"], inputs], sort_keys=True, default=str)
        return hashlib.sha256(told.encode()).hexdigest()

    def _failed(self, doing: _Doing, scope: Scope, error: BaseException, state: State[Any] | None) -> State[Any] | None:
        failure = doing.failure(error)
        doing.end("Failed", error=str(failure))
        if doing.step["on_error"] != "continue":
            raise failure from error
        scope[doing.step["name"]] = {"error": str(failure)}
        return state

    async def _block(self, block: Mapping[str, Any], scope: Scope, place: Place) -> Any:
        """What a block comes to."""
        await self._do(block["steps"], scope, place)
        if block["output"] is None:
            return scope[block["steps"][-1]["name"]]
        return value_of(block["output"], scope)

    async def _branch(self, step: Step, scope: Scope, place: Place) -> Any:
        way = next((case for case in step["cases"] if is_true(case["when"], scope)), step["otherwise"])
        return None if way is None else await self._block(way, scope, place)

    async def _map(self, step: Step, scope: Scope, place: Place) -> list[Any]:
        items = look_up(step["over"], scope)
        if not isinstance(items, list):
            raise StepFailed(f"{step['over']!r} is no list but {type(items).__name__}")
        results = [None] * len(items)
        numbers = iter(range(len(items)))

        async def work_off() -> None:
            for number in numbers:
                inner = {**scope, step["item"]: items[number], "index": number}
                results[number] = await self._block(step, inner, (*place, number))

        async with _together() as group:
            for _ in range(min(step["width"], len(items))):
                group.create_task(work_off())
        return results

    async def _loop(self, step: Step, scope: Scope, place: Place) -> Any:
        result = None
        for number in range(step["max"]):
            scope["index"] = number
            result = await self._block(step, scope, (*place, number))
            if is_true(step["until"], scope):
                return result
        self._tell_of_the_end(step, place)
        return result

    def _tell_of_the_end(self, step: Step, place: Place) -> None:
        """That a loop came to the most passes that it may have, which its result does not show."""
        name, passes = _Doing(step, place, self._emit).name, step["max"]
        message = f"loop {name!r} ended after its {passes} passes, and {step['until']!r} was still not true"
        self._emit("log", level="warning", message=message, node=name, passes=passes)


async def _engage(task: Task[Any, Any], after: list[State[Any]]) -> State[Any]:
    """Runs a Prefect task; that it came after others is told to Prefect without its waiting for them, which they have ended."""
    links: set[RunInput] = {
        TaskRunResult(id=state.state_details.task_run_id) for state in after if state.state_details.task_run_id
    }
    waited = {"wait_for": [None], "dependencies": {"wait_for": links}} if links else {}
    state: State[Any] = await run_task_async(task, return_type="state", **waited)
    return state


class _together(asyncio.TaskGroup):  # noqa: N801 (used as the statement it stands for)
    """A task group that raises the first failure itself, not a group of them."""

    async def __aexit__(self, *given: Any) -> bool | None:
        try:
            return await super().__aexit__(*given)
        except BaseExceptionGroup as group:
            raise next(_leaves(group)) from None


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _first_scope(job: Job) -> Scope:
    """The variables before the first step: the input with its defaults, the time of acceptance, the run's id."""
    properties = job.definition["input"].get("properties", {})
    scope = {name: schema.get("default") for name, schema in properties.items()}
    scope |= {name: value for name, value in job.input.items() if name in scope}
    return scope | {"now": job.accepted_at.isoformat(), "run_id": job.origin or job.run}
