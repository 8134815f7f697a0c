"""Recording: what is done in an `async with` block is in the operation log when the block has been left, however that happens.

The block fills in its `Operation`; when it began, how long it took and how it ended is told here, by one rule for all who record.
"""

import time
from types import TracebackType
from typing import Self

from auralink.audit.group_commit import GroupCommit
from auralink.audit.schemas import UNTOLD, Operation, Record
from auralink.core.errors import AuralinkError


class Recording:
    """An operation under way. What comes after the block waits for the commit, which may raise AuditUnavailable."""

    def __init__(self, audit: GroupCommit, operation: Operation) -> None:
        self.operation = operation
        self.error: AuralinkError | None = None
        """What ended the block, if it was one of our errors."""
        self._audit = audit
        self._started = time.perf_counter()

    def records(self) -> tuple[Record, ...]:
        """What is committed in one transaction: the operation, and what belongs to it. Asked for once, when the end is known."""
        return (self.operation,)

    @property
    def elapsed_ms(self) -> float:
        """Milliseconds since it began."""
        return (time.perf_counter() - self._started) * 1000

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        operation = self.operation
        if error is not None:
            operation.ended_by(error)
            self.error = error if isinstance(error, AuralinkError) else None
        elif operation.outcome == UNTOLD:
            operation.outcome = "ok"
        operation.duration_ms = self.elapsed_ms
        await self._audit.commit(*self.records())
