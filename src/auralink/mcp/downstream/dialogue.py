"""A call that waits for its client's answer while the client of 2026-07-28 is not connected.

That client gets `input_required`, asks its user, and makes the request again with the answers. If the server is of the handshake
era, its own request is still open meanwhile, in this process: the signed request state says which call it belongs to. A process
that does not hold it says so, and the client makes the call again.
"""

import asyncio
import itertools
from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

from auralink.mcp.peer import PeerRefused, is_logged
from auralink.mcp.upstream.transport import Message

DIALOGUE_SECONDS = 900.0
"""How long a call waits for its client's next request."""
MAX_DIALOGUES = 1000


class ModernPeer:
    """The client of one call of 2026-07-28, over as many requests as it takes."""

    answers_rounds = True

    def __init__(self, capabilities: Mapping[str, Any], log_level: str | None) -> None:
        self.capabilities = capabilities
        self.reply: Any = None
        self.asked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.questions: dict[str, Message] = {}
        self._answers: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self.log_level = log_level
        self._keys = itertools.count(1)

    async def notify(self, message: Message) -> None:
        """Passes a notification on; logs only from the level that the client has asked for."""
        if self.reply is not None and is_logged(message, self.log_level):
            await self.reply.event(message)

    async def request(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Puts a question into the next `input_required` and waits for its answer."""
        key = f"q{next(self._keys)}"
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.questions[key] = {"method": method, "params": dict(params)}
        self._answers[key] = answer
        if not self.asked.done():
            self.asked.set_result(None)
        try:
            async with asyncio.timeout(DIALOGUE_SECONDS):
                return await answer
        except TimeoutError:
            raise PeerRefused(f"the client did not answer {method} within {DIALOGUE_SECONDS:.0f} s") from None

    def answer(self, responses: Mapping[str, Any]) -> None:
        """Takes the answers of the client's next request; a question without one is refused."""
        self.asked = asyncio.get_running_loop().create_future()
        for key in list(self.questions):
            del self.questions[key]
            waiting = self._answers.pop(key)
            if waiting.done():
                continue
            if isinstance(responses.get(key), dict):
                waiting.set_result(responses[key])
            else:
                waiting.set_exception(PeerRefused(f"the client's request had no answer to {key!r}"))


class Dialogues:
    """Calls of this process that wait for their client."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[UUID, asyncio.Task[dict[str, Any]], ModernPeer, asyncio.TimerHandle]] = {}

    def keep(self, user_id: UUID, task: "asyncio.Task[dict[str, Any]]", peer: ModernPeer) -> str:
        """Keeps a call until its client returns, and gives its key. The one that has waited longest makes room."""
        if len(self._waiting) >= MAX_DIALOGUES:
            self._drop(next(iter(self._waiting)))
        key = uuid4().hex
        timer = asyncio.get_running_loop().call_later(DIALOGUE_SECONDS, self._drop, key)
        self._waiting[key] = (user_id, task, peer, timer)
        return key

    def take(self, user_id: UUID, key: str) -> "tuple[asyncio.Task[dict[str, Any]], ModernPeer] | None":
        """The call of that key, once; None if this process does not hold it."""
        found = self._waiting.pop(key, None)
        if found is None or found[0] != user_id:
            return None
        found[3].cancel()
        return found[1], found[2]

    def _drop(self, key: str) -> None:
        found = self._waiting.pop(key, None)
        if found is not None:
            found[3].cancel()
            found[1].cancel()
