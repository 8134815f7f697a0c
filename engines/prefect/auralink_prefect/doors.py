"""The service's doors for attempts that work elsewhere (auralink.runs.elsewhere): for the engine's side and for the place's."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx
from auralink_engine import Lost

from auralink_prefect.errors import RunFailed

PATIENCE = 45.0
"""Seconds for which the service may be away, for example while it starts again."""
PAUSE = 0.5


class Doors:
    """Asks the service, again while it is away. Raises Lost when the attempt is over or the service stays away."""

    def __init__(self, url: str, token: str | None = None) -> None:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._url = url
        self._client = httpx.AsyncClient(base_url=f"{url}/api/v1/engine", headers=headers, timeout=15.0, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, _type: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None) -> None:
        await self._client.aclose()

    async def open_place(self, deadline: float) -> str:
        """A one-time code for whoever shall do this attempt."""
        return str((await self._ask("POST", "/places", {"deadline": deadline}))["code"])

    async def exchange(self, code: str) -> dict[str, Any]:
        """The job behind a code."""
        job: dict[str, Any] = await self._ask("POST", "/exchange", {"code": code})
        return job

    async def look(self) -> dict[str, Any]:
        """How the attempt does: {taken, silent, outcome}."""
        place: dict[str, Any] = await self._ask("GET", "/place", None)
        return place

    async def tell(self, said: Sequence[Mapping[str, Any]]) -> None:
        """Events, or none to say that this place lives."""
        await self._ask("POST", "/events", list(said))

    async def end(self, outcome: Mapping[str, Any]) -> None:
        """{"output": …} or {"error": {type, message, traceback, lost}}."""
        await self._ask("POST", "/outcome", dict(outcome))

    async def _ask(self, method: str, path: str, body: Any) -> Any:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                answer = await self._client.request(method, path, json=body)
            except httpx.TransportError as error:
                said = f"{error or type(error).__name__}"
            else:
                if answer.status_code < 400:
                    return answer.json() if answer.content else None
                said = f"{answer.status_code} {answer.text[:500]}"
                if answer.status_code < 500:
                    refused = f"the service refused what the engine asked of it: {said}"
                    raise Lost(refused) if answer.status_code in (401, 409) else RunFailed(refused)
            if time.monotonic() > until:
                raise Lost(f"the service at {self._url} does not answer: {said}")
            await asyncio.sleep(PAUSE)
