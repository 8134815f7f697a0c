"""Records what goes through the gateway in the operation log: a call with the step of its run, and what is done to connections."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from auralink.audit.group_commit import GroupCommit
from auralink.audit.recording import Recording
from auralink.audit.schemas import UNTOLD, Operation, Record
from auralink.auth.principal import Principal
from auralink.core.logging import trace_id
from auralink.journal.steps import NO_ANSWERS, Step

STEP_META = "auralink/step"
"""In the `_meta` of a result: under which number the run's journal has the call."""
UNANSWERED = frozenset({UNTOLD, "cancelled"})
"""Outcomes without an answer that an engine could get again."""


class CallRecording(Recording):
    """A call on its way: its row in the operation log, and in a run its step with what that will be told."""

    def __init__(self, audit: GroupCommit, operation: Operation, step: Step | None = None) -> None:
        super().__init__(audit, operation)
        self.step = step
        self.result: dict[str, Any] = {}

    def records(self) -> tuple[Record, ...]:
        """The operation, and the answer that the engine gets, if it gets one."""
        if self.step is None or isinstance(self.error, NO_ANSWERS) or self.operation.outcome in UNANSWERED:
            return (self.operation,)
        if self.error is not None:
            return (self.operation, self.step.failed(self.error))
        return (self.operation, self.step.done(self.result, outcome=self.operation.outcome))


def numbered(result: Mapping[str, Any], step: Step) -> dict[str, Any]:
    """A result as the run gets it: it says which step of the run it is. The journal keeps it without that."""
    return {**result, "_meta": {**(result.get("_meta") or {}), STEP_META: step.seq}}


def begun(principal: Principal, name: str, source: str, *, tool: str | None = None, server: str | None = None) -> Operation:
    """An operation that begins in the request that is being answered."""
    return Operation(principal.user_id, name, source, tool=tool, server=server, trace_id=trace_id.get() or None)


@contextlib.asynccontextmanager
async def audited(
    audit: GroupCommit, principal: Principal, name: str, source: str, *, tool: str | None = None
) -> AsyncIterator[Operation]:
    """Records an operation on connections, pins or the registry when the block ends, as `Recording` does."""
    async with Recording(audit, begun(principal, name, source, tool=tool)) as recording:
        yield recording.operation
