"""How many calls a user may make: a token bucket (core/buckets.py) for the user, each of the user's servers, and each tool that
has a limit.
"""

from auralink.auth.principal import Principal
from auralink.core.buckets import Buckets
from auralink.core.errors import RateLimited
from auralink.core.telemetry import mcp_rate_limited
from auralink.journal.limits import Limits
from auralink.mcp.schemas import ConnectionRecord


class RateLimiter:
    """Counts calls and refuses those beyond the limit."""

    def __init__(self, per_user_and_minute: int, limits: Limits, buckets: Buckets) -> None:
        """`limits` are those of users who have their own."""
        self._per_user = per_user_and_minute
        self._limits = limits
        self._buckets = buckets

    async def check(self, principal: Principal, record: ConnectionRecord, tool: str | None = None) -> None:
        """Counts one call, of a tool if one is named.

        Raises:
            RateLimited: with `Retry-After` in seconds.
        """
        user, server = principal.user_id.hex, record.server
        per_user = (await self._limits.of(principal)).calls("tools", self._per_user)
        await self._take(record, f"user:{user}", per_user, "in all")
        if server.rate_limit is not None:
            await self._take(record, f"server:{user}:{server.name}", server.rate_limit, f"to server {server.name!r}")
        if tool is not None and (limit := record.policy.rate_limits.get(tool)) is not None:
            await self._take(record, f"tool:{record.id}:{tool}", limit, f"of tool {tool!r}")

    async def _take(self, record: ConnectionRecord, key: str, per_minute: int, what: str) -> None:
        wait = await self._buckets.take(key, per_minute)
        if wait <= 0:
            return
        mcp_rate_limited.labels(record.server.label).inc()
        seconds = max(1, round(wait + 0.5))
        raise RateLimited(
            f"you may make {per_minute} calls a minute {what}; try again in {seconds} s",
            headers={"Retry-After": str(seconds)},
            extra={"retry_after": seconds},
        )
