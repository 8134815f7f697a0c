"""Records what is done to connections, pins and the registry in the operation log, as tool calls are (`service.py`)."""

import contextlib
import time
from collections.abc import AsyncIterator

from auralink.audit.group_commit import GroupCommit
from auralink.audit.schemas import Operation
from auralink.auth.principal import Principal
from auralink.core.logging import trace_id


@contextlib.asynccontextmanager
async def audited(
    audit: GroupCommit, principal: Principal, name: str, source: str, *, tool: str | None = None
) -> AsyncIterator[Operation]:
    """Records the operation when the block ends, however it ends; what comes after the block waits for the commit."""
    operation = Operation(principal.user_id, name, source, tool=tool, trace_id=trace_id.get() or None)
    started = time.perf_counter()
    try:
        yield operation
        operation.outcome = "ok"
    except BaseException as error:
        operation.ended_by(error)
        raise
    finally:
        operation.duration_ms = (time.perf_counter() - started) * 1000
        await audit.commit(operation)
