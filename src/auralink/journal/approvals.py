"""Approvals: a person's yes to one call, once, for fifteen minutes; in a run, to one step, however long that takes.

An approval covers exactly one user, connection, tool, arguments and definition of the tool; if any of them differs it is another
call. A client that can ask its user does so on the spot; for any other the approval waits under `/api/v1/approvals`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

import orjson

from auralink.auth.principal import Principal
from auralink.core.db import Connection, Database
from auralink.core.errors import Conflict, Forbidden, NotFound
from auralink.core.ids import uuid7
from auralink.core.paging import Position, encode_cursor
from auralink.journal import store
from auralink.journal.schemas import ApprovalPage, ApprovalView, Decision
from auralink.journal.steps import Step

VALID_SECONDS = 15 * 60
IN_A_RUN_SECONDS = 365 * 24 * 3600
"""A run holds nothing while it waits: its approvals do not expire before it is forgotten."""


class ApprovalRequired(Forbidden):
    """The call has to be approved first; the error names the approval."""

    code = "approval_required"
    title = "Approval required"


class ApprovalNotFound(NotFound):
    """The user has no such approval."""

    code = "approval_not_found"
    title = "Approval not found"


class ApprovalClosed(Conflict):
    """The approval was decided, used, or has expired."""

    code = "approval_closed"
    title = "Approval closed"


ANEW = "make the call again to ask anew"
NEXT_STEP: Mapping[str, str] = {
    "approved": "make the call it is for; it goes through once",
    "denied": ANEW,
    "used": f"the call was made; {ANEW}",
    "expired": ANEW,
}
"""What to do about an approval that can be decided no more, by its status."""


@dataclass(frozen=True)
class Verdict:
    """What a person decided on a step of a run."""

    approved: bool
    note: str | None
    answer: Any


@dataclass(frozen=True)
class Call:
    """What is to be approved."""

    connection_id: UUID | None
    server: str
    tool: str
    arguments: Mapping[str, Any]
    definition: Mapping[str, Any]

    @property
    def hash(self) -> bytes:
        """SHA-256 of what the approval covers, as canonical JSON."""
        covered = [str(self.connection_id), self.tool, self.arguments, self.definition]
        return hashlib.sha256(orjson.dumps(covered, option=orjson.OPT_SORT_KEYS)).digest()


class Approvals:
    """Asks for, takes and uses decisions."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def use(self, principal: Principal, call: Call) -> bool:
        """Whether the call was approved; the approval is used up."""
        async with self._db.tenant(principal) as connection:
            return await store.use_approval(connection, call.hash) is not None

    async def require(self, principal: Principal, call: Call) -> ApprovalRequired:
        """The error for a call that nobody has approved; the approval then waits to be decided."""
        async with self._db.tenant(principal) as connection:
            approval_id = await store.find_pending(connection, call.hash)
            if approval_id is None:
                approval_id = uuid7()
                await store.insert_approval(connection, self._row(principal, approval_id, call, "pending"))
        where = f"/api/v1/approvals/{approval_id}"
        return ApprovalRequired(
            f"tool {call.tool!r} of {call.server!r} needs approval: POST {where} with "
            '{"decision": "approve"}, then make the same call again within 15 minutes',
            extra={"approval_id": str(approval_id), "approval": where},
        )

    async def of_step(self, step: Step, call: Call, *, reason: str = "approval") -> Verdict:
        """What was decided on a step of a run. If nobody has decided yet, the run waits, and this does not return."""
        async with self._db.tenant(step.principal) as connection:
            row = await store.decision_on_step(connection, step.run, step.seq)
        if row is None or row["status"] == "pending":
            await step.suspend(reason, within=partial(self._ask_in_run, step=step, call=call))
        return Verdict(row["status"] == "used", row["note"], row["answer"])

    async def _ask_in_run(self, connection: Connection, *, step: Step, call: Call) -> None:
        approval_id = uuid7()
        row = self._row(step.principal, approval_id, call, "pending")
        await store.insert_approval(connection, {**row, "seconds": IN_A_RUN_SECONDS, "run_id": step.run, "run_seq": step.seq})
        about = {"approval_id": approval_id, "step": step.seq, "server": call.server, "tool": call.tool}
        await store.tell(connection, step.run, "approval.requested", {**about, "arguments": dict(call.arguments)})

    async def note(self, principal: Principal, call: Call, *, approved: bool) -> None:
        """Writes down a decision that the user made on the spot."""
        async with self._db.tenant(principal) as connection:
            await store.insert_approval(connection, self._row(principal, uuid7(), call, "used" if approved else "denied"))

    async def decide(self, principal: Principal, approval_id: UUID, decision: Decision) -> ApprovalView:
        """Takes a decision.

        Raises:
            ApprovalNotFound, ApprovalClosed.
        """
        status = "approved" if decision.decision == "approve" else "denied"
        async with self._db.tenant(principal) as connection:
            decided = await store.decide(
                connection, approval_id, status=status, note=decision.note, answer=decision.answer, seconds=VALID_SECONDS
            )
            row = await store.find_approval(connection, approval_id)
            if decided is not None and decided["run_id"] is not None:
                about = {"approval_id": approval_id, "decision": decision.decision, "note": decision.note}
                await store.tell(connection, decided["run_id"], "approval.decided", about)
                await store.resume_run(connection, decided["run_id"])
        if row is None:
            raise ApprovalNotFound(f"you have no approval {approval_id}; GET /api/v1/approvals lists yours")
        if decided is None:
            raise ApprovalClosed(f"approval {approval_id} is {row['status']}; {_next_step(row)}")
        return ApprovalView(**row)

    async def get(self, principal: Principal, approval_id: UUID) -> ApprovalView:
        """One approval. Raises ApprovalNotFound."""
        async with self._db.tenant(principal) as connection:
            row = await store.find_approval(connection, approval_id)
        if row is None:
            raise ApprovalNotFound(f"you have no approval {approval_id}; GET /api/v1/approvals lists yours")
        return ApprovalView(**row)

    async def page(self, principal: Principal, *, status: str | None, after: Position | None, limit: int) -> ApprovalPage:
        """A page of the principal's approvals, newest first."""
        async with self._db.tenant(principal) as connection:
            rows = await store.page(connection, status=status, after=after, limit=limit + 1)
        views = [ApprovalView(**row) for row in rows[:limit]]
        cursor = encode_cursor((views[-1].created_at, views[-1].approval_id)) if len(rows) > limit else None
        return ApprovalPage(items=views, next_cursor=cursor)

    def _row(self, principal: Principal, approval_id: UUID, call: Call, status: str) -> dict[str, Any]:
        return {
            "id": approval_id,
            "user_id": principal.user_id,
            "connection_id": call.connection_id,
            "server": call.server,
            "tool": call.tool,
            "arguments": dict(call.arguments),
            "call_hash": call.hash,
            "status": status,
            "seconds": VALID_SECONDS,
        }


def _next_step(row: Mapping[str, Any]) -> str:
    """A run makes its calls by itself; any other caller is told what to do."""
    return f"run {row['run_id']} goes on with that" if row["run_id"] is not None else NEXT_STEP[row["status"]]
