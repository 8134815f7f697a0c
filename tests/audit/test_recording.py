"""What is recorded of a block is what happened in it, by one rule for all who record."""

import asyncio
from collections.abc import Sequence
from uuid import uuid4

import pytest

from auralink.audit.group_commit import GroupCommit
from auralink.audit.recording import Recording
from auralink.audit.schemas import Operation, Record
from auralink.core.errors import NotFound
from auralink.core.secret import Secret


class Log(GroupCommit):
    """A group commit that only notes what it is given."""

    def __init__(self) -> None:
        super().__init__(Secret(""))
        self.committed: list[Sequence[Record]] = []

    async def commit(self, *records: Record) -> None:
        self.committed.append(records)


def _operation() -> Operation:
    return Operation(uuid4(), "tools/call", "rest")


@pytest.mark.parametrize(("said", "outcome"), [(None, "ok"), ("tool_error", "tool_error")])
async def test_a_block_that_ends_by_itself_is_ok_unless_it_says_otherwise(said: str | None, outcome: str) -> None:
    log = Log()
    async with Recording(log, _operation()) as recording:
        assert log.committed == []
        recording.operation.outcome = said or recording.operation.outcome
    assert log.committed == [(recording.operation,)]
    assert (recording.operation.outcome, recording.operation.error, recording.error) == (outcome, None, None)
    assert 0 < recording.operation.duration_ms < recording.elapsed_ms


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (NotFound("nothing here"), "not_found"),
        (asyncio.CancelledError(), "cancelled"),
        (GeneratorExit(), "cancelled"),
        (KeyError("x"), "internal_error"),
    ],
)
async def test_what_ends_a_block_is_recorded_and_raised(error: BaseException, outcome: str) -> None:
    log = Log()
    recording = Recording(log, _operation())

    async def block() -> None:
        async with recording:
            recording.operation.outcome = "ok"
            raise error

    with pytest.raises(type(error)):
        await block()
    assert log.committed == [(recording.operation,)]
    assert recording.operation.outcome == outcome
    assert (recording.error is error) == isinstance(error, NotFound)
    if isinstance(error, NotFound):
        assert error.extra["log_id"] == str(recording.operation.id)
