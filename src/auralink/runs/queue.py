"""The job queue as a worker hears it: procrastinate on the same Postgres. A job says that something may be queued, and nothing
else; which run is next is decided when a slot is free (`claim_run`)."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

import procrastinate
import structlog
from procrastinate.exceptions import ConnectorException
from psycopg import Error as DatabaseError
from psycopg.conninfo import make_conninfo
from psycopg_pool import PoolTimeout

from auralink.core.secret import Secret

log = structlog.get_logger(__name__)

TASK = "auralink.take_run"
"""The name of the job that the migrations' `wake_workers` makes."""
POLL_SECONDS = 5.0
RECONNECT_EVERY = 1.0


class WakeUps:
    """Calls `take` for each wake-up, at most `concurrency` at a time; goes on when the database comes back."""

    def __init__(self, dsn: Secret, take: Callable[[str], Awaitable[None]], *, engines: Sequence[str], concurrency: int) -> None:
        """`engines` are the queues to hear; `take` is told which of them it was."""
        self._dsn = dsn
        self._take = take
        self._engines = list(engines)
        self._concurrency = concurrency

    async def listen(self) -> None:
        """Hears wake-ups until cancelled."""
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                try:
                    await self._listen()
                except (ConnectorException, DatabaseError, PoolTimeout, OSError) as error:
                    log.warning("the queue cannot be heard and will be tried again", reason=str(error).strip())
            await asyncio.sleep(RECONNECT_EVERY)

    async def _listen(self) -> None:
        connector = procrastinate.PsycopgConnector(
            conninfo=make_conninfo(self._dsn.reveal(), options="-c search_path=procrastinate", application_name="auralink queue"),
            min_size=1,
            max_size=4,
        )
        app = procrastinate.App(connector=connector)
        app.task(name=TASK, pass_context=True)(self._wake_up)
        async with app.open_async():
            await app.run_worker_async(
                queues=self._engines,
                concurrency=self._concurrency,
                install_signal_handlers=False,
                delete_jobs="always",
                fetch_job_polling_interval=POLL_SECONDS,
                shutdown_graceful_timeout=0.1,
            )

    async def _wake_up(self, context: procrastinate.JobContext) -> None:
        await self._take(context.job.queue)
