"""How many calls a user may make: a sliding window of one minute for each user, and for each of the user's servers.

In memory, or in Redis when replicas must share the count (`limits` library, sliding window counter).
"""

import time

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from auralink.auth.principal import Principal
from auralink.mcp.errors import RateLimited
from auralink.mcp.schemas import ConnectionRecord


class RateLimiter:
    """Counts calls and refuses those beyond the limit."""

    def __init__(self, per_user_and_minute: int) -> None:
        self._per_user = RateLimitItemPerMinute(per_user_and_minute)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._items: dict[int, RateLimitItem] = {}

    async def check(self, principal: Principal, record: ConnectionRecord, tool: str | None = None) -> None:
        """Counts one call, of a tool if one is named.

        Raises:
            RateLimited: with `Retry-After` in seconds.
        """
        user, server = principal.user_id.hex, record.server
        await self._hit(self._per_user, f"{self._per_user.amount} calls a minute in all", "user", user)
        if server.rate_limit is not None:
            item = self._per_minute(server.rate_limit)
            await self._hit(item, f"{server.rate_limit} calls a minute to {server.name!r}", "server", user, server.name)
        if tool is not None and (limit := record.policy.rate_limits.get(tool)) is not None:
            await self._hit(self._per_minute(limit), f"{limit} calls a minute of {tool!r}", "tool", str(record.id), tool)

    def _per_minute(self, calls: int) -> RateLimitItem:
        return self._items.setdefault(calls, RateLimitItemPerMinute(calls))

    async def _hit(self, item: RateLimitItem, what: str, *key: str) -> None:
        if await self._limiter.hit(item, *key):
            return
        window = await self._limiter.get_window_stats(item, *key)
        seconds = max(1, round(window.reset_time - time.time()))
        raise RateLimited(
            f"you may make {what}; try again in {seconds} s",
            headers={"Retry-After": str(seconds)},
            extra={"retry_after": seconds},
        )
