"""Token buckets: how many times a minute something may happen, in the memory of this process or in a Redis that all replicas share.

A bucket holds a minute's worth and is refilled steadily, so a burst is possible and a flood is not. While Redis is down each
replica counts for itself: a limit protects, it is no reason to stop serving.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

import redis.asyncio
import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from auralink.core.secret import Secret

log = structlog.get_logger(__name__)

MINUTE = 60.0
REMEMBERED = 100_000
REDIS_SECONDS = 0.25
"""How long Redis may take before the replica counts for itself."""

TAKE = """
local state = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local size = tonumber(ARGV[1])
local tokens = math.min(size, (tonumber(state[1]) or size) + (now - (tonumber(state[2]) or now)) * size / 60)
local wait = 0
if tokens >= 1 then tokens = tokens - 1 else wait = (1 - tokens) * 60 / size end
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens), 'at', tostring(now))
redis.call('EXPIRE', KEYS[1], 120)
return tostring(wait)
"""


class Buckets(Protocol):
    """Where tokens are kept."""

    async def take(self, key: str, per_minute: int) -> float:
        """Takes a token, and returns 0; if there is none, the seconds until there is."""
        ...

    async def close(self) -> None:
        """Lets go of what is held."""
        ...


class MemoryBuckets:
    """Tokens of this process; the buckets used least recently are forgotten, which refills them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def take(self, key: str, per_minute: int) -> float:
        """As `Buckets.take`."""
        now = self._clock()
        tokens, at = self._buckets.pop(key, (float(per_minute), now))
        tokens = min(per_minute, tokens + (now - at) * per_minute / MINUTE)
        wait = 0.0 if tokens >= 1 else (1 - tokens) * MINUTE / per_minute
        self._buckets[key] = (tokens - 1 if tokens >= 1 else tokens, now)
        if len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        return wait

    async def close(self) -> None:
        """Nothing is held."""


class RedisBuckets:
    """Tokens that all replicas share; counted here while Redis does not answer."""

    def __init__(self, url: Secret) -> None:
        self._redis = redis.asyncio.Redis.from_url(
            url.reveal(),
            socket_timeout=REDIS_SECONDS,
            socket_connect_timeout=REDIS_SECONDS,
            retry=Retry(NoBackoff(), 1),
            retry_on_error=[redis.exceptions.ConnectionError],
        )
        self._take = self._redis.register_script(TAKE)
        self._local = MemoryBuckets()
        self._down = False

    async def take(self, key: str, per_minute: int) -> float:
        """As `Buckets.take`."""
        try:
            wait = float(await self._take(keys=[f"auralink:limit:{key}"], args=[per_minute]))
        except RedisError as error:
            if not self._down:
                log.warning("Redis does not answer; each replica counts calls for itself", reason=str(error))
            self._down = True
            return await self._local.take(key, per_minute)
        self._down = False
        return wait

    async def close(self) -> None:
        """Closes the connections."""
        await self._redis.aclose()
