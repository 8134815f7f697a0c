"""How a run ends before its crew is done: CrewAI swallows, repeats and shows errors to models, so an end is told past it."""

import asyncio
from typing import Any


class LimitReached(Exception):
    """One of the team's limits; the run ends with what it has."""

    code = "LimitReached"

    def __init__(self, limit: str, message: str) -> None:
        super().__init__(message)
        self.stopped = {"limit": limit, "message": message}


class Over(Exception):
    """The run has ended: whatever the crew still wants to do is not done. CrewAI may do with it what it likes."""


class Ending:
    """The first thing that ends the run early. Told from any thread, waited for in the loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.told: asyncio.Future[Any] = self._loop.create_future()
        self.reason: Exception | None = None

    def tell(self, reason: Exception) -> None:
        """Ends the run with this; only the first counts."""
        if self.reason is None:
            self.reason = reason
            self._loop.call_soon_threadsafe(self._settle)

    def check(self) -> None:
        """Raises Over when the run has ended."""
        if self.reason is not None:
            raise Over(f"the run has ended: {self.reason}") from None

    def _settle(self) -> None:
        if not self.told.done():
            self.told.set_result(None)
