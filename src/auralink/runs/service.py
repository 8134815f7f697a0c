"""Runs: accepting, watching, cancelling, and making new ones out of old ones."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow

from auralink.audit.schemas import Operation
from auralink.audit.store import insert_records
from auralink.core.changes import Changes
from auralink.core.db import Connection, Database, Tenant
from auralink.core.ids import uuid7
from auralink.core.paging import Position, encode_cursor
from auralink.core.warned import token
from auralink.journal.errors import StepDecided, StepNotFound
from auralink.journal.recorded import result_text
from auralink.runs import matching, store
from auralink.runs.answers import answer_of
from auralink.runs.errors import (
    BadOverride,
    RunFinished,
    RunNotFinished,
    RunNotResumable,
    RunsTooDeep,
    bad_override,
    run_not_found,
)
from auralink.runs.following import Following
from auralink.runs.schemas import (
    FOR_A_PERSON,
    Event,
    Fork,
    JournalEntry,
    JournalPage,
    Order,
    Overrides,
    Parent,
    Run,
    RunDetail,
    RunKind,
    RunLimits,
    RunPage,
    StepDecision,
    Token,
    Work,
)
from auralink.runs.tokens import ANNOUNCE_EVERY

LOOK_EVERY = 0.2
"""Seconds between two looks for events of a run that somebody follows; changes of its status are announced at once."""
HEARTBEAT = 15.0
BATCH = 200
ALL = 2**31 - 1
MAX_DEPTH = 8
"""Runs from one that somebody started down to the last that may be started by another, both counted."""
RESUMABLE = ("failed", "cancelled")


class Runs:
    """What users do with runs, and what definitions do to start them."""

    def __init__(self, db: Database, changes: Changes) -> None:
        self._db = db
        self._following = Following(changes)

    async def accept(
        self,
        principal: Tenant,
        *,
        kind: RunKind,
        definition_id: UUID | None,
        engine: str,
        definition: Mapping[str, Any],
        input: Any,  # noqa: A002  # the run's own word for it
        limits: Mapping[str, Any] | None = None,
        room_id: str | None = None,
        call_id: str | None = None,
        priority: int = 0,
        idempotency_key: str | None = None,
        parent: Parent | None = None,
    ) -> RunDetail:
        """Accepts a run: it and its wake-up are committed when this returns. `definition` is the versioned snapshot that the
        engine gets. The same idempotency key gives the run that it gave before. A child inherits its parent's remaining time.

        Raises RunsTooDeep.
        """
        order = Order(input, room_id, call_id, priority, idempotency_key, parent)
        work = Work(kind, definition_id, engine, definition, limits or {})
        async with self._db.tenant(principal) as connection:
            return await self.accept_in(connection, principal, work, order)

    async def accept_in(self, connection: Connection, principal: Tenant, work: Work, order: Order) -> RunDetail:
        """As `accept`, in a transaction of the caller's: the run is there if that commits. Raises RunsTooDeep."""
        values = _values(
            principal,
            kind=work.kind,
            definition_id=work.definition_id,
            engine=work.engine,
            definition=work.definition,
            input=order.input,
            limits=work.limits,
        )
        values |= {"room_id": order.room_id, "call_id": order.call_id, "priority": order.priority}
        values["idempotency_key"] = order.idempotency_key
        if order.parent is not None:
            values |= await _inherited(connection, order.parent, values)
        return RunDetail(**await self._insert(connection, values))

    async def get(self, principal: Tenant, run_id: UUID) -> RunDetail:
        """One run. Raises RunNotFound."""
        async with self._db.tenant(principal) as connection:
            return await _get(connection, run_id)

    async def page(self, principal: Tenant, chosen: Mapping[str, Any], *, after: Position | None, limit: int) -> RunPage:
        """Runs, newest first; `chosen` has status, kind and definition_id, or None for any."""
        async with self._db.tenant(principal) as connection:
            rows = await store.page(connection, chosen, after=after, limit=limit + 1)
        items = [Run(**row) for row in rows[:limit]]
        cursor = encode_cursor((items[-1].accepted_at, items[-1].run_id)) if len(rows) > limit else None
        return RunPage(items=items, next_cursor=cursor)

    async def wait(self, principal: Tenant, run_id: UUID, seconds: float, *, or_for_a_person: bool = False) -> RunDetail:
        """The run when it has ended, or after `seconds` as it is then; with `or_for_a_person` also once it waits for one.

        Raises RunNotFound.
        """
        until = asyncio.get_running_loop().time() + seconds
        with self._following.following(run_id) as follower:
            while True:
                run = await self.get(principal, run_id)
                left = until - asyncio.get_running_loop().time()
                if run.finished or left <= 0 or (or_for_a_person and run.reason in FOR_A_PERSON):
                    return run
                async for _ in follower.words(min(left, 1.0)):
                    pass

    async def events(self, principal: Tenant, run_id: UUID, *, after: int = 0) -> AsyncIterator[Event | Token | None]:
        """The run's events after number `after`, each once and in order, to the last, and between them the words of its models as they
        come; None now and then, when nothing happens.

        Raises RunNotFound.
        """
        clock = asyncio.get_running_loop().time
        quiet_since, announced = clock(), -ANNOUNCE_EVERY
        with self._following.following(run_id) as follower:
            while True:
                async with self._db.tenant(principal) as connection:
                    run = await _get(connection, run_id)  # first: a run that has ended adds nothing after this
                    rows = await store.events(connection, run_id, after=after, limit=BATCH)
                    if not run.finished and clock() - announced >= ANNOUNCE_EVERY:
                        announced = clock()
                        await store.announce_follower(connection, run_id)
                for row in rows:
                    yield Event(**row)
                if rows:
                    after, quiet_since = rows[-1]["seq"], clock()
                elif run.finished:
                    return
                if len(rows) < BATCH and not run.finished:
                    async for words in follower.words(LOOK_EVERY):
                        yield words
                        quiet_since = clock()
                if clock() - quiet_since >= HEARTBEAT:
                    quiet_since = clock()
                    yield None

    async def journal(self, principal: Tenant, run_id: UUID, *, after: int, limit: int) -> JournalPage:
        """A part of the run's journal. Raises RunNotFound."""
        async with self._db.tenant(principal) as connection:
            await _get(connection, run_id)
            rows = await store.entries(connection, run_id, after=after, limit=limit + 1)
        items = [JournalEntry(**row) for row in rows[:limit]]
        return JournalPage(items=items, next_cursor=str(items[-1].seq) if len(rows) > limit else None)

    async def cancel(self, principal: Tenant, run_id: UUID) -> RunDetail:
        """Cancels a run, and what it has started. Raises RunNotFound, RunFinished."""
        async with self._db.tenant(principal) as connection:
            cancelled = await store.cancel(connection, run_id)
            run = await _get(connection, run_id)
        if not cancelled:
            raise RunFinished(f"run {run_id} has ended ({run.status}); its journal stays readable, {_anew(run.status)}")
        return run

    async def resume(self, principal: Tenant, run_id: UUID) -> RunDetail:
        """A new run with the journal of one that has failed or was cancelled, without the failures at its end.

        Raises RunNotFound, RunNotFinished, RunNotResumable.
        """
        async with self._db.tenant(principal) as connection:
            source = await _source(connection, run_id)
            if source["finished_at"] is None:
                raise RunNotFinished(
                    f"run {run_id} is {source['status']}; only a run that has failed or was cancelled is resumed"
                )
            if source["status"] not in RESUMABLE:
                raise RunNotResumable(
                    f"run {run_id} has {source['status']}, so there is nothing to resume; {_anew(source['status'])}"
                )
            return await self._again(connection, principal, source, upto=await store.last_good(connection, run_id))

    async def fork(self, principal: Tenant, run_id: UUID, fork: Fork) -> RunDetail:
        """A new run that knows the first `at` entries of a journal, and goes its own way from there.

        Raises RunNotFound, BadOverride.
        """
        async with self._db.tenant(principal) as connection:
            source = await _source(connection, run_id)
            last = await store.last_entry(connection, run_id)
            if fork.at > last:
                raise BadOverride(
                    f"'at' is {fork.at}, and the journal of run {run_id} ends with entry {last}; GET …/journal lists them"
                )
            run = await self._again(connection, principal, source, upto=fork.at, overrides=fork.overrides)
            for seq, answer in fork.overrides.answers.items():
                entry = await store.find_entry(connection, run.run_id, seq) if 0 < seq <= fork.at else None
                if entry is None:
                    raise BadOverride(f"entry {seq} is not among the answered entries up to {fork.at}; GET …/journal lists them")
                other = answer_of(entry["kind"], entry["request"], answer, at=f"/overrides/answers/{seq}")
                await store.replace_answer(connection, run.run_id, seq, result_text(other))
        return run

    async def replay(self, principal: Tenant, run_id: UUID) -> RunDetail:
        """A new run of the definition against the journal alone: no upstream is reached, and it costs nothing.

        Raises RunNotFound, RunNotFinished.
        """
        async with self._db.tenant(principal) as connection:
            source = await _source(connection, run_id)
            if source["finished_at"] is None:
                raise RunNotFinished(f"run {run_id} is {source['status']}; only a run that has ended can be replayed")
            return await self._again(connection, principal, source, upto=ALL, mode="replay")

    async def decide(self, principal: Tenant, run_id: UUID, seq: int, decision: StepDecision) -> RunDetail:
        """Says what became of a call whose outcome is unknown.

        Raises RunNotFound, StepNotFound, StepDecided, BadOverride.
        """
        async with self._db.tenant(principal) as connection:
            run = await _get(connection, run_id)
            entry = await store.find_entry(connection, run_id, seq)
            if entry is None:
                raise StepNotFound(f"run {run_id} has no journal entry {seq}; GET …/journal lists them")
            if entry["status"] != "unknown" or run.finished:
                raise StepDecided(
                    f"entry {seq} of run {run_id} is {entry['status']}; only one that is unknown waits for a decision"
                )
            if decision.decision == "abort":
                await store.cancel(connection, run_id)
            elif decision.decision == "retry":
                await store.retry_entry(connection, run_id, seq)
            else:
                said = decision.answer if isinstance(decision.answer, str | dict) else store.json_of(decision.answer)
                answer = answer_of(entry["kind"], entry["request"], said, at="/answer")
                await store.answer_entry(connection, run_id, seq, result_text(answer))
                if entry["kind"] == "tool":
                    await insert_records(connection, [_attested(principal, entry["request"])])
            await store.resume_if_known(connection, run_id)
            return await _get(connection, run_id)

    async def _again(
        self,
        connection: Connection,
        principal: Tenant,
        source: DictRow,
        *,
        upto: int,
        mode: str = "live",
        overrides: Overrides | None = None,
    ) -> RunDetail:
        """Accepts a run made from `source`, with its journal up to an entry."""
        values = _values(
            principal,
            kind=source["kind"],
            definition_id=source["definition_id"],
            engine=source["engine"],
            definition=source["definition"],
            input=source["input"],
            limits=source["limits"],
        )
        values |= {name: source[name] for name in ("room_id", "call_id", "priority", "origin_id", "clock", "overrides")}
        values |= {"mode": mode, "source_id": source["id"]}
        if overrides is not None:
            values |= _overridden(values, overrides)
        if mode == "replay":
            values["max_attempts"] = 1
        row = await self._insert(connection, values, copy=(source["id"], upto))
        return RunDetail(**row)

    async def _insert(
        self, connection: Connection, values: Mapping[str, Any], copy: tuple[UUID, int] | None = None
    ) -> Mapping[str, Any]:
        row = await store.insert_run(connection, values)
        if row is None:
            existing = await store.find_run_by_key(connection, values["idempotency_key"])
            assert existing is not None
            return existing
        if copy is not None:
            await store.copy_journal(connection, copy[0], values["id"], copy[1])
        await store.wake_workers(connection, values["engine"])
        return row


