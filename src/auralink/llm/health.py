"""How each model did in the last 24 hours, over all users: what selection orders by. Read again every minute."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from auralink.core.db import Database
from auralink.core.errors import AuralinkError
from auralink.llm import store

log = structlog.get_logger(__name__)

HOURS = 24
REFRESH_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Health:
    """Calls that ended, those that succeeded, and the median latency of these in milliseconds."""

    calls: int = 0
    succeeded: int = 0
    p50_ms: float | None = None

    @property
    def success_rate(self) -> float:
        """The share that succeeded; two successes are assumed of a model, so that one failure does not condemn it."""
        return (self.succeeded + 2) / (self.calls + 2)


UNMEASURED = Health()


class HealthBoard:
    """The figures of all models."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._figures: Mapping[str, Health] = {}
        self._task: asyncio.Task[None] | None = None

    def of(self, model_id: str) -> Health:
        """The figures of one model."""
        return self._figures.get(model_id, UNMEASURED)

    async def open(self) -> None:
        """Reads the figures, and again every minute."""
        await self.refresh()
        self._task = asyncio.create_task(self._keep_fresh(), name="model health")

    async def close(self) -> None:
        """Stops reading."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def refresh(self) -> None:
        """Reads the figures now."""
        async with self._db.system() as connection:
            rows = await store.health(connection, HOURS)
        self._figures = {row["model_id"]: Health(row["calls"], row["succeeded"], row["p50_ms"]) for row in rows}

    async def _keep_fresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            try:
                await self.refresh()
            except AuralinkError as error:
                log.warning("the figures of models could not be read and stay as they are", reason=error.message)
