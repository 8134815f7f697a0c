"""The group commit: the records of many calls in one transaction, and no answer before its records are durable.

The records of one call are written together or not at all. There is no timer. The first is flushed at once; what arrives while
that commit is under way forms the next batch. Under load batches grow by themselves, alone a call waits for one commit.
"""

import asyncio
import time
from collections import deque
from dataclasses import dataclass

import psycopg
import structlog
from psycopg.rows import dict_row

from auralink.audit.schemas import Record
from auralink.audit.store import insert_records
from auralink.core.db import Connection
from auralink.core.errors import AuralinkError
from auralink.core.secret import Secret
from auralink.core.telemetry import audit_batch

log = structlog.get_logger(__name__)

MAX_BATCH = 512
PATIENCE = 10.0
"""Seconds a record may wait for a database that restarts before its call is answered with an error."""
RETRY_EVERY = 0.2


class AuditUnavailable(AuralinkError):
    """The call was made, but its record could not be committed, so its answer is withheld."""

    code = "audit_unavailable"
    status = 503
    title = "The operation log cannot be written"
    sent = True
    """Something has happened: under an Idempotency-Key this is the answer, so that a repeat does not do it twice."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """The records of one call, the first of which stands for it, and who waits for them until when (monotonic)."""

    records: tuple[Record, ...]
    done: asyncio.Future[None]
    until: float


class GroupCommit:
    """Writes records in batches on a connection of its own."""

    def __init__(self, dsn: Secret) -> None:
        self._dsn = dsn
        self._queue: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._connection: Connection | None = None
        self._stopping = False

    async def open(self) -> None:
        """Connects and starts the writer."""
        await self._connected()
        self._task = asyncio.create_task(self._run(), name="audit group commit")

    async def close(self) -> None:
        """Writes what is queued and stops."""
        self._stopping = True
        self._arrived.set()
        if self._task is not None:
            await self._task
        if self._connection is not None:
            await self._connection.close()

    async def commit(self, *records: Record) -> None:
        """Returns when the records of a call are durable, all in one transaction. The first is named where that fails.

        They are written even if the caller is cancelled meanwhile.

        Raises:
            AuditUnavailable: the database did not take it within 10 s.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(records, done, time.monotonic() + PATIENCE))
        self._arrived.set()
        await asyncio.shield(done)

    async def _run(self) -> None:
        while not (self._stopping and not self._queue):
            await self._arrived.wait()
            self._arrived.clear()
            while self._queue:
                batch = [self._queue.popleft() for _ in range(min(len(self._queue), MAX_BATCH))]
                await self._flush(batch)

    async def _flush(self, batch: list[_Waiting]) -> None:
        while batch:
            try:
                async with asyncio.timeout(PATIENCE):
                    records = [record for item in batch for record in item.records]
                    await insert_records(await self._connected(), records)
            except (psycopg.OperationalError, TimeoutError) as error:
                await self._disconnect()
                log.warning("operation log: database unavailable", reason=str(error).strip() or "no answer", waiting=len(batch))
                batch = self._still_patient(batch)
                if batch:
                    await asyncio.sleep(RETRY_EVERY)
            except (psycopg.Error, TypeError) as error:
                await self._one_by_one(batch, error)
                return
            else:
                audit_batch.observe(len(batch))
                for item in batch:
                    _resolve(item.done)
                return

    async def _one_by_one(self, batch: list[_Waiting], error: Exception) -> None:
        """A batch that cannot be written is written call by call, so that one bad record does not take the others with it."""
        if len(batch) > 1:
            for item in batch:
                await self._flush([item])
            return
        record = batch[0].records[0]
        log.error("operation log: record refused", log_id=str(record.id), reason=str(error).strip())
        _resolve(batch[0].done, _unavailable(record))

    def _still_patient(self, batch: list[_Waiting]) -> list[_Waiting]:
        now = time.monotonic()
        for item in batch:
            if item.until <= now:
                _resolve(item.done, _unavailable(item.records[0]))
        return [item for item in batch if item.until > now]

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = await psycopg.AsyncConnection.connect(
                self._dsn.reveal(), autocommit=True, row_factory=dict_row, connect_timeout=5, application_name="auralink audit"
            )
            await self._connection.execute("SET ROLE auralink_service")
        return self._connection

    async def _disconnect(self) -> None:
        """Drops a connection of which nobody knows in what state it is."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def _unavailable(record: Record) -> AuditUnavailable:
    return AuditUnavailable(
        f"{record.subject} was carried out with outcome {record.outcome!r}, but its record could not be "
        "written, so the answer is withheld; check the database before you repeat the call",
        extra={"log_id": str(record.id)},
    )


def _resolve(done: "asyncio.Future[None]", error: Exception | None = None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