def _anew(status: str) -> str:
    """How a run that has ended is run once more."""
    if status in RESUMABLE:
        return "POST …/resume goes on where it ended"
    return "POST …/fork goes on from one of its entries, POST …/replay runs it against its journal"


def _attested(principal: Tenant, request: Mapping[str, Any]) -> Operation:
    """The record of a call of which a person says that it happened; whoever made it died before it could write one."""
    operation = Operation(principal.user_id, "tools/call", "decision", server=request.get("connection"), tool=request.get("tool"))
    operation.outcome, operation.served_by = "ok", "a person's word"
    return operation


async def _get(connection: Connection, run_id: UUID) -> RunDetail:
    row = await store.find_run(connection, run_id)
    if row is None:
        raise run_not_found(run_id)
    return RunDetail(**row)


async def _source(connection: Connection, run_id: UUID) -> DictRow:
    row = await store.find_source(connection, run_id)
    if row is None:
        raise run_not_found(run_id)
    return row


async def _inherited(connection: Connection, parent: Parent, values: Mapping[str, Any]) -> dict[str, Any]:
    """What a child has from its parent: never more time than that has left. Raises RunsTooDeep."""
    row = await _source(connection, parent.run_id)
    if await store.depth(connection, parent.run_id, at_most=MAX_DEPTH) >= MAX_DEPTH:
        raise RunsTooDeep(
            f"run {parent.run_id} is the {MAX_DEPTH}th of runs that have each started the next, and {MAX_DEPTH} is the most; look for "
            "a definition that starts itself, or start this one by itself"
        )
    left = max(row["time_limit"] - row["time_used"], 1.0)
    return {"parent_id": parent.run_id, "parent_seq": parent.seq, "time_limit": min(values["time_limit"], left)}


def _values(
    principal: Tenant,
    *,
    kind: RunKind,
    definition_id: UUID | None,
    engine: str,
    definition: Mapping[str, Any],
    input: Any,  # noqa: A002  # as in `accept`
    limits: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The row of a new run."""
    checked, run_id = RunLimits.model_validate(limits or {}), uuid7()
    return {
        "id": run_id,
        "user_id": principal.user_id,
        "kind": kind,
        "definition_id": definition_id,
        "engine": engine,
        "definition": dict(definition),
        "input": input,
        "limits": checked.model_dump(mode="json", exclude_none=True),
        "overrides": {},
        "mode": "live",
        "priority": 0,
        "max_attempts": checked.max_attempts,
        "time_limit": checked.seconds,
        "memory_mb": checked.memory_mb,
        "concurrency": checked.concurrency,
        "room_id": None,
        "call_id": None,
        "parent_id": None,
        "parent_seq": None,
        "origin_id": run_id,
        "source_id": None,
        "idempotency_key": None,
        "clock": None,
    }


def _overridden(values: Mapping[str, Any], overrides: Overrides) -> dict[str, Any]:
    """What a fork changes in the row. Raises BadOverride for what the definition does not have or does not take."""
    changed: dict[str, Any] = {}
    if overrides.model is not None:
        changed["overrides"] = {**values["overrides"], "model": overrides.model}
    definition = values["definition"]
    if overrides.definition is not None:
        changed["definition"] = definition = _redefined(definition, overrides.definition)
    schema = definition.get("input")
    if overrides.input is not None:
        changed["input"] = overrides.input
        if isinstance(schema, Mapping):
            about = {name: values[name] for name in ("room_id", "call_id")}
            changed["input"] = matching.completed(schema, overrides.input, about)
            if wrong := matching.mistakes(schema, changed["input"], at="/overrides/input"):
                raise bad_override(*wrong)
    return changed


def _redefined(definition: Mapping[str, Any], members: Mapping[str, Any]) -> dict[str, Any]:
    """A definition with other members in the place of some of its own."""
    at, has = "/overrides/definition", ", ".join(sorted(definition)) or "none"
    wrong = [
        (f"{at}/{token(name)}", f"the definition has no member {name!r}; it has: {has}")
        for name in members
        if name not in definition
    ]
    if "input" in members and (why := matching.schema_mistake(members["input"])):
        wrong.append((f"{at}/input", why))
    if wrong:
        raise bad_override(*wrong)
    return {**definition, **members}
